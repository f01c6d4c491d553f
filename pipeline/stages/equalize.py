"""Equalize: make the ranges of channels even without changing the function, so that eight bits serve them all.

Activations have one scale per tensor in every runtime. A channel whose range is a sixty-fourth of the widest one gets
four of 256 steps. Where the operations between two layers pass a factor per channel on, ``s`` can be taken out of the
rows of the producer and put into the columns of the consumer::

    W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1)        f homogeneous: none, ReLU, mean, addition of both

This is cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019; Meller et al., "Same, Same But Different", 2019). Three things differ from the papers:

- Weights have a scale per output channel here, so rows cost nothing. The factor weighs the range of the *activation*
  against that of the consumer's *columns*, with an exponent as in Xiao et al., "SmoothQuant", 2022; the exponent of each
  group is the one that promises the least noise (`_noise`).
- All tensors that additions join have one factor per channel: producers and consumers of a residual group are
  rescaled together, which is exact too.
- A constant per channel is moved as well, where it is exact: linear layers may be shifted freely if no consumer pads
  (the high-bias absorption of Nagel et al., section 4.1.3, without its assumption on the distribution; as in Wei et
  al., "Outlier Suppression+", 2023).

ReLU6 is not homogeneous: its bound would move with the factor, and no runtime has a bound per channel. So a channel
behind ReLU6 is rescaled only if it does not reach 6, before and after. With `Bounds` "proven" that holds for any image
there is, by interval arithmetic from the bytes 0..255 on, and the function stays the same. With "measured" it holds for
the calibration images, by a margin; other images may move the function, and how much has to be measured on them. All
other channels keep the factor 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Interpreter, Node

from ..data import Images
from ..errors import ConversionError
from ..program import ACTIVATIONS, CLAMP, PAD, WEIGHTED, attribute, inputs, module_path

aten = torch.ops.aten
_SAME = (aten.mean.dim, aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.alias.default, PAD)
_ELEMENTS_AT_ONCE = 2**23
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
Bounds = Literal["proven", "measured"]

MARGIN = 1.25
"""Of what calibration images reach: a channel counts as reaching as much more."""
WORTH_DB = 0.5
"""A group whose noise would fall by less is even enough, and stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Equalized:
    """The new module, the groups of channels that were found, and what was gained in each that was changed.

    Attributes:
        module: a copy with other weights and biases, the same function.
        groups: number of groups whose channels may be rescaled.
        gains_db: expected noise before over after, by the name of the group's first layer.
    """

    module: nn.Module
    groups: int
    gains_db: dict[str, float]


@dataclass(eq=False)
class _Layer:
    """A convolution or linear layer: float64 weights ``(out, in / groups, taps)`` and biases ``(out,)``."""

    name: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    is_depthwise: bool
    is_grouped: bool
    pads: bool


@dataclass(eq=False)
class _Group:
    """Tensors that share their channels: who writes them, who reads them, where they are quantized.

    Attributes:
        readers: each consumer and the tensor that it reads.
        sums: how often each producer is in a tensor; additions add them up.
        clamps: ReLU6 nodes; their arguments are values, least and largest.
    """

    producers: list[_Layer] = field(default_factory=list)
    readers: list[tuple[_Layer, Node]] = field(default_factory=list)
    points: list[Node] = field(default_factory=list)
    sums: dict[Node, Counter[_Layer]] = field(default_factory=dict)
    clamps: list[Any] = field(default_factory=list)
    is_pinned: bool = False
    is_linear: bool = True

    def join(self, other: _Group) -> None:
        self.producers += other.producers
        self.readers += other.readers
        self.points += other.points
        self.sums |= other.sums
        self.clamps += other.clamps
        self.is_pinned |= other.is_pinned
        self.is_linear &= other.is_linear


