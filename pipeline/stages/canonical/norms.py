"""The length of a vector becomes a product, a sum and a root that every runtime has.

before   y = x / max(norm(x, 2, dim 1), eps)      x a vector (1, C), as normalize writes it
after    y = x / max(sqrt(bmm(x as (1, 1, C), x as (1, C, 1))), eps)

ExecuTorch 1.5 runs a norm as three operations outside its delegate.
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.linalg_vector_norm.default):
        if _is_of_vector(node):
            width = node.args[0].meta["val"].shape[1]  # type: ignore[union-attr]
            row = network.insert(node, aten.view.default, node.args[0], [-1, 1, width])
            column = network.insert(node, aten.view.default, node.args[0], [-1, width, 1])
            total = network.insert(node, aten.bmm.default, row, column)
            length = network.insert(node, aten.sqrt.default, network.insert(node, aten.view.default, total, [-1, 1]))
            network.put(node, length)


def _is_of_vector(node: Node) -> bool:
    given: list[Any] = [*node.args, *[None] * 4]
    source, order, dims, keep = given[:4]
    axes = dims if isinstance(dims, (list, tuple)) else [0]
    is_length = (node.kwargs.get("ord", 2) if order is None else order) == 2
    return bool(source.meta["val"].ndim == 2 and is_length and [axis % 2 for axis in axes] == [1] and keep)
