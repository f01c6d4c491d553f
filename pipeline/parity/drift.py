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


def candidates(trace: Trace, images: Images, layers: Sequence[Layer], name: str) -> list[NDArray[np.int8]]:
    """The sampled steps ``(images, values)`` of each layer of an artifact, on images ``(N, H, W, 4)`` uint8.

    Raises:
        VerifyError: its layers are not those of the reference.
    """
    kept: list[list[NDArray[np.int8]]] = [[] for _ in layers]
    indices = [layers_module.sampled(layer.shape) for layer in layers]
    for number in range(len(images)):
        values = trace(*arrays(images[number : number + 1]))
        _check_alignment(values, layers, name)
        for one, value, index in zip(kept, values, indices, strict=True):
            one.append(value.steps.reshape(-1)[index])
    return [np.stack(one) for one in kept]


def _check_alignment(values: Sequence[LayerValue], layers: Sequence[Layer], name: str) -> None:
    """Kind and shape, layer by layer; whether a mean keeps its dimensions of size 1 is no difference."""
    pairs = zip_longest(values, layers)
    for number, (value, layer) in enumerate(pairs, 1):
        mine = "nothing" if value is None else f"{value.kind} {list(_core(value.steps.shape))}"
        theirs = "nothing" if layer is None else f"{layer.kind} {list(_core(layer.shape))}"
        if mine != theirs:
            where = "" if layer is None else f", {layer.name}"
            raise VerifyError(
                f"{name} has {len(values)} layers, the reference {len(layers)}; layer {number} is {mine} there and "
                f"{theirs} in the reference{where}. Build again."
            )


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
