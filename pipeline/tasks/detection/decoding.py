"""From a detector's outputs to boxes, defined to the last bit so that the apps' kits give the same.

All arithmetic is float64, the outputs widened first, each operation rounded by itself and in the order that is written here; `exp`,
``sigmoid`` and ``softmax`` are those of `twinkeel.pipeline.exact`. The terms are those of `Form`.

1. *Scores.* Of each candidate its numbers go through the activation; the background takes part in a softmax and is then left out.
   Where there is objectness, the score of each class is multiplied by it, after a sigmoid unless the activation is ``none``.
   A pair of a candidate and a class is kept where its score is finite and at least the threshold and, of ``peaks``, where none
   of the up to eight numbers of the same class in the cells around it is larger (before the activation).
2. *Boxes.* With the candidate's four numbers ``a b c d``, the units ``ux uy``, the cell's size ``sx sy`` and
   ``gx = (column + center) * sx``, ``gy = (row + center) * sy``:

   - ``xyxy``: ``a * ux, b * uy, c * ux, d * uy``
   - ``ltrb``: ``gx - a * ux, gy - b * uy, gx + c * ux, gy + d * uy``
   - ``cxcywh``: the centre ``a * ux, b * uy``, the size ``c * ux, d * uy``
   - ``anchors``: with an anchor of ``aw ah`` and variances ``v0 .. v3`` the centre ``a * v0 * aw + gx, b * v1 * ah + gy`` and the size
     ``exp(c * v2) * aw, exp(d * v3) * ah``; what ``exp`` is given counts as `LARGEST` where it is above that
   - ``size``: the centre ``gx, gy``, or with offsets ``o p`` ``(column + o) * sx, (row + p) * sy``, and the size ``a * ux, b * uy``

   A centre and a size are the box ``x - w * 0.5, y - h * 0.5, x + w * 0.5, y + h * 0.5``. A pair is dropped where one of the four sides
   is not finite, or where not ``right > left`` and ``bottom > top``. Boxes may lie over the edge of the input.
3. *Order.* By falling score, then by rising class, then by rising candidate. What comes after the first `CANDIDATES` is dropped.
4. *Suppression.* In this order a box is taken unless its overlap with one that was taken (of the same class, if ``per_class``) is above
   the threshold, until ``most`` are taken. With ``area = (right - left) * (bottom - top)``, ``w = min(rights) - max(lefts)``, ``h`` alike,
   the overlap is 0 unless ``w > 0`` and ``h > 0``, and ``w * h / (area + area' - w * h)`` else, ``area`` that of the box taken.
5. *In the photo.* Each side is moved by `Placed.to_photo`, is 0 where it is below 0, the photo's width or height where it is above, and the
   box is dropped where not ``right > left`` and ``bottom > top`` then.

What is NaN or infinite in outputs is thereby no box, and nothing else: of a softmax all scores of its candidate.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...data import Placed
from ...exact import exp, sigmoid, softmax
from .blocks import Block, Numbers
from .form import Form

CANDIDATES = 5000
"""Pairs of an image that are looked at."""

LARGEST = 4.135166556742356
"""What a size's logarithm may be more than an anchor's: 62.5 times as wide."""

_AT_ONCE = 256
"""Boxes whose overlaps are computed together."""

Values = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Boxes of an image by falling score.

    Attributes:
        boxes: ``(n, 4)`` float64: left, top, right, bottom in pixels of the input.
        scores: ``(n,)`` float64.
        classes: ``(n,)`` int64.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Detections:
        return Detections(boxes=self.boxes[chosen], scores=self.scores[chosen], classes=self.classes[chosen])


def decode(outputs: Values, form: Form) -> Detections:
    """The boxes of one image.

    Args:
        outputs: float32 in the network's order, without the batch, of any shape.
    """
    flat = [np.asarray(one, np.float32).reshape(-1) for one in outputs]
    places = _places(form, tuple(map(len, flat)))
    values = np.concatenate(flat)
    with np.errstate(all="ignore"):  # what is not finite then is dropped, or overlaps nothing
        scores, are_kept = _scores(values, places, form)
        candidates, classes = np.nonzero(are_kept & np.isfinite(scores) & (scores >= form.score_threshold))
        boxes = _boxes(values, places, form, candidates)
        are_boxes = np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        candidates, classes, boxes = candidates[are_boxes], classes[are_boxes], boxes[are_boxes]
        found = Detections(boxes=boxes, scores=scores[candidates, classes], classes=classes)
        found = found[np.lexsort((candidates, classes, -found.scores))[:CANDIDATES]]
        return found[_taken(found, form)]


def in_photo(found: Detections, placed: Placed, size: tuple[int, int]) -> Detections:
    """Boxes in pixels of the upright photo that the input was made of, of (height, width)."""
    boxes = placed.to_photo(found.boxes)
    height, width = size
    for sides, end in ((boxes[:, 0::2], float(width)), (boxes[:, 1::2], float(height))):
        sides[sides < 0] = 0.0
        sides[sides > end] = end
    are_boxes = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes=boxes, scores=found.scores, classes=found.classes)[are_boxes]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Places:
    """Where the numbers of all candidates stand in the joined outputs, and where their cells lie.

    Attributes:
        scores: ``(n, columns)``.
        boxes: ``(n, 4)``, or ``(n, 2)`` of the format ``size``.
        objectness: ``(n, 1)``, or None.
        offsets: ``(n, 2)``, or None.
        cells: column and row ``(n, 2)`` float64.
        cell: its width and height ``(n, 2)``.
        unit: across and down ``(n, 2)``.
        sizes: of the anchors ``(n, 2)``; 0 where there are none.
    """

    scores: NDArray[np.int64]
    boxes: NDArray[np.int64]
    objectness: NDArray[np.int64] | None
    offsets: NDArray[np.int64] | None
    cells: NDArray[np.float64]
    cell: NDArray[np.float64]
    unit: NDArray[np.float64]
    sizes: NDArray[np.float64]


@functools.lru_cache(maxsize=8)
def _places(form: Form, lengths: tuple[int, ...]) -> _Places:
    starts = np.cumsum([0, *lengths])
    blocks = form.blocks

    def joined(name: str, count: int) -> NDArray[np.int64] | None:
        found = [_standing(getattr(block, name), block.count, count, starts) for block in blocks]
        return None if getattr(blocks[0], name) is None else np.concatenate(found)

    def repeated(values: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        return np.repeat(np.array(values, np.float64), [block.count for block in blocks], 0)

    cells = [np.arange(block.count) // block.per_cell for block in blocks]
    columns = [np.stack([n % block.columns, n // block.columns], 1) for n, block in zip(cells, blocks, strict=True)]
    sizes = [np.tile(np.array(one.sizes or ((0.0, 0.0),)), (one.rows * one.columns, 1)) for one in blocks]
    return _Places(
        scores=cast("NDArray[np.int64]", joined("scores", form.columns)),
        boxes=cast("NDArray[np.int64]", joined("boxes", 2 if form.format == "size" else 4)),
        objectness=joined("objectness", 1),
        offsets=joined("offsets", 2),
        cells=np.concatenate(columns).astype(np.float64),
        cell=repeated([block.cell for block in blocks]),
        unit=repeated([block.unit for block in blocks]),
        sizes=np.concatenate(sizes),
    )


def _standing(where: Numbers | None, candidates: int, count: int, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(candidates, count)``."""
    if where is None:
        return np.zeros((0, count), np.int64)
    rows = np.arange(candidates)[:, None] * where.step + np.arange(count) * where.apart
    found: NDArray[np.int64] = rows + where.first + starts[where.output]
    return found


