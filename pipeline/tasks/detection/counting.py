"""What is counted of boxes: average precision, what of it is lost, and which boxes are the float model's; and what is allowed.

How certain that is goes by the number of images, for boxes of one image are not drawn one by one:

- *Boxes that match* are a share of boxes whose images are drawn: the interval is Clopper and Pearson's for as many draws as images count,
  ``(sum n)^2 / sum n^2`` with ``n`` boxes in each (Kish, "Survey Sampling", 1965): as if the boxes of an image stood or fell together,
  which is more cautious than they are.
- *Loss of average precision*: a delete-a-group jackknife over images, of the paired difference (Shao and Tu, "The Jackknife and Bootstrap",
  1995, chapter 5); where hardly any images have changed, or all of them alike, at least as wide as the exact interval of as many images of which none has.
  Of 40, 100 and 400 images drawn from 4000 it contained the true difference in 97, 96 and 98 % of some 200 draws each.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import (
    NAMED,
    Counted,
    Counts,
    Limit,
    Meaning,
    Truth,
    Values,
    jackknife_interval,
    share_interval,
)
from ...program import Output, parts
from .decoding import decode
from .form import Form, form_of
from .matching import Boxes, matched
from .precision import Curves, average

LEAST_SCORE = 0.01
"""Of boxes that average precision looks at, as SSD's own evaluation has it."""
MOST = 100
"""Of an image, as COCO has it."""
SAME = 0.7
"""Overlap from which on a box is the float model's: one that is moved by a tenth of its size each way still is."""

SCORED = 300
"""Images after each epoch: of all of them the score would take as long as the training."""

_GROUPS = 40
_KEPT = 8
_FOUND: dict[tuple[str, str], Boxes] = {}


def found_in(outputs: Values, form: Form, layout: Sequence[Output]) -> Boxes:
    """Boxes in packed outputs ``(N, width)`` of N images, those of a low score as well; remembered, for references are asked for
    again and again."""
    key = hashlib.sha256(np.ascontiguousarray(outputs).data).hexdigest(), repr(form)
    if key not in _FOUND:
        while len(_FOUND) >= _KEPT:
            del _FOUND[next(iter(_FOUND))]
        _FOUND[key] = boxes_in(outputs, loose(form), layout)
    return _FOUND[key]


def loose(form: Form) -> Form:
    """With the boxes that average precision looks at, and apps are not shown."""
    return replace(form, score_threshold=min(LEAST_SCORE, form.score_threshold), most=max(MOST, form.most))


def boxes_in(outputs: Values, form: Form, layout: Sequence[Output]) -> Boxes:
    """Boxes in packed outputs ``(N, width)`` of N images."""
    slices = parts(layout)
    return Boxes.of([decode([image[part] for part in slices], form) for image in outputs])


def is_unlabelled(truth: Truth) -> bool:
    """Whether nothing is known of any image: a truth ``(N, 0, 5)``."""
    return bool(truth.shape[1] == 0)


def curves_of(outputs: Values, truth: Truth, form: Form, layout: Sequence[Output]) -> Curves:
    return Curves.of(found_in(outputs, form, layout), Boxes.right(truth))


@dataclass(frozen=True)
class Precisions:
    """Average precision of all images, and of all but each group of them.

    Attributes:
        each: ``(classes, thresholds)``, of all images and then without each group.
        rights: ``(images, thresholds + 1)``, by which it is known which images have changed.
    """

    each: tuple[NDArray[np.float64], ...]
    rights: NDArray[np.float64]

    @classmethod
    def of(cls, curves: Curves) -> Precisions:
        groups = min(_GROUPS, curves.count)
        group = np.random.default_rng(0).permutation(curves.count) % groups
        weights = [None, *((group != number).astype(np.float64) for number in range(groups))]
        return cls(tuple(curves.precisions(weight) for weight in weights), curves.rights())

    def averages(self, thresholds: int | None) -> NDArray[np.float64]:
        """Over the first of the thresholds, or all: of all images and without each group, ``(groups + 1,)``."""
        return np.array([average(one[:, :thresholds]) for one in self.each])


_AVERAGES = {"ap": None, "ap50": 1}
"""Which thresholds each average is over, the first so many or all."""


def drops(reference: Curves, candidate: Curves, counts: Counts) -> dict[str, Counted]:
    """What is lost of average precision over all thresholds, and over that of 0.5 alone.

    Args:
        counts: of the right boxes that each finds.
    """
    return drops_of(Precisions.of(reference), Precisions.of(candidate), counts)


def drops_of(reference: Precisions, candidate: Precisions, counts: Counts) -> dict[str, Counted]:
    """The same from averages that are there."""
    changed = int((reference.rights != candidate.rights).any(1).sum())
    found = {}
    for name, thresholds in _AVERAGES.items():
        all_images, *others = reference.averages(thresholds) - candidate.averages(thresholds)
        low, high = jackknife_interval(float(all_images), np.array(others), len(reference.rights), changed)
        found[f"{name}_drop"] = float(all_images), replace(counts, low=low, high=high)
    return found


def averages(found: Precisions, counts: Counts) -> dict[str, Counted]:
    """Average precision by itself, by the name of each average, with the same jackknife; NaN where no box is right.

    Args:
        counts: of the right boxes that are found.
    """
    images = len(found.rights)
    told = {}
    for name, thresholds in _AVERAGES.items():
        all_images, *others = found.averages(thresholds)
        low, high = jackknife_interval(float(all_images), np.array(others), images, images)
        told[name.upper()] = float(all_images), replace(counts, low=max(low, 0.0), high=high)
    return told


