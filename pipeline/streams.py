"""The command's standard streams: closed, on a full disk, or read by nobody any more."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

from .errors import TwinkeelError


def fill() -> None:
    """Open descriptors 0, 1 and 2 on the null device where they are closed, for this process and its children.

    The next files to be opened would get these numbers, and a process that takes them for its streams would end them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the lowest number that is free is given: this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def prepare() -> None:
    """At the start of the command, before it opens any file: streams that can be written to, and escape what their
    encoding lacks."""
    fill()
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed as Python started; its number may be another file's by now
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, "r" if name == "stdin" else "w", encoding="utf-8"))
        elif name == "stdin":
            continue
        elif stream is getattr(sys, f"__{name}__"):  # Python's own; another one is its owner's
            setattr(sys, name, _opened(stream))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _opened(stream: Any) -> io.TextIOWrapper:
    """The same stream, as one that says what happened where it cannot be written to."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


class _Descriptor(io.FileIO):
    """Standard output or standard error.

    What cannot be written is one error, and from then on all is dropped: nothing is tried again as Python ends. For
    standard error it is none, there being no place to report it. That a reader has gone stays a BrokenPipeError: click
    and rich end the command for it without a word.

    Raises:
        TwinkeelError: and no OSError, which who writes a file in between would take for his own.
    """

    is_lost = False

    def write(self, data: Any, /) -> int:
        if self.is_lost:
            return memoryview(data).nbytes
        try:
            count: Any
            while (count := super().write(data)) is None:  # a pipe that does not wait, and is full
                select.select((), (self,), ())
        except OSError as error:
            self.is_lost = True
            if isinstance(error, BrokenPipeError):
                raise
            if self.fileno() == 2:
                return memoryview(data).nbytes
            raise TwinkeelError(
                f"cannot write to standard output: {error.strerror}. Make room, or send it elsewhere."
            ) from error
        return int(count)
