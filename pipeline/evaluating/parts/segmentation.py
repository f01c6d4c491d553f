"""Of masks: the pixels that are answered as by the float32 artifact, image by image, and mIoU where masks lie beside the images.

Of each image and class the pixels are kept that truth and answer give it, so that mIoU over all images and without each of them comes of two
passes, a shard in memory at a time.
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

from ...data import ImageFile, Seen, mask_in_input, paired
from ...errors import DataError
from ...parity import Counted, Counts, Values
from ...tasks import Pixels, Spread, agreement_of, masks_of, miou_drop_of, own_iou, pixels
from . import Group, Known, Nearness, entries_of, file_marks

if TYPE_CHECKING:
    from ..planning import Plan
    from . import Kept, Shards

SAME = 0.99
"""Of an image's pixels, from which on two artifacts answer it alike: those on the edge of things turn by a hair."""


@dataclass(frozen=True)
class _Right:
    """The file of each image's mask."""

    masks: tuple[ImageFile, ...]

    def part(self, numbers: Sequence[int]) -> _Right:
        return _Right(tuple(self.masks[n] for n in numbers))

    def key(self) -> bytes:
        return hashlib.sha256(repr(file_marks(self.masks)).encode(errors="surrogateescape")).digest()


def known(data: Path, names: Sequence[str], naming: Path | None, *, skips_damaged: bool) -> Known:
    entries_of(names, naming)
    try:
        pairs = paired(data, "--data")
    except DataError as error:
        raise DataError(
            str(error).replace("Images without masks, for given weights: data.source = 'images'", "Without masks: --unlabelled")
        ) from error  # fmt: skip
    return Known.of(pairs.there, _Right(tuple(pairs.masks[file.name] for file in pairs.there.files)))


def right_of(plan: Plan, number: int, seen: Seen) -> NDArray[np.uint8] | None:
    """``(height, width)`` uint8, the class of each pixel of the input, 255 where none is counted."""
    if plan.right is None:
        return None
    mask: ImageFile = plan.right.masks[number]  # type: ignore[attr-defined]
    try:
        found, _ = mask_in_input(mask, plan.files[number], seen, plan.size, plan.how, len(plan.names))
    except DataError as error:
        told = str(error).replace("Name all classes in data.labels, in the order of their numbers, or give", "Give")
        raise type(error)(told) from error
    return found


def kept(outputs: Sequence[Values], plan: Plan, right: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """``alike`` ``(artifacts, n)``, the share of pixels that are the reference's. Where masks are known, the pixels of each class: ``truth`` ``(n, C)``,
    and of each artifact ``answer`` and ``both`` ``(artifacts, n, C)``; and ``iou`` ``(artifacts, n)``, the mIoU of each image by itself."""
    masks = [masks_of(one.reshape(len(one), *plan.outputs[0].shape), plan.size) for one in outputs]

    def alike(one: int, other: int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (masks[one] == masks[other]).reshape(len(masks[one]), -1).mean(1)
        return found

    own = [alike(n if one.reference is None else one.reference, n) for n, one in enumerate(plan.artifacts)]
    same = [alike(one, other) >= SAME for one, other in plan.pairs]
    result = {"alike": np.array(own), "same": np.array(same, bool).reshape(-1, len(outputs[0]))}
    if plan.right is None:
        return result
    truth, classes = np.stack(right), len(plan.names)
    counted = [pixels(one, truth, classes) for one in masks]
    return result | {
        "truth": counted[0].truth.astype(np.int32),
        "answer": np.array([one.answer for one in counted], np.int32),
        "both": np.array([one.both for one in counted], np.int32),
        "iou": np.array([own_iou(one) for one in counted], np.float32),
    }


@dataclass(kw_only=True)
class _Counting(Nearness):
    """Images, and of each artifact the sum over them of the shares of pixels that are alike ``(artifacts,)``."""

    shards: Shards
    alike: NDArray[np.float64]

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        found = {"agreement": agreement_of(self.images, float(self.alike[artifact]))}
        reference = self.plan.artifacts[artifact].reference
        if self.plan.right is None or reference is None:
            return found
        return found | {"miou_drop": miou_drop_of(self._spreads[reference], self._spreads[artifact])}

    @property
    def shares(self) -> list[dict[str, Counted]]:
        if self.plan.right is None:
            return super().shares
        return [{"mIoU": spread.counted} for spread in self._spreads]

    @property
    def groups(self) -> list[Group]:
        if self.plan.right is None:
            return []
        totals = np.sum([shard["truth"].sum(0, dtype=np.int64) for shard in self.shards()], axis=0)
        return [
            Group(name=name, count=int(totals[n]), of="pixels", shares=tuple(self._iou(spread, n) for spread in self._spreads))
            for n, name in enumerate(self.plan.names)
            if totals[n]
        ]  # fmt: skip

    def _iou(self, spread: Spread, number: int) -> Counted:
        value, half = float(spread.classes[number]), float(spread.halves[number])
        bounds = max(value - half, 0.0), min(value + half, 1.0)
        return value, Counts(images=self.images, kept=self.images, lost=0, won=0, low=bounds[0], high=bounds[1])

    @cached_property
    def _spreads(self) -> list[Spread]:
        return [Spread.of(lambda n=n: self._pixels(n)) for n in range(len(self.plan.artifacts))]  # type: ignore[misc]

    def _pixels(self, artifact: int) -> Iterator[Pixels]:
        for shard in self.shards():
            counted = shard["both"][artifact], shard["truth"], shard["answer"][artifact]
            yield Pixels(*(one.astype(np.int64) for one in counted))


def counting(plan: Plan, shards: Shards) -> _Counting:
    alike, images, counted = np.zeros(len(plan.artifacts)), 0, 0
    for shard in shards():
        images += len(shard["index"])
        alike += shard["alike"].sum(1)
        counted += 0 if plan.right is None else int(shard["truth"].sum(dtype=np.int64))
    if plan.right is not None and images and not counted:
        raise DataError(
            f"no pixel of {images:,} images is counted: their masks hold 255 alone. Write the numbers of classes, from 0 on, into them, or leave them out with "
            "--unlabelled."
        )
    return _Counting(plan=plan, images=images, shards=shards, alike=alike)


def columns(kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
    found = {"alike": kept["alike"][artifact]}
    return found | ({"iou": kept["iou"][artifact]} if plan.right is not None else {})


def said(kept: Mapping[str, NDArray[Any]], place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
    told = f"{100 * float(kept['alike'][artifact, place]):.2f} % of the pixels alike"
    if plan.right is not None:
        told += f", mIoU {100 * float(kept['iou'][artifact, place]):.1f} %"
    return told, None
