"""What a user's function is made of: the Python files that its own can import, as far as their texts tell, wherever these lie.

A file by itself may import what is beside it, packages in folders there, and what lies elsewhere on Python's path, without being run for
that to be known. A folder counts where its name stands in a text that counts already, whether it is imported by a statement or by a name
that is put together: one too many costs a model that is made again, one too few is a wrong model. Files of other kinds, weights and tables
that the code reads, count where their names stand in it. What is installed counts by its version, unless it is imported from where somebody
works on it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError
from ..files import digest

_FILES_AT_MOST = 5000
_INSTALLED = {"site-packages", "dist-packages"}
_NAME = re.compile(rb"[\w-][\w.-]*\.[\w]+")
_WORD = re.compile(rb"[^\W\d]\w*")
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+([^\W\d]\w*)|import[ \t]+([^\n#;]+))", re.MULTILINE)


def digests(file: Path, root: Path) -> dict[str, str]:
    """SHA-256 of each file, by its place below `root` or by the name that it is imported by, and versions of what is installed.

    Args:
        file: that the function is in.
        root: the package that it is in, all of which counts, or its folder.

    Raises:
        ConfigError: these are thousands of files.
    """
    code = _Code()
    is_package = (file.parent / "__init__.py").is_file()
    is_alone = not is_package and root.name in _INSTALLED  # beside all that is installed
    if is_alone:
        code.take_file(file, file.name)
    else:
        code.take(root, "", is_whole=is_package)
    with on_path(root.parent if is_package else root):
        while code.grows():
            for name in sorted(code.imported - code.known):
                code.known.add(name)
                if is_alone or not ((root / name).is_dir() or (root / f"{name}.py").is_file()):
                    code.take_elsewhere(name)
    return code.found | code.read()


class _Code:
    """What is known so far.

    Attributes:
        found: hashes and versions, by place or name.
        imported: names of the top that are imported.
        known: those of them that were looked for.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.imported: set[str] = set()
        self.known = set(sys.stdlib_module_names)
        self._words: set[str] = set()
        self._names: set[str] = set()
        self._folders: list[tuple[Path, str, bool]] = []
        self._seen: set[str] = set()
        self._asked: tuple[int, int, int] | None = None

    def take(self, folder: Path, place: str, *, is_whole: bool) -> None:
        """The files of a folder; of those inside it the ones whose names are spoken of, or all."""
        real = os.path.realpath(folder)
        if real in self._seen:  # links may lead round in a circle
            return
        self._seen.add(real)
        self._folders.append((folder, place, is_whole))
        for path in sorted(folder.glob("*.py")):
            self.take_file(path, f"{place}{path.name}")

    def take_file(self, path: Path, place: str) -> None:
        if not path.is_file():
            return
        content = path.read_bytes()
        self.found[place] = hashlib.sha256(content).hexdigest()
        if len(self.found) > _FILES_AT_MOST:
            raise ConfigError(
                f"model.factory: '{path.parent}' and what is imported there are more than {_FILES_AT_MOST:,} Python files; put the model into a "
                "package of its own"
            )
        self._words |= {word.decode(errors="replace") for word in _WORD.findall(content)}
        self._names |= {name.decode(errors="replace") for name in _NAME.findall(content)}
        self.imported |= _imported(content)

    def grows(self) -> bool:
        """Look into folders that are spoken of by now; False where nothing new was found since it was asked last."""
        number = 0
        while number < len(self._folders):  # taking one adds to them
            folder, place, is_whole = self._folders[number]
            for inner in _folders_in(folder):
                if is_whole or inner.name in self._words:
                    self.take(inner, f"{place}{inner.name}/", is_whole=is_whole)
            number += 1
        size = len(self.found), len(self._words), len(self.imported)
        is_more, self._asked = size != self._asked, size
        return is_more

    def read(self) -> dict[str, str]:
        """Hashes of files of other kinds whose names stand in the code."""
        found: dict[str, str] = {}
        for folder, place, _ in self._folders:
            with suppress(OSError), os.scandir(folder) as entries:
                names = [
                    entry.name for entry in entries if entry.name in self._names and not entry.name.endswith(".py")
                ]
                found |= {
                    f"{place}{name}": digest(folder / name) for name in sorted(names) if (folder / name).is_file()
                }
        return found

    def take_elsewhere(self, name: str) -> None:
        """A module of the top that is found on Python's path."""
        spec = None
        with suppress(Exception):  # of a finder that is not ours
            spec = importlib.util.find_spec(name)  # of the top: nothing is run
        if spec is None:
            return
        places = [Path(place) for place in spec.submodule_search_locations or []]
        file = Path(spec.origin) if spec.origin else None
        if any(_INSTALLED.intersection(path.parts) for path in (*places, *filter(None, [file]))):
            with suppress(importlib.metadata.PackageNotFoundError):
                self.found[name] = importlib.metadata.version(name)
        elif places:
            for place in places:
                self.take(place, f"{name}:", is_whole=True)
        elif file is not None and file.suffix == ".py":
            self.take_file(file, f"{name}:{file.name}")


def _imported(content: bytes) -> set[str]:
    """Names of the top that a source imports, in functions too."""
    found = set()
    for one, several in _IMPORT.findall(content):
        names = (
            [one] if one else [part.strip().split(b".")[0].split()[0] for part in several.split(b",") if part.strip()]
        )
        found |= {name.decode(errors="replace") for name in names}
    return {name for name in found if name.isidentifier()}


def _folders_in(folder: Path) -> list[Path]:
    """Those that a package can be, links followed."""
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.isidentifier() and entry.is_dir()]
        return [folder / name for name in sorted(names) if name != "__pycache__"]
    return []


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """What is in a folder can be imported meanwhile."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
