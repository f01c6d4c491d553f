"""What the rungs of the ladder share: candidates for what is quantized, what each is worth, images and the float model's outputs on them.

Methods see a share of the calibration images, and are judged on the others, each of which counts the same. Held-out images are
measured on, never learnt from, nor chosen by.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data as data_module
from .. import parity
from ..config import Config
from ..parity import sensitivity
from ..program import WEIGHTED, InputContract, Output, compress, evaluate, evaluate_quantized, module_path
from ..saying import Say, duration
from ..store import give_back_memory, peak_memory
from ..tasks import Task
from . import blocks, equalize, layerwise, quantize
from .history import Rung
from .ranges import Estimator
from .simulation import Ranges, Simulation, Statistics, parameters

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .fold import Shipped

MEASURED_AT_MOST = 1000
"""Held-out images that a rung is measured on; the leg itself takes them all."""
PIXELS_AT_MOST = 2**24
"""Of these, where they are large; 200 images are taken in any case."""

WORTH_DB = 0.05
"""On the images that judge: a rung that gains less is dropped."""
WORTH_A_SHARE_DB = 0.3
"""The same of a rung whose ranges stay those of a share of the images, where those of the rung before may be taken from all of them: on a
network of ten digits that was worth more than a dB on held-out images, and on those that judge learned rounding gained less than 0.1."""
JUDGES = 4
"""Every so many calibration images, one that judges; with fewer than twice as many all judge, and are fitted to."""
HARMLESS_DB = 40.0
"""SNR of a float module that is no longer quite the original, at least."""

NEAR = 0.02
"""Of the held-out images, and one more: where as many decide on the gate, the reference itself is asked. Its sums round otherwise than a
simulation's: of EfficientNet-Lite0 on 300 photographs, a twentieth of which it hardly knows one class from another, simulation and
reference kept 95.3 % and 93.0 % of the answers."""
NEAR_DB = 1.0
"""The same of an SNR: 0.6 dB lie between the two on a network of four blocks, at 39 dB."""

_SHORT = 5.0
"""Seconds that are there in any case."""
_EXACT = 10.0
"""Of the seconds that the simulation takes for an image: exact sums in float64."""
_BATCH = 32
_SENSITIVITY_PIXELS = 64 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class State:
    """What is quantized.

    Attributes:
        floating: computes what the original does, with even ranges.
        tuned: what is quantized.
        settings: without ranges of activations these follow from `floating`.
        is_corrected: its biases make the mean errors good.
        is_learnt: its weights are rounded by more than the nearest step; a change of the ranges would undo that.
        unlearnt: what its rounding was learnt from.
    """

    floating: nn.Module
    tuned: nn.Module
    settings: quantize.Settings
    note: str = ""
    is_corrected: bool = False
    is_learnt: bool = False
    unlearnt: State | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Measured:
    """A state, and what it is worth.

    Attributes:
        is_sure: the reference itself was asked for what the held-out images say, not its simulation.
        refit: the same with ranges and biases from all calibration images, where it was this that the reference was asked for, being
            what is built.
    """

    state: State
    rung: Rung
    checks: Sequence[parity.Check]
    convert: Callable[[], quantize.Quantized] = field(repr=False)
    is_sure: bool = False
    refit: Measured | None = field(default=None, repr=False)

    @property
    def nearness(self) -> tuple[int, float, float]:
        """To the gate: how many of its checks are met, the share that the task counts first, SNR in dB; on held-out images."""
        met = sum(check.is_met for check in self.checks)
        return met, next(iter(self.rung.shares.values()), 0.0), self.rung.snr_db

    @property
    def is_near(self) -> bool:
        """Whether it passes the gate, and another rounding of its sums could turn that."""
        return self.rung.is_met and not self.is_sure and any(map(_is_near, self.checks))

    @cached_property
    def quantized(self) -> quantize.Quantized:
        return self.convert()

    def told(self, **changes: Any) -> Measured:
        """The same, and other things are said of it: what took a while to make stays."""
        changed = replace(self, **changes)
        if "quantized" in vars(self):
            vars(changed)["quantized"] = self.quantized
        return changed


def _is_near(check: parity.Check) -> bool:
    """Whether a check that is met is missed where little changes."""
    sign, counts = (1 if check.sense == "<=" else -1), check.counts
    if counts is None:
        return sign * (check.limit - check.measured) < NEAR_DB
    missed_from = counts.low if check.sense == "<=" else counts.high
    return bool(counts.images) and sign * (check.limit - missed_from) < NEAR + 1 / counts.images


Method = Callable[["Ladder", Measured], Sequence[State]]


def settings(config: Config) -> quantize.Settings:
    """What the configuration asks for from the start."""
    wanted = config.quantize
    estimator = "minmax" if wanted.range_estimator == "auto" else wanted.range_estimator
    return quantize.Settings(estimator=estimator, weights=wanted.weights)


class Ladder:
    """What the rungs share: images, the float model's outputs on them, and the lines so far.

    Attributes:
        fitted: the calibration images that methods see.
        judging: those that a rung is chosen by.
        left_out: names of rungs that there was no time for.
        wanting: by the name of a rung, why there was none: what it needs and has not, or what it did to the float model.
        measured: the best of each rung.
        asked: place in `measured` from which on all is done that the configuration asks for.
        dropped: the best with layers in float, where the images that judge like less what it costs than what it gains.
        image_seconds: that an image takes through the quantized network.
    """

    def __init__(
        self,
        folded: Shipped,
        data: data_module.Dataset,
        contract: InputContract,
        config: Config,
        task: Task,
        say: Say,
    ) -> None:
        self.folded, self.data, self.contract, self.config, self.task, self.say = (
            folded, data, contract, config, task, say,
        )  # fmt: skip
        self.outputs: tuple[Output, ...] = folded.outputs
        self.rungs: list[Rung] = []
        self.left_out: list[str] = []
        self.wanting: dict[str, str] = {}
        self.measured: list[Measured] = []
        self.asked = 0
        self.dropped: Measured | None = None
        self.calibration = data.calibration.inputs
        is_judge = np.arange(len(self.calibration)) % JUDGES == JUDGES - 1
        if len(self.calibration) < 2 * JUDGES:
            self.fitted = self.judging = self.calibration
        else:
            self.fitted, self.judging = self.calibration[~is_judge], self.calibration[is_judge]
        count, pixels = len(data.held_out.images), self.calibration.shape[1] * self.calibration.shape[2]
        most = min(MEASURED_AT_MOST, max(200, PIXELS_AT_MOST // pixels))
        chosen = np.linspace(0, count - 1, min(count, most)).astype(int)
        judged = data.held_out.part(chosen)
        self.held_out, self.truth = judged.inputs, judged.truth
        self.expected = [evaluate(folded, images, _BATCH) for images in (self.judging, self.held_out)]
        self.limits = parity.limits_for(task.meaning(config), "quantize", "int8", config.limit)
        self.started = self.began = time.perf_counter()
        self._simulations: dict[frozenset[str], Simulation] = {}
        self._statistics: dict[tuple[int, frozenset[str], int], tuple[nn.Module, Statistics]] = {}
        self.image_seconds = 0.0
        self._is_refit_left_out = False

    def start(self) -> State:
        plain = State(floating=self.folded, tuned=self.folded, settings=settings(self.config))
        return self.equalized(plain) if self.config.quantize.equalize == "always" else plain

    def equalized(self, state: State, bounds: equalize.Bounds = "proven", name: str = "equalization") -> State:
        """From the original on, with the biases corrected anew where they were; the same where that moves the float model.

        Args:
            name: of the rung.
        """
        found = equalize.equalize(self.folded, self.fitted, bounds)
        note = f"{len(found.gains_db)} of {found.groups} groups of channels"
        if bounds == "measured":
            moved = parity.snr_db(self.expected[0], evaluate(found.module, self.judging, _BATCH), self.outputs)
            if moved < HARMLESS_DB:
                self.tell_wanting(name, f"it moves the float model: {moved:.1f} dB")
                return state
            note += f", bounds measured: the float model moves by {moved:.1f} dB"
        elif any(found.gains_db):
            note += ", bounds proven"
        changed = replace(state, floating=found.module, tuned=found.module, note=note)
        return self.corrected(changed) if state.is_corrected else changed

    def corrected(self, state: State, images: data_module.Images | None = None) -> State:
        """With the mean errors of all channels put into the biases."""
        images = self.fitted if images is None else images
        simulated, wanted = self.simulation(state), self.statistics(state, images)
        found = self.ranges(state, images)
        layers = simulated.rounded(state.tuned, state.settings, found)
        biases = layerwise.correct_biases(simulated, layers, wanted, found, images)
        kept = {path: (parameters(state.tuned, path)[0], bias) for path, (_, bias) in biases.items()}
        return replace(state, tuned=layerwise.with_layers(state.tuned, kept), is_corrected=True)

    def reconstructed(self, state: State) -> State:
        found = layerwise.reconstruct(
            self.simulation(state), state.tuned, state.floating, state.settings, self.ranges(state), self.fitted
        )
        return self._with_rounding(state, found)

    def learnt(self, state: State) -> State:
        """With learned rounding; the same where there is nothing to learn."""
        found = blocks.learn(
            self.simulation(state),
            state.tuned,
            state.floating,
            state.settings,
            self.ranges(state),
            self.statistics(state, self.fitted),
            self.fitted,
            self.say,
        )
        return self._with_rounding(state, found) if found.weight_scales else state

    def _with_rounding(self, state: State, found: layerwise.Rounded) -> State:
        changed = replace(state.settings, weight_scales=found.weight_scales, activation_ranges=self.ranges(state))
        tuned = layerwise.with_layers(state.tuned, found.layers)
        return replace(state, tuned=tuned, settings=changed, is_learnt=True, is_corrected=True, unlearnt=state)

    def simulation(self, state: State) -> Simulation:
        key = state.settings.float_layers
        if key not in self._simulations:
            self._simulations[key] = Simulation(self.folded, self.calibration[:1], self.contract, state.settings)
        return self._simulations[key]

    def statistics(self, state: State, images: data_module.Images) -> Statistics:
        key = id(state.floating), state.settings.float_layers, len(images)
        if key not in self._statistics:
            if len(self._statistics) > 2:  # a megabyte for each activation
                del self._statistics[next(iter(self._statistics))]
            found = self.simulation(state).statistics(state.floating, images)
            self._statistics[key] = state.floating, found  # the module too: its id is its own as long as it lives
        return self._statistics[key][1]

    def ranges(self, state: State, images: data_module.Images | None = None) -> Ranges:
        if state.settings.activation_ranges is not None:
            return state.settings.activation_ranges
        wanted = self.statistics(state, self.fitted if images is None else images)
        return self.simulation(state).ranges(wanted, state.settings.estimator)

    def search_seconds(self, state: State, estimator: Estimator) -> float:
        """That ranges of all activations take by an estimator, from what one of them takes: many bounds are tried for each tensor, however
        few images there are."""
        seen = self.statistics(state, self.fitted).seen
        begun = time.perf_counter()
        seen[len(seen) // 2].range(estimator)
        return (time.perf_counter() - begun) * len(seen)

    def wants(self, name: str, method: Method) -> bool:
        """Whether a rung needs what is not there; says so."""
        why = getattr(method, "wanting", lambda _: "")(self)
        if why:
            self.tell_wanting(name, why)
        return bool(why)

    def tell_wanting(self, name: str, why: str) -> None:
        """A rung that is not to be had; the error of a missed gate says it again."""
        self.wanting[name] = why
        self.say(f"quantize: no {name}: {why}")

    def seconds(self, method: Method, best: Measured) -> float:
        """That a rung may take."""
        estimate = getattr(method, "seconds", None)
        return 0.0 if estimate is None else float(estimate(self, best))

    def has_time(self, name: str, method: Method, best: Measured, why: str = "") -> bool:
        """Says what comes next and how long it may take; False where that is longer than what is left.

        Args:
            why: it is made in any case.
        """
        left, seconds = self.left(), self.seconds(method, best)
        told = f"about {duration(seconds)}" if seconds else "at once"
        self.started = time.perf_counter()
        if seconds > left and getattr(method, "needed", False):
            why = why or "for there is no build without it"
        if why:
            over = f", {duration(left)} of the budget are left" if left < seconds else ""
            self.say(f"quantize: next {name}, {told}, {why}{over}")
            return True
        if seconds > left:
            self.left_out.append(name)
            if self.config.quantize.minutes:  # else all are named at once in the end
                self.say(f"quantize: no time for {name}: {told}, and {duration(left)} of the budget are left")
            return False
        self.say(f"quantize: next {name}, {told}; {duration(left)} of the budget are left")
        return True

    def left(self) -> float:
        """Seconds of the budget, at least 0."""
        return max(60 * self.config.quantize.minutes - (time.perf_counter() - self.began), 0.0)

    def measure(self, name: str, states: Sequence[State], before: Measured | None) -> Measured:
        """The best of the states and of `before`; adds a line.

        Args:
            states: at least one. Where they cost something, from the cheapest on: the best of the first whose layers in float pass is taken.
            before: best rung so far; None keeps the new one whatever it is worth.
        """
        tried, is_paid = self._tried(name, states), _is_paid(states)
        best = max(tried, key=lambda one: self._rank(one, states))
        is_kept = before is None or self._rank(best, states) > self._rank(before, states, self._worth(best, before))
        rung = replace(best.rung, is_kept=is_kept, seconds=time.perf_counter() - self.started)
        best = best.told(rung=rung)
        give_back_memory()  # else each rung comes on top of what those before it took and freed
        self.started = time.perf_counter()
        self.rungs.append(best.rung)
        if before is None:
            self.asked = len(self.measured)
        self.measured.append(best)
        self.say(f"quantize: {best.rung}")
        if is_kept or before is None:
            return best
        if is_paid and (self.dropped is None or self._rank(best, states) > self._rank(self.dropped, states)):
            self.dropped = best
        return before

    def _worth(self, one: Measured, before: Measured) -> float:
        """In dB on the images that judge, to be kept."""
        is_share = one.state.is_learnt and not before.state.is_learnt and self.fitted is not self.calibration
        return WORTH_A_SHARE_DB if is_share else WORTH_DB

    def _tried(self, name: str, states: Sequence[State]) -> list[Measured]:
        """The states that were measured whole, until one passes that costs something."""
        tried: list[Measured] = []
        is_paid = _is_paid(states)
        for _, same in itertools.groupby(states, lambda state: state.settings.float_layers):
            judged: list[Measured] = []
            for state in same:
                # of those that cost nothing only the best so far is measured on held-out images
                least = max(one.rung.calibration_db for one in judged) if judged and not is_paid else -np.inf
                judged += [found] if (found := self._judged(name, state, self.fitted, least)) is not None else []
            for found in sorted(judged, key=lambda one: self._rank(one, states), reverse=True):
                tried.append(self._sure(found) if is_paid and found.is_near else found)
                if is_paid and tried[-1].rung.is_met:
                    return tried
        return tried

    def passing(self, best: Measured) -> Measured:
        """The best of those that cost nothing and pass the gate, where `best`, chosen by the images that judge, misses it: nothing has
        to be paid for then."""
        met = [one for one in self.measured if one.rung.is_met and not one.state.settings.float_layers]
        return max(met, key=lambda one: one.rung.calibration_db) if met and not best.rung.is_met else best

    def surely(self, best: Measured) -> Measured:
        """`passing`, and what passes the gate so narrowly that another rounding could turn it passes it as the reference itself computes:
        by that the build is judged."""
        while (found := self.passing(best)).is_near:
            sure = self._sure(found)
            self.measured = [sure if one is found else one for one in self.measured]
            self.rungs = [sure.rung if rung is found.rung else rung for rung in self.rungs]
            best = sure if best is found else best
        return found

    def _sure(self, one: Measured) -> Measured:
        """Judged by what the reference says of what would be built, all calibration images having been seen, and of itself only where
        that misses the gate: asking takes a while."""
        wider = self._refitted(one)
        if wider is not None and (wider := self._by_reference(wider) if wider.is_near else wider).rung.is_met:
            return one.told(is_sure=True, refit=wider)
        return self._by_reference(one)

    def _by_reference(self, one: Measured) -> Measured:
        """Judged by what the reference says of the held-out images, in place of its simulation."""
        seconds = _EXACT * self.image_seconds * len(self.held_out)
        self.say(f"quantize: {one.rung.name} passes narrowly; asking the reference itself, about {duration(seconds)}")
        found = evaluate_quantized(one.quantized.module, self.held_out)
        judged, checks = self._by_held_out(one.rung, found)
        if not judged.is_met:
            missed = "; ".join(str(check) for check in checks if not check.is_met)
            self.say(f"quantize: {one.rung.name} misses the gate there: {missed}")
        return one.told(rung=judged, checks=checks, is_sure=True)

    def _rank(self, one: Measured, states: Sequence[State], more: float = 0.0) -> tuple[bool, float]:
        """By the images that judge; where bytes and speed are paid for the gate, by the gate first."""
        return _is_paid(states) and one.rung.is_met, one.rung.calibration_db + more

    def finished(self, best: Measured, *, is_stopped: bool) -> Measured:
        """The best, as it is built: refitted where that passes its gate as well."""
        self.started = time.perf_counter()
        refit = best.refit if best.is_sure else self._refitted(best)
        left_out = [*self.left_out, *(["all calibration images"] if self._is_refit_left_out else [])]
        # names alone: seconds differ from run to run, and equal builds shall give equal files
        more = [f"no time for {', '.join(left_out)}"] if left_out else []
        if more and not self.config.quantize.minutes:
            self.say(f"quantize: {more[0]}: minutes = 0")
        more += ["stopped by hand"] if is_stopped else []
        measured, images = (best, self.fitted) if refit is None else (refit, self.calibration)
        note = "; ".join([f"{best.rung.name}, fitted to {len(images)} images", *more])
        # what it was measured with does not change by being written down
        state = replace(self._settled(measured.state, images), note=note)
        seconds = time.perf_counter() - self.started
        rung = replace(
            measured.rung, name="chosen", note=note, seconds=seconds, peak_bytes=peak_memory(), is_stopped=is_stopped, is_kept=True
        )  # fmt: skip
        self.rungs.append(rung)
        self.say(f"quantize: {rung}")
        return measured.told(state=state, rung=rung)

    def _refitted(self, best: Measured) -> Measured | None:
        """With ranges and biases from all calibration images, where its weights leave them free and there is time; None where there is
        not, and where that is worse on those that judged, though they are among them now, or misses the gate: a wider range for one
        image costs all others."""
        state = best.state
        if state.is_learnt or state.settings.activation_ranges is not None or self.fitted is self.calibration:
            return None
        seconds = (4 * len(self.calibration) + len(self.held_out)) * self.image_seconds
        if seconds > max(self.left(), _SHORT) and self.config.quantize.minutes:
            if not self._is_refit_left_out:
                self.say(f"quantize: no time for all calibration images: about {duration(seconds)}")
            self._is_refit_left_out = True
            return None
        wider = self.corrected(state, self.calibration) if state.is_corrected else state
        settled = self._settled(wider, self.calibration)
        judged = self._judged(best.rung.name, settled, self.calibration, best.rung.calibration_db)
        return judged if judged is not None and judged.rung.is_met >= best.rung.is_met else None

    def _settled(self, state: State, images: data_module.Images) -> State:
        """With its ranges written down."""
        return replace(state, settings=replace(state.settings, activation_ranges=self.ranges(state, images)))

    def _judged(self, name: str, state: State, images: data_module.Images, least: float = -np.inf) -> Measured | None:
        """Judged by what is certain: a rung that these images cannot tell from a good one passes the gate.

        Args:
            images: that its ranges are from.
            least: SNR in dB on the images that judge, with less of which it is not measured any further, and None.
        """
        simulated, found = self.simulation(state), self.ranges(state, images)
        layers = simulated.rounded(state.tuned, state.settings, found)
        begun = time.perf_counter()
        judged = simulated.outputs(layers, found, self.judging)
        if (calibration_db := parity.image_snr_db(self.expected[0], judged, self.outputs)) < least:
            return None
        held_out = simulated.outputs(layers, found, self.held_out)
        self.image_seconds = (time.perf_counter() - begun) / (len(self.judging) + len(self.held_out))
        rung = Rung(
            name=name,
            note=state.note,
            calibration_db=calibration_db,
            snr_db=np.nan,
            shares={},
            cost=self._cost(state),
            seconds=0,
            peak_bytes=peak_memory(),
            is_met=False,
            is_open=False,
            is_kept=True,
        )
        rung, checks = self._by_held_out(rung, held_out)
        return Measured(state, rung, checks, lambda: simulated.converted(state.tuned, state.settings, found))

    def _by_held_out(self, rung: Rung, quantized: NDArray[np.float32]) -> tuple[Rung, list[parity.Check]]:
        """With what the quantized outputs of the held-out images say of a rung, and the checks of the gate."""
        meaning, floating = self.task.meaning(self.config), self.expected[1]
        worth = meaning.worth(floating, floating, quantized, self.truth, self.outputs)
        metrics = parity.quantize_metrics(floating, quantized, worth, self.outputs)
        checks = parity.judge("quantize", self.limits, metrics)
        judged = replace(
            rung,
            snr_db=next(check.measured for check in checks if check.metric == "snr_db"),
            shares=self.task.shares(worth),
            is_met=all(check.is_met for check in checks),
            is_open=parity.worst(checks) == "open",
        )
        return judged, checks

    def _cost(self, state: State) -> str:
        chosen = state.settings.float_layers
        if not chosen:
            return "none"
        work = _multiply_adds(self.folded, self.calibration[:1])
        weights = sum(_weight(self.folded, path).numel() for path in chosen)
        share = sum(work[path] for path in chosen) / sum(work.values())
        return f"{3 * weights / 1000:+.1f} kB, {100 * share:.1f} % of the multiply-adds in float"

    def all_int8(self, state: State) -> quantize.Quantized:
        # ranges are those of a graph with fewer quantizers
        plain = replace(state.settings, float_layers=frozenset(), activation_ranges=None)
        return quantize.quantize(state.tuned, self.calibration, self.contract, plain)

    def sensitivities(self, measured: Measured) -> sensitivity.Sensitivity:
        """On as many calibration images as a minute allows."""
        chosen = np.linspace(0, len(self.calibration) - 1, self._sensitivity_images()).astype(int)
        return sensitivity.measure_layers(
            measured.quantized.module, measured.state.tuned, self.outputs, self.calibration[chosen], lambda *_: None
        )

    def sensitivity_seconds(self) -> float:
        """Every layer alone, and all without it; their graph takes twice as long as its simulation."""
        layers = len(compress.weighted(self.folded))
        return 4 * layers * self._sensitivity_images() * self.image_seconds

    def _sensitivity_images(self) -> int:
        pixels = self.calibration.shape[1] * self.calibration.shape[2]
        return min(max(4, _SENSITIVITY_PIXELS // pixels), len(self.calibration))


def _is_paid(states: Sequence[State]) -> bool:
    """Whether states cost something where the network runs."""
    return any(state.settings.float_layers for state in states)


def _multiply_adds(module: nn.Module, example: data_module.Images) -> dict[str, int]:
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
