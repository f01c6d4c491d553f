"""The feature maps of a network that a head reads, and the strides that it wants them at.

A head is given the last map at each stride, before the next layer that halves it: of inverted residuals that is the
expanded map inside the block (Sandler et al. 2018, section 6.2), of other blocks what the one before gives. Weights keep
the names that they have in the classifier, ``features.*``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from . import efficientnet_lite, inception, mobilenet_v1, mobilenet_v2, mobilenet_v3, residual
from .blocks import ConvBNActivation, MobileClassifier

NETWORKS: Mapping[str, Callable[..., MobileClassifier]] = {
    "mobilenet_v1": mobilenet_v1.create,
    "mobilenet_v2": partial(mobilenet_v2.create, narrows_last=True),
    "mobilenet_v3_large": partial(mobilenet_v3.create, name="mobilenet_v3_large"),
    "mobilenet_v3_small": partial(mobilenet_v3.create, name="mobilenet_v3_small"),
    "efficientnet_lite0": partial(efficientnet_lite.create, name="efficientnet_lite0"),
    "residual": residual.create,
    "inception": inception.create,
}
"""By name. The convolution before the classifier, which others never narrow, is as wide as the rest."""


class Backbone(nn.Module):
    """The layers of a classifier up to its last map.

    Args:
        features: blocks from images ``(N, 3, H, W)`` to maps, each with ``stride`` and ``out_channels``.
        strides: input pixels per pixel of each map that is wanted, rising powers of 2; the last is the last map's.

    Attributes:
        channels: of each map.
    """

    def __init__(self, features: nn.Sequential, strides: Sequence[int]) -> None:
        super().__init__()
        self.features = features
        blocks: list[Any] = list(features)
        halving = [index for index, block in enumerate(blocks) if block.stride == 2]
        if strides[-1] != 2 ** len(halving):
            raise ValueError(f"the last map is at stride {2 ** len(halving)}, not {strides[-1]}")
        self.ends = [halving[one.bit_length() - 1] for one in strides[:-1]]
        parts = [(_parts(blocks[end]), blocks[end - 1]) for end in self.ends]
        self.channels = [part[0].out_channels if part else before.out_channels for part, before in parts]
        self.channels.append(blocks[-1].out_channels)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The wanted maps, finest first, of normalized images ``(N, 3, H, W)``."""
        maps = []
        for index, block in enumerate(self.features):
            parts = _parts(block) if index in self.ends else None
            if parts is not None:
                x = parts[0](x)
            if index in self.ends:
                maps.append(x)
            x = block(x) if parts is None else parts[1](x)
        return [*maps, x]


def _parts(block: Any) -> tuple[Any, Any] | None:
    """What a block computes before it halves the map, and then, where it is in two parts."""
    found: tuple[Any, Any] | None = block.in_parts() if hasattr(block, "in_parts") else None
    return found


def backbone(
    name: str, width: float, padding: str, strides: Sequence[int] = (16, 32), *, has_last_convolution: bool = True
) -> Backbone:
    """The backbone of an architecture, a key of `NETWORKS`, with random weights.

    Args:
        width: width multiplier.
        padding: of its convolutions; see `blocks.convolution`.
        strides: see `Backbone`. Where the last is below 32, blocks behind it are dilated.
        has_last_convolution: whether the 1x1 convolution is kept that widens the last map for the classifier.
    """
    features = NETWORKS[name](1, width, padding=padding).features
    if not has_last_convolution and isinstance(features[-1], ConvBNActivation):
        features = nn.Sequential(*list(features)[:-1])
    dilate(features, strides[-1])
    return Backbone(features, strides)


def dilate(features: nn.Sequential, output_stride: int) -> None:
    """Take the strides out of blocks that make maps coarser than `output_stride`, and spread the kernels of convolutions that
    follow, so that each weight sees what it saw before; changes the blocks. A pool sees its neighbours as they now are: LiteRT
    has no other.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.1.
    """
    reached, rate = 1, 1
    block: Any
    for block in features:
        step = block.stride
        is_beyond = reached * step > output_stride
        for layer in block.modules():
            if is_beyond and isinstance(layer, nn.MaxPool2d):
                layer.stride = 1
            elif isinstance(layer, nn.Conv2d):
                _dilate(layer, rate, is_beyond)
        if is_beyond:
            rate, block.stride = rate * step, 1
        else:
            reached *= step


def _dilate(layer: nn.Conv2d, rate: int, is_beyond: bool) -> None:
    kernel = layer.kernel_size[0]
    if is_beyond:
        layer.stride = (1, 1)
    if kernel > 1 and rate > 1:
        padding = rate * (kernel // 2)
        layer.dilation, layer.padding = (rate, rate), (padding, padding)
