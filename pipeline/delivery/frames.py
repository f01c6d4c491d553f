"""What a kit's own tests replay of cameras: frames as devices lay them out in memory, and the inputs that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import Fit, Frame, Matrix, Plane, Range, frame_input, model_input

Layout = Literal["i420", "yv12", "nv12", "nv21", "rgba"]


class Span(NamedTuple):
    """Where a plane lies in the bytes of a frame; `bytes` end with its last sample, as those of Android's buffers do."""

    start: int
    bytes: int
    row_stride: int
    pixel_stride: int


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A frame without its samples.

    Attributes:
        columns: of the buffer.
        rows: of the buffer.
        padding: bytes behind each row.
        window: top, left, height and width of what counts.
        orientation: EXIF's, 1 to 8.
    """

    layout: Layout
    columns: int
    rows: int
    padding: int = 0
    window: tuple[int, int, int, int]
    orientation: int = 1
    matrix: Matrix = "bt601"
    value_range: Range = "full"

    @property
    def planes(self) -> tuple[Span, ...]:
        """Y, U and V wherever they lie, or a single one of four channels."""
        if self.layout == "rgba":
            row = 4 * self.columns + self.padding
            return (Span(0, row * (self.rows - 1) + 4 * self.columns, row, 4),)
        columns, rows = -(-self.columns // 2), -(-self.rows // 2)
        luma = _span(0, self.columns, self.rows, self.columns + self.padding, 1)
        end = luma.row_stride * self.rows
        if self.layout in ("nv12", "nv21"):
            row = 2 * columns + self.padding
            first, second = (_span(end + n, columns, rows, row, 2) for n in range(2))
        else:
            row = columns + self.padding
            first, second = (_span(end + n * row * rows, columns, rows, row, 1) for n in range(2))
        return (luma, first, second) if self.layout in ("i420", "nv12") else (luma, second, first)

    @property
    def bytes(self) -> int:
        """Of all planes together."""
        return max(plane.start + plane.bytes for plane in self.planes)

    def input(self, data: NDArray[np.uint8], height: int, width: int, how: Fit) -> NDArray[np.uint8]:
        """The model's input of this frame with these ``(bytes,)``: ``(height, width, 4)`` uint8."""
        planes = [
            Plane(data=data[p.start : p.start + p.bytes], row_stride=p.row_stride, pixel_stride=p.pixel_stride)
            for p in self.planes
        ]
        top, left, rows, columns = self.window
        if self.layout == "rgba":
            colours = [
                Plane(data=planes[0].data[n:], row_stride=planes[0].row_stride, pixel_stride=4) for n in range(3)
            ]
            image = np.stack([one.samples(top, left, rows, columns) for one in colours], -1)
            opaque = np.concatenate([image, np.full((rows, columns, 1), 255, np.uint8)], -1)
            return model_input(opaque, self.orientation, height, width, how)
        y, u, v = planes
        frame = Frame(
            width=columns,
            height=rows,
            y=y,
            u=u,
            v=v,
            left=left,
            top=top,
            matrix=self.matrix,
            value_range=self.value_range,
        )
        return frame_input(frame, self.orientation, height, width, how)


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameCase:
    """A frame, and the input made of it.

    Attributes:
        data: ``(shape.bytes,)`` uint8.
        expected: ``(height, width, 4)`` uint8.
    """

    name: str
    shape: Shape
    data: NDArray[np.uint8]
    expected: NDArray[np.uint8]


_SHAPES: tuple[tuple[str, Shape], ...] = (
    ("planar", Shape(layout="i420", columns=48, rows=36, padding=16, window=(0, 0, 36, 48), orientation=6)),
    (
        "blue-first",
        Shape(
            layout="nv12",
            columns=64,
            rows=48,
            window=(0, 0, 48, 64),
            orientation=3,
            matrix="bt709",
            value_range="limited",
        ),
    ),
    ("red-first", Shape(layout="nv21", columns=45, rows=33, padding=19, window=(0, 0, 33, 45), orientation=8)),
    ("odd", Shape(layout="yv12", columns=31, rows=57, padding=1, window=(0, 0, 57, 31), value_range="limited")),
    (
        "window",
        Shape(layout="nv21", columns=50, rows=40, padding=14, window=(3, 5, 29, 41), orientation=6, matrix="bt709"),
    ),
    ("mirrored", Shape(layout="i420", columns=20, rows=22, window=(1, 1, 21, 17), orientation=5)),
    ("one-pixel", Shape(layout="nv12", columns=1, rows=1, window=(0, 0, 1, 1))),
    ("packed", Shape(layout="rgba", columns=39, rows=28, padding=20, window=(2, 1, 25, 37), orientation=6)),
)


def frame_cases(height: int, width: int, how: Fit = "crop") -> tuple[FrameCase, ...]:
    """Noise in every layout, turned, padded, of odd sizes; the same on every machine."""
    cases = []
    for number, (name, shape) in enumerate(_SHAPES):
        data = np.random.default_rng(100 + number).integers(0, 256, shape.bytes, np.uint8)
        cases.append(FrameCase(name=name, shape=shape, data=data, expected=shape.input(data, height, width, how)))
    return tuple(cases)


def write(cases: Sequence[FrameCase], folder: Path) -> None:
    """``<case>.planes``, the bytes of all planes, and ``<case>.expected.rgba``."""
    folder.mkdir()
    for case in cases:
        (folder / f"{case.name}.planes").write_bytes(case.data.tobytes())
        (folder / f"{case.name}.expected.rgba").write_bytes(case.expected.tobytes())


def _span(start: int, columns: int, rows: int, row_stride: int, pixel_stride: int) -> Span:
    last = row_stride * (rows - 1) + pixel_stride * (columns - 1)
    return Span(start, last + 1, row_stride, pixel_stride)
