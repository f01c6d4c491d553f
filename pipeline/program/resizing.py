"""Bilinear resizing as the runtimes compute it, to the last bit: of whole steps in XNNPACK, of floats in onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

_WEIGHT_BITS = 11
"""Of XNNPACK's weights, along each axis."""


def of_steps(
    steps: torch.Tensor, size: Sequence[int] | None, align_corners: bool, factors: Sequence[float] | None = None
) -> torch.Tensor:
    """XNNPACK's, of steps ``(N, C, H, W)`` in float64; rounded once, halves up.

    Args:
        size: height and width that it has afterwards; or else by these factors.
    """
    one = 2**_WEIGHT_BITS
    for axis, (old, new) in enumerate(_sides(steps, size, factors), 2):
        less = int(align_corners and new != 1)
        place = np.arange(new, dtype=np.float32) * (np.float32(old - less) / np.float32(new - less))
        if not align_corners:
            half = np.float32(0.5)
            place = place + (half * (np.float32(old) / np.float32(new)) - half)
        low, high, share = _neighbours(place, old)
        weight = torch.from_numpy(np.rint(share * np.float32(one)).astype(np.float64))
        first, second = steps.index_select(axis, low), steps.index_select(axis, high)
        steps = first * one + (second - first) * _along(weight, axis)
    return torch.floor((steps + one**2 / 2) / one**2)


def of_floats(
    real: torch.Tensor,
    size: Sequence[int] | None,
    align_corners: bool,
    factors: Sequence[float] | None = None,
    *,
    is_fused: bool = False,
) -> torch.Tensor:
    """onnxruntime's, of ``(N, C, H, W)`` float32.

    Args:
        is_fused: a sum of products is rounded once, as compilers for arm64 have it.
    """
    axes = []
    for number, (old, new) in enumerate(_sides(real, size, factors)):
        place = np.arange(new, dtype=np.float32)
        if align_corners:
            place = place * np.float32(old - 1) / np.float32(max(new - 1, 1))
        else:
            half = np.float32(0.5)
            factor = np.float32(factors[number]) if size is None and factors else np.float32(new) / np.float32(old)
            place = (place + half) / factor - half
        low, high, share = _neighbours(place, old)
        is_edge = (low == high).numpy()
        shares = [np.where(is_edge, np.float32(0.5), each) for each in (np.float32(1) - share, share)]
        axes.append(list(zip((low, high), map(torch.from_numpy, shares), strict=True)))
    terms = [
        (_along(down, 2) * _along(right, 3), real.index_select(2, row).index_select(3, column))
        for row, down in axes[0]
        for column, right in axes[1]
    ]
    if not is_fused:
        first, *others = (weight * value for weight, value in terms)
        for other in others:
            first = first + other
        return first
    (weight, value), (second, other), *rest_of = terms
    total = _fused(weight, value, second * other)
    for weight, value in rest_of:
        total = _fused(weight, value, total)
    return total


def _fused(one: torch.Tensor, other: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """A product of two float32 is exact in float64."""
    return (one.double() * other.double() + total.double()).float()


def _sides(x: torch.Tensor, size: Sequence[int] | None, factors: Sequence[float] | None) -> list[tuple[int, int]]:
    """Height before and after, and width."""
    before = [int(side) for side in x.shape[2:]]
    after = size or [int(side * factor) for side, factor in zip(before, factors or (), strict=True)]
    return list(zip(before, map(int, after), strict=True))


def _neighbours(place: NDArray[np.float32], count: int) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.float32]]:
    """Of each place on an axis the two of `count` values that it lies between, and how far it is from the first."""
    place = np.clip(place, np.float32(0), np.float32(count - 1)).astype(np.float32)
    low = place.astype(np.int64)
    share = place - low.astype(np.float32)
    return torch.from_numpy(low), torch.from_numpy(np.minimum(low + 1, count - 1)), share


def _along(weights: torch.Tensor, axis: int) -> torch.Tensor:
    return weights.view([-1 if n == axis else 1 for n in range(4)])
