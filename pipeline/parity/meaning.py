"""What parity asks of a task: what outputs are worth on images, and what is allowed of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import NDArray

from ..data import Images
from ..program import Decode, Output
from .limits import WEIGHTS_ALONE, Limit
from .metrics import Values
from .verdict import Counts

Truth = NDArray[Any]
"""What is right of each image, ``(N, ...)``; its meaning is the task's."""

Counted = tuple[float, Counts]
"""A value that is counted on images, and the counts behind it."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What outputs are worth on held-out images.

    Attributes:
        score: share of what is right by the task's own measure, 0..1; NaN of an artifact that does not run.
        counted: by metric, against the float model; empty of such a one.
    """

    score: float = float("nan")
    counted: Mapping[str, Counted] = field(default_factory=dict)

    @property
    def is_unchanged(self) -> bool:
        """Nothing that was counted is lost or won against the float model."""
        return all(counts.lost == counts.won == 0 for _, counts in self.counted.values())

    def told(self, names: Sequence[str]) -> dict[str, Any]:
        """As JSON holds it, of each of these metrics the value and the counts behind it; NaN and None where there are none."""
        found: dict[str, Any] = {}
        for name in names:
            value, counts = self.counted.get(name, (float("nan"), None))
            found |= {name: value, f"{name}_counts": None if counts is None else asdict(counts)}
        return found

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Worth:
        """What `asdict` gave, through JSON."""
        counted = {name: (value, Counts(**counts)) for name, (value, counts) in stored["counted"].items()}
        return cls(score=stored["score"], counted=counted)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """A task's metrics and limits.

    Attributes:
        counted: metrics that are counted on images, and the sense of their limits: estimates, with an interval and a
            verdict that can be open. Every artifact that runs has them, so that a configuration may limit them where
            `limits` do not.
        limits: rows beside those of `limits.LIMITS`, by leg, precision and what runs it.
        score: packed outputs ``(N, width)`` float32, the truth, and what stands where in the outputs -> share 0..1 of what is right.
        count: outputs of the original, of the folded float model, of a candidate, the truth, and what stands where in the
            outputs -> values by metric.
        scored_at_most: held-out images that the score after an epoch of training is taken of, evenly chosen; 0 for all.
        decoding: metric of artifacts that decode their outputs themselves, or say what these stand for; empty where none can.
        decode_errors: how many of the images ``(N, H, W, 4)`` uint8 an artifact decodes otherwise than its outputs
            ``(N, ...)`` say; the last argument names what the outputs stand for.
    """

    counted: Mapping[str, str]
    limits: Mapping[tuple[str, str, str], tuple[Limit, ...]]
    score: Callable[[Values, Truth, Sequence[Output]], float]
    count: Callable[[Values, Values, Values, Truth, Sequence[Output]], Mapping[str, Counted]]
    scored_at_most: int = 0
    decoding: str = ""
    decode_errors: Callable[[Decode, Images, Values, list[str]], int] | None = None

    def worth(
        self, original: Values, folded: Values, candidate: Values, truth: Truth, outputs: Sequence[Output]
    ) -> Worth:
        """Of the candidate's outputs.

        Args:
            outputs: what stands where in them.
        """
        counted = self.count(original, folded, candidate, truth, outputs)
        return Worth(score=self.score(candidate, truth, outputs), counted=counted)

    def rows(self, leg: str, precision: str, runs_on: str) -> tuple[Limit, ...]:
        """The task's own limits of a leg; what fewer bits for weights lose is the same whatever runs them."""
        if precision in WEIGHTS_ALONE:
            runs_on = "reference executor"
        return self.limits.get((leg, precision, runs_on), ())
