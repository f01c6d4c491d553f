"""Of boxes: those that apps are shown, and which of them the float32 artifact shows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Gathered
from ...errors import DataError
from ...parity import Counted, Values
from ...program import parts
from ...tasks import Boxes, Form, decode, same_in_each, same_of
from . import Nearness

if TYPE_CHECKING:
    from ..planning import Plan
    from . import Kept, Shards


def truth_of(there: Gathered, names: Sequence[str], naming: Path | None) -> tuple[NDArray[np.int64], list[str]]:
    raise DataError(
        "boxes beside images are not read here: add --unlabelled, which counts the boxes that the float32 artifact shows too"
    )


def kept(outputs: Sequence[Values], plan: Plan) -> dict[str, NDArray[Any]]:
    """``shown`` and ``pairs`` ``(artifacts, n)``: boxes of an image, and those of them that are the reference's."""
    form, slices = Form.of(plan.described["boxes"]), parts(plan.outputs)
    found = [Boxes.of([decode([image[part] for part in slices], form) for image in one]) for one in outputs]
    shown = np.array([np.bincount(one.images, minlength=one.count) for one in found])
    own = [
        shown[n] if one.reference is None else same_in_each(found[one.reference], found[n])
        for n, one in enumerate(plan.artifacts)
    ]
    same = [
        (shown[one] == shown[other]) & (same_in_each(found[one], found[other]) == shown[one])
        for one, other in plan.pairs
    ]
    return {"shown": shown, "pairs": np.array(own), "same": np.array(same, bool).reshape(-1, len(outputs[0]))}


@dataclass(kw_only=True)
class _Counting(Nearness):
    """Of each artifact sums over images ``(artifacts, 3)``: boxes that it or its reference shows, their squares, and those that are in pairs."""

    sums: NDArray[np.int64]

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        boxes, squares, pairs = self.sums[artifact].tolist()
        return {"same_boxes": same_of(boxes, squares, pairs, self.images)}


def counting(plan: Plan, shards: Shards) -> _Counting:
    sums, images = np.zeros((len(plan.artifacts), 3), np.int64), 0
    for shard in shards():
        images += len(shard["index"])
        for number, one in enumerate(plan.artifacts):
            if one.reference is not None:
                both = shard["shown"][number] + shard["shown"][one.reference]
                sums[number] += [both.sum(), np.square(both).sum(), 2 * shard["pairs"][number].sum()]
    return _Counting(plan=plan, images=images, sums=sums)


def columns(kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
    return {"boxes": kept["shown"][artifact], "same_boxes": kept["pairs"][artifact]}


def said(kept: Mapping[str, NDArray[Any]], place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
    return f"{int(kept['shown'][artifact, place])} boxes, {int(kept['pairs'][artifact, place])} the same", None
