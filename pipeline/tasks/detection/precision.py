"""Average precision as COCO counts it (Lin et al., "Microsoft COCO: Common Objects in Context", 2014; its detection evaluation):
precision at 101 levels of recall, the mean over classes and over ten thresholds of overlap, at most 100 boxes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .matching import Boxes, Floats, Integers, matched

THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Of the overlap: from which on a box counts as found."""
RECALLS: Floats = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Boxes of some images, in the order in which they were found, and which of them are right: what is known image by image.

    Attributes:
        is_right: ``(found, thresholds)``.
        classes: ``(found,)``.
        scores: ``(found,)``.
        images: ``(found,)``, rising.
        right_images: which image each of the right boxes is in, and
        right_classes: of which class it is.
        count: of the images.
    """

    is_right: NDArray[np.bool_]
    classes: Integers
    scores: Floats
    images: Integers
    right_images: Integers
    right_classes: Integers
    count: int

    @classmethod
    def of(cls, found: Boxes, right: Boxes) -> Judged:
        """Boxes found and right in the same images."""
        return cls(
            is_right=matched(found, right, THRESHOLDS) >= 0,
            classes=found.classes,
            scores=found.scores,
            images=found.images,
            right_images=right.images,
            right_classes=right.classes,
            count=right.count,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """What was found, by falling score over all images, class by class.

    Attributes:
        is_right: ``(found, thresholds)``.
        images: ``(found,)``, which image each is in.
        starts: ``(classes + 1,)``: where each class begins.
        right_images: which image each of the right boxes is in, and
        right_classes: of which class it is.
        scores: ``(found,)``.
        count: of the images.
    """

    is_right: NDArray[np.bool_]
    images: Integers
    starts: Integers
    right_images: Integers
    right_classes: Integers
    scores: Floats
    count: int

    @classmethod
    def of(cls, found: Boxes, right: Boxes) -> Curves:
        """Boxes found and right in the same images."""
        return cls.joined([Judged.of(found, right)])

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Curves:
        """Of images that were judged part by part."""
        firsts = np.cumsum([0, *(part.count for part in parts)])
        found, right = (
            np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) + first for part, first in zip(parts, firsts, strict=False))])
            for name in ("images", "right_images")
        )  # fmt: skip
        classes, right_classes, scores = (
            np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])
            for name, kind in (("classes", np.int64), ("right_classes", np.int64), ("scores", np.float64))
        )
        is_right = np.concatenate([np.zeros((0, len(THRESHOLDS)), bool), *(part.is_right for part in parts)])
        count = 1 + int(max(classes.max(initial=-1), right_classes.max(initial=-1)))
        order = np.lexsort((np.arange(len(scores)), -scores, classes))
        return cls(
            is_right=is_right[order],
            images=found[order],
            starts=np.searchsorted(classes[order], np.arange(count + 1)),
            right_images=right,
            right_classes=right_classes,
            scores=scores[order],
            count=int(firsts[-1]),
        )

    def rights(self) -> Floats:
        """Of each image how many boxes are right at each threshold, and how many there are, ``(images, thresholds + 1)``."""
        found = np.zeros((self.count, len(THRESHOLDS) + 1))
        np.add.at(found, self.images, np.concatenate([self.is_right, np.ones((len(self.images), 1))], 1))
        return found

    @cached_property
    def classes(self) -> list[int]:
        """Those that there are right boxes of."""
        return [int(one) for one in np.unique(self.right_classes)]

    def precisions(self, weights: Floats | None = None) -> Floats:
        """Average precision ``(classes, thresholds)`` of each of `classes`; NaN of those that have no right box in these images.

        Args:
            weights: how often each image counts, ``(images,)``; once by default.
        """
        often = np.ones(self.count) if weights is None else weights
        totals = np.bincount(self.right_classes, often[self.right_images], minlength=len(self.starts) - 1)
        found = [self._of_class(one, float(totals[one]), often) for one in self.classes]
        return np.array(found).reshape(-1, len(THRESHOLDS))

    def _of_class(self, one: int, total: float, often: Floats) -> list[float]:
        if total <= 0:
            return [float("nan")] * len(THRESHOLDS)
        return [float(levels(*self.curve(one, number, total, often)).mean()) for number in range(len(THRESHOLDS))]

    def curve(self, one: int, threshold: int, total: float, often: Floats) -> tuple[Floats, Floats]:
        """Recall and precision of a class after each right box by falling score, at the threshold of this number: in between only
        precision falls."""
        part = slice(self.starts[one], self.starts[one + 1])
        weight = often[self.images[part]]
        is_right = self.is_right[part, threshold]
        right = np.cumsum(weight[is_right])
        seen = np.cumsum(weight)[is_right]
        return right / total, right / np.maximum(seen, 1e-12)


def levels(recall: Floats, precision: Floats) -> Floats:
    """The best precision at each level of recall or a higher one, ``(101,)``; 0 where none is reached."""
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return np.asarray(best[np.searchsorted(recall, RECALLS, side="left")], np.float64)


def average(precisions: Floats) -> float:
    """The mean over thresholds and classes; NaN where no class has a right box."""
    has_any = ~np.isnan(precisions).all(1)
    return float(precisions[has_any].mean()) if has_any.any() else float("nan")
