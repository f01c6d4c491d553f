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

from collections.abc import Sequence
from dataclasses import dataclass

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
    starts = np.cumsum([0, *(block.count for block in form.blocks)])
    with np.errstate(all="ignore"):  # what is not finite then is dropped, or overlaps nothing
        pairs = [_pairs(flat, block, form) for block in form.blocks]
        candidates = np.concatenate([found + start for (found, *_), start in zip(pairs, starts[:-1], strict=True)])
        classes, scores, boxes = (np.concatenate([pair[n] for pair in pairs]) for n in (1, 2, 3))
        order = np.lexsort((candidates, classes, -scores))[:CANDIDATES]
        found = Detections(boxes=boxes[order], scores=scores[order], classes=classes[order])
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


def _pairs(
    flat: Values, block: Block, form: Form
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Candidates in the block ``(n,)``, classes ``(n,)``, scores ``(n,)`` and boxes ``(n, 4)`` of steps 1 and 2."""
    scores, are_kept = _scores(flat, block, form)
    candidates, classes = np.nonzero(are_kept & np.isfinite(scores) & (scores >= form.score_threshold))
    boxes = _boxes(flat, block, form, candidates)
    are_boxes = np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    candidates, classes = candidates[are_boxes], classes[are_boxes]
    return candidates, classes, scores[candidates, classes], boxes[are_boxes]


def _scores(flat: Values, block: Block, form: Form) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """``(count, classes)`` each: the scores, and whether they count as peaks, which all do where no peaks are asked for."""
    everything = np.arange(block.count)
    given = _numbers(flat, block.scores, everything, form.columns)
    if form.activation == "softmax":
        scores = softmax(given)
    else:
        scores = sigmoid(given) if form.activation == "sigmoid" else given
    start = 1 if form.background == "first" else 0
    scores = scores[:, start : start + form.classes]
    if block.objectness is not None:
        objectness = _numbers(flat, block.objectness, everything, 1)
        scores = scores * (objectness if form.activation == "none" else sigmoid(objectness))
    if not form.peaks:
        return scores, np.ones(scores.shape, np.bool_)
    return scores, _are_peaks(given[:, start : start + form.classes], block)


def _are_peaks(values: NDArray[np.float64], block: Block) -> NDArray[np.bool_]:
    """Which of ``(rows * columns, classes)`` have no larger one around them."""
    grid = values.reshape(block.rows, block.columns, -1)
    wide = np.pad(grid, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    is_peak = np.ones(grid.shape, np.bool_)
    for down in range(3):
        for across in range(3):
            is_peak &= ~(wide[down : down + block.rows, across : across + block.columns] > grid)
    return is_peak.reshape(values.shape)


def _boxes(flat: Values, block: Block, form: Form, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Left, top, right, bottom ``(n, 4)`` of candidates of a block."""
    cells = candidates // block.per_cell
    places = np.stack([cells % block.columns, cells // block.columns], 1).astype(np.float64)  # column, row
    unit, cell = np.array(block.unit, np.float64), np.array(block.cell, np.float64)
    numbers = _numbers(flat, block.boxes, candidates, 2 if form.format == "size" else 4)
    first, second = numbers[:, :2], numbers[:, 2:]
    grid = (places + form.center) * cell
    if form.format == "xyxy":
        return np.concatenate([first * unit, second * unit], 1)
    if form.format == "ltrb":
        return np.concatenate([grid - first * unit, grid + second * unit], 1)
    if form.format == "cxcywh":
        return _around(first * unit, second * unit)
    if form.format == "size":
        offsets = None if block.offsets is None else _numbers(flat, block.offsets, candidates, 2)
        return _around(grid if offsets is None else (places + offsets) * cell, first * unit)
    variances, sizes = np.array(form.variances), np.array(block.sizes)[candidates % block.per_cell]
    logarithms = second * variances[2:]
    logarithms = np.where(logarithms > LARGEST, LARGEST, logarithms)
    return _around(first * variances[:2] * sizes + grid, exp(logarithms) * sizes)


def _around(centers: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    halves = sizes * 0.5
    return np.concatenate([centers - halves, centers + halves], 1)


def _numbers(flat: Values, where: Numbers, candidates: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """``(n, count)`` float64."""
    places = where.first + candidates[:, None] * where.step + np.arange(count) * where.apart
    found: NDArray[np.float64] = flat[where.output][places].astype(np.float64)
    return found


def _taken(found: Detections, form: Form) -> NDArray[np.int64]:
    """Which of the boxes are taken in step 4."""
    boxes, classes = found.boxes, found.classes
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    taken: list[int] = []
    rest = np.arange(len(found))
    while len(rest) and len(taken) < form.most:
        one, rest = rest[0], rest[1:]
        taken.append(int(one))
        if form.iou_threshold < 1:
            is_over = overlaps(boxes[one], areas[one], boxes[rest], areas[rest]) > form.iou_threshold
            if form.per_class:
                is_over &= classes[rest] == classes[one]
            rest = rest[~is_over]
    return np.array(taken, np.int64)


def overlaps(
    box: NDArray[np.float64], area: np.float64, others: NDArray[np.float64], areas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intersection over union of a box ``(4,)`` and others ``(n, 4)``."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = size[:, 0] * size[:, 1]
    found: NDArray[np.float64] = np.where((size > 0).all(1), shared / (area + areas - shared), 0.0)
    return found
