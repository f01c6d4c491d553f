"""Colours of an open image as bytes of sRGB, or a word why its values are no such colours."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .pixels import on_black

if TYPE_CHECKING:
    from PIL import Image

_MAX_PROFILE = 2**22
"""Bytes. Those of displays have some hundred, of printers a million."""
_SAME = 2
"""Levels that profiles of sRGB by other names differ by; such images are read as they are stored."""


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is not decoded yet has colours of 16 bits, of which Pillow gives the upper 8."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def rgb_of(image: Image.Image, name: str, *, is_deep: bool) -> tuple[NDArray[np.uint8], bool]:
    """``(H, W, 3)`` of an open image: of 16 bits the upper 8; and whether colours of a profile in it were turned to sRGB.

    Args:
        is_deep: of `is_deep`.

    Raises:
        DataError: its values are float, of 32 bits, or in the lower 12 of 16 bits: how bright they are meant is not known.
    """
    is_scaled = image.mode == "I" and image.format in ("PPM", "PNG")  # by Pillow, to 0..65535
    if image.mode == "F" or (image.mode == "I" and not is_scaled):
        kind = "float" if image.mode == "F" else "32-bit or signed"
        raise DataError(
            f"'{name}' has {kind} values, and what is black or white in them is not known. Save it with 8 bits, scaled as the "
            "app will see it."
        )
    if is_scaled or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if not is_scaled:
            _check_upper_bits(int(values.max()), name)
        return (values >> 8).astype(np.uint8)[..., None].repeat(3, -1), False
    profile = image.info.get("icc_profile") or b""
    has_alpha = image.mode in ("RGBA", "P", "LA", "PA", "RGBa") or "transparency" in image.info
    image = (
        image
        if image.mode in ("RGB", "RGBA") and has_alpha == (image.mode == "RGBA")
        else image.convert("RGBA" if has_alpha else "RGB")
    )
    pixels = np.asarray(image, np.uint8)
    if is_deep:
        _check_upper_bits(256 * int(pixels[..., :3].max()), name)
    is_turned = bool(profile) and _is_other_rgb(profile)
    if is_turned:
        pixels = np.asarray(_in_srgb(image, profile), np.uint8)
    return (on_black(pixels) if has_alpha else pixels), is_turned


def _check_upper_bits(largest: int, name: str) -> None:
    if largest < 4096:
        raise DataError(
            f"'{name}' has 16 bits, and all its values are below 4096: data of 12 bits or fewer, or a picture that is all but black. "
            "Which is not known: save it with 8 bits, scaled as the app will see it."
        )


@lru_cache(maxsize=64)
def _is_other_rgb(profile: bytes) -> bool:
    """Whether a profile is one of RGB, can be used, and makes other colours than sRGB does: iPhones' photos are in Display P3."""
    from PIL import Image

    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    try:
        turned = np.asarray(_in_srgb(Image.fromarray(grid), profile))
    except (OSError, ValueError):  # it is damaged, or of CMYK or grey
        return False
    return int(np.abs(turned.astype(int) - grid).max()) > _SAME


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An RGB or RGBA image with its colours turned from a profile's to sRGB, as phones do."""
    from PIL import ImageCms

    if len(profile) > _MAX_PROFILE:
        raise ValueError("too large")
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode=image.mode)
    except ImageCms.PyCMSError as error:
        raise ValueError(str(error)) from error
    assert found is not None
    return found
