"""Masks beside images: a file of class numbers for each, read, laid over its image, and brought to the size of a model's input with it.

A mask is a picture of the image's own size whose pixels are numbers: grey values, or places in a palette. `UNCOUNTED` says that nothing is known of
a pixel. Of a photo that is stored turned, a mask of the stored size lies as the photo is stored and is turned with it; a mask of the upright size lies
upright; a mask whose own file says how it is to be turned is turned so. Where both sizes are the same it lies as the photo is stored.

A pixel of the input has the number of the mask's pixel in which its middle lies, of the one right of it or below where that is an edge: the row ``i`` of
``rows`` that show ``height`` rows of the photo from ``top`` on is the row ``top + floor((2 i + 1) height / (2 rows))``. Pixels that show nothing of
the photo are not counted.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from ..reading import shown
from ..rows import parts
from .decoding import Seen
from .files import ImageFile, counted, digests, listed
from .fitting import Fitted, fitted
from .gathering import SETS, Gathered
from .images import MAX_PIXELS, DamagedImage, cause, orientation_of
from .lists import is_list
from .pixels import Fit, upright
from .placing import Placed

if TYPE_CHECKING:
    from PIL import Image

UNCOUNTED = 255
IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages", "photos"})
MASK_FOLDERS = frozenset({"masks", "mask", "annotations", "annotation", "segmentationclass", "segmentations"})
"""In small letters."""

_ENDINGS = re.compile(r"[_-](mask|masks|seg|segmentation|gt|annotation)$", re.IGNORECASE)
"""Of a mask's name behind its image's."""
_LOSSLESS = ("BMP", "DIB", "GIF", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF")
_WANTED = (
    "A mask is a PNG with the number of a class in each pixel, grey or with a palette, and 255 where none is counted"
)


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Images, and the mask of each by the image's name."""

    there: Gathered
    masks: Mapping[str, ImageFile]


def paired(root: Path, setting: str = "data.path") -> Paired:
    """The images below a folder or in an archive that have a mask: of the same path but for its suffix, below a folder of `MASK_FOLDERS` in the place
    of one of `IMAGE_FOLDERS`, or of none. Where the folders beside these are called as sets are, they are the sets.

    Raises:
        DataError: there is none, or two images have one name.
    """
    if not root.exists() or is_list(root):
        what = "a list names no masks" if root.exists() else "there is nothing of this name"
        raise DataError(f"{setting} '{root}' is no folder of images and masks: {what}. {_LAID}")
    found = listed(root)
    photos: dict[tuple[str, ...], ImageFile] = {}
    masks: dict[tuple[str, ...], ImageFile] = {}
    for file in found.files:
        key, is_mask = _key(file)
        of_kind = masks if is_mask else photos
        if key in of_kind:
            raise DataError(
                f"'{of_kind[key]}' and '{file}' are {'masks' if is_mask else 'images'} of one name. Keep one, or rename the other with its "
                f"{'image' if is_mask else 'mask'}."
            )
        of_kind[key] = file
    masks = {_of_photo(key, photos): file for key, file in masks.items()}
    both = [key for key in photos if key in masks]
    if not both:
        raise DataError(_unpaired(f"{setting} '{root}'", photos, masks))
    passed = Counter(found.passed)
    passed["image without a mask"] += len(photos) - len(both)
    passed["mask without an image"] += len(masks) - len(both)
    sets = _sets(both)
    there = Gathered(
        files=tuple(photos[key] for key in both),
        words=("",) * len(both),
        sets=sets,
        places={
            name: f"the folders '{name}'" if name else "the folder's images with masks" for name in dict.fromkeys(sets)
        },
        passed=+passed,
    )
    return Paired(there=there, masks={photos[key].name: masks[key] for key in both})


_LAID = (
    "Put images into 'images/' and their masks, PNG of the same names, into 'masks/' beside it. Images without masks, for given weights: "
    "data.source = 'images'."
)


