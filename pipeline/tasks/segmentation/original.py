"""The original is looked at before anything is built on it: do its masks know the images at all, and are its classes those of the data?

What is looked for, on held-out images whose masks are known; images are the samples, for the pixels of one are answered together:

- *a permutation of the classes that explains the masks far better than the given order*. It is fitted on the pixels of one half of the images (as
  an assignment problem, by `scipy.optimize.linear_sum_assignment`) and counted on the other, and the other way round. It has to get more of the
  pixels right on so many more images than the given order that a sign test shows it.
- *one class that is always answered*, though the truth has others.
- *masks that fit the other images as well as their own*: each is compared with the truth of the next image too. What knows something of the images
  is right on more pixels of its own on more images, by the same test. Few images prove nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import Truth, Values, percent
from ...program import Output
from ...reading import shown
from .counting import Masks, Pixels, answers_of, classes_in, is_unknown, mean_iou, pixels
from .decoding import UNSEEN

_SURE = 1e-3
_BY_CHANCE = 0.01
_FEW = 20
"""Images; fewer say nothing against a model."""
_SMALL = 0.02
"""Of the pixels: less of other classes is nothing to be missed."""
_NAMED = 3

Table = NDArray[np.int64]
"""Pixels ``(N, C, C)`` of each image, by truth and answer."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was counted of the original.

    Attributes:
        images: that were looked at and have a counted pixel; -1 where no mask is known.
        seen: all that were looked at.
        score: mIoU; 0 where nothing is known.
        constant: mIoU of the best single class everywhere.
        is_finite: no logit is infinite or NaN.
        always: the class that it answers everywhere; -1 where it answers several.
        others: share of the counted pixels that are of other classes than `always`.
        own: probability of getting as many images better than their neighbours by chance.
        moved: (class, what is answered instead) of each that a permutation moves; empty where none explains more.
        score_moved: mIoU where these are moved.
    """

    images: int
    seen: int
    score: float
    constant: float
    is_finite: bool
    always: int
    others: float
    own: float
    moved: tuple[tuple[int, int], ...]
    score_moved: float


def look(outputs: Values, truth: Truth, config: Config, layout: Sequence[Output]) -> dict[str, Any]:
    """A `Look`, as JSON holds it."""
    return asdict(counted(outputs, truth, layout))


def counted(outputs: Values, truth: Truth, layout: Sequence[Output]) -> Look:
    """Count what the original's packed logits say of images with these masks ``(N, H, W)``."""
    classes = classes_in(layout)
    said = answers_of(outputs, truth.shape[1:], layout)
    always = int(said.flat[0]) if (said == said.flat[0]).all() else -1
    is_finite = bool(np.isfinite(outputs).all())
    if is_unknown(truth):
        return Look(
            images=-1, seen=len(truth), score=0.0, constant=0.0, is_finite=is_finite, always=always, others=0.0, own=1.0,
            moved=(), score_moved=0.0,
        )  # fmt: skip
    table = _table(said, truth, classes)
    found = pixels(said, truth, classes)
    totals = table.sum((0, 2))
    moved, score_moved = _permutation(said, truth, table)
    return Look(
        images=int((table.sum((1, 2)) > 0).sum()),
        seen=len(truth),
        score=mean_iou(found),
        constant=float(totals.max() / totals.sum() / max(1, (totals > 0).sum())),
        is_finite=is_finite,
        always=always,
        others=float(1 - totals[always] / totals.sum()) if always >= 0 else 0.0,
        own=_own(said, truth, table),
        moved=moved,
        score_moved=score_moved,
    )


def trouble(look: Mapping[str, Any], names: Sequence[str], *, is_trained: bool) -> str:
    """What is wrong with the original, with what was counted and the likely cause; empty where nothing is.

    Args:
        names: of the classes.
        is_trained: whether the weights were trained by this build, not given.
    """
    found = _read(look)
    said = f"the float model's mIoU on {found.images:,} held-out images is {percent(found.score)}"
    if not found.is_finite:
        return (
            f"the float model was run on {found.seen:,} held-out images; some of its logits are infinite or NaN. The likely cause: weights "
            "that are damaged or belong to another model, or a normalization in another range ([data] mean and std are of RGB in 0..1)."
        )
    if found.moved:
        return (
            f"{said}, and {percent(found.score_moved)} where {_described(found, names)}. {_order_cause(found, names)}"
        )
    if found.always >= 0 and found.others > _SMALL and found.images >= _FEW:
        return (
            f"{said}: it answers '{shown(names[found.always])}' on every pixel, though {percent(found.others)} of them are of other classes. "
            f"{_weights_cause(is_trained)}"
        )
    if found.own > _BY_CHANCE and found.images >= _FEW and len(names) > 1:
        return f"{said}, and its masks fit the images beside theirs as well as their own. {_weights_cause(is_trained)}"
    return ""


