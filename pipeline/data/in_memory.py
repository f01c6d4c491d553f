"""Images in memory, of whoever hands them over, as one array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .pixels import Fit, fit


def stacked(
    given: Any, size: tuple[int, int] | None, how: Fit = "crop"
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Images ``(N, H, W, 3)`` uint8 RGB, and what is right of each where a loader gives that too.

    Args:
        given: an array ``(N, H, W, 3)``, or what gives images, or batches of them, or pairs of these and what is right of them:
            arrays ``(H, W, 3)``, tensors ``(3, H, W)``, or images of Pillow.
        size: height and width that images of several sizes are fitted to; None where all have one size.

    Raises:
        DataError: they are no bytes of RGB, of several sizes with no `size`, or none at all.
    """
    if isinstance(given, np.ndarray) or hasattr(given, "detach"):
        return _images(given), None
    if not isinstance(given, Iterable):
        raise DataError(f"images: a {type(given).__name__} gives no images. {_WANTED}")
    images: list[NDArray[np.uint8]] = []
    truth: list[NDArray[np.int64]] = []
    for item in given:
        pixels, right = item if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
        images += list(_images(pixels))
        if right is not None:
            truth.append(_integers(right, "what the images come with").reshape(-1))
    if not images:
        raise DataError(f"images: nothing was given. {_WANTED}")
    sizes = {image.shape for image in images}
    if len(sizes) > 1 and size is None:
        raise DataError(f"images: they have {len(sizes)} sizes; give the model's own: resolution=224, for example")
    if len(sizes) > 1:
        assert size is not None
        images = [fit(image, *size, how) for image in images]
    return np.stack(images), np.concatenate(truth) if truth else None


_WANTED = "Give an array (N, H, W, 3) of uint8, a folder, or what gives such images one by one or in batches."


def _images(given: Any) -> NDArray[np.uint8]:
    """``(N, H, W, 3)`` of one image or a batch."""
    if hasattr(given, "convert") and hasattr(given, "getbands"):  # Pillow's
        given = np.asarray(given.convert("RGB"))
    if hasattr(given, "detach"):  # torch's
        given = given.detach().cpu().numpy()
    found = np.asarray(given)
    if found.dtype != np.uint8:
        raise DataError(
            f"images: they are {found.dtype}, and bytes of RGB are wanted, before any normalization: uint8, 0 to 255. The model's "
            "mean and std are data={'mean': ..., 'std': ...}."
        )
    if found.ndim == 3:
        found = found[None]
    if found.ndim == 4 and found.shape[3] != 3 and found.shape[1] == 3:
        found = found.transpose(0, 2, 3, 1)
    if found.ndim != 4 or found.shape[3] != 3 or not found.size:
        raise DataError(f"images: their shape is {found.shape}. {_WANTED}")
    return np.ascontiguousarray(found)


def truth_of(given: Any, count: int, name: str) -> NDArray[np.int64]:
    """What is right of so many images, ``(N,)``; a DataError where it is something else.

    Args:
        name: of the argument.
    """
    found = _integers(given, name)
    if found.shape != (count,):
        raise DataError(f"{name}: their shape is {found.shape}, and there are {count:,} images: ({count},) is wanted")
    return found


def _integers(given: Any, name: str) -> NDArray[np.int64]:
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    found = np.asarray(given)
    if not np.issubdtype(found.dtype, np.integer):
        raise DataError(f"{name}: of {found.dtype}; whole numbers from 0 on are wanted, one for each image")
    return found.astype(np.int64)
