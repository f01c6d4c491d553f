"""A map that is taken apart is read in slices.

before   a, b = chunk(x, 2, 1)          also split, tensor_split, unbind
after    a, b = slice(x, 1, 0, 8), slice(x, 1, 8, 16)
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Node

from .network import Network, aten

_PARTED = (
    aten.chunk.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.split.sizes,
    aten.tensor_split.indices,
    aten.tensor_split.sections,
    aten.unsafe_chunk.default,
)


def rewrite(network: Network) -> None:
    for node in network.calls(*_PARTED):
        dim = _dimension(node, 2)
        ends = torch.tensor([part.shape[dim] for part in node.meta["val"]]).cumsum(0).tolist()
        for reader in [n for n in node.users if n.target is operator.getitem]:
            number: Any = reader.args[1]
            first = 0 if number == 0 else ends[number - 1]
            part = network.insert(reader, aten.slice.Tensor, node.args[0], dim, first, ends[number])
            network.put(reader, part)
        if not node.users:
            network.graph.erase_node(node)
    for node in network.calls(aten.unbind.int):
        for reader in [n for n in node.users if n.target is operator.getitem]:
            network.put(
                reader, network.insert(reader, aten.select.int, node.args[0], _dimension(node, 1), reader.args[1])
            )
        if not node.users:
            network.graph.erase_node(node)


def _dimension(node: Node, place: int) -> int:
    """Of the argument at this place, counted from the front; 0 where there is none."""
    source: Any = node.args[0]
    dim: Any = node.args[place] if len(node.args) > place else node.kwargs.get("dim", 0)
    return int(dim % source.meta["val"].ndim)
