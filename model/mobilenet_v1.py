"""MobileNet, the first, with width multiplier, resolution multiplier and number of classes.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017, table 1.
ReLU6 is what its published weights were trained with. The last but one depthwise convolution halves the map, the last does
not: the table's second stride of 2 is a slip, for its input and output are 7 x 7.
"""

from __future__ import annotations

from torch import nn

from .blocks import ConvBNActivation, MobileClassifier, make_divisible

BASE_RESOLUTION = 224
"""Pixels of a square input at resolution multiplier 1."""

OUTPUT_STRIDE = 32
"""Input pixels per pixel of the last feature map."""

STEM = 32
"""Channels of the first convolution at width 1."""

LAYERS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
"""Channels and stride of each depthwise separable convolution."""


class SeparableConvolution(nn.Sequential):
    """A depthwise 3x3 convolution and a 1x1 convolution, each with BatchNorm and activation.

    Args:
        in_channels: of the map that it is given.
        out_channels: of the map that it gives.
        stride: of the depthwise convolution, 1 or 2.
        activation: a key of `blocks.ACTIVATIONS`.
        padding: see `blocks.convolution`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str, padding: str) -> None:
        super().__init__(
            ConvBNActivation(in_channels, in_channels, 3, stride, in_channels, activation, padding),
            ConvBNActivation(in_channels, out_channels, 1, activation=activation, padding=padding),
        )
        self.stride, self.out_channels = stride, out_channels


def input_resolution(multiplier: float) -> int:
    """Pixels of the square input at a resolution multiplier: 224 times it, to the nearest multiple of 32."""
    return make_divisible(BASE_RESOLUTION * multiplier, OUTPUT_STRIDE)


class MobileNetV1(MobileClassifier):
    """MobileNet as a classifier.

    Args:
        num_classes: length of the logits.
        width: width multiplier (alpha).
        dropout: probability of the dropout before the classifier, in training only.
        activation: "relu6", or "relu" as in the text of the publication.
        padding: "torch", or "tensorflow" as its published weights need; see `blocks.convolution`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.001,
        activation: str = "relu6",
        padding: str = "torch",
    ) -> None:
        channels = make_divisible(STEM * width)
        features: list[nn.Module] = [ConvBNActivation(3, channels, 3, 2, activation=activation, padding=padding)]
        for wide, stride in LAYERS:
            out_channels = make_divisible(wide * width)
            features.append(SeparableConvolution(channels, out_channels, stride, activation, padding))
            channels = out_channels
        super().__init__(features, channels, num_classes, dropout, padding)


def create(num_classes: int, width: float, activation: str = "relu6", padding: str = "torch") -> MobileNetV1:
    """A randomly initialized model; the pipeline's way to make one by name."""
    return MobileNetV1(num_classes, width, activation=activation, padding=padding)
