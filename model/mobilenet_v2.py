"""MobileNetV2 with width multiplier, resolution multiplier and number of classes.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2. The keys of
the state dict are those of torchvision's ``mobilenet_v2``, so that its checkpoints load strictly.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from .blocks import ConvBNActivation, InvertedResidual, MobileClassifier, make_divisible

BASE_RESOLUTION = 224
"""Pixels of a square input at resolution multiplier 1."""

OUTPUT_STRIDE = 32
"""Input pixels per pixel of the last feature map."""


class Stage(NamedTuple):
    """One row of the published table."""

    expand_ratio: int
    channels: int
    repeats: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


def input_resolution(multiplier: float) -> int:
    """Pixels of the square input at a resolution multiplier: 224 times it, to the nearest multiple of 32."""
    return make_divisible(BASE_RESOLUTION * multiplier, OUTPUT_STRIDE)


class MobileNetV2(MobileClassifier):
    """MobileNetV2 as a classifier.

    Args:
        num_classes: length of the logits.
        width: width multiplier (alpha); the last convolution never gets narrower than 1280.
        dropout: probability of the dropout before the classifier, in training only.
        activation: "relu6" as published, or "relu".
        padding: "torch" as torchvision pads, or "tensorflow" as Keras does; see `blocks.convolution`.
        narrows_last: whether the last convolution gets narrower than 1280 as well, as in front of detection heads.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.2,
        activation: str = "relu6",
        padding: str = "torch",
        narrows_last: bool = False,
    ) -> None:
        channels = make_divisible(32 * width)
        last_channel = make_divisible(1280 * (width if narrows_last else max(1.0, width)))
        features: list[nn.Module] = [ConvBNActivation(3, channels, 3, 2, activation=activation, padding=padding)]
        for stage in STAGES:
            out_channels = make_divisible(stage.channels * width)
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                features.append(
                    InvertedResidual(channels, out_channels, stride, stage.expand_ratio, activation, padding)
                )
                channels = out_channels
        features.append(ConvBNActivation(channels, last_channel, 1, activation=activation, padding=padding))
        super().__init__(features, last_channel, num_classes, dropout, padding)


def create(
    num_classes: int, width: float, activation: str = "relu6", padding: str = "torch", narrows_last: bool = False
) -> MobileNetV2:
    """A randomly initialized model; the pipeline's way to make one by name."""
    return MobileNetV2(num_classes, width, activation=activation, padding=padding, narrows_last=narrows_last)
