"""Which boxes are the same: intersection over union, and who finds whom, of all images together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .decoding import Detections

VISIBLE = 0.3
"""Of a box that lies over the edge of the input: what keeps less is none."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """Boxes of many images, image by image.

    Attributes:
        boxes: ``(n, 4)`` float64: left, top, right, bottom.
        classes: ``(n,)`` int64.
        scores: ``(n,)`` float64, falling within an image; 1 of those that are right.
        images: ``(n,)`` int64, rising: which image each is in.
        count: of the images, with those that have none.
    """

    boxes: Floats
    classes: Integers
    scores: Floats
    images: Integers
    count: int

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Boxes:
        return Boxes(
            boxes=self.boxes[chosen],
            classes=self.classes[chosen],
            scores=self.scores[chosen],
            images=self.images[chosen],
            count=self.count,
        )

    def above(self, score: float) -> Boxes:
        """Those of at least this score."""
        return self[self.scores >= score]

    @classmethod
    def of(cls, found: Sequence[Detections]) -> Boxes:
        """What was found in each image."""
        return cls(
            boxes=np.concatenate([np.zeros((0, 4)), *(one.boxes for one in found)]),
            classes=np.concatenate([np.zeros(0, np.int64), *(one.classes for one in found)]),
            scores=np.concatenate([np.zeros(0), *(one.scores for one in found)]),
            images=np.repeat(np.arange(len(found)), [len(one) for one in found]),
            count=len(found),
        )

    @classmethod
    def right(cls, truth: NDArray[np.float32]) -> Boxes:
        """Those of a truth ``(N, M, 5)``: class, left, top, right, bottom; rows of class -1 are none."""
        images, rows = np.nonzero(truth[..., 0] >= 0)
        own = truth[images, rows].astype(np.float64)
        return cls(
            boxes=own[:, 1:],
            classes=own[:, 0].astype(np.int64),
            scores=np.ones(len(own)),
            images=images.astype(np.int64),
            count=len(truth),
        )


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of boxes ``(n, 4)`` and ``(n, 4)`` of right above left, pair by pair."""
    (left, top, right, bottom), (left_, top_, right_, bottom_) = one.T, other.T
    across = np.minimum(right, right_) - np.maximum(left, left_)
    down = np.minimum(bottom, bottom_) - np.maximum(top, top_)
    shared = across.clip(0) * down.clip(0)
    areas = (right - left) * (bottom - top) + (right_ - left_) * (bottom_ - top_)
    return np.asarray(shared / np.maximum(areas - shared, 1e-12), np.float64)


def matched(found: Boxes, right: Boxes, thresholds: Sequence[float], *, any_class: bool = False) -> Integers:
    """For each box that was found and each threshold, which of the right ones it is, ``(found, thresholds)``; -1 for none.

    In each image and class, by falling score, a box takes the one of those still free that it overlaps most, if by the threshold
    at least; of equal ones the last (as COCO's evaluation does it).

    Args:
        any_class: classes need not be the same.
    """
    groups = [_groups(boxes, any_class=any_class) for boxes in (found, right)]
    pairs = _pairs(*groups)
    share = overlaps(found.boxes[pairs[0]], right.boxes[pairs[1]])
    least = np.minimum(np.array(thresholds), 1 - 1e-10)
    is_near = share >= least.min()
    pairs, share = pairs[:, is_near], share[is_near]
    result = np.full((len(found), len(least)), -1, np.int64)
    is_free = np.ones((len(right), len(least)), np.bool_)
    rank = _ranks(groups[0])[pairs[0]]
    order = np.lexsort(
        (pairs[1], pairs[0], rank)
    )  # of one rank there is one box a group, so that none waits for another
    ends = np.searchsorted(rank[order], np.arange(rank.max(initial=-1) + 2))
    for first, last in pairwise(ends):
        some = order[first:last]
        _take(pairs[0][some], pairs[1][some], share[some], least, is_free, result)
    return result


def _take(
    found: Integers, right: Integers, share: Floats, least: Floats, is_free: NDArray[np.bool_], result: Integers
) -> None:
    """Of pairs in which each group has one found box, put what it takes into the last two arguments."""
    if not len(found):
        return
    could = np.where(is_free[right] & (share[:, None] >= least), share[:, None], -1.0)
    starts = np.flatnonzero(np.r_[True, found[1:] != found[:-1]])
    best = np.maximum.reduceat(could, starts)
    lengths = np.diff(np.r_[starts, len(found)])
    is_best = (could == np.repeat(best, lengths, axis=0)) & (could >= 0)
    last = np.maximum.reduceat(np.where(is_best, np.arange(len(found))[:, None], -1), starts)
    which, threshold = np.nonzero(last >= 0)
    chosen = right[last[which, threshold]]
    result[found[starts[which]], threshold] = chosen
    is_free[chosen, threshold] = False


def _groups(boxes: Boxes, *, any_class: bool) -> Integers:
    """A number for each image and class, ``(n,)``."""
    return boxes.images if any_class else boxes.images * 2**20 + boxes.classes


def _pairs(found: Integers, right: Integers) -> Integers:
    """Indices ``(2, pairs)`` of all that are in one group."""
    order = np.argsort(right, kind="stable")
    first, last = (np.searchsorted(right[order], found, side=side) for side in ("left", "right"))
    counts = last - first
    ends = np.cumsum(counts)
    inner = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return np.stack([np.repeat(np.arange(len(found)), counts), order[np.repeat(first, counts) + inner]])


def _ranks(groups: Integers) -> Integers:
    """The place of each in its group, in the order given."""
    order = np.argsort(groups, kind="stable")
    own = groups[order]
    starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]]) if len(own) else np.zeros(0, np.int64)
    ranks = np.empty(len(own), np.int64)
    ranks[order] = np.arange(len(own)) - np.repeat(starts, np.diff(np.r_[starts, len(own)]))
    return ranks
