"""Channel ranges made even: exactly as far as it is proven, then as far as calibration shows it to be harmless."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...config import Quantize
from ..candidates import Ladder, Measured, Method, State

COST = 0.01
IS_COSTLY = False


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    when = "done" if wanted.equalize == "always" else wanted.equalize
    further = "never" if wanted.equalize == "never" else "auto"
    further_name = "equalization by measured bounds"
    return [
        ("equalization", when, _equalized("proven", "equalization")),
        (further_name, further, _equalized("measured", further_name)),
    ]


def _equalized(bounds: Any, name: str) -> Method:
    def equalized(ladder: Ladder, best: Measured) -> list[State]:
        plain = replace(best.state, settings=replace(best.state.settings, activation_ranges=None, weight_scales={}))
        found = ladder.equalized(replace(plain, is_learnt=False, unlearnt=None), bounds, name)
        return [] if found.floating is best.state.floating else [found]

    equalized.seconds = lambda ladder, _: 9 * len(ladder.fitted) * ladder.image_seconds  # type: ignore[attr-defined]
    return equalized
