"""Each layer has a bias.

before   convolution or linear layer without a bias
after    the same with zeros

Quantization takes a layer's name from its bias, and corrects mean errors there.

before   two transposed convolutions with one weight
after    the same with a copy each

Quantization would quantize it for the first of them alone; of other layers a module each is made anyway.
"""

from __future__ import annotations

import torch

from ...errors import ConversionError
from ...program import TRANSPOSED, WEIGHTED
from .network import Network, width


def rewrite(network: Network) -> None:
    for node in network.calls(*WEIGHTED, *TRANSPOSED):
        known = network.layer(node)
        if known is None:
            raise ConversionError(
                f"{network.described(node)} has weights or biases that the model computes from the image"
            )
        if node.target in TRANSPOSED and len(node.args[1].users) > 1:  # type: ignore[union-attr]
            network.set_layer(node, str(node.args[1].target), *known)  # type: ignore[union-attr]
        if len(node.args) < 3 or node.args[2] is None:
            path = str(node.args[1].target).removesuffix(".weight")  # type: ignore[union-attr]
            zeros = network.constant(node, f"{path}.bias", torch.zeros(width(node)))
            node.args = (*node.args[:2], zeros, *node.args[3:])
