"""From logits to categories, as the apps' kits do it too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities of the classes ``(classes,)``: in float64, the largest score subtracted first."""
    powers: NDArray[np.float64] = np.exp(scores.astype(np.float64) - scores.max())
    powers /= powers.sum()
    return powers


def top(scores: NDArray[np.floating[Any]], count: int) -> list[tuple[int, float]]:
    """(class, probability) of the `count` highest logits ``(classes,)``, from the highest on; equal ones by class."""
    probabilities = softmax(scores)
    order = np.argsort(-scores.astype(np.float64), kind="stable")[:count]
    return [(int(index), float(probabilities[index])) for index in order]
