"""What is counted of masks: the intersection of each class with the truth over its union, what of that is lost, and the pixels that are
answered as by the float model; and what is allowed.

*mIoU*: of each class the pixels of all images that truth and answer both give it, over those that either gives it; the mean over the classes that
are in truth or answer. Pixels of the truth that are not counted count nowhere.

The pixels of an image are no independent samples: they are answered together, well or badly. Images are. So of ``N`` images

- *agreement*, the mean over images of the share of their pixels that are answered alike, has the interval of a share of which every image is
  alike or unlike as a whole (Clopper and Pearson): no other images with this mean spread wider;
- *miou_drop*, a difference of two ratios of sums over images, has that of the jackknife, which leaves each image out once (Efron and Stein, Annals
  of Statistics 9, 1981, 586-596), with Student's quantile. Where hardly any images have changed, or all of them alike, it is at least as wide as the
  exact interval of as many images none of which has: what nobody has seen is not shown to be rare.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
    jackknife,
    jackknife_interval,
    share_interval,
)
from ...program import Output
from .decoding import UNSEEN, masks_of

Masks = NDArray[np.uint8]
"""``(N, height, width)``."""

_AT_ONCE = 2**24
"""Pixels of masks that are compared together."""
_KEPT_PIXELS = 2**26
"""Of the masks of one model, at most; larger sets are decoded anew."""


@dataclass(frozen=True)
class Pixels:
    """How many pixels of each image and class, ``(N, C)``: of truth and answer both, of the truth, and of the answer. Of counted ones alone."""

    both: NDArray[np.int64]
    truth: NDArray[np.int64]
    answer: NDArray[np.int64]

    @property
    def either(self) -> NDArray[np.int64]:
        return self.truth + self.answer - self.both


def classes_in(layout: Sequence[Output]) -> int:
    """How many classes outputs have logits of."""
    return layout[0].shape[0]


def answers_of(outputs: Values, size: tuple[int, int], layout: Sequence[Output]) -> Masks:
    """The masks of packed logits ``(N, C h w)`` at the size of the input."""
    logits = outputs.reshape(len(outputs), *layout[0].shape)
    if len(logits) * math.prod(size) > _KEPT_PIXELS:
        return masks_of(logits, size)
    digest = hashlib.sha256(np.ascontiguousarray(logits).data).digest()
    return _kept(_Asked(logits, digest, size))


@dataclass(frozen=True)
class _Asked:
    """Logits ``(N, C, h, w)``, known by their bytes."""

    logits: Values = field(compare=False)
    digest: bytes
    size: tuple[int, int]


@functools.lru_cache(maxsize=4)  # the float model is compared with each artifact and each rung
def _kept(asked: _Asked) -> Masks:
    found = masks_of(asked.logits, asked.size)
    found.flags.writeable = False
    return found


def is_unknown(truth: Masks) -> bool:
    """Whether nothing is known of any image."""
    return bool((truth == UNSEEN).all())


def pixels(answer: Masks, truth: Masks, classes: int) -> Pixels:
    """The counts of masks against the truth."""
    return Pixels(*(np.concatenate(part) for part in zip(*_counted(answer, truth, classes), strict=True)))


def _counted(answer: Masks, truth: Masks, classes: int) -> list[tuple[NDArray[np.int64], ...]]:
    part = max(1, _AT_ONCE // max(1, math.prod(truth.shape[1:])))
    found = []
    for start in range(0, len(truth), part):
        right, said = truth[start : start + part].reshape(-1), answer[start : start + part].reshape(-1)
        count = len(truth[start : start + part])
        image = np.repeat(np.arange(count) * classes, math.prod(truth.shape[1:]))
        known = right != UNSEEN
        image, right, said = image[known], right[known], said[known]
        places = (image[right == said] + right[right == said], image + right, image + said)
        found.append(tuple(np.bincount(p, minlength=count * classes).reshape(count, classes) for p in places))
    return found or [tuple(np.zeros((0, classes), np.int64) for _ in range(3))]


def ious(found: Pixels) -> NDArray[np.float64]:
    """Of each class ``(C,)`` over all images; NaN of one that is in neither."""
    return _ratio(found.both.sum(0), found.either.sum(0))


def mean_iou(found: Pixels) -> float:
    """Over the classes that are in truth or answer; NaN where no pixel is counted."""
    each = ious(found)
    return float(np.nanmean(each)) if np.isfinite(each).any() else math.nan


def score(outputs: Values, truth: Truth, layout: Sequence[Output] = ()) -> float:
    """The mIoU of packed logits; NaN where nothing is known of the images."""
    if is_unknown(truth):
        return math.nan
    return mean_iou(pixels(answers_of(outputs, truth.shape[1:], layout), truth, classes_in(layout)))


def agreement(reference: Masks, candidate: Masks) -> Counted:
    """Mean over images of the share of pixels that are answered alike, and the counts behind it, images' worth of them rounded down."""
    alike = (reference == candidate).reshape(len(reference), -1).mean(1)
    return agreement_of(len(alike), float(alike.sum()))


def agreement_of(count: int, total: float) -> Counted:
    """The same from the sum over so many images of the shares of their pixels."""
    kept = math.floor(total + 1e-9)
    low, high = share_interval(count, kept)[0], share_interval(count, min(count, kept + (kept < total)))[1]
    return total / count, Counts(images=count, kept=kept, lost=count - kept, won=0, low=low, high=high)


