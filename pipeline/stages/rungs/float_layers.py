"""The most sensitive layers in float, which costs size and time where it runs."""

from __future__ import annotations

from dataclasses import replace

from ...config import Quantize
from .. import quantize
from ..ladder import Ladder, Measured, Method, State

COST = 0.3
IS_COSTLY = True


def rungs(wanted: Quantize) -> list[tuple[str, str, Method]]:
    return [("layers in float", wanted.float_layers, _partly_float)]


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
    states = []
    # ranges are those of a graph with other quantizers
    free = replace(best.state.settings, activation_ranges=None)
    for count in sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]}) if sizes else ():
        kept = frozenset(chosen[:count])
        note = ", ".join(p.removeprefix("model.") for p in order if p in kept)
        states.append(replace(best.state, settings=replace(free, float_layers=kept), note=note))
    return states