@dataclass(frozen=True)
class _Statistics:
    """Of each channel of a tensor on the calibration images: least and largest value, mean, mean of squares."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    square: NDArray[np.float64]


def equalize(folded: nn.Module, calibration: Images, bounds: Bounds = "proven") -> Equalized:
    """A copy of `folded` with even ranges.

    Args:
        folded: module on ``(N, H, W, 4)`` uint8 whose convolutions and linear layers have biases.
        calibration: ``(N, H, W, 4)`` uint8 RGBA images that show the ranges of activations.
        bounds: how it is known that a channel does not reach the bound of its ReLU6.
    """
    graph = export(folded, calibration[:1])
    layers, groups = _analyse(graph)
    free = [g for g in groups if not g.is_pinned and g.producers and g.readers]
    clamped = {clamp.args[0] for group in free for clamp in group.clamps} if bounds == "measured" else set()
    found = _measure(graph, {point for group in free for point in group.points} | clamped, calibration)
    largest = _upper_bounds(graph, layers)
    for group in free if bounds == "measured" else ():
        for clamp in group.clamps:
            largest[clamp] = np.minimum(largest[clamp], MARGIN * found[clamp.args[0]].high)
    readers_of = {layer: group.readers for group in groups for layer in group.producers}
    gains = {}
    for group in free:
        before = _noise(group, found, readers_of, 1.0, {})
        gain, factors, shifts = max(
            ((before / _noise(group, found, readers_of, s, c), s, c) for s, c in _candidates(group, found, largest)),
            key=lambda candidate: candidate[0],
            default=(1.0, None, {}),
        )
        if factors is None or 10 * np.log10(gain) < WORTH_DB:
            continue
        _apply(group, factors, shifts)
        gains[group.producers[0].name] = 10 * float(np.log10(gain))
    return Equalized(module=_with_weights(folded, layers.values()), groups=len(free), gains_db=gains)


def export(module: nn.Module, example: Images) -> GraphModule:
    """The graph of a module on images, its parameters copied."""
    graph = torch.export.export(deepcopy(module).eval(), inputs(example)).module()
    if not isinstance(graph, GraphModule):
        raise ConversionError("torch.export gave no graph")
    return graph


def _analyse(graph: GraphModule) -> tuple[dict[Node, _Layer], list[_Group]]:
    """The layers by node, and the groups of tensors that share their channels."""
    layers: dict[Node, _Layer] = {}
    group_of: dict[Node, _Group] = {}

    def united(nodes: list[Node]) -> _Group:
        first, *others = list({id(group_of[n]): group_of[n] for n in nodes}.values())
        for other in others:
            first.join(other)
            group_of.update({node: first for node, group in group_of.items() if group is other})
        return first

    for node in graph.graph.nodes:
        sources = [a for a in node.all_input_nodes if a in group_of]
        if node.target in WEIGHTED and node.args[0] in group_of and _is_over_channels(node):
            layers[node] = layer = _layer(graph, node)
            source = group_of[node.args[0]]
            source.readers.append((layer, node.args[0]))
            group_of[node] = _Group(producers=[layer], sums={node: Counter([layer])})
            if layer.is_grouped:
                source.is_pinned = group_of[node].is_pinned = True
        elif node.target in (*ACTIVATIONS, *_SAME) and _keeps_channels(node):
            group = group_of[node] = group_of[node.args[0]]
            group.is_linear &= node.target in _SAME
            group.sums[node] = group.sums[node.args[0]]
            if node.target in CLAMP:
                group.clamps.append(node)
                group.is_pinned |= node.args[1] != 0
        elif node.target == aten.add.Tensor and len(sources) == 2:
            group = group_of[node] = united(sources)
            group.sums[node] = sum((group.sums[s] for s in node.args), Counter())
        elif node.op == "placeholder" or sources:
            for source in sources:
                group_of[source].is_pinned = True
            group_of[node] = _Group(is_pinned=True, sums={node: Counter()})
        if node in group_of and not any(user.target in (*ACTIVATIONS, *_SAME[1:]) for user in node.users):
            group_of[node].points.append(node)
    return layers, list({id(group): group for group in group_of.values()}.values())


def _layer(graph: GraphModule, node: Any) -> _Layer:
    if len(node.args) < 3 or node.args[2] is None:
        raise ConversionError(f"'{node.args[1]}' has no bias beside it; the fold stage gives every layer one")
    weight = attribute(graph, node.args[1].target).double().numpy()
    bias = attribute(graph, node.args[2].target).double().numpy().copy()
    channels = node.args[0].meta["val"].shape[1]
    is_depthwise = _is_grouped(node) and weight.shape[1] == 1 and len(weight) == channels
    padding = node.args[4] if node.target == aten.conv2d.default and len(node.args) > 4 else [0]
    return _Layer(
        name=module_path(node),
        weight=weight.reshape(len(weight), weight.shape[1], -1).copy(),
        bias=bias,
        is_depthwise=is_depthwise,
        is_grouped=_is_grouped(node) and not is_depthwise,
        pads=any(padding) or node.args[0].target == PAD,
    )


def _is_over_channels(node: Any) -> bool:
    """Whether a layer mixes the second axis of what it reads: a linear layer over tokens mixes the last."""
    return bool(node.target == aten.conv2d.default or node.args[0].meta["val"].ndim == 2)


def _is_grouped(node: Any) -> bool:
    return bool(node.target == aten.conv2d.default and len(node.args) > 6 and node.args[6] != 1)


def _keeps_channels(node: Any) -> bool:
    """A flatten does where one pixel is left, a mean where it is taken over the pixels."""
    before, after = node.args[0].meta["val"].shape, node.meta["val"].shape
    if node.target == aten.mean.dim and sorted(d % len(before) for d in node.args[1]) != [2, 3]:
        return False
    return bool(len(before) > 1 and len(after) > 1 and before[1] == after[1])


def _measure(graph: GraphModule, points: set[Node], images: Images) -> dict[Node, _Statistics]:
    """Statistics of each channel of the tensors, over images ``(N, H, W, 4)``."""
    parts: dict[Node, list[NDArray[np.float64]]] = {point: [] for point in points}

    class Watched(Interpreter):
        def run_node(self, n: Node) -> Any:
            if n.op == "call_module":  # a guard on the number of images
                return None
            value = super().run_node(n)
            if n in parts:
                flat = value.reshape(*value.shape[:2], -1)
                rows = [flat.amin(2), flat.amax(2), flat.mean(2), flat.square().mean(2)]
                parts[n].append(torch.stack(rows).double().numpy())
            return value

    watched = Watched(graph)
    largest = max([n.meta["val"].numel() for n in graph.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)])
    batch = max(1, min(32, _ELEMENTS_AT_ONCE // largest))
    with torch.no_grad():
        for start in range(0, len(images), batch):
            watched.run(*inputs(images[start : start + batch]))
    found = {}
    for point, rows in parts.items():
        low, high, mean, square = np.concatenate(rows, axis=1)
        found[point] = _Statistics(low.min(0), high.max(0), mean.mean(0), square.mean(0))
    return found


def _candidates(
    group: _Group, found: dict[Node, _Statistics], bounds: dict[Node, NDArray[np.float64]]
) -> Iterator[tuple[NDArray[np.float64], dict[_Layer, NDArray[np.float64]]]]:
    """Factors ``(channels,)`` and shifts of the producers to choose from."""
    columns = np.sqrt(sum(_columns(layer, np.ones(len(layer.weight))) for layer, _ in group.readers))
    for shifts in _shifts(group, found):
        width = np.zeros(len(columns))
        for point in group.points:
            centre = _shift_of(group, point, shifts)
            width = np.maximum(width, np.maximum(found[point].high - centre, centre - found[point].low))
        is_live = (width > 1e-6 * width.max()) & (columns > 1e-6 * columns.max())
        if not is_live.any():
            continue
        for exponent in _EXPONENTS:
            factors = np.ones(len(columns))
            factors[is_live] = width[is_live] ** exponent / columns[is_live] ** (1 - exponent)
            # a power of two changes no digit of a float: rows and columns are rescaled without rounding
            if group.clamps:
                yield np.exp2(np.ceil(np.log2(_within_clamps(factors, is_live, group, bounds)))), shifts
            else:
                factors[is_live] /= _geometric_mean(factors[is_live])
                yield np.exp2(np.rint(np.log2(factors))), shifts


def _within_clamps(
    factors: NDArray[np.float64], is_live: NDArray[np.bool_], group: _Group, bounds: dict[Node, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """1 for channels that can reach the bound; the others follow these, and stay below it."""
    is_free = np.all([bounds[node] <= node.args[2] for node in group.clamps], axis=0)
    lowest = np.max([bounds[node] / node.args[2] for node in group.clamps], axis=0)
    fixed = is_live & ~is_free
    follow = factors / _geometric_mean(factors[fixed if fixed.any() else is_live])
    return np.where(is_free & is_live, np.maximum(follow, lowest), 1.0)


def _geometric_mean(values: NDArray[np.float64]) -> float:
    return float(np.exp(np.log(values).mean()))


def _shifts(group: _Group, found: dict[Node, _Statistics]) -> list[dict[_Layer, NDArray[np.float64]]]:
    """None, and where it is exact the middle of each producer's range."""
    if not group.is_linear or any(layer.pads for layer, _ in group.readers):
        return [{}]
    middles = {}
    for point in group.points:
        if sum(group.sums[point].values()) == 1:
            (producer,) = group.sums[point]
            middles[producer] = (found[point].low + found[point].high) / 2
    return [{}, middles]


