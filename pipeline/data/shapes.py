"""An embedded data set of ellipses, rectangles and triangles: drawn, so that it needs no files, in whole numbers, so that it is the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..rows import Lines
from .decoding import refitted

SHAPES = ("ellipse", "rectangle", "triangle")
COUNT = 2400
"""Images: half of them judge, and the others train in minutes."""

_SEED = 20
_MOST = 4  # shapes of an image; more find no room in a small one
_SIDES = 0.15, 0.5  # of a shape, as a share of the image's shorter side


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """An image.

    Attributes:
        pixels: ``(height, width, 3)`` uint8 RGB.
        boxes: ``(shapes, 5)`` float32: the index of its name, left, top, right, bottom in pixels, from the image's outer edge on.
        mask: ``(height, width)`` uint8: 0 on the background, 1 + the index of the name on a shape.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    mask: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapes:
    """All images.

    Attributes:
        images: ``(N, height, width, 3)`` uint8 RGB; in a file where there is a place for one.
        boxes: ``(N, most, 5)`` float32 as `Drawn` has them, -1 in rows that are none.
        masks: ``(N, height, width)`` uint8.
    """

    images: Lines
    boxes: NDArray[np.float32]
    masks: NDArray[np.uint8]


def drawn_shapes(height: int, width: int, count: int = COUNT) -> Shapes:
    """The first `count` images at a size."""
    drawing = _Drawing(height=height, width=width, count=count)
    images = refitted(drawing, (height, width))
    boxes = np.full((count, _MOST, 5), -1, np.float32)
    for number, own in enumerate(drawing.boxes):
        boxes[number, : len(own)] = own
    return Shapes(images=images, boxes=boxes, masks=np.stack(drawing.masks))


def draw(height: int, width: int, number: int) -> Drawn:
    """The image of this number: one to four shapes in strong colours on a grey gradient with noise; they hardly overlap, and a later one lies
    above. On colours like theirs a network learns nothing in the minutes that it is given."""
    random = np.random.default_rng([_SEED, number])
    middle = random.integers(70, 186) + random.integers(-12, 13, 3)
    pixels = _background(random, middle, height, width)
    mask = np.zeros((height, width), np.uint8)
    found: list[tuple[int, int, int, int, int]] = []
    for _ in range(random.integers(1, _MOST + 1)):
        name, box = int(random.integers(len(SHAPES))), _room(random, (2 * height, 2 * width), found)
        if box is None:
            continue
        colour = _colour(random)
        _paint(
            pixels, mask, _inside(name, box[3] - box[1], box[2] - box[0], int(random.integers(4))), box, colour, name
        )
        found.append((name, *box))
    boxes = np.array(found, np.float32).reshape(-1, 5)
    boxes[:, 1:] /= 2
    return Drawn(pixels=pixels, boxes=boxes, mask=mask)


@dataclass(kw_only=True, eq=False)
class _Drawing:
    """The images one by one, so that they are never in memory whole; what is right of them is kept."""

    height: int
    width: int
    count: int
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    masks: list[NDArray[np.uint8]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for number in range(self.count):
            drawn = draw(self.height, self.width, number)
            self.boxes.append(drawn.boxes)
            self.masks.append(drawn.mask)
            yield drawn.pixels


def _background(random: np.random.Generator, middle: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
    """A gradient to both sides of a colour, across or down, with noise."""
    slope = random.integers(-40, 41, 3)
    length, is_across = (width, True) if random.integers(2) else (height, False)
    ramp = (2 * np.arange(length)[:, None] + 1 - length) * slope // length  # slope at the end, -slope at the beginning
    colours = middle + (ramp[None] if is_across else ramp[:, None])
    most = int(random.integers(0, 24))
    noise = random.integers(-most, most + 1, (height, width, 3), np.int16)
    clipped: NDArray[np.uint8] = np.clip(colours + noise, 0, 255).astype(np.uint8)
    return clipped


def _colour(random: np.random.Generator) -> NDArray[np.int64]:
    """One or two of the channels bright, and the others dark."""
    is_bright = np.roll([True, bool(random.integers(2)), False], random.integers(3))
    found: NDArray[np.int64] = np.where(is_bright, 255, 0) + np.where(is_bright, -1, 1) * random.integers(0, 64, 3)
    return found


def _room(
    random: np.random.Generator, size: tuple[int, int], taken: list[tuple[int, int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom in half pixels, of a box that covers others by a tenth of the smaller at most; None where a few attempts found
    none."""
    low, high = (max(4, int(share * min(size))) for share in _SIDES)
    for _ in range(8):
        height, width = random.integers(low, high + 1, 2)
        if max(height, width) > 2 * min(height, width):  # slivers are no use at small sizes
            continue
        top, left = random.integers(0, size[0] - height + 1), random.integers(0, size[1] - width + 1)
        box = int(left), int(top), int(left + width), int(top + height)
        if all(10 * _common(box, other[1:]) <= min(_area(box), _area(other[1:])) for other in taken):
            return box
    return None


def _area(box: tuple[int, ...]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Of two boxes, the area of what both cover."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0)


def _inside(name: int, height: int, width: int, turn: int) -> NDArray[np.bool_]:
    """Which half pixels of its box ``(height, width)`` a shape covers.

    Args:
        turn: 0 to 3, to which side a triangle points.
    """
    across = np.abs(2 * np.arange(width, dtype=np.int64) + 1 - width)[None]
    down = np.abs(2 * np.arange(height, dtype=np.int64) + 1 - height)[:, None]
    if SHAPES[name] == "ellipse":
        covered: NDArray[np.bool_] = (across * height) ** 2 + (down * width) ** 2 <= (height * width) ** 2
        return covered
    if SHAPES[name] == "rectangle":
        return np.ones((height, width), np.bool_)
    if turn < 2:
        covered = across * height <= (np.arange(height, dtype=np.int64)[:, None] + 1) * width
        return covered if turn == 0 else covered[::-1]
    covered = down * width <= (np.arange(width, dtype=np.int64)[None] + 1) * height
    return covered if turn == 2 else covered[:, ::-1]


def _paint(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    box: tuple[int, int, int, int],
    colour: NDArray[np.int64],
    name: int,
) -> None:
    """A shape onto the image, with soft edges, and onto the mask where it covers half a pixel or more."""
    left, top, right, bottom = box[0] // 2, box[1] // 2, -(-box[2] // 2), -(-box[3] // 2)
    fine = np.zeros((2 * (bottom - top), 2 * (right - left)), np.int64)
    fine[box[1] - 2 * top : box[3] - 2 * top, box[0] - 2 * left : box[2] - 2 * left] = inside
    quarters = fine[0::2, 0::2] + fine[1::2, 0::2] + fine[0::2, 1::2] + fine[1::2, 1::2]
    part = pixels[top:bottom, left:right]
    part[:] = (part * (4 - quarters[..., None]) + colour * quarters[..., None] + 2) // 4
    mask[top:bottom, left:right][quarters >= 2] = name + 1
