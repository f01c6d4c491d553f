"""Image files of strangers, read; and images as models take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..reading import plain_size, shown
from .pixels import ORIENTATIONS, fit, on_black, upright

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can unpack to gigabytes."""
MAX_IMAGE_BYTES = 2**30
TENSORS = ".npz"
"""Suffix of files that are no images: what a model is given beside one."""
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names. It knows more: some run another program (EPS runs Ghostscript), some unpack without a limit."""


def listing(root: Path) -> dict[str, str]:
    """SHA-256 of every file below `root` that is read as an image, by its path."""
    return hashes(root, image_files(root) if root.is_dir() else [])


def hashes(root: Path, files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files below `root`, by their paths."""
    with ThreadPoolExecutor() as pool:
        return dict(zip((f.relative_to(root).as_posix() for f in files), pool.map(_file_digest, files), strict=True))


def image_files(folder: Path) -> list[Path]:
    """Plain files below a folder but hidden ones and tensors beside images, in order. Links to files are followed, those to folders are not: they could go round."""
    try:
        return sorted(
            p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix != TENSORS
        )
    except (OSError, RecursionError) as error:
        raise DataError(
            f"cannot list '{folder}': {type(error).__name__}: {shown(error)}. Mend or remove it."
        ) from error


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read the image '{path}': {error}. Mend or remove the file.") from error


def rgba(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(..., 3)`` RGB -> ``(..., 4)`` RGBA with alpha 255."""
    alpha = np.full((*images.shape[:-1], 1), 255, np.uint8)
    return np.concatenate([images, alpha], axis=-1)


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


def digits(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """scikit-learn's 1797 handwritten digits, 8 x 8 with 17 grey levels: images ``(N, height, width, 3)``, labels, and names."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, -1)
    images = np.stack([fit(image, height, width) for image in grey])
    return images, found.target.astype(np.int64), tuple(str(n) for n in range(10))


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file, the first frame of many, as ``(H, W, 3)`` uint8 RGB: EXIF orientation applied, alpha put on black.

    Raises:
        DataError: naming the file.
    """
    from PIL import ExifTags, Image

    Image.init()
    try:
        if (size := plain_size(path)) > MAX_IMAGE_BYTES:
            raise DataError(f"'{path}' has {size:,} bytes; at most {MAX_IMAGE_BYTES:,} are read")
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"'{path}' has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
            stored = image.getexif().get(ExifTags.Base.Orientation, 1)
            return upright(_rgb(image), stored if stored in ORIENTATIONS else 1)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly everything; the file's name is what helps
        raise DataError(f"cannot read the image '{path}': {error}. Mend or remove the file.") from error


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """``(H, W, 3)`` of an open image, as it is stored."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image, np.uint16) >> 8).astype(np.uint8)[..., None].repeat(3, -1)
    if image.mode in ("P", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        return on_black(np.asarray(image, np.uint8))
    return np.asarray(image.convert("RGB"), np.uint8)
