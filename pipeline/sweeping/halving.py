"""Which models are worth a whole training, told by short ones: successive halving (Jamieson and Talwalkar, AISTATS 2016), with thirds.

A short training is one of its own, with its own one-cycle schedule. Models are compared by the front of score, bytes of the weights and
pixels of the input: by the score alone the largest would win, and none that is small and fast would be left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .pareto import front
from .planning import Trial

_SHARES = 9, 3
"""A ninth of the epochs, then a third."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial after a short training.

    Attributes:
        number: of the trial.
        weights: key of the training; trials that share it are one candidate.
        score: of the float model on the held-out images.
        bytes: of the weights.
        pixels: of the input.
    """

    number: int
    weights: str
    score: float
    bytes: int
    pixels: int


def epochs_of(trials: Sequence[Trial], epochs: Callable[[Trial], int]) -> Iterator[Mapping[int, int]]:
    """By trial, for how many epochs it is trained, rung by rung; nothing where there is nothing to be saved."""
    whole = {trial.number: epochs(trial) for trial in trials}
    if len(trials) < 3:
        return
    before: Mapping[int, int] = {}
    for share in _SHARES:
        short = {number: max(1, round(count / share)) for number, count in whole.items()}
        if short != before and all(short[number] < count for number, count in whole.items()):
            yield short
        before = short


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Front by front; within one the better score first."""
    left, found = list(candidates), []
    while left:
        is_best = dict(zip(left, front([(-one.score, one.bytes, one.pixels) for one in left]), strict=True))
        found += sorted((one for one in left if is_best[one]), key=lambda one: (-one.score, one.bytes, one.number))
        left = [one for one in left if not is_best[one]]
    return found
