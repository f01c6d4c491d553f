"""Images inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

THUMBNAIL = 96
"""Pixels of the longer side that an image has at most on the page."""


def data_uri(image: NDArray[np.uint8]) -> str:
    """An image ``(H, W, 3)`` uint8 as a PNG inside an address, no larger than `THUMBNAIL`."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
