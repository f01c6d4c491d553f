"""The original is looked at before anything is built on it: does it know the images at all, and in which order?

A model whose labels are in another order than the data's computes the same numbers on every runtime, and every one of
its answers is wrong. So is one with weights that do not fit, or that learnt nothing. What is looked for, on held-out
images:

- *a permutation of the labels that explains the answers far better than the given order*. It is fitted on one half of
  the images (as an assignment problem, by `scipy.optimize.linear_sum_assignment`) and counted on the other, and the
  other way round, for with few images a class some permutation always fits. It has to be right on most images of the
  classes that it moves, and to win more images than it loses by an exact sign test (McNemar, Psychometrika 12, 1947).
  Fewer than ten images of the classes that are moved cannot show that; a permutation that they speak for is a doubt.
- *one class that is always answered*, though enough images are of others.
- *chance*: not more right answers than answers that know nothing of the images would give (an exact binomial test
  against the product of the shares), and so many images that a useful accuracy is out of the question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import percent, share_interval
from ...program import Output
from ...reading import shown
from .counting import is_unlabelled

_SURE = 1e-3
_DOUBTFUL = 0.05
_BY_CHANCE = 0.01
_FEW = 5
_NAMED = 3

Classes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was counted of the original.

    Attributes:
        images: that were looked at.
        right: that it answers right; -1 where no image has a label.
        chance: share that answers as frequent as its own would get right without seeing the image.
        is_finite: no logit is infinite or NaN.
        always: the class that it answers on every image; -1 where it answers several.
        moved: (label, what it answers instead) of each class that a permutation moves; empty where none explains more.
        right_moved: images that this permutation, fitted on other images, gets right.
        luck: probability of as much by chance.
        classes: number of logits.
    """

    images: int
    right: int
    chance: float
    is_finite: bool
    always: int
    moved: tuple[tuple[int, int], ...]
    right_moved: int
    luck: float
    classes: int

    @property
    def is_moved(self) -> bool:
        """The permutation is shown, not only likely."""
        return bool(self.moved) and self.luck <= _SURE


def look(
    logits: NDArray[np.float32], labels: Classes, config: Config | None = None, layout: Sequence[Output] = ()
) -> dict[str, Any]:
    """A `Look`, as JSON holds it; settings and layout say nothing more of logits."""
    return asdict(counted(logits, labels))


def trouble(look: Mapping[str, Any], names: Sequence[str], *, is_trained: bool) -> str:
    """What is wrong with the original, with what was counted and the likely cause; empty where nothing is.

    Args:
        names: of the classes.
        is_trained: whether the weights were trained by this build, not given.
    """
    return _trouble(_read(look), names, is_trained=is_trained)


def doubt(look: Mapping[str, Any], names: Sequence[str]) -> str:
    """What these images speak for and are too few to show; empty where there is nothing."""
    return _doubt(_read(look), names)


def _read(look: Mapping[str, Any]) -> Look:
    return Look(**{**look, "moved": tuple((label, answer) for label, answer in look["moved"])})


def counted(logits: NDArray[np.float32], labels: Classes) -> Look:
    """Count what the original's logits ``(N, classes)`` say of images with these labels ``(N,)``."""
    answers = logits.argmax(1).astype(np.int64)
    always = int(answers[0]) if (answers == answers[0]).all() else -1
    is_finite = bool(np.isfinite(logits).all())
    if is_unlabelled(labels):
        return Look(
            images=len(labels), right=-1, chance=0.0, is_finite=is_finite, always=always, moved=(), right_moved=0, luck=1.0,
            classes=logits.shape[1],
        )  # fmt: skip
    moved, right_moved, luck = permutation(answers, labels)
    shares = [np.bincount(found, minlength=logits.shape[1]) / len(labels) for found in (answers, labels)]
    return Look(
        images=len(labels),
        right=int((answers == labels).sum()),
        chance=float(shares[0] @ shares[1]),
        is_finite=is_finite,
        always=always,
        moved=moved,
        right_moved=right_moved,
        luck=luck,
        classes=logits.shape[1],
    )


def _trouble(found: Look, names: Sequence[str], *, is_trained: bool) -> str:
    counted = f"the float model answers {found.right} of {found.images:,} held-out images right"
    if found.right < 0:
        counted = f"the float model was run on {found.images:,} held-out images"
    if not found.is_finite:
        return (
            f"{counted}; some of its logits are infinite or NaN. The likely cause: weights that are damaged or belong "
            "to another model, or a normalization in another range ([data] mean and std are of RGB in 0..1)."
        )
    if found.right < 0:
        return ""
    if found.is_moved:
        return f"{counted}, and {found.right_moved} where {_described(found, names)}. {_order_cause(found, names)}"
    if found.always >= 0 and found.images - found.right >= _FEW:
        return (
            f"{counted}: it answers '{shown(names[found.always])}' on every one of them, though "
            f"{found.images - found.right} are of other classes. {_weights_cause(is_trained)}"
        )
    if _is_chance(found):
        low, high = share_interval(found.images, found.right)
        return (
            f"{counted} ({percent(low)} to {percent(high)} with 95 % confidence); answers that know nothing of the "
            f"images would be right on {percent(found.chance)}. "
            + (_doubt(found, names) if found.moved else _weights_cause(is_trained))
        )
    return ""