@dataclass(frozen=True)
class Spread:
    """How mIoU comes about over images.

    Attributes:
        all_images: their mIoU.
        own: of each image by itself, ``(N,)``; 0 where none of its pixels is counted.
        without: of all images but each, ``(N,)``.
        classes: ``(C,)``, the intersection over union of each; NaN of one that is in neither.
        halves: ``(C,)``, half of each one's interval, by the jackknife.
    """

    all_images: float
    own: NDArray[np.float64]
    without: NDArray[np.float64]
    classes: NDArray[np.float64]
    halves: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Callable[[], Iterable[Pixels]]) -> Spread:
        """Twice through the images, a part of them at a time, for what is right without one is known when all are."""
        both, either, own = np.int64(0), np.int64(0), [np.zeros(0)]
        for part in parts():
            both, either = both + part.both.sum(0), either + part.either.sum(0)
            own.append(own_iou(part))
        classes = _ratio(both, either)
        without = [_ratio(both - part.both, either - part.either) for part in parts()]
        each = np.concatenate([np.zeros((0, *classes.shape)), *without])
        return cls(
            all_images=float(_mean(classes)),
            own=np.concatenate(own),
            without=_mean(each),
            classes=classes,
            halves=np.array([jackknife(column) for column in each.T]),
        )

    @property
    def counted(self) -> Counted:
        """mIoU with its interval, 0..1."""
        count = len(self.own)
        low, high = jackknife_interval(self.all_images, self.without, count, count)
        return self.all_images, Counts(
            images=count, kept=count, lost=0, won=0, low=max(low, 0.0), high=high, draws=count
        )


def miou_drop(reference: Pixels, candidate: Pixels) -> Counted:
    """How much mIoU is lost, -1..1, and the counts behind it: images whose own mIoU falls are lost, those whose own rises are won."""
    return miou_drop_of(*(Spread.of(lambda part=part: [part]) for part in (reference, candidate)))  # type: ignore[misc]


def miou_drop_of(reference: Spread, candidate: Spread) -> Counted:
    """The same of what is known of all images."""
    drop, own = reference.all_images - candidate.all_images, reference.own - candidate.own
    lost, won = int((own > 0).sum()), int((own < 0).sum())
    low, high = jackknife_interval(drop, reference.without - candidate.without, len(own), lost + won)
    return drop, Counts(
        images=len(own), kept=len(own) - lost - won, lost=lost, won=won, low=low, high=high, draws=len(own)
    )


def own_iou(found: Pixels) -> NDArray[np.float64]:
    """The mIoU of each image by itself, ``(N,)``; 0 where none of its pixels is counted."""
    return np.nan_to_num(_mean(_ratio(found.both, found.either)))


def _ratio(both: Any, either: Any) -> NDArray[np.float64]:
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def _mean(each: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis, without NaN; NaN where nothing else is."""
    known = np.isfinite(each)
    return np.where(known.any(-1), np.where(known, each, 0).sum(-1) / np.maximum(known.sum(-1), 1), np.nan)


def own_ious(answer: Masks, truth: Masks, classes: int) -> NDArray[np.float64]:
    """The mIoU of each image by itself, ``(N,)``."""
    return own_iou(pixels(answer, truth, classes))


def count(
    original: Values, folded: Values, candidate: Values, truth: Truth, outputs: Sequence[Output]
) -> dict[str, Counted]:
    """Of the candidate's logits: mIoU against the original, agreement with the folded model."""
    size = truth.shape[1:]
    said = answers_of(candidate, size, outputs)
    found = {"agreement": agreement(answers_of(folded, size, outputs), said)}
    if is_unknown(truth):
        return found
    classes = classes_in(outputs)
    before = pixels(answers_of(original, size, outputs), truth, classes)
    return found | {"miou_drop": miou_drop(before, pixels(said, truth, classes))}


_MIOU = Limit.counted("miou_drop", "<=", 0.01, "a point of mIoU")
_AGREEMENT = Limit.counted("agreement", ">=", 0.9, "one pixel of ten turned is another mask to who sees it")

MEANING = Meaning(
    counted={"miou_drop": "<=", "agreement": ">="},
    limits={
        ("quantize", "int8", "runtime"): (_AGREEMENT, _MIOU),
        ("lower", "fp16", "reference executor"): (_MIOU,),
        ("lower", "int8", "reference executor"): (_MIOU,),
        ("lower", "w8", "reference executor"): (
            _MIOU,
            Limit.counted("agreement", ">=", 0.95, "with activations in float, 8 bits turn half of what int8 may"),
        ),
        ("lower", "w4", "reference executor"): (
            Limit.counted("miou_drop", "<=", 0.03, "three points of mIoU, as of top-1: the price of 4 bits"),
            Limit.counted(
                "agreement", ">=", 0.8, "one pixel of five turned, twice what int8 may, is the price of 4 bits"
            ),
        ),
    },
    score=score,
    count=count,
    decoding=NAMED.metric,
)

_HALF = Limit.counted("agreement", ">=", 0.95, "without truth in place of a point of mIoU: pixels on a hair may turn")


def _without_truth(key: tuple[str, str, str]) -> tuple[Limit, ...]:
    rows = tuple(row for row in MEANING.limits[key] if row.metric != "miou_drop")
    if key[0] != "lower" or any(row.metric == "agreement" for row in rows):
        return rows
    return (_HALF if key[1] == "fp16" else _AGREEMENT, *rows)


_UNKNOWN = replace(MEANING, counted={"agreement": ">="}, limits={key: _without_truth(key) for key in MEANING.limits})


def meaning(config: Config) -> Meaning:
    """Without masks agreement alone is counted, also of artifacts that mIoU limits with them."""
    return MEANING if config.data.has_truth else _UNKNOWN
