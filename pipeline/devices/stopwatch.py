"""Artifacts of a sweep on a phone: each timed once, and what was timed kept in a file for the next run of the sweep."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import reading
from ..delivery import machine
from ..errors import DeviceError
from ..files import digest, rendered
from ..program import Target
from ..saying import Say
from .adb import Phone
from .android import Artifact, Options, measure, runtime_of
from .binaries import Binaries, Unusable
from .tools import TOOLS

FILE = "device.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What came of an artifact.

    Attributes:
        ms: NaN where it was not timed.
        told: why not, or what there is to know of the number; empty where there is nothing.
    """

    ms: float = math.nan
    told: str = ""


@dataclass(kw_only=True)
class Stopwatch:
    """A phone, and one unit of it.

    Attributes:
        options: with one unit.
        kept: where times are kept.
        save: writes bytes to a file, whole or not at all.
    """

    phone: Phone
    binaries: Binaries
    options: Options
    targets: Mapping[str, Target]
    kept: Path
    save: Callable[[bytes, Path], Any]
    say: Say
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept.exists():
            try:
                content = reading.read_json(self.kept)
                found = content["times"] if content["schema_version"] == _VERSION else {}
                self._known = {key: {"ms": float(one["ms"]), "told": str(one["told"])} for key, one in found.items()}
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                self.say(f"WARNING '{self.kept}' cannot be read, and all is timed anew: {reading.shown(error)}")

    @property
    def name(self) -> str:
        """Of the device, and the unit where that is not its CPU."""
        (unit,) = self.options.units
        return machine.short(self.phone.machine) + ("" if unit == "CPU" else f" {unit}")

    def check(self, targets: list[str]) -> None:
        """See before the work that something of it can be timed.

        Raises:
            DeviceError: nothing can, and why.
        """
        (unit,) = self.options.units
        reasons = {}
        for target in targets:
            if not (runtime := runtime_of(self.targets.get(target))):
                reasons[target] = "it is not for Android"
                continue
            try:
                why = TOOLS[runtime].lacks(unit)
                self._digest(runtime)
            except Unusable as error:
                why = str(error)
            if not why:
                return
            reasons[target] = why
        raise DeviceError(
            f"nothing of this sweep can be timed on the {unit} of {self.phone.name}: "
            + "; ".join(f"{name}: {why}" for name, why in reasons.items())
        )

    def takes(self, target: str) -> bool:
        """Whether artifacts of a target run on it at all."""
        return bool(runtime_of(self.targets.get(target)))

    def time(self, key: tuple[str, str], sha256: str, fetch: Callable[[], Path]) -> Timed:
        """An artifact's milliseconds, from what is kept where it was timed before.

        Args:
            key: target and precision.
            fetch: gives its file.

        Raises:
            DeviceError: the phone went away. What was timed is kept.
        """
        runtime = runtime_of(self.targets.get(key[0]))
        if not runtime:
            return Timed(told="not timed: it is not for Android")
        try:
            place = self._key(sha256, runtime)
        except Unusable as error:
            return Timed(told=f"not timed: {error}")
        if place not in self._known:
            artifact = Artifact(key=key, path=fetch(), runtime=runtime, sha256=sha256)
            outcome = measure([artifact], self.phone, self.binaries, self.options, self.say)
            if outcome.lost:
                raise DeviceError(f"{outcome.lost} What was timed is kept in '{self.kept}'.")
            if not outcome.measured:
                return Timed(told=f"not timed: {outcome.left[0].reason}")
            (found,) = outcome.measured
            ran = found.placement.ran
            has_doubt = ran.fell_back or ran.is_refused or ran.ran is None
            told = "; ".join(filter(None, (ran.told if has_doubt else "", *found.notes)))
            if found.timing is None:
                return Timed(told=f"not timed: {told}")
            self._known[place] = {"ms": found.timing.median, "told": told}
            self.save(rendered({"schema_version": _VERSION, "times": self._known}), self.kept)
        return Timed(**self._known[place])

    def _key(self, sha256: str, runtime: str) -> str:
        """All that a time depends on, as far as that is known."""
        options = self.options
        told = [sha256, self.phone.machine, options.units, options.threads, options.runs, self._digest(runtime)]
        return json.dumps(told, sort_keys=True)

    def _digest(self, runtime: str) -> str:
        if runtime not in self._digests:
            path, _ = self.binaries.program(TOOLS[runtime].BINARIES, self.phone.abis)
            self._digests[runtime] = digest(path)
        return self._digests[runtime]
