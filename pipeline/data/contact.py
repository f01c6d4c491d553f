"""A contact sheet: some images of each set as the model is given them, on one picture for people to look at before they believe
any number."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .splits import Dataset, Split

if TYPE_CHECKING:
    from PIL import Image, ImageFont

COLUMNS = 8
ROWS = 6
"""Of all sets together."""
SIDE = 112
"""Pixels of the longer side that an image has at most: small ones are enlarged and large ones reduced, by a whole number."""
_GAP, _LINE, _NARROWEST = 8, 16, 72
_INK, _PALE, _PAPER = (28, 33, 38), (87, 96, 106), (255, 255, 255)


Mark = Callable[[NDArray[np.uint8], Any, float], NDArray[np.uint8]]
"""Draws what is right of an image onto it: pixels ``(H, W, 3)``, the truth, and how many of these are one of the model's input."""


def sheet(found: Dataset, names: Sequence[str], channels: str, mark: Mark = lambda image, *_: image) -> bytes:
    """A PNG with up to `COLUMNS` times `ROWS` images.

    Args:
        names: by the truth of an image, what stands below it; empty for the number of the image in its set, from 0.
        channels: ``grayscale`` shows luma, all others the colours.
        mark: draws what is right of an image onto it, at the size at which it is shown.
    """
    from PIL import Image, ImageDraw, ImageFont

    sets = [
        (title, part)
        for title, part in (("training", found.train), ("calibration", found.calibration), ("held-out", found.held_out))
        if len(part.images)
    ]
    most = COLUMNS * (ROWS // len(sets))
    rows = [
        (title, part, some[n : n + COLUMNS], n == 0)
        for title, part in sets
        for some in [chosen(part, most)]
        for n in range(0, len(some), COLUMNS)
    ]
    height, width = found.held_out.images.shape[1:3]
    shown = _sized(found.held_out.images[0], channels).size
    across, down = max(shown[0], _NARROWEST) + _GAP, shown[1] + _LINE + _GAP
    size = COLUMNS * across + _GAP, len(rows) * down + (len(sets) + 1) * (_LINE + _GAP) + _GAP
    picture = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    draw.text((_GAP, _GAP), _headline(width, height, shown[0], channels), _INK, font)
    y = _GAP + _LINE + _GAP
    for title, part, some, is_first in rows:
        if is_first:
            count = min(len(part.images), most)
            draw.text((_GAP, y), f"{title}, {count} of {len(part.images):,} images", _PALE, font)
            y += _LINE + _GAP
        for column, index in enumerate(some):
            x = _GAP + column * across
            picture.paste(_marked(_sized(part.images[index], channels), part.truth[index], width, mark), (x, y))
            caption = _caption(part.truth[index], index, names)
            draw.text((x, y + shown[1] + 2), _cut(caption, across - _GAP, font), _INK, font)
        y += down
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def chosen(part: Split, most: int) -> list[int]:
    """Indices of at most so many images: of as many kinds as there can be, as many of each, evenly over each kind."""
    truth, count = part.truth, len(part.images)
    is_of_kinds = truth.ndim == 1 and truth.dtype.kind in "iu"
    kinds = [np.flatnonzero(truth == one) for one in np.unique(truth)] if is_of_kinds else [np.arange(count)]
    if len(kinds) > most:
        kinds = [kinds[n] for n in np.linspace(0, len(kinds) - 1, most).astype(int)]
    taken = [0] * len(kinds)
    while sum(taken) < min(most, sum(map(len, kinds))):
        for n in [n for n, kind in enumerate(kinds) if taken[n] < len(kind)][: most - sum(taken)]:
            taken[n] += 1
    return [
        int(kind[i]) for kind, k in zip(kinds, taken, strict=True) for i in np.linspace(0, len(kind) - 1, k).astype(int)
    ]


def _sized(image: NDArray[np.uint8], channels: str) -> Image.Image:
    """As it enters, enlarged or reduced to at most `SIDE`."""
    from PIL import Image

    if channels == "grayscale":
        grey = (image.astype(np.int64) @ np.array([299, 587, 114]) + 500) // 1000
        image = grey.astype(np.uint8)[..., None].repeat(3, -1)
    made, longer = Image.fromarray(image), max(image.shape[:2])
    if longer > SIDE:
        return made.reduce(-(-longer // SIDE))
    factor = SIDE // longer
    return made.resize((factor * made.width, factor * made.height), Image.Resampling.NEAREST)


def _marked(image: Image.Image, truth: Any, width: int, mark: Mark) -> Image.Image:
    from PIL import Image

    return Image.fromarray(mark(np.asarray(image), truth, image.width / width))


def _headline(width: int, height: int, shown: int, channels: str) -> str:
    scale = ""
    if shown > width:
        scale = f", shown {shown // width} times as large"
    elif shown < width:
        scale = f", shown at 1/{-(-max(width, height) // SIDE)}"
    what = {"grayscale": ", in grey", "bgr": ", blue first"}.get(channels, "")
    return f"as the model is given them: {width} x {height} pixels{what}{scale}"


def _caption(truth: Any, index: int, names: Sequence[str]) -> str:
    """The name, in ASCII: the letters that Pillow brings with it. With its number where that does not say all of it."""
    if not names or np.ndim(truth) or not 0 <= truth < len(names):
        return f"no. {index}"
    name = " ".join(names[truth].split())
    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return bare if bare.isascii() else f"[{truth}] {bare.encode('ascii', 'replace').decode()}"


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """With dots for what finds no room."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
