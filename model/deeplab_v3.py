"""DeepLabV3: a class for each pixel, on the backbone in the architecture's name.

Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017; Sandler et al., "MobileNetV2",
2018, section 6.3, for the form that phones run: without atrous spatial pyramid pooling (ASPP), on the last map of blocks,
without the 1x1 convolution that widens it.
"""

from __future__ import annotations

import torch
from torch import nn

from .backbones import Backbone, backbone
from .blocks import ConvBNActivation, initialize

# literals: names and defaults are read from this source, without importing it
RESOLUTIONS = {
    "deeplab_v3_mobilenet_v1": 513,
    "deeplab_v3_mobilenet_v2": 513,
    "deeplab_v3_mobilenet_v3_large": 513,
    "deeplab_v3_mobilenet_v3_small": 513,
    "deeplab_v3_efficientnet_lite0": 513,
    "deeplab_v3_residual": 513,
    "deeplab_v3_inception": 513,
    "deeplab_v3_aspp_mobilenet_v1": 513,
    "deeplab_v3_aspp_mobilenet_v2": 513,
    "deeplab_v3_aspp_mobilenet_v3_large": 513,
    "deeplab_v3_aspp_mobilenet_v3_small": 513,
    "deeplab_v3_aspp_efficientnet_lite0": 513,
    "deeplab_v3_aspp_residual": 513,
    "deeplab_v3_aspp_inception": 513,
}
"""Pixels of a square input as published, by name."""

DEFAULTS = {"model": {"task": "segmentation", "width": 1.0}}

OUTPUT_STRIDE = 16
"""Input pixels per pixel of the scores."""

CHANNELS = 256
"""Of each branch of the head, at every width."""

RATES = 6, 12, 18
"""By which the branches of the pyramid spread their kernels, at output stride 16; at 8 twice as far."""


class Pooled(nn.Module):
    """A convolution of the mean over the map, at each of its pixels."""

    def __init__(self, in_channels: int, out_channels: int, padding: str) -> None:
        super().__init__()
        self.conv = ConvBNActivation(in_channels, out_channels, 1, activation="relu", padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x.mean((2, 3), keepdim=True))
        return y.expand(-1, -1, *x.shape[2:])


class DeepLabV3(nn.Module):
    """DeepLabV3 on a backbone with one map.

    Args:
        backbone: its blocks dilated to `output_stride`.
        num_classes: of a pixel, with the background where there is one.
        has_aspp: whether three dilated convolutions stand beside the 1x1 convolution and the pooled branch.
        output_stride: 16 or 8.
        dropout: probability of the dropout before the last layer, in training only.
        padding: of its convolutions; see `blocks.convolution`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        has_aspp: bool = False,
        output_stride: int = OUTPUT_STRIDE,
        dropout: float = 0.1,
        padding: str = "torch",
    ) -> None:
        super().__init__()
        self.padding = padding
        self.backbone = backbone
        inputs = backbone.channels[-1]
        branches: list[nn.Module] = [
            Pooled(inputs, CHANNELS, padding),
            ConvBNActivation(inputs, CHANNELS, 1, activation="relu", padding=padding),
        ]
        for rate in RATES if has_aspp else ():
            spread = rate * OUTPUT_STRIDE // output_stride
            branches.append(ConvBNActivation(inputs, CHANNELS, 3, activation="relu", padding=padding, dilation=spread))
        self.branches = nn.ModuleList(branches)
        self.projection = ConvBNActivation(len(branches) * CHANNELS, CHANNELS, 1, activation="relu", padding=padding)
        self.scores = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(CHANNELS, num_classes, 1))
        initialize(self, self.scores[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, num_classes, ceil(H / output_stride), ceil(W / output_stride))`` of normalized images ``(N, 3, H, W)``
        float32; enlarging them to the image's size is decoding."""
        (x,) = self.backbone(x)
        scores: torch.Tensor = self.scores(self.projection(torch.cat([branch(x) for branch in self.branches], 1)))
        return scores


def create(
    num_classes: int,
    width: float,
    padding: str = "torch",
    name: str = "deeplab_v3_mobilenet_v2",
    output_stride: int = OUTPUT_STRIDE,
) -> DeepLabV3:
    """A randomly initialized model; the pipeline's way to make one by name, a key of `RESOLUTIONS`.

    Args:
        num_classes: of a pixel, with the background where there is one.
        width: width multiplier of the backbone.
        padding: see `blocks.convolution`.
        output_stride: 16, or 8 for maps of twice the size.
    """
    has_aspp = name.startswith("deeplab_v3_aspp_")
    own = name.removeprefix("deeplab_v3_aspp_" if has_aspp else "deeplab_v3_")
    made = backbone(own, width, padding, (output_stride,), has_last_convolution=False)
    return DeepLabV3(made, num_classes, has_aspp, output_stride, padding=padding)
