"""Of a classifier: its five first classes, counted with their intervals, by class, and against the float32 artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Seen, gathered
from ...errors import DataError
from ...parity import Counted, Values, drop_of, share_of
from ...tasks import matched
from . import Group, Known, entries_of

if TYPE_CHECKING:
    from ..planning import Plan
    from . import Kept, Shards

FIRST = 5


def known(data: Path, names: Sequence[str], naming: Path | None, *, skips_damaged: bool) -> Known:
    there = gathered(data, is_sorted=True, setting="--data")
    entries, where = entries_of(names, naming)
    try:
        numbers, notes = matched(there.known, entries)
    except DataError as error:
        raise DataError(str(error).replace("data.labels", where)) from error
    by_word = dict(zip(there.known, numbers, strict=True))
    truth = np.array([by_word.get(word, -1) for word in there.words], np.int64)
    return Known(there=there, truth=truth, notes=tuple(note.replace("data.labels", where) for note in notes))


def right_of(plan: Plan, number: int, seen: Seen) -> None:
    return None


def kept(outputs: Sequence[Values], plan: Plan, right: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """``top`` ``(artifacts, n, 5)`` classes from the highest on, of equal ones the first; ``probability`` ``(artifacts, n)`` of the first. Of
    outputs that are not finite -1."""
    top, sure = [], []
    for scores in (one.astype(np.float64) for one in outputs):
        is_whole = np.isfinite(scores).all(1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :FIRST]
        order[~is_whole] = -1
        with np.errstate(all="ignore"):
            sure.append(np.where(is_whole, 1 / np.exp(scores - scores.max(1, keepdims=True)).sum(1), np.nan))
        top.append(order.astype(np.int32))
    first = [one[:, 0] for one in top]
    return {
        "top": np.stack(top),
        "probability": np.stack(sure).astype(np.float32),
        "same": np.array([(first[a] == first[b]) & (first[a] >= 0) for a, b in plan.pairs], bool).reshape(
            -1, len(top[0])
        ),
    }


@dataclass(kw_only=True)
class _Counting:
    """Sums over shards.

    Attributes:
        same: ``(artifacts, artifacts)`` images with the same first class.
        right: ``(artifacts, classes)`` images whose first class is right.
        in_first: ``(artifacts,)`` images of whose five first classes one is right.
        paired: ``(artifacts, 3)`` right by both, by the reference alone, by the artifact alone.
        of_class: ``(classes,)`` images.
    """

    plan: Plan
    images: int
    same: NDArray[np.int64]
    right: NDArray[np.int64]
    in_first: NDArray[np.int64]
    paired: NDArray[np.int64]
    of_class: NDArray[np.int64]

    @property
    def has_truth(self) -> bool:
        return bool(self.of_class.sum())

    @property
    def shares(self) -> list[dict[str, Counted]]:
        if not self.has_truth:
            return [{} for _ in self.plan.artifacts]
        known = int(self.of_class.sum())
        return [
            {"top-1": share_of(known, int(self.right[n].sum())), f"top-{FIRST}": share_of(known, int(self.in_first[n]))}
            for n in range(len(self.plan.artifacts))
        ]

    @property
    def counted(self) -> list[dict[str, Counted]]:
        return [self._against(n, one.reference) for n, one in enumerate(self.plan.artifacts)]

    def _against(self, number: int, reference: int | None) -> dict[str, Counted]:
        if reference is None or reference == number:
            return {}
        found = {"agreement": share_of(self.images, int(self.same[number, reference]))}
        if self.has_truth:
            both, lost, won = map(int, self.paired[number])
            found["accuracy_drop"] = drop_of(int(self.of_class.sum()), kept=both, lost=lost, won=won)
        return found

    @property
    def groups(self) -> list[Group]:
        return [
            Group(
                name=self.plan.names[n],
                count=int(self.of_class[n]),
                of="images",
                shares=tuple(share_of(int(self.of_class[n]), right) for right in self.right[:, n].tolist()),
            )
            for n in np.flatnonzero(self.of_class)
        ]


def counting(plan: Plan, shards: Shards) -> _Counting:
    count, classes = len(plan.artifacts), len(plan.names)
    same, right = np.zeros((count, count), np.int64), np.zeros((count, classes), np.int64)
    in_first, paired = np.zeros(count, np.int64), np.zeros((count, 3), np.int64)
    of_class, images = np.zeros(classes, np.int64), 0
    for shard in shards():
        images += len(shard["index"])
        for number, (a, b) in enumerate(plan.pairs):
            same[a, b] += int(shard["same"][number].sum())
            same[b, a] = same[a, b]
        truth = plan.truth[shard["index"]]
        known, truth = truth >= 0, truth[truth >= 0]
        of_class += np.bincount(truth, minlength=classes)
        is_right = shard["top"][:, known, 0] == truth
        for number, one in enumerate(plan.artifacts):
            right[number] += np.bincount(truth[is_right[number]], minlength=classes)
            in_first[number] += int((shard["top"][number, known] == truth[:, None]).any(1).sum())
            if one.reference is not None:
                own, other = is_right[number], is_right[one.reference]
                paired[number] += [int((own & other).sum()), int((other & ~own).sum()), int((own & ~other).sum())]
    return _Counting(
        plan=plan, images=images, same=same, right=right, in_first=in_first, paired=paired, of_class=of_class
    )


def columns(kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
    truth, top = plan.truth[kept["index"]], kept["top"][artifact]
    found: dict[str, Any] = {
        "answer": _named(top[:, 0], plan),
        "probability": kept["probability"][artifact],
        "first": [_named(row, plan) for row in top],
    }
    if (plan.truth >= 0).any():
        found |= {
            "truth": _named(truth, plan),
            "is_right": top[:, 0] == truth,
            "is_in_first": (top == truth[:, None]).any(1),
        }
    return found


def _named(numbers: NDArray[Any], plan: Plan) -> list[str | None]:
    return [plan.names[n] if n >= 0 else None for n in numbers.tolist()]


def said(kept: Mapping[str, NDArray[Any]], place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
    answer, right = int(kept["top"][artifact, place, 0]), int(plan.truth[kept["index"][place]])
    if answer < 0:
        return "nothing finite", False
    sure = f"{plan.names[answer]}, {100 * float(kept['probability'][artifact, place]):.0f} %"
    return sure, None if right < 0 else answer == right
