"""Other ranges of activations: by percentile, then by least squared error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...config import Quantize
from ..candidates import Ladder, Measured, Method, State

COST = 0.02
IS_COSTLY = False


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    estimators = ("percentile", "mse") if wanted.range_estimator == "auto" else ()
    return [(f"ranges by {name}", "auto", _ranged(name)) for name in estimators]


def _ranged(estimator: Any) -> Method:
    def ranged(ladder: Ladder, best: Measured) -> list[State]:
        if best.state.is_learnt:
            return []
        changed = replace(best.state.settings, estimator=estimator, activation_ranges=None)
        state = replace(best.state, settings=changed, note="")
        return [ladder.corrected(state) if state.is_corrected else state]

    def seconds(ladder: Ladder, best: Measured) -> float:
        passes = 4 * len(ladder.fitted) * ladder.image_seconds
        return passes + (ladder.search_seconds(best.state, estimator) if not best.state.is_learnt else 0.0)

    ranged.seconds = seconds  # type: ignore[attr-defined]
    return ranged
