"""COCO's JSON: images, annotations and categories, one file a set or one for all."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...data import ImageFile
from ...errors import DataError
from ...reading import quoted, shown
from .annotated import Annotated, Box, Images, corners_instead, refuse, set_of, table, within

MAX_BYTES = 2**30
"""COCO's own for its training images have 450 MB."""

KEYS = ("images", "annotations", "categories")
Content = dict[str, list[Any]]


@dataclass
class _Reading:
    """What is known so far of the images that are there.

    Attributes:
        rows: of each its set, the height and width that its boxes are said in, and its boxes.
        entries: the file that each is named in, and which entry of it, in words.
        missing: why images that are named were not found.
    """

    images: Images
    rows: dict[ImageFile, tuple[str, tuple[int, int], list[Box]]] = field(default_factory=dict)
    entries: dict[ImageFile, tuple[ImageFile, str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)


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
    found = _Reading(Images(there))
    contents = _contents(own or files, found.passed)
    if not contents:
        return None
    if own:
        for file in files:
            if file not in own:
                found.passed[_left_out(file, [one for one, _ in contents])] += 1
    ids, names = _categories(contents)
    for file, content in contents:
        _read_one(file, content, ids, found)
    rows = found.rows
    if found.missing and not skips_missing:
        refuse(contents[0][0], found.missing, "Bring them, or pass over them with data.skip_damaged = true.")
    found.passed["image that is named and not there"] += len(found.missing)
    found.passed["image without an entry"] += len(there) - len(rows)
    if not rows:
        raise DataError(f"'{contents[0][0]}' names no image that is there.")
    notes = _doubts(contents[0][0], rows.values())
    boxes = tuple(within(table(one), *size, found.passed) for _, size, one in rows.values())
    places: dict[str, list[str]] = {}
    for file, _ in contents:
        places.setdefault(set_of_file(file), []).append(shown(file.name, 100))
    return Annotated(
        files=tuple(rows),
        sets=tuple(one for one, _, _ in rows.values()),
        sizes=np.array([size for _, size, _ in rows.values()], np.int64),
        boxes=boxes,
        names=names,
        places={one: ", ".join(of_set) for one, of_set in places.items()},
        passed=+found.passed,
        said=+found.said,
        notes=notes,
    )


def set_of_file(file: ImageFile) -> str:
    """By its name, or that of its folder."""
    return set_of(PurePosixPath(file.name).stem, *file.parts[:-1][::-1])


def nearly(files: Sequence[ImageFile]) -> str:
    """What JSON files lack that might be meant as COCO's, for a message; empty where none is like it."""
    for file in files:
        content = _json(file, _raw(file))
        if isinstance(content, list) and any(isinstance(row, dict) and "bbox" in row for row in content):
            return f"'{file}' is a list, and an object with {_listed(KEYS)} is wanted. "
        there = [key for key in KEYS if isinstance(content, dict) and isinstance(content.get(key), list)]
        if there:
            lacking = [key for key in KEYS if key not in there]
            lacks = f"no {_listed(lacking, 'or')}" if lacking else "no annotation with a bbox"
            return f"'{file}' has {_listed(there)}, and {lacks}. "
    return ""


def _listed(keys: Sequence[str], word: str = "and") -> str:
    named = [f"`{key}`" for key in keys]
    return f" {word} ".join([", ".join(named[:-1]), named[-1]] if named[1:] else named)


def _contents(files: Sequence[ImageFile], passed: Counter[str]) -> list[tuple[ImageFile, Content]]:
    """Of the files that are COCO's with boxes; the others are counted."""
    found: list[tuple[ImageFile, Content]] = []
    seen: set[tuple[str, ...]] = set()
    others: list[bytes] = []
    for file in files:
        raw = _raw(file)
        # the same text in another folder may be of the images there
        mark = (*file.parts[:-1], hashlib.sha256(raw).hexdigest())
        if mark in seen:
            passed[_TWICE] += 1
        elif (content := _content(file, raw)) is not None:
            seen.add(mark)
            found.append((file, content))
        else:
            others.append(raw)
    if found:
        for raw in others:
            passed[_NOT_COCO if _BOX in raw else _BARE] += 1
    return found


def _left_out(file: ImageFile, taken: Sequence[ImageFile]) -> str:
    """What a file is that is left out for those that are called as COCO's own."""
    try:
        raw = file.read(MAX_BYTES)
    except (DataError, OSError):
        return _BESIDE
    if _BOX not in raw:
        return _BARE
    is_equal = any(file.parts[:-1] == one.parts[:-1] and raw == one.read(MAX_BYTES) for one in taken)
    return _TWICE if is_equal else _BESIDE


_BOX = b'"bbox"'
_BARE = "file .json without boxes"
_NOT_COCO = "file .json with boxes that is not COCO's"
_TWICE = "file .json with the same content as another"
_BESIDE = "file .json with boxes beside those called instances"


def _content(file: ImageFile, raw: bytes) -> Content | None:
    """None where it is something else than COCO's with boxes: captions, or the settings of a program."""
    found = _json(file, raw)
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in KEYS):
        return None
    rows = found["annotations"]
    if rows and not any(isinstance(row, dict) and "bbox" in row for row in rows):
        return None
    return {key: found[key] for key in KEYS}


