"""What a segmentation kit's own tests replay beside the golden images: strange logits, and the masks that they become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data import Placed
from ..program import Output
from ..tasks import as_stored, mask_of, masks_of

_MOST = 2**18
"""Numbers of strange logits: a kit is to stay small."""
_FEWEST, _ENOUGH = 4, 32
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Logits whose masks the tests compare.

    Attributes:
        shape: classes, rows and columns of the logits of an image.
        size: height and width of the input.
        golden: those of the golden images, ``(N, width)``.
        strange: others, ``(K, width)``: ties, constants, neighbours that differ in the last bit, what is huge, tiny or not finite.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    golden: NDArray[np.float32]
    strange: NDArray[np.float32]

    @classmethod
    def of(cls, outputs: tuple[Output, ...], size: tuple[int, int], golden: NDArray[np.float32]) -> Masks:
        classes, rows, columns = outputs[0].shape
        return cls(shape=(classes, rows, columns), size=size, golden=golden, strange=strange((classes, rows, columns)))

    @property
    def rows(self) -> NDArray[np.float32]:
        return np.concatenate([self.golden, self.strange])

    def write(self, folder: Path, photos: Iterable[tuple[str, Placed, tuple[int, int], int]]) -> None:
        """``strange.f32``; ``whole.u64``, the `checksum` of the mask of the whole input of each row, golden ones first; ``<photo>.mask``, that of
        a photo as it is stored, by the row of the photo's number.

        Args:
            photos: name, where it lies in the input, height and width upright, and orientation of each.
        """
        folder.mkdir()
        (folder / "strange.f32").write_bytes(self.strange.astype("<f4").tobytes())
        logits = self.rows.reshape(-1, *self.shape)
        whole = [checksum(mask) for mask in masks_of(logits, self.size)]
        (folder / "whole.u64").write_bytes(np.array(whole, "<u8").tobytes())
        for number, (name, placed, upright, orientation) in enumerate(photos):
            # from the last on: the strange ones are more than the photos
            mask = mask_of(logits[-1 - number % len(logits)], placed, upright, self.size)
            (folder / f"{name}.mask").write_bytes(np.ascontiguousarray(as_stored(mask, orientation)).tobytes())


def checksum(mask: NDArray[np.uint8]) -> int:
    """Of a mask, in 64 bits that wrap around: the sum over its pixels ``c`` of number ``i`` of ``x ^ (x >> 29)`` with ``x = (c + 1) (2 i + 1)
    0x9E3779B97F4A7C15``."""
    places = 2 * np.arange(mask.size, dtype=np.uint64) + np.uint64(1)
    mixed = (mask.reshape(-1).astype(np.uint64) + np.uint64(1)) * places * _FACTOR
    return int(np.bitwise_xor(mixed, mixed >> _SHIFT).sum(dtype=np.uint64))


def strange(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Logits ``(K, C h w)`` at the edges of what decoding is given; the same on every machine."""
    size = int(np.prod(shape))
    count = max(_FEWEST, min(_ENOUGH, _MOST // size))
    random = np.random.default_rng(7)
    odd = np.array([0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 1e-38], np.float32)
    kinds = (
        lambda: random.choice(odd, size),
        lambda: random.integers(-2, 3, size).astype(np.float32),
        lambda: np.float32(1) + np.float32(2**-23) * random.integers(0, 3, size).astype(np.float32),
        lambda: np.full(size, random.choice(odd), np.float32),
        lambda: random.normal(size=size).astype(np.float32),
        lambda: (random.normal(size=size) * 10.0 ** random.integers(-30, 30)).astype(np.float32),
    )
    return np.stack([kinds[number % len(kinds)]().astype(np.float32) for number in range(count)])
