"""Average pooling becomes a depthwise convolution with equal weights.

before   avg_pool2d(x, 2), adaptive_avg_pool2d(x, 4) of a map of 8 pixels
after    conv2d(x, 1/4, bias 0, stride 2, one group for each channel)

ExecuTorch 1.5 pools in float, between a dequantize and a quantize, LiteRT's rounds halves away from zero; their convolutions
are equal to the last bit, and 127 steps of 1/(4 * 127) are 1/4 exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default):
        geometry = _pooling(node) if node.target == aten.avg_pool2d.default else _adaptive(node)
        if geometry is None:
            continue
        kernel, stride, padding, divisor = geometry
        channels = node.meta["val"].shape[1]
        weight = torch.full((channels, 1, *kernel), 1 / divisor)
        owner = f"{network.owner(node)}.weight"
        one = network.constant(node, owner, weight)
        other = network.constant(node, f"{str(one.target).removesuffix('.weight')}.bias", torch.zeros(channels))
        made = network.insert(node, aten.conv2d.default, node.args[0], one, other, stride, padding, [1, 1], channels)
        network.put(node, made)


def _pooling(node: Node) -> tuple[list[int], list[int], list[int], float] | None:
    """Kernel, stride, padding and divisor; None where a window at the edge is divided by fewer values."""
    defaults: tuple[Any, ...] = (None, None, [], 0, False, True, None)
    names = ("", "", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    given = [
        node.args[n] if len(node.args) > n else node.kwargs.get(names[n], default) for n, default in enumerate(defaults)
    ]
    kernel, stride, padding = _pair(given[1]), _pair(given[2] or given[1]), _pair(given[3])
    if given[4] or (any(padding) and not given[5]):
        return None
    divisor: Any = given[6] or kernel[0] * kernel[1]
    return kernel, stride, padding, float(divisor)


def _adaptive(node: Node) -> tuple[list[int], list[int], list[int], float] | None:
    """The same; None where windows have several sizes."""
    source: Any = node.args[0]
    before, after = source.meta["val"].shape[2:], node.meta["val"].shape[2:]
    if any(one % other for one, other in zip(before, after, strict=True)):
        return None
    kernel = [int(one // other) for one, other in zip(before, after, strict=True)]
    return kernel, kernel, [0, 0], float(kernel[0] * kernel[1])


def _pair(given: Any) -> list[int]:
    first, *rest = given if isinstance(given, (list, tuple)) else [given]
    return [first, rest[0] if rest else first]
