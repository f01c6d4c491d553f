"""Parity: measured against allowed, leg by leg. All limits stand in `LIMITS`, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Limit as Override
from ..errors import ConfigError, nearest
from . import verdict as verdicts
from .verdict import Counts, Logits, Verdict

COUNTED = {"accuracy_drop": "<=", "agreement": ">="}
"""Metrics that are counted on images: estimates, with an interval and a verdict that can be open. Every artifact that
runs has them, so that a configuration may limit them where `LIMITS` does not."""

_SHARES = (*COUNTED, "equal_logits", "equal_values")

Measured = float | tuple[float, Counts]
"""A value, and where it is counted on images the counts behind it."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """An allowed bound: `metric` must be at least (``>=``) or at most (``<=``) `value`.

    Attributes:
        needs_all: it is a statement on all images; the few golden ones of a replay cannot repeat it.
    """

    metric: str
    sense: str
    value: float
    reason: str
    needs_all: bool = False

    def holds(self, measured: float) -> bool:
        return _is_within(measured, self.sense, self.value)

    @property
    def fewest_images(self) -> int | None:
        """How many images can show at best that it holds: 0 for what is not counted on images, None for no number."""
        if self.metric not in COUNTED:
            return 0
        return verdicts.fewest_images(self.sense, self.value)


def _is_within(measured: float, sense: str, bound: float) -> bool:
    # written so that NaN fails
    return measured >= bound if sense == ">=" else measured <= bound


def _at_least(metric: str, value: float, reason: str, needs_all: bool = False) -> Limit:
    return Limit(metric=metric, sense=">=", value=value, reason=reason, needs_all=needs_all)


def _at_most(metric: str, value: float, reason: str, needs_all: bool = False) -> Limit:
    return Limit(metric=metric, sense="<=", value=value, reason=reason, needs_all=needs_all)


# rows that several artifacts share
_LABELS = _at_most("label_errors", 0, "the labels in the package are those of the logits")
_ACCURACY = _at_most("accuracy_drop", 0.005, "half a point of top-1", needs_all=True)
_HALF_NOISE = _at_least("snr_db", 40, "rounding of every value to float16; 60 dB are usual")
_COMPRESSED = _at_most("exact_error", 1e-5, "against torch with the same decompressed weights, nothing rounded after")

LIMITS: Mapping[tuple[str, str], tuple[Limit, ...]] = {
    ("fold", "float"): (_at_least("snr_db", 90, "folding is exact up to float32 rounding; 120 dB and more are usual"),),
    ("quantize", "int8"): (
        _at_least("snr_db", 15, "below it top-1 collapses on MobileNet-like networks"),
        _at_least("agreement", 0.9, "one answer of ten turned is another model to who uses it", needs_all=True),
        _ACCURACY,
    ),
    ("lower", "fp32"): (
        _at_least("snr_db", 90, "the same float32 arithmetic in another order; 100 dB and more are usual"),
        _at_most("max_error", 1e-4, "of the reference's range; one wrong weight shows"),
    ),
    ("lower", "fp16"): (_at_most("max_error", 5e-4, "against the same float16-rounded weights"),),
    ("lower", "int8"): (
        _at_most("snr_loss_db", 1, "a runtime must not be noisier against float than the reference itself"),
    ),
}


XNNPACK_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "int8": (
        _at_least("equal_logits", 0.999, "the reference computes as XNNPACK does, to the last bit; all are usual"),
        _at_most("max_steps", 1, "the same"),
        _at_most("snr_loss_db", 1, "a runtime must not be noisier against float than the reference itself"),
    ),
}
"""The lower leg of artifacts that XNNPACK computes; see `integer.py`."""

ONNXRUNTIME_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "int8": (
        _at_least(
            "equal_logits", 0.999, "the reference computes as onnxruntime does on x86; all are usual, on arm64 too"
        ),
        _at_most("max_steps", 1, "the same"),
        _at_most("snr_loss_db", 1, "a runtime must not be noisier against float than the reference itself"),
    ),
}
"""The same of artifacts that onnxruntime computes. Its additions on arm64 round 8 of a million values otherwise."""

EXECUTOR_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "fp32": (
        _at_least("snr_db", 90, "the same float32 arithmetic in another order; 130 dB are usual"),
        _at_most("max_error", 1e-5, "of the reference's range; one weight wrong by 1 % shows"),
        _LABELS,
    ),
    "fp16": (
        _at_most("exact_error", 1e-5, "against torch with the same float16 weights and biases, nothing rounded after"),
        _HALF_NOISE,
        _ACCURACY,
        _LABELS,
    ),
    "int8": (
        _at_most("twin_error", 1e-5, "the float32 twin against the quantized reference: the same integers"),
        _at_most("exact_error", 1e-5, "against the reference with scales, weights and biases in float16"),
        _at_most("unrounded_error", 1e-5, "both without the rounding of activations: one step of one weight shows"),
        _at_most(
            "snr_loss_db",
            3,
            "float16 puts values on the other side of rounding boundaries, another draw of the same noise: -1.0 to "
            "1.5 dB on 15 models. That it computes the right thing is seen in the three above",
            needs_all=True,
        ),
        _ACCURACY,
        _LABELS,
    ),
    "w8": (
        _COMPRESSED,
        _HALF_NOISE,
        _ACCURACY,
        _LABELS,
    ),
    "w4": (
        _COMPRESSED,
        _HALF_NOISE,
        _LABELS,
    ),
}
"""The lower leg of artifacts that the reference executor runs: it can leave rounding out, so a single weight shows.
The accuracy of w4 is stated and not limited: four bits lose some, and how much is the model's own."""


