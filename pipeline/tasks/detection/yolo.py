"""YOLO's text: beside each image, or in a folder ``labels`` beside ``images``, a file with a box a line: class, centre x, centre y, width,
height, as shares of the image; or class and the corners of an outline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...data import ImageFile
from ...errors import DataError
from ...reading import quoted, shown
from .annotated import Annotated, Box, corners_instead, refuse, set_of, table, within

MAX_BYTES = 2**24
NAMES = ("classes.txt", "obj.names", "predefined_classes.txt", "labels.txt", "names.txt")
"""Files of the classes' names, a line each, where no YAML has them."""
_NEARLY_ONE = 1.001
_TRIED = 20
"""Files that tell whether texts beside images say boxes: a caption does not."""


def read(files: Sequence[ImageFile], there: Sequence[ImageFile], *, are_named: bool) -> Annotated | None:
    """What text files say of images; None where no image has one.

    Args:
        files: ``.txt``, ``.names``, ``.yaml`` and ``.yml``.
        there: the images.
        are_named: whether the classes are named elsewhere; what the files call them tells then which class of those a number is.

    Raises:
        DataError: a line says no box, nothing names the classes, or what does contradicts itself.
    """
    texts = {file.name: file for file in files if file.suffix == ".txt"}
    beside = [_label_file(image, texts) for image in there]
    if not any(beside):
        return None
    passed, said = Counter[str](), Counter[str]()
    wrong: list[str] = []
    boxes = [_boxes(file, wrong, said) if file is not None else [] for file in beside]
    refuse(
        there[0].root,
        wrong,
        "A line is: class, centre x, centre y, width, height, all but the class as shares of the image.",
    )
    used = {file.name for file in beside if file is not None}
    passed["file of boxes without an image"] += sum(
        name not in used and PurePosixPath(name).name not in NAMES and "labels" in PurePosixPath(name).parts
        for name in texts
    )
    said["images without a file of boxes, taken as showing none"] += beside.count(None)
    most = max((box[0] for found in boxes for box in found), default=-1)
    sets = tuple(set_of(*image.parts[:-1][::-1]) for image in there)
    notes = _doubts(boxes)
    return Annotated(
        files=tuple(there),
        sets=sets,
        sizes=np.zeros((len(there), 2), np.int64),
        boxes=tuple(within(table(found), 1.0, 1.0, passed) for found in boxes),
        names=_names(files, most, are_named=are_named),
        places={one: f"labels/*.txt{f' of {one}' if one else ''}" for one in sets},
        passed=+passed,
        said=+said,
        notes=notes,
    )


def count(files: Sequence[ImageFile], there: Sequence[ImageFile]) -> int:
    """How many images have a file of boxes; 0 where the first of these say something else."""
    texts = {file.name: file for file in files if file.suffix == ".txt"}
    beside = [file for image in there if (file := _label_file(image, texts)) is not None]
    wrong: list[str] = []
    try:
        is_any = any(_boxes(file, wrong, Counter()) for file in beside[:_TRIED])
    except DataError:
        return 0
    return len(beside) if is_any and not wrong else 0


def _label_file(image: ImageFile, texts: dict[str, ImageFile]) -> ImageFile | None:
    path = PurePosixPath(image.name).with_suffix(".txt")
    parts = list(path.parts)
    tried = [path]
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        tried.insert(0, PurePosixPath(*parts[:last], "labels", *parts[last + 1 :]))
    tried.append(PurePosixPath("labels", path.name))
    return next((texts[str(one)] for one in tried if str(one) in texts), None)


