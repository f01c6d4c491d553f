"""Drift: where an int8 artifact leaves the quantized reference, layer by layer, from a finished folder alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, arrays
from ..errors import VerifyError
from ..program import Layer, LayerValue, Recording, Trace
from ..program import layers as layers_module
from . import limits, metrics

PICTURE, TABLE = "drift.png", "drift.csv"
_HIGHEST_DB = 100.0
"""Where the picture draws layers without any difference, whose SNR is infinite."""
_NEAR = 0.9
"""Share of values from which on a layer's are the reference's: half of a layer behind a ReLU is 0 in any other, too."""
_IN_ORDER = 1e-3
"""Of that share, what a layer's own place counts more than another."""


@dataclass(frozen=True, kw_only=True)
class LayerDrift:
    """A layer of one runtime beside the reference's, over all golden images.

    Attributes:
        snr_db: of the layer's values; infinite where all are equal.
        equal_values: share of values that are the same step.
        max_steps: largest difference in steps.
        checks: what this layer adds to the differences of those before, beside its limits.
    """

    name: str
    kind: str
    snr_db: float
    equal_values: float
    max_steps: int
    checks: tuple[limits.Check, ...]

    @property
    def is_within(self) -> bool:
        return all(check.is_met for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class RuntimeDrift:
    """The layers of an artifact, in order of execution.

    Attributes:
        targets: all that ship this very artifact.
        reference: key of what it is compared with.
    """

    targets: tuple[str, ...]
    reference: str
    layers: tuple[LayerDrift, ...]

    @property
    def name(self) -> str:
        return ", ".join(self.targets)

    @property
    def first(self) -> LayerDrift | None:
        """The first layer outside its limit; those behind it read its values."""
        return next((layer for layer in self.layers if not layer.is_within), None)

    @property
    def verdict(self) -> str:
        """Where it leaves its limit, in words."""
        count, first = len(self.layers), self.first
        if first is None:
            return f"{self.name}: within its limits in all {count} layers"
        number = self.layers.index(first) + 1
        return f"{self.name}: leaves its limit first at {first.name} ({first.kind}, layer {number} of {count})"

    def __str__(self) -> str:
        checks = () if self.first is None else self.first.checks
        broken = [str(check).removeprefix("layer: ") for check in checks if not check.is_met]
        return "\n    ".join([self.verdict, *broken])


def candidates(trace: Trace, images: Images, recording: Recording, key: str, name: str) -> list[NDArray[np.int8]]:
    """The sampled steps ``(images, values)`` of each layer of the reference `key` in an artifact, on images ``(N, H, W, 4)`` uint8.

    Layers that do not wait for each other, as heads beside each other, run in an order that is each runtime's own. So an artifact's layers of one
    kind and shape are told apart by what they give: that of the reference whose values they nearly have, and in their own order where they have
    nobody's.

    Raises:
        VerifyError: its layers are not those of the reference.
    """
    layers = recording.layers
    kept: list[list[NDArray[np.int8]]] = [[] for _ in layers]
    places = None
    for number in range(len(images)):
        values = trace(*arrays(images[number : number + 1]))
        if places is None:
            places = _slots(values, layers, name)
        for one, place, layer in zip(kept, places, layers, strict=True):
            one.append(values[place].steps.reshape(-1)[layers_module.sampled(layer.shape)])
    found = [np.stack(one) for one in kept]
    return _in_place(found, recording.of(key), layers)


def _slots(values: Sequence[LayerValue], layers: Sequence[Layer], name: str) -> list[int]:
    """For each layer of the reference the number of the artifact's that has its kind and shape, the first one first.

    Whether a mean keeps its dimensions of size 1 is no difference.
    """
    mine = [(value.kind, _core(value.steps.shape)) for value in values]
    theirs = [(layer.kind, _core(layer.shape)) for layer in layers]
    if sorted(mine) == sorted(theirs):
        waiting = {one: iter([number for number, other in enumerate(mine) if other == one]) for one in set(mine)}
        return [next(waiting[one]) for one in theirs]
    for number, (one, other) in enumerate(zip_longest(mine, theirs), 1):
        if one != other:
            where = "" if other is None else f", {layers[number - 1].name}"
            raise VerifyError(
                f"{name} has {len(values)} layers, the reference {len(layers)}; layer {number} is {_said(one)} there and "
                f"{_said(other)} in the reference{where}. Build again."
            )
    raise AssertionError("lists that differ have a first difference")


def _said(layer: tuple[str, tuple[int, ...]] | None) -> str:
    return "nothing" if layer is None else f"{layer[0]} {list(layer[1])}"


def _in_place(
    found: Sequence[NDArray[np.int8]], reference: Sequence[NDArray[np.int8]], layers: Sequence[Layer]
) -> list[NDArray[np.int8]]:
    """What layers gave, ``(images, values)`` each, put where the reference has their values; within one kind and shape."""
    from scipy.optimize import linear_sum_assignment

    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for number, layer in enumerate(layers):
        groups.setdefault((layer.kind, _core(layer.shape)), []).append(number)
    result = list(found)
    for group in groups.values():
        near = np.array([[_nearness(found[one], reference[other]) for one in group] for other in group])
        near[near < _NEAR] = 0.0
        slots, chosen = linear_sum_assignment(near + _IN_ORDER * np.eye(len(group)), maximize=True)
        are_known = near[slots, chosen] > 0
        taken = dict(zip(slots[are_known], chosen[are_known], strict=True))
        rest = [number for number in range(len(group)) if number not in taken.values()]
        for slot, number in enumerate(group):
            result[number] = found[group[taken[slot] if slot in taken else rest.pop(0)]]
    return result


def _nearness(one: NDArray[np.int8], other: NDArray[np.int8]) -> float:
    """Share of values that are a step apart at most."""
    return float((np.abs(one.astype(np.int16) - other) <= 1).mean())


def _core(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without trailing ones."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def compare(
    recording: Recording, key: str, candidate: Sequence[NDArray[np.int8]], kernels: str
) -> tuple[LayerDrift, ...]:
    """Each layer's steps ``(images, values)`` against the recorded ones of the reference `key`."""
    allowed, found = limits.layer_limits(kernels), []
    worst_share, worst_steps = 0.0, 0.0
    for layer, reference, steps in zip(recording.layers, recording.of(key), candidate, strict=True):
        one, other = (values.astype(np.float32) - layer.zero_point for values in (reference, steps))
        apart = np.abs(one - other)
        share, largest = float((apart != 0).mean()), float(apart.max())
        measured = {
            "snr_db": metrics.snr_db(one, other),
            "equal_values": 1 - share,
            "new_values": max(0.0, share - limits.FLIPS / apart.size - limits.GROWTH * worst_share),
            "new_steps": max(0.0, largest - limits.STEP_GROWTH * worst_steps),
        }
        worst_share, worst_steps = max(worst_share, share), max(worst_steps, largest)
        found.append(
            LayerDrift(
                name=layer.name,
                kind=layer.kind,
                snr_db=measured["snr_db"],
                equal_values=measured["equal_values"],
                max_steps=int(largest),
                checks=tuple(limits.judge("layer", allowed, measured)),
            )
        )
    return tuple(found)


def _rows(runtimes: Sequence[RuntimeDrift]) -> Iterator[list[str | int]]:
    for runtime in runtimes:
        for number, layer in enumerate(runtime.layers, 1):
            for target in runtime.targets:
                yield [
                    number,
                    layer.name,
                    layer.kind,
                    target,
                    runtime.reference,
                    f"{layer.snr_db:.2f}",
                    f"{layer.equal_values:.6f}",
                    layer.max_steps,
                    "yes" if layer.is_within else "no",
                ]


def files(runtimes: Sequence[RuntimeDrift]) -> dict[str, str | bytes]:
    """``drift.csv`` and ``drift.png``, by name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["number", "layer", "kind", "target", "reference", "snr_db", "equal_values", "max_steps", "within_limit"]
    )
    writer.writerows(_rows(runtimes))
    return {TABLE: text.getvalue(), PICTURE: _draw(runtimes)}


def _draw(runtimes: Sequence[RuntimeDrift]) -> bytes:
    """PNG: SNR and share of different values, a line a runtime over the layers; a cross where it leaves its limit first."""
    from matplotlib.figure import Figure

    layers = runtimes[0].layers
    figure = Figure(figsize=(max(8.0, 0.19 * len(layers)), 9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for number, runtime in enumerate(runtimes):
        # lines that lie on each other are seen by their widths
        style: dict[str, Any] = {"color": f"C{number}", "linewidth": 1.2 + 1.1 * (len(runtimes) - 1 - number)}
        heights = [min(layer.snr_db, _HIGHEST_DB) for layer in runtime.layers]
        shares = [100 * (1 - layer.equal_values) for layer in runtime.layers]
        upper.plot(heights, label=f"{runtime.verdict}; against {runtime.reference}", **style)
        lower.plot(shares, **style)
        if runtime.first is not None:
            at = runtime.layers.index(runtime.first)
            for axes, value in ((upper, heights[at]), (lower, shares[at])):
                axes.axvline(at, color=f"C{number}", linestyle=":")
                axes.plot(at, value, "x", color=f"C{number}", markersize=12, markeredgewidth=3)
    upper.set(ylabel=f"SNR in dB, {_HIGHEST_DB:g}: all equal")
    upper.set_ylim(min(0.0, upper.get_ylim()[0]), _HIGHEST_DB + 5)
    figure.legend(loc="outside upper left", fontsize=8)
    lower.set(ylabel="different values in %", xlim=(-1, len(layers)), xticks=np.arange(len(layers)))
    lower.set_yscale("symlog", linthresh=0.01)
    lower.set_ylim(0, 150)
    lower.set_xticklabels([layer.name for layer in layers], rotation=90, fontsize=7)
    for axes in (upper, lower):
        axes.grid(axis="x", color="0.93")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    return picture.getvalue()