FLIPS = 2
"""Values of a layer that may fall to the other side of a rounding boundary in any network."""
GROWTH = 6.0
"""How many times more values may differ in a layer than in any layer before it. One step in one value reaches many
behind an expansion: 4 times at most is measured, in Core ML packages at width 1.0 with random weights."""
STEP_GROWTH = 2.0
"""The same of the largest difference in steps; 2 times is measured at most."""

_TOTAL = _at_least("snr_db", 30, "all of it together must stay below the noise of the quantization itself")
_ONE_STEP = _at_most("new_steps", 1, f"beyond {STEP_GROWTH:g} times the largest before: a rounding moves one step")
_NEAR = (
    _at_most("new_values", 2e-3, f"beyond {GROWTH:g} times those before: float32 sums round some; 5e-4 are usual"),
    _ONE_STEP,
    _TOTAL,
)
LAYER_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "xnnpack": (_at_least("equal_values", 1, "the reference computes as XNNPACK does, to the last bit"),),
    "coreml": (
        _at_most(
            "new_values", 5e-4, f"beyond {GROWTH:g} times those before: the same numbers, summed in another order"
        ),
        _ONE_STEP,
        _TOTAL,
    ),
    "onnxruntime": (
        _at_most(
            "new_values",
            1e-4,
            f"beyond {GROWTH:g} times those before: the reference adds as x86 does; arm64 rounds 8 of a million otherwise",
        ),
        _ONE_STEP,
        _TOTAL,
    ),
}
"""By kernels, what each layer of an int8 artifact may add to the differences of those before; see `drift.py`.

A share of equal values alone cannot be the limit where sums are rounded otherwise: with random weights at width 1.0, a
single other rounding in the middle grows to 9 % of the values of the last layers, more than a wrong weight changes
in the first ones.
"""


