"""What a process reads: files that it opens and folders that it lists, known by Python's own audit events (PEP 578); and whether all of it is
what it was, by sizes, times and inodes, and by the content of what is too young for these.

The standard library alone is imported here, and little of that; and paths are text, for a Path takes longer to make than the file to look at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from .. import noted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

TICK = 20_000_000
"""Nanoseconds by which the times of files can be behind the clock."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OF_THE_SYSTEM = ("/proc/", "/sys/", "/dev/")
_REALPATH = os.path.realpath


class Watch:
    """The files that this process opens to read, and the folders that it lists, from now on; it cannot be ended.

    Attributes:
        links: paths that were resolved and led elsewhere, and where.
        began: nanoseconds since 1970.
    """

    def __init__(self) -> None:
        self.began = time.time_ns()
        self.files = _of_modules()
        self.folders = {path or "." for path in sys.path}
        self.links: dict[str, str] = {}
        noted.into(self.files)
        sys.addaudithook(self._hear)
        os.path.realpath = self._resolve  # type: ignore[assignment]

    def _resolve(self, path: Any, **options: Any) -> Any:
        """`os.path.realpath`, which no event tells of: where a link led is known only here."""
        found = _REALPATH(path, **options)
        if isinstance(found, str) and (given := os.path.abspath(os.fspath(path))) != found:
            self.links[given] = found
        return found

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, str | bytes) or (isinstance(flags, int) and flags & _WRITES):
                return
            path = os.fsdecode(path)
            # `os.open` of a relative path can mean one in a folder that is open
            if mode is not None or os.path.isabs(path):
                self.files.add(path)
        elif event in ("os.listdir", "os.scandir"):
            path = arguments[0]
            if path is None or isinstance(path, str | bytes):
                self.folders.add(os.fsdecode(path or "."))


def found(watch: Watch, root: str, own: str, began: int) -> dict[str, Any] | None:
    """What the process read, as `are_same` asks for it, and under ``records`` the files of the store at `root` that mark their use by their
    time; None where something of it is not as it was at `began`, in nanoseconds since 1970.

    Args:
        own: a folder in which the process has a scratch of its own.
    """
    files, folders, used = _read_by(watch, root)
    if not all(_is_before(path, began) for path in (*files, *(path for path in folders if not _is_in(path, own)))):
        return None
    links = {path: led for path, led in watch.links.items() if not path.startswith(_OF_THE_SYSTEM)}
    if any(_REALPATH(path) != led for path, led in links.items()):
        return None
    of_code = _of_code()
    for path in {*map(os.path.dirname, files), *folders}:
        if not os.path.join(path, "").startswith(of_code):
            links[path] = _REALPATH(path)  # a folder that is one may be a link tomorrow
    waiting = [path for folder in folders for path in _led_nowhere(folder)]
    return {"records": used, "links": links, **_as_found(sorted({*files, *waiting}), folders)}


def are_same(kept: Mapping[str, Any]) -> bool:
    """Whether all of it is what `found` found.

    Raises:
        OSError: a folder is gone.
    """
    return (
        all(_state(folder, names) == state for folder, (names, state) in kept["files"].items())
        and all(_content(path) == content for path, content in kept["young"].items())
        and all(_REALPATH(path) == led for path, led in kept["links"].items())
        and all(_names(folder) == names for folder, names in kept["folders"].items())
    )


def are_settled(paths: Iterable[str]) -> bool:
    """Whether none is younger than its times can tell."""
    now = time.time_ns()
    return all(noted.is_settled(noted.seen_or_none(path), now) for path in paths)


def _of_modules() -> set[str]:
    """Files of all that is imported."""
    return {file for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}


