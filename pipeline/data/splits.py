"""The sets: training, calibration and held-out images, with what is right of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from . import beside
from .images import image_files, read_image, rgba
from .pixels import fit
from .samples import Images, with_tensors


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images ``(N, H, W, 3)`` uint8 RGB and what is right of each, ``(N, ...)``, whose meaning is the task's.

    Attributes:
        tensors: float32 ``(N, ...)``, what the model is given beside each image, one for each further input.
    """

    images: NDArray[np.uint8]
    truth: NDArray[Any]
    tensors: tuple[NDArray[np.float32], ...] = ()

    @property
    def inputs(self) -> Images:
        """What a model is called with: the images as RGBA, and what belongs to them."""
        return with_tensors(rgba(self.images), self.tensors)

    def part(self, chosen: Any) -> Split:
        """Some of it: a slice, indices, or a mask."""
        return Split(
            images=self.images[chosen], truth=self.truth[chosen], tensors=tuple(one[chosen] for one in self.tensors)
        )

    def digest(self) -> str:
        """SHA-256 of the shape, the pixels, the tensors and the truth."""
        content = hashlib.sha256(repr(self.images.shape).encode())
        content.update(np.ascontiguousarray(self.images).tobytes())
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
    """

    train: Split
    calibration: Split
    held_out: Split
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def split(
    images: NDArray[np.uint8], truth: NDArray[Any], names: tuple[str, ...], config: Config, groups: NDArray[np.int64]
) -> Dataset:
    """Held-out first, then calibration, the rest for training; equal images always fall into the same set, so that a
    duplicate cannot leak from calibration into held-out.

    Args:
        images: ``(N, H, W, 3)`` uint8 RGB.
        truth: ``(N, ...)``.
        names: of what the outputs stand for.
        groups: ``(N,)``; each is split in the same shares.

    Raises:
        DataError: a set would be empty.
    """
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    known = np.unique(groups)
    per_group = max(1, round(config.data.calibration / len(known)))
    sets: tuple[list[int], list[int], list[int]] = ([], [], [])
    seen: dict[str, int] = {}
    random = np.random.default_rng(config.data.seed)
    for group in known:
        order = np.flatnonzero(groups == group)
        random.shuffle(order)
        held = max(1, round(len(order) * config.data.held_out_share))
        calibration = min(per_group, max(1, (len(order) - held) // 2))
        for position, index in enumerate(order):
            wanted = 0 if position < held else 1 if position < held + calibration else 2
            sets[seen.setdefault(str(hashes[index]), wanted)].append(int(index))
    whole = Split(images=images, truth=truth, tensors=beside.tensors_of([], len(images), config))
    held_out, calibrated, train = (whole.part(sorted(chosen)) for chosen in sets)
    for name, part in (("held-out", held_out), ("calibration", calibrated), ("training", train)):
        if not len(part.images):
            raise DataError(f"the {name} set is empty: {len(images)} images are too few, or they are all equal.")
    return Dataset(train=train, calibration=calibrated, held_out=held_out, names=names, notes=beside.notes([], config))


def split_in_two(
    images: NDArray[np.uint8],
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
    keys = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    known = list(dict.fromkeys(keys.tolist()))
    np.random.default_rng(config.data.seed).shuffle(known)
    count = min(config.data.calibration, len(known) - max(1, round(len(known) * config.data.held_out_share)))
    chosen = np.isin(keys, known[: 0 if config.data.calibration_path else count])
    if not (~chosen).any() or not (config.data.calibration_path or chosen.any()):
        raise DataError(
            f"{len(known)} different images are too few: some set the int8 ranges, the others are judged on."
        )
    whole = Split(images=images, truth=truth, tensors=tensors)
    return Dataset(
        train=whole.part(slice(0)), calibration=whole.part(chosen), held_out=whole.part(~chosen), names=names
    )


def calibrated_on(
    root: Path, found: Dataset, config: Config, truth_of: Callable[[Sequence[Path]], NDArray[Any]]
) -> Dataset:
    """With the images below `root` as calibration set, at most as many as configured, evenly chosen; the calibration
    images of before are for training then.

    Args:
        truth_of: gives what is right of images at paths relative to `root`, as far as it is known.

    Raises:
        DataError: there is none, or one of them is a held-out image too.
    """
    files = image_files(root) if root.is_dir() else []
    if not files:
        raise DataError(f"data.calibration_path '{root}' is no folder with images.")
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(len(files), config.data.calibration)).astype(int)]
    images = np.stack([fit(read_image(file), *config.model.size) for file in chosen])
    known = {image.tobytes() for image in found.held_out.images}
    for file, image in zip(chosen, images, strict=True):
        if image.tobytes() in known:
            raise DataError(
                f"'{file}' is one of the held-out images too: measured on it, int8 would look better than it is. "
                "Calibrate on other images."
            )
    train = Split(
        images=np.concatenate([found.train.images, found.calibration.images]),
        truth=np.concatenate([found.train.truth, found.calibration.truth]),
        tensors=tuple(map(np.concatenate, zip(found.train.tensors, found.calibration.tensors, strict=True))),
    )
    calibration = Split(
        images=images,
        truth=truth_of([Path(file.name) for file in chosen]),
        tensors=beside.tensors_of(chosen, len(chosen), config),
    )
    return replace(found, train=train, calibration=calibration)


def changed_meanwhile(config: Config) -> DataError:
    return DataError(f"'{config.data.path}' changed while it was read. Run the command again when it is at rest.")
