"""The most sensitive layers in float, which costs size and time where it runs."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from .. import blocks, quantize
from ..candidates import Ladder, Measured, Method, State

COST = 0.3
IS_COSTLY = True


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    # what is forbidden or asked for is so by the first one's name
    again = "auto" if wanted.float_layers == wanted.equalize == "auto" else "done"
    return [
        ("layers in float", wanted.float_layers, _partly_float),
        ("layers in float without equalization", again, _of_the_original),
    ]


def _partly_float(ladder: Ladder, best: Measured) -> list[State]:
    """More and more layers, worst first, each with the one that reads it: only then what is between stays in float.

    A single layer is no choice: litert-torch 0.10 quantizes it again if it stands between two quantizers.
    """
    most = ladder.config.quantize.max_float_layers
    order = quantize.weighted_layers(best.quantized.module)
    alone_db = {f"model.{layer.name}": layer.alone_db for layer in ladder.sensitivities(best).layers}
    # not the last one: apps read its steps
    pairs = [p for p in quantize.pairs(best.quantized.module) if order[-1] not in p and alone_db.keys() >= set(p)]
    chosen: list[str] = []
    sizes = []
    for pair in sorted(pairs, key=lambda p: min(alone_db[path] for path in p)):
        added = [path for path in pair if path not in chosen]
        if len(chosen) + len(added) <= most:
            chosen += added
            sizes.append(len(chosen))
    counts = sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]}) if sizes else []
    states = []
    for count in counts:
        kept = frozenset(chosen[:count])
        note = ", ".join(p.removeprefix("model.") for p in order if p in kept)
        partly = _with(best.state, kept, note)
        if best.state.is_corrected:
            # biases that make good the mean errors of layers that have none now are errors themselves
            states.append(replace(ladder.corrected(partly), note=f"{note}; biases corrected anew"))
        states.append(partly)
        # weights that were rounded for one set of ranges may lose with another
        before = best.state.unlearnt
        if before is not None and ladder.left() > len(counts) * blocks.seconds(
            ladder.simulation(best.state), ladder.image_seconds
        ):
            learnt = ladder.learnt(_with(before, kept, f"{note}; rounding learnt anew"))
            states += [learnt, replace(ladder.corrected(learnt), note=f"{learnt.note}, biases corrected")]
    return states


def _of_the_original(ladder: Ladder, _: Measured) -> list[State]:
    """The same of channels as uneven as they came. What is made even lies elsewhere then: a depthwise layer's range in a sum of residuals,
    say, which is quantized whatever layers are in float."""
    before = _original(ladder)
    assert before is not None
    return _partly_float(ladder, before)


def _original(ladder: Ladder) -> Measured | None:
    """The best that all rungs asked for were done to and whose channels were not made even; None where there is none."""
    found = [one for one in ladder.measured[ladder.asked :] if one.state.floating is ladder.folded]
    found = [one for one in found if not one.state.settings.float_layers]
    best = max(found, key=lambda one: one.rung.calibration_db, default=None)
    if best is None or best.state.is_learnt or ladder.config.quantize.learned_rounding == "never":
        return best
    # rounding was learnt of even channels alone, if at all
    return best.told(state=replace(best.state, unlearnt=best.state))


def _is_another(ladder: Ladder, best: Measured) -> bool:
    """Where `best` is not of the original itself, which was tried then."""
    return best.state.floating is not ladder.folded and _original(ladder) is not None


def _with(state: State, kept: frozenset[str], note: str) -> State:
    """Its ranges are those of a graph with other quantizers."""
    return replace(state, settings=replace(state.settings, activation_ranges=None, float_layers=kept), note=note)


def _seconds(ladder: Ladder, best: Measured) -> float:
    """The search for the layers, and up to three choices, each with its rounding learnt anew where there is time for it."""
    images = len(ladder.judging) + len(ladder.held_out)
    learning = 0.0
    if best.state.unlearnt is not None:
        learning = 3 * blocks.seconds(ladder.simulation(best.state), ladder.image_seconds)
    if best.state.is_corrected:
        images += images + 4 * len(ladder.fitted)
    found = ladder.sensitivity_seconds() + 3 * images * ladder.image_seconds
    return found + learning if found + learning < ladder.left() else found


def _seconds_again(ladder: Ladder, best: Measured) -> float:
    return _seconds(ladder, _original(ladder) or best)


_partly_float.seconds = _seconds  # type: ignore[attr-defined]
_of_the_original.seconds = _seconds_again  # type: ignore[attr-defined]
_partly_float.needed = _of_the_original.needed = True  # type: ignore[attr-defined]
_of_the_original.applies = _is_another  # type: ignore[attr-defined]
