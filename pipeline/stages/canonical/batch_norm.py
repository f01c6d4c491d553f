"""BatchNorm goes into the layer before it, or becomes a layer.

before   convolution or linear layer -> batch_norm -> y
after    convolution or linear layer -> y          the scale in its weights, the shift in its bias

before   anything else -> batch_norm -> y          also a layer that something else reads as well
after    anything else -> depthwise 1x1 convolution -> y, behind a view as a map where it is none
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from ...errors import ConversionError
from ...program import TRANSPOSED
from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.batch_norm.default):
        factor, mean, beta = _affine(network, node)
        layer: Any = node.args[0]
        known = network.layer(layer) if len(layer.users) == 1 and _gives_channels(layer) else None
        if known is None:
            network.put(node, _depthwise(network, node, factor, beta - mean * factor))
            continue
        weight, bias = known
        shape = [-1 if axis == int(layer.target in TRANSPOSED) else 1 for axis in range(weight.ndim)]
        path = str(layer.args[1].target)
        network.set_layer(layer, path, weight * factor.view(shape), (bias - mean) * factor + beta)
        network.skip(node)


def _gives_channels(layer: Node) -> bool:
    """Whether each channel that a BatchNorm behind a layer sees comes from weights of its own, in a row."""
    if layer.target == aten.linear.default:
        return bool(layer.meta["val"].ndim == 2)  # of tokens it sees the second axis, and a layer gives the last
    groups: Any = layer.args[6] if len(layer.args) > 6 else 1
    return layer.target not in TRANSPOSED or bool(groups == 1)


def _depthwise(network: Network, node: Node, factor: torch.Tensor, shift: torch.Tensor) -> Node:
    source: Any = node.args[0]
    shape = list(node.meta["val"].shape)
    if len(shape) != 4:
        before = source.args[0] if source.target == aten.flatten.using_ints and len(shape) == 2 else None
        is_pixel = before is not None and before.meta["val"].shape[1:] == (shape[1], 1, 1)
        sides = [-1, shape[1], math.prod(shape[2:]), 1]
        source = before if is_pixel else network.insert(node, aten.view.default, source, sides)
    path = _owner(node)
    one = network.constant(node, f"{path}.weight", factor.view(-1, 1, 1, 1).float(), node)
    other = network.constant(node, f"{path}.bias", shift.float(), node)
    made = network.insert(node, aten.conv2d.default, source, one, other, [1, 1], [0, 0], [1, 1], len(factor))
    return made if len(shape) == 4 else network.insert(node, aten.view.default, made, [-1, *shape[1:]])


def _affine(network: Network, node: Node) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What it multiplies by, subtracts before and adds after, ``(channels,)`` float64 each."""
    weight, bias, mean, variance = (network.value(value) for value in node.args[1:5])
    if mean is None or variance is None or node.args[5]:
        why = "has no running statistics" if mean is None else "is in training mode although the model is in evaluation"
        raise ConversionError(
            f"{network.described(node)} {why}: it normalizes by the images that happen to be given together, and an app "
            "gives one. Train with track_running_stats=True, and leave BatchNorm in evaluation mode."
        )
    epsilon: Any = node.args[7]
    factor = 1 / torch.sqrt(variance.double() + epsilon)
    if weight is not None:
        factor = weight.double() * factor
    return factor, mean.double(), torch.zeros_like(factor) if bias is None else bias.double()


def _owner(node: Node) -> str:
    """The path of the module that holds the statistics."""
    return str(node.args[3].target).rpartition(".")[0] or "norm"  # type: ignore[union-attr]
