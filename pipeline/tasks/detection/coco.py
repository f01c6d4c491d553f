"""COCO's JSON: images, annotations and categories, one file a set or one for all."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...data import ImageFile
from ...errors import DataError
from ...reading import quoted, shown
from .annotated import Annotated, Box, Images, refuse, set_of, table, within

MAX_BYTES = 2**30
"""COCO's own for its training images have 450 MB."""

Content = dict[str, list[Any]]


def read(files: Sequence[ImageFile], there: Sequence[ImageFile], *, skips_missing: bool) -> Annotated | None:
    """What JSON files say of images; None where none is COCO's with boxes.

    Args:
        files: of the annotations. Where some are called ``instances...``, as COCO's own are, the others are left out.
        there: the images.
        skips_missing: pass over images that are named and not there.

    Raises:
        DataError: they cannot be read, or contradict themselves or each other.
    """
    own = [file for file in files if PurePosixPath(file.name).name.startswith("instances")]
    passed, said = Counter[str](), Counter[str]()
    contents = [(file, content) for file in own or files if (content := _content(file)) is not None]
    if not contents:
        return None
    passed["file .json without boxes"] += len(files) - len(contents)
    ids, names = _categories(contents)
    images, missing = Images(there), list[str]()
    rows: dict[ImageFile, tuple[str, tuple[int, int], list[Box]]] = {}
    for file, content in contents:
        _read_one(file, content, ids, images, rows, missing, passed, said)
    if missing and not skips_missing:
        refuse(contents[0][0], missing, "Bring them, or pass over them with data.skip_damaged = true.")
    passed["image that is named and not there"] += len(missing)
    passed["image without an entry"] += len(there) - len(rows)
    if not rows:
        raise DataError(f"'{contents[0][0]}' names no image that is there.")
    boxes = tuple(within(table(found), *size, passed) for _, size, found in rows.values())
    return Annotated(
        files=tuple(rows),
        sets=tuple(one for one, _, _ in rows.values()),
        sizes=np.array([size for _, size, _ in rows.values()], np.int64),
        boxes=boxes,
        names=names,
        places={set_of_file(file): shown(file.name, 100) for file, _ in contents},
        passed=+passed,
        said=+said,
    )


def set_of_file(file: ImageFile) -> str:
    """By its name, or that of its folder."""
    return set_of(PurePosixPath(file.name).stem, *file.parts[:-1][::-1])


def _content(file: ImageFile) -> Content | None:
    """None where it is something else than COCO's with boxes: captions, or the settings of a program."""
    try:
        found = json.loads(file.read(MAX_BYTES).decode("utf-8-sig"), parse_constant=_refused)
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the annotations '{file}': {shown(error)}. Mend or remove the file.") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in keys):
        return None
    rows = found["annotations"]
    if rows and not any(isinstance(row, dict) and "bbox" in row for row in rows):
        return None
    return {key: found[key] for key in keys}


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _categories(contents: Sequence[tuple[ImageFile, Content]]) -> tuple[dict[int, int], tuple[str, ...]]:
    """The class of each id, and the names: in the order of the ids."""
    known: dict[int, str] = {}
    for file, content in contents:
        own: dict[int, str] = {}
        for number, entry in enumerate(content["categories"]):
            if (
                not isinstance(entry, dict)
                or type(entry.get("id")) is not int
                or not isinstance(entry.get("name"), str)
            ):
                raise DataError(f"'{file}': category {number} has no whole number as id and a name. Mend it.")
            name = entry["name"].strip()
            if entry["id"] in own:
                raise DataError(
                    f"'{file}': two categories have the id {entry['id']}: '{shown(own[entry['id']])}' and '{shown(name)}'."
                )
            if name in own.values():
                raise DataError(f"'{file}': two categories are called '{shown(name)}'. Give each its own name.")
            own[entry["id"]] = name
        if known and own != known:
            apart = sorted(set(own.items()) ^ set(known.items()))[:5]
            raise DataError(
                f"'{file}': other categories than in '{contents[0][0]}', {quoted([f'{n}: {shown(w, 50)}' for n, w in apart])} for example. "
                "Write the same into each."
            )
        known = own
    if not known:
        raise DataError(f"'{contents[0][0]}' has no category.")
    order = sorted(known)
    return {one: number for number, one in enumerate(order)}, tuple(known[one] for one in order)


