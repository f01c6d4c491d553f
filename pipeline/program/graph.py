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

TRANSPOSED = (aten.conv_transpose2d.input,)
"""The same whose weight is ``(in, out, ...)``: no part of what equalizes, corrects and rounds weights."""

RELU = (aten.relu.default, aten.relu_.default)
CLAMP = (aten.hardtanh.default, aten.hardtanh_.default)
ACTIVATIONS = (*RELU, *CLAMP)
"""What is quantized together with the layer before it."""

MOVES = (
    aten.permute.default,
    aten.transpose.int,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.expand.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.max_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten.pixel_shuffle.default,
)
"""What gives some of the values that it reads, in another place: quantized ones stay on their grid."""

BILINEAR = (aten.upsample_bilinear2d.vec,)
"""What gives means of neighbours: quantized ones stay on their grid too, rounded to it."""

PAD = aten.pad.default
"""Zeros around a map, where the convolution behind cannot put them itself: more of them on one side than on the other."""


def channel_axis(node: Node) -> int:
    """Where a layer's channels are, in what it reads and in what it gives: 1 of a convolution, the last of a linear layer,
    which may stand over any number of places."""
    return -1 if node.target == aten.linear.default else 1


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