def _raw(file: ImageFile) -> bytes:
    try:
        return file.read(MAX_BYTES)
    except OSError as error:
        raise DataError(f"cannot read the annotations '{file}': {shown(error)}. Mend or remove the file.") from error


def _json(file: ImageFile, raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        told = _strange_number(raw) if isinstance(error, _StrangeNumber) else ""
        raise DataError(
            f"cannot read the annotations '{file}': {told}{shown(error)}. Mend or remove the file."
        ) from error


class _StrangeNumber(ValueError):
    """NaN, or an infinite one."""


def _refused(text: str) -> float:
    raise _StrangeNumber(f"{text} is no number")


def _strange_number(raw: bytes) -> str:
    """Where the first one is, in words; empty where what follows it cannot be read either."""
    try:
        content = json.loads(raw.decode("utf-8-sig"), parse_constant=_Strange)
    except ValueError:
        return ""
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, _Strange):
            return f"{shown(path.removeprefix('.'), 100)}: "
        if isinstance(value, dict):
            waiting += [(f"{path}.{key}", one) for key, one in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{path}[{number}]", value[number]) for number in range(len(value) - 1, -1, -1)]
    return ""


class _Strange(str):
    """In the place of a number that is none."""


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
                given = {key: entry.get(key) for key in ("id", "name")} if isinstance(entry, dict) else entry
                raise DataError(
                    f"'{file}': category {number} has no whole number as id and a name, but {_given(given, 80)}. Mend it."
                )
            name = entry["name"].strip()
            if not name:
                raise DataError(f"'{file}': category {number} (id {entry['id']}) has an empty name. Give it one.")
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


def _read_one(file: ImageFile, content: Content, classes: dict[int, int], found: _Reading) -> None:
    """A file's images and boxes into what is known."""
    folder, named = str(PurePosixPath(file.name).parent), set_of_file(file)
    by_id: dict[int, tuple[str, ImageFile | None]] = {}
    wrong, advice = list[str](), "Mend the annotations."
    refused: set[int | None] = set()
    for number, entry in enumerate(content["images"]):
        read = _image(entry)
        if isinstance(read, str):
            wrong.append(f"image {number} {read}")
            refused.add(entry.get("id") if isinstance(entry, dict) and isinstance(entry.get("id"), int) else None)
            continue
        identity, name, size = read
        image = found.images.named(name, folder, named)
        if identity in by_id:
            wrong.append(
                f"two images have the id {identity}, '{shown(by_id[identity][0], 100)}' and '{shown(name, 100)}'"
            )
        elif image in found.rows:
            other, which = found.entries[image]
            wrong.append(f"image {number} '{shown(name, 100)}' is the same image as {which}")
            if other != file:
                advice = f"Keep one of the two files, or give the one that is meant as the path, '{other}' for example."
        by_id[identity] = name, image
        if image is None:
            found.missing.append(found.images.missed(name))
        else:
            found.rows[image] = named or set_of(*image.parts[:-1][::-1]), size, []
            which = f"image {number} of '{shown(file.name, 100)}', '{shown(name, 100)}'"
            found.entries.setdefault(image, (file, which))
    seen: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        box = _box(entry, by_id, classes, found.passed)
        if isinstance(box, str):
            if not (
                isinstance(entry, dict) and isinstance(entry.get("image_id"), int) and entry["image_id"] in refused
            ):
                named_by = entry.get("id") if isinstance(entry, dict) else None
                wrong.append(f"annotation {number}{'' if named_by is None else f' (id {shown(named_by, 30)})'} {box}")
            continue
        if (identity := entry.get("id")) is not None:
            found.said["boxes with the id of another, taken all the same"] += identity in seen
            seen.add(identity)
        if box is not None and (image := by_id[entry["image_id"]][1]) is not None:
            found.rows[image][2].append(box)
    refuse(file, wrong, advice)


def _image(entry: Any) -> tuple[int, str, tuple[int, int]] | str:
    """Id, name, and height and width; or what is wrong."""
    if not isinstance(entry, dict):
        return "is no object"
    if type(entry.get("id")) is not int or not isinstance(entry.get("file_name"), str):
        given = f"the id {_given(entry.get('id'))} and the file_name {_given(entry.get('file_name'), 100)}"
        return f"has {given}, and a whole number and a text are wanted"
    height, width = (side if type(side) is int else 0 for side in (entry.get("height"), entry.get("width")))
    if height < 1 or width < 1:
        given = f"height {_given(entry.get('height'))} and width {_given(entry.get('width'))}"
        return f"'{shown(entry['file_name'], 100)}' has {given}, and whole numbers of pixels are wanted"
    return entry["id"], entry["file_name"], (height, width)


def _given(value: Any, most: int = 30) -> str:
    """A value with what it is: of a number and the same number as text one is wanted alone."""
    return shown(repr(value), most)


def _unknown(entry: dict[str, Any], key: str, known: Mapping[int, Any], what: str) -> str:
    """What is wrong with the id under a key; empty where it is one of the known."""
    value = entry.get(key)
    if isinstance(value, int) and value in known:
        return ""
    meant = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else None
    number = f": it is text, and the number {meant} is one" if meant in known else ""
    return f"has the {key} {_given(value, 50)}, and no {what} has that id{number}"


def _box(entry: Any, by_id: Mapping[int, Any], classes: Mapping[int, int], passed: Counter[str]) -> Box | str | None:
    """A box; what is wrong with it; or None where it is one to pass over."""
    if not isinstance(entry, dict):
        return "is no object"
    if wrong := _unknown(entry, "image_id", by_id, "image") or _unknown(entry, "category_id", classes, "category"):
        return wrong
    if entry.get("iscrowd"):
        passed["crowd"] += 1
        return None
    given = entry.get("bbox")
    if not given:
        passed["annotation without a box"] += 1
        return None
    if not isinstance(given, list) or len(given) != 4 or not all(_is_number(one) for one in given):
        return f"has the bbox {_given(given, 80)}, and left, top, width and height are wanted"
    left, top, width, height = map(float, given)
    return classes[entry["category_id"]], left, top, left + width, top + height


def _doubts(file: ImageFile, rows: Iterable[tuple[str, tuple[int, int], list[Box]]]) -> tuple[str, ...]:
    """What the boxes of all images together speak for.

    Raises:
        DataError: they are no pixels.
    """
    given = [(size, box) for _, size, boxes in rows for box in boxes]
    boxes = table([box for _, box in given])[:, 1:]
    sizes = np.array([size[::-1] for size, _ in given], np.float64).reshape(-1, 2)
    is_box = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if is_box.any() and (boxes[is_box, 2:] <= _SHARES).all() and sizes.min() >= _NO_ICON:
        raise DataError(
            f"'{file}': all {int(is_box.sum()):,} boxes end within {_SHARES} pixels of the upper left corner of their image, as shares of it, 0 to 1, do. "
            "COCO's are left, top, width and height in pixels: multiply each with the width or the height of its image."
        )
    numbers = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    count = corners_instead(numbers, boxes, sizes)
    if not count:
        return ()
    return (
        f"{count:,} of {len(boxes):,} boxes reach over the edge of their image and are cut there; with their numbers read as left, top, right and bottom, "
        f"all would lie inside. COCO's are left, top, width and height: if '{shown(file.name, 100)}' has corners, take left from right and top from "
        "bottom.",
    )


_SHARES, _NO_ICON = 2, 16
"""Pixels: within so many of a corner no box of an image that is larger is meant."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
