"""From any image to the model's input, defined to the last bit so that every platform can do the same.

1. *Upright*: the EXIF orientation is applied.
2. *On black*: a pixel of colour ``c`` and alpha ``a`` becomes ``round(c a / 255)``.
3. *Fit*, of an upright image of ``H x W`` pixels to an input of ``h x w``. Of an odd rest the larger half lies right and below.

   - *crop*: the largest centred rectangle of the image that is as wide for its height as the input, a square for a
     square one: where ``H w >= W h``, all columns and ``max(1, floor(W h / w))`` rows; else all rows and
     ``max(1, floor(H w / h))`` columns. It fills the input.
   - *letterbox*: the whole image. It fills a centred rectangle of the input, and the rest is black: where ``H w >= W h``, all
     rows and ``max(1, floor((2 W h + H) / (2 H)))`` columns; else all columns and ``max(1, floor((2 H w + W) / (2 W)))`` rows.

4. *Resize*, antialiased bilinear: the output pixel ``i`` of an axis (``n`` in, ``m`` out) is the weighted mean of the
   input pixels ``j`` with the integer weights ``max(0, 2 max(n, m) - |(2 j + 1) m - (2 i + 1) n|)``, a triangle as
   wide as the larger pixel. Both axes are applied exactly and rounded once, half up.

There is no floating point in the definition, so there is nothing to differ in. The weights of step 4 are symmetric, so
turning and mirroring may as well come last, and the sums do not depend on their order: rows can be read one by one.
The apps' kits do both.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Fit = Literal["crop", "letterbox"]

ORIENTATIONS = (1, 2, 3, 4, 5, 6, 7, 8)
"""EXIF's numbers: how the stored rows and columns lie in the upright image."""

LARGEST = 2**27
"""Pixels in by pixels out, of an axis: an image that is all width would have more between the axes than at either end."""

_AT_ONCE = 2**18
"""Products of two numbers that a product of matrices has at most: from there on BLAS would start threads, beside those
of other processes that decode."""

_NEAR, _FAR = 6000, 2**40
"""Sums of weights up to these: quotients by them lie far enough from whole numbers to be taken in float32, and in float64."""