def _read_one(
    file: ImageFile,
    content: Content,
    classes: dict[int, int],
    images: Images,
    rows: dict[ImageFile, tuple[str, tuple[int, int], list[Box]]],
    missing: list[str],
    passed: Counter[str],
    said: Counter[str],
) -> None:
    """A file's images and boxes into `rows`, names of those that are not there into `missing`."""
    folder, named = str(PurePosixPath(file.name).parent), set_of_file(file)
    by_id: dict[int, ImageFile | None] = {}
    wrong: list[str] = []
    refused: set[int | None] = set()
    for number, entry in enumerate(content["images"]):
        found = _image(entry)
        if isinstance(found, str):
            wrong.append(f"image {number} {found}")
            refused.add(entry.get("id") if isinstance(entry, dict) and isinstance(entry.get("id"), int) else None)
            continue
        identity, name, size = found
        image = images.named(name, folder, named)
        if identity in by_id:
            wrong.append(f"two images have the id {identity}, '{shown(name, 100)}' is one")
        elif image in rows:
            wrong.append(f"'{shown(name, 100)}' is the same image as another entry's")
        by_id[identity] = image
        if image is None:
            missing.append(f"no image '{shown(name, 100)}', or several end so")
        else:
            rows[image] = named or set_of(*image.parts[:-1][::-1]), size, []
    seen: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        box = _box(entry, by_id, classes, passed)
        if isinstance(box, str):
            if not (
                isinstance(entry, dict) and isinstance(entry.get("image_id"), int) and entry["image_id"] in refused
            ):
                named_by = entry.get("id") if isinstance(entry, dict) else None
                wrong.append(f"annotation {number}{'' if named_by is None else f' (id {shown(named_by, 30)})'} {box}")
            continue
        if (identity := entry.get("id")) is not None:
            said["boxes with the id of another, taken all the same"] += identity in seen
            seen.add(identity)
        if box is not None and (image := by_id[entry["image_id"]]) is not None:
            rows[image][2].append(box)
    refuse(file, wrong, "Mend the annotations.")


def _image(entry: Any) -> tuple[int, str, tuple[int, int]] | str:
    """Id, name, and height and width; or what is wrong."""
    if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("file_name"), str):
        return "has no whole number as id and a file_name"
    height, width = (side if type(side) is int else 0 for side in (entry.get("height"), entry.get("width")))
    if height < 1 or width < 1:
        given = f"height {shown(entry.get('height'), 30)} and width {shown(entry.get('width'), 30)}"
        return f"'{shown(entry['file_name'], 100)}' has {given}, and whole numbers of pixels are wanted"
    return entry["id"], entry["file_name"], (height, width)


def _box(entry: Any, by_id: dict[int, Any], classes: dict[int, int], passed: Counter[str]) -> Box | str | None:
    """A box; what is wrong with it; or None where it is one to pass over."""
    if not isinstance(entry, dict):
        return "is no object"
    if not isinstance(entry.get("image_id"), int) or entry["image_id"] not in by_id:
        return f"has the image_id {shown(entry.get('image_id'), 50)}, and no image has that id"
    if not isinstance(entry.get("category_id"), int) or entry["category_id"] not in classes:
        return f"has the category_id {shown(entry.get('category_id'), 50)}, and no category has that id"
    if entry.get("iscrowd"):
        passed["crowd"] += 1
        return None
    given = entry.get("bbox")
    if not given:
        passed["annotation without a box"] += 1
        return None
    if not isinstance(given, list) or len(given) != 4 or not all(_is_number(one) for one in given):
        return f"has the bbox {shown(given, 80)}, and left, top, width and height are wanted"
    left, top, width, height = map(float, given)
    return classes[entry["category_id"]], left, top, left + width, top + height


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
