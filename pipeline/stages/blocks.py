"""Block by block: which way each weight is rounded is learnt, so that a block's output stays where it was.

A weight may go to the whole step below or above it, and the better one is not always the nearer: what counts is the sum
that it is in (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020). The layers of a block
are learnt together, with the block's own output as the target, because errors of layers in a row make up for each other
(Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", 2021). As there, an error
counts by what the network makes of it: here each channel by the mean square of the outputs' gradient, which is the
diagonal of the Gauss-Newton matrix for the loss that is measured in the end, squared errors of outputs.

Each block reads what the quantized blocks before it give, so that it makes their errors good as well. All of it is
regularized: a weight moves by less than one step, and the fraction that is still between two steps is driven to one of
them. And of the images that it learns from a share is kept aside, on which each block has to be better than it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node
from torch.fx.node import map_arg

from ..data import Images
from ..program import ACTIVATIONS, WEIGHTED, inputs, module_path, packed
from ..saying import Say
from . import quantize, ranges
from .layerwise import Rounded
from .simulation import Grid, Layers, Ranges, Simulation, Statistics, Walk, parameters, weight_scale

STEPS = 120
"""Of Adam, for each block."""

_RATE = 0.02
"""Of a step between whole weights."""
_BIAS_RATE = 0.0005
"""Of a channel's standard deviation."""
_POSITIONS, _IMAGES = 4096, 16
"""Of the largest map in a block, at most, for one step; what is less is the number of images."""
_ASIDE = 5
"""Every so many images, one that a block does not learn from."""
_OVERHEAD = 0.01
"""Seconds of a step beside what its images take."""
_LAYERS = 4
_AT_ONCE = 2
_ELEMENTS = 2**28
"""Of the largest tensor with all images, a byte each."""


@dataclass(frozen=True, eq=False)
class Block:
    """What lies between two quantizers of activations, or the last one and the outputs, where nothing else passes by."""

    start: Node
    end: Node
    nodes: tuple[Node, ...]
    constants: Mapping[Node, tuple[torch.Tensor, torch.Tensor]]

    @property
    def layers(self) -> list[Node]:
        return [node for node in self.nodes if node.target in WEIGHTED]

    @property
    def positions(self) -> int:
        """Of the largest map in it."""
        values = [n.meta.get("val") for n in self.nodes]
        return max([v[0, 0].numel() for v in values if isinstance(v, torch.Tensor) and v.ndim > 1], default=1)

    def output(self, x: torch.Tensor, layers: Layers, grids: Mapping[Node, Grid]) -> torch.Tensor:
        """What its last quantizer is given, or all outputs in one, from what its first one gives; without `grids` nothing is rounded between."""
        values: dict[Any, Any] = {self.start: x}
        values |= {node: rounded if grids else real for node, (real, rounded) in self.constants.items()}
        for node in self.nodes:
            if node.target in WEIGHTED:
                values[node] = node.target(values[node.args[0]], *layers[module_path(node)], *node.args[3:])  # type: ignore[operator]
            elif node.op == "call_module" and node.args and node.args[0] in values:
                value = values[node.args[0]]
                values[node] = grids[node].trained(value) if node in grids else value
            elif node.op == "call_function":
                given = map_arg(node.args, values.__getitem__)  # a concatenation has a list of them
                values[node] = node.target(*given, **node.kwargs)  # type: ignore[operator]
        ends: list[torch.Tensor] = [values[one] for one in self.last]
        return ends[0] if len(ends) == 1 else packed(ends, len(x))

    @property
    def last(self) -> list[Node]:
        """What gives its output; several where it ends in several outputs."""
        found: Any = self.end.args[0]
        return list(found) if isinstance(found, (tuple, list)) else [found]

    @property
    def sizes(self) -> list[int]:
        """Values of each of several outputs; none where it ends in one tensor."""
        given = [one.args[0] if ranges.is_observer(one) else one for one in self.last]
        return [one.meta["val"][0].numel() for one in given] if len(given) > 1 else []  # type: ignore[union-attr]


def blocks(simulation: Simulation) -> list[Block]:
    """In order of the data; each ends behind a layer without activation if it can, and has few layers. None where an input is
    an output as well, or read at the end: nothing before that is all that the rest depends on."""
    nodes = [n for n in simulation.graph.graph.nodes if n.op != "get_attr" and not _is_of_weight(n)]
    order = {node: number for number, node in enumerate(nodes)}
    cuts, furthest = [], -1
    for number, node in enumerate(nodes):
        if (furthest <= number and node in simulation.activations) or node.op == "output":
            cuts.append(node)
        furthest = max([furthest, *(order[user] for user in node.users if user in order)])

    def count(start: Node, end: Node) -> int:
        return sum(node.target in WEIGHTED for node in nodes[order[start] : order[end]])

    found = []
    start, *ends = cuts
    for cut, after in zip_longest(ends, ends[1:]):
        is_linear = after is not None and cut.args[0].target not in ACTIVATIONS
        is_full = after is None or count(start, after) > _LAYERS
        if count(start, cut) and (is_full or (is_linear and count(start, cut) > 1)):
            found.append(Block(start, cut, tuple(nodes[order[start] + 1 : order[cut]]), simulation.constants))
            start = cut
    return found