def _key(file: ImageFile) -> tuple[tuple[str, ...], bool]:
    """What an image and its mask have in common: the path without the folders of their kinds, and without a suffix; and whether it is a mask."""
    folders, name = file.parts[:-1], file.parts[-1]
    is_mask = any(part.lower() in MASK_FOLDERS for part in folders)
    kinds = MASK_FOLDERS if is_mask else IMAGE_FOLDERS
    rest = [part for part in folders if part.lower() not in kinds]
    return (*rest, PurePosixPath(name).stem), is_mask


def _of_photo(key: tuple[str, ...], photos: Mapping[tuple[str, ...], ImageFile]) -> tuple[str, ...]:
    """Without an ending as `_mask`, where no image has the whole name."""
    bare = (*key[:-1], _ENDINGS.sub("", key[-1]))
    return bare if key not in photos and bare in photos else key


def _unpaired(
    where: str, photos: Mapping[tuple[str, ...], ImageFile], masks: Mapping[tuple[str, ...], ImageFile]
) -> str:
    if not masks:
        return f"{where} has {counted({'image': len(photos)})} and no folder of masks. {_LAID}"
    examples = [f"'{next(iter(files.values()))}'" for files in (photos, masks) if files]
    return (
        f"{where}: none of {counted({'mask': len(masks)})} has the name of one of {counted({'image': len(photos)})}, as "
        f"{' and '.join(examples)}. {_LAID}"
    )


def _sets(keys: list[tuple[str, ...]]) -> tuple[str, ...]:
    """By the first folder of each, where all are called as sets are, and they are several."""
    found = [SETS.get(key[0].lower(), "") if len(key) > 1 else "" for key in keys]
    return tuple(found) if all(found) and len(set(found)) > 1 else ("",) * len(keys)


def read_masks(
    pairs: Paired, numbers: NDArray[np.int64], read: Fitted, config: Config, classes: int
) -> tuple[NDArray[np.uint8], Fitted]:
    """The masks ``(N, height, width)`` of images of these numbers at the size of the input, and the images without those whose masks are damaged
    and to be passed over.

    Args:
        read: these images.
        classes: how many there are; 0 where that is not known.

    Raises:
        DataError: naming all files that cannot be read.
    """
    files = [pairs.there.files[n] for n in numbers]
    masks = {file.name: (pairs.masks[file.name], *seen) for file, seen in zip(files, read.seen.tolist(), strict=True)}
    found = fitted(
        files,
        config.model.size,
        skips_damaged=config.data.skip_damaged,
        read=partial(_pixels, masks, config.model.size, config.data.fit, classes),
    )
    if not found.kept.any():
        raise DataError(f"data.path '{config.data.path}': no mask can be read. {_LAID}")
    damaged = [str(pairs.masks[file.name]) for file, is_kept in zip(files, found.kept, strict=True) if not is_kept]
    return np.concatenate([part[..., 0] for part in parts(found.images)]), read.without(
        ~found.kept, damaged, found.said
    )


