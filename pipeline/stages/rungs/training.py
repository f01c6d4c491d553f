"""Quantization-aware training on the training images, and what is right of them is not read."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from ..ladder import Ladder, Measured, Method, State

COST = 1
IS_COSTLY = True


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    return [("quantization-aware training", wanted.qat, _trained)]


def _trained(ladder: Ladder, best: Measured) -> list[State]:
    from .. import qat

    if ladder.contract.tensors:
        ladder.say("quantize: quantization-aware training is for models of one image alone; left out")
        return []
    state = best.state
    # weights move, so their scales follow them again
    changed = replace(state.settings, weight_scales={}, activation_ranges=None)
    tuned, found = qat.train_quantized(
        state.tuned,
        ladder.folded,
        ladder.data.train,
        ladder.config,
        changed,
        lambda number, count, loss: ladder.say(
            f"quantization-aware training: epoch {number}/{count}  loss {loss:.4f} of the outputs' variance",
            (number, count),
        ),
    )
    after = replace(state, floating=tuned, tuned=tuned, settings=changed, note="")
    learnt = replace(changed, activation_ranges=found)
    return [replace(after, settings=learnt, note="ranges as trained"), replace(after, note="ranges calibrated anew")]


def _seconds(ladder: Ladder, _: Measured) -> float:
    """Forward and back with quantizers, and forward without, of every image of every step."""
    from .. import qat

    return 5 * qat.images(ladder.config, len(ladder.data.train.images)) * ladder.image_seconds


_trained.seconds = _seconds  # type: ignore[attr-defined]
