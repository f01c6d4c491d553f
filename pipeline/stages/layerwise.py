"""Layer by layer: move what the quantization shifted back, with calibration images alone.

Both methods walk through the quantized graph once. Each layer sees the inputs that the quantized layers before it
give, corrected already, and is changed so that its output comes near to that of the float layer.

- `correct_biases`: the mean error of each output channel goes into the bias (Nagel et al., "Data-Free Quantization
  Through Weight Equalization and Bias Correction", 2019, section 4.2, with measured means).
- `reconstruct`: the weights are solved for by least squares, and then rounded column by column, each rounding error
  made good by the columns that are not rounded yet (Hubara et al., "Improving Post Training Neural Quantization:
  Layer-wise Calibration and Integer Programming", 2020; Frantar et al., "GPTQ", 2022).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node

from ..data import Images
from ..program import WEIGHTED, channel_axis, module_path
from . import quantize
from .simulation import Layers, Ranges, Simulation, Statistics, Walk, channel_means, parameters

aten = torch.ops.aten
DAMPING = 0.02
"""Of the mean square of the inputs: how strongly weights are held where they were."""

_PASSES = 12
"""Of an image through the network, that its inputs and outputs of all layers take."""
_PRODUCTS, _UPDATES = 1e10, 5e8
"""In a second: multiplications of matrices in float64, and weights that make good what a column before them lost."""
_SAMPLES = 4096
_GROUPED = 4
"""By which there are fewer samples of a layer in groups: each has few weights, and there are many of them."""


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Layers with weights on their grid, and the scale of each output channel of these, by module path."""

    layers: Layers
    weight_scales: dict[str, NDArray[np.float64]]


def correct_biases(simulation: Simulation, layers: Layers, wanted: Statistics, found: Ranges, images: Images) -> Layers:
    """The layers with corrected biases.

    One pass is enough: a layer is corrected when all layers before it are, and the ranges stay. Where something before
    it changes afterwards, it is corrected anew.

    Args:
        layers: as they are quantized.
        wanted: of the float module, on these images.
        images: ``(N, H, W, 4)`` uint8 RGBA.
    """
    walk = Walk(simulation, layers, found, images)
    for node in walk.stops():
        if node.target in WEIGHTED:
            path = module_path(node)
            weight, bias = walk.layers[path]
            shift = wanted.means[path] - _mean_output(walk, node, weight, bias)
            walk.layers[path] = weight, bias + shift.float()
        else:
            walk.go(node)
    return walk.layers


