"""The canonical network: the form that converters and quantization take, brought about by small rewrites.

The user's model is exported once. Each module beside this one is a rewrite of that graph, which says what it finds and what
stands there afterwards. What a rewrite does is the same function but for rounding; the fold leg measures all of them together
against the untouched model. Layers keep the names that their weights have in the user's code.
"""

from __future__ import annotations

import torch
from torch import nn

from . import (
    activations,
    attention,
    batch_norm,
    biases,
    constants,
    functional,
    means,
    no_ops,
    norms,
    parts,
    pools,
    scales,
    spelling,
    spread,
    tokens,
    views,
)
from .network import Network

REWRITES = (
    functional,
    constants,
    no_ops,
    parts,
    spelling,
    activations,
    attention,
    means,
    pools,
    norms,
    tokens,
    batch_norm,
    scales,
    spread,
    biases,
    views,
)
"""In this order: a weight may be computed from others, a BatchNorm may stand behind a Dropout, and a mean that is none of all
pixels is a pool. A mean brings a flatten."""


def canonical(model: nn.Module, *examples: torch.Tensor) -> Network:
    """The network of a model in evaluation mode, which stays as it is.

    Args:
        examples: an image ``(1, C, H, W)`` float32, and one of each further input.

    Raises:
        ConversionError: a part of the model is written in a way that no rewrite knows.
    """
    network = Network(model, examples)
    for one in REWRITES:
        one.rewrite(network)
    return network
