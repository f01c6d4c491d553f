"""The original is looked at before anything is built on it: are its boxes read as it means them, does it know the images at all?

A detector whose numbers are read in another unit or format computes the same on every runtime, and none of its boxes is right. What is looked
for on held-out images, where average precision is low:

- *another reading* of the same numbers that finds far more: shares for pixels, corners for centre and size, x for y, the background at the
  other end, offsets without variances;
- *other classes*: a permutation that explains the classes of boxes in the right places (as `classification.original` looks for one);
- *nothing found*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import Truth, Values, percent
from ...program import Output
from ...reading import shown
from ..classification.original import permutation
from .counting import found_in, is_unlabelled
from .form import Form, form_of
from .matching import Boxes, matched
from .precision import Curves, average

_LOW = 0.25
"""AP50 below which other readings are tried."""
_NOTHING, _GOOD = 0.02, 0.5
"""AP50 below which a model knows nothing of the images, and from which on it does."""
_FEW = 20
_SURE = 1e-3
_TRIED = 200
_NAMED = 3
_CROWDED = 0.5
"""Of the images: more that show as many boxes as there may be are doubted."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was counted of the original.

    Attributes:
        images: that were looked at.
        boxes: that are right in them; -1 where nothing is known.
        found: boxes of the original that apps would be shown.
        is_finite: no number is infinite or NaN.
        classes: that its scores tell apart.
        largest: of its scores.
        least: of the scores of boxes that are looked at, however low.
        full: images in which apps would be shown as many boxes as they are at most.
        ap: average precision, and
        ap50: at an overlap of a half; 0 where nothing is known.
        reading: another way to read its numbers that finds far more, in words; empty where none does.
        read50: AP50 by it.
        moved: (class, what is said instead) of each class that a permutation moves; empty where none explains more.
        right_moved: of `placed`, whose class is right by it.
        right: of `placed`, whose class is right.
        placed: boxes in the right place, whatever their class.
    """

    images: int
    boxes: int
    found: int
    is_finite: bool
    classes: int
    largest: float
    least: float = 0.0
    full: int = 0
    ap: float = 0.0
    ap50: float = 0.0
    reading: str = ""
    read50: float = 0.0
    moved: tuple[tuple[int, int], ...] = ()
    right_moved: int = 0
    right: int = 0
    placed: int = 0


def look(outputs: Values, truth: Truth, config: Config, layout: Sequence[Output]) -> dict[str, Any]:
    """A `Look`, as JSON holds it."""
    form = form_of(config, layout)
    boxes = found_in(outputs, form, layout)
    seen = boxes.above(form.score_threshold)
    given = Look(
        images=len(outputs),
        boxes=-1,
        found=len(seen),
        least=float(boxes.scores.min(initial=1.0)),
        full=int((np.bincount(seen.images, minlength=1) >= form.most).sum()),
        is_finite=bool(np.isfinite(outputs).all()),
        classes=form.classes,
        largest=float(boxes.scores.max(initial=0.0)),
    )
    if is_unlabelled(truth) or not given.is_finite:
        return asdict(given)
    right = Boxes.right(truth)
    precisions = Curves.of(boxes, right).precisions()
    found = replace(given, boxes=len(right), ap=_number(average(precisions)), ap50=_number(average(precisions[:, :1])))
    if found.ap50 < _LOW:
        reading, read50 = _reading(outputs[:_TRIED], truth[:_TRIED], form, layout)
        found = replace(found, reading=reading, read50=read50)
    return asdict(replace(found, **_moved(boxes, right)))


def _number(value: float) -> float:
    return 0.0 if np.isnan(value) else value


def _reading(outputs: Values, truth: Truth, form: Form, layout: Sequence[Output]) -> tuple[str, float]:
    """The reading that finds most, if far more than this one, and what it finds."""
    right = Boxes.right(truth)
    own = _ap50(found_in(outputs, form, layout), right)
    found = [
        (_ap50(change(found_in(outputs, other, layout)), right), words) for words, other, change in _readings(form)
    ]
    best, words = max(found, default=(0.0, ""))
    return (words, best) if best > max(2 * own, own + 0.1) else ("", 0.0)


def _ap50(boxes: Boxes, right: Boxes) -> float:
    return _number(average(Curves.of(boxes, right).precisions()[:, :1]))


def _readings(form: Form) -> Iterator[tuple[str, Form, Any]]:
    """Words, the form to read by, and what is done to the boxes after."""

    def same(boxes: Boxes) -> Boxes:
        return boxes

    def turned(boxes: Boxes) -> Boxes:
        return replace(boxes, boxes=boxes.boxes[:, [1, 0, 3, 2]])

    yield "y before x: give the model with x first", form, turned
    if form.format in ("xyxy", "cxcywh", "ltrb"):
        for other in ("xyxy", "cxcywh", "ltrb"):
            if other != form.format and (other != "ltrb" or form.blocks[0].rows > 1):
                yield f"format = '{other}'", replace(form, format=other), same  # type: ignore[arg-type]
    if form.format != "anchors":
        sizes = np.array([form.width, form.height], np.float64)
        for words, factor in (("unit = 'share'", sizes), ("unit = 'pixels'", 1 / sizes)):
            is_so = all(
                np.allclose(block.unit, (1, 1) if words.endswith("'share'") else sizes) for block in form.blocks
            )
            if is_so:
                changed = _in_unit(form, factor)
                yield words, changed, same
                if form.format in ("xyxy", "cxcywh"):
                    other = "cxcywh" if form.format == "xyxy" else "xyxy"
                    yield f"{words} and format = '{other}'", replace(changed, format=other), same  # type: ignore[arg-type]
    else:
        known = (1.0, 1.0, 1.0, 1.0) if form.variances != (1.0, 1.0, 1.0, 1.0) else (0.1, 0.1, 0.2, 0.2)
        yield f"variances = {list(known[1:3])}", replace(form, variances=known), same
    if form.background in ("first", "last"):
        end = "last" if form.background == "first" else "first"
        yield f"background = '{end}'", replace(form, background=end), same  # type: ignore[arg-type]


def _in_unit(form: Form, factor: NDArray[np.float64]) -> Form:
    blocks = tuple(
        replace(block, unit=(block.unit[0] * float(factor[0]), block.unit[1] * float(factor[1])))
        for block in form.blocks
    )
    return replace(form, blocks=blocks)


def _moved(boxes: Boxes, right: Boxes) -> dict[str, Any]:
    """What the classes of boxes in the right places say."""
    which = matched(boxes, right, (0.5,), any_class=True)[:, 0]
    is_placed = which >= 0
    answers, labels = boxes.classes[is_placed], right.classes[which[is_placed]]
    found: dict[str, Any] = {"placed": int(is_placed.sum()), "right": int((answers == labels).sum())}
    if found["placed"] < 2:
        return found
    moved, right_moved, luck = permutation(answers, labels)
    return found | ({"moved": moved, "right_moved": right_moved} if moved and luck <= _SURE else {})


def trouble(look: Mapping[str, Any], names: Sequence[str], *, is_trained: bool) -> str:
    """What is wrong with the original, with what was counted and the likely cause; empty where nothing is."""
    found = _read(look)
    counted = f"the float model shows {found.found:,} boxes in {found.images:,} held-out images"
    if found.boxes >= 0:
        counted += f", which have {found.boxes:,}: AP {percent(found.ap)}, AP50 {percent(found.ap50)}"
    if not found.is_finite:
        return (
            f"{counted}; some of its numbers are infinite or NaN. The likely cause: weights that are damaged or belong to another model, or a "
            "normalization in another range ([data] mean and std are of RGB in 0..1)."
        )
    if found.classes != len(names):
        return (
            f"the model's scores tell {found.classes} classes apart, and the data name {len(names)}. Set background under [[output]] if a "
            "number of theirs is no class, or name the classes of the weights, one a line in their order, in data.labels."
        )
    if found.boxes < 0:
        return ""
    if found.reading:
        return (
            f"{counted}; read with {found.reading} the same outputs have an AP50 of {percent(found.read50)}. The likely cause: [[output]] says "
            "otherwise what they hold."
        )
    if found.moved:
        return (
            f"{counted}; of {found.placed:,} boxes in the right place {found.right:,} have the right class, and {found.right_moved:,} would where "
            f"{_in_words(found, names)}. The likely cause: the classes of the weights are in another order than those of the data"
            f"{_shifted(found)}. Name them in the order of the weights in data.labels, one a line."
        )
    if found.ap50 < _NOTHING and found.boxes >= _FEW:
        return f"{counted}. {_cause(found, is_trained=is_trained)}"
    if not found.found and found.boxes >= _FEW:
        likely = "" if found.ap50 >= _GOOD else f" {_cause(found, is_trained=is_trained)}"
        return f"{counted}; its highest score is {found.largest:.3g}. Lower [detection] score where that is as it should be.{likely}"
    return ""


def doubt(look: Mapping[str, Any], names: Sequence[str]) -> str:
    """What these images speak for and are too few to show; empty where there is nothing."""
    found = _read(look)
    if found.largest > 1.001:
        return (
            f"the highest score of a box is {found.largest:.3g}, and a probability is at most 1: if the model gives logits, write activation = "
            "'sigmoid' or 'softmax' under [[output]]."
        )
    if found.full > _CROWDED * found.images:
        likely = (
            f"No score is below {found.least:.2f}: if the model gives probabilities, write activation = 'none' under [[output]], for a sigmoid of "
            "them is half and more."
            if found.least >= 0.5
            else "Raise [detection] score, if apps are to be shown fewer."
        )
        return f"the float model shows as many boxes as there may be in {found.full:,} of {found.images:,} held-out images. {likely}"
    if not found.found:
        return (
            f"the float model shows no box in {found.images:,} held-out images; its highest score is {found.largest:.3g}. If there is something in "
            f"them: {_cause(found, is_trained=False)}"
        )
    return ""


def _read(look: Mapping[str, Any]) -> Look:
    return Look(**{**look, "moved": tuple((label, answer) for label, answer in look["moved"])})


def _in_words(found: Look, names: Sequence[str]) -> str:
    pairs = [f"'{shown(names[label])}' is called '{shown(names[answer])}'" for label, answer in found.moved[:_NAMED]]
    rest = len(found.moved) - len(pairs)
    return ", ".join(pairs) + (f" and {rest} more classes are moved" if rest > 0 else "")


def _shifted(found: Look) -> str:
    shifts = {answer - label for label, answer in found.moved}
    is_shift = len(found.moved) > 2 and len({shift % found.classes for shift in shifts}) == 1
    return ", all moved by one, as a background in front of them does it" if is_shift and shifts & {1, -1} else ""


def _cause(found: Look, *, is_trained: bool) -> str:
    if is_trained:
        return "The likely cause: the training has not learnt. Look at its loss and AP, and give it more [train] epochs or another learning_rate."
    return (
        "The likely cause: weights of another model or of other classes; images that are prepared otherwise than for the training ([data] fit, "
        "mean, std); or outputs that hold something else than [[output]] says."
    )