def _read_by(watch: Watch, root: str) -> tuple[list[str], list[str], list[str]]:
    """Files and folders that a process read, and the records that it used of the store at `root`, which mark their use by their time."""
    import platformdirs

    others = (*_OF_THE_SYSTEM, os.path.join(platformdirs.user_cache_dir("twinkeel"), ""))
    files = {os.path.abspath(path) for path in _with_sources(tuple(watch.files))}
    stored = {path for path in files if _is_in(path, root)}
    records, latest = os.path.join(root, "records"), os.path.join(root, "latest")
    used = sorted(path for path in stored if _is_in(path, records) and os.path.exists(path))
    files = {path for path in files if path in stored or not path.startswith(others)}
    listed = {os.path.abspath(path) for path in tuple(watch.folders)} | _around(files - stored)
    listed = {path for path in listed if not _is_in(path, root) and not os.path.join(path, "").startswith(others)}
    files -= {*used, *(path for path in stored if _is_in(path, latest))}
    files.add(os.path.abspath("twinkeel.toml"))  # taken where there is one
    # what lay in a folder that is gone was a scratch of the build
    there = {folder for folder in map(os.path.dirname, files) if os.path.isdir(folder)}
    return (
        sorted(path for path in files if os.path.dirname(path) in there),
        sorted(filter(os.path.isdir, listed)),
        used,
    )


def _as_found(files: list[str], folders: list[str]) -> dict[str, Any]:
    """What these are now, as `are_same` asks for it."""
    by_folder: dict[str, list[str]] = {}
    for path in files:
        folder, name = os.path.split(path)
        by_folder.setdefault(folder, []).append(name)
    now = time.time_ns()
    young = [path for path in files if os.path.isfile(path) and not noted.is_settled(noted.seen_or_none(path), now)]
    return {
        "files": {folder: [names, _state(folder, names)] for folder, names in by_folder.items()},
        "folders": {path: _names(path) for path in folders},
        "young": {path: _content(path) for path in young},
    }


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _with_sources(paths: Iterable[str]) -> Iterator[str]:
    """With the source of each compiled module: Python looks whether that is older, and opens the compiled one."""
    from importlib.util import source_from_cache

    for path in paths:
        yield path
        if path.endswith(".pyc"):
            with contextlib.suppress(ValueError, NotImplementedError):
                yield source_from_cache(path)


def _around(files: Iterable[str]) -> set[str]:
    """The folders of files that are no part of Python or of what it imported: another file beside one can matter too. The working directory
    is none of them: it is where people write down what a build says."""
    import tempfile

    code = set(map(os.path.dirname, _of_modules()))
    of_code = _of_code()
    found = {os.path.dirname(path) for path in files if not path.startswith(of_code)}
    return (
        found
        - code
        - {os.path.join(folder, "__pycache__") for folder in code}
        - {tempfile.gettempdir(), os.getcwd(), os.sep}
    )


def _of_code() -> tuple[str, ...]:
    """Where Python lies, and what it imports."""
    parts = {sys.prefix, sys.base_prefix, sys.pycache_prefix or sys.prefix}
    return tuple(os.path.join(os.path.abspath(part), "") for part in parts)


def _led_nowhere(folder: str) -> list[str]:
    """Links of a folder to what is not there: a disk that is not mounted, perhaps."""
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.is_symlink() and not os.path.exists(entry.path)]


def _state(folder: str, names: Sequence[str]) -> str:
    """What files of a folder are, as one hash."""
    content = hashlib.sha256()
    for name in names:
        content.update(repr(noted.seen_or_none(f"{folder}/{name}")).encode())
    return content.hexdigest()


def _is_before(path: str, when: int) -> bool:
    seen = noted.seen_or_none(path)
    return not seen or max(seen[1], seen[2]) < when - TICK


def _names(folder: str) -> str:
    """Hash of what a folder holds, by name: what comes and goes again, as a build's own scratch does, changes nothing."""
    names = sorted(os.fsencode(name) for name in os.listdir(folder) if name != "__pycache__")
    return hashlib.sha256(b"\0".join(names)).hexdigest()


def _content(path: str) -> str:
    """Hash of a file."""
    from pathlib import Path

    from ..files import digest

    return digest(Path(path))
