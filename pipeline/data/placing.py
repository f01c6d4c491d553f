"""Where a photo lies in a model's input, and back: what boxes and masks have to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pixels import Fit, center_crop_box, letterbox_box


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A rectangle of an upright photo, and the rectangle of the input that it fills; (top, left, height, width) in pixels each.

    Points have coordinates (x, y) from the outer edge of the first pixel on: a photo of ``W`` columns reaches from 0 to ``W``.
    """

    photo: tuple[int, int, int, int]
    input: tuple[int, int, int, int]

    @classmethod
    def cropped(cls, size: tuple[int, int], wanted: tuple[int, int]) -> Placed:
        """The centre of a photo of (height, width) fills an input of (height, width), as `fit` does it."""
        return cls(photo=center_crop_box(size, wanted), input=(0, 0, *wanted))

    @classmethod
    def letterboxed(cls, size: tuple[int, int], wanted: tuple[int, int]) -> Placed:
        """A whole photo of (height, width) lies in an input of (height, width), as `fit` does it."""
        return cls(photo=(0, 0, *size), input=letterbox_box(size, wanted))

    @classmethod
    def of(cls, size: tuple[int, int], wanted: tuple[int, int], how: Fit) -> Placed:
        """As `fit` does it by this name."""
        return cls.cropped(size, wanted) if how == "crop" else cls.letterboxed(size, wanted)

    def to_input(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes ``(..., 4)`` of left, top, right, bottom in the photo, in the input."""
        return _carried(boxes, self.photo, self.input)

    def to_photo(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The other way round; ``(value - start) * size / size + start`` in float64, in this order, on every platform."""
        return _carried(boxes, self.input, self.photo)


def _carried(
    boxes: NDArray[np.float64], one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> NDArray[np.float64]:
    """Each value moved from a rectangle into another."""
    (top, left, height, width), (above, beside, rows, columns) = one, other
    given = np.asarray(boxes, np.float64)
    across = (given[..., 0::2] - left) * columns / width + beside
    down = (given[..., 1::2] - top) * rows / height + above
    return np.stack([across[..., 0], down[..., 0], across[..., 1], down[..., 1]], -1)
