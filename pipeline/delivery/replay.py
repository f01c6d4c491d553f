"""Finished folders on any machine that a command line reaches: the golden inputs through every runtime there.

    twinkeel replay out                                     this Python
    twinkeel replay out --python "ssh phone-lab python3"    another machine
    twinkeel replay out --python .nox/arm64/python          an emulated processor

Nothing is assumed of the other side but a Python with numpy and runtimes. It reads a program from its standard input,
which carries the code (`far_side`, `machine`, the runtimes' loaders), artifacts and inputs, and answers with logits. They
are judged here, by the limits in the manifest; what comes back is a stranger's, and read as such.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib
import io
import json
import os
import queue
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import DeviceError, VerifyError
from ..files import digest
from ..parity import Check, Logits, broken
from ..parity import described as described_error
from ..program import Runtime, Target
from ..reading import parse_json, shown
from ..saying import Say
from . import device, evidence, far_side, machine, manifest
from .device import Word

SILENCE = 300.0
"""Seconds without a sign of life after which the other side is given up; the first run of a large package on a Mac is
compiled for a minute."""
BATCH = 64 * 2**20
"""Bytes of artifacts that one start of the other side is given, or a single larger one: it holds about four times as much
while it reads them."""
STRAY = 2**20
"""Bytes of other lines that are borne: a login shell greets, a container tells of its image."""
MOST_STARTS = 100
_LAST_WORDS = 2000
_STARTED = (
    "It is started with `-` as its last argument, and has to be a Python that reads a program from standard input"
)
_CODE = ("pipeline.errors", "pipeline.delivery.machine", "pipeline.delivery.far_side", "targets.runtimes")
_PACKAGE = __name__.split(".", 1)[0]

_PROGRAM = '''\
import sys
MARK = "{mark}"
def refuse(reason):
    import json
    sys.stdout.write("\\n" + MARK + " " + json.dumps({{"kind": "refused", "reason": reason[:900]}}) + "\\n")
    sys.stdout.flush()
    sys.exit(0)
version = ".".join([str(part) for part in sys.version_info[:3]])
if sys.version_info < (3, 10):
    refuse("its Python is " + version + ", and 3.10 or later is needed")
sys.path[:] = [path for path in sys.path if path]
try:
    import numpy
except Exception as error:
    refuse("its Python " + version + " cannot import numpy (" + str(error).splitlines()[0] + "): pip install numpy")
import base64, importlib.abc, importlib.util, io, json, zipfile
archive = zipfile.ZipFile(io.BytesIO(base64.b64decode("""
{content}""")))
sources = json.loads(archive.read("sources.json"))
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            return importlib.util.spec_from_loader(name, self, is_package=any(n.startswith(name + ".") for n in sources))
    def exec_module(self, module):
        exec(compile(sources[module.__name__], "<" + module.__name__ + ">", "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
from {package}.pipeline.delivery import far_side
far_side.serve(MARK, archive)
'''


class _Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Described(_Frame):
    system: Word
    architecture: Word = Field(min_length=1)
    processor: Word
    instruction_set: Word
    emulator: Word


class _Machine(_Frame):
    kind: Literal["machine"]
    machine: _Described
    boot: Word
    python: Word


class _Starts(_Frame):
    kind: Literal["runtime"]
    name: Word


class _Imported(_Frame):
    kind: Literal["imported"]
    name: Word
    versions: dict[Word, Word]


class _Missing(_Frame):
    kind: Literal["missing"]
    name: Word
    reason: Annotated[str, Field(max_length=1000)]


class _Begins(_Frame):
    kind: Literal["begin"]
    number: int
    unit: Word


class _Logits(_Frame):
    kind: Literal["logits"]
    number: int
    unit: Word
    shape: list[int]
    content: str


class _Failed(_Frame):
    kind: Literal["failed"]
    number: int
    unit: Word
    reason: Annotated[str, Field(max_length=1000)]


class _Refused(_Frame):
    kind: Literal["refused"]
    reason: Annotated[str, Field(max_length=1000)]


class _Other(_Frame):
    kind: Literal["alive", "end"]


_Any = _Machine | _Starts | _Imported | _Missing | _Begins | _Logits | _Failed | _Refused | _Other
_FRAMES: TypeAdapter[_Any] = TypeAdapter(Annotated[_Any, Field(discriminator="kind")])


@dataclass(frozen=True, kw_only=True)
class Task:
    """An artifact, once for all folders that hold it with the same inputs.

    Attributes:
        name: of the first of them.
        path: of the artifact, a file or folder.
        payload: gives what the runtime is given of it; None for the artifact itself.
        images: ``(N, H, W, 4)`` uint8 RGBA.
        owners: folder, and target and precision in it.
    """

    name: str
    runtime: Runtime
    path: Path
    payload: Callable[[Path, Path], Path] | None
    images: NDArray[np.uint8]
    classes: int
    owners: list[tuple[Path, tuple[str, str]]]

    @property
    def bytes(self) -> int:
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())


@dataclass(kw_only=True)
class Found:
    """What the other side has said.

    Attributes:
        logits: by task and unit; text where the runtime refused.
        versions: of the runtimes that ran, by their names.
        missing: why the others did not.
    """

    machine: dict[str, str] = field(default_factory=dict)
    logits: dict[tuple[int, str], Logits | str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def replay(
    folders: Sequence[Path],
    targets: Mapping[str, Target],
    say: Say,
    command: str | None = None,
    silence: float = SILENCE,
) -> list[tuple[str, list[Check]]]:
    """Run the golden inputs of finished folders on another Python, or this one, and record what came of it.

    ``parity.json`` and ``manifest.json`` of each folder get a row of evidence for each artifact; one of the same machine
    takes the place of its earlier one.

    Args:
        command: a Python that reads a program from standard input when it is given ``-``.

    Returns:
        (name, checks) of each artifact, unit and folder.

    Raises:
        VerifyError: a folder is not what its manifest says.
        DeviceError: the command does not do, or no runtime is installed where it runs; nothing is recorded.
    """
    for folder in folders:
        _check_writable(folder)
    read = {folder: manifest.read_verified(folder) for folder in folders}
    tasks = list(_tasks(read, targets, say))
    if not tasks:
        raise VerifyError(f"{_named(folders)} nothing that a runtime could replay. `twinkeel build all` makes it.")
    with tempfile.TemporaryDirectory(prefix="twinkeel-replay-") as work:
        found = Conversation(tasks, _split(command), say, silence, Path(work)).held()
    for name, reason in found.missing.items():
        say(f"skipped {name}: {shown(reason, 400)}")
    if not found.logits:
        raise DeviceError(
            f"no runtime is installed where '{shown(command or sys.executable)}' runs: "
            + "; ".join(f"{name}: {shown(reason)}" for name, reason in found.missing.items())
            + ". There: pip install "
            + " ".join(sorted({task.runtime.PACKAGES[0] for task in tasks if task.runtime.EVIDENCE == "runtime"}))
        )
    return _judged(read, tasks, found)


def _judged(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], tasks: Sequence[Task], found: Found
) -> list[tuple[str, list[Check]]]:
    """Judge all, then record all."""
    rows: dict[Path, list[device.Judged]] = {folder: [] for folder in read}
    for (number, unit), logits in sorted(found.logits.items(), key=lambda item: item[0][0]):
        task = tasks[number]
        for folder, key in task.owners:
            content, golden = read[folder]
            entry = device.entry_of(content, key)
            if isinstance(logits, str):
                checks = [broken(logits)]
            else:
                checks = device.judged("replay", entry, golden, logits, content["output_scale"])
            row = evidence.row(
                evidence=task.runtime.EVIDENCE,
                by="replay",
                machine=found.machine,
                versions=found.versions.get(task.runtime.NAME, {}),
                units=unit,
                checks=[manifest.described(check) for check in checks],
            )
            rows[folder].append(device.Judged(key=key, sha256=entry["sha256"], row=row, checks=checks))
    results = []
    for folder, judged in rows.items():
        device.record(folder, judged)
        results += [(f"{' '.join(item.key)}, {evidence.short(item.row)}", item.checks) for item in judged]
    return results


def _check_writable(folder: Path) -> None:
    """Before minutes of work."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileNotFoundError as error:
        raise VerifyError(f"'{folder}' is no finished build: {error}. `twinkeel build android` makes one.") from error
    except OSError as error:
        raise DeviceError(
            f"the evidence is recorded in '{folder}', and that cannot be written: {error}. Copy it to where you may write, "
            f"or look without recording: `twinkeel parity {folder}`."
        ) from error


