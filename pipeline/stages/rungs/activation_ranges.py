"""Other ranges of activations: by percentile, then by least squared error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...config import Quantize
from ..ladder import Ladder, Measured, Method, State

COST = 0.02


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    estimators = ("percentile", "mse") if wanted.range_estimator == "auto" else ()
    return [(f"ranges by {name}", "auto", _ranged(name)) for name in estimators]


def _ranged(estimator: Any) -> Method:
    def ranged(_: Ladder, best: Measured) -> list[State]:
        return [replace(best.state, settings=replace(best.state.settings, estimator=estimator), note="")]

    return ranged
