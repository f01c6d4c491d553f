"""What a user's function is made of: the Python files that its own can import, as far as their texts tell, wherever these lie.

A file by itself may import what is beside it, packages in folders there, and what lies elsewhere on Python's path, without being run for
that to be known. A folder counts where its name stands in a text that counts already, whether it is imported by a statement or by a name
that is put together: one too many costs a model that is made again, one too few is a wrong model. Files of other kinds, weights and tables
that the code reads, count where their names stand in it. What is installed counts by its version, unless it is imported from where somebody
works on it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .. import noted
from ..errors import ConfigError
from ..files import digest

_FILES_AT_MOST = 5000
_INSTALLED = {"site-packages", "dist-packages"}
_WORD = re.compile(rb"[^\W\d]\w*")
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([^\W\d]\w*)", re.MULTILINE)
_LONGEST = 500
"""Of a string that may name something."""


def digests(file: Path, root: Path, arguments: Mapping[str, Any] | None = None) -> dict[str, str]:
    """SHA-256 of each file, by its place below `root` or by the name that it is imported by, and versions of what is installed.

    Args:
        file: that the function is in.
        root: the package that it is in, all of which counts, or its folder.
        arguments: that the function is called with: names of files and modules among them count as if they stood in the code.

    Raises:
        ConfigError: these are thousands of files.
    """
    key = str(file), str(root), repr(arguments), tuple(sys.path)
    if key in _known and all(noted.seen_or_none(path) == seen for path, seen in _known[key].looked.items()):
        return dict(_known[key].found)
    code = _Code()
    for place in sys.path:  # where modules may come to lie that are not there yet
        code.look(place or ".")
    code.hear(_texts_in(arguments or {}))
    is_package = (file.parent / "__init__.py").is_file()
    if not is_package and root.name in _INSTALLED:  # beside all that is installed
        code.take_file(file, file.name)
    else:
        code.take(root, "", is_whole=is_package)
    with on_path(root.parent if is_package else root):
        while code.grows():
            for name in sorted(code.imported - code.known):
                code.known.add(name)
                code.take_elsewhere(name)
    found = code.found | code.read()
    now = time.time_ns()
    if all(noted.is_settled(seen, now) for seen in code.looked.values()):
        _known[key] = _Known(found=dict(found), looked=code.looked)
    return found


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was found, and what of the files and folders that were looked at tells whether it would be found again."""

    found: dict[str, str]
    looked: dict[str, noted.Seen | None]


_known: dict[tuple[str, str, str, tuple[str, ...]], _Known] = {}
"""A build asks for each of its jobs, and a package of a thousand files takes ten seconds to read."""


