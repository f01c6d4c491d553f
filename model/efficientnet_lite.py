"""EfficientNet-Lite 0 to 4, with number of classes and, beyond what is published, a width multiplier.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, table 1, scaled by
width and depth; the Lite variants leave squeeze-and-excitation out, have ReLU6 for swish, and neither scale the stem and
the head nor repeat the first and the last stage more often (announced with their weights in tensorflow/tpu, 2020). The
published weights were trained with TensorFlow's padding on pixels less 127, over 128.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import nn

from .blocks import ConvBNActivation, InvertedResidual, MobileClassifier, make_divisible

# both are literals: names and defaults are read from this source, without importing it
RESOLUTIONS = {
    "efficientnet_lite0": 224,
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
    "efficientnet_lite3": 280,
    "efficientnet_lite4": 300,
}
"""Pixels of a square input as published, by name."""

DEFAULTS = {
    "model": {"width": 1.0, "padding": "tensorflow"},
    "data": {
        "mean": [0.4980392156862745, 0.4980392156862745, 0.4980392156862745],
        "std": [0.5019607843137255, 0.5019607843137255, 0.5019607843137255],
    },
}
"""As published: 127 / 255 and 128 / 255."""

OUTPUT_STRIDE = 32
"""Input pixels per pixel of the last feature map."""

STEM, HEAD = 32, 1280
"""Channels of the first and of the last convolution, of all variants and widths."""


class Variant(NamedTuple):
    """What tells the variants apart: factors of channels and of repeats, and the dropout before the classifier."""

    width: float
    depth: float
    dropout: float


VARIANTS = {
    "efficientnet_lite0": Variant(1.0, 1.0, 0.2),
    "efficientnet_lite1": Variant(1.0, 1.1, 0.2),
    "efficientnet_lite2": Variant(1.1, 1.2, 0.3),
    "efficientnet_lite3": Variant(1.2, 1.4, 0.3),
    "efficientnet_lite4": Variant(1.4, 1.8, 0.3),
}


class Stage(NamedTuple):
    """One row of the published table, of the smallest variant."""

    expand_ratio: int
    channels: int
    repeats: int
    stride: int
    kernel_size: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


class EfficientNetLite(MobileClassifier):
    """EfficientNet-Lite as a classifier. The keys of its state dict are made as those of `MobileNetV2`.

    Args:
        variant: a row of `VARIANTS`.
        num_classes: length of the logits.
        width: factor of the channels beside the variant's own; 1 as published.
        activation: "relu6" as published, or "relu".
        padding: "tensorflow" as published, or "torch"; see `blocks.convolution`.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        width: float = 1.0,
        activation: str = "relu6",
        padding: str = "tensorflow",
    ) -> None:
        features: list[nn.Module] = [ConvBNActivation(3, STEM, 3, 2, activation=activation, padding=padding)]
        channels = STEM
        for number, stage in enumerate(STAGES):
            out_channels = make_divisible(stage.channels * variant.width * width)
            is_fixed = number in (0, len(STAGES) - 1)
            for index in range(stage.repeats if is_fixed else math.ceil(stage.repeats * variant.depth)):
                stride = stage.stride if index == 0 else 1
                features.append(
                    InvertedResidual(
                        channels, out_channels, stride, stage.expand_ratio, activation, padding, stage.kernel_size
                    )
                )
                channels = out_channels
        features.append(ConvBNActivation(channels, HEAD, 1, activation=activation, padding=padding))
        super().__init__(features, HEAD, num_classes, variant.dropout, padding)


def create(
    num_classes: int,
    width: float,
    activation: str = "relu6",
    padding: str = "tensorflow",
    name: str = "efficientnet_lite0",
) -> EfficientNetLite:
    """A randomly initialized model; the pipeline's way to make one by name, a key of `VARIANTS`."""
    return EfficientNetLite(VARIANTS[name], num_classes, width, activation, padding)
