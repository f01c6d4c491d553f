"""Building blocks that the mobile architectures share.

All blocks take and give ``(N, C, H, W)`` float tensors. Convolutions carry no bias of their own: a BatchNorm
follows each of them, and the fold stage turns the pair into one convolution with a bias.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum`, and never more than 10 % below `value`.

    This is the published rounding of MobileNet channel counts: a plain rounding would take away more than a
    tenth of a narrow layer.

    Args:
        value: wanted number of channels, for example ``32 * width``.
        divisor: channels come in multiples of this.
        minimum: smallest allowed result; `divisor` by default.
    """
    floor = divisor if minimum is None else minimum
    rounded = max(floor, int(value + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * value:
        rounded += divisor
    return rounded


ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu6": nn.ReLU6, "relu": nn.ReLU}
"""By name. They are modules on purpose: the quantizer fuses the module form, and leaves float islands around the
functional one."""


class ConvBNActivation(nn.Sequential):
    """Convolution -> BatchNorm -> activation, with the "same" zero padding of an odd kernel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: str = "relu6",
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding=(kernel_size - 1) // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            ACTIVATIONS[activation](inplace=False),
        )


class InvertedResidual(nn.Module):
    """Expand -> depthwise -> linear projection, with a residual where shapes allow one.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, section 3.3. The
    projection is linear: a ReLU on the narrow bottleneck would destroy information.

    Args:
        in_channels: channels of the incoming bottleneck.
        out_channels: channels of the outgoing bottleneck.
        stride: 1 or 2; a residual is added where it is 1 and the channel counts agree.
        expand_ratio: width of the hidden layer over `in_channels`; 1 leaves the expansion out.
        activation: of the expansion and the depthwise convolution; a key of `ACTIVATIONS`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expand_ratio: int, activation: str = "relu6"
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, not {stride}")
        hidden = round(in_channels * expand_ratio)
        self.use_res_connect = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(ConvBNActivation(in_channels, hidden, kernel_size=1, activation=activation))
        layers += [
            ConvBNActivation(hidden, hidden, stride=stride, groups=hidden, activation=activation),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, in_channels, H, W)`` -> ``(N, out_channels, H / stride, W / stride)``."""
        y: torch.Tensor = self.conv(x)
        return x + y if self.use_res_connect else y
