"""The limits of what is arithmetic, each with its reason, and a check of a value against one.

What is counted on images is limited by the tasks; `allowed.py` puts both and the configuration's own together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import verdict as verdicts
from .verdict import Counts, Verdict

Measured = float | tuple[float, Counts]
"""A value, and where it is counted on images the counts behind it."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """An allowed bound: `metric` must be at least (``>=``) or at most (``<=``) `value`.

    Attributes:
        needs_all: it is a statement on all images; the few golden ones of a replay cannot repeat it.
        is_counted: the metric is counted on images, and its verdict can be open.
    """

    metric: str
    sense: str
    value: float
    reason: str
    needs_all: bool = False
    is_counted: bool = False

    @classmethod
    def counted(cls, metric: str, sense: str, value: float, reason: str) -> Limit:
        """Of a metric that is counted on images, on all of them."""
        return cls(metric=metric, sense=sense, value=value, reason=reason, needs_all=True, is_counted=True)

    def holds(self, measured: float) -> bool:
        return _is_within(measured, self.sense, self.value)

    @property
    def fewest_images(self) -> int | None:
        """How many images can show at best that it holds: 0 for what is not counted on images, None for no number."""
        if not self.is_counted:
            return 0
        return verdicts.fewest_images(self.sense, self.value)


def _is_within(measured: float, sense: str, bound: float) -> bool:
    # written so that NaN fails
    return measured >= bound if sense == ">=" else measured <= bound


def _at_least(metric: str, value: float, reason: str) -> Limit:
    return Limit(metric=metric, sense=">=", value=value, reason=reason)


def _at_most(metric: str, value: float, reason: str, needs_all: bool = False) -> Limit:
    return Limit(metric=metric, sense="<=", value=value, reason=reason, needs_all=needs_all)


WEIGHTS_ALONE = ("w8", "w4")
"""Precisions whose weights alone are in fewer bits."""

# rows that several artifacts share
_HALF_NOISE = _at_least("snr_db", 40, "rounding of every value to float16; 60 dB are usual")
_COMPRESSED = _at_most("exact_error", 1e-5, "against torch with the same decompressed weights, nothing rounded after")

LIMITS: Mapping[tuple[str, str], tuple[Limit, ...]] = {
    ("fold", "float"): (_at_least("snr_db", 90, "folding is exact up to float32 rounding; 120 dB and more are usual"),),
    ("quantize", "int8"): (_at_least("snr_db", 15, "below it the answers of MobileNet-like networks collapse"),),
    ("lower", "fp32"): (
        _at_least("snr_db", 90, "the same float32 arithmetic in another order; 100 dB and more are usual"),
        _at_most("max_error", 1e-4, "of the reference's range; one wrong weight shows"),
    ),
    ("lower", "fp16"): (_at_most("max_error", 5e-4, "against the same float16-rounded weights"),),
    ("lower", "int8"): (
        _at_least(
            "snr_db", 30, "the same integers but for what sums of floats inside put on the other side of a rounding"
        ),
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

COREAI_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "fp32": (
        _at_most("max_error", 1e-5, "of the reference's range, which computes as Core AI does; equal is usual"),
        _at_least("float_snr_db", 90, "against torch, whose sums have another order; 120 dB are usual"),
    ),
    "fp16": (
        _at_most("max_error", 1e-5, "of the reference's range, which rounds as Core AI does; equal is usual"),
        _at_least("float_snr_db", 40, "against torch in float32: rounding of every value to float16; 60 dB are usual"),
    ),
    **{
        precision: (_at_most("max_error", 1e-5, "of the reference's range, with the same weights; equal is usual"),)
        for precision in WEIGHTS_ALONE
    },
    "int8": (
        _at_least("equal_logits", 0.999, "the reference computes as Core AI does on a processor; all are usual"),
        _at_most("max_steps", 1, "the same"),
        _at_most("snr_loss_db", 1, "a runtime must not be noisier against float than the reference itself"),
    ),
}
"""The same of artifacts that Core AI's kernels for processors compute; see `coreai.py` in `program`."""

COREAI_KNOWN = frozenset(
    (
        *("cast", "concat", "conv2d", "max_pool_2d", "pad", "reduce_mean", "relu", "reshape", "slice", "transpose"),
        *("blockwise_shift_scale", "lut_to_dense"),  # of weights, which are float16 before
        *(f"decomposable.broadcasting_{name}" for name in ("add", "maximum", "minimum", "sub")),
    )
)
"""Core AI's operations whose rounding to float16 is known. Products are none: it puts those with constants into an order of its own."""
COREAI_HALF = "coreai, rounded otherwise"
_LAST_BITS = _at_most("max_error", 2e-3, "of the reference's range: last bits of float16; 7e-4 are usual")
COREAI_HALF_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "fp16": (_LAST_BITS, COREAI_LIMITS["fp16"][1]),
    **dict.fromkeys(WEIGHTS_ALONE, (_LAST_BITS,)),
}
"""The same of those in float16 with operations whose rounding is not known to the last bit."""