def _tasks(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], targets: Mapping[str, Target], say: Say
) -> Iterator[Task]:
    """All artifacts that a runtime could run: each file once, however many folders hold it."""
    known: dict[tuple[str, str, str], Task] = {}
    for folder, (content, golden) in read.items():
        inputs = hashlib.sha256(golden.inputs.tobytes() + str(golden.inputs.shape).encode()).hexdigest()
        for entry in content["artifacts"]:
            target = targets.get(entry["target"])
            runtime: Runtime | None = getattr(target, "RUNTIME", None)
            key, name = (entry["target"], entry["precision"]), shown(f"{entry['target']} {entry['precision']}")
            if target is None or runtime is None:
                say(f"skipped {name}: no runtime here is known to run it")
                continue
            if not device.limits(entry):
                say(
                    f"skipped {name}: it has no limit that logits are judged by, as one that did not run when it was built"
                )
                continue
            same = runtime.NAME, digest(folder / entry["path"]), inputs
            if same in known:
                known[same].owners.append((folder, key))
                continue
            known[same] = Task(
                name=name,
                runtime=runtime,
                path=folder / entry["path"],
                payload=getattr(target, "payload", None),
                images=golden.inputs,
                classes=len(content["labels"]),
                owners=[(folder, key)],
            )
    yield from known.values()


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(f"'{folder}'" for folder in folders) + (" holds" if len(folders) == 1 else " hold")


