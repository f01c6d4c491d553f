"""Counts over seeds as `claims.py` writes them: each with its exact interval, pairs seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from claims_training import Result
from numpy.typing import NDArray
from twinkeel.pipeline.parity import verdict

LEVEL = 0.95
"""Of all intervals; those of counts have it from `verdict`."""


def counted(results: Sequence[Result], way: str) -> dict[str, Any]:
    """Right answers of each seed, with the Clopper-Pearson interval of each; mean, least and most in percent."""
    right = [int(one.right[way].sum()) for one in results]
    images = len(results[0].right[way])
    found: dict[str, Any] = {
        "right": right,
        "of": images,
        "intervals": [[round(bound, 4) for bound in verdict.share_interval(images, count)] for count in right],
        **_spread([100 * count / images for count in right], 2),
    }
    decibels = [one.snr_db[way] for one in results if way in one.snr_db]
    return found | ({"snr_db": _spread(decibels, 1)} if decibels else {})


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    return {
        "mean": round(float(np.mean(values)), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
    }


def compared(better: Sequence[Result], other: Sequence[Result], way: str, of: str) -> dict[str, Any]:
    """How much more one network has of something than another, seed by seed on the same images.

    ``interval`` is Student's, of the mean over seeds, which new weights and other digits would move; ``counts`` has the exact interval
    of each seed's images alone, where it is accuracy that is compared.

    Args:
        of: "accuracy", in points; "kept", points of accuracy in this way less those in float; or "snr_db".
    """
    pairs = list(zip(better, other, strict=True))
    if of == "accuracy":
        counts = [_paired(one.right[way], another.right[way]) for one, another in pairs]
        images = len(better[0].right[way])
        return {**_compared([100 * (c["won"] - c["lost"]) / images for c in counts]), "counts": counts}
    if of == "kept":
        return _compared([_kept(one, way) - _kept(another, way) for one, another in pairs])
    return _compared([one.snr_db[way] - another.snr_db[way] for one, another in pairs])


def _compared(values: Sequence[float]) -> dict[str, Any]:
    low, high = student(values)
    return {
        **_spread(values, 2),
        "interval": [round(low, 2), round(high, 2)],
        "seeds_in_favour": sum(value > 0 for value in values),
        "says": "shown" if low > 0 else "the opposite" if high < 0 else "not shown",
        "by_seed": [round(value, 2) for value in values],
    }


def _paired(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, Any]:
    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    low, high = verdict.paired_interval(len(one), won, lost)
    return {"won": won, "lost": lost, "interval": [round(100 * low, 2), round(100 * high, 2)]}


def _kept(one: Result, way: str) -> float:
    return 100 * float(one.right[way].mean() - one.right["float"].mean())


def student(values: Sequence[float]) -> tuple[float, float]:
    """Interval of the mean of values that scatter normally; anything from -100 to 100 where there is but one."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return -100.0, 100.0
    half = stdtrit(len(values) - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)
