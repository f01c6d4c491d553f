"""Quantization-aware training on the training images, and what is right of them is not read."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize, When
from ..candidates import Ladder, Measured, Method, State

COST = 1
IS_COSTLY = True


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    again: When = "never" if "never" in (wanted.qat, wanted.float_layers) else "auto"
    return [
        ("quantization-aware training", wanted.qat, _trained),
        ("quantization-aware training beside layers in float", again, _trained_beside),
    ]


def _trained(ladder: Ladder, best: Measured) -> list[State]:
    return _trained_from(ladder, best.state)


def _trained_beside(ladder: Ladder, best: Measured) -> list[State]:
    """Each alone misses the gate, and both together may meet it."""
    assert ladder.dropped is not None
    return _trained_from(ladder, ladder.dropped.state)


def _trained_from(ladder: Ladder, state: State) -> list[State]:
    from .. import qat

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
    after = replace(state, floating=tuned, tuned=tuned, settings=changed, note="", unlearnt=None)
    learnt = replace(changed, activation_ranges=found)
    return [replace(after, settings=learnt, note="ranges as trained"), replace(after, note="ranges calibrated anew")]


def _seconds(ladder: Ladder, _: Measured) -> float:
    """Forward and back with quantizers, and forward without, of every image of every step."""
    from .. import qat

    return 5 * qat.images(ladder.config, len(ladder.data.train.images)) * ladder.image_seconds


def _wanting(ladder: Ladder) -> str:
    if ladder.contract.tensors:
        return "it trains models of one image alone, without [[input]]"
    if len(ladder.data.train.images):
        return ""
    return f"data.source = '{ladder.config.data.source}' has no images to train on, for all are calibrated or judged on"


def _was_none_liked(ladder: Ladder, best: Measured) -> bool:
    """Where layers in float were kept, what was trained began from these."""
    return ladder.dropped is not None and not best.state.settings.float_layers


for _method in (_trained, _trained_beside):
    _method.seconds = _seconds  # type: ignore[attr-defined]
    _method.wanting = _wanting  # type: ignore[attr-defined]
_trained_beside.applies = _was_none_liked  # type: ignore[attr-defined]