def _split(command: str | None) -> list[str]:
    if command is None:
        return [sys.executable]
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise DeviceError(f"--python '{shown(command)}' is no command line: {error}") from error
    if not found:
        raise DeviceError('--python is empty. A command that starts a Python: --python "ssh host python3"')
    return found


# ---- the conversation


@dataclass
class Conversation:
    """Tasks to another Python, and what it says of them.

    It is asked first what it has. It is started anew for what is left where it dies, so that an artifact whose runtime
    crashes fails alone.
    """

    tasks: Sequence[Task]
    command: list[str]
    say: Say
    silence: float
    work: Path

    def __post_init__(self) -> None:
        self.found = Found()
        self._died: dict[str | int, int] = {}  # runtimes and tasks, and how often
        self._given: dict[int, Path] = {}
        self._left_out: set[int] = set()

    def held(self) -> Found:
        self._start([])
        for _ in range(MOST_STARTS):
            batch = self._batch()
            if not batch:
                return self.found
            self._start(batch)
        raise DeviceError(f"'{shown(shlex.join(self.command))}' ended too early {MOST_STARTS} times. It is given up.")

    def _batch(self) -> list[int]:
        """What is left, up to `BATCH` bytes. What has been fatal once is tried alone."""
        left = [
            number
            for number, task in enumerate(self.tasks)
            if task.runtime.NAME not in self.found.missing
            and any((number, unit) not in self.found.logits for unit in task.runtime.UNITS)
            and self._prepare(number)
        ]
        suspects = [n for n in left if n in self._died or self.tasks[n].runtime.NAME in self._died]
        if left and len(suspects) == len(left):
            return left[:1]
        batch: list[int] = []
        for number in left:
            if number in suspects:
                continue
            if batch and sum(self.tasks[n].bytes for n in [*batch, number]) > BATCH:
                break
            batch.append(number)
        return batch

    def _prepare(self, number: int) -> bool:
        """Whether there is what the runtime is given of an artifact."""
        task = self.tasks[number]
        if number in self._given or number in self._left_out:
            return number in self._given
        try:
            folder = self.work / str(number)
            self._given[number] = task.path
            if task.payload is not None:
                folder.mkdir()
                self._given[number] = task.payload(task.path, folder)
        except Exception as error:  # a reader of programs that is not installed here, or raises anything
            del self._given[number]
            self._left_out.add(number)
            self.say(f"skipped {task.name}: {shown(described_error(error), 400)}")
            return False
        return True

    def _start(self, batch: Sequence[int]) -> None:
        mark = f"@twinkeel-{secrets.token_hex(8)}@"
        largest = max((4 * len(self.tasks[n].images) * self.tasks[n].classes for n in batch), default=0)
        runtimes = {task.runtime.NAME: task.runtime for n, task in enumerate(self.tasks) if n in batch or not batch}
        content = program(mark, runtimes, {n: (self.tasks[n], self._given[n]) for n in batch})
        with Process(self.command, content, mark, 2 * largest + 10_000, self.silence) as other:
            at: str | int | None = None
            is_done = False
            for frame in other.frames():
                if isinstance(frame, _Refused):
                    raise DeviceError(f"'{other}' runs, but {shown(frame.reason, 1000)}")
                if isinstance(frame, _Machine):
                    self._meet(frame, other)
                elif not self.found.machine:
                    raise other.wrong("it does not say what machine it is")
                elif isinstance(frame, _Starts):
                    at = frame.name
                    if at not in runtimes:
                        raise other.wrong(f"a runtime '{shown(at)}'")
                elif isinstance(frame, _Imported | _Missing):
                    self._take_runtime(frame, runtimes, other, is_asked=bool(batch))
                    at = None
                elif isinstance(frame, _Begins):
                    at = frame.number
                    self._check_asked(frame, batch, other)
                elif isinstance(frame, _Logits | _Failed):
                    self._take(frame, batch, other)
                    at = None
                else:
                    is_done = frame.kind == "end"
            if not is_done:
                self._mourn(at, other)
            elif any((n, u) not in self.found.logits for n in batch for u in self.tasks[n].runtime.UNITS
                     if self.tasks[n].runtime.NAME not in self.found.missing):  # fmt: skip
                raise other.wrong("it ended without all the logits")

    def _meet(self, frame: _Machine, other: Process) -> None:
        described = frame.machine.model_dump()
        own = machine.here()["architecture"]
        if frame.boot and frame.boot == machine.boot() and described["architecture"] != own:
            # the same kernel, another instruction set
            described["emulator"] = described["emulator"] or "emulated"
        if not self.found.machine:
            self.say(f"replay: {machine.short(described)}, {described['system']}, Python {frame.python}")
        elif self.found.machine != described:
            raise other.wrong(f"it was {machine.short(self.found.machine)} and is {machine.short(described)}")
        self.found.machine = described

    def _take_runtime(
        self, frame: _Imported | _Missing, runtimes: Mapping[str, Runtime], other: Process, *, is_asked: bool
    ) -> None:
        if frame.name not in runtimes:
            raise other.wrong(f"a runtime '{shown(frame.name)}'")
        if isinstance(frame, _Missing):
            self.found.missing[frame.name] = frame.reason
            return
        if set(frame.versions) != set(runtimes[frame.name].PACKAGES):
            raise other.wrong(f"versions of {[shown(name) for name in list(frame.versions)[:5]]}")
        if is_asked and frame.name not in self.found.versions:
            self.say("replay: " + ", ".join(f"{name} {version}" for name, version in frame.versions.items()))
            self.found.versions[frame.name] = frame.versions

    def _check_asked(self, frame: _Begins | _Logits | _Failed, batch: Sequence[int], other: Process) -> None:
        key = frame.number, frame.unit
        if frame.number not in batch or frame.unit not in self.tasks[frame.number].runtime.UNITS:
            raise other.wrong(f"it speaks of a task {frame.number} on '{shown(frame.unit)}'")
        if self.tasks[frame.number].runtime.NAME not in self.found.versions:
            raise other.wrong("it runs what it did not import")
        if key in self.found.logits and not isinstance(frame, _Begins):
            raise other.wrong(f"task {frame.number} twice")

    def _take(self, frame: _Logits | _Failed, batch: Sequence[int], other: Process) -> None:
        if (frame.number, frame.unit) in self.found.logits and frame.number in self._died:
            return  # the unit before the fatal one, once more
        self._check_asked(frame, batch, other)
        task = self.tasks[frame.number]
        if isinstance(frame, _Failed):
            self.found.logits[frame.number, frame.unit] = shown(frame.reason, 600)
            return
        wanted = [len(task.images), task.classes]
        try:
            content = base64.b64decode(frame.content, validate=True)
            if frame.shape != wanted or len(content) != 4 * wanted[0] * wanted[1]:
                raise ValueError(f"{frame.shape} logits in {len(content):,} bytes where {wanted} were expected")
        except ValueError as error:
            raise other.wrong(f"{task.name}: {error}") from error
        self.found.logits[frame.number, frame.unit] = np.frombuffer(content, "<f4").reshape(wanted).astype(np.float32)
        self.say(f"replay: {task.name} {'' if frame.unit == 'CPU' else frame.unit}".rstrip())

    def _mourn(self, at: str | int | None, other: Process) -> None:
        """The other side has died: at once, as a runtime was imported, or of an artifact."""
        if not self.found.machine:
            raise DeviceError(f"'{other}' {other.ended()}. {_STARTED}.")
        if at is None:
            raise DeviceError(f"'{other}' {other.ended()}")
        self._died[at] = self._died.get(at, 0) + 1
        if self._died[at] < 2:
            name = self.tasks[at].name if isinstance(at, int) else at
            self.say(f"replay: it {other.ended(is_short=True)} at {name}; started again")
            return
        reason = f"it ends its process, twice: it {other.ended()}"
        if isinstance(at, str):
            self.found.missing[at] = f"importing it {reason}"
        else:
            for unit in self.tasks[at].runtime.UNITS:
                self.found.logits.setdefault((at, unit), reason)


