"""Accelerators: by what limits outputs are judged that one of them computed, and whether it was the one that was asked for.

A GPU computes in float16 where a processor computes in integers, so neither is judged by the other's limits. A runtime that
finds an accelerator wanting may give the work to the processor and say nothing; what it says is therefore held against what it
computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .limits import Check, Limit
from .metrics import Values

Unit = Literal["CPU", "GPU", "NPU"]
ASKED: Mapping[str, frozenset[Unit]] = {
    "CPU": frozenset({"CPU"}),
    "GPU": frozenset({"GPU"}),
    "NPU": frozenset({"NPU"}),
    "CPU_ONLY": frozenset({"CPU"}),
    "CPU_AND_GPU": frozenset({"CPU", "GPU"}),
    "CPU_AND_NE": frozenset({"CPU", "NPU"}),
    "ALL": frozenset({"CPU", "GPU", "NPU"}),
}
"""What may run where it was asked for: by Android's accelerators, and by Core ML's compute units, whose Neural Engine is an NPU."""
DEMANDED: Mapping[str, Unit] = {"GPU": "GPU", "NPU": "NPU", "CPU_AND_GPU": "GPU", "CPU_AND_NE": "NPU"}
"""What has to take part in it; the others leave the choice to the system, or want the processor."""

_UNMEASURED = "chosen from the rounding of its arithmetic; not yet measured on a device, tighten it when it is"
_HALF_REASON = f"float16: 55 dB with sums in float32 and 48 with sums in float16, emulated on digits; {_UNMEASURED}"
_HALF = (Limit(metric="snr_db", sense=">=", value=30, reason=_HALF_REASON),)
_QUANTIZED = (Limit(metric="snr_loss_db", sense="<=", value=3, reason=f"rounded otherwise: {_UNMEASURED}"),)
_OF_HALF: Mapping[str, tuple[Limit, ...]] = {
    "fp32": _HALF, "fp16": _HALF, "w8": _HALF, "w4": _HALF, "int8": _QUANTIZED,
}  # fmt: skip
_CORE_ML: Mapping[str, tuple[Limit, ...]] = {  # and of Core AI, which computes on the same processors in the same types
    **_OF_HALF,
    "fp32": (Limit(metric="snr_db", sense=">=", value=50, reason=f"float32: {_UNMEASURED}"),),
}
SYSTEMS: Mapping[str, str] = {"coreai": "coreai of the system"}
"""Kernels that a device has others of than those that ran where the artifact was built, and what these are called in
`DEVICE_LIMITS`. Core AI's package for Python brings kernels of its own, for processors; those of iOS are not looked into."""
DEVICE_LIMITS: Mapping[tuple[str, Unit], Mapping[str, tuple[Limit, ...]]] = {
    ("coreml", "CPU"): _CORE_ML,
    ("coreml", "GPU"): _CORE_ML,
    ("coreml", "NPU"): _CORE_ML,
    (SYSTEMS["coreai"], "CPU"): _CORE_ML,
    (SYSTEMS["coreai"], "GPU"): _CORE_ML,
    (SYSTEMS["coreai"], "NPU"): _CORE_ML,
    ("", "GPU"): _OF_HALF,
    ("", "NPU"): _OF_HALF,
}
"""By kernels (none: those of any other) and what ran, then by precision. A processor that is not here computes as it did where the
artifact was built, and is judged by the limits that stand in the manifest."""

OUTPUT_METRICS: Mapping[str, str] = {
    "equal_logits": ">=", "float_snr_db": ">=", "max_error": "<=", "max_steps": "<=", "snr_db": ">=", "snr_loss_db": "<=",
}  # fmt: skip
"""What can be measured of outputs alone, and how each is bounded; the kits' own tests measure the same."""
_OF_STEPS = ("equal_logits", "max_steps", "snr_loss_db")
"""Those that are measured against the int8 reference, of int8 alone."""

FEWEST_VALUES = 20
"""Fewer float values may be equal to the last bit by chance."""

_FLOATS = ("fp32", "fp16", "w8", "w4")


def deciding(ran: Collection[str]) -> Unit:
    """By whose limits units are judged that computed together: the NPU's before the GPU's. Where none is known, the processor's."""
    return "NPU" if "NPU" in ran else "GPU" if "GPU" in ran else "CPU"


def device_limits(kernels: str, precision: str, ran: Collection[str]) -> tuple[Limit, ...] | None:
    """The limits of what ran; None for a processor that is judged by the manifest's, and for a precision that has none there.

    Args:
        ran: units; none where that is not known.
    """
    unit = deciding(ran)
    table = DEVICE_LIMITS.get((kernels, unit)) or DEVICE_LIMITS.get(("", unit))
    return None if table is None else table.get(precision)


