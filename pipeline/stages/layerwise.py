"""Layer by layer: move what the quantization shifted back, with calibration images and no labels.

Both methods walk through the quantized graph once. Each layer sees the inputs that the quantized layers before it
give, corrected already, and is changed so that its output comes near to that of the float layer.

- `correct_biases`: the mean error of each output channel goes into the bias (Nagel et al., "Data-Free Quantization
  Through Weight Equalization and Bias Correction", 2019, section 4.2, with measured means).
- `reconstruct`: the weights are solved for by least squares, and then rounded column by column, each rounding error
  made good by the columns that are not rounded yet (Hubara et al., "Improving Post Training Neural Quantization:
  Layer-wise Calibration and Integer Programming", 2020; Frantar et al., "GPTQ", 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Interpreter, Node

from ..program import WEIGHTED, module_path
from .equalize import export

DAMPING = 0.02
"""Of the mean square of the inputs: how strongly weights are held where they were."""

_SAMPLES = 4096
_ELEMENTS = 2**26
"""Of the largest tensor with all images: 256 MB in float32."""

Change = Callable[[Node, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """The new module, and the scale of each output channel that its weights lie on, by module path."""

    module: nn.Module
    weight_scales: dict[str, NDArray[np.float64]]


def correct_biases(
    tuned: nn.Module, floating: nn.Module, quantized: GraphModule, calibration: NDArray[np.uint8]
) -> nn.Module:
    """A copy of `tuned` with corrected biases.

    Args:
        tuned: the float module that `quantized` was made from.
        floating: the module whose means are wanted, layer by layer.
        calibration: ``(N, H, W, 4)`` uint8 RGBA.
    """
    images = _within_memory(quantized, calibration)
    wanted = _outputs(floating, images, _channel_means)
    corrected: dict[str, torch.Tensor] = {}

    def correct(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        path = module_path(node)
        corrected[path] = bias + wanted[path] - _channel_means(_apply(node, x, weight, bias))
        return weight, corrected[path]

    _walk(quantized, images, correct)
    return _with(tuned, {}, corrected)


def reconstruct(
    tuned: nn.Module, floating: nn.Module, quantized: GraphModule, calibration: NDArray[np.uint8]
) -> Reconstructed:
    """A copy of `tuned` with weights on their grid, and biases, that give outputs near those of `floating`.

    Args:
        tuned: the float module that `quantized` was made from.
        floating: the module whose outputs are wanted, layer by layer.
        calibration: ``(N, H, W, 4)`` uint8 RGBA.
    """
    images = _within_memory(quantized, calibration)
    wanted = _outputs(floating, images, _sampled)
    weights: dict[str, torch.Tensor] = {}
    biases: dict[str, torch.Tensor] = {}
    scales: dict[str, NDArray[np.float64]] = {}

    def solve(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        path = module_path(node)
        original = tuned.get_parameter(f"{path}.weight").detach()
        inputs = _inputs(node, x, weight)
        target = wanted.pop(path).double()
        if "dequantize" not in str(node.args[1].target):  # type: ignore[union-attr]
            return weight, bias  # a layer in float keeps its weights
        solved, scale, weights_mean = _solve(inputs, target, original.double().reshape(len(original), -1))
        weights[path] = solved.reshape(weight.shape).float()
        biases[path] = (target.mean(0) - weights_mean).float()
        scales[path] = scale.numpy()
        return weights[path], biases[path]

    _walk(quantized, images, solve)
    return Reconstructed(module=_with(tuned, weights, biases), weight_scales=scales)


def _outputs(
    floating: nn.Module, images: NDArray[np.uint8], keep: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What is kept of each layer's output, by module path."""
    found: dict[str, torch.Tensor] = {}

    def note(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        found[module_path(node)] = keep(_apply(node, x, weight, bias))
        return weight, bias

    _walk(export(floating, images[:1]), images, note)
    return found


def _walk(graph: GraphModule, images: NDArray[np.uint8], change: Change) -> None:
    """Run all images at once; `change` gives each layer the weight and bias that it then has."""

    class Walked(Interpreter):
        def run_node(self, n: Node) -> Any:
            if n.op == "call_module":  # a guard on the number of images
                return None
            if n.target not in WEIGHTED:
                return super().run_node(n)
            (x, weight, bias, *_), _ = self.fetch_args_kwargs_from_env(n)
            return _apply(n, x, *change(n, x, weight, bias))  # type: ignore[arg-type]

    with torch.no_grad():
        Walked(graph).run(torch.from_numpy(images))


def _apply(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = node.target(x, weight, bias, *node.args[3:])  # type: ignore[operator]
    return result


def _within_memory(graph: GraphModule, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    sizes = [n.meta["val"].numel() for n in graph.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    count = max(1, min(len(images), _ELEMENTS // max(sizes)))
    chosen: NDArray[np.uint8] = images[np.linspace(0, len(images) - 1, count).astype(int)]
    return chosen


def _channel_means(x: torch.Tensor) -> torch.Tensor:
    return x.double().mean([d for d in range(x.ndim) if d != 1]).float()


def _sampled(x: torch.Tensor) -> torch.Tensor:
    """``(samples, channels)`` of ``(N, channels, ...)``: the same places for each tensor of the same shape."""
    rows = x.flatten(2).permute(0, 2, 1).reshape(-1, x.shape[1]) if x.ndim > 2 else x
    return rows[_places(len(rows))]


def _places(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).permutation(count)[:_SAMPLES])


def _inputs(node: Node, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What each output value is computed from: ``(groups, samples, taps)``."""
    if x.ndim == 2:
        return _sampled(x)[None].double()
    stride, padding, dilation, groups = _geometry(node)
    if weight.shape[2:] == (1, 1) and stride == [1, 1] and padding == [0, 0] and groups == 1:
        return _sampled(x)[None].double()
    height = (x.shape[2] + 2 * padding[0] - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    width = (x.shape[3] + 2 * padding[1] - dilation[1] * (weight.shape[3] - 1) - 1) // stride[1] + 1
    places = _places(len(x) * height * width)
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


def _with(module: nn.Module, weights: dict[str, torch.Tensor], biases: dict[str, torch.Tensor]) -> nn.Module:
    changed = deepcopy(module)
    with torch.no_grad():
        for key, values in (("weight", weights), ("bias", biases)):
            for path, value in values.items():
                getattr(changed.get_submodule(path), key).copy_(value)
    return changed
