"""What a model is given beside each image: tensors from files beside the images' own, or drawn where there are none."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from .files import ImageFile, digests, listed
from .kinds import TENSORS
from .lists import is_list, of_list

MAX_BYTES = 2**28
DRAWN = (
    "no image has tensors beside it: they were drawn evenly from their ranges, and so int8 is made for what may never come. Write "
    "them beside the images: cat.npz, by `numpy.savez`, beside cat.jpg."
)


def tensors_of(files: Sequence[ImageFile], count: int, config: Config) -> tuple[NDArray[np.float32], ...]:
    """Float32 ``(count, *shape)`` for each further input of the model.

    Args:
        files: of the images, ``cat.npz`` beside ``cat.jpg`` with an array for each input under its name; none where images are
            in no files.

    Raises:
        DataError: some images have a file beside them and others have not, or an array is missing or does not fit.
    """
    if not config.input:
        return ()
    beside = [file.beside(TENSORS) for file in files]
    without = [file for file, one in zip(files, beside, strict=True) if one is None]
    if beside and not without:
        rows = [_read(one, config) for one in beside if one is not None]
        return tuple(np.stack(column) for column in zip(*rows, strict=True))
    if len(without) < len(beside):
        raise DataError(
            f"{len(without)} of {len(beside)} images have no tensors beside them, '{without[0]}' is the first. Write all, or none: "
            "they are drawn from their ranges then."
        )
    random = np.random.default_rng(config.data.seed)
    return tuple(
        random.uniform(one.range[0], one.range[1], (count, *one.shape)).astype(np.float32) for one in config.input
    )


def stored(root: Path, count: int, config: Config) -> tuple[NDArray[np.float32], ...]:
    """The same of images in memory, whose tensors are files ``<name>.npy`` ``(count, *shape)`` in `arrays_below` it."""
    found = []
    for one in config.input:
        array = np.load(root / "tensors" / f"{one.name}.npy", allow_pickle=False).astype(np.float32)
        if array.shape != (count, *one.shape) or not np.isfinite(array).all():
            raise DataError(
                f"tensors: '{one.name}' is {array.shape}; finite numbers of shape {(count, *one.shape)} are wanted, one for each image"
            )
        found.append(array)
    return tuple(found)


def notes(files: Sequence[ImageFile], config: Config) -> tuple[str, ...]:
    """What is to be said of them: that they were drawn, for there are no files beside these."""
    are_drawn = config.input and not any(file.beside(TENSORS) for file in files)
    return (DRAWN,) if are_drawn else ()


def listing(root: Path) -> dict[str, str]:
    """SHA-256 of every such file below a folder or in an archive, or beside the images of a list, by its path."""
    if not root.exists():
        return {}
    if is_list(root):
        found = [file.beside(TENSORS) for file in of_list(root, is_sorted=False).files]
        return digests(file for file in found if file is not None)
    return digests(listed(root).tensors)


def arrays_below(root: Path) -> Path:
    """A new folder for tensors beside images in memory: in one with these, a tensor called ``images`` would be the images."""
    (root / "tensors").mkdir()
    return root / "tensors"


def of_arrays(root: Path) -> dict[str, str]:
    """SHA-256 of the arrays of images in memory, by their paths."""
    return digests(ImageFile(root, path.relative_to(root).as_posix()) for path in root.rglob("*.npy"))


def _read(path: ImageFile, config: Config) -> list[NDArray[np.float32]]:
    try:
        with np.load(io.BytesIO(path.read(MAX_BYTES)), allow_pickle=False) as stored:
            known = sorted(stored.files)
            found = {one.name: np.asarray(stored[one.name]) for one in config.input if one.name in known}
    except DataError:
        raise
    except Exception as error:  # numpy raises nearly anything on a damaged archive
        raise DataError(f"cannot read '{path}': {error}. `numpy.savez` writes one.") from error
    for one in config.input:
        if one.name not in found:
            raise DataError(f"'{path}' has no array '{one.name}'; it has {known}")
        array = found[one.name]
        if list(array.shape) != one.shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise DataError(
                f"'{path}': '{one.name}' is {list(array.shape)} {array.dtype}; finite numbers of shape {one.shape} are wanted"
            )
    return [found[one.name].astype(np.float32) for one in config.input]
