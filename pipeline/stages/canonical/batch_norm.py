"""BatchNorm goes into the layer before it, or becomes a layer.

before   convolution or linear layer -> batch_norm -> y
after    convolution or linear layer -> y          the scale in its weights, the shift in its bias

before   anything else -> batch_norm -> y          also a layer that something else reads as well
after    anything else -> depthwise 1x1 convolution -> y
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from ...errors import ConversionError
from ...program import TRANSPOSED, WEIGHTED
from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.batch_norm.default):
        factor, mean, beta = _affine(network, node)
        layer: Any = node.args[0]
        weight = network.value(layer.args[1]) if layer.target in WEIGHTED else None
        is_transposed = layer.target in TRANSPOSED and (len(layer.args) < 7 or layer.args[6] == 1)
        if is_transposed:
            weight = network.value(layer.args[1])
        if weight is not None and len(layer.users) == 1:
            old = network.value(layer.args[2]) if len(layer.args) > 2 else None
            bias = torch.zeros_like(factor) if old is None else old.double()
            path = str(layer.args[1].target)
            shape = [-1 if axis == int(is_transposed) else 1 for axis in range(weight.ndim)]
            scaled = weight.double() * factor.view(shape)
            network.set_layer(layer, path, scaled, (bias - mean) * factor + beta)
            network.skip(node)
        elif node.meta["val"].ndim == 4:
            path = _owner(node)
            one = network.constant(node, f"{path}.weight", factor.view(-1, 1, 1, 1).float(), node)
            other = network.constant(node, f"{path}.bias", (beta - mean * factor).float(), node)
            made = network.insert(node, aten.conv2d.default, layer, one, other, [1, 1], [0, 0], [1, 1], len(factor))
            network.put(node, made)
        else:
            raise ConversionError(f"{network.described(node)} follows no linear layer of its own; fold it by hand")


def _affine(network: Network, node: Node) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What it multiplies by, subtracts before and adds after, ``(channels,)`` float64 each."""
    weight, bias, mean, variance = (network.value(value) for value in node.args[1:5])
    if mean is None or variance is None:
        raise ConversionError(f"{network.described(node)} has no running statistics and cannot be folded")
    epsilon: Any = node.args[7]
    factor = 1 / torch.sqrt(variance.double() + epsilon)
    if weight is not None:
        factor = weight.double() * factor
    return factor, mean.double(), torch.zeros_like(factor) if bias is None else bias.double()


def _owner(node: Node) -> str:
    """The path of the module that holds the statistics."""
    return str(node.args[3].target).rpartition(".")[0] or "norm"  # type: ignore[union-attr]