def layer_limits(kernels: str) -> tuple[Limit, ...]:
    """The limits of a layer; those of float32 kernels for kernels without a row."""
    return LAYER_LIMITS.get(kernels, _NEAR)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One leg's measured value beside its limit.

    Attributes:
        counts: behind a value that is counted on images; None for what is arithmetic.
        must_show: an open verdict is not enough.
    """

    leg: str
    metric: str
    measured: float
    sense: str
    limit: float
    reason: str
    needs_all: bool = False
    counts: Counts | None = None
    must_show: bool = False

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Check:
        """What `asdict` gave."""
        counts = stored["counts"]
        return cls(**{**stored, "counts": None if counts is None else Counts(**counts)})

    @property
    def verdict(self) -> Verdict:
        if self.counts is not None:
            return verdicts.verdict(self.counts, self.sense, self.limit)
        return "holds" if _is_within(self.measured, self.sense, self.limit) else "missed"

    @property
    def is_met(self) -> bool:
        """Not missed; and where an open verdict is not enough, shown."""
        return self.verdict == "holds" or (self.verdict == "open" and not self.must_show)

    @property
    def images_needed(self) -> int | None:
        """Of an open verdict, about how many images could tell; None where it is not open, or where no number could."""
        if self.counts is None or self.verdict != "open":
            return None
        return verdicts.images_needed(self.counts, self.sense, self.limit)

    @property
    def open_because(self) -> str:
        """Of an open verdict, what it would take, in words."""
        if self.counts is None or self.verdict != "open":
            return ""
        needed = self.images_needed
        could = "more images than anyone has" if needed is None else f"about {needed:,}"
        return f"open: {self.counts.images:,} images cannot tell, {could} could"

    @property
    def did_not_run(self) -> bool:
        """There is nothing to measure: `reason` says why. `measure.broken` makes it."""
        return self.metric == "runs"

    def __str__(self) -> str:
        if self.did_not_run:
            return f"{self.leg}: the artifact did not run: {self.reason}"
        text = f"{self.leg}: {self.metric} is {self.measured:.6g}, allowed {self.sense} {self.limit:g} ({self.reason})"
        found = "" if self.counts is None else f"; {self.counts}"
        return text + found + (f"; {self.open_because}" if self.open_because else "")


def concerns(leg: str, precision: str) -> bool:
    """Whether a check of this leg speaks of artifacts of this precision, which are no better than what they were lowered
    from: the quantized reference is behind int8 alone."""
    return leg != "quantize" or precision == "int8"


def worst(checks: Iterable[Check]) -> Verdict:
    """The verdict on all of them together; missed where there is none, for nothing was shown."""
    found = {check.verdict for check in checks}
    return next((one for one in ("missed", "open", "holds") if one in found), "missed")


def limits_for(
    leg: str,
    precision: str,
    overrides: Iterable[Override],
    evidence: str = "runtime",
    kernels: str = "",
) -> tuple[Limit, ...]:
    """The limits of a leg, with the configuration's own values.

    Args:
        evidence: what ran the artifact.
        kernels: whose arithmetic it has; limits of their own go before those of the evidence.

    Raises:
        ConfigError: there is no row, or a limit is loosened without a reason.
    """
    rows = {row.metric: row for row in _own_limits(leg, precision, evidence, kernels)}
    for override in overrides:
        if (override.leg, override.precision) != (leg, precision):
            continue
        row = rows.get(override.metric)
        if row is None and leg == "lower" and override.metric in COUNTED:
            rows[override.metric] = Limit(
                metric=override.metric,
                sense=COUNTED[override.metric],
                value=override.value,
                reason=override.reason or "the configuration's own",
                needs_all=True,
            )
        elif row is not None:
            if not row.holds(override.value) and not override.reason:
                raise ConfigError(
                    f"limit: {override.metric} {row.sense} {override.value:g} is looser than {row.value:g}; "
                    "give a reason"
                )
            reason = override.reason or f"tightened by the configuration; {row.value:g} by default: {row.reason}"
            rows[override.metric] = replace(row, value=override.value, reason=reason)
    return tuple(rows.values())


def _own_limits(leg: str, precision: str, evidence: str, kernels: str) -> tuple[Limit, ...]:
    table = _tables(leg, precision)
    evidence = kernels if kernels in table else evidence
    if evidence not in table:
        raise ConfigError(
            f"there is no parity limit for {leg}, {precision}, {evidence}; add a row with its reason to LIMITS"
        )
    return table[evidence]


def check_overrides(overrides: Iterable[Override], legs: Iterable[tuple[str, str, str, str]]) -> None:
    """Raise a ConfigError for a limit that would change nothing, or that nothing could miss or meet.

    Args:
        legs: (leg, precision, evidence, kernels) of all that the configuration asks for, as `limits_for` takes them.
    """
    overrides = list(overrides)
    reached = {
        (leg, precision, limit.metric)
        for leg, precision, evidence, kernels in legs
        for limit in limits_for(leg, precision, overrides, evidence, kernels)
    }
    for override in overrides:
        rows = _tables(override.leg, override.precision)
        if not rows:
            known = {p for leg, p in LIMITS if leg == override.leg}
            known |= set(EXECUTOR_LIMITS) if override.leg == "lower" else set()
            raise ConfigError(
                f"limit.precision: {override.leg} has no '{override.precision}'. {nearest(override.precision, known)}"
            )
        metrics = {row.metric for limits in rows.values() for row in limits}
        metrics |= set(COUNTED) if override.leg == "lower" else set()
        if override.metric not in metrics:
            raise ConfigError(
                f"limit.metric: {override.leg}, {override.precision} has no '{override.metric}'. "
                + nearest(override.metric, metrics)
            )
        low, high = _range(override.metric)
        if not low <= override.value <= high:
            raise ConfigError(
                f"limit.value: {override.metric} lies between {low:g} and {high:g}, not at {override.value:g}. "
                "Shares are of 1, not of 100: half a point is 0.005."
            )
        if (override.leg, override.precision, override.metric) not in reached:
            raise ConfigError(
                f"limit: {override.leg} {override.precision} {override.metric} = {override.value:g} would change "
                "nothing: no artifact of this configuration is judged by it. Leave it out, or add the artifact that "
                "is meant to [targets]."
            )


def _range(metric: str) -> tuple[float, float]:
    """The values that a limit of a metric can have and mean something."""
    if metric.endswith("_db"):
        return -1000.0, 1000.0
    return 0.0, 1.0 if metric in _SHARES else 1e9


def _tables(leg: str, precision: str) -> dict[str, tuple[Limit, ...]]:
    """The rows by evidence or kernels."""
    found = {"runtime": LIMITS[leg, precision]} if (leg, precision) in LIMITS else {}
    if leg == "lower" and precision in EXECUTOR_LIMITS:
        found["reference executor"] = EXECUTOR_LIMITS[precision]
    if leg == "lower" and precision in XNNPACK_LIMITS:
        found["xnnpack"] = XNNPACK_LIMITS[precision]
    if leg == "lower" and precision in ONNXRUNTIME_LIMITS:
        found["onnxruntime"] = ONNXRUNTIME_LIMITS[precision]
    return found


def judge(
    leg: str, limits: Iterable[Limit], measured: Mapping[str, Measured], *, must_show: bool = False
) -> list[Check]:
    """A check per limit; a metric that was not measured where its limit asks for it is NaN, which fails.

    Args:
        must_show: an open verdict is not enough.
    """
    found = []
    for limit in limits:
        value = measured.get(limit.metric, float("nan"))
        number, counts = value if isinstance(value, tuple) else (value, None)
        found.append(
            Check(
                leg=leg,
                metric=limit.metric,
                measured=number,
                sense=limit.sense,
                limit=limit.value,
                reason=limit.reason,
                needs_all=limit.needs_all,
                counts=counts,
                must_show=must_show,
            )
        )
    return found


def quantize_metrics(floating: Logits, quantized: Logits, labels: NDArray[np.int64]) -> dict[str, Measured]:
    """What the quantize leg is judged by."""
    return {
        "snr_db": snr_db(floating, quantized),
        "agreement": verdicts.agreement(floating, quantized),
        "accuracy_drop": verdicts.accuracy_drop(floating, quantized, labels),
    }


def snr_db(reference: Logits, candidate: Logits) -> float:
    """Signal to noise in dB; infinite where they are equal."""
    signal = np.square(reference, dtype=np.float64).sum()
    noise = np.square(reference.astype(np.float64) - candidate).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise))


def snr_loss_db(floating: Logits, quantized: Logits, candidate: Logits) -> float:
    """How much noisier against float the candidate is than the quantized reference, in dB."""
    return snr_db(floating, quantized) - snr_db(floating, candidate)


def max_error(reference: Logits, candidate: Logits) -> float:
    """Largest difference over the reference's range."""
    return float(np.abs(reference - candidate).max() / max(float(np.ptp(reference)), 1e-30))


