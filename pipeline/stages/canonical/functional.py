"""Operations that write into their argument give a new tensor instead.

before   y = add_(x, z); u = relu(x)
after    y = add(x, z);  u = relu(y)
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from ...errors import ConversionError
from .network import Network


def rewrite(network: Network) -> None:
    for node in list(network.graph.nodes):
        functional = _functional(node.target) if node.op == "call_function" else None
        if functional is None:
            continue
        written = node.args[0]
        if any(_is_view(reader) for reader in (written, *written.users)):
            raise ConversionError(
                f"{network.described(node)} writes into a part of a tensor; give it a tensor of its own"
            )
        node.target = functional
        later = _after(node)
        written.replace_all_uses_with(node, delete_user_cb=lambda user: user in later)  # noqa: B023


def _functional(target: Any) -> Any:
    """The operation that gives a new tensor; None of one that does so already."""
    schema = getattr(target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return None
    namespace, name = schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    if not name.endswith("_") or packet is None:
        raise ConversionError(f"'{name}' writes into its argument in a way that is not known")
    return getattr(packet, target._overloadname)


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(a.alias_info is not None and not a.alias_info.is_write for a in schema.arguments)


def _after(node: Node) -> set[Node]:
    found: set[Node] = set()
    while (node := node.next).op != "root":
        found.add(node)
    return found