def program(mark: str, runtimes: Mapping[str, Runtime], tasks: Mapping[int, tuple[Task, Path]]) -> bytes:
    """What the other side reads: Python with everything in it, ASCII.

    Args:
        tasks: by number, with the file or folder that the runtime is given.
    """
    content = io.BytesIO()
    modules = {name: runtime.__name__ for name, runtime in runtimes.items()}
    described, inputs = [], {}
    with zipfile.ZipFile(content, "w") as archive:
        for number, (task, path) in tasks.items():
            key = hashlib.sha256(task.images.tobytes()).hexdigest()
            inputs[key] = task.images
            name = f"{number}{path.suffix}"
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    archive.write(file, f"{name}/{file.relative_to(path).as_posix()}" if path.is_dir() else name)
            described.append(
                {
                    "number": number,
                    "runtime": task.runtime.NAME,
                    "artifact": name,
                    "is_folder": path.is_dir(),
                    "inputs": f"inputs/{key}",
                    "shape": list(task.images.shape),
                }
            )
        for key, images in inputs.items():
            archive.writestr(f"inputs/{key}", images.tobytes(), zipfile.ZIP_DEFLATED)
        archive.writestr(far_side.REQUEST, json.dumps({"runtimes": modules, "tasks": described}))
        archive.writestr("sources.json", json.dumps(sources(modules.values())), zipfile.ZIP_DEFLATED)
    encoded = _lines(content.getvalue()).decode("ascii")
    return _PROGRAM.format(mark=mark, content=encoded, package=_PACKAGE).encode("ascii")


def _lines(content: bytes) -> bytes:
    """As base64, in lines: Python reads a program line by line."""
    step = 3 * 2**14
    return b"".join(base64.b64encode(content[n : n + step]) + b"\n" for n in range(0, len(content), step))


def sources(runtimes: Iterable[str]) -> dict[str, str]:
    """Source by name of the modules that run on the other side, and of the packages around them."""
    packages = ("", ".pipeline", ".pipeline.delivery", ".targets")
    found = dict.fromkeys((f"{_PACKAGE}{name}" for name in packages), "")
    for name in (*(f"{_PACKAGE}.{name}" for name in _CODE), *runtimes):
        path = importlib.import_module(name).__file__
        assert path is not None
        found[name] = Path(path).read_text(encoding="utf-8")
    return found


# ---- the process


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
            raise DeviceError(f"'{self}' cannot be started: {error.strerror or error}. {_STARTED}.") from error
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

    def frames(self) -> Iterator[_Any]:
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
                    self._lines.put(self.wrong(f"it prints and prints, and that is no answer. {_STARTED}"))
                    return
        self._lines.put(None)
