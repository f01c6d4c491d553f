"""A residual network of bottlenecks, wide, narrow, wide, that costs what MobileNetV2 does at the same width.

Source: He et al., "Deep Residual Learning for Image Recognition", 2016, figure 5 and table 1: the blocks, and how often
they stand, are ResNet-50's, at a quarter of its width. The stem is a 3x3 convolution for one of 7x7, and the last
convolution is MobileNetV2's, so that the two differ in their blocks alone: dense kernels between narrow layers here,
depthwise ones between wide layers there.
"""

from __future__ import annotations

import torch
from torch import nn

from .blocks import ACTIVATIONS, BATCH_NORM_EPS, ConvBNActivation, MobileClassifier, Pool, convolution, make_divisible

DEFAULTS = {"model": {"activation": "relu"}}
"""A literal: it is read from this source, without importing it."""

STEM, HEAD = 32, 1280
"""Channels of the first and of the last convolution at width 1; the last never gets narrower."""

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Channels and blocks of each stage; the first block of all but the first stage halves the map."""

NARROWING = 4
"""Channels of a block's maps over those inside."""


class Bottleneck(nn.Module):
    """Narrow -> dense 3x3 -> widen, added to what it is given, or to a convolution of that where the shape differs.

    Args:
        in_channels: of the incoming map.
        out_channels: of the outgoing map; inside a quarter of it.
        stride: of the 3x3 convolution, 1 or 2.
        activation: behind each convolution and behind the sum; a key of `blocks.ACTIVATIONS`.
        padding: see `blocks.convolution`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str, padding: str) -> None:
        super().__init__()
        self.stride, self.out_channels = stride, out_channels
        narrow = make_divisible(out_channels / NARROWING)
        eps = BATCH_NORM_EPS[padding]
        self.conv = nn.Sequential(
            ConvBNActivation(in_channels, narrow, 1, activation=activation, padding=padding),
            ConvBNActivation(narrow, narrow, 3, stride, activation=activation, padding=padding),
            convolution(narrow, out_channels, 1, padding=padding),
            nn.BatchNorm2d(out_channels, eps),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(convolution(in_channels, out_channels, 1, stride, padding=padding))
            self.shortcut.append(nn.BatchNorm2d(out_channels, eps))
        self.activation = ACTIVATIONS[activation](inplace=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, in_channels, H, W)`` -> ``(N, out_channels, ceil(H / stride), ceil(W / stride))``."""
        y: torch.Tensor = self.activation(self.conv(x) + self.shortcut(x))
        return y


class ResidualNet(MobileClassifier):
    """The residual network as a classifier.

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
        dropout: float = 0.2,
        activation: str = "relu",
        padding: str = "torch",
    ) -> None:
        channels = make_divisible(STEM * width)
        features: list[nn.Module] = [
            ConvBNActivation(3, channels, 3, 2, activation=activation, padding=padding),
            Pool(channels, 2),
        ]
        for number, (wide, repeats) in enumerate(STAGES):
            out_channels = make_divisible(wide * width)
            for index in range(repeats):
                stride = 2 if number > 0 and index == 0 else 1
                features.append(Bottleneck(channels, out_channels, stride, activation, padding))
                channels = out_channels
        last = make_divisible(HEAD * max(1.0, width))
        features.append(ConvBNActivation(channels, last, 1, activation=activation, padding=padding))
        super().__init__(features, last, num_classes, dropout, padding)


def create(num_classes: int, width: float, activation: str = "relu", padding: str = "torch") -> ResidualNet:
    """A randomly initialized model; the pipeline's way to make one by name."""
    return ResidualNet(num_classes, width, activation=activation, padding=padding)
