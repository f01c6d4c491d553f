"""Images and the boxes that strangers' annotations put into them, before any image is read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...data import SETS, ImageFile
from ...errors import DataError
from ...reading import quoted, shown

Box = tuple[int, float, float, float, float]
"""Class, left, top, right, bottom."""

_SHOWN = 10
_SPEAK = 5
"""Boxes that speak for another order of their numbers; fewer may be so by chance."""
_SLACK, _OVER = 0.01, 0.25
"""Of a side, by which rounding may bring a box over the edge; and the share of boxes over it that is no accident."""


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """What annotations say.

    Attributes:
        files: of the images.
        sets: ``train``, ``val`` or ``test`` of each; empty where nothing says so.
        sizes: ``(N, 2)`` int64, the height and width that boxes of each are said in; 0 where they are shares of the image.
        boxes: of each image, ``(n, 5)`` float64: class, left, top, right, bottom.
        names: of the classes.
        places: where the images are from, in words, by set.
        passed: how many files and boxes are passed over, by what they are.
        said: how often something else is to be told of them, by what it is.
        notes: what else there is to be said, a line each.
    """

    files: tuple[ImageFile, ...]
    sets: tuple[str, ...]
    sizes: NDArray[np.int64]
    boxes: tuple[NDArray[np.float64], ...]
    names: tuple[str, ...]
    places: Mapping[str, str]
    passed: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def part(self, numbers: Sequence[int]) -> Annotated:
        """Some of the images."""
        return replace(
            self,
            files=tuple(self.files[n] for n in numbers),
            sets=tuple(self.sets[n] for n in numbers),
            sizes=self.sizes[list(numbers)],
            boxes=tuple(self.boxes[n] for n in numbers),
        )

    def renumbered(self, numbers: Sequence[int], names: Sequence[str]) -> Annotated:
        """With the classes as a model's outputs have them.

        Args:
            numbers: the output of each of `names` as they are now.
        """
        of = np.array(numbers, np.float64)
        boxes = [np.concatenate([of[one[:, :1].astype(int)], one[:, 1:]], 1) for one in self.boxes]
        return replace(self, boxes=tuple(boxes), names=tuple(names))


def set_of(*words: str) -> str:
    """The set that the first of these names speaks of, ``instances_val2017`` for example; empty where none does."""
    for word in words:
        found = {SETS[part] for part in re.split(r"[\W\d_]+", word.lower()) if part in SETS}
        if len(found) == 1:
            return found.pop()
    return ""


class Images:
    """Image files by the names that annotations give them."""

    def __init__(self, files: Sequence[ImageFile]) -> None:
        self._by_name = {file.name: file for file in files}
        self._by_last: dict[str, list[ImageFile]] = defaultdict(list)
        for file in files:
            self._by_last[PurePosixPath(file.name).name].append(file)

    def named(self, name: str, folder: str, own_set: str) -> ImageFile | None:
        """The file: from the annotations' own folder on, from the root on, or whatever ends in this name alone, in the annotations' own set
        where there are several; None where there is none."""
        path = PurePosixPath(name.replace("\\", "/"))
        for tried in (PurePosixPath(folder) / path, path):
            if (file := self._by_name.get(str(tried))) is not None:
                return file
        parts = path.parts
        there = self._by_last.get(path.name, [])
        for count in range(len(parts), 0, -1):
            ending = [file for file in there if file.parts[-count:] == parts[-count:]]
            if len(ending) == 1:
                return ending[0]
            if len(ending) > 1:
                own = [file for file in ending if set_of(*file.parts[:-1][::-1]) == own_set]
                return own[0] if len(own) == 1 else None
        return None

    def missed(self, name: str) -> str:
        """Why `named` gives None, for a message."""
        last = PurePosixPath(name.replace("\\", "/")).name
        if there := self._by_last.get(last, []):
            return f"several images end in '{shown(name, 100)}': {quoted([shown(file.name, 100) for file in there], 3)}; write more of its path"
        alike = self._by_small.get(last.casefold())
        return f"no image '{shown(name, 100)}'" + (
            f" (but for capitals: '{shown(alike.name, 100)}')" if alike is not None else ""
        )

    @cached_property
    def _by_small(self) -> dict[str, ImageFile]:
        return {name.casefold(): files[0] for name, files in self._by_last.items()}


def corners_instead(numbers: NDArray[np.float64], boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> int:
    """How many boxes reach over the edge of their image, where their numbers speak for corners: 0 where they do not.

    Numbers that are left, top, right and bottom, read as something with a size in it, give boxes that begin inside of the image and end outside. Right ones
    end outside seldom, and hardly ever is every one of them wider than it is far from the left edge, and higher than from the top.

    Args:
        numbers: ``(n, 4)``, as they are written.
        boxes: ``(n, 4)``: left, top, right, bottom, as they are read.
        sizes: ``(n, 2)``: width and height of the image of each.
    """
    slack = _SLACK * sizes
    over = ((boxes[:, :2] < -slack) | (boxes[:, 2:] > sizes + slack)).any(1)
    are_corners = (numbers[:, 2:] > numbers[:, :2]) & (numbers[:, :2] >= -slack) & (numbers[:, 2:] <= sizes + slack)
    if len(numbers) < _SPEAK or not are_corners.all() or over.mean() < _OVER:
        return 0
    return int(over.sum())


def refuse(where: object, wrong: Sequence[str], advice: str) -> None:
    """Raise a DataError where anything is wrong, with the first of it."""
    if wrong:
        more = f"; and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise DataError(f"'{where}': {'; '.join(map(shown, wrong[:_SHOWN]))}{more}. {advice}")


def table(rows: Sequence[Box]) -> NDArray[np.float64]:
    """``(n, 5)`` float64."""
    return np.array(rows, np.float64).reshape(-1, 5)


def within(boxes: NDArray[np.float64], height: float, width: float, passed: Counter[str]) -> NDArray[np.float64]:
    """Boxes cut at the edge of their image; those of no area, outside, and there twice are counted and left out."""
    is_flat = (boxes[:, 3] <= boxes[:, 1]) | (boxes[:, 4] <= boxes[:, 2])
    passed["box of no area"] += int(is_flat.sum())
    boxes = boxes[~is_flat]
    cut = boxes.copy()
    cut[:, 1::2] = boxes[:, 1::2].clip(0, width)
    cut[:, 2::2] = boxes[:, 2::2].clip(0, height)
    is_outside = (cut[:, 3] <= cut[:, 1]) | (cut[:, 4] <= cut[:, 2])
    passed["box outside of its image"] += int(is_outside.sum())
    cut = cut[~is_outside]
    _, first = np.unique(cut, axis=0, return_index=True)
    passed["box that is there twice"] += len(cut) - len(first)
    return cut[np.sort(first)]