def accuracy(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Share of images whose top class is the label."""
    return float((logits.argmax(1) == labels).mean())


def steps(reference: Logits, candidate: Logits, scale: float) -> NDArray[np.float64]:
    """Differences in whole steps of the int8 logits."""
    apart: NDArray[np.float64] = np.abs(np.rint((reference.astype(np.float64) - candidate) / scale))
    return apart


def logit_metrics(
    reference: Logits, candidate: Logits, floating: Logits, quantized: Logits | None, scale: float
) -> dict[str, float]:
    """Everything that logits alone say of an artifact.

    Args:
        quantized: the int8 reference, for an int8 artifact.
        scale: step of the int8 logits.
    """
    metrics = {"snr_db": snr_db(reference, candidate), "max_error": max_error(reference, candidate)}
    if quantized is None:
        return metrics
    return {
        **metrics,
        **step_metrics(reference, candidate, scale),
        "snr_loss_db": snr_loss_db(floating, quantized, candidate),
    }


def step_metrics(reference: Logits, candidate: Logits, scale: float) -> dict[str, float]:
    """``max_steps``, the largest difference in steps, and ``equal_logits``, the share 0..1 of those without one."""
    apart = steps(reference, candidate, scale)
    return {"max_steps": float(apart.max()), "equal_logits": float((apart == 0).mean())}
