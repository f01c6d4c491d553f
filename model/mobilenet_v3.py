"""MobileNetV3, large and small, with width multiplier, resolution multiplier and number of classes.

Source: Howard et al., "Searching for MobileNetV3", 2019, tables 1 and 2. The keys of the state dict are those of
torchvision's ``mobilenet_v3_large`` and ``mobilenet_v3_small``, so that its checkpoints load strictly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .blocks import ConvBNActivation, MobileClassifier, SqueezeExcite, convolution, make_divisible

# both are literals: names and defaults are read from this source, without importing it
RESOLUTIONS = {
    "mobilenet_v3_large": 224,
    "mobilenet_v3_small": 224,
}
"""Pixels of a square input as published, by name."""

DEFAULTS = {"model": {"width": 1.0}}

STEM = 16
"""Channels of the first convolution at width 1."""

WIDENING = 6
"""Channels of the last convolution over those of the map that it is given."""

SQUEEZING = 4
"""Channels of a map over those inside its squeeze-and-excite."""

EPS = 1e-3
"""Of BatchNorm, with either padding: torchvision's weights have TensorFlow's."""


class Layer(NamedTuple):
    """One row of the published tables. The activation is a key of `blocks.ACTIVATIONS`."""

    kernel_size: int
    expanded: int
    channels: int
    has_squeeze: bool
    activation: str
    stride: int


LARGE = (
    Layer(3, 16, 16, False, "relu", 1),
    Layer(3, 64, 24, False, "relu", 2),
    Layer(3, 72, 24, False, "relu", 1),
    Layer(5, 72, 40, True, "relu", 2),
    Layer(5, 120, 40, True, "relu", 1),
    Layer(5, 120, 40, True, "relu", 1),
    Layer(3, 240, 80, False, "hardswish", 2),
    Layer(3, 200, 80, False, "hardswish", 1),
    Layer(3, 184, 80, False, "hardswish", 1),
    Layer(3, 184, 80, False, "hardswish", 1),
    Layer(3, 480, 112, True, "hardswish", 1),
    Layer(3, 672, 112, True, "hardswish", 1),
    Layer(5, 672, 160, True, "hardswish", 2),
    Layer(5, 960, 160, True, "hardswish", 1),
    Layer(5, 960, 160, True, "hardswish", 1),
)

SMALL = (
    Layer(3, 16, 16, True, "relu", 2),
    Layer(3, 72, 24, False, "relu", 2),
    Layer(3, 88, 24, False, "relu", 1),
    Layer(5, 96, 40, True, "hardswish", 2),
    Layer(5, 240, 40, True, "hardswish", 1),
    Layer(5, 240, 40, True, "hardswish", 1),
    Layer(5, 120, 48, True, "hardswish", 1),
    Layer(5, 144, 48, True, "hardswish", 1),
    Layer(5, 288, 96, True, "hardswish", 2),
    Layer(5, 576, 96, True, "hardswish", 1),
    Layer(5, 576, 96, True, "hardswish", 1),
)

VARIANTS = {"mobilenet_v3_large": (LARGE, 1280), "mobilenet_v3_small": (SMALL, 1024)}
"""Rows, and width of the layer before the classifier, by name."""


class GatedResidual(nn.Module):
    """Expand -> depthwise -> squeeze-and-excite -> linear projection, with a residual where shapes allow one.

    Args:
        in_channels: of the incoming map.
        expanded: width of the hidden layer; `in_channels` leaves the expansion out.
        out_channels: of the outgoing map.
        layer: what else is to be known of it.
        padding: see `blocks.convolution`.
    """

    def __init__(self, in_channels: int, expanded: int, out_channels: int, layer: Layer, padding: str) -> None:
        super().__init__()
        self.stride, self.out_channels = layer.stride, out_channels
        self.use_res_connect = layer.stride == 1 and in_channels == out_channels
        self.is_expanded = expanded != in_channels
        layers: list[nn.Module] = []
        if self.is_expanded:
            layers.append(
                ConvBNActivation(in_channels, expanded, 1, activation=layer.activation, padding=padding, eps=EPS)
            )
        layers.append(
            ConvBNActivation(
                expanded, expanded, layer.kernel_size, layer.stride, expanded, layer.activation, padding, eps=EPS
            )
        )
        if layer.has_squeeze:
            layers.append(SqueezeExcite(expanded, make_divisible(expanded // SQUEEZING)))
        projection = convolution(expanded, out_channels, 1, padding=padding)
        layers.append(nn.Sequential(projection, nn.BatchNorm2d(out_channels, EPS)))
        self.block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, in_channels, H, W)`` -> ``(N, out_channels, ceil(H / stride), ceil(W / stride))``."""
        y: torch.Tensor = self.block(x)
        return x + y if self.use_res_connect else y

    def in_parts(self) -> tuple[nn.Module, nn.Module] | None:
        """The expansion, and what follows it: together the block, of a stride of 2. None without an expansion."""
        return (self.block[0], self.block[1:]) if self.is_expanded else None


class MobileNetV3(MobileClassifier):
    """MobileNetV3 as a classifier.

    Args:
        layers: rows of the table, `LARGE` or `SMALL`.
        hidden: width of the layer before the classifier, at width 1.
        num_classes: length of the logits.
        width: width multiplier.
        dropout: probability of the dropout before the classifier, in training only.
        padding: "torch" as torchvision pads, or "tensorflow" as Keras does; see `blocks.convolution`.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...] = LARGE,
        hidden: int = 1280,
        num_classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.2,
        padding: str = "torch",
    ) -> None:
        channels = make_divisible(STEM * width)
        features: list[nn.Module] = [
            ConvBNActivation(3, channels, 3, 2, activation="hardswish", padding=padding, eps=EPS)
        ]
        for layer in layers:
            out_channels = make_divisible(layer.channels * width)
            features.append(
                GatedResidual(channels, make_divisible(layer.expanded * width), out_channels, layer, padding)
            )
            channels = out_channels
        last = WIDENING * channels
        features.append(ConvBNActivation(channels, last, 1, activation="hardswish", padding=padding, eps=EPS))
        super().__init__(features, last, num_classes, dropout, padding, make_divisible(hidden * width))


def create(num_classes: int, width: float, padding: str = "torch", name: str = "mobilenet_v3_large") -> MobileNetV3:
    """A randomly initialized model; the pipeline's way to make one by name, a key of `VARIANTS`."""
    layers, hidden = VARIANTS[name]
    return MobileNetV3(layers, hidden, num_classes, width, padding=padding)
