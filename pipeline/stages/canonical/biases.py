"""Each layer has a bias.

before   convolution or linear layer without a bias
after    the same with zeros

Quantization takes a layer's name from its bias, and corrects mean errors there.
"""

from __future__ import annotations

import torch

from ...errors import ConversionError
from ...program import TRANSPOSED, WEIGHTED
from .network import Network, width


def rewrite(network: Network) -> None:
    for node in network.calls(*WEIGHTED, *TRANSPOSED):
        if network.layer(node) is None:
            raise ConversionError(f"{network.described(node)} has weights or biases that the model computes from the image")
        if len(node.args) < 3 or node.args[2] is None:
            path = str(node.args[1].target).removesuffix(".weight")  # type: ignore[union-attr]
            zeros = network.constant(node, f"{path}.bias", torch.zeros(width(node)))
            node.args = (*node.args[:2], zeros, *node.args[3:])
