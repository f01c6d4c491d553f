"""What the nodes of an exported graph are called, and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx import Node

if TYPE_CHECKING:
    from torch.fx import GraphModule

aten = torch.ops.aten
WEIGHTED = (aten.conv2d.default, aten.linear.default)
"""Nodes with a weight and a bias."""

RELU = (aten.relu.default, aten.relu_.default)
CLAMP = (aten.hardtanh.default, aten.hardtanh_.default)
ACTIVATIONS = (*RELU, *CLAMP)
"""What is quantized together with the layer before it."""

PAD = aten.pad.default
"""Zeros around a map, where the convolution behind cannot put them itself: more of them on one side than on the other."""


def unpadded(node: Node) -> Node:
    """What a convolution or linear node reads, before the zeros around it."""
    source: Node = node.args[0]  # type: ignore[assignment]
    while source.target == PAD:
        source = source.args[0]  # type: ignore[assignment]
    return source


def attribute(module: GraphModule, path: str) -> torch.Tensor:
    """The parameter or buffer that a ``get_attr`` node names."""
    owner, _, name = path.rpartition(".")
    value: torch.Tensor = getattr(module.get_submodule(owner), name)
    return value


def module_path(node: Node) -> str:
    """The path of the module that a convolution or linear node comes from: its bias carries it."""
    return str(node.args[2].target).rpartition(".")[0]  # type: ignore[union-attr]
