"""The feature maps of a network that a head reads, and the strides that it wants them at.

A head is given the last map at each stride, before the next layer that halves it: of inverted residuals that is the
expanded map inside the block (Sandler et al. 2018, section 6.2), of other blocks what the one before gives. Weights keep
the names that they have in the classifier, ``features.*``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from .blocks import ConvBNActivation


class Source(NamedTuple):
    """The file that a network stands in, and what its ``create`` is given beside."""

    module: str
    options: Mapping[str, Any]


SOURCES = {
    "mobilenet_v2": Source("mobilenet_v2", {"narrows_last": True}),
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
        self.channels = [
            blocks[end].in_parts()[0].out_channels if _is_parted(blocks[end]) else blocks[end - 1].out_channels
            for end in self.ends
        ]
        self.channels.append(blocks[-1].out_channels)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The wanted maps, finest first, of normalized images ``(N, 3, H, W)``."""
        maps = []
        block: Any
        for index, block in enumerate(self.features):
            if index in self.ends and _is_parted(block):
                first, rest = block.in_parts()
                maps.append(first(x))
                x = rest(maps[-1])
                continue
            if index in self.ends:
                maps.append(x)
            x = block(x)
        return [*maps, x]


def _is_parted(block: nn.Module) -> bool:
    return hasattr(block, "in_parts")


def backbone(
    name: str, width: float, padding: str, strides: Sequence[int] = (16, 32), *, has_last_convolution: bool = True
) -> Backbone:
    """The backbone of an architecture, a key of `SOURCES`, with random weights.

    Args:
        width: width multiplier.
        padding: of its convolutions; see `blocks.convolution`.
        strides: see `Backbone`. Where the last is below 32, blocks behind it are dilated.
        has_last_convolution: whether the 1x1 convolution is kept that widens the last map for the classifier.
    """
    source = SOURCES[name]
    module = importlib.import_module(f".{source.module}", __package__)
    features = module.create(1, width, padding=padding, **source.options).features
    if not has_last_convolution and isinstance(features[-1], ConvBNActivation):
        features = features[:-1]
    dilate(features, strides[-1])
    return Backbone(features, strides)


def dilate(features: nn.Sequential, output_stride: int) -> None:
    """Take the strides out of blocks that make maps coarser than `output_stride`, and spread the kernels of what follows, so
    that each weight sees what it saw before; changes the blocks.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.1.
    """
    reached, rate = 1, 1
    block: Any
    for block in features:
        is_beyond = reached * block.stride > output_stride
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                _dilate(layer, rate, is_beyond)
        if is_beyond:
            rate *= block.stride
            block.stride = 1
        reached *= block.stride


def _dilate(layer: Any, rate: int, is_beyond: bool) -> None:
    is_pair = isinstance(layer, nn.Conv2d)
    kernel = layer.kernel_size[0] if is_pair else layer.kernel_size
    if is_beyond:
        layer.stride = (1, 1) if is_pair else 1
    if kernel > 1 and rate > 1:
        padding = rate * (kernel // 2)
        layer.dilation, layer.padding = ((rate, rate), (padding, padding)) if is_pair else (rate, padding)
