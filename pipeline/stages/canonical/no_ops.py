"""What changes nothing in evaluation goes: Dropout, copies, aliases, slices of all, a change to the type that it is, x + 0, x * 1, a
concatenation of one.

before   x -> dropout -> y
after    x -> y

before   x / expand_as(y, x)
after    x / y

A Dropout that is left in makes litert-torch 0.10 drop one of the quantizers around it and keep the next bias at the other's
scale, a silently wrong artifact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from .network import Network, aten

_ALWAYS = (
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
)
_WHERE_EQUAL = (
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.slice.Tensor,
    aten.expand.default,
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten._to_copy.default,
)


_WITH_NEUTRAL = {aten.add.Tensor: 0, aten.sub.Tensor: 0, aten.mul.Tensor: 1, aten.div.Tensor: 1}


def rewrite(network: Network) -> None:
    for node in network.calls(*_ALWAYS):
        network.skip(node)
    for node in network.calls(*_WITH_NEUTRAL):
        if node.args[1] == _WITH_NEUTRAL[node.target] and not node.kwargs and _is_equal(node):  # type: ignore[index]
            network.skip(node)
    for node in network.calls(aten.cat.default):
        parts: Any = node.args[0]
        if len(parts) == 1:
            network.put(node, parts[0])
    for node in network.calls(aten.expand.default, aten.expand_as.default):
        if node.users and all(_spreads(user, node) for user in node.users):
            network.skip(node)
    for node in network.calls(*_WHERE_EQUAL):
        if _is_equal(node):
            network.skip(node)


def _spreads(user: Node, node: Node) -> bool:
    """Whether an operation on two tensors brings one to the size of the other by itself."""
    if user.target not in _WITH_NEUTRAL or user.kwargs:
        return False
    others = [a for a in user.args[:2] if a is not node and isinstance(a, Node)]
    return len(others) == 1 and others[0].meta["val"].shape == node.meta["val"].shape


def _is_equal(node: Node) -> bool:
    """Whether it gives what it was given; none of these operations moves values without changing the shape."""
    before, after = (n.meta.get("val") for n in (node.args[0], node))  # type: ignore[union-attr]
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
        return False
    return before.shape == after.shape and before.dtype == after.dtype
