"""From a camera's frame to the model's input, defined to the last bit so that every platform can do the same.

A frame is 4:2:0 in 8 bits: a luma value ``Y`` of each pixel, and chroma values ``U`` (Cb) and ``V`` (Cr) of each two by two.
Samples lie in planes with any distance between rows and between neighbours, which covers I420, YV12, NV12, NV21, the planes of
Android's ``YUV_420_888`` and the bi-planar and planar buffers of Core Video.

1. *Chroma*: the pixel in column ``x`` and row ``y`` of the buffer has the chroma sample in column ``x // 2`` and row ``y // 2``: the
   one that covers it. Nothing is interpolated: where chroma was sampled is reported by no Android camera and differs between
   encoders, the sample that covers a pixel is at most half a pixel away under each convention, and step 4 of
   `pixels` averages more than that wherever the input is smaller than the frame. An odd width or height has a last chroma
   sample of one column or row.
2. *Colour*: with the integers of `coefficients`, where ``>>`` is the floor of the division by a power of two::

       luma  = gain (Y - black)
       red   = (luma + red_v (V - 128) + 32768) >> 16
       green = (luma - green_u (U - 128) - green_v (V - 128) + 32768) >> 16
       blue  = (luma + blue_u (U - 128) + 32768) >> 16

   and what is below 0 or above 255 becomes 0 or 255. So a half is rounded up. Every term fits 32 bits. Primaries and transfer
   are taken as sRGB's, whatever the frame says.
3. *A window* of the buffer may be what counts, as Android's crop rectangle; its first column and row may be odd.

The result is an image as any other: `pixels` turns it upright, crops or letterboxes it and resizes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .pixels import Fit, model_input

Matrix = Literal["bt601", "bt709"]
"""How luma and chroma were made of red, green and blue. BT.601 where nobody says, as JPEG has it, Android's cameras by default, and ARKit."""

Range = Literal["full", "limited"]
"""Luma of 0 to 255 around chroma of 128, or of 16 to 235 and chroma of 16 to 240 ("video range")."""

MATRICES: dict[Matrix, tuple[Fraction, Fraction]] = {
    "bt601": (Fraction(299, 1000), Fraction(114, 1000)),
    "bt709": (Fraction(2126, 10000), Fraction(722, 10000)),
}
"""Shares of red and of blue in luma, as the recommendations of the ITU have them."""

_BITS = 16


class Coefficients(NamedTuple):
    """The integers of step 2: what they stand for times 65536, rounded."""

    black: int
    gain: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int


def coefficients(matrix: Matrix, value_range: Range) -> Coefficients:
    """The integers for a matrix and a range, from the shares of red and blue in luma."""
    red, blue = MATRICES[matrix]
    green = 1 - red - blue
    full = value_range == "full"
    gain, chroma = (Fraction(1), Fraction(1)) if full else (Fraction(255, 219), Fraction(255, 224))
    to_red, to_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    terms = gain, to_red, to_blue * blue / green, to_red * red / green, to_blue
    return Coefficients(0 if full else 16, *(int(term * 2**_BITS + Fraction(1, 2)) for term in terms))


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Samples in memory: that of column ``x`` and row ``y`` is ``data[y row_stride + x pixel_stride]``.

    Attributes:
        data: ``(N,)`` uint8; what lies behind the last sample need not be there.
        row_stride: bytes from a row to the next.
        pixel_stride: bytes from a sample to the next of its row.
    """

    data: NDArray[np.uint8]
    row_stride: int
    pixel_stride: int = 1

    def samples(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """``(height, width)`` of them, a view.

        Raises:
            ValueError: they are not all there.
        """
        last = (top + height - 1) * self.row_stride + (left + width - 1) * self.pixel_stride
        if (
            min(top, left, height - 1, width - 1) < 0
            or min(self.row_stride, self.pixel_stride) < 1
            or last >= len(self.data)
        ):
            raise ValueError(
                f"a plane of {len(self.data)} bytes, {self.row_stride} to a row and {self.pixel_stride} to a sample, has no "
                f"samples up to row {top + height - 1}, column {left + width - 1}"
            )
        start = self.data[top * self.row_stride + left * self.pixel_stride :]
        return np.lib.stride_tricks.as_strided(
            start, (height, width), (self.row_stride, self.pixel_stride), writeable=False
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A frame in 4:2:0 and 8 bits, or a window of one.

    Attributes:
        width: columns of the window.
        height: rows of the window.
        y: a sample for each pixel of the buffer.
        u: one for each two by two, of blue (Cb).
        v: the same of red (Cr). Planes may lie within each other: in NV12 and NV21 `u` and `v` do.
        left: first column of the window in the buffer.
        top: first row.
    """

    width: int
    height: int
    y: Plane
    u: Plane
    v: Plane
    left: int = 0
    top: int = 0
    matrix: Matrix = "bt601"
    value_range: Range = "full"

    def rgb(self) -> NDArray[np.uint8]:
        """``(height, width, 3)`` uint8: steps 1 to 3.

        Raises:
            ValueError: a plane is too small.
        """
        down, across = (np.arange(n) // 2 for n in (self.top + self.height, self.left + self.width))
        down, across = down[self.top :], across[self.left :]
        rows, columns = int(down[-1]) + 1 - int(down[0]), int(across[-1]) + 1 - int(across[0])
        place = np.ix_(down - down[0], across - across[0])
        luma = self.y.samples(self.top, self.left, self.height, self.width)
        blue, red = (plane.samples(int(down[0]), int(across[0]), rows, columns)[place] for plane in (self.u, self.v))
        return converted(luma, blue, red, coefficients(self.matrix, self.value_range))


def converted(y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], by: Coefficients) -> NDArray[np.uint8]:
    """Step 2 of ``(...)`` uint8 each -> ``(..., 3)`` uint8 RGB."""
    blue, red = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    luma = by.gain * (y.astype(np.int32) - by.black) + 2 ** (_BITS - 1)
    summed = (luma + by.red_v * red, luma - by.green_u * blue - by.green_v * red, luma + by.blue_u * blue)
    return np.stack([np.clip(one >> _BITS, 0, 255) for one in summed], -1).astype(np.uint8)


def frame_input(frame: Frame, orientation: int, height: int, width: int, how: Fit = "crop") -> NDArray[np.uint8]:
    """The model's input of a frame: ``(height, width, 4)`` RGBA, alpha 255.

    Args:
        orientation: EXIF's number: 1 of a frame that is upright, 6 of one that needs a quarter turn clockwise (Android's 90 degrees), 3
            of 180, 8 of 270.
    """
    colours = frame.rgb()
    opaque = np.full((*colours.shape[:2], 1), 255, np.uint8)
    return model_input(np.concatenate([colours, opaque], -1), orientation, height, width, how)
