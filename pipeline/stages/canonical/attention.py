"""Attention becomes two products and a softmax.

before   scaled_dot_product_attention(q, k, v)
after    softmax(q @ k' * scale) @ v

ExecuTorch 1.5 guards the softmax against rows that are masked whole, with nine operations outside its delegate, also where
nothing is masked. With a mask it stays as it is.
"""

from __future__ import annotations

import math

from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.scaled_dot_product_attention.default):
        query, key, value, *masked = node.args
        if any(masked) or node.kwargs.keys() - {"scale"}:
            continue
        given = node.kwargs.get("scale")
        scale = 1 / math.sqrt(query.meta["val"].shape[-1]) if given is None else given  # type: ignore[union-attr]
        turned = network.insert(node, aten.transpose.int, key, -2, -1)
        scaled = network.insert(node, aten.mul.Tensor, query, scale)
        weights = network.insert(node, aten.softmax.int, network.insert(node, aten.matmul.default, scaled, turned), -1)
        network.put(node, network.insert(node, aten.matmul.default, weights, value))
