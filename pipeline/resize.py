"""Cropping and resizing of images, defined to the last bit so that every platform can do the same.

Antialiased bilinear: the output pixel ``i`` of an axis (``n`` in, ``m`` out) is the weighted mean of the input
pixels ``j`` with the integer weights ``max(0, 2 max(n, m) - |(2 j + 1) m - (2 i + 1) n|)``, a triangle as wide
as the larger pixel. Both axes are applied exactly and rounded once, half up. There is no floating point in the
definition, so there is nothing to differ in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT = 2**53  # float64 holds every integer up to here, so a matrix product of integers below it is exact


def center_crop_box(height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest centred square."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """``(H, W, C)`` uint8 -> ``(height, width, C)`` uint8."""
    if image.shape[:2] == (height, width):
        return image.copy()
    rows, columns = _weights(image.shape[0], height), _weights(image.shape[1], width)
    total = rows.sum(1)[:, None, None] * columns.sum(1)[None, :, None]
    kind: Any = np.float64 if int(total.max()) * 255 < _EXACT else np.int64
    partial = np.tensordot(rows.astype(kind), image.astype(kind), axes=(1, 0))  # (height, W, C)
    summed = np.tensordot(columns.astype(kind), partial, axes=(1, 1)).transpose(1, 0, 2).astype(np.int64)
    rounded: NDArray[np.uint8] = ((2 * summed + total) // (2 * total)).astype(np.uint8)
    return rounded


def fit(image: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """The centred square of an ``(H, W, C)`` uint8 image, resized to ``(resolution, resolution, C)``."""
    top, left, height, width = center_crop_box(*image.shape[:2])
    return resize(image[top : top + height, left : left + width], resolution, resolution)


def _weights(size: int, out: int) -> NDArray[np.int64]:
    """``(out, size)`` integer weights of one axis."""
    i, j = np.arange(out, dtype=np.int64)[:, None], np.arange(size, dtype=np.int64)[None, :]
    distance: NDArray[np.int64] = np.abs((2 * j + 1) * out - (2 * i + 1) * size)
    return np.maximum(0, 2 * max(size, out) - distance)
