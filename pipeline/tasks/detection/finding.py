"""Where boxes of images are said, in COCO's JSON or in YOLO's text, and what these say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...data import Gathered, ImageFile, listed, others
from ...errors import DataError
from ..classification.names import Entry, matched
from . import coco, yolo
from .annotated import Annotated

SUFFIXES = (".json", ".txt", ".names", ".yaml", ".yml")


def files(path: Path, setting: str = "data.path") -> tuple[Path, tuple[ImageFile, ...]]:
    """The folder or archive of the images, and the files of annotations in it, or the one that is asked for.

    Args:
        setting: that gave the path, for messages.

    Raises:
        DataError: there is nothing of that name.
    """
    if not path.exists():
        raise DataError(f"{setting} '{path}' is no folder with images and their boxes: there is nothing of this name.")
    if path.suffix.lower() != ".json" or not path.is_file():
        return path, others(path, SUFFIXES)
    root = path.parent if listed(path.parent).files else path.parent.parent
    name = path.relative_to(root).as_posix()
    return root, tuple(file for file in others(root, SUFFIXES) if file.name == name)


def annotated(path: Path, *, skips_missing: bool, are_named: bool, setting: str = "data.path") -> Annotated:
    """What annotations say of images.

    Args:
        skips_missing: pass over images that are named and not there.
        are_named: whether the classes are named elsewhere.

    Raises:
        DataError: there are no images, no annotations or no boxes, or they cannot be read.
    """
    root, there = files(path, setting)
    images = listed(root).files
    if not images:
        raise DataError(f"{setting} '{path}' has no image.")
    jsons = [file for file in there if file.suffix == ".json"]
    rest = [file for file in there if file.suffix != ".json"]
    found = coco.read(jsons, images, skips_missing=skips_missing) if jsons else None
    if found is None:
        found = yolo.read(rest, images, are_named=are_named)
    elif count := yolo.count(rest, images):
        left = (
            f"COCO's JSON says the boxes ({', '.join(sorted(found.places.values()))}), and {count:,} images have a file of boxes in YOLO's text too, which is "
            "left out. Remove what is not meant, or give the JSON as the path."
        )
        found = replace(found, notes=(*found.notes, left))
    if found is None:
        without = "--unlabelled" if setting.startswith("--") else "for given weights: data.source = 'images'"
        raise DataError(
            f"{setting} '{path}' has {len(images):,} images, and nothing that says which boxes are in them: neither COCO's JSON "
            f"(images, annotations, categories) nor YOLO's text (labels/NAME.txt for images/NAME.jpg). {coco.nearly(jsons)}Without boxes, {without}."
        )
    if not any(map(len, found.boxes)):
        raise DataError(f"{setting} '{path}': no image has a box.")
    return found


def gathered_of(said: Annotated) -> Gathered:
    """The images; in sets where all of them are said to be in one."""
    has_sets = all(said.sets)
    return Gathered(
        files=said.files,
        words=("",) * len(said.files),
        sets=said.sets if has_sets else ("",) * len(said.files),
        places=said.places if has_sets else {"": ", ".join(sorted(said.places.values()))},
        passed=said.passed,
    )


def numbered(words: Sequence[str], entries: Sequence[Entry]) -> tuple[list[int], list[str]]:
    """Which of the outputs' classes each word is, and what is to be said of it; YOLO's numbers are places."""
    if words and all(word == f"class {n}" for n, word in enumerate(words)) and len(words) <= len(entries):
        return list(range(len(words))), []
    return matched(words, entries)
