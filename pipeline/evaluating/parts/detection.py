"""Of boxes: those that apps are shown, which of them the float32 artifact shows too, and average precision where boxes are known to be right.

Which boxes are right is told image by image, and precision over all of them: in memory are a score, a class and ten bits for each box of one
artifact and of its reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Seen
from ...errors import DataError
from ...parity import Counted, Counts, Values
from ...tasks import (
    Annotated,
    Boxes,
    Curves,
    Form,
    Judged,
    Precisions,
    annotated,
    averages,
    boxes_in,
    boxes_in_input,
    drops_of,
    found_of,
    gathered_of,
    is_found,
    loose,
    numbered,
    same_in_each,
    same_of,
)
from . import Group, Known, Nearness, entries_of

if TYPE_CHECKING:
    from ..planning import Plan
    from . import Kept, Shards


@dataclass(frozen=True)
class _Right:
    """What annotations say, with the model's own classes."""

    said: Annotated

    def part(self, numbers: Sequence[int]) -> _Right:
        return _Right(self.said.part(numbers))

    def key(self) -> bytes:
        found = hashlib.sha256(self.said.sizes.tobytes())
        for boxes in self.said.boxes:
            found.update(repr(boxes.shape).encode() + boxes.tobytes())
        return found.digest()


def known(data: Path, names: Sequence[str], naming: Path | None, *, skips_damaged: bool) -> Known:
    try:
        said = annotated(data, skips_missing=skips_damaged, are_named=True, setting="--data")
    except DataError as error:
        raise DataError(str(error).replace("data.skip_damaged = true", "--skip-damaged")) from error
    entries, where = entries_of(names, naming)
    try:
        numbers, notes = numbered(said.names, entries)
    except DataError as error:
        raise DataError(str(error).replace("data.labels", where)) from error
    told = [f"{what}: {count:,}" for what, count in sorted(said.said.items())]
    right = _Right(said.renumbered(numbers, names))
    return Known.of(
        gathered_of(said), right, [*said.notes, *(note.replace("data.labels", where) for note in notes), *told]
    )


def right_of(plan: Plan, number: int, seen: Seen) -> NDArray[np.float32] | None:
    """``(boxes, 5)`` float32, as `Boxes.right` takes it."""
    if plan.right is None:
        return None
    said: Annotated = plan.right.said  # type: ignore[attr-defined]
    found, _ = boxes_in_input(said, np.array([number]), np.array([seen]), plan.size, plan.how)
    rows: NDArray[np.float32] = found[0]
    return rows


