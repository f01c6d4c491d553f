"""Small stacks for `claims.py`: MobileNet's blocks with what the papers change about them as options.

All take normalized ``(N, 3, H, W)`` float32 and give ``(N, 10)`` logits. With the options as published, `Bottlenecks` is made of
the layers of `blocks.InvertedResidual`. Channels are taken as they are given, not as multiples of 8, so that the costs of two
networks can be made equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from twinkeel.model.blocks import ConvBNActivation, MobileClassifier, convolution

CLASSES = 10
STRIDES = (1, 2, 2)
"""Of the first block of each stage; the stem has 2 before them."""
SHORTCUTS = ("bottlenecks", "expansions", "none")


class Block(nn.Module):
    """The layers of an inverted residual, one by one.

    Args:
        projection: "linear" as published, or an activation behind it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expand_ratio: int, projection: str, activation: str
    ) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.is_same = stride == 1 and in_channels == out_channels
        self.expand = (
            ConvBNActivation(in_channels, hidden, 1, activation=activation) if expand_ratio > 1 else nn.Identity()
        )
        self.depthwise = ConvBNActivation(hidden, hidden, 3, stride, hidden, activation)
        self.project = (
            nn.Sequential(convolution(hidden, out_channels, 1), nn.BatchNorm2d(out_channels))
            if projection == "linear"
            else ConvBNActivation(hidden, out_channels, 1, activation=projection)
        )


class Bottlenecks(nn.Module):
    """Blocks and the convolution behind them, with shortcuts where shapes allow them.

    Between bottlenecks, a block's input is added to its output. Between expansions, what one block has behind its expansion is
    added to what the next has there, and the last to the convolution at the end; the path through the shortcuts is the identity in
    both, and with as many channels at the end as the last expansion has, there are as many of them.

    Args:
        shortcuts: one of `SHORTCUTS`.
    """

    def __init__(self, blocks: Sequence[Block], last: ConvBNActivation, shortcuts: str) -> None:
        super().__init__()
        if shortcuts not in SHORTCUTS:
            raise ValueError(f"shortcuts must be one of {SHORTCUTS}, not '{shortcuts}'")
        self.blocks, self.last, self.shortcuts = nn.ModuleList(blocks), last, shortcuts
        self.added = 0
        """Shortcuts of the last call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` -> ``(N, channels of the last, H / 4, W / 4)``."""
        before: torch.Tensor | None = None
        self.added = 0
        for block in self.blocks:
            before = self._beyond(before, block.expand(x))  # type: ignore[operator]
            y: torch.Tensor = block.project(block.depthwise(before))  # type: ignore[operator]
            is_added = self.shortcuts == "bottlenecks" and bool(block.is_same)
            self.added += is_added
            x = x + y if is_added else y
        return self._beyond(before, self.last(x))

    def _beyond(self, before: torch.Tensor | None, hidden: torch.Tensor) -> torch.Tensor:
        if self.shortcuts != "expansions" or before is None or before.shape != hidden.shape:
            return hidden
        self.added += 1
        return hidden + before


def bottlenecks(
    channels: Sequence[int] = (4, 6, 8),
    repeats: int = 2,
    expand_ratio: int = 6,
    last: int = 48,
    projection: str = "linear",
    shortcuts: str = "bottlenecks",
    activation: str = "relu6",
) -> MobileClassifier:
    """As MobileNetV2: a stage of `repeats` blocks for each of the channels.

    Args:
        last: channels of the convolution before the mean.
    """
    blocks, before = [], channels[0]
    for now, stride in zip(channels, STRIDES, strict=True):
        for index in range(repeats):
            blocks.append(Block(before, now, stride if index == 0 else 1, expand_ratio, projection, activation))
            before = now
    end = ConvBNActivation(before, last, 1, activation=activation)
    stem = ConvBNActivation(3, channels[0], 3, 2, activation=activation)
    return MobileClassifier([stem, Bottlenecks(blocks, end, shortcuts)], last, CLASSES, 0.0, "torch")


def convolutions(
    channels: Sequence[int], repeats: int = 2, is_separable: bool = True, activation: str = "relu6"
) -> MobileClassifier:
    """As MobileNetV1, without bottlenecks and shortcuts: 3x3 convolutions, each of one piece or depthwise and 1x1."""
    layers: list[nn.Module] = [ConvBNActivation(3, channels[0], 3, 2, activation=activation)]
    before = channels[0]
    for now, first in zip(channels, STRIDES, strict=True):
        for index in range(repeats):
            stride = first if index == 0 else 1
            if is_separable:
                layers += [
                    ConvBNActivation(before, before, 3, stride, before, activation),
                    ConvBNActivation(before, now, 1, activation=activation),
                ]
            else:
                layers.append(ConvBNActivation(before, now, 3, stride, activation=activation))
            before = now
    return MobileClassifier(layers, before, CLASSES, 0.0, "torch")
