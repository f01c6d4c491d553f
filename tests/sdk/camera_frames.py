"""60 frames of cameras that every platform makes by itself, and the model's input that each becomes.

The bytes of a frame follow from its seed, as in `resizing.noise`. A harness reads the cases as text, one a line of whole numbers:
``bytes seed orientation is_bt709 is_full_range top left height width input_height input_width is_letterbox``, the window of the
buffer that counts, and then ``start bytes row_stride pixel_stride`` of each plane: Y, U and V, or a single one of RGBA. It writes the
inputs ``(input_height, input_width, 4)`` uint8, one after another, into a file that `differences` compares.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from resizing import noise
from twinkeel.pipeline.delivery.frames import Layout, Shape

COUNT = 60
_INPUTS = ((32, 32), (96, 96), (224, 224), (33, 17), (48, 64), (160, 90))
_ROTATIONS = (1, 6, 3, 8)
_COLOURS = (("bt601", "full"), ("bt601", "limited"), ("bt709", "full"), ("bt709", "limited"))

_DEVICES: tuple[tuple[Layout, int, int, int], ...] = (
    ("i420", 640, 480, 0),  # emulators
    ("nv21", 640, 480, 0),  # most phones: V before U
    ("nv12", 1280, 720, 0),
    ("nv21", 1440, 1080, 96),  # rows of 1536 bytes
    ("nv12", 1920, 1080, 128),  # rows of 2048 bytes
    ("nv21", 1088, 1088, 64),
    ("i420", 320, 240, 64),
    ("yv12", 176, 144, 16),
    ("nv21", 800, 600, 32),
    ("rgba", 640, 480, 0),
    ("rgba", 400, 300, 96),
    ("nv12", 1000, 562, 24),  # bi-planar buffers of iOS
)
"""(layout, columns, rows, padding of rows) as devices have them."""


class Case(NamedTuple):
    shape: Shape
    input_height: int
    input_width: int
    is_letterbox: bool
    seed: int


@cache
def cases() -> tuple[Case, ...]:
    """Devices' frames, and small ones of odd sizes, strides and windows."""
    draw, found = random.Random(1), []
    for n in range(COUNT):
        if n < len(_DEVICES):
            layout, columns, rows, padding = _DEVICES[n]
        else:
            layout = draw.choice(("i420", "yv12", "nv12", "nv21", "nv21", "rgba"))
            columns, rows, padding = draw.randint(1, 260), draw.randint(1, 260), draw.randint(0, 70)
        height, width = (draw.randint(1, rows), draw.randint(1, columns)) if n % 5 == 4 else (rows, columns)
        top, left = draw.randint(0, rows - height), draw.randint(0, columns - width)
        matrix, value_range = _COLOURS[n // 4 % 4]
        shape = Shape(
            layout=layout,
            columns=columns,
            rows=rows,
            padding=padding,
            window=(top, left, height, width),
            orientation=_ROTATIONS[n % 4],
            matrix=matrix,
            value_range=value_range,
        )
        found.append(Case(shape, *_INPUTS[n % len(_INPUTS)], n % 3 == 2, n))
    return tuple(found)


def case_list() -> str:
    """The cases as a harness reads them."""
    return "".join(" ".join(map(str, _numbers(case))) + "\n" for case in cases())


def differences(file: Path) -> list[str]:
    """What a harness wrote against the reference: a line for each frame that differs."""
    found, start, different = np.frombuffer(file.read_bytes(), np.uint8), 0, []
    if len(found) != sum(map(len, expected())):
        return [f"{len(found):,} bytes where {sum(map(len, expected())):,} were expected"]
    for case, wanted in zip(cases(), expected(), strict=True):
        apart = np.abs(found[start : start + len(wanted)].astype(int) - wanted)
        if apart.any():
            different.append(
                f"{case}: {np.count_nonzero(apart):,} of {len(wanted):,} bytes differ, by up to {apart.max()}"
            )
        start += len(wanted)
    return different


@cache
def expected() -> tuple[np.ndarray, ...]:
    """The input of each case, flattened, by the reference."""
    return tuple(
        shape.input(noise(shape.bytes, seed), height, width, "letterbox" if is_letterbox else "crop").reshape(-1)
        for shape, height, width, is_letterbox, seed in cases()
    )


def _numbers(case: Case) -> list[int]:
    shape = case.shape
    colours = [shape.matrix == "bt709", shape.value_range == "full"]
    size = [case.input_height, case.input_width, case.is_letterbox]
    planes = [number for plane in shape.planes for number in plane]
    return [int(n) for n in (shape.bytes, case.seed, shape.orientation, *colours, *shape.window, *size, *planes)]