def kept(outputs: Sequence[Values], plan: Plan, right: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """``shown`` and ``pairs`` ``(artifacts, n)``: boxes of an image, and those of them that are the reference's. Where boxes are known to be
    right, their ``right_classes`` and ``right_images``, which of them each artifact shows, ``is_found`` ``(artifacts, right)``, and of the boxes that average
    precision looks at ``scores-0``, ``classes-0``, ``images-0`` and ``is_right-0``, and so on for each artifact."""
    form = _form(plan)
    found = [boxes_in(one, form, plan.outputs) for one in outputs]
    shown = np.array([np.bincount(one.images, minlength=one.count) for one in found])
    own = [
        shown[n] if one.reference is None else same_in_each(found[one.reference], found[n])
        for n, one in enumerate(plan.artifacts)
    ]
    same = [
        (shown[one] == shown[other]) & (same_in_each(found[one], found[other]) == shown[one])
        for one, other in plan.pairs
    ]
    result = {"shown": shown, "pairs": np.array(own), "same": np.array(same, bool).reshape(-1, len(outputs[0]))}
    if plan.right is None:
        return result
    truth = Boxes.right(_padded(right))
    result |= {"right_classes": truth.classes.astype(np.int32), "right_images": truth.images.astype(np.int32)}
    result["is_found"] = np.array([is_found(boxes, truth) for boxes in found], bool).reshape(len(found), -1)
    for n, one in enumerate(outputs):
        judged = Judged.of(boxes_in(one, loose(form), plan.outputs), truth)
        result |= {
            f"scores-{n}": judged.scores,
            f"classes-{n}": judged.classes.astype(np.int32),
            f"images-{n}": judged.images.astype(np.int32),
            f"is_right-{n}": judged.is_right,
        }
    return result


def _form(plan: Plan) -> Form:
    return Form.of(plan.described["boxes"])


def _padded(right: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """``(N, most, 5)``, -1 in rows that are none."""
    found = np.full((len(right), max(1, *map(len, right)), 5), -1, np.float32)
    for row, boxes in zip(found, right, strict=True):
        row[: len(boxes)] = boxes
    return found


@dataclass(kw_only=True)
class _Counting(Nearness):
    """Of each artifact sums over images ``(artifacts, 3)``: boxes that it or its reference shows, their squares, and those that are in pairs.

    Attributes:
        right: of each class, ``(classes, 2)``: boxes that are right, and the sum over images of the squares of their number.
        found: of each artifact and class the right boxes that it shows, ``(artifacts, classes)``.
    """

    shards: Shards
    sums: NDArray[np.int64]
    right: NDArray[np.int64]
    found: NDArray[np.int64]

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        boxes, squares, pairs = self.sums[artifact].tolist()
        found = {"same_boxes": same_of(boxes, squares, pairs, self.images)}
        reference = self.plan.artifacts[artifact].reference
        if self.plan.right is None or reference is None:
            return found
        counts = self._found_by(reference, artifact)
        return found | drops_of(self._precisions[reference], self._precisions[artifact], counts)

    @property
    def shares(self) -> list[dict[str, Counted]]:
        if self.plan.right is None:
            return super().shares
        return [averages(found, self._found_by(n, n)) for n, found in enumerate(self._precisions)]

    @property
    def groups(self) -> list[Group]:
        return [
            Group(
                name=self.plan.names[n],
                count=int(total),
                of="boxes",
                shares=tuple(same_of(int(total), int(squares), int(count), self.images) for count in self.found[:, n]),
            )
            for n, (total, squares) in enumerate(self.right)
            if total
        ]

    def _found_by(self, one: int, other: int) -> Counts:
        parts = [(shard["is_found"][one], shard["is_found"][other]) for shard in self.shards()]
        both = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return found_of(both[0], both[1], self.images)

    @cached_property
    def _precisions(self) -> list[Precisions]:
        """Of each artifact: one at a time, for its boxes are many."""
        return [Precisions.of(Curves.joined(list(_judged(self.shards(), n)))) for n in range(len(self.plan.artifacts))]


def _judged(shards: Iterator[Kept], artifact: int) -> Iterator[Judged]:
    for shard in shards:
        yield Judged(
            is_right=shard[f"is_right-{artifact}"],
            classes=shard[f"classes-{artifact}"],
            scores=shard[f"scores-{artifact}"],
            images=shard[f"images-{artifact}"],
            right_images=shard["right_images"],
            right_classes=shard["right_classes"],
            count=len(shard["index"]),
        )


def counting(plan: Plan, shards: Shards) -> _Counting:
    count, classes = len(plan.artifacts), len(plan.names)
    sums, images = np.zeros((count, 3), np.int64), 0
    right, found = np.zeros((classes, 2), np.int64), np.zeros((count, classes), np.int64)
    for shard in shards():
        images += len(shard["index"])
        for number, one in enumerate(plan.artifacts):
            if one.reference is not None:
                both = shard["shown"][number] + shard["shown"][one.reference]
                sums[number] += [both.sum(), np.square(both).sum(), 2 * shard["pairs"][number].sum()]
            if plan.right is not None:
                of = shard["right_classes"][shard["is_found"][number]]
                found[number] += np.bincount(of, minlength=classes)
        if plan.right is not None:
            each = np.zeros((len(shard["index"]), classes), np.int64)
            np.add.at(each, (shard["right_images"], shard["right_classes"]), 1)
            right += np.stack([each.sum(0), np.square(each).sum(0)], 1)
    return _Counting(plan=plan, images=images, shards=shards, sums=sums, right=right, found=found)


def columns(kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
    found = {"boxes": kept["shown"][artifact], "same_boxes": kept["pairs"][artifact]}
    if plan.right is not None:
        count = len(kept["index"])
        found["right_boxes"] = np.bincount(kept["right_images"], minlength=count)
        found["found_boxes"] = np.bincount(kept["right_images"][kept["is_found"][artifact]], minlength=count)
    return found


def said(kept: Mapping[str, NDArray[Any]], place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
    told = f"{int(kept['shown'][artifact, place])} boxes, {int(kept['pairs'][artifact, place])} the same"
    if plan.right is not None:
        is_here = kept["right_images"] == place
        told += f", {int((kept['is_found'][artifact] & is_here).sum())} of {int(is_here.sum())} right ones found"
    return told, None