NAMED = _at_most("label_errors", 0, "the labels in the package are those of the outputs, in their order")
"""Of packages that carry labels, whatever the precision; see `Meaning.decoding`."""

EXECUTOR_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "fp32": (
        _at_least("snr_db", 90, "the same float32 arithmetic in another order; 130 dB are usual"),
        _at_most("max_error", 1e-5, "of the reference's range; one weight wrong by 1 % shows"),
    ),
    "fp16": (
        _at_most("exact_error", 1e-5, "against torch with the same float16 weights and biases, nothing rounded after"),
        _HALF_NOISE,
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
    ),
    "w8": (_COMPRESSED, _HALF_NOISE),
    "w4": (_COMPRESSED, _HALF_NOISE),
}
"""The lower leg of artifacts that the reference executor runs: it can leave rounding out, so a single weight shows."""


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
    "coreai": (_at_least("equal_values", 1, "the reference computes as Core AI does, to the last bit"),),
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


HALF_DB = 3.0
"""Below the noise of the quantization: half of it."""


def beside_noise(rows: Sequence[Limit], own_db: float) -> tuple[Limit, ...]:
    """The limits of an int8 artifact with sums of floats inside, for a reference that is `own_db` from float.

    What sums put on the other side of a rounding grows through the layers behind it to another draw of the noise that is there already,
    as large as that itself where they are many: 28.3 dB are measured where the quantization has 22.8 and float layers are the first of
    EfficientNet-Lite0. That such a draw is no louder than the reference's own is the limit of the loss.
    """
    usual = LIMITS["lower", "int8"][0]
    allowed = own_db + HALF_DB
    if not allowed < usual.value:
        return tuple(rows)
    reason = f"half of the quantization's own noise, {own_db:.1f} dB, for it grows from flipped roundings as much; {usual.value:g} dB where that is less noisy"
    return tuple(replace(row, value=allowed, reason=reason) if row == usual else row for row in rows)


def floats_in(kernels: str, in_float: Sequence[str]) -> tuple[str, ...]:
    """Of what is in float between integers, that of a runtime with these kernels: what ends in others' name is theirs. Core
    ML's packages are compared in exact arithmetic."""
    if kernels == "coreml":
        return ()
    # what onnxruntime resizes and spreads in float, Core AI does too
    own = "onnxruntime" if kernels == "coreai" else kernels
    return tuple(name for name in in_float if " in " not in name or name.endswith(f" in {own}"))


def arithmetic(kernels: str, in_float: Sequence[str]) -> str:
    """Whose arithmetic an int8 artifact has to the last bit: its kernels', or nobody's where sums of floats are inside.

    Args:
        in_float: operations whose order of sums is each runtime's own, as `integer.in_float` gives them.
    """
    return "" if floats_in(kernels, in_float) else kernels


def layer_limits(kernels: str) -> tuple[Limit, ...]:
    """The limits of a layer; those of float32 kernels for kernels without a row."""
    return LAYER_LIMITS.get(kernels, _NEAR)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One leg's measured value beside its limit.

    Attributes:
        counts: behind a value that is counted on images; None for what is arithmetic.
        must_show: an open verdict is not enough.
        images_needed: of an open verdict, about how many images could tell; None where it is not open, or where no number could.
            `judge` seeks it once, and it is stored with the rest: a build with nothing to do only prints it.
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
    images_needed: int | None = None

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
    def open_because(self) -> str:
        """Of an open verdict, what it would take, in words."""
        if self.counts is None or self.verdict != "open":
            return ""
        if not self.counts.images:
            return "open: of none nothing can be told"
        needed = self.images_needed
        could = "more images than anyone has" if needed is None else f"about {needed:,}"
        return f"open: {self.counts.draws or self.counts.images:,} images cannot tell, {could} could"

    @property
    def against(self) -> str:
        """Of an SNR of an artifact, what it is measured against, which is not the float model; empty of all else."""
        return "against its reference" if self.leg == "lower" and self.metric == "snr_db" else ""

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
                images_needed=_images_needed(counts, limit),
            )
        )
    return found


def _images_needed(counts: Counts | None, limit: Limit) -> int | None:
    if counts is None or verdicts.verdict(counts, limit.sense, limit.value) != "open":
        return None
    return verdicts.images_needed(counts, limit.sense, limit.value)
