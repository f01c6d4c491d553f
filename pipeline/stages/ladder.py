"""The ladder: quantize, measure, and where the gate is missed climb to the next method of `rungs/`, cheapest first.

Each rung starts from the best one before it. All look at calibration images only, and quantization-aware training at
training images; held-out images are measured on, never learnt from. What a rung is worth is told in one line, and what
it costs to stay on it too.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .. import data as data_module
from .. import parity
from ..config import Config, Quantize
from ..errors import ParityError
from ..parity import sensitivity
from ..program import WEIGHTED, InputContract, evaluate, evaluate_batched, module_path
from ..saying import Say
from ..store import peak_memory
from ..tasks import Task
from . import equalize, quantize, rungs
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
class State:
    """`floating` computes what the original does, with even ranges; `tuned` is what is quantized."""

    floating: nn.Module
    tuned: nn.Module
    settings: quantize.Settings
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """A state that was quantized, and what it is worth."""

    state: State
    quantized: quantize.Quantized
    rung: Rung
    checks: Sequence[parity.Check]


Method = Callable[["Ladder", Measured], Sequence[State]]


def climb(
    folded: nn.Module,
    data: data_module.Dataset,
    contract: InputContract,
    config: Config,
    task: Task,
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
    ladder = Ladder(folded, data, contract, config, task, say)
    wanted = config.quantize
    first = "equalization" if wanted.equalize == "always" else "plain"
    best = ladder.measure(first, [ladder.start()], None)
    known = methods(wanted)
    for name, when, method in known:
        if when == "always":
            best = ladder.measure(name, method(ladder, best) or [best.state], None)
    for name, when, method in known:
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


class _Module(Protocol):
    """What a module below `rungs/` has: a method of quantization, to be tried from the best state so far."""

    COST: float  # about how long it takes, as a share of the longest: the cheapest come first

    def rungs(self, wanted: Quantize) -> list[tuple[str, str, Method]]:
        """(name, when, method) of each rung; `when` is "always", "auto", "never", or "done" before the first."""


def methods(wanted: Quantize) -> list[tuple[str, str, Method]]:
    """Of every module below `rungs/`, cheapest first."""
    found = [cast("_Module", importlib.import_module(name)) for name in rungs.names()]
    return [rung for module in sorted(found, key=lambda module: module.COST) for rung in module.rungs(wanted)]


class Ladder:
    """What the rungs share: images, the float model's outputs on them, and the lines so far."""

    def __init__(
        self,
        folded: nn.Module,
        data: data_module.Dataset,
        contract: InputContract,
        config: Config,
        task: Task,
        say: Say,
    ) -> None:
        self.folded, self.data, self.contract, self.config, self.task, self.say = (
            folded, data, contract, config, task, say,
        )  # fmt: skip
        self.rungs: list[Rung] = []
        self.calibration = data_module.rgba(data.calibration.images)
        count = len(data.held_out.images)
        chosen = np.linspace(0, count - 1, min(count, MEASURED_AT_MOST)).astype(int)
        self.held_out, self.truth = data_module.rgba(data.held_out.images[chosen]), data.held_out.truth[chosen]
        self.expected = [evaluate(folded, images, _BATCH) for images in (self.calibration, self.held_out)]
        self.limits = parity.limits_for(task.meaning(config), "quantize", "int8", config.limit)
        self.started = time.perf_counter()

    def start(self) -> State:
        plain = State(floating=self.folded, tuned=self.folded, settings=settings(self.config))
        return self.equalized(plain) if self.config.quantize.equalize == "always" else plain

    def equalized(self, state: State) -> State:
        found = equalize.equalize(self.folded, self.calibration)
        note = f"{len(found.gains_db)} of {found.groups} groups of channels"
        return replace(state, floating=found.module, tuned=found.module, note=note)

    def measure(self, name: str, states: Sequence[State], before: Measured | None) -> Measured:
        """The first of the states that passes, else the best of them and of `before`; adds a line.

        Args:
            states: at least one.
            before: best rung so far; None keeps the new one whatever it is worth.
        """
        tried: list[Measured] = []
        for state in states:
            made = quantize.quantize(state.tuned, self.calibration, self.contract, state.settings)
            tried.append(self._judged(name, state, made))
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

    def _judged(self, name: str, state: State, made: quantize.Quantized) -> Measured:
        """Judged by what is certain: a rung that these images cannot tell from a good one passes the gate."""
        calibration, held_out = (evaluate_batched(made.module, x, _BATCH) for x in (self.calibration, self.held_out))
        meaning, floating = self.task.meaning(self.config), self.expected[1]
        metrics = parity.quantize_metrics(meaning, floating, held_out, self.truth)
        worth = meaning.worth(floating, floating, held_out, self.truth)
        checks = parity.judge("quantize", self.limits, metrics)
        measured = {check.metric: check.measured for check in checks}
        rung = Rung(
            name=name,
            note=state.note,
            calibration_db=parity.snr_db(self.expected[0], calibration),
            snr_db=measured["snr_db"],
            shares=self.task.shares(worth),
            cost=self._cost(state),
            seconds=0,
            peak_bytes=peak_memory(),
            is_met=all(check.is_met for check in checks),
            is_open=parity.worst(checks) == "open",
            is_kept=True,
        )
        return Measured(state, made, rung, checks)

    def _cost(self, state: State) -> str:
        chosen = state.settings.float_layers
        if not chosen:
            return "none"
        work = _multiply_adds(self.folded, self.calibration[:1])
        weights = sum(_weight(self.folded, path).numel() for path in chosen)
        share = sum(work[path] for path in chosen) / sum(work.values())
        return f"{3 * weights / 1000:+.1f} kB, {100 * share:.1f} % of the multiply-adds in float"

    def all_int8(self, state: State) -> quantize.Quantized:
        # trained ranges are those of a graph with fewer quantizers
        plain = replace(state.settings, float_layers=frozenset(), activation_ranges=None)
        return quantize.quantize(state.tuned, self.calibration, self.contract, plain)

    def sensitivities(self, measured: Measured) -> sensitivity.Sensitivity:
        """On as many calibration images as a minute allows."""
        pixels = self.calibration[0, ..., 0].size
        count = max(4, min(len(self.calibration), _SENSITIVITY_PIXELS // pixels))
        chosen = np.linspace(0, len(self.calibration) - 1, min(count, len(self.calibration))).astype(int)
        return sensitivity.measure_layers(
            measured.quantized.module, measured.state.tuned, self.calibration[chosen], lambda *_: None
        )

    def report(self, best: Measured) -> str:
        """Why no rung passes: the gate, every rung, the layers to blame."""
        missed = [str(check) for check in best.checks if not check.is_met]
        found = self.sensitivities(best)
        blamed = sorted(found.layers, key=lambda layer: layer.alone_db)[:_BLAMED]
        forbidden = [name for name, when, _ in methods(self.config.quantize) if when == "never"]
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
