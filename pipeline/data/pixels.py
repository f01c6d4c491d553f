"""From any image to the model's input, defined to the last bit so that every platform can do the same.

1. *Upright*: the EXIF orientation is applied.
2. *On black*: a pixel of colour ``c`` and alpha ``a`` becomes ``round(c a / 255)``.
3. *Crop*: the largest centred rectangle of the upright image that is as wide for its height as the input, a square for
   a square one. Of ``H x W`` pixels for an input of ``h x w``: where ``H w >= W h``, all columns and
   ``max(1, floor(W h / w))`` rows; else all rows and ``max(1, floor(H w / h))`` columns. Of an odd rest the larger half
   lies right and below.
4. *Resize*, antialiased bilinear: the output pixel ``i`` of an axis (``n`` in, ``m`` out) is the weighted mean of the
   input pixels ``j`` with the integer weights ``max(0, 2 max(n, m) - |(2 j + 1) m - (2 i + 1) n|)``, a triangle as
   wide as the larger pixel. Both axes are applied exactly and rounded once, half up.

There is no floating point in the definition, so there is nothing to differ in. The weights of step 4 are symmetric, so
turning and mirroring may as well come last, and the sums do not depend on their order: rows can be read one by one.
The apps' kits do both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ORIENTATIONS = (1, 2, 3, 4, 5, 6, 7, 8)
"""EXIF's numbers: how the stored rows and columns lie in the upright image."""

LARGEST = 2**27
"""Entries of a table of weights, 1 GB: an image that is all width would have a larger one than its pixels."""

_EXACT = 2**53  # float64 holds every integer up to here, so a matrix product of integers below it is exact


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """An ``(H, W, C)`` image as it is meant to be seen.

    Args:
        orientation: 1 to 8 as EXIF numbers them; 1 is upright already, 6 needs a quarter turn clockwise.
    """
    if orientation not in ORIENTATIONS:
        raise ValueError(f"EXIF orientations are 1 to 8, not {orientation}")
    turned = image.swapaxes(0, 1) if orientation >= 5 else image
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return turned


def on_black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(..., 4)`` RGBA with straight alpha -> ``(..., 3)`` RGB, as it looks before black."""
    colour, alpha = image[..., :3].astype(np.int64), image[..., 3:].astype(np.int64)
    return ((2 * colour * alpha + 255) // 510).astype(np.uint8)


def center_crop_box(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest centred rectangle in `size` with the aspect ratio of `wanted`; both are
    (height, width)."""
    (height, width), (rows, columns) = size, wanted
    if height * columns >= width * rows:
        inner = max(1, width * rows // columns), width
    else:
        inner = height, max(1, height * columns // rows)
    return (height - inner[0]) // 2, (width - inner[1]) // 2, *inner


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """``(H, W, C)`` uint8 -> ``(height, width, C)`` uint8.

    Raises:
        ValueError: the sums would leave 64 bits, or the tables of weights `LARGEST`. An image of up to 10,000 pixels a
            side fits any output of 16 to 10,000.
    """
    if image.shape[:2] == (height, width):
        return image.copy()
    taken = max(image.shape[0] * height, image.shape[1] * width, height * width, height * image.shape[1])
    if min(height, width) < 1 or taken > LARGEST:
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels to {width} x {height} takes too much memory")
    rows, columns = _weights(image.shape[0], height), _weights(image.shape[1], width)
    largest = int(rows.sum(1).max()) * int(columns.sum(1).max())
    if 511 * largest >= 2**63:
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels to {width} x {height} leaves 64-bit integers")
    total = rows.sum(1)[:, None, None] * columns.sum(1)[None, :, None]
    kind: Any = np.float64 if largest * 255 < _EXACT else np.int64
    partial = np.tensordot(rows.astype(kind), image.astype(kind), axes=(1, 0))  # (height, W, C)
    summed = np.tensordot(columns.astype(kind), partial, axes=(1, 1)).transpose(1, 0, 2).astype(np.int64)
    rounded: NDArray[np.uint8] = ((2 * summed + total) // (2 * total)).astype(np.uint8)
    return rounded


def fit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The centre of an ``(H, W, C)`` uint8 image, resized to ``(height, width, C)``."""
    top, left, rows, columns = center_crop_box((image.shape[0], image.shape[1]), (height, width))
    return resize(image[top : top + rows, left : left + columns], height, width)


def model_input(image: NDArray[np.uint8], orientation: int, height: int, width: int) -> NDArray[np.uint8]:
    """All four steps: ``(H, W, 4)`` RGBA with straight alpha -> ``(height, width, 4)`` RGBA, alpha 255."""
    fitted = fit(on_black(upright(image, orientation)), height, width)
    return np.concatenate([fitted, np.full((height, width, 1), 255, np.uint8)], axis=-1)


def _weights(size: int, out: int) -> NDArray[np.int64]:
    """``(out, size)`` integer weights of one axis."""
    i, j = np.arange(out, dtype=np.int64)[:, None], np.arange(size, dtype=np.int64)[None, :]
    distance: NDArray[np.int64] = np.abs((2 * j + 1) * out - (2 * i + 1) * size)
    return np.maximum(0, 2 * max(size, out) - distance)
