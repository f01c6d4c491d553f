"""What a detector's kit replays in its own tests: outputs, the boxes in them, and where these lie in photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data import Placed
from ..program import Output, parts
from ..tasks import Detections, Form, decode, in_photo

STRANGE = (np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """How boxes are found in outputs, and outputs to try it on.

    Attributes:
        form: what the kit's decoding has to know.
        strange: packed outputs ``(N, width)`` float32 beside the golden ones: of many ties, with values that are not finite, all 0,
            random, and far too large.
        found: in the golden outputs of the reference, and then in the strange ones.
    """

    form: Form
    strange: NDArray[np.float32]
    found: tuple[Detections, ...]

    @classmethod
    def of(cls, form: Form, outputs: Sequence[Output], golden: NDArray[np.float32]) -> Boxes:
        """Of golden outputs ``(N, width)``; the same on every machine."""
        strange = _strange(golden[0])
        places = parts(outputs)
        found = [decode([row[place] for place in places], form) for row in [*golden, *strange]]
        return cls(form=form, strange=strange, found=tuple(found))

    def write(self, folder: Path, photos: Sequence[tuple[Placed, tuple[int, int]]]) -> None:
        """``strange.f32``; ``found.f64``, and ``photos.f64`` with what the boxes of one after another are in each of `photos`.

        Of each image first the number of boxes, and then left, top, right, bottom, score and class of each, little-endian float64.

        Args:
            photos: where each lies in the input, and its height and width.
        """
        folder.mkdir()
        (folder / "strange.f32").write_bytes(self.strange.astype("<f4").tobytes())
        (folder / "found.f64").write_bytes(b"".join(map(_bytes, self.found)))
        turned = [in_photo(self.found[n % len(self.found)], *photo) for n, photo in enumerate(photos)]
        (folder / "photos.f64").write_bytes(b"".join(map(_bytes, turned)))


def _bytes(found: Detections) -> bytes:
    rows = np.concatenate([found.boxes, found.scores[:, None], found.classes[:, None]], 1)
    return np.array([len(found), *rows.reshape(-1)], "<f8").tobytes()


def _strange(row: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(size=row.shape).astype(np.float32)
    broken = row.copy()
    for number, value in enumerate(STRANGE):
        broken[7 * number :: 7 * len(STRANGE)] = value
    return np.stack([np.round(2 * row) / 2, broken, np.zeros_like(row), 4 * noise, 1000 * noise])
