"""Latency of two builds beside each other: on one machine, in turn, so that its noise meets both alike.

A finished folder holds no times: those of two machines, or of two days, say nothing of two files.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..data import Images, arrays
from ..program import Runtime

LOADS = 11
"""How often both files are loaded anew: where one comes to lie in memory makes the same file some percent faster or slower for as
long as it lies there, and no number of runs shows that."""
ROUNDS = 15
"""Runs of each while it is loaded."""
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The old and the new file of an artifact, with an image for each.

    Attributes:
        runtime: name of the module that runs both.
    """

    name: str
    runtime: str
    old: Path
    new: Path
    old_image: Images
    new_image: Images


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Medians in milliseconds an image, and the median of their ratio, new to old, with the bounds of a 95 % interval."""

    old_ms: float
    new_ms: float
    ratio: float
    low: float
    high: float


def measure(pairs: Sequence[Pair], loads: int = LOADS, rounds: int = ROUNDS) -> dict[str, Timing]:
    """Of each pair, by its name.

    Raises:
        Exception: whatever a runtime raises on an artifact that it does not take.
    """
    return {pair.name: of(np.array([_loaded(pair, rounds, n) for n in range(loads)])) for pair in pairs}


def _loaded(pair: Pair, rounds: int, number: int) -> tuple[float, float]:
    """Median milliseconds of the old and of the new file, each loaded once, the old one first where the number is even."""
    runtime = cast("Runtime", importlib.import_module(pair.runtime))
    order = (0, 1) if number % 2 == 0 else (1, 0)
    runs = {which: runtime.load((pair.old, pair.new)[which], runtime.UNITS[0]) for which in order}
    given = [arrays(pair.old_image), arrays(pair.new_image)]
    taken = np.zeros((rounds + 3, 2))
    for n in range(len(taken)):
        for which in order if n % 2 else order[::-1]:
            start = time.perf_counter()
            runs[which](*given[which])
            taken[n, which] = time.perf_counter() - start
    old, new = 1e3 * np.median(taken[3:], axis=0)  # the first runs fill caches
    return float(old), float(new)


def of(taken: NDArray[np.float64]) -> Timing:
    """Of milliseconds ``(loads, 2)``, old and new. The interval is that of the sign test: of the sorted ratios, those between which
    the median lies in 95 % of all draws, whatever the noise is like."""
    from scipy.stats import binom

    ratios = np.sort(taken[:, 1] / taken[:, 0])
    out = max(int(binom.ppf(_TAIL, len(ratios), 0.5)), 1)
    return Timing(
        old_ms=float(np.median(taken[:, 0])),
        new_ms=float(np.median(taken[:, 1])),
        ratio=float(np.median(ratios)),
        low=float(ratios[out - 1]),
        high=float(ratios[-out]),
    )