def _doubt(found: Look, names: Sequence[str]) -> str:
    if found.right < 0 and found.always >= 0 and found.images >= _FEW:
        return (
            f"It answers '{shown(names[found.always])}' on every one of {found.images:,} held-out images, which have no "
            f"labels to compare with. If they are not all of that class: {_weights_cause(is_trained=False)}"
        )
    if not found.moved or found.is_moved:
        return ""
    return (
        f"It would be right on {found.right_moved} of {found.images:,} held-out images, not {found.right}, where "
        f"{_described(found, names)}; by chance as much is seen in {percent(found.luck)} of such sets, so these images "
        f"are too few to tell. {_order_cause(found, names)} More held-out images of these classes would tell."
    )


def _is_chance(found: Look) -> bool:
    if found.right > 0 and 0 < found.chance < found.right / found.images:
        # Chernoff's bound, above the exact probability, tells of most models without scipy, which takes a build with nothing to do
        # longer to import than all else
        share = found.right / found.images
        apart = share * math.log(share / found.chance)
        apart += (1 - share) * math.log((1 - share) / (1 - found.chance)) if share < 1 else 0.0
        if -found.images * apart <= math.log(_BY_CHANCE):
            return False
    from scipy.special import betainc

    if found.right and found.chance > 0:
        at_least = float(betainc(found.right, found.images - found.right + 1, min(found.chance, 1.0)))
        if at_least <= _BY_CHANCE:
            return False
    # few images prove nothing against a model either
    return share_interval(found.images, found.right)[1] < (1 + found.chance) / 2


def permutation(answers: Classes, labels: Classes) -> tuple[tuple[tuple[int, int], ...], int, float]:
    """(label, answer) of each class that the best permutation moves, the images that it gets right, counted on those
    that it was not fitted to, and the probability of as many by chance; nothing, 0 and 1 where it does not explain more
    than the given order."""
    half = np.empty(len(labels), bool)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2 == 0  # every other image of each class
    expected = labels.copy()
    for fitted in (half, ~half):
        for label, answer in _assigned(answers[fitted], labels[fitted]).items():
            expected[~fitted & (labels == label)] = answer
    right, given = answers == expected, answers == labels
    won, lost = int((right & ~given).sum()), int((given & ~right).sum())
    moves = expected != labels
    if won <= lost or (luck := _sign_test(won, lost)) > _DOUBTFUL or right[moves].mean() < 0.5:
        return (), 0, 1.0
    moved = {label: answer for label, answer in _assigned(answers, labels).items() if label != answer}
    return tuple(sorted(moved.items())), int(right.sum()), luck


def _assigned(answers: Classes, labels: Classes) -> dict[int, int]:
    """Label -> the answer that fits it best, each answer given once; itself where nothing fits better."""
    from scipy.optimize import linear_sum_assignment

    known = np.unique(np.concatenate([answers, labels]))
    counts = np.zeros((len(known), len(known)))
    np.add.at(counts, (np.searchsorted(known, labels), np.searchsorted(known, answers)), 1)
    counts += 0.5 * np.eye(len(known))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    seen = set(labels.tolist())
    return {int(known[r]): int(known[c]) for r, c in zip(rows, columns, strict=True) if int(known[r]) in seen}


def _sign_test(won: int, lost: int) -> float:
    """Probability of as many wins where both are as likely."""
    from scipy.special import betainc

    return float(betainc(won, lost + 1, 0.5))


def _described(found: Look, names: Sequence[str]) -> str:
    shifts = {(answer - label) % found.classes for label, answer in found.moved}
    if len(shifts) == 1 and len(found.moved) > 2:
        shift = shifts.pop()
        shift = shift - found.classes if shift > found.classes // 2 else shift
        return f"each class is moved by {shift:+d}"
    pairs = [f"'{shown(names[label])}' is answered '{shown(names[answer])}'" for label, answer in found.moved[:_NAMED]]
    rest = len(found.moved) - len(pairs)
    return ", ".join(pairs) + (f" and {rest} more classes are moved" if rest > 0 else "")


def _order_cause(found: Look, names: Sequence[str]) -> str:
    cause = "The likely cause: the classes of the weights are in another order than those of the data"
    if all(name.isascii() and name.isdigit() for name in names) and len({len(name) for name in names}) > 1:
        cause += ", which is the order of their names as text: '10' comes before '2'"
    elif len(found.moved) > 2 and len({(a - b) % found.classes for b, a in found.moved}) == 1:
        cause += ", with a class in front of the others on one side, as a background class is"
    return (
        f"{cause}. Name the class folders so that sorted by name they are in the order of the weights' classes "
        "(000-first, 001-second, ...; [data] labels gives them other names)."
    )


def _weights_cause(is_trained: bool) -> str:
    if is_trained:
        return (
            "The likely cause: the training has not learnt. Look at its loss and accuracy, and give it more "
            "[train] epochs or another learning_rate."
        )
    return (
        "The likely cause: weights of another model, of other classes, or none at all behind the names; or images that "
        "are prepared otherwise than for the training. Compare [weights], [data] mean and std, and the class folders "
        "with what the weights were trained on."
    )