def _mean_output(walk: Walk, node: Node, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Of each output channel ``(out,)`` float64, over all images."""
    is_pointwise = weight.ndim == 2 or (weight.shape[2:] == (1, 1) and _geometry(node)[3] == 1 and not _pads(node))
    is_pointwise = is_pointwise and (weight.ndim == 2 or _geometry(node)[0] == [1, 1])
    total = torch.zeros(weight.shape[1] if is_pointwise else len(weight), dtype=torch.float64)
    for number, batch in enumerate(walk.images):
        total += channel_means(node, walk.value(node.args[0] if is_pointwise else node, number)) * len(batch[0])
    mean = total / sum(len(batch[0]) for batch in walk.images)
    # the mean of a product with one weight per channel is the product with the mean
    return weight.reshape(len(weight), -1).double() @ mean + bias.double() if is_pointwise else mean


def _pads(node: Node) -> bool:
    return any(_geometry(node)[1])


def reconstruct(
    simulation: Simulation,
    tuned: nn.Module,
    floating: nn.Module,
    settings: quantize.Settings,
    found: Ranges,
    images: Images,
) -> Rounded:
    """Layers with weights on their grid, and biases, that give outputs near those of `floating`.

    Args:
        tuned: the float module whose weights are rounded.
        floating: the module whose outputs are wanted, layer by layer.
        images: ``(N, H, W, 4)`` uint8 RGBA.
    """
    batches = -(-len(images) // simulation.batch)
    count = -(-_SAMPLES // batches)
    wanted: dict[str, list[torch.Tensor]] = {}

    def watch(node: Node, y: torch.Tensor) -> None:
        wanted.setdefault(module_path(node), []).append(_sampled(node, y, _count(node, count)))

    simulation.watch(floating, images, watch)
    walk = Walk(simulation, simulation.rounded(tuned, settings, found), found, images)
    scales: dict[str, NDArray[np.float64]] = {}
    for node in walk.stops():
        if node.target not in WEIGHTED:
            walk.go(node)
            continue
        path = module_path(node)
        target = torch.cat(wanted.pop(path)).double()
        if not simulation.is_quantized[path]:
            continue  # a layer in float keeps its weights
        original, _ = parameters(tuned, path)
        parts = [
            _inputs(node, walk.value(node.args[0], number), original, _count(node, count))
            for number in range(len(walk.images))
        ]
        solved, scale, mean = _solve(torch.cat(parts, 1), target, original.double().reshape(len(original), -1))
        walk.layers[path] = solved.reshape(original.shape).float(), (target.mean(0) - mean).float()
        scales[path] = scale.numpy()
    return Rounded(layers=walk.layers, weight_scales=scales)


def seconds(simulation: Simulation, images: int, image: float) -> float:
    """About how long `reconstruct` takes on so many images, where one takes so long through the quantized network.

    What is solved for grows with the weights, not with the images: with few of these it is most of it.
    """
    solving = 0.0
    for node in simulation.layers:
        rows, *columns = parameters(simulation.graph, module_path(node))[0].shape
        taps, samples = int(np.prod(columns)), _count(node, _SAMPLES)
        groups = _groups(node)
        products = samples * taps * (groups * taps + 2 * rows) + 3 * groups * taps**3
        solving += products / _PRODUCTS + rows * taps**2 / 2 / _UPDATES
    return _PASSES * images * image + solving


def _count(node: Node, count: int) -> int:
    return count if _groups(node) == 1 else -(-count // _GROUPED)


def with_layers(module: nn.Module, layers: Layers) -> nn.Module:
    """A copy of a module with these weights and biases."""
    changed = deepcopy(module)
    with torch.no_grad():
        for path, (weight, bias) in layers.items():
            changed.get_parameter(f"{path}.weight").copy_(weight)
            changed.get_parameter(f"{path}.bias").copy_(bias)
    return changed


def _sampled(layer: Node, x: torch.Tensor, count: int) -> torch.Tensor:
    """``(samples, channels)`` of what a layer reads or gives: the same places for each tensor of the same shape."""
    rows = x.movedim(channel_axis(layer), -1).flatten(0, -2)
    return rows[_places(len(rows), count)]


def _places(total: int, count: int) -> torch.Tensor:
    """Drawn at random, for an even distance would meet the same columns of every row."""
    if total <= count:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count]


def _inputs(node: Node, x: torch.Tensor, weight: torch.Tensor, count: int) -> torch.Tensor:
    """What each output value is computed from: ``(groups, samples, taps)``."""
    if node.target != aten.conv2d.default:
        return _sampled(node, x, count)[None].double()
    stride, padding, dilation, groups = _geometry(node)
    if weight.shape[2:] == (1, 1) and stride == [1, 1] and padding == [0, 0] and groups == 1:
        return _sampled(node, x, count)[None].double()
    height = (x.shape[2] + 2 * padding[0] - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    width = (x.shape[3] + 2 * padding[1] - dilation[1] * (weight.shape[3] - 1) - 1) // stride[1] + 1
    places = _places(len(x) * height * width, count)
    padded = nn.functional.pad(x, [padding[1], padding[1], padding[0], padding[0]])
    image, rest = places // (height * width), places % (height * width)
    rows, columns = rest // width * stride[0], rest % width * stride[1]
    taps = [
        padded[image, :, rows + i * dilation[0], columns + j * dilation[1]]
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    ]
    found = torch.stack(taps, -1).double()  # (samples, channels, taps)
    return found.reshape(len(places), groups, -1).permute(1, 0, 2)


def _groups(node: Node) -> int:
    return _geometry(node)[3] if node.target == aten.conv2d.default else 1


def _geometry(node: Node) -> tuple[list[int], list[int], list[int], int]:
    defaults: list[Any] = [[1, 1], [0, 0], [1, 1], 1]
    given = list(node.args[3:])
    stride, padding, dilation, groups = given + defaults[len(given) :]
    return stride, padding, dilation, groups  # type: ignore[return-value]


def _solve(
    inputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights ``(out, taps)`` on the grid, its scale ``(out,)``, and the mean that they give ``(out,)``.

    Args:
        inputs: ``(groups, samples, taps)``.
        target: ``(samples, out)``.
        weight: ``(out, taps)`` float.
    """
    groups, samples, taps = inputs.shape
    means = inputs.mean(1, keepdim=True)
    centred = inputs - means
    power = centred.transpose(1, 2) @ centred / samples
    mean_power = power.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    power = power + DAMPING * mean_power[:, None, None] * torch.eye(taps, dtype=power.dtype)
    rows = weight.reshape(groups, -1, taps)
    wanted = (target - target.mean(0)).T.reshape(groups, -1, samples)
    error = (wanted - rows @ centred.transpose(1, 2)) @ centred / samples
    solved = rows + torch.linalg.solve(power, error.transpose(1, 2)).transpose(1, 2)
    scale = (solved.abs().amax(2) / 127).clamp_min(2.0**-30)
    rounded = _round_in_turn(solved, scale, power)
    return rounded.reshape(weight.shape), scale.reshape(-1), (rounded @ means.transpose(1, 2)).reshape(-1)


def _round_in_turn(weight: torch.Tensor, scale: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Round ``(groups, out, taps)`` column by column; the columns after make the error good."""
    inverse = torch.linalg.cholesky(torch.linalg.inv(power), upper=True)
    weight, rounded = weight.clone(), torch.empty_like(weight)
    for column in range(weight.shape[2]):
        rounded[..., column] = (weight[..., column] / scale).round().clamp(-127, 127) * scale
        error = (weight[..., column] - rounded[..., column]) / inverse[:, column, column, None]
        weight[..., column + 1 :] -= error[..., None] * inverse[:, None, column, column + 1 :]
    return rounded
