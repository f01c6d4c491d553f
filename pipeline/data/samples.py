"""Images with what a model is given beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows import Lines


def rgba(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(..., 3)`` RGB -> ``(..., 4)`` RGBA with alpha 255."""
    alpha = np.full((*images.shape[:-1], 1), 255, np.uint8)
    return np.concatenate([images, alpha], axis=-1)


@dataclass(frozen=True, eq=False)
class Samples:
    """Images ``(N, H, W, 3)`` uint8 RGB, or ``(N, H, W, 4)`` RGBA, and float32 tensors ``(N, ...)``; indexed as the array of
    images alone would be.

    Images that lie in files are read, and get their alpha, when `arrays` is asked: batch by batch.
    """

    images: Lines
    tensors: tuple[NDArray[np.float32], ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: Any) -> Samples:
        """Some of them: a slice, indices, or a mask."""
        return Samples(self.images[chosen], tuple(tensor[chosen] for tensor in self.tensors))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the images."""
        return self.images.shape


Images = NDArray[np.uint8] | Samples
"""What a model is given: images alone, or with what belongs to each."""


def arrays(images: Images) -> tuple[NDArray[Any], ...]:
    """One for each input of the model, the pixels first: ``(N, H, W, 4)`` uint8 RGBA."""
    if not isinstance(images, Samples):
        return (images,)
    pixels = np.asarray(images.images)
    return (pixels if pixels.shape[-1] == 4 else rgba(pixels), *images.tensors)


def with_tensors(images: NDArray[np.uint8], tensors: tuple[NDArray[np.float32], ...]) -> Images:
    """Images alone where there is nothing beside them."""
    return Samples(images, tensors) if tensors else images