def _shift_of(group: _Group, node: Node, shifts: dict[_Layer, NDArray[np.float64]]) -> Any:
    return sum((count * shifts[layer] for layer, count in group.sums[node].items() if layer in shifts), 0.0)


def _noise(
    group: _Group,
    found: dict[Node, _Statistics],
    readers_of: dict[_Layer, list[tuple[_Layer, Node]]],
    factors: NDArray[np.float64] | float,
    shifts: dict[_Layer, NDArray[np.float64]],
) -> float:
    """Expected noise power of the consumers' outputs, up to a constant, if rounding errors are uniform.

    A value rounded to a step of D has the error D^2 / 12. Activations have one D per tensor, weights one per output
    channel. Each output channel counts by the energy of the columns that read it, so that the measure itself does not
    depend on how channels are scaled.
    """
    total = 0.0
    for point in group.points:
        centre, s = _shift_of(group, point, shifts), found[point]
        step = (((s.high - centre) / factors).max() - ((s.low - centre) / factors).min()) / 255
        for layer, _ in group.readers:
            energy = _columns(layer, _importance(layer, readers_of))
            total += step**2 * float((energy * np.square(factors)).sum())
    for layer, node in group.readers:
        centre, s = _shift_of(group, node, shifts), found.get(node) or _quantized_source(node, found)
        power = (s.square - 2 * centre * s.mean + centre**2) / np.square(factors)
        importance, taps = _importance(layer, readers_of), layer.weight.shape[2]
        if layer.is_depthwise:
            steps = np.abs(layer.weight).max((1, 2)) * factors / 127
            total += float((importance * np.square(steps) * taps * power).sum())
        else:
            steps = (np.abs(layer.weight).max(2) * factors).max(1) / 127
            total += float((importance * np.square(steps)).sum() * taps * power.sum())
    return max(total, 1e-300)


