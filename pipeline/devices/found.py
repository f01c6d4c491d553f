"""What a measurement on a device finds: times of rounds, what ran each operation, and both as rows of evidence have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..parity import Ran

HOT = 1.15
"""A device is told to have slowed down where the last quarter of the runs takes so much longer than the first one: more than the
noise of phones at rest, some percent, and less than what the first step of throttling takes."""
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's thermal states, in the order of their numbers (`PowerManager.THERMAL_STATUS_*`)."""
WARM = 2
"""From this state on Android says that processors are slowed down."""


class Unreadable(Exception):
    """A benchmark's output is not what it is documented to be."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One start of a benchmark: the artifact loaded anew, warmed up, and run some times.

    Attributes:
        middle: milliseconds of an image: the median of the round's runs, or their mean where a benchmark gives nothing else.
        runs: that it is of.
        singles: milliseconds of each run in their order, where the benchmark tells them.
        is_mean: of `middle`.
    """

    middle: float
    runs: int
    singles: tuple[float, ...] = ()
    is_mean: bool = False

    def __post_init__(self) -> None:
        values = (self.middle, *self.singles)
        if not all(math.isfinite(value) and value > 0 for value in values) or self.runs < 1:
            raise Unreadable(f"its times are none: {self.middle:g} ms of {self.runs:,} runs")

    @classmethod
    def of(cls, singles: Sequence[float]) -> Round:
        if not singles:
            raise Unreadable("it tells no times")
        return cls(middle=float(np.median(singles)), runs=len(singles), singles=tuple(singles))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds an image over all rounds.

    Attributes:
        median: of all runs; where these are not known, of the rounds' medians, or of their means.
        p90: None where single runs are not known.
        slowdown: the last quarter of the runs, or rounds, over the first one, by their medians.
    """

    median: float
    p90: float | None
    runs: int
    rounds: int
    is_mean: bool
    slowdown: float

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Timing:
        """Of rounds in their order."""
        singles = [value for one in rounds for value in one.singles] if all(one.singles for one in rounds) else []
        values = np.array(singles or [one.middle for one in rounds])
        quarter = max(len(values) // 4, 1)
        return cls(
            median=float(np.median(values)),
            p90=float(np.quantile(values, 0.9)) if singles else None,
            runs=sum(one.runs for one in rounds),
            rounds=len(rounds),
            is_mean=any(one.is_mean for one in rounds),
            slowdown=float(np.median(values[-quarter:]) / np.median(values[:quarter])),
        )

    @property
    def has_slowed(self) -> bool:
        return self.slowdown > HOT

    def described(self) -> dict[str, Any]:
        """As a row of evidence has it."""
        return {
            "median": self.median,
            "p90": self.p90,
            "runs": self.runs,
            "rounds": self.rounds,
            "is_mean": self.is_mean,
            "slowdown": self.slowdown,
        }


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What ran an artifact's operations, as far as its benchmark says so.

    Attributes:
        plan: how many operations each unit ran; empty where that is not told.
        operations: their names by unit, where they are told.
        note: what there is to say of it beside.
    """

    ran: Ran
    plan: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An artifact on a unit of a device.

    Attributes:
        key: target and precision.
        sha256: of the artifact.
        timing: None where the unit was refused.
        tools: what measured, and its version or hash.
        more: what else the row of evidence keeps: threads, thermal states.
        notes: what the reader of the number has to know.
    """

    key: tuple[str, str]
    sha256: str
    placement: Placement
    timing: Timing | None
    tools: Mapping[str, str]
    more: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def accelerator(self) -> dict[str, Any]:
        """As a row of evidence has it."""
        ran = self.placement.ran
        found: dict[str, Any] = {
            "ran": None if ran.ran is None else sorted(ran.ran),
            "fell_back": ran.fell_back,
            "reason": ran.reason,
            "ms": None if self.timing is None else self.timing.described(),
            "plan": dict(sorted(self.placement.plan.items())),
        }
        if self.placement.operations:
            found["operations"] = {unit: list(names) for unit, names in sorted(self.placement.operations.items())}
        return found | dict(self.more) | ({"notes": list(self.notes)} if self.notes else {})


@dataclass(frozen=True, kw_only=True)
class Left:
    """What was not measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a command measured of a folder, and what it could not.

    Attributes:
        lost: why it ended before its end; empty where it did not.
    """

    measured: tuple[Measured, ...]
    left: tuple[Left, ...]
    lost: str = ""
