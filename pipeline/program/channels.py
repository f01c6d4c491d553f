"""What a model's first layer takes of an image: three channels or one, mixed from R, G and B, and normalized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHANNELS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "rgb": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "bgr": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "grayscale": ((0.299, 0.587, 0.114),),
}
"""Shares of R, G and B in each channel, by name; those of a channel add up to 1. Grey is the luma of ITU-R BT.601, as in
Pillow's mode "L" but neither in 16 bits nor rounded to a level: the sum is a part of the first layer."""


def normalized(colour: torch.Tensor, channels: str, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """What the model is given.

    Args:
        colour: ``(N, 3, H, W)`` floating point, RGB in 0..1.
        channels: a key of `CHANNELS`.
        mean: subtracted from each channel, in the channels' order.
        std: divides each channel after that.

    Returns:
        ``(N, C, H, W)`` of the same dtype.
    """
    import torch

    mixed = [
        reduce(torch.add, [share * colour[:, place] for place, share in enumerate(row) if share])
        for row in CHANNELS[channels]
    ]
    return torch.stack([(x - m) / s for x, m, s in zip(mixed, mean, std, strict=True)], 1)