def _boxes(file: ImageFile, wrong: list[str], said: Counter[str]) -> list[Box]:
    try:
        lines = file.read(MAX_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read '{file}': {error}. Mend or remove the file.") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            box = _box(line.split())
            if isinstance(box, str):
                wrong.append(f"'{file.name}', line {number}: {box}")
            else:
                said["outlines, of which the boxes around them are taken"] += len(line.split()) > 5
                found.append(box)
    return found


def _box(cells: list[str]) -> Box | str:
    """Corners as shares; or what is wrong."""
    try:
        number, *values = (float(cell) for cell in cells)
    except ValueError:
        return f"'{shown(' '.join(cells), 60)}' are no numbers"
    strange = next((cell for cell in cells if not math.isfinite(float(cell))), None)
    if strange is not None:
        return f"'{shown(strange, 20)}' is not finite"
    if number != int(number) or not 0 <= number < 2**20:
        return f"'{shown(cells[0], 20)}' is no number of a class"
    if len(values) == 4:
        x, y, width, height = values
        corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    elif len(values) >= 6 and len(values) % 2 == 0:
        corners = min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])
    else:
        return f"{len(cells)} numbers; 5 are wanted, or a class and the corners of an outline"
    if max(values) > _NEARLY_ONE:
        return f"{max(values):g} is no share of the image: pixels?"
    return int(number), *corners


def _doubts(boxes: Sequence[Sequence[Box]]) -> tuple[str, ...]:
    """What the boxes of all images together speak for."""
    given = table([box for of_image in boxes for box in of_image])[:, 1:]
    numbers = np.concatenate([(given[:, :2] + given[:, 2:]) / 2, given[:, 2:] - given[:, :2]], 1)
    over = corners_instead(numbers, given, np.ones((len(given), 2)))
    if not over:
        return ()
    return (
        f"{over:,} of {len(given):,} boxes reach over the edge of their image and are cut there; with their numbers read as left, top, right and bottom, all "
        "would lie inside. YOLO's are centre x, centre y, width and height: write these, if the files have corners.",
    )


def _names(files: Sequence[ImageFile], most: int, *, are_named: bool) -> tuple[str, ...]:
    """Of the classes, by a YAML or a file of names; by their numbers where none is there and they are named elsewhere."""
    file, names = _naming(files)
    if file is None and not are_named:
        raise DataError(
            f"nothing names the classes 0 to {most} of the boxes: write data.yaml with `names: [first, second]`, or classes.txt with a name a "
            "line, beside them, or give data.labels."
        )
    if file is not None and (twice := [name for name, count in Counter(names).items() if count > 1]):
        raise DataError(f"'{file}': two classes are called {quoted([shown(twice[0], 50)])}. Give each its own name.")
    if len(names) > most:
        return names
    if file is not None and not are_named:
        raise DataError(
            f"'{file}' names {len(names)} classes, and a box is of the class {most}, counted from 0. Name all of them."
        )
    return (*names, *(f"class {n}" for n in range(len(names), most + 1)))


def _naming(files: Sequence[ImageFile]) -> tuple[ImageFile | None, tuple[str, ...]]:
    """The file that names the classes, and the names; None where there is none."""
    for file in files:
        if file.suffix in (".yaml", ".yml") and (found := _of_yaml(file)):
            return file, found
    for name in NAMES:
        for file in files:
            if PurePosixPath(file.name).name == name:
                lines = file.read(MAX_BYTES).decode("utf-8-sig", "replace").splitlines()
                return file, tuple(line.strip() for line in lines if line.strip())
    return None, ()


def _of_yaml(file: ImageFile) -> tuple[str, ...]:
    """Its names; empty where it has none."""
    import yaml  # type: ignore[import-untyped]

    try:
        content: Any = yaml.safe_load(file.read(MAX_BYTES))
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"cannot read '{file}': {shown(error)}. Mend or remove the file.") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(
                f"'{file}': names of {quoted([shown(key, 20) for key in names], 5)}; 0 to {len(names) - 1} are wanted"
            )
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        return ()
    count = content.get("nc")
    if type(count) is int and count != len(names):
        raise DataError(
            f"'{file}' says nc: {count}, and names {len(names)} classes: {quoted([shown(name, 50) for name in names])}. Name each class once, in the "
            "order of their numbers, or mend nc."
        )
    return tuple(str(name).strip() for name in names)