_MOST_ROOM = 2**25
_ROOMS = threading.local()


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


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) of what `upright` gives of an image of `size`."""
    return size[::-1] if orientation >= 5 else size


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


def letterbox_box(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the centred rectangle in `wanted` that a whole image of `size` fills; both are (height, width)."""
    (height, width), (rows, columns) = size, wanted
    if height * columns >= width * rows:
        inner = rows, max(1, (2 * width * rows + height) // (2 * height))
    else:
        inner = max(1, (2 * height * columns + width) // (2 * width)), columns
    return (rows - inner[0]) // 2, (columns - inner[1]) // 2, *inner


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
    return _across(_down(image, table.down), table)


def fit(image: NDArray[np.uint8], height: int, width: int, how: Fit = "crop") -> NDArray[np.uint8]:
    """An upright ``(H, W, C)`` uint8 image as ``(height, width, C)``: steps 3 and 4."""
    size = image.shape[0], image.shape[1]
    if how == "crop":
        top, left, rows, columns = center_crop_box(size, (height, width))
        return resize(image[top : top + rows, left : left + columns], height, width)
    top, left, rows, columns = letterbox_box(size, (height, width))
    out = np.zeros((height, width, image.shape[2]), np.uint8)
    out[top : top + rows, left : left + columns] = resize(image, rows, columns)
    return out


def model_input(
    image: NDArray[np.uint8], orientation: int, height: int, width: int, how: Fit = "crop"
) -> NDArray[np.uint8]:
    """All four steps: ``(H, W, 4)`` RGBA with straight alpha -> ``(height, width, 4)`` RGBA, alpha 255."""
    fitted = fit(on_black(upright(image, orientation)), height, width, how)
    return np.concatenate([fitted, np.full((height, width, 1), 255, np.uint8)], axis=-1)


@dataclass(frozen=True, eq=False)
class _Block:
    """The weights of some output pixels that follow each other, as a matrix; few of its numbers are 0.

    Attributes:
        out: which these are.
        given: the input pixels that they have weights of.
        weights: ``(out, given)``, or ``(given, out)`` for the axis across.
    """

    out: slice
    given: slice
    weights: NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Axis:
    """The weights of one axis, divided by what all of them can be divided by.

    Attributes:
        sums: of each output pixel's, int64.
        kind: of numbers in which sums of bytes with these weights are exact, and are made fastest.
        at_once: lines along the axis that are multiplied together.
    """

    blocks: tuple[_Block, ...]
    sums: NDArray[np.int64]
    kind: Any
    at_once: int


@dataclass(frozen=True, eq=False)
class _Table:
    """The weights of both axes.

    Attributes:
        largest: of the products of an output row's sum of weights and a column's, before they are divided.
    """

    down: _Axis
    across: _Axis
    largest: int

    @property
    def total(self) -> NDArray[np.int64]:
        """Those products, ``(height, 1, width)``."""
        return (self.down.sums[:, None] * self.across.sums[None, :])[:, None]


@functools.lru_cache(maxsize=256)  # the photographs of one camera have one size, or two
def _table(size: tuple[int, int], wanted: tuple[int, int]) -> _Table:
    """Both (height, width)."""
    (down, rows), (across, columns) = (_weights(*axis) for axis in zip(size, wanted, strict=True))
    both = [math.gcd(*axis) for axis in zip(size, wanted, strict=True)]
    down, across = down // both[0], across // both[1]
    sums = down.sum(1), across.sum(1)
    highest = int(sums[0].max()), int(sums[1].max())
    product = highest[0] * highest[1]
    first = np.float32 if 255 * highest[0] < 2**24 else np.float64 if 255 * highest[0] < 2**53 else np.int64
    second = np.float32 if product <= _NEAR else np.float64 if product <= _FAR else np.int64
    return _Table(
        down=_axis(down, rows, first),
        across=_axis(across, columns, second, is_turned=True),
        largest=product * both[0] * both[1],
    )


@functools.lru_cache(maxsize=8)  # of an input of 1024 pixels each of these has 16 MB
def _shares(table: _Table) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a sum is multiplied by, and what is added then, so that the whole part is the rounded one; as `_Table.total`."""
    total, kind = table.total, table.across.kind
    return (1 / total).astype(kind), (0.5 + 0.25 / total).astype(kind)


def _axis(weights: NDArray[np.int64], places: NDArray[np.int32], kind: Any, *, is_turned: bool = False) -> _Axis:
    """Of weights ``(out, taps)`` of input pixels at these places."""
    count, taps = weights.shape
    # of integers there is no fast product of matrices, which would make up for zeros in them
    step = 1 if kind is np.int64 else 16 if taps < 10 else 8
    blocks = []
    for start in range(0, count, step):
        out = slice(start, min(start + step, count))
        first, last = int(places[out].min()), int(places[out].max())
        dense = np.zeros((out.stop - start, last + 1 - first), np.int64)
        np.add.at(dense, (np.arange(len(dense))[:, None], places[out] - first), weights[out])
        dense = np.ascontiguousarray(dense.T if is_turned else dense, kind)
        blocks.append(_Block(out, slice(first, last + 1), dense))
    largest = max(block.weights.size for block in blocks)
    return _Axis(tuple(blocks), weights.sum(1), kind, max(1, _AT_ONCE // largest))


def _down(image: NDArray[np.uint8], axis: _Axis) -> NDArray[Any]:
    """Sums of each column ``(H, W, C)`` -> ``(height, W, C)``."""
    rows, columns, channels = image.shape
    out = _room("sums down", (len(axis.sums), columns * channels), axis.kind)
    step = max(1, axis.at_once // channels)
    for start in range(0, columns, step):
        part = image[:, start : start + step]
        wide = _room("columns", part.shape, axis.kind)
        np.copyto(wide, part)
        wide, place = wide.reshape(rows, -1), slice(start * channels, (start + step) * channels)
        for block in axis.blocks:
            np.matmul(block.weights, wide[block.given], out=out[block.out, place])
    return out.reshape(-1, columns, channels)


def _across(partial: NDArray[Any], table: _Table) -> NDArray[np.uint8]:
    """Sums of each row ``(height, W, C)`` -> the mean ``(height, width, C)``, rounded."""
    axis = table.across
    (height, columns, channels), width = partial.shape, len(axis.sums)
    out = np.empty((height, width, channels), np.uint8)
    step = max(1, axis.at_once // channels)
    for start in range(0, height, step):
        part = slice(start, min(start + step, height))
        lines = _room("rows", (part.stop - start, channels, columns), axis.kind)
        np.copyto(lines, partial[part].swapaxes(1, 2), casting="unsafe")  # of whole numbers
        summed = _room("sums across", (part.stop - start, channels, width), axis.kind)
        flat, sums = lines.reshape(-1, columns), summed.reshape(-1, width)
        for block in axis.blocks:
            np.matmul(flat[:, block.given], block.weights, out=sums[:, block.out])
        rounded = _rounded(summed, table, part)
        for channel in range(channels):
            out[part, :, channel] = rounded[:, channel]
    return out


def _rounded(summed: NDArray[Any], table: _Table, part: slice) -> NDArray[np.uint8]:
    """``summed / total`` as the nearest whole number, a half up, of rows ``(n, C, width)``; `summed` is written over."""
    if summed.dtype == np.int64:
        total = table.total[part]
        return ((2 * summed + total) // (2 * total)).astype(np.uint8)
    share, half = _shares(table)
    return _scaled(summed, share[part], half[part])


def _scaled(summed: NDArray[Any], share: NDArray[Any], half: NDArray[Any]) -> NDArray[np.uint8]:
    """The whole part of ``summed * share + half``, whose terms are those of `_shares`."""
    # in whole numbers (2 summed + total) // (2 total); that half of a 1 more is divided changes nothing, and keeps the quotient
    # at least 1 / (4 total) away from the next whole number, further than float is inexact
    summed *= share
    summed += half
    out = _room("rounded", summed.shape, np.uint8)
    np.copyto(out, summed, casting="unsafe")
    return out


def _room(name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Memory of this thread that is used again by the next image: that of new arrays costs more than what is done in them."""
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size > _MOST_ROOM:
        return np.empty(shape, kind)
    rooms = _ROOMS.__dict__
    if name not in rooms or len(rooms[name]) < size:
        rooms[name] = np.empty(size, np.uint8)
    found: NDArray[Any] = rooms[name][:size].view(kind).reshape(shape)
    return found


def _weights(size: int, out: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Integer weights of one axis, those that are not 0, and of which input pixels they are: ``(out, taps)`` each."""
    i, largest = np.arange(out, dtype=np.int64)[:, None], max(size, out)
    first = ((2 * i + 1) * size - 2 * largest - out) // (2 * out) + 1
    j = first + np.arange(-(-2 * largest // out))
    weights = np.maximum(0, 2 * largest - np.abs((2 * j + 1) * out - (2 * i + 1) * size))
    weights[(j < 0) | (j >= size)] = 0
    return weights, np.clip(j, 0, size - 1).astype(np.int32)
