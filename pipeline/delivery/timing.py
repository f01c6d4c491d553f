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

ROUNDS = 61
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


def measure(pairs: Sequence[Pair], rounds: int = ROUNDS) -> dict[str, Timing]:
    """Of each pair, by its name.

    Raises:
        Exception: whatever a runtime raises on an artifact that it does not take.
    """
    return {pair.name: _measure(pair, rounds) for pair in pairs}


def _measure(pair: Pair, rounds: int) -> Timing:
    runtime = cast("Runtime", importlib.import_module(pair.runtime))
    runs = [runtime.load(path, runtime.UNITS[0]) for path in (pair.old, pair.new)]
    given = [arrays(pair.old_image), arrays(pair.new_image)]
    for run, inputs in zip(runs, given, strict=True):  # the first runs fill caches
        for _ in range(3):
            run(*inputs)
    taken = np.zeros((rounds, 2))
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            runs[which](*given[which])
            taken[number, which] = time.perf_counter() - start
    return of(1e3 * taken)


def of(taken: NDArray[np.float64]) -> Timing:
    """Of milliseconds ``(rounds, 2)``, old and new. The interval is that of the sign test: of the sorted ratios, those between which
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
