"""A model in memory as a saved `torch.export` program: the same bytes from the same graph and weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from .tracing import followed

_OF_THE_SOURCE = ("stack_trace", "from_node", "custom", "nn_module_stack", "source_fn_stack", "torch_fn")
"""Where in whose code an operation comes from: it differs where the same model is made elsewhere."""


def write(model: nn.Module, shapes: Sequence[Sequence[int]], path: Path) -> None:
    """Write a copy of a model, in evaluation mode and on the CPU; the model stays as it is.

    Args:
        model: ``(1, C, H, W)`` float32, normalized, and what else it takes -> tensors.
        shapes: of its inputs for one image, the image's first.

    Raises:
        ConversionError: it cannot be copied, or torch.export cannot follow it.
    """
    with followed(f"the {type(model).__name__}", *shapes):
        copy = deepcopy(model).cpu().eval().requires_grad_(False)
        exported = torch.export.export(copy, tuple(torch.zeros(*shape) for shape in shapes), strict=False)
    for node in exported.graph.nodes:
        for key in _OF_THE_SOURCE:
            node.meta.pop(key, None)
    content = io.BytesIO()
    torch.export.save(exported, content)
    path.write_bytes(content.getvalue())
