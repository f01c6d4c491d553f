"""What the report keeps of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import Truth, Values
from ...program import Output
from .counting import found_in
from .form import form_of
from .matching import Boxes, matched
from .precision import Curves, levels

MOST_ROWS = 40_000
"""Of an artifact: of many images fewer boxes each."""
LEAST, MOST = 10, 100
"""Boxes of an image."""


def answers(models: Sequence[Values], truth: Truth, config: Config, layout: Sequence[Output]) -> NDArray[np.float64]:
    """Of each model what `answered` gives, ``(models, images, boxes, 6)``."""
    form = form_of(config, layout)
    return np.array([answered(found_in(outputs, form, layout)) for outputs in models])


def answered(found: Boxes) -> NDArray[np.float64]:
    """The boxes with the highest scores, ``(images, boxes, 6)``: class, score, left, top, right, bottom; -1 in rows that are none."""
    most = min(MOST, max(LEAST, MOST_ROWS // max(1, found.count)))
    kept = np.full((found.count, most, 6), -1.0)
    first = np.searchsorted(found.images, found.images)  # of each, the first of its image
    place = np.arange(len(found)) - first
    is_kept = place < most
    rows = np.concatenate([found.classes[:, None], found.scores[:, None], found.boxes], 1)
    kept[found.images[is_kept], place[is_kept]] = rows[is_kept]
    return kept


def kept_in(answers: NDArray[np.float64]) -> Boxes:
    """The boxes in what `answered` gave."""
    images, rows = np.nonzero(answers[..., 0] >= 0)
    own = answers[images, rows]
    return Boxes(
        boxes=own[:, 2:], classes=own[:, 0].astype(np.int64), scores=own[:, 1], images=images, count=len(answers)
    )


@dataclass(frozen=True, kw_only=True)
class OfClass:
    """What is known of a class: its number, right boxes, and average precision over all thresholds and at a half."""

    number: int
    boxes: int
    ap: float
    ap50: float


def by_class(answers: NDArray[np.float64], truth: Truth) -> list[OfClass]:
    """Of each class that has a right box."""
    right = Boxes.right(truth)
    curves = Curves.of(kept_in(answers), right)
    counts = np.bincount(right.classes)
    return [
        OfClass(number=one, boxes=int(counts[one]), ap=float(row.mean()), ap50=float(row[0]))
        for one, row in zip(curves.classes, curves.precisions(), strict=True)
    ]


def precision_at_levels(answers: NDArray[np.float64], truth: Truth) -> NDArray[np.float64]:
    """At 101 levels of recall from 0 to 1, an overlap of a half, the mean over classes."""
    curves = Curves.of(kept_in(answers), Boxes.right(truth))
    often, counts = np.ones(curves.count), np.bincount(curves.right_classes)
    found = [levels(*curves.curve(one, 0, float(counts[one]), often)) for one in curves.classes]
    return np.asarray(np.mean(found, axis=0), np.float64)


def errors(shown: Boxes, right: Boxes) -> NDArray[np.int64]:
    """Of each image, the boxes of either that the other one has not: of the same class, and a half of them in common."""
    which = matched(shown, right, (0.5,))[:, 0] >= 0
    counts = [
        np.bincount(images, minlength=right.count) for images in (shown.images, right.images, shown.images[which])
    ]
    return np.asarray(counts[0] + counts[1] - 2 * counts[2], np.int64)
