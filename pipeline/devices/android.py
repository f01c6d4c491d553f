"""The artifacts of a finished folder, or any others, timed on an Android phone by the runtimes' own benchmarks.

Each artifact is loaded anew in every round, so that where it comes to lie in memory and which core it begins on are drawn again; what the
first rounds take is held against the last ones, for phones slow down as they get warm.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..delivery import device, evidence
from ..errors import DeviceError, VerifyError
from ..files import digest
from ..parity import Ran, Unit
from ..program import Target
from ..reading import shown
from ..saying import Say
from . import adb, remote
from .adb import Cut, Lost, Phone, Slow
from .binaries import Binaries, Unusable
from .found import HOT, THERMAL, WARM, Left, Measured, Outcome, Placement, Round, Timing, Unreadable
from .tools import TOOLS, Tool
from .tools.asking import Ask, trouble

ROUNDS = 8
"""Starts of a benchmark for an artifact and a unit; a quarter of them are two."""
UNITS: tuple[Unit, ...] = ("CPU", "GPU", "NPU")

_THERMAL = re.compile(r"Thermal Status: (\d)")


class Unmeasured(Exception):
    """An artifact cannot be timed on a unit, and why."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What is to be timed.

    Attributes:
        runtime: name of what runs it, as `TOOLS` has it.
    """

    key: tuple[str, str]
    path: Path
    runtime: str
    sha256: str

    @property
    def name(self) -> str:
        return " ".join(self.key)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to measure.

    Attributes:
        units: to ask for; those that a runtime does not have are named where `are_asked` says that the user wants them.
        runs: of an artifact on a unit, over all rounds.
        seconds: after which a round is given up.
    """

    units: tuple[Unit, ...] = UNITS
    are_asked: bool = False
    runs: int = 80
    threads: int = 1
    seconds: float = 300.0


def artifacts_of(
    folder: Path, content: Mapping[str, Any], targets: Mapping[str, Target], only: Sequence[str] = ()
) -> list[Artifact]:
    """What a benchmark on Android runs, of a finished folder's manifest.

    Raises:
        VerifyError: there is nothing of it.
    """
    found = [
        Artifact(
            key=(entry["target"], entry["precision"]),
            path=folder / entry["path"],
            runtime=name,
            sha256=entry["sha256"],
        )
        for entry in content["artifacts"]
        if (not only or entry["target"] in only) and (name := runtime_of(targets.get(entry["target"])))
    ]
    if not found:
        held = ", ".join(dict.fromkeys(shown(entry["target"]) for entry in content["artifacts"])) or "nothing"
        raise VerifyError(
            f"'{folder}' holds nothing to time on Android{' of ' + ', '.join(only) if only else ''}: {held}. "
            "`twinkeel build android` makes it."
        )
    return found


def runtime_of(target: Target | None) -> str:
    """Name of the runtime whose benchmark times a target's artifacts on Android; empty where there is none."""
    if target is None or not target.NAME.startswith("android/"):
        return ""
    name = str(getattr(getattr(target, "RUNTIME", None), "NAME", ""))
    return name if name in TOOLS else ""