def _scores(
    values: NDArray[np.float32], places: _Places, form: Form
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | np.bool_]:
    """``(n, classes)`` each: the scores, and whether they count as peaks, which all do where no peaks are asked for."""
    given = values[places.scores].astype(np.float64)
    if form.activation == "softmax":
        scores = softmax(given)
    else:
        scores = sigmoid(given) if form.activation == "sigmoid" else given
    start = 1 if form.background == "first" else 0
    scores = scores[:, start : start + form.classes]
    if places.objectness is not None:
        objectness = values[places.objectness].astype(np.float64)
        scores = scores * (objectness if form.activation == "none" else sigmoid(objectness))
    if not form.peaks:
        return scores, np.True_
    ends = np.cumsum([block.count for block in form.blocks])[:-1]
    grids = np.split(given[:, start : start + form.classes], ends)
    return scores, np.concatenate([_are_peaks(one, block) for one, block in zip(grids, form.blocks, strict=True)])


def _are_peaks(values: NDArray[np.float64], block: Block) -> NDArray[np.bool_]:
    """Which of ``(block.count, classes)`` have no larger one around them."""
    grid = values.reshape(block.rows, block.columns, -1)
    wide = np.pad(grid, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    is_peak = np.ones(grid.shape, np.bool_)
    for down in range(3):
        for across in range(3):
            is_peak &= ~(wide[down : down + block.rows, across : across + block.columns] > grid)
    return is_peak.reshape(values.shape)


def _boxes(
    values: NDArray[np.float32], places: _Places, form: Form, candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Left, top, right, bottom ``(n, 4)`` of candidates ``(n,)``."""
    numbers = values[places.boxes[candidates]].astype(np.float64)
    cells, cell, unit = places.cells[candidates], places.cell[candidates], places.unit[candidates]
    first, second, grid = numbers[:, :2], numbers[:, 2:], (cells + form.center) * cell
    if form.format == "xyxy":
        return np.concatenate([first * unit, second * unit], 1)
    if form.format == "ltrb":
        return np.concatenate([grid - first * unit, grid + second * unit], 1)
    if form.format == "cxcywh":
        return _around(first * unit, second * unit)
    if form.format == "size":
        if places.offsets is not None:
            grid = (cells + values[places.offsets[candidates]].astype(np.float64)) * cell
        return _around(grid, first * unit)
    variances, sizes = np.array(form.variances), places.sizes[candidates]
    logarithms = second * variances[2:]
    logarithms = np.where(logarithms > LARGEST, LARGEST, logarithms)
    return _around(first * variances[:2] * sizes + grid, exp(logarithms) * sizes)


def _around(centers: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    halves = sizes * 0.5
    return np.concatenate([centers - halves, centers + halves], 1)


def _taken(found: Detections, form: Form) -> NDArray[np.int64]:
    """Which of the boxes are taken in step 4: as many at once as are compared with each other."""
    if form.iou_threshold >= 1:
        return np.arange(min(len(found), form.most))
    taken: list[int] = []
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        is_free = np.asarray(~_suppresses(found[np.array(taken, np.int64)], part, form).any(0))
        suppressed = _suppresses(part, part, form)
        for number in range(len(part)):
            if is_free[number]:
                taken.append(start + number)
                is_free &= ~suppressed[number]
            if len(taken) == form.most:
                return np.array(taken, np.int64)
    return np.array(taken, np.int64)


def _suppresses(one: Detections, other: Detections, form: Form) -> NDArray[np.bool_]:
    """Which boxes ``(n, m)`` of one set leave out which of another."""
    is_over = _overlaps(one.boxes, other.boxes) > form.iou_threshold
    return is_over & (one.classes[:, None] == other.classes) if form.per_class else is_over


def _overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union ``(n, m)`` of boxes ``(n, 4)`` and ``(m, 4)``."""
    (left, top, right, bottom), (start, above, end, below) = one.T[:, :, None], other.T
    width = np.minimum(right, end) - np.maximum(left, start)
    height = np.minimum(bottom, below) - np.maximum(top, above)
    shared = width * height
    areas = (right - left) * (bottom - top) + (end - start) * (below - above)
    found: NDArray[np.float64] = np.where((width > 0) & (height > 0), shared / (areas - shared), 0.0)
    return found
