"""The ladder: quantize, measure, and where the gate is missed climb to the next method, cheapest first.

Each rung starts from the best one before it. All look at calibration images only, and quantization-aware training at
training images; held-out images are measured on, never learnt from. What a rung is worth is told in one line, and what
it costs to stay on it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data as data_module
from .. import parity
from ..config import Config
from ..errors import ParityError
from ..parity import sensitivity
from ..program import WEIGHTED, InputContract, evaluate, evaluate_batched, module_path
from ..saying import Say
from ..store import peak_memory
from . import equalize, layerwise, quantize
from .history import Rung

if TYPE_CHECKING:
    import torch
    from torch import nn

MEASURED_AT_MOST = 1000
"""Held-out images that a rung is measured on; the leg itself takes them all."""

_BATCH = 32
_SENSITIVITY_PIXELS = 64 * 32 * 32
_BLAMED = 5


@dataclass(frozen=True, kw_only=True)
class Climbed:
    """Where the ladder ended.

    Attributes:
        tuned: the float module that was quantized.
        quantized: the calibration that all artifacts come from.
        rungs: one for each method that was tried.
        all_int8: the same without layers in float, to measure what they cost; None where there are none.
    """

    tuned: nn.Module
    quantized: quantize.Quantized
    rungs: tuple[Rung, ...]
    all_int8: quantize.Quantized | None


@dataclass(frozen=True, kw_only=True)
class _State:
    """`floating` computes what the original does, with even ranges; `tuned` is what is quantized."""

    floating: nn.Module
    tuned: nn.Module
    settings: quantize.Settings
    note: str = ""


@dataclass(frozen=True)
class _Measured:
    state: _State
    quantized: quantize.Quantized
    rung: Rung
    checks: Sequence[parity.Check]


Method = Callable[["_Ladder", _Measured], Sequence[_State]]


def climb(
    folded: nn.Module,
    data: data_module.Dataset,
    contract: InputContract,
    config: Config,
    say: Say,
    *,
    is_gated: bool = True,
) -> Climbed:
    """Quantize `folded`, a module on ``(N, H, W, 4)`` uint8, by the first method that passes the gate.

    Args:
        is_gated: False stops at what the configuration asks for in any case, whatever it is worth.

    Raises:
        ParityError: none does; with every rung, and the layers that lose most.
    """
    ladder = _Ladder(folded, data, contract, config, say)
    wanted = config.quantize
    first = "equalization" if wanted.equalize == "always" else "plain"
    best = ladder.measure(first, [ladder.start()], None)
    methods = _methods(wanted)
    for name, when, method in methods:
        if when == "always":
            best = ladder.measure(name, method(ladder, best) or [best.state], None)
    for name, when, method in methods:
        if best.rung.is_met or not is_gated:
            break
        if when == "auto" and (states := method(ladder, best)):
            best = ladder.measure(name, states, best)
    if not best.rung.is_met and is_gated:
        raise ParityError(ladder.report(best))
    return Climbed(
        tuned=best.state.tuned,
        quantized=best.quantized,
        rungs=tuple(ladder.rungs),
        all_int8=ladder.all_int8(best.state) if best.state.settings.float_layers else None,
    )


def settings(config: Config) -> quantize.Settings:
    """What the configuration asks for from the start."""
    wanted = config.quantize
    estimator = "minmax" if wanted.range_estimator == "auto" else wanted.range_estimator
    return quantize.Settings(estimator=estimator, weights=wanted.weights)


def _methods(wanted: Any) -> list[tuple[str, str, Method]]:
    """Cheapest first: (name, when, what it tries from the best so far)."""
    estimators = {"auto": ("percentile", "mse")}.get(wanted.range_estimator, ())
    return [
        ("equalization", "done" if wanted.equalize == "always" else wanted.equalize, _equalized),
        ("bias correction", wanted.bias_correction, _bias_corrected),
        *((f"ranges by {name}", "auto", _ranged(name)) for name in estimators),
        ("layer-wise reconstruction", wanted.reconstruction, _reconstructed),
        ("layers in float", wanted.float_layers, _partly_float),
        ("quantization-aware training", wanted.qat, _trained),
    ]


class _Ladder:
    """What the rungs share: images, the float model's logits on them, and the lines so far."""

    def __init__(
        self, folded: nn.Module, data: data_module.Dataset, contract: InputContract, config: Config, say: Say
    ) -> None:
        self.folded, self.data, self.contract, self.config, self.say = folded, data, contract, config, say
        self.rungs: list[Rung] = []
        self.calibration = data_module.rgba(data.calibration.images)
        count = len(data.held_out.images)
        chosen = np.linspace(0, count - 1, min(count, MEASURED_AT_MOST)).astype(int)
        self.held_out, self.labels = data_module.rgba(data.held_out.images[chosen]), data.held_out.labels[chosen]
        self.expected = [evaluate(folded, images, _BATCH) for images in (self.calibration, self.held_out)]
        self.limits = parity.limits_for("quantize", "int8", config.limit)
        self.started = time.perf_counter()

    def start(self) -> _State:
        plain = _State(floating=self.folded, tuned=self.folded, settings=settings(self.config))
        return self.equalized(plain) if self.config.quantize.equalize == "always" else plain

    def equalized(self, state: _State) -> _State:
        found = equalize.equalize(self.folded, self.calibration)
        note = f"{len(found.gains_db)} of {found.groups} groups of channels"
        return replace(state, floating=found.module, tuned=found.module, note=note)

    def measure(self, name: str, states: Sequence[_State], before: _Measured | None) -> _Measured:
        """The first of the states that passes, else the best of them and of `before`; adds a line.

        Args:
            states: at least one.
            before: best rung so far; None keeps the new one whatever it is worth.
        """
        tried: list[_Measured] = []
        for state in states:
            made = quantize.quantize(state.tuned, self.calibration, self.contract, state.settings)
            tried.append(self._measured(name, state, made))
            if tried[-1].rung.is_met:
                break
        best = max(tried, key=lambda one: (one.rung.is_met, one.rung.calibration_db))
        is_kept = before is None or best.rung.is_met or best.rung.calibration_db > before.rung.calibration_db
        rung = replace(best.rung, is_kept=is_kept, seconds=time.perf_counter() - self.started)
        best = replace(best, rung=rung)
        self.started = time.perf_counter()
        self.rungs.append(best.rung)
        self.say(f"quantize: {best.rung}")
        return best if is_kept or before is None else before

    def _measured(self, name: str, state: _State, made: quantize.Quantized) -> _Measured:
        """Judged by what is certain: a rung that these images cannot tell from a good one passes the gate."""
        calibration, held_out = (evaluate_batched(made.module, x, _BATCH) for x in (self.calibration, self.held_out))
        metrics = parity.quantize_metrics(self.expected[1], held_out, self.labels)
        checks = parity.judge("quantize", self.limits, metrics)
        measured = {check.metric: check.measured for check in checks}
        rung = Rung(
            name=name,
            note=state.note,
            calibration_db=parity.snr_db(self.expected[0], calibration),
            snr_db=measured["snr_db"],
            agreement=measured["agreement"],
            accuracy=parity.accuracy(held_out, self.labels),
            cost=self._cost(state),
            seconds=0,
            peak_bytes=peak_memory(),
            is_met=all(check.is_met for check in checks),
            is_open=parity.worst(checks) == "open",
            is_kept=True,
        )
        return _Measured(state, made, rung, checks)

    def _cost(self, state: _State) -> str:
        chosen = state.settings.float_layers
        if not chosen:
            return "none"
        work = _multiply_adds(self.folded, self.calibration[:1])
        weights = sum(_weight(self.folded, path).numel() for path in chosen)
        share = sum(work[path] for path in chosen) / sum(work.values())
        return f"{3 * weights / 1000:+.1f} kB, {100 * share:.1f} % of the multiply-adds in float"

    def all_int8(self, state: _State) -> quantize.Quantized:
        # trained ranges are those of a graph with fewer quantizers
        plain = replace(state.settings, float_layers=frozenset(), activation_ranges=None)
        return quantize.quantize(state.tuned, self.calibration, self.contract, plain)

    def sensitivities(self, measured: _Measured) -> sensitivity.Sensitivity:
        """On as many calibration images as a minute allows."""
        pixels = self.calibration[0, ..., 0].size
        count = max(4, min(len(self.calibration), _SENSITIVITY_PIXELS // pixels))
        chosen = np.linspace(0, len(self.calibration) - 1, min(count, len(self.calibration))).astype(int)
        return sensitivity.measure_layers(
            measured.quantized.module, measured.state.tuned, self.calibration[chosen], lambda *_: None
        )

    def report(self, best: _Measured) -> str:
        """Why no rung passes: the gate, every rung, the layers to blame."""
        missed = [str(check) for check in best.checks if not check.is_met]
        found = self.sensitivities(best)
        blamed = sorted(found.layers, key=lambda layer: layer.alone_db)[:_BLAMED]
        forbidden = [name for name, when, _ in _methods(self.config.quantize) if when == "never"]
        return "\n".join(
            [
                "int8 misses its gate on every rung, and nothing was built:",
                *(f"  {line}" for line in missed),
                *(f"  {rung}" for rung in self.rungs),
                f"layers that lose most, SNR with each of them alone quantized (all: {found.all_db:.1f} dB):",
                *(f"  {layer.name} ({layer.kind}): {layer.alone_db:.1f} dB" for layer in blamed),
                *([f"The configuration forbids {', '.join(forbidden)}."] if forbidden else []),
                "Allow more rungs or epochs under [quantize], give more calibration images, or write a [[limit]] for "
                "the leg 'quantize' with a reason.",
            ]
        )


def _equalized(ladder: _Ladder, best: _Measured) -> list[_State]:
    return [ladder.equalized(best.state)]


def _bias_corrected(ladder: _Ladder, best: _Measured) -> list[_State]:
    state = best.state
    tuned = layerwise.correct_biases(state.tuned, state.floating, best.quantized.module, ladder.calibration)
    return [replace(state, tuned=tuned, note="")]


def _ranged(estimator: Any) -> Method:
    def ranged(_: _Ladder, best: _Measured) -> list[_State]:
        return [replace(best.state, settings=replace(best.state.settings, estimator=estimator), note="")]

    return ranged


def _reconstructed(ladder: _Ladder, best: _Measured) -> list[_State]:
    state = best.state
    found = layerwise.reconstruct(state.tuned, state.floating, best.quantized.module, ladder.calibration)
    changed = replace(state.settings, weight_scales=found.weight_scales)
    return [replace(state, tuned=found.module, settings=changed, note="")]


def _partly_float(ladder: _Ladder, best: _Measured) -> list[_State]:
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
    for count in sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]}) if sizes else ():
        kept = frozenset(chosen[:count])
        note = ", ".join(p.removeprefix("model.") for p in order if p in kept)
        states.append(replace(best.state, settings=replace(best.state.settings, float_layers=kept), note=note))
    return states