@dataclass(kw_only=True)
class Session:
    """A phone while things are measured on it.

    Attributes:
        place: the folder there.
    """

    phone: Phone
    place: remote.Remote
    binaries: Binaries
    options: Options
    say: Say
    _programs: dict[str, _Program | Unusable] = field(default_factory=dict)
    _libraries: set[str] = field(default_factory=set)
    _pushed: str = ""

    def measured(self, artifact: Artifact) -> Iterator[Measured | Left]:
        """An artifact on each unit, or why not.

        Raises:
            Lost: the phone went away.
            DeviceError: it cannot be written to.
        """
        tool = TOOLS[artifact.runtime]
        try:
            program = self._program(artifact.runtime, tool)
        except Unusable as error:
            yield Left(name=artifact.name, reason=str(error))
            return
        self.place.push(artifact.path, tool.MODEL)
        for unit in self.options.units:
            if why := tool.lacks(unit):
                if self.options.are_asked:
                    yield Left(name=f"{artifact.name} on the {unit}", reason=why)
                continue
            self.say(f"{self.phone.name}: {artifact.name} on the {unit}")
            try:
                yield self._on(artifact, unit, tool, program)
            except Unmeasured as error:
                yield Left(name=f"{artifact.name} on the {unit}", reason=str(error))
        self.place.remove(tool.MODEL)

    def _program(self, runtime: str, tool: Tool) -> _Program:
        """The benchmark, on the phone with its libraries."""
        if runtime not in self._programs:
            try:
                path, abi = self.binaries.program(tool.BINARIES, self.phone.abis)
                made: _Program | Unusable = _Program(path=path, libraries=self.binaries.libraries(abi))
            except Unusable as error:
                made = error
            self._programs[runtime] = made
        program = self._programs[runtime]
        if isinstance(program, Unusable):
            raise program
        if self._pushed != runtime:
            self.place.push(program.path, _TOOL, is_program=True)
            for name, path in program.libraries.items():
                if name not in self._libraries:
                    self.place.push(path, name)
                    self._libraries.add(name)
            self._pushed = runtime
        return program

    def _on(self, artifact: Artifact, unit: Unit, tool: Tool, program: _Program) -> Measured:
        options = self.options
        ask = Ask(
            unit=unit,
            runs=math.ceil(options.runs / ROUNDS),
            threads=options.threads,
            libraries=frozenset(program.libraries),
        )
        more: dict[str, Any] = {"threads": options.threads, "by": program.path.name}
        tools = {program.path.name: f"SHA-256 {digest(program.path)[:16]}"}
        before = self._thermal()
        rounds: list[Round] = []
        text = profile = ""
        for number in range(ROUNDS):
            code, text, result = self._round(tool, ask)
            try:
                if code:
                    raise Unreadable(trouble(text))
                rounds.append(self._read(tool, text, result, ask))
            except Unreadable as error:
                if code and unit != "CPU" and number == 0:
                    ran = Ran(asked=unit, ran=(), reason=f"{program.path.name} ended with {code}: {error}")
                    return Measured(
                        key=artifact.key,
                        sha256=artifact.sha256,
                        placement=Placement(ran=ran),
                        timing=None,
                        tools=tools,
                        more=more,
                    )
                ended = f" ended with {code}" if code else ""
                raise Unmeasured(f"{program.path.name}{ended}: {error}") from error
        after = self._thermal()
        if tool.PROFILE:
            profile = self._profile(tool, ask)
        placement = tool.placed(text, profile, ask)
        if placement.ran.is_fallback and not tool.PROFILE:
            # a build may tell what its delegates took to Android's log alone: what is not said is no fallback yet
            placement = tool.placed(f"{text}\n{self._logged(tool)}", profile, ask)
        timing = Timing.of(rounds)
        if before or after:
            more["thermal"] = [before, after]
        notes = tuple(filter(None, (placement.note, *self._doubts(timing, before, after))))
        return Measured(
            key=artifact.key,
            sha256=artifact.sha256,
            placement=placement,
            timing=timing,
            tools=tools,
            more=more,
            notes=notes,
        )

    def _round(self, tool: Tool, ask: Ask) -> tuple[int, str, str]:
        """Exit code, output, and the file that it left."""
        if tool.RESULT:
            self.place.remove(tool.RESULT)
        try:
            done = self.place.call(shlex.join([f"./{_TOOL}", *tool.arguments(ask)]), self.options.seconds)
            return done.code, done.output, self.place.text(tool.RESULT) if tool.RESULT else ""
        except Slow as error:
            raise Unmeasured(f"it did not end within {self.options.seconds:g} s; --timeout gives it more") from error
        except Cut as error:
            raise Unmeasured(str(error)) from error

    def _read(self, tool: Tool, text: str, result: str, ask: Ask) -> Round:
        """A round's times; some builds tell them to Android's log alone."""
        try:
            return tool.read(text, result, ask)
        except Unreadable:
            if not (logged := self._logged(tool)).strip():
                raise
            return tool.read(f"{text}\n{logged}", result, ask)

    def _logged(self, tool: Tool) -> str:
        """What the last run told Android's log; empty where that cannot be had."""
        try:
            return self.place.logged(tool.LOG) if tool.LOG else ""
        except (Slow, Cut):
            return ""

    def _profile(self, tool: Tool, ask: Ask) -> str:
        self.place.remove(tool.PROFILE)
        try:
            self.place.call(shlex.join([f"./{_TOOL}", *tool.look(ask)]), self.options.seconds)
            found = self.place.text(tool.PROFILE)
        except (Slow, Cut):
            return ""
        self.place.remove(tool.PROFILE)
        return found

    def _thermal(self) -> str:
        """Android's thermal state; empty where it does not say (before Android 10)."""
        try:
            found = _THERMAL.search(self.phone.shell("dumpsys thermalservice").output)
        except (Slow, Cut):
            return ""
        return THERMAL[int(found[1])] if found and int(found[1]) < len(THERMAL) else ""

    def _doubts(self, timing: Timing, before: str, after: str) -> Iterator[str]:
        """What there is to say against a number."""
        if timing.has_slowed:
            yield (
                f"it got slower as it ran: the last quarter took {timing.slowdown:.2f} times as long as the first one (told from {HOT:g} "
                "on). Phones do that as they get warm: let it cool, on a table and off the charger, and measure again, with fewer --runs"
            )
        hot = [state for state in (before, after) if state and THERMAL.index(state) >= WARM]
        if hot:
            yield f"Android calls the phone's heat {hot[-1]} and slows its processors down: let it cool, and measure again"
        if self.phone.is_emulator:
            yield "it is an emulator: these are the times of the computer under it, and not of a phone"


