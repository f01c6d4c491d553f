"""Weights rounded by what their inputs are: learnt block by block, or solved for layer by layer."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from .. import blocks, layerwise
from ..candidates import Ladder, Measured, Method, State

COST = 0.1
IS_COSTLY = False


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    is_asked = wanted.reconstruction == "always"
    return [
        ("learned rounding", wanted.learned_rounding, _learnt),
        ("layer-wise reconstruction", wanted.reconstruction, _reconstructed if is_asked else _reconstructed_instead),
    ]


def _learnt(ladder: Ladder, best: Measured) -> list[State]:
    if best.state.is_learnt or (learnt := ladder.learnt(best.state)) is best.state:
        return []
    return _with_means(ladder, learnt)


def _reconstructed(ladder: Ladder, best: Measured) -> list[State]:
    return _with_means(ladder, ladder.reconstructed(best.state))


def _reconstructed_instead(ladder: Ladder, best: Measured) -> list[State]:
    """Where rounding was not learnt, for want of time or because it was worse: behind it this rung gained nothing on any
    network that was tried, and took the most memory of all."""
    return [] if best.state.is_learnt else _reconstructed(ladder, best)


def _with_means(ladder: Ladder, state: State) -> list[State]:
    """With the biases that the method gave, and with biases corrected once more."""
    return [
        replace(state, note="biases fitted with it"),
        replace(ladder.corrected(state), note="biases corrected anew"),
    ]


_learnt.applies = lambda _, best: not best.state.is_learnt  # type: ignore[attr-defined]
_reconstructed_instead.applies = _learnt.applies  # type: ignore[attr-defined]
_learnt.seconds = lambda ladder, best: blocks.seconds(ladder.simulation(best.state), ladder.image_seconds)  # type: ignore[attr-defined]
for _method in (_reconstructed, _reconstructed_instead):
    _method.seconds = lambda ladder, best: layerwise.seconds(  # type: ignore[attr-defined]
        ladder.simulation(best.state), len(ladder.fitted), ladder.image_seconds
    )
