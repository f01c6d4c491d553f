"""Inception: in each block four ways beside each other, 1x1 convolutions narrowing what the larger kernels read.

Source: Szegedy et al., "Going Deeper with Convolutions", 2015, table 1, without the auxiliary classifiers; a BatchNorm for
each local response normalization and bias, as in Ioffe and Szegedy, "Batch Normalization", 2015.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .blocks import ConvBNActivation, MobileClassifier, Pool, make_divisible

DEFAULTS = {"model": {"activation": "relu"}}
"""A literal: it is read from this source, without importing it."""

STEM = 64, 64, 192
"""Channels of the 7x7, 1x1 and 3x3 convolutions in front."""


class Ways(NamedTuple):
    """Channels in a block: of the 1x1 convolution, of the 3x3 and the 5x5 with what narrows before each, and behind the pool."""

    one: int
    narrow_three: int
    three: int
    narrow_five: int
    five: int
    pooled: int


STAGES = (
    (Ways(64, 96, 128, 16, 32, 32), Ways(128, 128, 192, 32, 96, 64)),
    (
        Ways(192, 96, 208, 16, 48, 64),
        Ways(160, 112, 224, 24, 64, 64),
        Ways(128, 128, 256, 24, 64, 64),
        Ways(112, 144, 288, 32, 64, 64),
        Ways(256, 160, 320, 32, 128, 128),
    ),
    (Ways(256, 160, 320, 32, 128, 128), Ways(384, 192, 384, 48, 128, 128)),
)
"""Blocks at strides 8, 16 and 32."""


class Inception(nn.Module):
    """Four ways beside each other, concatenated.

    Args:
        in_channels: of the incoming map.
        ways: channels inside.
        activation: behind each convolution; a key of `blocks.ACTIVATIONS`.
        padding: see `blocks.convolution`.
    """

    def __init__(self, in_channels: int, ways: Ways, activation: str, padding: str) -> None:
        super().__init__()
        self.stride, self.out_channels = 1, ways.one + ways.three + ways.five + ways.pooled

        def layer(inputs: int, outputs: int, kernel_size: int = 1) -> ConvBNActivation:
            return ConvBNActivation(inputs, outputs, kernel_size, activation=activation, padding=padding)

        self.one = layer(in_channels, ways.one)
        self.three = nn.Sequential(layer(in_channels, ways.narrow_three), layer(ways.narrow_three, ways.three, 3))
        self.five = nn.Sequential(layer(in_channels, ways.narrow_five), layer(ways.narrow_five, ways.five, 5))
        self.pooled = nn.Sequential(Pool(in_channels, 1), layer(in_channels, ways.pooled))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, in_channels, H, W)`` -> ``(N, out_channels, H, W)``."""
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


class InceptionNet(MobileClassifier):
    """Inception as a classifier.

    Args:
        num_classes: length of the logits.
        width: width multiplier.
        dropout: probability of the dropout before the classifier, in training only.
        activation: "relu" as published, or "relu6".
        padding: "torch" or "tensorflow"; see `blocks.convolution`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.4,
        activation: str = "relu",
        padding: str = "torch",
    ) -> None:
        first, narrow, channels = (make_divisible(number * width) for number in STEM)
        features: list[nn.Module] = [
            ConvBNActivation(3, first, 7, 2, activation=activation, padding=padding),
            Pool(first, 2),
            ConvBNActivation(first, narrow, 1, activation=activation, padding=padding),
            ConvBNActivation(narrow, channels, 3, activation=activation, padding=padding),
        ]
        for stage in STAGES:
            features.append(Pool(channels, 2))
            for ways in stage:
                scaled = Ways(*(make_divisible(number * width) for number in ways))
                block = Inception(channels, scaled, activation, padding)
                features.append(block)
                channels = block.out_channels
        super().__init__(features, channels, num_classes, dropout, padding)


def create(num_classes: int, width: float, activation: str = "relu", padding: str = "torch") -> InceptionNet:
    """A randomly initialized model; the pipeline's way to make one by name."""
    return InceptionNet(num_classes, width, activation=activation, padding=padding)
