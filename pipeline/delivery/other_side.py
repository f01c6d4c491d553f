"""Another Python, started for a replay: what it may say, frame by frame, and the process that says it."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import DeviceError
from ..parity import Unit
from ..reading import parse_json, shown
from .far_side import MOST_OPERATIONS
from .results import Word

STRAY = 2**20
"""Bytes of other lines that are borne: a login shell greets, a container tells of its image."""
_LAST_WORDS = 2000
STARTED = "It is started with `-` as its last argument, and has to be a Python that reads a program from standard input"


class Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Described(Frame):
    system: Word
    architecture: Word = Field(min_length=1)
    processor: Word
    instruction_set: Word
    emulator: Word


class Machine(Frame):
    kind: Literal["machine"]
    machine: _Described
    boot: Word
    python: Word


class Starts(Frame):
    kind: Literal["runtime"]
    name: Word


class Imported(Frame):
    kind: Literal["imported"]
    name: Word
    versions: dict[Word, Word]


class Missing(Frame):
    kind: Literal["missing"]
    name: Word
    reason: Annotated[str, Field(max_length=1000)]


class Begins(Frame):
    kind: Literal["begin"]
    number: int
    unit: Word


_Operation = Annotated[tuple[Unit, Word, Word], Field(strict=False)]  # JSON has lists alone


class Plan(Frame):
    """Of each operation the unit that is to compute it, the operator and a name; why there are none."""

    kind: Literal["plan"]
    number: int
    unit: Word
    operations: Annotated[list[_Operation], Field(max_length=MOST_OPERATIONS)]
    reason: Annotated[str, Field(max_length=1000)]


class Answered(Frame):
    kind: Literal["outputs"]
    number: int
    unit: Word
    shape: list[int]
    content: str


class Failed(Frame):
    kind: Literal["failed"]
    number: int
    unit: Word
    reason: Annotated[str, Field(max_length=1000)]


class Refused(Frame):
    kind: Literal["refused"]
    reason: Annotated[str, Field(max_length=1000)]


class Other(Frame):
    kind: Literal["alive", "end"]


AnyFrame = Machine | Starts | Imported | Missing | Begins | Plan | Answered | Failed | Refused | Other
_FRAMES: TypeAdapter[AnyFrame] = TypeAdapter(Annotated[AnyFrame, Field(discriminator="kind")])


class Process:
    """A command with a program on its standard input. Its frames are read within bounds, its last words are kept."""

    def __init__(self, command: Sequence[str], content: bytes, mark: str, most: int, silence: float) -> None:
        self.command, self.content, self.mark, self.most, self.silence = command, content, mark, most, silence

    def __str__(self) -> str:
        return shown(shlex.join(self.command))

    def __enter__(self) -> Process:
        try:
            self._process = subprocess.Popen(
                [*self.command, "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # what it starts can be ended with it
            )
        except OSError as error:
            raise DeviceError(f"'{self}' cannot be started: {error.strerror or error}. {STARTED}.") from error
        self._lines: queue.Queue[bytes | DeviceError | None] = queue.Queue(1000)
        self._last = time.monotonic()
        self._errors = b""
        self._stray = 0
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._write, self._read, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def frames(self) -> Iterator[AnyFrame]:
        """Each frame, until the process ends.

        Raises:
            DeviceError: one is none, there is too much else, or nothing comes.
        """
        while True:
            try:
                line = self._lines.get(timeout=min(1.0, self.silence / 4))
            except queue.Empty:
                if time.monotonic() - self._last > self.silence:
                    raise DeviceError(
                        f"'{self}' gave no sign of life for {self.silence:g} s{self._said()}. "
                        "If it is only slow: --timeout SECONDS"
                    ) from None
                continue
            if line is None:
                return
            if isinstance(line, DeviceError):
                raise line
            try:
                yield _FRAMES.validate_python(parse_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = shown(".".join(map(str, first["loc"])))
                raise self.wrong(f"{where}: {shown(first['msg'])}") from error
            except ValueError as error:
                raise self.wrong(shown(error)) from error

    def wrong(self, what: str) -> DeviceError:
        return DeviceError(f"'{self}' answered what no replay answers: {what}. Nothing is recorded.")

    def ended(self, *, is_short: bool = False) -> str:
        """How it ended, with its last words."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "closed its standard output and goes on running"
        self._threads[-1].join(timeout=2)
        told = f"ended with exit code {code}"
        # a shell in between says 128 and the signal
        number = -code if code < 0 else code - 128
        with contextlib.suppress(ValueError):
            told = f"was ended by {signal.Signals(number).name}" if number > 0 else told
        if code == 0:
            told = "ended without an answer"
        return told if is_short else told + self._said()

    def _said(self) -> str:
        lines = self._errors.decode(errors="replace").strip().splitlines()[-5:]
        return "; its last words: " + " | ".join(shown(line) for line in lines) if lines else ""

    def _write(self) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):
            for start in range(0, len(self.content), 2**16):
                stream.write(self.content[start : start + 2**16])
                self._last = time.monotonic()
            stream.close()

    def _read_errors(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):
            while block := os.read(stream.fileno(), 2**16):
                self._errors = (self._errors + block)[-_LAST_WORDS:]
                self._last = time.monotonic()

    def _read(self) -> None:
        """Lines with the mark into the queue; what else there is, is counted."""
        stream = self._process.stdout
        assert stream is not None
        prefix, rest = f"{self.mark} ".encode(), b""
        with contextlib.suppress(OSError, ValueError):
            while block := os.read(stream.fileno(), 2**16):
                self._last = time.monotonic()
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    if line.startswith(prefix) and len(line) <= self.most:
                        self._lines.put(line.removeprefix(prefix).rstrip(b"\r"))
                    else:
                        self._stray += len(line)
                if len(rest) > max(self.most, STRAY) or self._stray > STRAY:
                    self._lines.put(self.wrong(f"it prints and prints, and that is no answer. {STARTED}"))
                    return
        self._lines.put(None)
