"""Weights solved for and rounded, layer by layer."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from .. import layerwise
from ..ladder import Ladder, Measured, Method, State

COST = 0.1


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    return [("layer-wise reconstruction", wanted.reconstruction, _reconstructed)]


def _reconstructed(ladder: Ladder, best: Measured) -> list[State]:
    state = best.state
    found = layerwise.reconstruct(state.tuned, state.floating, best.quantized.module, ladder.calibration)
    changed = replace(state.settings, weight_scales=found.weight_scales)
    return [replace(state, tuned=found.module, settings=changed, note="")]
