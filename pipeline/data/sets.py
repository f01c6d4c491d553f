"""Images and labels, split once into training, calibration and held-out sets."""

from __future__ import annotations

import hashlib
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from ..reading import plain_size, read_bytes, shown
from .pixels import ORIENTATIONS, fit, on_black, upright

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can unpack to gigabytes."""
MAX_IMAGE_BYTES = 2**30
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names. It knows more: some run another program (EPS runs Ghostscript), some unpack without a limit."""


_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They show a text in another order than it has; Arabic and Hebrew do without."""

MAX_LABELS = 10_000_000
"""Bytes of a file of class names."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images ``(N, H, W, 3)`` uint8 RGB and labels ``(N,)`` int64; -1 in a calibration set where it is unknown."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def digest(self) -> str:
        """SHA-256 of the shape, the pixels and the labels."""
        content = hashlib.sha256(repr(self.images.shape).encode())
        content.update(np.ascontiguousarray(self.images).tobytes())
        content.update(self.labels.astype("<i8").tobytes())
        return content.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The three sets and the class names in the order of the logits."""

    train: Split
    calibration: Split
    held_out: Split
    labels: tuple[str, ...]


def load(config: Config) -> Dataset:
    """The data set of a configuration, resized to the model's resolution.

    Equal images always fall into the same set, so a duplicate cannot leak from calibration into held-out.

    Raises:
        DataError: a file cannot be read, or a set would be empty.
    """
    if config.data.source == "digits":
        images, labels, names = _digits(config.model.resolution)
    else:
        images, labels, names = _folder(Path(config.data.path or ""), config.model.resolution)
    found = _split(images, labels, names, config)
    if config.data.calibration_path:
        found = _calibrated_on(Path(config.data.calibration_path), found, config)
    return replace(found, labels=_renamed(names, Path(config.data.labels))) if config.data.labels else found


def listing(root: Path) -> dict[str, str]:
    """SHA-256 of every file below `root` that is read as an image, by its path."""
    files = image_files(root) if root.is_dir() else []
    with ThreadPoolExecutor() as pool:
        return dict(zip((f.relative_to(root).as_posix() for f in files), pool.map(_file_digest, files), strict=True))


def image_files(folder: Path) -> list[Path]:
    """Plain files below a folder but hidden ones, in order. Links to files are followed, those to folders are not: they could go round."""
    try:
        return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
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


def changed_meanwhile(config: Config) -> DataError:
    return DataError(f"'{config.data.path}' changed while it was read. Run the command again when it is at rest.")


def read_labels(path: Path) -> tuple[str, ...]:
    """The lines of a file of class names, in UTF-8.

    Raises:
        DataError: it cannot be read, is far larger than names are, or a name is empty or there twice.
    """
    try:
        names = tuple(read_bytes(path, MAX_LABELS).decode().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read data.labels '{path}': {error}. Give a text file, one name a line.") from error
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise DataError(f"data.labels '{path}': line {number} is empty; every class needs a name")
        if name in seen:
            raise DataError(f"data.labels '{path}': line {number} repeats '{shown(name)}'; every class needs its own")
        _check_label(name, f"line {number} of data.labels")
        seen.add(name)
    return names


def _renamed(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    given = read_labels(path)
    if len(given) != len(names):
        raise DataError(
            f"data.labels '{path}' has {len(given)} lines, the data {len(names)} classes. "
            "Give one name a line, in the order of the class folders."
        )
    return given


def _calibrated_on(root: Path, found: Dataset, config: Config) -> Dataset:
    """With the images below `root` as calibration set, at most as many as configured, evenly chosen.

    Raises:
        DataError: there is none, or one of them is a held-out image too.
    """
    files = image_files(root) if root.is_dir() else []
    if not files:
        raise DataError(f"data.calibration_path '{root}' is no folder with images.")
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(len(files), config.data.calibration)).astype(int)]
    images = np.stack([fit(read_image(file), config.model.resolution) for file in chosen])
    known = {image.tobytes() for image in found.held_out.images}
    for file, image in zip(chosen, images, strict=True):
        if image.tobytes() in known:
            raise DataError(
                f"'{file}' is one of the held-out images too: measured on it, int8 would look better than it is. "
                "Calibrate on other images."
            )
    by_name = {name: label for label, name in enumerate(found.labels)}
    labels = [by_name.get(file.relative_to(root).parts[0], -1) for file in chosen]
    train = Split(
        images=np.concatenate([found.train.images, found.calibration.images]),
        labels=np.concatenate([found.train.labels, found.calibration.labels]),
    )
    calibration = Split(images=images, labels=np.array(labels, np.int64))
    return Dataset(train=train, calibration=calibration, held_out=found.held_out, labels=found.labels)


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


def _digits(resolution: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """scikit-learn's 1797 handwritten digits, 8 x 8 with 17 grey levels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, -1)
    images = np.stack([fit(image, resolution) for image in grey])
    return images, digits.target.astype(np.int64), tuple(str(n) for n in range(10))


def _folder(root: Path, resolution: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Images of ``root/<class>/*``; classes in the order of their names."""
    if not root.is_dir():
        raise DataError(f"data.path '{root}' is no folder. It must hold one folder of images per class.")
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(f"'{root}' holds {len(classes)} class folders; at least 2 are needed.")
    images, labels = [], []
    for label, folder in enumerate(classes):
        _check_label(folder.name, "the class folder")
        files = image_files(folder)
        if len(files) < 3:
            raise DataError(f"class '{folder.name}' has {len(files)} images; at least 3 are needed, one for each set.")
        images += [fit(read_image(file), resolution) for file in files]
        labels += [label] * len(files)
    return np.stack(images), np.array(labels, np.int64), tuple(p.name for p in classes)


def _check_label(name: str, where: str) -> None:
    """Raise a DataError where a name cannot be a line of ``labels.txt``, or would look like another one."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} {name!r} has a name that is no UTF-8 text. Rename it.") from error
    wrong = [c for c in name if unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _REORDERING]
    if wrong:
        raise DataError(
            f"{where} '{shown(name)}' has {unicodedata.name(wrong[0], 'a control character')} "
            f"(U+{ord(wrong[0]):04X}) in its name, which is a line of labels.txt. Rename it."
        )


def _split(images: NDArray[np.uint8], labels: NDArray[np.int64], names: tuple[str, ...], config: Config) -> Dataset:
    """Per class: held-out first, then calibration, the rest for training; groups of equal images stay together."""
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    per_class = max(1, round(config.data.calibration / len(names)))
    sets: tuple[list[int], list[int], list[int]] = ([], [], [])
    seen: dict[str, int] = {}
    random = np.random.default_rng(config.data.seed)
    for label in range(len(names)):
        order = np.flatnonzero(labels == label)
        random.shuffle(order)
        held = max(1, round(len(order) * config.data.held_out_share))
        calibration = min(per_class, max(1, (len(order) - held) // 2))
        for position, index in enumerate(order):
            wanted = 0 if position < held else 1 if position < held + calibration else 2
            sets[seen.setdefault(str(hashes[index]), wanted)].append(int(index))
    held_out, calibrated, train = (
        Split(images=images[sorted(chosen)], labels=labels[sorted(chosen)]) for chosen in sets
    )
    for name, part in (("held-out", held_out), ("calibration", calibrated), ("training", train)):
        if not len(part.images):
            raise DataError(f"the {name} set is empty: {len(images)} images are too few, or they are all equal.")
    return Dataset(train=train, calibration=calibrated, held_out=held_out, labels=names)
