"""From logits to the class of each pixel, defined to the last bit so that every platform can do the same.

Logits are ``(C, h, w)`` float32 for an input of ``H x W`` pixels, at any size: ``h`` by ``w`` points, each in the middle of its share of the
input. The mask is ``(R, S)`` uint8 for an upright photo of ``R`` rows and ``S`` columns, a `Placed` of which the input shows.

1. *Finite*: NaN and minus infinity are float32's least number, infinity is its largest. All are widened to float64; what follows is in float64,
   every operation rounded by itself, in the order that is written.
2. *Where*: the middle of the photo's column ``c`` lies at ``x = (c + 0.5 - left) * columns / width + beside`` in the input, as `Placed` carries
   it, and at ``u = x * w / W - 0.5`` among the points; below 0 that is 0, above ``w - 1`` it is ``w - 1``. With ``j = floor(u)``, the points ``j``
   and ``min(j + 1, w - 1)`` are its neighbours, and ``f = u - j`` the second's part. Rows are the same with their own numbers.
3. *Between*: of two neighbours ``a + (b - a) * f``; first down, between the two rows at each of the two columns, then across.
4. *Class*: that of the largest value; of equal ones the lowest.
5. Pixels that the input does not show, outside of the part that is cropped, are `UNSEEN`.

Photos are stored in eight orientations: the mask of the upright one is put back as they are stored, pixel by pixel.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data import Placed

UNSEEN = 255
"""No class: a pixel that the model was not shown, and one of the truth that is not counted."""
MOST_CLASSES = UNSEEN
"""A class is a byte of the mask."""

_LARGEST = float(np.finfo(np.float32).max)
_AT_ONCE = 2**19
"""Pixels of a class that are computed together: as many as stay in the processor's cache."""
_INEXACT = 1e-9
"""Of the largest value: further apart than rounding of what lies between can bring two classes."""


def mask_of(
    logits: NDArray[np.float32], placed: Placed, size: tuple[int, int], wanted: tuple[int, int]
) -> NDArray[np.uint8]:
    """The mask of an upright photo.

    Args:
        logits: ``(C, h, w)``, at most `MOST_CLASSES`.
        placed: where the photo lies in the input.
        size: height and width of the upright photo.
        wanted: height and width of the input.

    Returns:
        ``(height, width)``: the class of each pixel, or `UNSEEN`.
    """
    top, left, height, width = placed.photo
    down, across = _axes(placed, logits.shape[1:], wanted)
    mask = np.full(size, UNSEEN, np.uint8)
    part = max(1, _AT_ONCE // width)
    values = _finite(logits)[None]
    seen = mask[top : top + height, left : left + width]
    for row in range(0, height, part):
        seen[row : row + part] = _winners(values, down.part(row, row + part), across)[0]
    return mask


def masks_of(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The masks ``(N, height, width)`` of whole inputs of that size, of logits ``(N, C, h, w)``."""
    whole = (0, 0, *size)
    down, across = _axes(Placed(photo=whole, input=whole), logits.shape[2:], size)
    found = np.empty((len(logits), *size), np.uint8)
    part = max(1, _AT_ONCE // math.prod(size))
    for start in range(0, len(logits), part):
        found[start : start + part] = _winners(_finite(logits[start : start + part]), down, across)
    return found


def as_stored(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The mask of an upright photo as the photo is stored; the way back of `upright`.

    Args:
        orientation: 1 to 8 as EXIF numbers them.
    """
    turned = mask[:, ::-1] if orientation in (2, 3, 6, 7) else mask
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    return turned.swapaxes(0, 1) if orientation >= 5 else turned


@dataclass(frozen=True, eq=False)
class _Axis:
    """Of each pixel of an axis, its two neighbours among the points, and the second's part."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float64]

    def part(self, start: int, stop: int) -> _Axis:
        return _Axis(self.first[start:stop], self.second[start:stop], self.share[start:stop])


def _axes(placed: Placed, points: tuple[int, ...], wanted: tuple[int, int]) -> tuple[_Axis, _Axis]:
    (_, _, height, width), (above, beside, rows, columns) = placed.photo, placed.input
    return _axis(height, rows, above, points[0], wanted[0]), _axis(width, columns, beside, points[1], wanted[1])


@functools.lru_cache(maxsize=64)
def _axis(pixels: int, shown: int, start: int, points: int, wanted: int) -> _Axis:
    """Step 2.

    Args:
        pixels: of the photo, in the part that is shown.
        shown: of the input, that they fill.
        start: the first of these.
        points: of the logits.
        wanted: of the input.
    """
    at = (np.arange(pixels) + 0.5) * shown / pixels + start
    place = np.clip(at * points / wanted - 0.5, 0.0, points - 1.0)
    first = np.floor(place).astype(np.int64)
    return _Axis(first, np.minimum(first + 1, points - 1), place - first)


def _finite(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.nan_to_num(logits, nan=-_LARGEST, posinf=_LARGEST, neginf=-_LARGEST).astype(np.float64)


def _winners(values: NDArray[np.float64], down: _Axis, across: _Axis) -> NDArray[np.uint8]:
    """Steps 3 and 4, of ``(N, C, h, w)``: ``(N, rows, columns)``."""
    best: NDArray[np.float64] | None = None
    found = np.zeros((len(values), len(down.first), len(across.first)), np.uint8)
    for number in _possible(values):
        plane = values[:, number]
        rows = _between(plane[:, down.first], plane[:, down.second], down.share[:, None])
        wide = _between(rows[:, :, across.first], rows[:, :, across.second], across.share)
        if best is None:
            best = wide
            found.fill(number)
            continue
        is_better = wide > best
        np.copyto(best, wide, where=is_better)
        found[is_better] = number
    return found


def _between(one: NDArray[np.float64], other: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """``one + (other - one) * share``, made in the second's place."""
    other = np.subtract(other, one, out=other)
    other *= share
    other += one
    return other


def _possible(values: NDArray[np.float64]) -> list[int]:
    """The classes that can be the largest anywhere: those whose largest corner of some four reaches the least corner of another class. Most
    networks know many classes, and an image shows few."""
    high, low = values, values
    for axis in (2, 3):
        if values.shape[axis] > 1:
            one, other = (slice(None),) * axis + (slice(-1),), (slice(None),) * axis + (slice(1, None),)
            high, low = np.maximum(high[one], high[other]), np.minimum(low[one], low[other])
    margin = _INEXACT * float(np.abs(values).max(initial=0.0))
    reaches = high >= low.max(1, keepdims=True) - margin
    return [int(number) for number in np.flatnonzero(reaches.any((0, 2, 3)))]
