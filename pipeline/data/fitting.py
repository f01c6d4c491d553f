"""Files of images, decoded and fitted to a model's input; those that are damaged, all of them, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..rows import Lines
from .decoding import Read, Seen, decode
from .files import ImageFile
from .images import DamagedImage, decoded
from .pixels import Fit, fit

MOST_ENLARGED = 4
"""Times that a side may grow to the input's without a word: a thumbnail, or an icon, is no photograph."""
ENLARGED = f"enlarged more than {MOST_ENLARGED} times"
SHOWN = 20
"""Names that an error or a table has at most."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What became of files.

    Attributes:
        images: ``(N, H, W, 3)`` uint8 RGB of those that could be read, in their order.
        kept: ``(files,)``, which those are.
        damaged: names of the others.
        why: the error of the first of these; empty where there is none.
        said: how many images were changed while they were read, by what was done.
        seen: ``(N, 3)`` int64: height and width that each had upright, and the orientation in which it is stored, as EXIF numbers it.
    """

    images: Lines
    kept: NDArray[np.bool_]
    damaged: tuple[str, ...]
    said: Counter[str]
    seen: NDArray[np.int64]
    why: str = ""

    def without(self, left_out: NDArray[np.bool_], damaged: Sequence[str], said: Counter[str]) -> Fitted:
        """Less some of the images, ``(N,)``, for what belongs to them could not be read.

        Args:
            damaged: names of what could not.
            said: what was done to read the rest of it.
        """
        kept = self.kept.copy()
        kept[np.flatnonzero(self.kept)[left_out]] = False
        return Fitted(
            images=self.images[~left_out] if left_out.any() else self.images,
            kept=kept,
            damaged=(*self.damaged, *damaged),
            said=self.said + said,
            seen=self.seen[~left_out],
            why=self.why,
        )


def fitted(
    files: Sequence[ImageFile],
    size: tuple[int, int],
    how: Fit = "crop",
    *,
    skips_damaged: bool = False,
    read: Read | None = None,
) -> Fitted:
    """Images at the size of a model's input.

    Args:
        read: gives something else that belongs to each file, at this size; by default the pixels.
        skips_damaged: pass over those that cannot be decoded. Those that are not read by a rule are an error all the same.

    Raises:
        DataError: naming all files that cannot be read.
    """
    found = decode(files, size, read or partial(_pixels, size, how))
    kept = np.ones(len(files), bool)
    kept[list(found.errors)] = False
    damaged: dict[str, DataError] = {}
    refused: dict[str, DataError] = {}
    for number, error in found.errors.items():
        (damaged if isinstance(error, DamagedImage) else refused)[str(files[number])] = error
    wrong = refused if skips_damaged else refused | damaged
    if wrong:
        raise _error(wrong, has_damaged=not skips_damaged and bool(damaged))
    images = found.images if kept.all() else found.images[kept]
    why = str(next(iter(damaged.values()), ""))
    return Fitted(images=images, kept=kept, damaged=tuple(damaged), said=found.said, seen=found.seen[kept], why=why)


def none_read(place: str, read: Fitted) -> str:
    """That of all images in a place none can be read, and what is wrong with the first.

    Args:
        place: the setting and what it is set to.
    """
    if not read.damaged:
        return f"{place} is no folder with images that can be read."
    if len(read.damaged) == 1:
        return f"{place} has one image, which is damaged: {read.why}"
    return f"{place} has {len(read.damaged):,} images, and all are damaged. The first: {read.why}"


def _pixels(size: tuple[int, int], how: Fit, file: ImageFile) -> tuple[NDArray[np.uint8], tuple[str, ...], Seen]:
    found = decoded(file)
    height, width = found.pixels.shape[:2]
    scale = (max if how == "crop" else min)(size[0] / height, size[1] / width)
    said = (*found.said, *([ENLARGED] if scale > MOST_ENLARGED else []))
    return fit(found.pixels, *size, how), said, (height, width, found.orientation)


def _error(wrong: dict[str, DataError], *, has_damaged: bool) -> DataError:
    """One error for all: the first in full, the others by name."""
    first, *others = wrong
    text = str(wrong[first])
    if others:
        rest = len(others) - (SHOWN - 1)
        names = ", ".join(f"'{name}'" for name in others[: SHOWN - 1]) + (f" and {rest:,} more" if rest > 0 else "")
        text = f"{len(wrong):,} images cannot be read. The first: {text} The others: {names}."
    if has_damaged:
        text += " data.skip_damaged = true passes over damaged ones."
    return DataError(text)
