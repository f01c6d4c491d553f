"""Mean errors of channels put into the biases."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from ..candidates import Ladder, Measured, Method, State

COST = 0.001
IS_COSTLY = False


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    return [("bias correction", wanted.bias_correction, _bias_corrected)]


def _bias_corrected(ladder: Ladder, best: Measured) -> list[State]:
    return [] if best.state.is_corrected else [replace(ladder.corrected(best.state), note="")]


_bias_corrected.applies = lambda _, best: not best.state.is_corrected  # type: ignore[attr-defined]
_bias_corrected.seconds = lambda ladder, _: 4 * len(ladder.fitted) * ladder.image_seconds  # type: ignore[attr-defined]
