"""A mean over all pixels keeps the map's dimensions; a flatten behind it takes them away.

before   mean(x, (2, 3))
after    flatten(mean(x, (2, 3), keepdim), 1)

before   adaptive_avg_pool2d(x, 1), avg_pool2d over the whole map
after    mean(x, (2, 3), keepdim)

before   mean(tokens, 1), mean(x, 3, keepdim)
after    reshape(mean(unsqueeze(reshape(permute(x), [-1, kept, taken]), 3), (2, 3), keepdim), ...)

ExecuTorch 1.5 leaves a mean without its dimensions out of the delegate, and one of other dimensions than pixels; onnxruntime
has a mean in integers of pixels alone.
"""

from __future__ import annotations

import math
from typing import Any

from torch.fx import Node

from .network import Network, aten

_POOLS = (aten.adaptive_avg_pool2d.default, aten.avg_pool2d.default)


def rewrite(network: Network) -> None:
    for node in network.calls(aten.mean.dim):
        is_kept = len(node.args) > 2 and node.args[2]
        if not is_kept and _is_of_pixels(node) and not node.kwargs:
            kept = network.insert(node, aten.mean.dim, node.args[0], [2, 3], True)
            network.put(node, network.insert(node, aten.flatten.using_ints, kept, 1))
        elif not _is_of_pixels(node) and _is_of_each_image(node):
            network.put(node, _as_of_pixels(network, node))
    for node in network.calls(*_POOLS):
        if node.meta["val"].shape[2:] == (1, 1) and _is_of_all(node):
            network.put(node, network.insert(node, aten.mean.dim, node.args[0], [2, 3], True))


def _is_of_pixels(node: Node) -> bool:
    source: Any = node.args[0]
    ndim = source.meta["val"].ndim
    return ndim == 4 and sorted(d % ndim for d in node.args[1]) == [2, 3]  # type: ignore[union-attr, operator]


def _is_of_each_image(node: Node) -> bool:
    source: Any = node.args[0]
    dims: Any = node.args[1]
    ndim = source.meta["val"].ndim
    return ndim > 1 and bool(dims) and 0 not in (d % ndim for d in dims) and not node.kwargs


def _as_of_pixels(network: Network, node: Node) -> Node:
    """The mean of what was taken from its place: a map of one column for each value that is kept."""
    source: Any = node.args[0]
    dims: Any = node.args[1]
    shape = source.meta["val"].shape
    taken = sorted(d % len(shape) for d in dims)
    kept = [d for d in range(1, len(shape)) if d not in taken]
    if [*kept, *taken] != list(range(1, len(shape))):
        source = network.insert(node, aten.permute.default, source, [0, *kept, *taken])
    if len(kept) != 1 or len(taken) != 1:
        sizes = [math.prod(shape[d] for d in some) for some in (kept, taken)]
        source = network.insert(node, aten.reshape.default, source, [-1, *sizes])
    mean = network.insert(node, aten.mean.dim, network.insert(node, aten.unsqueeze.default, source, 3), [2, 3], True)
    return network.insert(node, aten.reshape.default, mean, [-1, *node.meta["val"].shape[1:]])


def _is_of_all(node: Node) -> bool:
    if node.target == aten.adaptive_avg_pool2d.default:
        return True
    source, size, *more = node.args
    padding = more[1] if len(more) > 1 else 0
    sizes = size if isinstance(size, (list, tuple)) else [size]
    height, width = source.meta["val"].shape[2:]  # type: ignore[union-attr]
    return (sizes[0], sizes[-1]) == (height, width) and not any(
        padding if isinstance(padding, (list, tuple)) else [padding]
    )
