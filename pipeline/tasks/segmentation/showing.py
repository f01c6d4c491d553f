"""Masks for people to look at: laid over images in colours, and what the report keeps of them."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import Truth, Values
from ...program import Output
from .counting import Masks, Pixels, answers_of, classes_in, own_ious, pixels
from .decoding import UNSEEN

WORST = 8
"""Images that the report shows at most: half of them those that a model answers furthest from the float model, half those that the float model
answers worst."""
LONGEST = 160
"""Pixels of the longer side that masks are kept at: of larger ones every second, every third ... pixel."""

_TURN = 0.381966  # of the circle of hues, from a class to the next: the golden section leaves no two near each other
_STRONG = 0.6
_WHITE = (255, 255, 255)


@functools.cache
def colours() -> NDArray[np.uint8]:
    """Of the classes, ``(256, 3)`` RGB; white of pixels that are not counted."""
    found = [
        colorsys.hsv_to_rgb((0.58 + _TURN * n) % 1, 0.85 - 0.25 * (n // 8 % 2), 0.95 - 0.2 * (n // 16 % 3))
        for n in range(256)
    ]
    table: NDArray[np.uint8] = np.rint(255 * np.array(found)).astype(np.uint8)
    table[UNSEEN] = _WHITE
    return table


def overlaid(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image ``(H, W, 3)`` RGB under its mask ``(H, W)``: in the colours of the classes, and the class 0, which mostly is the background, as it
    is."""
    mixed = (1 - _STRONG) * image + _STRONG * colours()[mask]
    found: NDArray[np.uint8] = np.where((mask == 0)[..., None], image, np.rint(mixed)).astype(np.uint8)
    return found


def marked(image: NDArray[np.uint8], truth: Any, scale: float) -> NDArray[np.uint8]:
    """The mask of the truth over the image, which may be shown larger or smaller; nothing where nothing is known."""
    if (truth == UNSEEN).all():
        return image
    rows, columns = (np.arange(n) * size // n for n, size in zip(image.shape[:2], truth.shape, strict=True))
    return overlaid(image, truth[rows[:, None], columns])


def step_of(size: tuple[int, int]) -> int:
    """Every which pixel is kept of masks of this size."""
    return -(-max(size) // LONGEST)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What the report keeps of a model.

    Attributes:
        own: mIoU of each image by itself, ``(N,)``; 0 where nothing is known of them.
        counts: of all images together, ``(1, C)``.
        images: indices of those that are shown, the same of all models.
        masks: of these, ``(shown, height, width)``, of every `step_of` pixel.
    """

    own: NDArray[np.float64]
    counts: Pixels
    images: NDArray[np.int64]
    masks: Masks

    def packed(self) -> NDArray[np.float64]:
        parts = (self.own, self.counts.both, self.counts.truth, self.counts.answer, self.images, self.masks)
        return np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts])

    @classmethod
    def of(cls, packed: NDArray[np.float64], images: int, classes: int, size: tuple[int, int]) -> Shown:
        """What `packed` gave, of masks of this size."""
        count = min(WORST, images)
        ends = np.cumsum([images, classes, classes, classes, count])
        own, *three, chosen, masks = np.split(packed, ends)
        height, width = (-(-side // step_of(size)) for side in size)
        return cls(
            own=own,
            counts=Pixels(*(part.astype(np.int64)[None] for part in three)),
            images=chosen.astype(np.int64),
            masks=masks.astype(np.uint8).reshape(count, height, width),
        )


def answers(models: Sequence[Values], truth: Truth, config: Config, layout: Sequence[Output]) -> NDArray[np.float64]:
    """A `Shown` of each model as one array ``(models, ...)``; the first is the float model's."""
    size, classes, step = truth.shape[1:], classes_in(layout), step_of(truth.shape[1:])
    said = [answers_of(outputs, size, layout) for outputs in models]
    own = [own_ious(mask, truth, classes) for mask in said]
    chosen = _worst(own[0], np.max([(mask != said[0]).mean((1, 2)) for mask in said], axis=0))
    shown = [
        Shown(own=each, counts=_summed(pixels(mask, truth, classes)), images=chosen, masks=mask[chosen, ::step, ::step])
        for each, mask in zip(own, said, strict=True)
    ]
    return np.stack([one.packed() for one in shown])


def _summed(found: Pixels) -> Pixels:
    return Pixels(*(part.sum(0, keepdims=True) for part in (found.both, found.truth, found.answer)))


def _worst(own: NDArray[np.float64], apart: NDArray[np.float64]) -> NDArray[np.int64]:
    """Those where models are furthest apart first, then those of the least mIoU."""
    most = min(WORST, len(own))
    first = np.argsort(-apart, kind="stable")[: -(-most // 2)]
    others = [n for n in np.argsort(own, kind="stable") if n not in first]
    return np.array([*first, *others[: most - len(first)]], np.int64)
