"""400 images that every platform makes by itself, what `pipeline.data.model_input` turns each into, and where it lies there.

An image is never stored: its bytes follow from its seed, so a harness in any language makes the same ones. The byte at
offset ``k`` of an image's RGBA rows (``k = 4 (y width + x) + channel``, row after row, no padding) is, with every
operation on unsigned 32-bit integers that wrap around::

    h = k * 0x9E3779B1 + seed * 0x85EBCA77
    h = (h ^ (h >> 15)) * 0x2C1B3C6D
    h = (h ^ (h >> 12)) * 0x297A2D39
    byte = (h ^ (h >> 15)) & 0xFF

In an image of an odd seed every alpha (``channel == 3``) is 255 instead.

A harness reads the cases as text, one a line, ``width height orientation input_height input_width seed is_letterbox``, and writes
one after another into one file, which `differences` compares: the input ``(input_height, input_width, 4)`` uint8, and eight
little-endian float64, a box ``1/3, -0.7, input_width - 0.1, input_height / 7`` of the input in the upright image, and that in the
input again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from twinkeel.pipeline.data.pixels import center_crop_box, fit, model_input, upright_size
from twinkeel.pipeline.data.placing import Placed

CROPPED, LETTERBOXED = 300, 100
COUNT = CROPPED + LETTERBOXED
SQUARE = ((32, 32), (96, 96), (224, 224))
OBLONG = ((17, 33), (33, 17), (48, 64), (101, 37), (16, 160), (97, 97), (1024, 16))
INPUTS = (*SQUARE, *OBLONG)
"""(height, width) of inputs."""

_LARGE = ((4000, 3000, 6), (3000, 4000, 1), (4000, 2250, 8))  # (width, height, orientation)
_EXTREME = ((1, 1), (1, 2), (2, 1), (1, 3000), (3000, 1), (2, 1999), (1999, 3), (31, 33), (97, 4000), (4000, 95))


class Case(NamedTuple):
    """An image as it is stored, its EXIF orientation, and the size of the input."""

    width: int
    height: int
    orientation: int
    input_height: int
    input_width: int
    seed: int
    is_letterbox: int = 0


@cache
def cases() -> tuple[Case, ...]:
    """The `COUNT` cases: photos, extreme ratios, every input's own size and its neighbours, and odd ones."""
    found = [(*large, *SQUARE[n % 3]) for n, large in enumerate(_LARGE)]
    found += [(w, h, 1 + n % 8, *INPUTS[n % len(INPUTS)]) for n, (w, h) in enumerate(_EXTREME)]
    found += [(w + d, h, 1 + n % 8, h, w) for n, (h, w, d) in enumerate((*i, d) for i in INPUTS for d in (-1, 0, 1, 2))]
    for height, width in INPUTS:  # nothing to do but the compositing, or the turning
        found += [(width, height, 1, height, width), (height, width, 6, height, width)]
        found += [(3 * width, 3 * height, 3, height, width), (5 * height + 1, 5 * width, 8, height, width)]
    draw = random.Random(0)
    while len(found) < CROPPED:
        longest = 700 if len(found) % 10 else 1600
        # the logarithm is uniform: as many tiny images as large ones
        size = int(longest ** draw.random()), int(longest ** draw.random())
        found.append((*size, 1 + len(found) % 8, *draw.choice(INPUTS)))
    cropped = [Case(*case, n) for n, case in enumerate(found)]
    again = [cropped[n * CROPPED // LETTERBOXED]._replace(is_letterbox=1) for n in range(LETTERBOXED)]
    return (*cropped, *again)


def case_list() -> str:
    """The cases as a harness reads them."""
    return "".join(" ".join(map(str, case)) + "\n" for case in cases())


def image(case: Case) -> NDArray[np.uint8]:
    """``(height, width, 4)`` RGBA with straight alpha."""
    pixels = noise(case.width * case.height * 4, case.seed).reshape(case.height, case.width, 4)
    if case.seed % 2:
        pixels[..., 3] = 255
    return pixels


def noise(count: int, seed: int) -> NDArray[np.uint8]:
    """The first `count` bytes of a seed."""
    h = np.arange(count, dtype=np.uint32)
    h *= np.uint32(0x9E3779B1)
    h += np.uint32(seed * 0x85EBCA77 & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = (h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    return (h ^ (h >> np.uint32(15))).astype(np.uint8)


@cache
def expected() -> tuple[bytes, ...]:
    """The inputs and boxes of all cases, by the reference."""
    return tuple(_expected(case) for case in cases())


def _expected(case: Case) -> bytes:
    wanted, how = (case.input_height, case.input_width), "letterbox" if case.is_letterbox else "crop"
    pixels = model_input(image(case), case.orientation, *wanted, how)
    placed = Placed.of(upright_size((case.height, case.width), case.orientation), wanted, how)
    there = placed.to_photo(np.array([1 / 3, -0.7, wanted[1] - 0.1, wanted[0] / 7]))
    return pixels.tobytes() + np.stack([there, placed.to_input(there)]).astype("<f8").tobytes()


def differences(file: Path) -> list[str]:
    """What a harness wrote against `expected`: a line for each case that differs, and none where all are equal."""
    found = file.read_bytes()
    whole = sum(map(len, expected()))
    if len(found) != whole:
        return [f"{len(found):,} bytes where {whole:,} were expected"]
    return list(_different(found))


def snr_to_pillow(width: int, height: int, wanted: tuple[int, int], seed: int) -> float:
    """How far the definition is from Pillow's bilinear resizing of the same crop: dB of signal over difference.

    Pillow rounds after each axis and holds its weights in 22 bits; the definition rounds once. The image is smooth with
    some noise, as photos are.
    """
    random_bits = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(random_bits.uniform(3, 40) * x + random_bits.uniform(3, 40) * y) for _ in range(3)]
    noisy = 128 + 80 * np.stack(waves, axis=-1) + random_bits.normal(0, 8, (height, width, 3))
    picture = np.clip(noisy, 0, 255).astype(np.uint8)
    top, left, rows, columns = center_crop_box((height, width), wanted)
    centre = Image.fromarray(picture[top : top + rows, left : left + columns])  # a box would let its neighbours in
    by_pillow = centre.resize(wanted[::-1], Image.Resampling.BILINEAR)
    ours = fit(picture, *wanted).astype(np.float64)
    noise = np.square(ours - np.asarray(by_pillow)).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(ours).sum() / noise))


def _different(found: bytes) -> Iterator[str]:
    start = 0
    for case, wanted in zip(cases(), expected(), strict=True):
        got = np.frombuffer(found, np.uint8, len(wanted), start).astype(int)
        apart = np.abs(got - np.frombuffer(wanted, np.uint8))
        if apart.any():
            yield f"{case}: {np.count_nonzero(apart):,} of {len(wanted):,} bytes differ, by up to {apart.max()}"
        start += len(wanted)
