"""Depthwise convolution in float64.

torch has no kernel for it and calls its general one for every channel, which takes 40 microseconds however small the maps are:
for a network of 224 pixels, most of the time of its sums in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_VALUES_AT_ONCE = 2**15
"""Of the output, in a part whose sums stay in a core's own cache."""


def is_one(x: torch.Tensor, weight: torch.Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> bool:  # fmt: skip
    """Whether arguments of torch's ``conv2d`` are of a convolution in float64 that has one filter for each channel."""
    import torch

    one_each = groups == x.shape[1] == weight.shape[0] and weight.shape[1] == 1
    return one_each and x.dtype == weight.dtype == torch.float64 and not isinstance(padding, str) and x.ndim == 4


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: Any = 1, padding: Any = 0,
             dilation: Any = 1, groups: int = 1) -> torch.Tensor:  # fmt: skip
    """What ``conv2d`` gives for these arguments, to the order of its sums: of whole maps, shifted and weighted, in the filter's order.

    Args:
        x: ``(N, C, H, W)`` float64.
        weight: ``(C, 1, height, width)`` float64.
        bias: ``(C,)``.
    """
    import torch
    from torch.nn import functional

    strides, pads, steps = (_pair(value) for value in (stride, padding, dilation))
    padded = functional.pad(x, (pads[1], pads[1], pads[0], pads[0])) if any(pads) else x
    kernel = weight.shape[2:]
    size = [
        (length - step * (taps - 1) - 1) // by + 1
        for length, taps, step, by in zip(padded.shape[2:], kernel, steps, strides, strict=True)
    ]
    found = (
        x.new_zeros((*x.shape[:2], *size)) if bias is None else bias.double().view(1, -1, 1, 1).repeat(len(x), 1, *size)
    )
    channels = max(1, _VALUES_AT_ONCE // max(1, len(x) * size[0] * size[1]))
    for first in range(0, x.shape[1], channels):
        some = slice(first, first + channels)
        part, maps, weights = found[:, some], padded[:, some], weight[some, 0]
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                top, left = row * steps[0], column * steps[1]
                shifted = maps[
                    :, :, top : top + (size[0] - 1) * strides[0] + 1 : strides[0],
                    left : left + (size[1] - 1) * strides[1] + 1 : strides[1],
                ]  # fmt: skip
                torch.addcmul(part, shifted, weights[:, row, column].view(1, -1, 1, 1), out=part)
    return found


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    both = (value, value) if isinstance(value, int) else tuple(value)
    return (both[0], both[-1])
