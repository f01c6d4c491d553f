"""What a build said, said again while nothing that it read has changed: a command with nothing to do is then no build at all.

A pass over all jobs asks for the library of every room before it can tell that there is nothing to do. What the last pass read is known by
Python's own audit events (PEP 578): files that were opened and folders that were listed, own and others' sources among them, whatever the
configuration names, the store's files, and `out` itself. Where all of these have the sizes, times and inodes that they had, and the
command, its environment, its terminal and this machine are the same, the pass would say what it said. Anything else, and an answer of
another day, is a build as ever.

It saves time, and is never needed. The standard library alone is imported here, and little of that; and paths are text, for a Path takes
longer to make than the file to look at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from .. import noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_AGE = 24 * 3600
"""Seconds for which an answer is given again."""
_MOST = 100
"""Answers that are kept; the oldest go."""
_TICK = 20_000_000
"""Nanoseconds by which the times of files can be behind the clock."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OF_SHELLS = ("_", "OLDPWD", "PWD", "SHLVL")
"""In the environment, and no business of a program; the working directory is asked for by itself."""
_OF_THE_SYSTEM = ("/proc/", "/sys/", "/dev/")
_REALPATH = os.path.realpath

Said = list[list[Any]]
"""1 or 2 for the stream, and text, in the order in which it was written."""


class _Watch:
    """The files that this process opens to read, and the folders that it lists, from now on; it cannot be ended.

    Attributes:
        links: paths that were resolved and led elsewhere, and where.
        place: of the answer, by the environment as it was given.
        began: nanoseconds since 1970.
    """

    def __init__(self, place: str) -> None:
        self.place, self.began = place, time.time_ns()
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


def _of_modules() -> set[str]:
    """Files of all that is imported."""
    return {file for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}


_watch: _Watch | None = None


def said_again(arguments: Sequence[str]) -> bool:
    """Whether what the command would say was said, from what was kept; where it was not, all that this process reads is noted from now on."""
    global _watch
    if list(arguments[:1]) != ["build"] or {"--explain", "--help", "-h"}.intersection(arguments):
        return False
    place = _place()
    if place is None:
        return False
    said = _last(place)
    if said is None:
        _watch = _Watch(place)
        return False
    _say(said)
    return True


class _Heard:
    """A stream whose text is noted, and written too unless it is `silent`; all else is the stream's own."""

    def __init__(self, number: int, stream: TextIO, said: Said, *, silent: bool) -> None:
        self._number, self._stream, self._said, self._silent = number, stream, said, silent

    def write(self, text: str) -> int:
        if self._said and self._said[-1][0] == self._number:
            self._said[-1][1] += text
        else:
            self._said.append([self._number, text])
        return len(text) if self._silent else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def heard(*, silent: bool = False) -> Iterator[Said]:
    """What is written to standard output and standard error meanwhile; nothing where it would not be kept."""
    said: Said = []
    if _watch is None:
        yield said
        return
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Heard(n, stream, said, silent=silent) for n, stream in enumerate(streams, 1))  # type: ignore[assignment]
    try:
        yield said
    finally:
        sys.stdout, sys.stderr = streams


def keep(said: Said, out: str, root: str | None, look: Callable[[], object] | None) -> None:
    """Keep what a finished build said; not where something that it read has changed meanwhile, before or behind it.

    Args:
        said: by a pass that had nothing to do.
        out: folder that was built, in which a pass has its own scratch.
        root: folder of the store; None where there is none, or it lies elsewhere: nothing is kept then.
        look: where the build had something to do: a pass that makes nothing, whose words are taken instead; an exception where there is
            something to do again, as after a ladder that was ended.
    """
    if _watch is None or root is None:
        return
    began = _watch.began
    if look is not None:
        time.sleep(2 * _TICK / 1e9)  # what the build itself has written is before that
        began = time.time_ns()
        try:
            with heard(silent=True) as said:
                look()
        except (Exception, KeyboardInterrupt):  # what was asked for is built, and said
            return
    files, folders, used = _read_by(_watch, os.path.abspath(root))
    own = os.path.abspath(out)
    if all(_is_before(path, began) for path in (*files, *(path for path in folders if not _is_in(path, own)))):
        links = {path: led for path, led in _watch.links.items() if not path.startswith(_OF_THE_SYSTEM)}
        if all(_REALPATH(path) == led for path, led in links.items()):
            _write(_watch.place, {"said": said, "records": used, "links": links, **_as_found(files, folders)})


