"""What is the same at every pixel is multiplied once, and not at each of them.

before   conv1x1(cat([x, expand(p)]))        p a map of one pixel, spread over those of x; also by a resizing
after    conv1x1(x) + conv1x1(p)             the weights of each part

As DeepLab writes its pooled branch. ExecuTorch 1.5 runs an expansion outside its delegate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from .network import Network, aten, convolution

_SPREADING = (aten.expand.default, aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec)


def rewrite(network: Network) -> None:
    for node in network.calls(aten.conv2d.default):
        joined: Any = node.args[0]
        layer = network.layer(node)
        if layer is None or joined.target != aten.cat.default or not _is_of_each_pixel(node, layer[0]):
            continue
        parts: Any = joined.args[0]
        pixels = [_pixel(part) for part in parts]
        is_each_map = joined.meta["val"].ndim == 4 and int(joined.args[1] if len(joined.args) > 1 else 0) % 4 == 1
        if is_each_map and any(pixels) and not all(pixels):
            _split(network, node, *layer)


def _is_of_each_pixel(node: Node, weight: torch.Tensor) -> bool:
    stride, padding, _, groups = convolution(node)
    return weight.shape[2:] == (1, 1) and stride == (1, 1) and padding == (0, 0) and groups == 1


def _pixel(part: Node) -> Node | None:
    """The map of one pixel that is spread over several; None of any other map."""
    if part.target not in _SPREADING:
        return None
    source: Any = part.args[0]
    before, after = source.meta["val"].shape, part.meta["val"].shape
    is_spread = len(before) == 4 and before[:2] == after[:2] and before[2:] == (1, 1)
    return source if is_spread and after[2:] != (1, 1) else None


def _split(network: Network, node: Node, weight: torch.Tensor, bias: torch.Tensor) -> None:
    joined: Any = node.args[0]
    parts: Any = joined.args[0]
    weights = torch.split(weight, [part.meta["val"].shape[1] for part in parts], 1)
    path = str(node.args[1].target)  # type: ignore[union-attr]
    sums = []
    for is_spread in (False, True):
        of = [(part, _pixel(part), w) for part, w in zip(parts, weights, strict=True)]
        chosen = [(pixel or part, w) for part, pixel, w in of if (pixel is not None) == is_spread]
        maps = [one for one, _ in chosen]
        given = maps[0] if len(maps) == 1 else network.insert(node, aten.cat.default, maps, 1)
        one = network.constant(node, path, torch.cat([w for _, w in chosen], 1).float(), node)
        beside = f"{str(one.target).removesuffix('.weight')}.bias"
        other = network.constant(node, beside, (torch.zeros_like(bias) if is_spread else bias).float(), node)
        sums.append(network.insert(node, aten.conv2d.default, given, one, other))
    network.put(node, network.insert(node, aten.add.Tensor, *sums))
    network.graph.eliminate_dead_code()
