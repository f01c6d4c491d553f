"""Image files of strangers, read; and images as models take them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..reading import instead
from .colours import is_deep, rgb_of
from .files import ImageFile
from .kinds import FORMATS, is_heif
from .pixels import ORIENTATIONS, Fit, fit, upright

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can unpack to gigabytes."""
MAX_JPEG_PIXELS = 2**30
"""Of JPEG, which is decoded at a half, a quarter or an eighth of its size where that is more than `MAX_PIXELS`."""
MAX_PROGRESSIVE_PIXELS = 2**28
"""Of JPEG in several passes, all of whose coefficients lie in memory at once."""
HEIC = "pip install 'twinkeel[heic]'"


class DamagedImage(DataError):
    """An image that cannot be decoded, as against one that is not read by a rule."""


def edge_images(held_out: NDArray[np.uint8], seed: int = 0) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Images ``(N, H, W, 3)`` at the edges of what can be fed, made from held-out ones, and their names."""
    _, height, width, _ = held_out.shape
    board = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    first = held_out[0]
    named = {
        "black": np.zeros((height, width, 3), np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
        "noise": np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8),
        "checkerboard": board,
        "shift-right": np.roll(first, 1, axis=1),
        "shift-down": np.roll(first, 1, axis=0),
    }
    return np.stack(list(named.values())), tuple(named)


def digits(height: int, width: int, how: Fit = "crop") -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """scikit-learn's 1797 handwritten digits, 8 x 8 with 17 grey levels: images ``(N, height, width, 3)``, labels, and names."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, -1)
    images = np.stack([fit(image, height, width, how) for image in grey])
    return images, found.target.astype(np.int64), tuple(str(n) for n in range(10))


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image.

    Attributes:
        pixels: ``(H, W, 3)`` uint8 RGB, upright.
        said: what was done to it beyond decoding, in words.
        orientation: in which it is stored, as EXIF numbers it.
    """

    pixels: NDArray[np.uint8]
    said: tuple[str, ...]
    orientation: int


def read_image(file: ImageFile | Path) -> NDArray[np.uint8]:
    """The pixels of `decoded`, ``(H, W, 3)`` uint8 RGB."""
    return decoded(file if isinstance(file, ImageFile) else ImageFile(file.parent, file.name)).pixels


def decoded(file: ImageFile) -> Decoded:
    """An image file, the first frame of many, as sRGB: EXIF orientation applied, alpha put on black.

    A JPEG of more than `MAX_PIXELS` comes at a half, a quarter or an eighth of its size.

    Raises:
        DamagedImage: it cannot be decoded.
        DataError: it is too large, or of a kind whose values have no known meaning as colours. Both name the file.
    """
    from PIL import Image

    content = b""
    try:
        content = file.read()
        with _without_warning(), _opened(file, content) as image:
            said = [f"reduced to 1/{n} while it was decoded" for n in _reduced(file, image)]
            deep = is_deep(image)  # what follows may decode it
            with suppress(Exception):  # it is the first that is wanted, whatever is wrong with others
                said += ["the first of several frames taken"] * bool(getattr(image, "is_animated", False))
            image.load()  # Pillow turns a TIFF itself by that, and takes its orientation away
            orientation = orientation_of(image)
            pixels, is_turned = rgb_of(image, str(file), is_deep=deep)
            said += ["colours turned to sRGB"] * is_turned
            return Decoded(pixels=upright(pixels, orientation), said=tuple(said), orientation=orientation)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"'{file}' is too large: at most {MAX_PIXELS:,} pixels are read") from error
    except Exception as error:  # Pillow's decoders raise nearly everything; the file's name is what helps
        raise DamagedImage(
            f"cannot read the image '{file}': {cause(error, content)}. Mend or remove the file."
        ) from error


def orientation_of(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1 where it says nothing that is known. A TIFF that is loaded was turned by that."""
    from PIL import ExifTags

    stored = image.getexif().get(ExifTags.Base.Orientation, 1)
    return stored if stored in ORIENTATIONS else 1


def cause(error: Exception, content: bytes) -> str:
    """Why there is no image, in words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # Pillow names the stream's place in memory
        return instead(content) or ("cannot identify what kind of image it is" if content else "it is empty")
    return str(error)


@contextmanager
def _without_warning() -> Iterator[None]:
    """Pillow warns of images from 89 million pixels on, which are read here up to a limit of our own."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _opened(file: ImageFile, content: bytes) -> Image.Image:
    from PIL import Image, JpegImagePlugin

    if is_heif(content[:64]):
        _know_heif(file)
    stream = io.BytesIO(content)
    if content.startswith(b"\xff\xd8\xff"):
        # Pillow's own limit lies below the photos of phones, and is one of the whole process
        return JpegImagePlugin.jpeg_factory(stream)
    Image.init()
    return Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])


def _reduced(file: ImageFile, image: Image.Image) -> Iterator[int]:
    """Have a large JPEG come smaller: by which factor, if any; a DataError where an image is too large all the same."""
    pixels = image.width * image.height
    if pixels <= MAX_PIXELS:
        return
    most = MAX_PIXELS
    if image.format in ("JPEG", "MPO"):
        most = MAX_PROGRESSIVE_PIXELS if image.info.get("progressive") else MAX_JPEG_PIXELS
    if pixels > most:
        raise DataError(f"'{file}' has {image.width} x {image.height} pixels; at most {most:,} are read")
    factor = next(n for n in (2, 4, 8) if pixels <= n * n * MAX_PIXELS)
    image.draft(image.mode, (image.width // factor, image.height // factor))
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"'{file}' has {pixels:,} pixels and cannot be read smaller; at most {MAX_PIXELS:,} are read")
    yield factor


def _know_heif(file: ImageFile) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise DataError(f"'{file}' is HEIC, as iPhones make it, which another package reads: {HEIC}") from error
    pillow_heif.register_heif_opener(thumbnails=False)
