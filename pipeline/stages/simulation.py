"""What a quantized graph computes, from the prepared graph and without converting it: so are many candidates compared.

PT2E's conversion takes seconds and a copy of the network, and its observers a run of their own for each estimator. Here
the network is exported once for all candidates; one float pass over the images gives the ranges by every estimator and
the means of all channels; and a candidate, weights and ranges, is evaluated in batches with quantizers of three
operations in place. What is chosen is converted in the end, by `quantize.convert`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from ..data import Images
from ..program import WEIGHTED, InputContract, attribute, channel_axis, inputs, module_path, packed, unpadded
from . import quantize, ranges

Ranges = tuple[tuple[float, float], ...]
Layers = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Weight and bias of each layer by its path; the weight on its grid where it is quantized."""
Batch = tuple[torch.Tensor, ...]
"""Images, and what belongs to them, one tensor for each input."""

_ELEMENTS_AT_ONCE = 2**24
"""Of the largest tensor of a batch: 64 MB in float32."""


@dataclass(frozen=True)
class Statistics:
    """Of a float module on images.

    Attributes:
        seen: the values of each quantized activation, in order of the graph.
        means: of each layer's output channels ``(out,)`` float64, by path.
        spreads: their standard deviations.
    """

    seen: tuple[ranges.Seen, ...]
    means: dict[str, torch.Tensor]
    spreads: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Grid:
    """Of an activation: a step, and the whole number of steps that stands for zero."""

    scale: float
    zero_point: int

    @staticmethod
    def of(low: float, high: float) -> Grid:
        """As PT2E's observers make it, in float32."""
        least, largest = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
        scale = max((largest - least) / np.float32(255), np.float32(quantize.ACTIVATION_SCALE_FLOOR))
        zero_point = int(np.clip(-128 - np.rint(least / scale), -128, 127))
        return Grid(float(scale), zero_point)

    def steps(self, x: torch.Tensor) -> torch.Tensor:
        """Whole steps from zero in float32; `x` stays as it is."""
        steps = x.mul(1.0 / self.scale)
        return steps.round_().clamp_(-128 - self.zero_point, 127 - self.zero_point)

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x).mul_(self.scale)

    def trained(self, x: torch.Tensor) -> torch.Tensor:
        """The same, with the gradient of the clipping alone (Jacob et al., 2018)."""
        lowest, highest = (-128 - self.zero_point) * self.scale, (127 - self.zero_point) * self.scale
        clipped = x.clamp(lowest, highest)
        return clipped + (self.rounded(x.detach()) - clipped.detach())

    def packed(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x).add_(self.zero_point).to(torch.int8)

    def unpacked(self, stored: torch.Tensor) -> torch.Tensor:
        return stored.float().sub_(self.zero_point).mul_(self.scale)