def _quantized_source(node: Node, found: dict[Node, _Statistics]) -> _Statistics:
    """Of a flatten, the tensor before it."""
    while node not in found:
        node = node.args[0]  # type: ignore[assignment]
    return found[node]


def _columns(layer: _Layer, importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares of the weights that read each input channel ``(in,)``."""
    squares = np.square(layer.weight).sum(2) * importance[:, None]
    found: NDArray[np.float64] = squares[:, 0] if layer.is_depthwise else squares.sum(0)
    return found


def _importance(layer: _Layer, readers_of: dict[_Layer, list[tuple[_Layer, Node]]]) -> NDArray[np.float64]:
    """How much the next layers make of each output channel ``(out,)``; 1 at the end of the network."""
    readers = readers_of.get(layer, [])
    if not readers or any(reader.is_grouped for reader, _ in readers):
        return np.ones(len(layer.weight))
    energy: NDArray[np.float64] = np.sum([_columns(r, np.ones(len(r.weight))) for r, _ in readers], axis=0)
    return energy


def _apply(group: _Group, factors: NDArray[np.float64], shifts: dict[_Layer, NDArray[np.float64]]) -> None:
    for layer in group.producers:
        layer.bias -= shifts.get(layer, 0.0)
        layer.weight /= factors[:, None, None]
        layer.bias /= factors
    for layer, node in group.readers:
        if shifts:  # before the factors: the shift is in the old units
            shift = np.broadcast_to(_shift_of(group, node, shifts), len(factors))
            taps = layer.weight.sum(2)
            layer.bias += taps[:, 0] * shift if layer.is_depthwise else taps @ shift
        layer.weight *= factors[:, None, None] if layer.is_depthwise else factors[None, :, None]


def _upper_bounds(graph: GraphModule, layers: dict[Node, _Layer]) -> dict[Node, NDArray[np.float64]]:
    """What no value of a channel can exceed before each ReLU6, whatever the image: interval arithmetic."""
    ranges: dict[Node, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    bounds = {}
    for node in graph.graph.nodes:
        sources = [ranges[a] for a in node.all_input_nodes if a in ranges]
        if node.op == "placeholder" and node.meta["val"].dtype == torch.uint8:
            ranges[node] = np.array([0.0, 0.0, 0.0, 255.0]), np.full(4, 255.0)  # opaque RGBA bytes
        elif node.op != "placeholder" and not sources:
            continue
        elif node in layers:
            ranges[node] = _interval(layers[node], *sources[0])
        elif node.target in ACTIVATIONS:
            top = float(node.args[2]) if node.target in CLAMP else np.inf
            bounds[node] = sources[0][1]
            ranges[node] = np.clip(sources[0][0], 0, top), np.clip(sources[0][1], 0, top)
        elif node.target == aten.add.Tensor and len(sources) == 2:
            ranges[node] = sources[0][0] + sources[1][0], sources[0][1] + sources[1][1]
        elif node.target == aten.sub.Tensor and isinstance(node.args[1], (int, float)):
            ranges[node] = sources[0][0] - node.args[1], sources[0][1] - node.args[1]
        elif node.target == aten.to.dtype or _turns_pixels(node) or (node.target in _SAME and _keeps_channels(node)):
            ranges[node] = sources[0]
        elif "val" in node.meta and getattr(node.meta["val"], "ndim", 0) > 1:
            channels = node.meta["val"].shape[1]
            ranges[node] = np.full(channels, -np.inf), np.full(channels, np.inf)
    return bounds


def _turns_pixels(node: Node) -> bool:
    """RGBA bytes, with their channels last, to maps."""
    return node.target == aten.permute.default and list(node.args[1]) == [0, 3, 1, 2] and node.meta["val"].shape[1] == 4  # type: ignore[arg-type]


def _interval(
    layer: _Layer, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if layer.is_grouped:
        return np.full(len(layer.weight), -np.inf), np.full(len(layer.weight), np.inf)
    if layer.pads:  # a tap may read a zero
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    weight = layer.weight
    shape = (-1, 1, 1) if layer.is_depthwise else (1, -1, 1)
    with np.errstate(invalid="ignore"):  # 0 times infinity
        ends = [np.where(weight == 0, 0, weight * end.reshape(shape)) for end in (low, high)]
    return (
        np.minimum(*ends).sum((1, 2)) + layer.bias,
        np.maximum(*ends).sum((1, 2)) + layer.bias,
    )


def _with_weights(folded: nn.Module, layers: Iterable[_Layer]) -> nn.Module:
    changed = deepcopy(folded)
    with torch.no_grad():
        for layer in layers:
            module: Any = changed.get_submodule(layer.name)
            module.weight.copy_(torch.from_numpy(layer.weight).reshape(module.weight.shape))
            module.bias.copy_(torch.from_numpy(layer.bias))
    return changed