class _Code:
    """What is known so far.

    Attributes:
        looked: files and folders, as they were before they were read; None where there is nothing.
        found: hashes and versions, by place or name.
        imported: names of the top that are imported, or may be.
        known: those of them that were looked for.
    """

    def __init__(self) -> None:
        self.looked: dict[str, noted.Seen | None] = {}
        self.found: dict[str, str] = {}
        self.imported: set[str] = set()
        self.known = set(sys.stdlib_module_names)
        self._words: set[str] = set()
        self._names: set[str] = set()
        self._folders: list[tuple[Path, str, bool]] = []
        self._seen: set[str] = set()
        self._asked: tuple[int, int, int] | None = None

    def look(self, path: str) -> None:
        """Keep what tells whether it has changed; before it is read."""
        if path not in self.looked:
            self.looked[path] = noted.seen_or_none(path)

    def _entries(self, folder: Path) -> list[tuple[str, bool]]:
        """Names of files and of folders, links followed, and which of them are folders; what cannot be looked at is neither."""
        self.look(str(folder))
        found = []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                is_there = False
                with suppress(OSError):  # a link that leads round in a circle
                    if is_there := entry.is_dir() or entry.is_file():
                        found.append((entry.name, entry.is_dir()))
                if not is_there:
                    self.look(entry.path)  # where it leads something may come to be
        return sorted(found)

    def take(self, folder: Path, place: str, *, is_whole: bool) -> None:
        """The files of a folder; of those inside it the ones whose names are spoken of, or all."""
        real = os.path.realpath(folder)
        if real in self._seen:  # links may lead round in a circle
            return
        self._seen.add(real)
        self._folders.append((folder, place, is_whole))
        for name, is_folder in self._entries(folder):
            if not is_folder and name.endswith(".py"):
                self.take_file(folder / name, f"{place}{name}")

    def take_file(self, path: Path, place: str) -> None:
        self.look(str(path))
        try:
            content = path.read_bytes()
        except OSError:  # which nobody can import either
            return
        self.found[place] = sha256 = hashlib.sha256(content).hexdigest()
        if len(self.found) > _FILES_AT_MOST:
            raise ConfigError(
                f"model.factory: '{path.parent}' and what is imported there are more than {_FILES_AT_MOST:,} Python files; put the model into a "
                "package of its own"
            )
        if sha256 not in _sources:
            _sources[sha256] = _Source.of(content)
        source = _sources[sha256]
        self._words.update(source.words)
        self.imported.update(source.imported)
        self.hear(source.texts)

    def hear(self, texts: Iterable[str]) -> None:
        """Of strings in the code: each may name a module, a folder or a file."""
        for text in texts:
            self._names |= set(re.split(r"[/\\]", text))
            words = [word for word in re.split(r"\W+", text) if word.isidentifier()]
            self._words |= set(words)
            if words and re.fullmatch(r"\w+(\.\w+)*", text):
                self.imported.add(words[0])

    def grows(self) -> bool:
        """Look into folders that are spoken of by now; False where nothing new was found since it was asked last."""
        number = 0
        while number < len(self._folders):  # taking one adds to them
            folder, place, is_whole = self._folders[number]
            for name, is_folder in self._entries(folder):
                if is_folder and name.isidentifier() and name != "__pycache__" and (is_whole or name in self._words):
                    self.take(folder / name, f"{place}{name}/", is_whole=is_whole)
            number += 1
        size = len(self.found), len(self._words), len(self.imported)
        is_more, self._asked = size != self._asked, size
        return is_more

    def read(self) -> dict[str, str]:
        """Hashes of files of other kinds whose names stand in the code."""
        found = {}
        for folder, place, _ in self._folders:
            for name, is_folder in self._entries(folder):
                if not is_folder and name in self._names and not name.endswith(".py"):
                    self.look(str(folder / name))
                    found[f"{place}{name}"] = digest(folder / name)
        return found

    def take_elsewhere(self, name: str) -> None:
        """A module of the top, where Python finds one that was not taken with its folder."""
        spec = None
        with suppress(Exception):  # of a finder that is not ours
            spec = importlib.util.find_spec(name)  # of the top: nothing is run
        if spec is None:
            return
        places = [Path(place) for place in spec.submodule_search_locations or []]
        file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
        if any(_INSTALLED.intersection(path.parts) for path in (*places, *filter(None, [file]))):
            self.found[name] = _version(name)
        elif places:
            for place in places:
                if os.path.realpath(place) not in self._seen:
                    self.take(place, f"{name}:", is_whole=not _is_huge(place))
        elif file is not None and os.path.realpath(file.parent) not in self._seen:
            self.take_file(file, f"{name}:{file.name}")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What a Python file names.

    Attributes:
        words: all of them.
        imported: names of the top that it imports, in functions too; of what is no Python what looks like an import.
        texts: its strings.
    """

    words: tuple[str, ...]
    imported: tuple[str, ...]
    texts: tuple[str, ...]

    @staticmethod
    def of(content: bytes) -> _Source:
        # a thousand files have most of their words in common
        words = tuple(sys.intern(word.decode(errors="replace")) for word in set(_WORD.findall(content)))
        imported: set[str] = set()
        texts = []
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError):
            found = {name.decode(errors="replace") for name in _IMPORT.findall(content)}
            return _Source(words=words, imported=tuple(found), texts=())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < _LONGEST:
                texts.append(node.value)
        return _Source(words=words, imported=tuple(imported), texts=tuple(texts))


_sources: dict[str, _Source] = {}
"""By SHA-256: where one file of a thousand has changed, or a folder has a new one, the others are not read as Python again."""


def _texts_in(value: Any) -> Iterator[str]:
    """Of nested lists and tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts_in(one)


def _is_huge(folder: Path) -> bool:
    """Whether a package has too many files to look at all of them: of these the ones that are spoken of count."""
    return next(islice(folder.rglob("*.py"), _FILES_AT_MOST // 2, None), None) is not None


def _version(name: str) -> str:
    """Of an installed module of the top, whatever its distribution is called; empty where none has it."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return " ".join(importlib.metadata.version(one) for one in sorted(set(_distributions().get(name, []))))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """What is in a folder is imported before all else meanwhile."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
