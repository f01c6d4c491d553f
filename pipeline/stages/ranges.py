"""Ranges of activations from calibration: min/max, percentile, or least squared error.

- ``minmax``: every value fits. One outlier widens the step of all others.
- ``percentile``: all but 0.01 % of the values fit, half of these on each side (Wu et al., "Integer Quantization for
  Deep Learning Inference", 2020, section 5.1).
- ``mse``: the clipping whose squared error, of rounding and of clipping together, is least (Nagel et al., "A White
  Paper on Neural Network Quantization", 2021, section 3.1).

All three follow from one pass. Every value counts, in a histogram whose bins are the first 18 bits of a float32: sign,
exponent, and nine bits of the fraction. Such a bin is 0.2 % of its value wide wherever it lies, so nothing has to be
known of the tensor before, a few outliers cost no resolution, and zeros, of padding or of ReLU, have a bin of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Interpreter, Node

from ..data import Images
from ..program import inputs

if TYPE_CHECKING:
    from torch.fx import GraphModule

Estimator = Literal["minmax", "percentile", "mse"]

OUTSIDE = 1e-4
"""Share of the values that ``percentile`` leaves outside."""

_BITS = 18
_DROPPED = 32 - _BITS
_SPREAD = 2
"""Points that stand for a bin where errors are summed."""
_SMALL = 2.0**-10
_COARSE = np.geomspace(1.0, 2.0**-12, 25)
_FINE = np.linspace(0.8, 1.25, 29)
_FINEST = np.linspace(0.99, 1.01, 17)
_FEW = 4000
"""Points that allow every pair of ends to be tried."""
_KEPT = 2**14
_ELEMENTS_AT_ONCE = 2**25


class Seen:
    """The values of a tensor: how many in each bin, the least and the largest, both with zero among them.

    Zero is in every range, for padding is a zero and has to stay one.
    """

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self._least, self._most = np.inf, -np.inf
        self._counts: torch.Tensor | None = None
        self._values: list[torch.Tensor] | None = []
        self._packed: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]] | None = None
        self._ranges: dict[Estimator, tuple[float, float]] = {}

    def add(self, values: torch.Tensor) -> None:
        """Count values of any shape, float32."""
        self._ranges.clear()
        low, high = (float(end) for end in values.aminmax())
        self._least, self._most = min(self._least, low), max(self._most, high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self._values is not None:  # so few are known one by one
            self._values.append(values.detach().reshape(-1).clone())
            if sum(map(len, self._values)) > _KEPT:
                self._values = None
        bins = (values.detach().contiguous().view(torch.int32).reshape(-1) >> _DROPPED) + 2 ** (_BITS - 1)
        counts = torch.bincount(bins, minlength=2**_BITS)
        self._counts, self._packed = counts if self._counts is None else self._counts.add_(counts), None

    def range(self, estimator: Estimator) -> tuple[float, float]:
        """Least and largest value of the range; min <= 0 <= max. Looked for once: every candidate asks."""
        if estimator not in self._ranges:
            self._ranges[estimator] = self._found(estimator)
        return self._ranges[estimator]

    def _found(self, estimator: Estimator) -> tuple[float, float]:
        if estimator == "minmax" or self.low == self.high:
            return self.low, self.high
        if estimator == "percentile":
            low, high = self.quantile(OUTSIDE / 2), self.quantile(1 - OUTSIDE / 2)
            return max(min(low, 0.0), self.low), min(max(high, 0.0), self.high)
        low, high = self._least_error()
        return float(low), float(high)

    def quantile(self, share: float) -> float:
        """The value below which this share of all lies: between two values linear, and a bin's spread evenly over it."""
        if self._values is not None:
            return float(np.quantile(torch.cat(self._values).double().numpy(), share))
        starts, ends, counts = self._bins()
        above = np.cumsum(counts)
        position = share * (above[-1] - 1)
        ranks = np.array([int(position), min(int(position) + 1, int(above[-1]) - 1)])
        index = np.searchsorted(above, ranks, side="right")
        inside = (ranks - (above - counts)[index] + 0.5) / counts[index]
        values = starts[index] + (ends - starts)[index] * inside
        return float(values[0] + (values[1] - values[0]) * (position - ranks[0]))

    def _bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Ends of each bin that has values, the lower first and both within the values' own range, and its count."""
        if self._packed is not None:
            return self._packed
        assert self._counts is not None, "nothing was seen"
        found = torch.nonzero(self._counts).reshape(-1)
        bits = (found - 2 ** (_BITS - 1)).to(torch.int32) << _DROPPED
        near = bits.view(torch.float32).double().numpy()
        far = (bits | (2**_DROPPED - 1)).view(torch.float32).double().numpy()
        is_zero = (bits & 0x7FFFFFFF) == 0
        far = np.where(is_zero.numpy(), near, far)  # with what is too small to be told from it
        starts, ends = np.minimum(near, far), np.maximum(near, far)
        order = np.argsort(starts)
        starts, ends = starts.clip(self._least, self._most), ends.clip(self._least, self._most)
        self._packed = starts[order], ends[order], self._counts[found].numpy()[order]
        return self._packed

    def pack(self) -> None:
        """When all was added: two megabytes less."""
        self._bins()
        self._counts = None

    def _points(self, each: int, together: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values and their shares: `each` bin by so many, or neighbours `together`; small values by one in an octave."""
        if self._values is not None and sum(map(len, self._values)) <= _FEW:
            values = torch.cat(self._values).double().numpy()
            return values, np.full(len(values), 1 / len(values))
        starts, ends, counts = self._bins()
        middles = (starts + ends) / 2
        # whatever the step, the error of values below half of it is their square
        small = np.abs(middles) < _SMALL * max(-self.low, self.high)
        octave = np.where(small, np.sign(middles) * (np.frexp(middles)[1] + 1024), 0)
        # neighbours by their bits: bins without values lie between those that have some
        bits = middles.astype(np.float32).view(np.int32) >> _DROPPED
        key = np.where(small, octave - 2.0**30, bits // together)
        _, group = np.unique(key, return_inverse=True)
        total = np.bincount(group, counts)
        merged = np.bincount(group, counts * middles) / total
        merged = np.sign(merged) * np.sqrt(np.bincount(group, counts * middles**2) / total)
        if each == 1:
            return merged, total / total.sum()
        merged, weights = merged[np.unique(group[small])], total[np.unique(group[small])]
        places = (np.arange(each) + 0.5) / each
        spread = starts[~small, None] + (ends - starts)[~small, None] * places
        values = np.concatenate([merged, spread.reshape(-1)])
        weights = np.concatenate([weights, np.repeat(counts[~small] / each, each)])
        return values, weights / weights.sum()

    def _least_error(self) -> tuple[float, float]:
        """Both ends over all sizes, on few points; then near the best of these on many, in turn where they are too many."""
        low, high = self._best(self._points(1, 16), (self.low, self.high), _COARSE, _COARSE)
        points = self._points(_SPREAD, 1)
        if len(points[0]) <= _FEW:
            low, high = self._best(points, (low, high), _FINE, _FINE)
            return self._best(points, (low, high), _FINEST, _FINEST)
        for shares in (_FINE, _FINE, _FINEST):
            low, high = self._best(points, (low, high), np.ones(1), shares)
            low, high = self._best(points, (low, high), shares, np.ones(1))
            low, high = self._best(points, (low, high), shares, None)
        return low, high

    def _best(
        self,
        points: tuple[NDArray[np.float64], NDArray[np.float64]],
        near: tuple[float, float],
        below: NDArray[np.float64],
        above: NDArray[np.float64] | None,
    ) -> tuple[float, float]:
        """Of all pairs of shares of the ends `near`; without `above`, both ends by the same share."""
        pairs = [(a, b) for a in below for b in (above if above is not None else [a])]
        ends = {(max(near[0] * a, self.low), min(near[1] * b, self.high)) for a, b in pairs}
        return min(sorted(ends), key=lambda pair: _error(*points, *pair))


def observe(prepared: GraphModule, images: Images, estimator: Estimator) -> None:
    """Run the images ``(N, H, W, 4)`` uint8 through a prepared graph, and set the ranges of its observers."""
    for observer, seen in collect(prepared, images).items():
        low, high = seen.range(estimator)
        observer.min_val, observer.max_val = torch.tensor(low), torch.tensor(high)


def collect(prepared: GraphModule, images: Images) -> dict[Any, Seen]:
    """What each observer of an activation sees, by observer; those of weights see theirs."""
    found: dict[Any, Seen] = {observer: Seen() for observer in _activation_observers(prepared)}
    run(prepared, images, lambda observer, x: found[observer].add(x) if observer in found else observer(x))
    return found


def run(prepared: GraphModule, images: Images, observe: Callable[[Any, torch.Tensor], object]) -> None:
    """Run images ``(N, H, W, 4)`` uint8 in batches; `observe` is given each observer and its tensor."""
    size = max([n.meta["val"].numel() for n in prepared.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)])
    batch = max(1, min(16, _ELEMENTS_AT_ONCE // size))

    class Observed(Interpreter):
        def run_node(self, n: Node) -> Any:
            if n.op != "call_module":
                return super().run_node(n)
            if not is_observer(n):
                return None  # a guard on the number of images
            (x,), _ = self.fetch_args_kwargs_from_env(n)
            observe(prepared.get_submodule(str(n.target)), x)  # type: ignore[arg-type]
            return x

    observed = Observed(prepared)
    with torch.no_grad():
        for start in range(0, len(images), batch):
            observed.run(*inputs(images[start : start + batch]))


def is_observer(node: Node) -> bool:
    return node.op == "call_module" and "activation_post_process" in str(node.target)


def of_each_image(prepared: GraphModule, images: Images) -> dict[Any, NDArray[np.float64]]:
    """By observer of an activation: the least and largest value of each image, ``(N, 2)``."""
    found: dict[Any, dict[int, list[NDArray[np.float64]]]] = {module: {} for module in _activation_observers(prepared)}
    calls: dict[Any, int] = {}

    def keep(observer: Any, x: torch.Tensor) -> None:
        if observer not in found:
            observer(x)
            return
        # tensors that share a range share an observer, which then runs more than once
        flat, number = x.reshape(len(x), -1), calls.get(observer, 0)
        found[observer].setdefault(number, []).append(torch.stack([flat.amin(1), flat.amax(1)], 1).double().numpy())
        calls[observer] = (number + 1) % uses[observer]

    uses = dict.fromkeys(found, 0)
    for node in prepared.graph.nodes:
        if is_observer(node) and (module := prepared.get_submodule(str(node.target))) in uses:
            uses[module] += 1
    run(prepared, images, keep)
    rows = {module: np.stack([np.concatenate(parts) for parts in row.values()]) for module, row in found.items()}
    return {module: np.stack([row[..., 0].min(0), row[..., 1].max(0)], 1) for module, row in rows.items()}


def set_from(per_image: dict[Any, NDArray[np.float64]], chosen: NDArray[np.int64]) -> None:
    """Give the observers the ranges of the chosen images."""
    for observer, rows in per_image.items():
        observer.min_val = torch.tensor(rows[chosen, 0].min(), dtype=torch.float32)
        observer.max_val = torch.tensor(rows[chosen, 1].max(), dtype=torch.float32)


def set_all(prepared: GraphModule, found: Sequence[tuple[float, float]]) -> None:
    """Give each observer of an activation its range, in order of the graph."""
    for observer, (low, high) in zip(_activation_observers(prepared), found, strict=True):
        observer.min_val, observer.max_val = torch.tensor(low), torch.tensor(high)


def trained(prepared: GraphModule) -> tuple[tuple[float, float], ...]:
    """What the fake quantizers of activations have come to, in order of the graph."""
    observers = [getattr(module, "activation_post_process", module) for module in _activation_observers(prepared)]
    return tuple((min(float(o.min_val), 0.0), max(float(o.max_val), 0.0)) for o in observers)


def _activation_observers(prepared: GraphModule) -> list[Any]:
    """Those whose input is no weight."""
    found = {
        str(node.target): prepared.get_submodule(str(node.target))
        for node in prepared.graph.nodes
        if is_observer(node) and node.args[0].op != "get_attr"  # type: ignore[union-attr]
    }
    return list(dict.fromkeys(found.values()))


def _error(values: NDArray[np.float64], weights: NDArray[np.float64], low: float, high: float) -> float:
    step = max((high - low) / 255, 1e-12)
    zero = round(-low / step)
    scaled = values / step
    apart = np.rint(scaled)
    np.clip(apart, -zero, 255 - zero, out=apart)
    apart -= scaled
    return float(np.square(apart, out=apart) @ weights) * step**2
