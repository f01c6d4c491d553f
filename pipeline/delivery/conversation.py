"""A replay's conversation with another Python: tasks in, outputs out; started anew for what is left where it dies."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import secrets
import shlex
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, arrays
from ..errors import DeviceError
from ..files import files_of
from ..parity import Values
from ..parity import described as described_error
from ..program import Runtime
from ..reading import shown
from ..saying import Say
from . import far_side, machine
from .other_side import STARTED, Answered, Begins, Failed, Imported, Machine, Missing, Plan, Process, Refused, Starts

BATCH = 64 * 2**20
"""Bytes of artifacts that one start of the other side is given, or a single larger one: it holds about four times as much
while it reads them."""
MOST_STARTS = 100
_PLAN = 2**22
"""Characters of a plan as a frame."""
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


@dataclass(frozen=True, kw_only=True)
class Task:
    """An artifact, once for all folders that hold it with the same inputs.

    Attributes:
        name: of the first of them.
        path: of the artifact, a file or folder.
        payload: gives what the runtime is given of it; None for the artifact itself.
        images: what it is run on.
        width: of the outputs ``(N, width)``.
        owners: folder, and target and precision in it.
    """

    name: str
    runtime: Runtime
    path: Path
    payload: Callable[[Path, Path], Path] | None
    images: Images
    width: int
    owners: list[tuple[Path, tuple[str, str]]]

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in files_of(self.path))


@dataclass(kw_only=True)
class Found:
    """What the other side has said.

    Attributes:
        outputs: by task and unit; text where the runtime refused.
        plans: by task and unit, which operation is computed where; only of runtimes that have a plan.
        versions: of the runtimes that ran, by their names.
        missing: why the others did not.
    """

    machine: dict[str, str] = field(default_factory=dict)
    outputs: dict[tuple[int, str], Values | str] = field(default_factory=dict)
    plans: dict[tuple[int, str], Plan] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


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
            and any((number, unit) not in self.found.outputs for unit in task.runtime.UNITS)
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
        largest = max((4 * len(self.tasks[n].images) * self.tasks[n].width for n in batch), default=0)
        runtimes = {task.runtime.NAME: task.runtime for n, task in enumerate(self.tasks) if n in batch or not batch}
        content = program(mark, runtimes, {n: (self.tasks[n], self._given[n]) for n in batch})
        with Process(self.command, content, mark, 2 * largest + _PLAN, self.silence) as other:
            at: str | int | None = None
            is_done = False
            for frame in other.frames():
                if isinstance(frame, Refused):
                    raise DeviceError(f"'{other}' runs, but {shown(frame.reason, 1000)}")
                if isinstance(frame, Machine):
                    self._meet(frame, other)
                elif not self.found.machine:
                    raise other.wrong("it does not say what machine it is")
                elif isinstance(frame, Starts):
                    at = frame.name
                    if at not in runtimes:
                        raise other.wrong(f"a runtime '{shown(at)}'")
                elif isinstance(frame, Imported | Missing):
                    self._take_runtime(frame, runtimes, other, is_asked=bool(batch))
                    at = None
                elif isinstance(frame, Begins):
                    at = frame.number
                    self._check_asked(frame, batch, other)
                elif isinstance(frame, Plan):
                    self._check_asked(frame, batch, other)
                    self._take_plan(frame)
                elif isinstance(frame, Answered | Failed):
                    self._take(frame, batch, other)
                    at = None
                else:
                    is_done = frame.kind == "end"
            if not is_done:
                self._mourn(at, other)
            elif any((n, u) not in self.found.outputs for n in batch for u in self.tasks[n].runtime.UNITS
                     if self.tasks[n].runtime.NAME not in self.found.missing):  # fmt: skip
                raise other.wrong("it ended without all the outputs")

    def _meet(self, frame: Machine, other: Process) -> None:
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
        self, frame: Imported | Missing, runtimes: Mapping[str, Runtime], other: Process, *, is_asked: bool
    ) -> None:
        if frame.name not in runtimes:
            raise other.wrong(f"a runtime '{shown(frame.name)}'")
        if isinstance(frame, Missing):
            self.found.missing[frame.name] = frame.reason
            return
        if set(frame.versions) != set(runtimes[frame.name].PACKAGES):
            raise other.wrong(f"versions of {[shown(name) for name in list(frame.versions)[:5]]}")
        if is_asked and frame.name not in self.found.versions:
            self.say("replay: " + ", ".join(f"{name} {version}" for name, version in frame.versions.items()))
            self.found.versions[frame.name] = frame.versions

    def _check_asked(self, frame: Begins | Plan | Answered | Failed, batch: Sequence[int], other: Process) -> None:
        key = frame.number, frame.unit
        if frame.number not in batch or frame.unit not in self.tasks[frame.number].runtime.UNITS:
            raise other.wrong(f"it speaks of a task {frame.number} on '{shown(frame.unit)}'")
        if self.tasks[frame.number].runtime.NAME not in self.found.versions:
            raise other.wrong("it runs what it did not import")
        if key in self.found.outputs and not isinstance(frame, Begins | Plan):
            raise other.wrong(f"task {frame.number} twice")

    def _take(self, frame: Answered | Failed, batch: Sequence[int], other: Process) -> None:
        if (frame.number, frame.unit) in self.found.outputs and frame.number in self._died:
            return  # the unit before the fatal one, once more
        self._check_asked(frame, batch, other)
        task = self.tasks[frame.number]
        if isinstance(frame, Failed):
            self.found.outputs[frame.number, frame.unit] = shown(frame.reason, 600)
            return
        wanted = [len(task.images), task.width]
        try:
            content = base64.b64decode(frame.content, validate=True)
            if frame.shape != wanted or len(content) != 4 * wanted[0] * wanted[1]:
                raise ValueError(f"{frame.shape} outputs in {len(content):,} bytes where {wanted} were expected")
        except ValueError as error:
            raise other.wrong(f"{task.name}: {error}") from error
        self.found.outputs[frame.number, frame.unit] = np.frombuffer(content, "<f4").reshape(wanted).astype(np.float32)
        self.say(f"replay: {task.name} {'' if frame.unit == 'CPU' else frame.unit}".rstrip())

    def _take_plan(self, frame: Plan) -> None:
        self.found.plans[frame.number, frame.unit] = frame
        units = [one[0] for one in frame.operations]
        counted = ", ".join(f"{unit} {units.count(unit):,}" for unit in sorted(set(units)))
        name = f"{self.tasks[frame.number].name} {frame.unit}"
        self.say(f"replay: {name}, operations: {counted or 'not told, ' + shown(frame.reason, 300)}")

    def _mourn(self, at: str | int | None, other: Process) -> None:
        """The other side has died: at once, as a runtime was imported, or of an artifact."""
        if not self.found.machine:
            raise DeviceError(f"'{other}' {other.ended()}. {STARTED}.")
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
                self.found.outputs.setdefault((at, unit), reason)


def program(mark: str, runtimes: Mapping[str, Runtime], tasks: Mapping[int, tuple[Task, Path]]) -> bytes:
    """What the other side reads: Python with everything in it, ASCII.

    Args:
        tasks: by number, with the file or folder that the runtime is given.
    """
    content = io.BytesIO()
    modules = {name: runtime.__name__ for name, runtime in runtimes.items()}
    described: list[dict[str, Any]] = []
    inputs: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(content, "w") as archive:
        for number, (task, path) in tasks.items():
            given = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays(task.images)]
            keys = [hashlib.sha256(array.tobytes()).hexdigest() for array in given]
            inputs |= dict(zip(keys, given, strict=True))
            name = f"{number}{path.suffix}"
            for file in files_of(path):
                archive.write(file, f"{name}/{file.relative_to(path).as_posix()}" if path.is_dir() else name)
            described.append(
                {
                    "number": number,
                    "runtime": task.runtime.NAME,
                    "artifact": name,
                    "is_folder": path.is_dir(),
                    "inputs": [
                        {"name": f"inputs/{key}", "dtype": array.dtype.str, "shape": list(array.shape)}
                        for key, array in zip(keys, given, strict=True)
                    ],
                }
            )
        for key, array in inputs.items():
            archive.writestr(f"inputs/{key}", array.tobytes(), zipfile.ZIP_DEFLATED)
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