def _trained(ladder: _Ladder, best: _Measured) -> list[_State]:
    from . import qat

    state = best.state
    # weights move, so their scales follow them again
    changed = replace(state.settings, weight_scales={})
    tuned, found = qat.train_quantized(
        state.tuned,
        ladder.folded,
        ladder.data.train,
        ladder.config,
        changed,
        lambda number, count, loss: ladder.say(
            f"quantization-aware training: epoch {number}/{count}  loss {loss:.4f} of the logits' variance",
            (number, count),
        ),
    )
    after = replace(state, floating=tuned, tuned=tuned, settings=changed, note="")
    learnt = replace(changed, activation_ranges=found)
    return [replace(after, settings=learnt, note="ranges as trained"), replace(after, note="ranges calibrated anew")]


def _multiply_adds(module: nn.Module, example: NDArray[np.uint8]) -> dict[str, int]:
    """By the path of the layer, for one image."""
    graph = equalize.export(module, example)
    return {
        module_path(node): node.meta["val"].numel()
        // node.meta["val"].shape[0]
        * int(np.prod(_weight(module, module_path(node)).shape[1:]))
        for node in graph.graph.nodes
        if node.target in WEIGHTED
    }


def _weight(module: nn.Module, path: str) -> torch.Tensor:
    weight: torch.Tensor = module.get_parameter(f"{path}.weight")
    return weight
