"""Boxes of annotations, in the model's input: turned as their photo is, and moved as it is fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...data import Fit, Placed
from .annotated import Annotated, refuse
from .matching import VISIBLE

Floats = NDArray[np.float64]


def boxes_in_input(
    said: Annotated, numbers: NDArray[np.int64], seen: NDArray[np.int64], size: tuple[int, int], fit: Fit
) -> tuple[NDArray[np.float32], Counter[str]]:
    """What is right of images, ``(n, most, 5)`` float32: class, left, top, right, bottom in pixels of the input, -1 in rows that are none;
    and how many boxes or images were changed on the way, by how.

    Args:
        numbers: ``(n,)``, of the images.
        seen: ``(n, 3)``: their height and width upright, and how they are stored.
        size: height and width of the input.

    Raises:
        DataError: an annotation is of an image of another shape.
    """
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    found = []
    for number, (height, width, orientation) in zip(numbers.tolist(), seen.tolist(), strict=True):
        boxes = _of_photo(said.boxes[number], said.sizes[number].tolist(), (height, width), orientation, counts)
        if boxes is None:
            rows, columns = said.sizes[number].tolist()
            wrong.append(
                f"'{said.files[number].name}' has {width} x {height} pixels, and its annotation says {columns} x {rows}"
            )
            boxes = said.boxes[number][:0]
        found.append(_in_input(boxes, Placed.of((height, width), size, fit), counts))
    refuse(
        said.files[0].root,
        wrong,
        "Boxes of images of another shape cannot be placed: annotate these, or bring the others.",
    )
    right = np.full((len(found), max(1, max(map(len, found), default=0)), 5), -1, np.float32)
    for row, boxes in zip(right, found, strict=True):
        row[: len(boxes)] = boxes
    return right, +counts


def _of_photo(
    boxes: Floats, said: Sequence[int], size: tuple[int, int], orientation: int, counts: Counter[str]
) -> Floats | None:
    """In pixels of the upright photo; None where that cannot be: the size that they are said in is of another shape."""
    height, width = size
    if not all(said):
        return _scaled(boxes, width, height)
    rows, columns = said
    if (rows, columns) == (height, width):
        return boxes
    if orientation >= 5 and _is_alike((columns, rows), size) and not _is_alike((rows, columns), size):
        counts["boxes turned upright with their image"] += 1
        return upright(_scaled(boxes, height / columns, width / rows), orientation, size)
    if not _is_alike((rows, columns), size):
        return None
    counts["boxes of another size than their image's, scaled"] += 1
    return _scaled(boxes, width / columns, height / rows)


def _is_alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same shape, up to a pixel of the smaller."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def upright(boxes: Floats, orientation: int, size: tuple[int, int]) -> Floats:
    """Boxes ``(n, 5)`` on an image as it is stored, on the upright one.

    Args:
        size: height and width of the upright image.
    """
    classes, left, top, right, bottom = boxes.T
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (3, 4, 7, 8):
        top, bottom = size[0] - bottom, size[0] - top
    if orientation in (2, 3, 6, 7):
        left, right = size[1] - right, size[1] - left
    return np.stack([classes, left, top, right, bottom], 1)


def _scaled(boxes: Floats, across: float, down: float) -> Floats:
    return np.asarray(boxes * np.array([1.0, across, down, across, down]), np.float64)


def _in_input(boxes: Floats, placed: Placed, counts: Counter[str]) -> Floats:
    """Cut at the edge of what the photo fills; those of which less than `VISIBLE` is left are none."""
    moved = placed.to_input(boxes[:, 1:])
    top, left, height, width = placed.input
    cut = moved.copy()
    cut[:, 0::2] = moved[:, 0::2].clip(left, left + width)
    cut[:, 1::2] = moved[:, 1::2].clip(top, top + height)
    areas, whole = ((one[:, 2:] - one[:, :2]).clip(0).prod(1) for one in (cut, moved))
    is_kept = (areas >= VISIBLE * whole) & (areas > 0)
    counts["boxes cut away with what is no part of the input"] += int((~is_kept).sum())
    return np.asarray(np.concatenate([boxes[:, :1], cut], 1)[is_kept], np.float64)