def device_metrics(precision: str) -> tuple[str, ...]:
    """What a configuration may limit of outputs on a device: all that kits measure of a precision."""
    return tuple(
        name for name in OUTPUT_METRICS if name != "float_snr_db" and (precision == "int8" or name not in _OF_STEPS)
    )


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a device says of a run.

    Attributes:
        asked: a key of `ASKED`.
        ran: the units that computed; empty where the accelerator was refused and nothing ran, None where the system does not
            tell.
        fell_back: whether the runtime says that all or a part went to the processor instead.
        reason: why, in its words.
    """

    asked: str
    ran: tuple[str, ...] | None
    fell_back: bool = False
    reason: str = ""

    @property
    def is_refused(self) -> bool:
        return self.ran == ()

    @property
    def wrong(self) -> tuple[str, ...]:
        """What ran and neither was asked for nor is what one falls back to."""
        return tuple(unit for unit in self.ran or () if unit not in ASKED[self.asked] and unit != "CPU")

    @property
    def is_fallback(self) -> bool:
        """The processor computed all of it, though something else had to take part."""
        return self.asked in DEMANDED and self.ran == ("CPU",)

    @property
    def is_partial(self) -> bool:
        """The processor computed a part of it, and was not asked to."""
        return "CPU" in (self.ran or ()) and "CPU" not in ASKED[self.asked] and not self.is_fallback

    def __str__(self) -> str:
        """``GPU``; ``GPU, fell back to CPU``; ``GPU, in part on CPU``; ``NPU, refused``; ``ALL on CPU and NPU``."""
        if self.is_refused:
            return f"{self.asked}, refused"
        if self.ran is None:
            return f"{self.asked}, it does not say on what"
        if self.is_fallback:
            return f"{self.asked}, fell back to CPU"
        if self.is_partial:
            return f"{self.asked}, in part on CPU"
        return (
            self.asked
            if ASKED[self.asked] == set(self.ran) and len(self.ran) == 1
            else f"{self.asked} on {self._units}"
        )

    @property
    def _units(self) -> str:
        return " and ".join(self.ran or ())

    @property
    def told(self) -> str:
        """The same in a sentence, with the reason where there is one."""
        if self.is_refused:
            return f"{self.asked} was asked for and refused: {self.reason}"
        what = "the system does not say what ran" if self.ran is None else f"{self._units} ran"
        return f"{self.asked} was asked for, {what}" + (f": {self.reason}" if self.reason else "")


def unit_checks(leg: str, run: Ran, precision: str, found: Values | None, on_processor: Values | None) -> list[Check]:
    """Whether what was asked for is what ran, and nothing was passed to the processor without a word.

    Args:
        found: outputs ``(N, width)``; None where nothing ran.
        on_processor: the same of the same device's processor; None where it was not asked.
    """
    untold = _untold(run, precision, found, on_processor)
    return [
        Check(leg=leg, metric="wrong_units", measured=len(run.wrong), sense="<=", limit=0, reason=run.told),
        Check(
            leg=leg,
            metric="silent_fallbacks",
            measured=int(bool(untold)),
            sense="<=",
            limit=0,
            reason=untold or run.told,
        ),
    ]


def _untold(run: Ran, precision: str, found: Values | None, on_processor: Values | None) -> str:
    """What a run keeps quiet of its falling back, in words; empty where it does not."""
    if run.is_refused:
        return "" if run.reason else f"{run.asked} was asked for, nothing ran, and it does not say why"
    if run.is_fallback or run.is_partial:
        if not run.fell_back:
            return f"{run.told}, and it does not say that it fell back"
        return "" if run.reason else f"{run.told}, and it does not say why it fell back"
    if run.ran is None and run.asked in ("CPU", "GPU", "NPU"):
        return f"{run.asked} was asked for, and it does not say what ran"
    claimed = (
        set(run.ran) - {"CPU"} if run.ran is not None else {DEMANDED[run.asked]} if run.asked in DEMANDED else set()
    )
    if claimed and is_same(precision, found, on_processor):
        return f"{run.told}, and the outputs are the CPU's to the last bit: {' and '.join(sorted(claimed))} computed nothing"
    return ""


def is_same(precision: str, found: Values | None, other: Values | None) -> bool:
    """Whether two runs in floats are equal to the last bit, which sums of two units are not. Integers may well be."""
    if found is None or other is None or precision not in _FLOATS or np.unique(found).size < FEWEST_VALUES:
        return False
    return bool(np.isfinite(found).all()) and np.array_equal(found, other)


def finite_checks(leg: str, run: Ran, found: Values, on_processor: Values | None) -> list[Check]:
    """A check of outputs that are not finite, with what that mostly is; none where all are."""
    count = int(np.size(found) - np.isfinite(found).sum())
    if not count:
        return []
    reason = f"{count} of {np.size(found)} outputs are infinite or not a number"
    is_alone = on_processor is not None and bool(np.isfinite(on_processor).all())
    if is_alone and set(run.ran or ASKED[run.asked]) & {"GPU", "NPU"}:
        reason += (
            ", and none of the CPU's: float16 ends at 65504, and a value inside went beyond it. Ask this accelerator for "
            "float32, or leave it out for this model"
        )
    return [Check(leg=leg, metric="not_finite", measured=count, sense="<=", limit=0, reason=reason)]