_TOOL = "tool"


@dataclass(frozen=True, kw_only=True)
class _Program:
    path: Path
    libraries: Mapping[str, Path]


def measure(artifacts: Sequence[Artifact], phone: Phone, binaries: Binaries, options: Options, say: Say) -> Outcome:
    """Time artifacts on a phone.

    What was measured before it went away is given too.

    Raises:
        DeviceError: it cannot be written to.
    """
    measured: list[Measured] = []
    left: list[Left] = []
    waiting = list(artifacts)
    lost = ""
    try:
        with remote.claimed(phone, say) as place:
            session = Session(phone=phone, place=place, binaries=binaries, options=options, say=say)
            while waiting:
                for item in session.measured(waiting[0]):
                    (measured if isinstance(item, Measured) else left).append(item)  # type: ignore[arg-type]
                waiting.pop(0)
    except Lost as error:
        lost = str(error)
        left += [Left(name=one.name, reason="the phone went away before or while it was measured") for one in waiting]
    return Outcome(measured=tuple(measured), left=tuple(left), lost=lost)


def record(
    folder: Path, machine: Mapping[str, str], measured: Sequence[Measured], by: str = "adb"
) -> list[device.Judged]:
    """Add a row of evidence for each to the finished folder; one of the same device and unit takes the place of its earlier one.

    Raises:
        VerifyError: the folder was changed since.
        TwinkeelError: it cannot be written.
    """
    rows = [
        device.Judged(
            key=item.key,
            sha256=item.sha256,
            row=evidence.row(
                evidence=evidence.LATENCY,
                by=by,
                machine=machine,
                versions=item.tools,
                units=item.placement.ran.asked,
                accelerator=item.accelerator(),
            ),
            checks=[],
            name=f"{' '.join(item.key)} {item.placement.ran}",
        )
        for item in measured
    ]
    device.record(folder, rows)
    return rows


def opened(serial: str | None) -> Phone:
    """See `adb.opened`."""
    return adb.opened(serial)


def none_measured(outcome: Outcome) -> DeviceError:
    """What to say where nothing came of it."""
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in outcome.left[:5])
    return DeviceError(f"nothing was measured: {reasons or 'nothing was asked for'}. Nothing is recorded.")
