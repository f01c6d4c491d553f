"""Each layer has a bias.

before   convolution or linear layer without a bias
after    the same with zeros

Quantization takes a layer's name from its bias, and corrects mean errors there.
"""

from __future__ import annotations

import torch

from ...errors import ConversionError
from ...program import TRANSPOSED, WEIGHTED
from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(*WEIGHTED, *TRANSPOSED):
        weight = network.value(node.args[1])
        if weight is None:
            raise ConversionError(f"{network.described(node)} has weights that the model computes from the image")
        if len(node.args) < 3 or node.args[2] is None:
            path = str(node.args[1].target).removesuffix(".weight")  # type: ignore[union-attr]
            zeros = network.constant(
                node,
                f"{path}.bias",
                torch.zeros(node.meta["val"].shape[-1 if node.target == aten.linear.default else 1]),
            )
            node.args = (*node.args[:2], zeros, *node.args[3:])