def seconds(simulation: Simulation, image: float) -> float:
    """About how long the learning takes where one image takes so long through the quantized network.

    A step goes forward and back, and products of large matrices take less time than quantizers do.
    """
    work = {node: _work(node) for node in simulation.layers}
    parts = blocks(simulation)
    if not parts:
        return 0.0
    share = [sum(work[node] for node in block.layers) / sum(work.values()) for block in parts]
    images = sum(part * _images_at_once(block) for part, block in zip(share, parts, strict=True))
    return STEPS * (2 * image * images + _OVERHEAD * len(parts))


def learn(
    simulation: Simulation,
    tuned: nn.Module,
    floating: nn.Module,
    settings: quantize.Settings,
    found: Ranges,
    wanted: Statistics,
    images: Images,
    say: Say,
) -> Rounded:
    """Layers with learned rounding and biases.

    Args:
        tuned: the float module whose weights are rounded.
        floating: the module whose outputs are wanted, block by block.
        wanted: of `floating`.
        images: ``(N, H, W, 4)`` uint8 RGBA.
    """
    largest = max([n.meta["val"].numel() for n in simulation.graph.graph.nodes if hasattr(n.meta.get("val"), "numel")])
    images = images[np.linspace(0, len(images) - 1, max(1, min(len(images), _ELEMENTS // largest))).astype(int)]
    real = simulation.floats(floating)
    walk = Walk(simulation, simulation.rounded(tuned, settings, found), found, images)
    parts = blocks(simulation)
    if not parts:  # nothing of it lies behind all inputs
        return Rounded(layers=walk.layers, weight_scales={})
    random = torch.Generator().manual_seed(0)
    importance = _importance(simulation, real, parts, images[:: -(-len(images) // 16)], random)
    scales: dict[str, NDArray[np.float64]] = {}
    _go(walk, walk.stops()[0], parts[0].start)
    outside = walk.grids[parts[0].start].unpacked(torch.cat(walk.kept[parts[0].start]))
    for number, block in enumerate(parts, 1):
        inside = torch.cat(walk.kept[block.start])
        step = simulation.batch
        with torch.no_grad():
            parted = [block.output(outside[i : i + step], real, {}) for i in range(0, len(outside), step)]
        outside = torch.cat(parted)
        roundings = {}
        for node in block.layers:
            path = module_path(node)
            if simulation.is_quantized[path]:
                weight = parameters(tuned, path)[0]
                scale = weight_scale(weight, settings.weights, settings.weight_scales.get(path))
                roundings[path] = _Rounding(weight, scale)
                scales[path] = scale.reshape(-1).double().numpy().copy()
        task = _Task(block, walk, roundings, wanted.spreads, inside, outside, importance[block], simulation.batch)
        gain = task.learn(random)
        names = [module_path(node).removeprefix("model.") for node in block.layers]
        say(f"learned rounding: {names[0]} to {names[-1]}: {gain:.1f} dB", (number, len(parts)))
        if block.end.op != "output":
            _go(walk, block.start, block.end)
    return Rounded(layers=walk.layers, weight_scales=scales)


def _go(walk: Walk, start: Node, end: Node) -> None:
    """Keep what each quantizer between two gives, the second one's included."""
    order = walk.stops()
    for node in order[order.index(start) + (start in walk.kept) : order.index(end) + 1]:
        if node in walk.grids:
            walk.go(node)


class _Rounding(nn.Module):
    """Of one weight: its place between steps, which is learnt; what is computed with is the whole step nearest to it."""

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.scale = scale
        steps = (weight / scale).clamp(-127, 127)
        self.lowest, self.highest = steps.floor(), steps.ceil()
        self.steps = nn.Parameter(steps)

    def weight(self) -> torch.Tensor:
        place = self.steps.clamp(self.lowest, self.highest)
        # the gradient passes through the rounding
        return (place + (place.detach().round() - place.detach())) * self.scale


@dataclass(frozen=True, eq=False)
class _Task:
    """A block to learn: int8 inputs of all images, and the float outputs that are wanted."""

    block: Block
    walk: Walk
    roundings: dict[str, _Rounding]
    spreads: Mapping[str, torch.Tensor]
    inside: torch.Tensor
    outside: torch.Tensor
    importance: torch.Tensor
    batch: int

    def learn(self, random: torch.Generator) -> float:
        """Changes the walk's layers where that is better on images kept aside; by how many dB there, or 0."""
        count = len(self.inside)
        aside = torch.arange(count)[_ASIDE - 1 :: _ASIDE] if count >= 2 * _ASIDE else torch.arange(count)
        known = torch.tensor(sorted(set(range(count)) - set(aside.tolist()))) if len(aside) < count else aside
        before = self._error(self.walk.layers, aside)
        moved = {module_path(n): nn.Parameter(torch.zeros(len(self._old(n)[1]))) for n in self.block.layers}
        places = [rounding.steps for rounding in self.roundings.values()]
        groups = [{"params": places, "lr": _RATE}, {"params": list(moved.values()), "lr": _BIAS_RATE}]
        optimizer = torch.optim.Adam([group for group in groups if group["params"]])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        size = min(_images_at_once(self.block), len(known))
        passes = -(-STEPS * size // len(known))
        order = torch.cat([known[torch.randperm(len(known), generator=random)] for _ in range(passes)])
        for step in range(STEPS):
            layers = self._layers(moved)
            loss = self._loss(layers, order[step * size : (step + 1) * size]) / max(before, 1e-30)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            learnt = self._layers(moved)
        after = self._error(learnt, aside)
        if not after < before:
            return 0.0
        self.walk.layers.update(learnt)
        return 10 * float(np.log10(before / max(after, 1e-30)))

    def _old(self, node: Node) -> tuple[torch.Tensor, torch.Tensor]:
        return self.walk.layers[module_path(node)]

    def _layers(self, moved: Mapping[str, torch.Tensor]) -> Layers:
        found = {}
        for node in self.block.layers:
            path = module_path(node)
            weight, bias = self._old(node)
            if path in self.roundings:
                weight = self.roundings[path].weight()
            found[path] = weight, bias + moved[path] * self.spreads[path].float()
        return found

    def _loss(self, layers: Layers, chosen: torch.Tensor) -> torch.Tensor:
        x = self.walk.grids[self.block.start].unpacked(self.inside[chosen])
        apart = self.block.output(x, layers, self.walk.grids) - self.outside[chosen]
        return (apart.square() * self.importance).mean()

    def _error(self, layers: Layers, chosen: torch.Tensor) -> float:
        with torch.no_grad():
            parts = torch.split(chosen, self.batch)
            return sum(float(self._loss(layers, part)) * len(part) for part in parts) / len(chosen)


def _importance(
    simulation: Simulation, real: Layers, parts: list[Block], images: Images, random: torch.Generator
) -> dict[Block, torch.Tensor]:
    """Of each channel of each block's output, broadcast to it: mean square of the gradient of a random sum of outputs."""
    totals: dict[Block, torch.Tensor] = {}
    for start in range(0, len(images), _AT_ONCE):  # what a way back needs is kept, of all layers
        batch = inputs(images[start : start + _AT_ONCE])
        outputs = []
        x = simulation.value_at(parts[0].start, batch, real).requires_grad_(True)
        for block in parts:
            x = block.output(x, real, {})
            x.retain_grad()  # type: ignore[no-untyped-call]
            outputs.append((block, x))
        (x * _shares(x.detach(), parts[-1].sizes) * torch.randn(x.shape, generator=random)).sum().backward()  # type: ignore[no-untyped-call]
        for block, y in outputs:
            assert y.grad is not None
            channels = 2 if y.ndim == 3 else 1  # tokens have theirs last
            squares = y.grad.square().sum([d for d in range(y.ndim) if d != channels], keepdim=True)
            totals[block] = totals[block] + squares if block in totals else squares
    return {block: total / total.mean().clamp_min(1e-30) for block, total in totals.items()}


def _shares(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """What each value counts, so that each of several outputs counts alike: over the root mean square of its output."""
    if not sizes:
        return torch.ones(())
    each = [
        torch.full_like(part, 1 / max(float(part.square().mean().sqrt()), 1e-12)) for part in torch.split(x, sizes, 1)
    ]
    return torch.cat(each, 1)


def _images_at_once(block: Block) -> int:
    return max(1, min(_IMAGES, _POSITIONS // block.positions))


def _work(node: Node) -> int:
    """Multiply-adds for one image."""
    weight = node.args[1]
    while "val" not in weight.meta:  # type: ignore[union-attr]
        weight = weight.args[0]  # type: ignore[union-attr]
    return int(node.meta["val"][0].numel() * weight.meta["val"][0].numel())  # type: ignore[union-attr]


def _is_of_weight(node: Node) -> bool:
    return ranges.is_observer(node) and node.args[0].op == "get_attr"  # type: ignore[union-attr]
