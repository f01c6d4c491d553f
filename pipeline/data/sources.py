"""A data set of files, of whatever kind: what it has, and what the key of its reading is made from."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

from ..config import Arrays, Config
from ..errors import DataError
from . import beside, lists, shards
from .files import digests, listed
from .gathering import Gathered, of_folder
from .kinds import HEIF_SUFFIXES


def gathered(root: Path, *, is_sorted: bool, setting: str = "data.path") -> Gathered:
    """The images of a folder, an archive, shards or a list.

    Args:
        is_sorted: whether it has to say what is right of each.
        setting: that gave it, for messages.

    Raises:
        DataError: there is none, or it does not say what it should.
    """
    if lists.is_list(root):
        return lists.of_list(root, is_sorted=is_sorted)
    if not root.exists():
        raise DataError(f"{setting} '{root}' is no folder with images: there is nothing of this name.")
    found = listed(root)
    if is_sorted and shards.is_shard(found):
        return shards.of_shards(root, (root,), is_sorted=True)
    if not found.files and (inside := shards.in_folder(root)):
        return shards.of_shards(root, inside, is_sorted=is_sorted)
    return of_folder(found, is_sorted=is_sorted, setting=setting)


def data_ingredients(config: Config, *, is_sorted: bool) -> dict[str, Any]:
    """What tells the data of a configuration from others: the settings that say which images are for what, and the images.

    Args:
        is_sorted: whether the data have to say what is right of each image. Those to calibrate on alone do not.
    """
    settings = config.data
    found: dict[str, Any] = {
        "data settings": settings.model_dump(include={"source", "calibration", "seed"}),
        "share held out": settings.held_out_share,
        "how images are fitted": settings.fit,
    }
    if isinstance(settings, Arrays):
        found["images"] = beside.of_arrays(Path(settings.path or ""))
    elif settings.path:
        found["images"] = source_ingredients(Path(settings.path), is_sorted=is_sorted)
        found["damaged images"] = "passed over" if settings.skip_damaged else "an error"
    if settings.calibration_path:
        found["calibration images"] = source_ingredients(
            Path(settings.calibration_path), is_sorted=False, setting="data.calibration_path"
        )
    return found


def source_ingredients(root: Path, *, is_sorted: bool, setting: str = "data.path") -> dict[str, Any]:
    """What `gathered` finds, and the content of the files."""
    found = gathered(root, is_sorted=is_sorted, setting=setting)
    rows = [*zip((file.name for file in found.files), found.words, found.sets, strict=True)]
    more = [found.known, dict(found.places), dict(found.passed), found.notes]
    said: dict[str, Any] = {
        "content": digests(found.files),
        "what is said of them": hashlib.sha256(repr((rows, more)).encode(errors="surrogateescape")).hexdigest(),
    }
    if any(file.suffix in HEIF_SUFFIXES for file in found.files):
        said["version of pillow-heif"] = _version("pillow-heif")
    return said


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