def _last(place: str) -> Said | None:
    """What is to be said again; None where a build has to look."""
    try:
        with open(place) as stream:
            kept = json.load(stream)
        if not 0 <= time.time() - kept["time"] <= _AGE:
            return None
        if any(_state(folder, names) != state for folder, (names, state) in kept["files"].items()):
            return None
        if any(_content(path) != content for path, content in kept["young"].items()):
            return None
        if any(_REALPATH(path) != led for path, led in kept["links"].items()):
            return None
        if any(_names(folder) != names for folder, names in kept["folders"].items()):
            return None
        for path in kept["records"]:
            os.utime(path)  # the store drops what was not used for longest
        said: Said = kept["said"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # none, damaged, or what it was made of is gone
    now = time.time_ns()
    if kept["young"] and all(_is_settled(_seen(path), now) for path in kept["young"]):
        _write(place, kept | {"young": {}})
    return said


def _say(said: Said) -> None:
    from .. import streams
    from ..errors import TwinkeelError

    streams.prepare()
    try:
        for number, text in said:
            stream = sys.stdout if number == 1 else sys.stderr
            stream.write(text)
            stream.flush()
    except BrokenPipeError:  # nobody reads any more
        sys.exit(1)
    except TwinkeelError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        sys.exit(error.exit_code)


def _place() -> str | None:
    """File of the answer to this command, here, in this environment; None where that cannot be said."""
    import platformdirs

    try:
        here = os.getcwd()
    except OSError:
        return None
    terminals = []
    for number in range(3):
        try:
            terminals.append([os.isatty(number), *os.get_terminal_size(number)])
        except OSError:
            terminals.append([os.isatty(number)])
    environment = sorted((name, value) for name, value in os.environ.items() if name not in _OF_SHELLS)
    started = [sys.version, sys.executable, sys.path, sys.orig_argv, sys.warnoptions]
    streams = [getattr(stream, "encoding", None) for stream in (sys.stdout, sys.stderr)]
    machine = [*os.uname(), _booted(), os.getuid()]
    asked = repr([sys.argv, here, environment, started, streams, terminals, machine, __file__])
    name = hashlib.sha256(asked.encode(errors="surrogateescape")).hexdigest()
    return os.path.join(platformdirs.user_cache_dir("twinkeel"), "unchanged", f"{name}.json")


def _booted() -> str:
    """Of the machine since it was started, where that is told: a disk can be given to another one."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read()
    except OSError:
        return ""


def _read_by(watch: _Watch, root: str) -> tuple[list[str], list[str], list[str]]:
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
    """What these are now, as `_last` asks for it."""
    by_folder: dict[str, list[str]] = {}
    for path in files:
        folder, name = os.path.split(path)
        by_folder.setdefault(folder, []).append(name)
    now = time.time_ns()
    young = [path for path in files if os.path.isfile(path) and not _is_settled(_seen(path), now)]
    return {
        "time": now / 1e9,
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
    parts = tuple(
        os.path.join(os.path.abspath(part), "")
        for part in {sys.prefix, sys.base_prefix, sys.pycache_prefix or sys.prefix}
    )
    found = {os.path.dirname(path) for path in files if not path.startswith(parts)}
    return (
        found
        - code
        - {os.path.join(folder, "__pycache__") for folder in code}
        - {tempfile.gettempdir(), os.getcwd(), os.sep}
    )


def _state(folder: str, names: Sequence[str]) -> str:
    """What files of a folder are, as one hash."""
    content = hashlib.sha256()
    for name in names:
        content.update(repr(_seen(f"{folder}/{name}")).encode())
    return content.hexdigest()


def _seen(path: str) -> noted.Seen | None:
    """None where there is nothing."""
    try:
        return noted.seen(path)
    except (OSError, ValueError):
        return None


def _is_before(path: str, when: int) -> bool:
    seen = _seen(path)
    return not seen or max(seen[1], seen[2]) < when - _TICK


def _is_settled(seen: noted.Seen | None, now: int) -> bool:
    """One that is not is known by its content."""
    return not seen or max(seen[1], seen[2]) < now - noted.SETTLED


def _names(folder: str) -> str:
    """Hash of what a folder holds, by name: what comes and goes again, as a build's own scratch does, changes nothing."""
    names = sorted(os.fsencode(name) for name in os.listdir(folder) if name != "__pycache__")
    return hashlib.sha256(b"\0".join(names)).hexdigest()


def _content(path: str) -> str:
    """Hash of a file."""
    from pathlib import Path

    from ..files import digest

    return digest(Path(path))


def _write(place: str, answer: dict[str, Any]) -> None:
    from pathlib import Path

    from .. import files

    files.keep(json.dumps(answer, separators=(",", ":")).encode(), Path(place))
    with contextlib.suppress(OSError):
        old = sorted((entry.stat().st_mtime, entry.path) for entry in os.scandir(os.path.dirname(place)))
        for _, path in old[:-_MOST]:
            os.unlink(path)
