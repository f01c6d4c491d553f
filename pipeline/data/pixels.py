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

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORIENTATIONS = (1, 2, 3, 4, 5, 6, 7, 8)
"""EXIF's numbers: how the stored rows and columns lie in the upright image."""

LARGEST = 2**27
"""Pixels in by pixels out, of an axis: an image that is all width would have more between the axes than at either end."""

_AT_ONCE = 2**23
"""Numbers of an image that are widened together."""

_FAR_FROM_WHOLE = 2**40
"""Sums of weights below it: quotients by them lie far enough from whole numbers to be taken in float64."""


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
        ValueError: the sums would leave 64 bits, or an axis be `LARGEST`. An image of up to 10,000 pixels a
            side fits any output of 16 to 10,000.
    """
    if image.shape[:2] == (height, width):
        return image.copy()
    taken = max(image.shape[0] * height, image.shape[1] * width, height * width, height * image.shape[1])
    if min(height, width) < 1 or taken > LARGEST:
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels to {width} x {height} takes too much memory")
    table = _table((image.shape[0], image.shape[1]), (height, width))
    if 511 * table.largest >= 2**63:
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels to {width} x {height} leaves 64-bit integers")
    given = image.reshape(image.shape[0], -1)
    part = max(1, _AT_ONCE // image.shape[0])  # of a large image not all is widened together
    parts = [table.rows @ given[:, n : n + part].astype(table.rows.dtype) for n in range(0, given.shape[1], part)]
    partial = np.concatenate(parts, axis=1).reshape(height, *image.shape[1:])
    turned = _turned(partial).astype(table.columns.dtype).reshape(image.shape[1], -1)
    summed = (table.columns @ turned).reshape(width, height, image.shape[2])
    return _turned(_rounded(summed, table))


def fit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The centre of an ``(H, W, C)`` uint8 image, resized to ``(height, width, C)``."""
    top, left, rows, columns = center_crop_box((image.shape[0], image.shape[1]), (height, width))
    return resize(image[top : top + rows, left : left + columns], height, width)


def model_input(image: NDArray[np.uint8], orientation: int, height: int, width: int) -> NDArray[np.uint8]:
    """All four steps: ``(H, W, 4)`` RGBA with straight alpha -> ``(height, width, 4)`` RGBA, alpha 255."""
    fitted = fit(on_black(upright(image, orientation)), height, width)
    return np.concatenate([fitted, np.full((height, width, 1), 255, np.uint8)], axis=-1)


@dataclass(frozen=True, eq=False)
class _Table:
    """The weights of both axes as sparse matrices, few in a row, of types in which all sums are exact.

    Attributes:
        sums: of the weights of each output row, and of each output column, int64.
        largest: of the products of the two.
    """

    rows: Any
    columns: Any
    sums: tuple[NDArray[np.int64], NDArray[np.int64]]
    largest: int

    @property
    def total(self) -> NDArray[np.int64]:
        """Of the weights of each output pixel, ``(width, height, 1)``."""
        down, across = self.sums
        return (across[:, None] * down[None, :])[..., None]


@functools.lru_cache(maxsize=256)  # the photographs of one camera have one size, or two
def _table(size: tuple[int, int], wanted: tuple[int, int]) -> _Table:
    """Both (height, width)."""
    (down, rows), (across, columns) = (_weights(*axis) for axis in zip(size, wanted, strict=True))
    sums = down.sum(1), across.sum(1)
    largest = int(sums[0].max()) * int(sums[1].max())
    return _Table(
        rows=_sparse(down, rows, size[0], _exact(int(sums[0].max()))),
        columns=_sparse(across, columns, size[1], _exact(largest)),
        sums=sums,
        largest=largest,
    )


def _sparse(weights: NDArray[np.int64], places: NDArray[np.int32], size: int, kind: Any) -> Any:
    """Weights ``(out, taps)`` of input pixels at these places as a matrix ``(out, size)``."""
    from scipy import sparse

    out, taps = weights.shape
    ends = np.arange(0, out * taps + 1, taps, dtype=np.int32)
    return sparse.csr_array((weights.astype(kind).reshape(-1), places.reshape(-1), ends), shape=(out, size))


def _exact(weight: int) -> Any:
    """The type in which sums of bytes with weights of this sum are exact, and are made fastest."""
    return np.float32 if 255 * weight < 2**24 else np.float64 if 255 * weight < 2**53 else np.int64


def _rounded(summed: NDArray[Any], table: _Table) -> NDArray[np.uint8]:
    """``summed / total`` as the nearest whole number, a half up, of arrays ``(width, height, C)``."""
    total = table.total
    if table.largest >= _FAR_FROM_WHOLE:
        return ((2 * summed.astype(np.int64) + total) // (2 * total)).astype(np.uint8)
    # in whole numbers (2 summed + total) // (2 total); that a half more is divided changes nothing, and keeps the quotient
    # at least 1 / (4 total) away from the next whole number, further than float64 is inexact
    quotient = (summed.astype(np.float64) * 2 + (total + 0.5)) / (2 * total)
    return quotient.astype(np.uint8)


def _turned(image: NDArray[Any]) -> NDArray[Any]:
    """``(a, b, C)`` -> ``(b, a, C)`` in memory: pixels are moved whole, which is faster than number by number."""
    image = np.ascontiguousarray(image)
    pixels = image.view(f"V{image.shape[2] * image.itemsize}")[..., 0]
    return np.ascontiguousarray(pixels.T).view(image.dtype).reshape(image.shape[1], image.shape[0], image.shape[2])


def _weights(size: int, out: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Integer weights of one axis, those that are not 0, and of which input pixels they are: ``(out, taps)`` each."""
    i, largest = np.arange(out, dtype=np.int64)[:, None], max(size, out)
    first = ((2 * i + 1) * size - 2 * largest - out) // (2 * out) + 1
    j = first + np.arange(-(-2 * largest // out))
    weights = np.maximum(0, 2 * largest - np.abs((2 * j + 1) * out - (2 * i + 1) * size))
    weights[(j < 0) | (j >= size)] = 0
    return weights, np.clip(j, 0, size - 1).astype(np.int32)