def right_found(reference: Boxes, candidate: Boxes, right: Boxes) -> Counts:
    """Of the right boxes, those that each finds, the bounds left open."""
    one, other = (is_found(boxes, right) for boxes in (reference, candidate))
    return found_of(one, other, right.count)


def found_of(one: NDArray[np.bool_], other: NDArray[np.bool_], images: int) -> Counts:
    """The same of which right boxes each finds, ``(right,)``, in so many images."""
    kept, lost, won = (int(both.sum()) for both in (one & other, one & ~other, other & ~one))
    return Counts(images=len(one), kept=kept, lost=lost, won=won, low=-1.0, high=1.0, of="boxes", draws=images)


def is_found(boxes: Boxes, right: Boxes) -> NDArray[np.bool_]:
    """Which of the right boxes are found, half of them in common, ``(right,)``."""
    which = matched(boxes, right, (0.5,))
    found = np.zeros(len(right), np.bool_)
    found[which[which >= 0]] = True
    return found


def same(reference: Boxes, candidate: Boxes) -> Counted:
    """Share of the boxes of both that the other one has as well: of the same class, and `SAME` of them in common. NaN where neither shows any: nothing
    is known then, and anything is possible."""
    each = np.bincount(reference.images, minlength=reference.count) + np.bincount(
        candidate.images, minlength=reference.count
    )
    kept = 2 * int(same_in_each(reference, candidate).sum())
    return same_of(int(each.sum()), int(np.square(each).sum()), kept, reference.count)


def same_in_each(reference: Boxes, candidate: Boxes) -> NDArray[np.int64]:
    """How many of the candidate's boxes are the reference's, of each image ``(N,)``."""
    is_same = matched(candidate, reference, (SAME,))[:, 0] >= 0
    return np.bincount(candidate.images[is_same], minlength=reference.count)


def same_of(total: int, squares: int, kept: int, images: int) -> Counted:
    """The share from sums over so many images: of the boxes of both, of the squares of their numbers, and of those that are in pairs."""
    low, high = 0.0, 1.0
    if total:
        draws = float(total) ** 2 / float(squares)
        low, high = share_interval(draws, draws * (kept / total))
    counts = Counts(images=total, kept=kept, lost=total - kept, won=0, low=low, high=high, of="boxes", draws=images)
    return kept / total if total else math.nan, counts


def _score_of(config: Config) -> Callable[[Values, Truth, Sequence[Output]], float]:
    def score(outputs: Values, truth: Truth, layout: Sequence[Output]) -> float:
        """Average precision; NaN where nothing is known of the images."""
        if is_unlabelled(truth):
            return math.nan
        return average(curves_of(outputs, truth, form_of(config, layout), layout).precisions())

    return score


def _count_of(
    config: Config,
) -> Callable[[Values, Values, Values, Truth, Sequence[Output]], dict[str, Counted]]:
    def count(
        original: Values, folded: Values, candidate: Values, truth: Truth, layout: Sequence[Output]
    ) -> dict[str, Counted]:
        """Average precision against the original, boxes against the folded model's."""
        form = form_of(config, layout)
        given, wanted = (found_in(values, form, layout) for values in (candidate, folded))
        least = form.score_threshold
        found = {"same_boxes": same(wanted.above(least), given.above(least))}
        if is_unlabelled(truth):
            return found
        right, before = Boxes.right(truth), found_in(original, form, layout)
        counts = right_found(before.above(least), given.above(least), right)
        return found | drops(Curves.of(before, right), Curves.of(given, right), counts)

    return count


_AP = Limit.counted("ap_drop", "<=", 0.01, "one point of COCO's AP, as published int8 detectors lose")
_SAME = Limit.counted(
    "same_boxes", ">=", 0.8, "an app shows boxes: one of five gone, new or moved is another model to who uses it"
)
_NEAR = Limit.counted("same_boxes", ">=", 0.95, "float16 moves boxes that lie on a hair")
_WEIGHTS = Limit.counted("same_boxes", ">=", 0.9, "with activations in float, 8 bits change half of what int8 may")

_LIMITS = {
    ("quantize", "int8", "runtime"): (_SAME, _AP),
    ("lower", "fp16", "reference executor"): (_AP, _NEAR),
    ("lower", "int8", "reference executor"): (_AP, _SAME),
    ("lower", "w8", "reference executor"): (_AP, _WEIGHTS),
    ("lower", "w4", "reference executor"): (
        Limit.counted("ap_drop", "<=", 0.05, "five points of AP are the price of 4 bits"),
        Limit.counted("same_boxes", ">=", 0.6, "twice what int8 may change"),
    ),
}


def meaning(config: Config) -> Meaning:
    """Without a truth, boxes are held against the float model's alone."""
    has_truth = config.data.has_truth
    names = ("same_boxes", "ap_drop", "ap50_drop") if has_truth else ("same_boxes",)
    limits = {key: tuple(row for row in rows if row.metric in names) for key, rows in _LIMITS.items()}
    return Meaning(
        counted={name: ">=" if name == "same_boxes" else "<=" for name in names},
        limits=limits,
        score=_score_of(config),
        count=_count_of(config),
        scored_at_most=SCORED,
        decoding=NAMED.metric,
    )


MEANING = meaning(Config())
