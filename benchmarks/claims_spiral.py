"""What is left of a flat spiral behind a random matrix and ReLU, by the number of channels that it was embedded in.

As in Sandler et al., 2018, figure 1: points ``x`` of the plane become ``ReLU(T x)`` with a random ``T`` of ``(channels, 2)``, and are
brought back by the pseudoinverse of ``T``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTHS = (2, 3, 5, 15, 30)
POINTS, DRAWS = 400, 500
"""Points of the spiral; random matrices for each width, the first of which is drawn."""

Points = NDArray[np.float64]


def spiral() -> Points:
    """``(POINTS, 2)`` within -1..1: two turns around the middle, evenly spaced in angle."""
    turn = np.linspace(0.1, 1, POINTS)
    angle = 4 * np.pi * turn
    return np.stack([turn * np.cos(angle), turn * np.sin(angle)], 1)


def matrix(width: int, draw: int) -> Points:
    """Of standard normal values, ``(width, 2)``."""
    return np.random.default_rng([width, draw]).standard_normal((width, 2))


def embedded(points: Points, into: Points) -> Points:
    """``ReLU(T x)``, a row a point."""
    return np.maximum(points @ into.T, 0)


def brought_back(values: Points, into: Points) -> Points:
    """By the pseudoinverse, as the figure does."""
    return values @ np.linalg.pinv(into).T


def lost(values: Points) -> float:
    """Share of the points that cannot be told from all their neighbours: with fewer than two channels above 0, a direction in the plane,
    or all of it, has no effect."""
    return float(((values > 0).sum(1) < 2).mean())


def explained(points: Points, values: Points) -> float:
    """Share of the points' variance that the best linear map with a constant gives back: what a following 1x1 convolution could."""
    given = np.hstack([values, np.ones((len(values), 1))])
    rest = points - given @ np.linalg.lstsq(given, points, rcond=None)[0]
    return float(1 - rest.var(0).sum() / points.var(0).sum())


def measured() -> list[dict[str, Any]]:
    """For each width, over all matrices, mean and quartiles of `lost` and `explained`, and how often nothing is lost."""
    points = spiral()
    rows = []
    for width in WIDTHS:
        values = [embedded(points, matrix(width, draw)) for draw in range(DRAWS)]
        shares = np.array([lost(one) for one in values])
        kept = np.array([explained(points, one) for one in values])
        rows.append(
            {
                "width": width,
                "matrices": DRAWS,
                "lost_mean": round(float(shares.mean()), 4),
                "lost_quartiles": [round(float(q), 4) for q in np.percentile(shares, (25, 50, 75))],
                "nothing_lost": int((shares == 0).sum()),
                "explained_mean": round(float(kept.mean()), 4),
                "explained_quartiles": [round(float(q), 4) for q in np.percentile(kept, (25, 50, 75))],
            }
        )
    return rows


def described() -> dict[str, Any]:
    """What `claims.json` has of it."""
    return {
        "title": "ReLU keeps a flat shape whole only where it lies in many more channels than it needs",
        "source": "Sandler et al., MobileNetV2, 2018, section 3.2 and figure 1",
        "rows": measured(),
    }
