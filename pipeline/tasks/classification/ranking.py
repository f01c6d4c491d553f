"""From logits to categories, as the apps' kits do it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import Truth, Values
from ...program import Output


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """The top class of each image ``(N,)`` int64, and its probability ``(N,)`` in 0..1."""

    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, stored: NDArray[np.float64]) -> Answers:
        """What `answers` gave."""
        return cls(classes=stored[0].astype(np.int64), probabilities=stored[1])


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


def answered(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """`Answers` in logits ``(N, classes)`` as one array ``(2, N)``; of equal ones the first class."""
    scores = logits.astype(np.float64)
    scores -= scores.max(1, keepdims=True)  # the largest is 0, and its power 1
    return np.array([scores.argmax(1), 1 / np.exp(scores).sum(1)])


def answers(models: Sequence[Values], truth: Truth, config: Config, layout: Sequence[Output]) -> NDArray[np.float64]:
    """Of each model what `answered` gives, ``(models, 2, N)``."""
    return np.array([answered(logits) for logits in models])
