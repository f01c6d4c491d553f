"""The sets: training, calibration and held-out images, with what is right of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rows
from ..config import Config
from ..errors import DataError
from ..rows import Lines, hashes_of
from . import beside
from .files import ImageFile
from .samples import Images, Samples


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images ``(N, H, W, 3)`` uint8 RGB and what is right of each, ``(N, ...)``, whose meaning is the task's.

    Attributes:
        tensors: float32 ``(N, ...)``, what the model is given beside each image, one for each further input.
    """

    images: Lines
    truth: NDArray[Any]
    tensors: tuple[NDArray[np.float32], ...] = ()

    @property
    def inputs(self) -> Images:
        """What a model is called with: the images as RGBA, and what belongs to them; made batch by batch."""
        return Samples(self.images, self.tensors)

    def part(self, chosen: Any) -> Split:
        """Some of it: a slice, indices, or a mask."""
        return Split(
            images=self.images[chosen], truth=self.truth[chosen], tensors=tuple(one[chosen] for one in self.tensors)
        )

    def digest(self) -> str:
        """SHA-256 of the shape, the pixels, the tensors and the truth."""
        content = hashlib.sha256(repr(self.images.shape).encode())
        for part in rows.parts(self.images):
            content.update(np.ascontiguousarray(part).data)
        for tensor in self.tensors:
            content.update(np.ascontiguousarray(tensor, "<f4").tobytes())
        content.update(np.ascontiguousarray(self.truth.astype(self.truth.dtype.newbyteorder("<"))).tobytes())
        return content.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The three sets.

    Attributes:
        names: of what the outputs stand for, in their order.
        notes: what is to be said of the data, one line each.
        taken: what was taken from where, and what was not: pairs of words.
        places: where the images of each set are from, in words.
    """

    train: Split
    calibration: Split
    held_out: Split
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    taken: tuple[tuple[str, str], ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


def split(
    images: Lines,
    truth: NDArray[Any],
    names: tuple[str, ...],
    config: Config,
    groups: NDArray[np.int64],
    files: Sequence[ImageFile] = (),
) -> Dataset:
    """Held-out first, then calibration, the rest for training; equal images always fall into the same set, so that a
    duplicate cannot leak from calibration into held-out.

    Args:
        images: ``(N, H, W, 3)`` uint8 RGB.
        truth: ``(N, ...)``.
        names: of what the outputs stand for.
        groups: ``(N,)``; each is split in the same shares.
        files: of the images, where they are in files; tensors may lie beside them.

    Raises:
        DataError: a set would be empty.
    """
    hashes = hashes_of(images)
    known = np.unique(groups)
    per_group = max(1, round(config.data.calibration / len(known)))
    sets: tuple[list[int], list[int], list[int]] = ([], [], [])
    seen: dict[str, int] = {}
    random = np.random.default_rng(config.data.seed)
    for group in known:
        order = np.flatnonzero(groups == group)
        random.shuffle(order)
        held, calibration = _shares(len(order), per_group, config)
        for position, index in enumerate(order):
            wanted = 0 if position < held else 1 if position < held + calibration else 2
            sets[seen.setdefault(str(hashes[index]), wanted)].append(int(index))
    whole = Split(images=images, truth=truth, tensors=beside.tensors_of(files, len(images), config))
    doubtful = ambiguous(hashes, truth)
    held_out, calibrated, train = sets
    if not calibrated:  # no group has three images
        calibrated, train = train[::2], train[1::2]
    parts = {
        "held-out": whole.part(sorted(held_out)),
        "calibration": whole.part(sorted(calibrated)),
        "training": whole.part(sorted(index for index in train if not doubtful[index])),
    }
    if not len(parts["training"].images) and doubtful.any():
        raise DataError(none_trained(int(doubtful.sum())))
    for name, part in parts.items():
        if not len(part.images):
            raise DataError(
                f"the {name} set is empty: {len(images)} image{'s are' if len(images) != 1 else ' is'} too few, or they are all equal."
            )
    return Dataset(
        train=parts["training"],
        calibration=parts["calibration"],
        held_out=parts["held-out"],
        names=names,
        notes=(*beside.notes(files, config), *equal_notes(hashes, doubtful)),
    )


def _shares(count: int, most: int, config: Config) -> tuple[int, int]:
    """How many of a group are held out and calibrated on. One image alone is trained on; of two, one."""
    if count < 3:
        return count - 1, 0
    held = max(1, round(count * config.data.held_out_share))
    return held, min(most, max(1, (count - held) // 2))


def ambiguous(hashes: NDArray[np.str_], truth: NDArray[Any]) -> NDArray[np.bool_]:
    """``(N,)``: which images are there with another truth as well."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    rows = truth if truth.ndim == 1 else hashes_of(truth)  # of masks no second copy is made
    differs = rows != rows[first[inverse]]
    return np.isin(inverse, inverse[differs])


def equal_notes(hashes: NDArray[np.str_], doubtful: NDArray[np.bool_]) -> list[str]:
    """What is to be said of images that are there several times."""
    return (
        [
            f"{int(doubtful.sum())} images are the same at the size of the input, and different things are said to be right of them: none of them is "
            "trained on, and those that are held out are counted as they stand."
        ]
        if doubtful.any()
        else []
    )


def none_trained(doubtful: int) -> str:
    """That nothing is left to train on, for images of several classes."""
    return (
        f"the training set is empty: {doubtful} images are the same at the size of the input, and different things are said to be "
        "right of them; such are not trained on. Say of each image the one thing that it shows."
    )


def split_in_two(
    images: Lines,
    truth: NDArray[Any],
    names: tuple[str, ...],
    config: Config,
    tensors: tuple[NDArray[np.float32], ...] = (),
) -> Dataset:
    """Where nothing is trained: calibration images, as many as configured, and all others held out. Equal images always
    fall into the same set. With a calibration set of its own all are held out.

    Raises:
        DataError: a set would be empty.
    """
    keys = hashes_of(images)
    known = list(dict.fromkeys(keys.tolist()))
    np.random.default_rng(config.data.seed).shuffle(known)
    count = min(config.data.calibration, len(known) - max(1, round(len(known) * config.data.held_out_share)))
    chosen = np.isin(keys, known[: 0 if config.data.calibration_path else count])
    if not (~chosen).any() or not (config.data.calibration_path or chosen.any()):
        one = "1 image is" if len(keys) == 1 else f"1 image, {len(keys):,} times, is"
        few = one if len(known) == 1 else f"{len(known)} different images are"
        raise DataError(f"{few} too few: some set the int8 ranges, the others are judged on. Bring more images.")
    whole = Split(images=images, truth=truth, tensors=tensors)
    return Dataset(
        train=whole.part(slice(0)), calibration=whole.part(chosen), held_out=whole.part(~chosen), names=names
    )


def changed_meanwhile(config: Config) -> DataError:
    return DataError(f"'{config.data.path}' changed while it was read. Run the command again when it is at rest.")
