"""What a build said, said again while nothing that it read has changed: a command with nothing to do is then no build at all.

A pass over all jobs asks for the library of every room before it can tell that there is nothing to do. What the last pass read is known
(`reads.py`): own and others' sources, whatever the configuration names, the store's files, and `out` itself. Where all of these are what
they were, and the command, its environment, its terminal and this machine are the same, the pass would say what it said. Anything else,
and an answer of another day, is a build as ever.

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

from . import reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_AGE = 24 * 3600
"""Seconds for which an answer is given again."""
_MOST = 100
"""Answers that are kept; the oldest go."""
_OF_SHELLS = ("_", "OLDPWD", "PWD", "SHLVL")
"""In the environment, and no business of a program; the working directory is asked for by itself."""

Said = list[list[Any]]
"""1 or 2 for the stream, and text, in the order in which it was written."""

_asked: tuple[str, reads.Watch] | None = None
"""Where the answer is kept to what this process was asked, and what it reads meanwhile."""


def said_again(arguments: Sequence[str]) -> bool:
    """Whether what the command would say was said, from what was kept; where it was not, all that this process reads is noted from now on."""
    global _asked
    if list(arguments[:1]) != ["build"] or {"--explain", "--help", "-h"}.intersection(arguments):
        return False
    place = _place()
    if place is None:
        return False
    said = _last(place)
    if said is None:
        _asked = place, reads.Watch()
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
    if _asked is None:
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
    if _asked is None or root is None:
        return
    place, watch = _asked
    began = watch.began
    if look is not None:
        time.sleep(2 * reads.TICK / 1e9)  # what the build itself has written is before that
        began = time.time_ns()
        try:
            with heard(silent=True) as said:
                look()
        except (Exception, KeyboardInterrupt):  # what was asked for is built, and said
            return
    with contextlib.suppress(OSError):  # of what cannot be read it is not known whether it has changed
        found = reads.found(watch, os.path.abspath(root), os.path.abspath(out), began)
        if found is not None:
            _write(place, {"said": said, "time": time.time(), **found})


def _last(place: str) -> Said | None:
    """What is to be said again; None where a build has to look."""
    try:
        with open(place) as stream:
            kept = json.load(stream)
        if not 0 <= time.time() - kept["time"] <= _AGE:
            return None
        if not reads.are_same(kept):
            return None
        for path in kept["records"]:
            os.utime(path)  # the store drops what was not used for longest
        said: Said = kept["said"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # none, damaged, or what it was made of is gone
    if kept["young"] and reads.are_settled(kept["young"]):
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


def _write(place: str, answer: dict[str, Any]) -> None:
    from pathlib import Path

    from .. import files

    files.keep(json.dumps(answer, separators=(",", ":")).encode(), Path(place))
    with contextlib.suppress(OSError):
        old = sorted((entry.stat().st_mtime, entry.path) for entry in os.scandir(os.path.dirname(place)))
        for _, path in old[:-_MOST]:
            os.unlink(path)