def nearest(mask: NDArray[np.uint8], placed: Placed, wanted: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask of an upright photo at the size of the input, ``(height, width)``."""
    top, left, height, width = placed.photo
    above, beside, rows, columns = placed.input
    down = top + (2 * np.arange(rows) + 1) * height // (2 * rows)
    across = left + (2 * np.arange(columns) + 1) * width // (2 * columns)
    found = np.full(wanted, UNCOUNTED, np.uint8)
    found[above : above + rows, beside : beside + columns] = mask[down[:, None], across]
    return found


def _pixels(
    masks: Mapping[str, tuple[ImageFile, int, int, int]],
    size: tuple[int, int],
    how: Fit,
    classes: int,
    photo: ImageFile,
) -> tuple[NDArray[np.uint8], tuple[str, ...], Seen]:
    file, *shape = masks[photo.name]
    seen = shape[0], shape[1], shape[2]
    found, said = mask_in_input(file, photo, seen, size, how, classes)
    return found[..., None].repeat(3, -1), said, seen


def mask_in_input(
    file: ImageFile, photo: ImageFile, seen: Seen, size: tuple[int, int], how: Fit, classes: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The mask ``(height, width)`` uint8 of a photo at the size of the input, and what was done to read it.

    Args:
        seen: the photo's height and width upright, and the orientation in which it is stored.
        classes: how many there are; 0 where that is not known.

    Raises:
        DamagedImage: the mask cannot be decoded.
        DataError: it holds no numbers of classes, or has another size than the photo.
    """
    numbers, own, said = _numbers(file)
    mask, more = _laid(file, numbers, own, photo, seen)
    known = mask[mask != UNCOUNTED]
    if classes and known.size and int(known.max()) >= classes:
        raise DataError(
            f"'{file}' has the class {int(known.max())}, and there are {classes}, 0 to {classes - 1}. Name all classes in data.labels, in the order "
            "of their numbers, or give pixels of others 255, which is not counted."
        )
    return nearest(mask, Placed.of(seen[:2], size, how), size), (*said, *more)


def _numbers(file: ImageFile) -> tuple[NDArray[np.uint8], int, tuple[str, ...]]:
    """The numbers ``(H, W)`` of a mask's file as they are stored, its own orientation, and what was done to read them."""
    from PIL import Image

    content = b""
    try:
        content = file.read()
        with Image.open(io.BytesIO(content)) as image:
            if image.format not in _LOSSLESS:
                raise DataError(f"'{file}' is a {image.format}, which need not keep numbers as they are. {_WANTED}.")
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"'{file}' has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
            orientation = orientation_of(image)
            numbers, said = _of_mode(file, image)
            return numbers, orientation, said
    except DataError:
        raise
    except Exception as error:  # as of images: Pillow's decoders raise nearly everything
        raise DamagedImage(
            f"cannot read the mask '{file}': {shown(cause(error, content))}. Mend or remove the file."
        ) from error


def _of_mode(file: ImageFile, image: Image.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if image.mode in ("P", "L", "1"):
        return np.asarray(image).astype(np.uint8), ()
    values = np.asarray(image)
    if image.mode in ("RGB", "RGBA", "LA"):
        colours = values[..., :3] if image.mode != "LA" else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise DataError(
                f"'{file}' is a picture in colours, and which colour is which class is not said. {_WANTED}: save it with a palette (Pillow: "
                "mode 'P'), or its numbers alone."
            )
        return np.ascontiguousarray(colours[..., 0]), (f"masks in {image.mode} read as grey",)
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > UNCOUNTED:
        raise DataError(
            f"'{file}' has pixels of {image.mode}, {values.min()} to {values.max()}; 0 to 255 are known. {_WANTED}."
        )
    return values.astype(np.uint8), ()


def _laid(
    file: ImageFile, numbers: NDArray[np.uint8], own: int, photo: ImageFile, seen: Seen
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The mask of the upright photo."""
    height, width, orientation = seen
    stored = (width, height) if orientation >= 5 else (height, width)
    if own != 1:
        numbers, stored, orientation = _turned(numbers, own), (height, width), 1
    if numbers.shape == stored and orientation != 1:
        return _turned(numbers, orientation), ("masks turned with their images",)
    if numbers.shape == (height, width):
        return numbers, ()
    raise DataError(
        f"the mask '{file}' has {numbers.shape[1]} x {numbers.shape[0]} pixels, and its image '{photo}' {width} x {height}. A mask has the "
        "size of its image: save it so, with the nearest pixel, not with values between."
    )


def _turned(numbers: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    return upright(numbers[..., None], orientation)[..., 0]


def pair_ingredients(root: Path) -> dict[str, str]:
    """SHA-256 of every image and mask that `read_pairs` reads, and what else it finds."""
    pairs = paired(root)
    said = repr([(file.name, pairs.masks[file.name].name) for file in pairs.there.files]) + repr(
        [pairs.there.sets, dict(pairs.there.passed)]
    )
    own = hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()
    return digests([*pairs.there.files, *pairs.masks.values()]) | {"": own}