class Simulation:
    """One prepared graph, for all modules of the same form.

    Attributes:
        graph: prepared, with one image.
        layers: convolutions and linear layers in order of the data.
        is_quantized: whether a layer's weight is, by path.
        activations: the observer nodes of activations, and the number of each one's range.
        constants: what is read beside layers' weights, by the nodes that give it: as it is, and quantized.
    """

    def __init__(self, module: nn.Module, images: Images, contract: InputContract, settings: quantize.Settings) -> None:
        self.graph: GraphModule = quantize.prepare(module, images, settings)
        self.contract = contract
        nodes = list(self.graph.graph.nodes)
        self.layers: list[Node] = [n for n in nodes if n.target in WEIGHTED]
        self.is_quantized = {module_path(n): n.args[1].op == "call_module" for n in self.layers}  # type: ignore[union-attr]
        observed = [n for n in nodes if ranges.is_observer(n) and n.args[0].op != "get_attr"]
        # tensors that share a range share an observer, and so its number
        numbers: dict[int, int] = {}
        self.activations: dict[Node, int] = {}
        for node in observed:
            observer = id(self.graph.get_submodule(str(node.target)))
            self.activations[node] = numbers.setdefault(observer, len(numbers))
        self.constants = self._constants(nodes)
        pixels = quantize.grey_subtraction(self.graph)
        self._input = next((number for node, number in self.activations.items() if node.args[0] is pixels), None)
        size = max([n.meta["val"].numel() for n in nodes if isinstance(n.meta.get("val"), torch.Tensor)])
        self.batch = max(1, min(32, _ELEMENTS_AT_ONCE // size))

    def _constants(self, nodes: list[Node]) -> dict[Node, tuple[torch.Tensor, torch.Tensor]]:
        found: dict[Node, tuple[torch.Tensor, torch.Tensor]] = {}
        for node in nodes:
            if node.op == "get_attr" and not all(_is_of_layer(user) for user in node.users):
                found[node] = (attribute(self.graph, str(node.target)).detach(),) * 2
            elif ranges.is_observer(node) and node.args[0] in found and node not in self.activations:
                value, observer = found[node.args[0]][0], self.graph.get_submodule(str(node.target))  # type: ignore[index]
                found[node] = value, _as_converted(observer, value)
        return found

    def batches(self, images: Images) -> Iterator[Batch]:
        for start in range(0, len(images), self.batch):
            yield inputs(images[start : start + self.batch])

    def statistics(self, module: nn.Module, images: Images) -> Statistics:
        """Of a float module of the graph's form, in one pass."""
        seen = tuple(ranges.Seen() for _ in set(self.activations.values()))
        sums: dict[str, torch.Tensor] = {}
        squares: dict[str, torch.Tensor] = {}

        def observe(node: Node, x: torch.Tensor) -> torch.Tensor:
            if node in self.activations:
                seen[self.activations[node]].add(x)
            return x

        def watch(node: Node, y: torch.Tensor) -> None:
            for total, values in ((sums, y), (squares, y.square())):
                total[module_path(node)] = total.get(module_path(node), 0) + channel_means(node, values) * len(y)

        self.watch(module, images, watch, observe)
        for one in seen:
            one.pack()
        means = {path: total / len(images) for path, total in sums.items()}
        spreads = {
            path: (total / len(images) - means[path].square()).clamp_min(0).sqrt() for path, total in squares.items()
        }
        return Statistics(seen, means, spreads)

    def watch(
        self,
        module: nn.Module,
        images: Images,
        watch: Callable[[Node, torch.Tensor], None],
        observe: Callable[[Node, torch.Tensor], torch.Tensor] = lambda _, x: x,
    ) -> None:
        """Run a float module of the graph's form; `watch` is given each layer and its output, batch by batch."""
        run = _Run(self.graph, self.floats(module), self._real_constants(), observe, watch)
        for batch in self.batches(images):
            run(batch)

    def value_at(self, node: Node, batch: Batch, layers: Layers) -> torch.Tensor:
        """What a node near the input gives for a batch of images, nothing being rounded."""
        found: list[torch.Tensor] = []

        def keep(observed: Node, x: torch.Tensor) -> torch.Tensor:
            if observed is node:
                found.append(x)
            return x

        _Run(self.graph, layers, self._real_constants(), keep, None)(batch)
        return found[0]

    def _real_constants(self) -> dict[Node, torch.Tensor]:
        return {node: real for node, (real, _) in self.constants.items()}

    def floats(self, module: nn.Module) -> Layers:
        """The layers of a float module as they are."""
        return {path: parameters(module, path) for path in self.is_quantized}

    def ranges(self, statistics: Statistics, estimator: ranges.Estimator) -> Ranges:
        """One for each quantized activation, in order of the graph; the input's follows from the contract."""
        found = [seen.range(estimator) for seen in statistics.seen]
        if self._input is not None:
            found[self._input] = float(-self.contract.grey), float(255 - self.contract.grey)
        for node, (low, high) in quantize.input_ranges(self.graph, self.contract).items():
            number = self.activations[node]
            found[number] = min(found[number][0], low), max(found[number][1], high)
        return tuple(found)

    def rounded(self, module: nn.Module, settings: quantize.Settings, found: Ranges) -> Layers:
        """The layers of a float module, with weights and biases on the grids that the conversion will give them."""
        layers = {}
        for node in self.layers:
            path = module_path(node)
            weight, bias = parameters(module, path)
            if self.is_quantized[path]:
                scale = weight_scale(weight, settings.weights, settings.weight_scales.get(path))
                weight = (weight * (1 / scale)).round_().clamp_(-127, 127).mul_(scale)  # as PT2E rounds
                if (source := unpadded(node)) in self.activations:
                    grid = Grid.of(*found[self.activations[source]]).scale * scale.reshape(-1).double()
                    bias = ((bias / grid).round_() * grid).float()
            layers[path] = weight, bias
        return layers

    def outputs(self, layers: Layers, found: Ranges, images: Images) -> NDArray[np.float32]:
        """Packed outputs ``(N, width)`` of images ``(N, H, W, 4)`` uint8, quantized."""
        grids = [Grid.of(*one) for one in found]

        def quantized(node: Node, x: torch.Tensor) -> torch.Tensor:
            return grids[self.activations[node]].rounded(x) if node in self.activations else x

        constants = {node: rounded for node, (_, rounded) in self.constants.items()}
        run = _Run(self.graph, layers, constants, quantized, None)
        outputs: NDArray[np.float32] = np.concatenate(
            [packed(run(batch), len(batch[0])).numpy() for batch in self.batches(images)]
        )
        return outputs

    def converted(self, module: nn.Module, settings: quantize.Settings, found: Ranges) -> quantize.Quantized:
        """The PT2E graphs of a module of the graph's form."""
        own = dict(self.graph.named_parameters())
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                own[name].copy_(parameter)
        for node in self.layers:
            if node.args[1].op == "call_module":  # type: ignore[union-attr]
                observer: Any = self.graph.get_submodule(str(node.args[1].target))  # type: ignore[union-attr]
                observer.reset_min_max_vals()
                observer(parameters(module, module_path(node))[0])
        ranges.set_all(self.graph, found)
        return quantize.convert(self.graph, self.contract, settings)


class Walk:
    """Images on their way through a quantized graph, operation after operation, all of them together.

    Between operations they are kept where the graph quantizes them, a byte a value; what lies in between is computed when
    it is asked for. So a layer can be changed when all images stand before it.
    """

    def __init__(self, simulation: Simulation, layers: Layers, found: Ranges, images: Images) -> None:
        self.simulation = simulation
        self.layers = dict(layers)
        self.images = list(simulation.batches(images))
        self.grids = {node: Grid.of(*found[number]) for node, number in simulation.activations.items()}
        self.kept: dict[Node, list[torch.Tensor]] = {}
        self._placeholders = [n for n in simulation.graph.graph.nodes if n.op == "placeholder"]
        self._order = {node: number for number, node in enumerate(simulation.graph.graph.nodes)}

    def stops(self) -> list[Node]:
        """Layers and quantizers of activations, in order of the data."""
        return [n for n in self._order if n.target in WEIGHTED or n in self.grids]

    def go(self, node: Node) -> None:
        """Keep what this quantizer gives, and drop what nothing behind it reads."""
        grid = self.grids[node]
        self.kept[node] = [grid.packed(self.value(node.args[0], number)) for number in range(len(self.images))]
        here = self._order[node]
        for other in [n for n in self.kept if n is not node]:
            if self._last_use(other) <= here:
                del self.kept[other]

    def value(self, node: Any, number: int) -> Any:
        """Of a node, for a batch."""
        if node in self.kept:
            return self.grids[node].unpacked(self.kept[node][number])
        if node.op == "placeholder":
            return self.images[number][self._placeholders.index(node)]
        if node in self.simulation.constants:
            return self.simulation.constants[node][1]
        if node.target in WEIGHTED:
            weight, bias = self.layers[module_path(node)]
            return node.target(self.value(node.args[0], number), weight, bias, *node.args[3:])
        if node in self.grids:
            return self.grids[node].rounded(self.value(node.args[0], number))
        if node.op == "call_function":
            args = map_arg(node.args, lambda a: self.value(a, number))  # a concatenation has a list of them
            return node.target(*args, **node.kwargs)
        raise ValueError(f"'{node.name}' has no value here")

    def _last_use(self, node: Node) -> int:
        """The last quantizer that reads a node, directly or through what is computed on demand."""
        last = -1
        for user in node.users:
            is_kept = user in self.grids
            last = max(last, self._order[user] if is_kept or not user.users else self._last_use(user))
        return last


class _Run(Interpreter):
    """The prepared graph on batches, with given layers; observers are asked what to make of their tensor."""

    def __init__(
        self,
        graph: GraphModule,
        layers: Layers,
        constants: Mapping[Node, torch.Tensor],
        observe: Callable[[Node, torch.Tensor], torch.Tensor],
        watch: Callable[[Node, torch.Tensor], None] | None,
    ) -> None:
        super().__init__(graph)
        self._layers, self._constants, self._observe, self._watch = layers, constants, observe, watch

    def __call__(self, batch: Batch) -> Any:
        with torch.no_grad():
            return self.run(*batch)

    def run_node(self, n: Node) -> Any:
        if n in self._constants:
            return self._constants[n]
        if n.op == "get_attr":
            return None
        if n.op == "call_module":
            if not ranges.is_observer(n):
                return None  # a guard on the number of images
            (x,), _ = self.fetch_args_kwargs_from_env(n)
            return None if x is None else self._observe(n, x)  # type: ignore[arg-type]
        if n.target not in WEIGHTED:
            return super().run_node(n)
        (x, *_), _ = self.fetch_args_kwargs_from_env(n)
        weight, bias = self._layers[module_path(n)]
        y = n.target(x, weight, bias, *n.args[3:])  # type: ignore[operator]
        if self._watch is not None:
            self._watch(n, y)
        return y


def _is_of_layer(node: Node) -> bool:
    """Whether what reads a value is a layer, or the observer of a layer's weight."""
    if ranges.is_observer(node):
        return all(user.target in WEIGHTED for user in node.users)
    return node.target in WEIGHTED


def _as_converted(observer: Any, value: torch.Tensor) -> torch.Tensor:
    """A constant as PT2E will quantize it, in real values."""
    observer.reset_min_max_vals()
    observer(value)
    scale, zero_point = observer.calculate_qparams()
    if scale.numel() == 1 and observer.qscheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        low, high = observer.quant_min, observer.quant_max
        return torch.fake_quantize_per_tensor_affine(value, float(scale), int(zero_point), low, high)
    return torch.fake_quantize_per_channel_affine(
        value, scale.float(), zero_point.int(), observer.ch_axis, observer.quant_min, observer.quant_max
    )


def weight_scale(weight: torch.Tensor, granularity: str, given: NDArray[np.float64] | None = None) -> torch.Tensor:
    """Of each output channel, or one for all, of the shape that broadcasts to the weight."""
    if given is None:
        bound = weight.abs().reshape(len(weight), -1).amax(1)
    else:
        bound = torch.from_numpy(np.asarray(given) * 127).float()
    if granularity != "per-channel":
        bound = bound.max().expand(len(weight))
    scale = (bound / 127).clamp_min(quantize.WEIGHT_SCALE_FLOOR)
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def channel_means(layer: Node, x: torch.Tensor) -> torch.Tensor:
    """``(channels,)`` float64 of what a layer reads or gives."""
    return x.movedim(channel_axis(layer), 0).flatten(1).mean(1).double()


def parameters(module: nn.Module, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    return module.get_parameter(f"{path}.weight").detach(), module.get_parameter(f"{path}.bias").detach()