def doubt(look: Mapping[str, Any], names: Sequence[str]) -> str:
    """What these images speak for and are too few to show; empty where there is nothing."""
    found = _read(look)
    if found.images < 0 and found.always >= 0 and found.seen >= _FEW:
        return (
            f"The float model answers '{shown(names[found.always])}' on every pixel of {found.seen:,} held-out images, which have no masks to "
            f"compare with. If they show something else too: {_weights_cause(is_trained=False)}"
        )
    if found.images >= 0 and found.score <= found.constant:
        return (
            f"The float model's mIoU on {found.images:,} held-out images is {percent(found.score)}, no more than one class everywhere would have, "
            f"{percent(found.constant)}: what a mask is good for is not seen on them."
        )
    return ""


def _read(look: Mapping[str, Any]) -> Look:
    return Look(**{**look, "moved": tuple((one, other) for one, other in look["moved"])})


def _table(said: Masks, truth: Masks, classes: int) -> Table:
    """How many counted pixels of each image have which truth and which answer."""
    found = np.zeros((len(truth), classes, classes), np.int64)
    for number, (answer, right) in enumerate(zip(said, truth, strict=True)):
        known = right != UNSEEN
        pairs = right[known].astype(np.int64) * classes + answer[known]
        found[number] = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return found


def _right(table: Table) -> NDArray[np.float64]:
    """Share of each image's counted pixels that are answered right, 0 where none is counted."""
    found: NDArray[np.float64] = np.trace(table, axis1=1, axis2=2) / np.maximum(table.sum((1, 2)), 1)
    return found


def _own(said: Masks, truth: Masks, table: Table) -> float:
    """Probability that masks which know nothing of the images fit their own better than the next as often as these do."""
    own, other = _right(table), _right(_table(np.roll(said, 1, axis=0), truth, table.shape[1]))
    return _sign_test(int((own > other).sum()), int((own < other).sum()))


def _permutation(said: Masks, truth: Masks, table: Table) -> tuple[tuple[tuple[int, int], ...], float]:
    """(class, answer) of each class that the best permutation moves, and the mIoU then; nothing and 0 where it does not explain more."""
    half = np.arange(len(table)) % 2 == 0
    won = lost = 0
    if (table.sum((0, 1)) > 0).sum() < 2:  # always the same: any class may be called so
        return (), 0.0
    for fitted in (half, ~half):
        if not fitted.any() or fitted.all():
            return (), 0.0
        order = _assigned(table[fitted].sum(0))
        given, better = _right(table[~fitted]), _right(table[~fitted][:, :, order])
        won, lost = won + int((better > given).sum()), lost + int((better < given).sum())
    order = _assigned(table.sum(0))
    is_there = table.sum((0, 2)) > 0
    moved = tuple((n, int(answer)) for n, answer in enumerate(order) if is_there[n] and n != answer)
    if not moved or _sign_test(won, lost) > _SURE:
        return (), 0.0
    whole = table[:, :, order].sum(0)
    both = np.diagonal(whole)[None]
    score = mean_iou(Pixels(both, whole.sum(1)[None], whole.sum(0)[None]))
    return moved, score


def _assigned(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The answer that fits each class best, each answer given once; itself where nothing fits better."""
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(table + 0.5 * np.eye(len(table)), maximize=True)
    return np.asarray(columns, np.int64)


def _sign_test(won: int, lost: int) -> float:
    """Probability of as many wins where both are as likely."""
    from scipy.special import betainc

    return float(betainc(won, lost + 1, 0.5)) if won else 1.0


def _shift(found: Look, classes: int) -> int:
    """By how much every class is moved, where all are moved by one; 0 where they are not."""
    shifts = {(answer - one) % classes for one, answer in found.moved}
    return {1: 1, classes - 1: -1}.get(shifts.pop(), 0) if len(shifts) == 1 and len(found.moved) > 2 else 0


def _described(found: Look, names: Sequence[str]) -> str:
    if shift := _shift(found, len(names)):
        return f"each class is moved by {shift:+d}"
    pairs = [f"'{shown(names[one])}' is answered '{shown(names[answer])}'" for one, answer in found.moved[:_NAMED]]
    rest = len(found.moved) - len(pairs)
    return ", ".join(pairs) + (f" and {rest} more classes are moved" if rest > 0 else "")


def _order_cause(found: Look, names: Sequence[str]) -> str:
    cause = "The likely cause: the classes of the weights are in another order than the numbers in the masks"
    if _shift(found, len(names)):
        cause += ", with a class in front of the others on one side, as a background class is"
    return (
        f"{cause}. Number the masks' classes in the order of the weights' outputs, and name them so in [data] labels."
    )


def _weights_cause(is_trained: bool) -> str:
    if is_trained:
        return "The likely cause: the training has not learnt. Look at its loss and mIoU, and give it more [train] epochs or another learning_rate."
    return (
        "The likely cause: weights of another model, of other classes, or none at all behind the names; or images that are prepared otherwise than "
        "for the training. Compare [weights], [data] mean and std, and the masks with what the weights were trained on."
    )
