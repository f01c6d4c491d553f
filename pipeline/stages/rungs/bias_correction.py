"""Mean errors of channels put into the biases."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from .. import layerwise
from ..ladder import Ladder, Measured, Method, State

COST = 0.01


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    return [("bias correction", wanted.bias_correction, _bias_corrected)]


def _bias_corrected(ladder: Ladder, best: Measured) -> list[State]:
    state = best.state
    tuned = layerwise.correct_biases(state.tuned, state.floating, best.quantized.module, ladder.calibration)
    return [replace(state, tuned=tuned, note="")]
