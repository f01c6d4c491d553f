"""The layers of SSDLite behind its backbone: further maps, and from each map offsets and scores of its anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .backbones import Backbone
from .blocks import ConvBNActivation, initialize

EXTRA_CHANNELS = 512, 256, 256, 128
"""Of the maps behind the backbone's, at width 1."""

LEAST_CHANNELS = 16
"""Of these at a small width."""


def separable(in_channels: int, out_channels: int, stride: int, padding: str) -> nn.Sequential:
    """A depthwise 3x3 convolution and a 1x1 convolution, each with BatchNorm and ReLU6."""
    return nn.Sequential(
        ConvBNActivation(in_channels, in_channels, 3, stride, in_channels, padding=padding),
        ConvBNActivation(in_channels, out_channels, 1, padding=padding),
    )


class Head(nn.Sequential):
    """From a map ``(N, channels, h, w)`` to values ``(N, h * w * anchors, values)``: a depthwise 3x3 convolution with
    BatchNorm and ReLU6, and a linear 1x1 convolution."""

    def __init__(self, channels: int, anchors: int, values: int, padding: str) -> None:
        super().__init__(
            ConvBNActivation(channels, channels, 3, groups=channels, padding=padding),
            nn.Conv2d(channels, anchors * values, 1),
        )
        self.values = values

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        maps = input
        for layer in self:
            maps = layer(maps)
        return maps.permute(0, 2, 3, 1).reshape(len(input), -1, self.values)


class SSDLite(nn.Module):
    """SSDLite on a backbone with two maps.

    Args:
        backbone: its last map is halved further.
        num_classes: kinds of objects, without the background.
        anchors: of a pixel of each map.
        width: factor of the channels of the further maps.
        padding: of its convolutions; see `blocks.convolution`.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, anchors: Sequence[int], width: float, padding: str
    ) -> None:
        super().__init__()
        self.padding = padding
        self.backbone = backbone
        self.extra = nn.ModuleList()
        channels = list(backbone.channels)
        for number in EXTRA_CHANNELS:
            out_channels = max(int(number * width), LEAST_CHANNELS)
            narrow = max(int(number // 2 * width), LEAST_CHANNELS)
            reduction = ConvBNActivation(channels[-1], narrow, 1, padding=padding)
            self.extra.append(nn.Sequential(reduction, *separable(narrow, out_channels, 2, padding)))
            channels.append(out_channels)
        pairs = list(zip(channels, anchors, strict=True))
        self.boxes = nn.ModuleList(Head(inputs, number, 4, padding) for inputs, number in pairs)
        self.scores = nn.ModuleList(Head(inputs, number, num_classes + 1, padding) for inputs, number in pairs)
        initialize(self, *(head[1] for head in (*self.boxes, *self.scores)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Offsets ``(N, A, 4)`` of x, y, width and height from the anchors, in `ssdlite.VARIANCES`, and scores ``(N, A, classes
        + 1)``, the background first, of normalized images ``(N, 3, H, W)`` float32."""
        maps = list(self.backbone(x))
        for layers in self.extra:
            maps.append(layers(maps[-1]))
        boxes = [head(one) for head, one in zip(self.boxes, maps, strict=True)]
        scores = [head(one) for head, one in zip(self.scores, maps, strict=True)]
        return torch.cat(boxes, 1), torch.cat(scores, 1)
