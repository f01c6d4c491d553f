"""The data of a detector: images with boxes in them, and the names of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Arrays, Config
from ...data import (
    SHAPES,
    Dataset,
    Fitted,
    Gathered,
    Split,
    beside,
    calibrated_on,
    data_ingredients,
    digests,
    drawn_shapes,
    gathered,
    missing_classes,
    of_sets,
    read_sets,
    refitted,
    split,
    split_in_two,
)
from ...errors import DataError
from ...reading import quoted
from ..classification.names import check_name, read_entries
from . import finding, placed
from .declaring import declared


def load(config: Config, outputs: Callable[[], int] = lambda: 0) -> Dataset:
    """The data set of a configuration, at the size of the model's input; the truth is ``(N, most, 5)`` float32, as `Boxes.right` takes it,
    ``(N, 0, 5)`` where nothing is known.

    Raises:
        DataError: a file cannot be read, says something that cannot be, or a set would be empty.
    """
    size, source = config.model.size, "those of the data"
    if config.data.source == "shapes":
        drawn = drawn_shapes(*size)
        names, numbers, notes = _names(SHAPES, config)
        truth = _renumbered(drawn.boxes, numbers)
        found = split(drawn.images, truth, names, config, groups=np.zeros(len(truth), np.int64))
        found = replace(found, taken=of_sets(found, {}, _boxes_in))
    elif config.data.source == "folder":
        found, notes = _of_annotations(config)
    else:
        found, notes = _without_boxes(config), []
    if config.data.labels:
        source = f"{Path(config.data.labels).name}: {len(found.names):,}"
    if config.data.calibration_path:
        found = calibrated_on(
            Path(config.data.calibration_path), found, config, lambda there: _unknown(there, found), _boxes_in
        )
    if config.trains and not (found.train.truth[..., 0] >= 0).any():
        raise DataError("the training images have no box that could be learnt from.")
    return replace(found, notes=(*notes, *found.notes), taken=(*found.taken, ("names of classes", source)))


def ingredients(config: Config) -> dict[str, Any]:
    """What `load` reads, for the key of its result.

    Raises:
        ConfigError: nothing says what the outputs hold.
    """
    declared(config)
    found: dict[str, Any] = {}
    if config.data.source == "folder":
        root, files = finding.files(Path(config.data.path or ""))
        below = config.data.model_copy(update={"path": str(root)})
        found = data_ingredients(config.model_copy(update={"data": below}), is_sorted=False)
        found |= {"annotations": digests(files), "those of them that are asked for": [file.name for file in files]}
    else:
        found = data_ingredients(config, is_sorted=False)
    if config.data.labels:
        found["labels"] = [[entry.name, *entry.others] for entry in read_entries(Path(config.data.labels))]
    return found


def asks_weights(config: Config) -> bool:
    """The data name the classes, or data.labels does."""
    return False


def doubts(data: Dataset) -> list[str]:
    """Classes that calibration images do not show, one line."""
    held = _classes(data.held_out) | _classes(data.train)
    there = _classes(data.calibration)
    if not there:
        return []
    return missing_classes("are in no calibration image", held - there, _classes(data.train), data.names)


def marked(image: NDArray[np.uint8], truth: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """With the boxes drawn onto it, each class in a colour of its own."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for number, *corners in truth[truth[:, 0] >= 0].tolist():
        left, top, right, bottom = (round(scale * corner) for corner in corners)
        box = left, top, max(left, right - 1), max(top, bottom - 1)
        draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=(255, 255, 255))
        draw.rectangle(box, outline=COLOURS[int(number) % len(COLOURS)])
    return np.asarray(picture)


COLOURS = (
    (214, 39, 40),
    (31, 119, 180),
    (44, 160, 44),
    (148, 103, 189),
    (255, 127, 14),
    (23, 190, 207),
    (227, 119, 194),
    (140, 86, 75),
)


def _of_annotations(config: Config) -> tuple[Dataset, list[str]]:
    """Images whose boxes stand in COCO's JSON or in YOLO's text."""
    said = finding.annotated(
        Path(config.data.path or ""), skips_missing=config.data.skip_damaged, are_named=bool(config.data.labels)
    )
    names, numbers, notes = _names(said.names, config)
    there = finding.gathered_of(said)
    notes = [*said.notes, *notes]
    counts = Counter(said.said)

    def truth_of(used: NDArray[np.int64], read: Fitted) -> tuple[NDArray[np.float32], Fitted]:
        right, changed = placed.boxes_in_input(said, used, read.seen, config.model.size, config.data.fit)
        counts.update(changed)
        return _renumbered(right, numbers), read

    groups = np.zeros(len(said.files), np.int64)
    found = read_sets(there, groups, names, config, has_truth=True, more=_boxes_in, truth_of=truth_of)
    rows = tuple((what, f"{count:,}") for what, count in sorted(counts.items()))
    known = set().union(*(_classes(part) for part in (found.train, found.calibration, found.held_out)))
    if missing := [names[n] for n in range(len(names)) if n not in known]:
        notes.append(
            f"{len(missing)} of {len(names)} classes have no box in the images that are used: {quoted(missing, 5)}."
        )
    return replace(found, taken=(*found.taken, *rows)), notes


def _without_boxes(config: Config) -> Dataset:
    """Images that nothing is known of."""
    if not config.data.labels:
        raise DataError(
            "the images do not tell which classes there are: name them, one a line in the order of the outputs, in data.labels."
        )
    names = tuple(entry.name for entry in read_entries(Path(config.data.labels)))
    root = Path(config.data.path or "")
    if isinstance(config.data, Arrays):
        stored = np.load(root / "images.npy", mmap_mode="r", allow_pickle=False)
        images = refitted(stored, config.model.size, config.data.fit)
        found = split_in_two(images, _none(len(images)), names, config, beside.stored(root, len(images), config))
        return replace(found, taken=of_sets(found, {}))
    there = gathered(root, is_sorted=False)
    groups = np.zeros(len(there.files), np.int64)
    return read_sets(
        there, groups, names, config, has_truth=False, truth_of=lambda used, read: (_none(len(used)), read)
    )


def _none(count: int) -> NDArray[np.float32]:
    return np.zeros((count, 0, 5), np.float32)


def _unknown(there: Gathered, found: Dataset) -> NDArray[np.float32]:
    return np.full((len(there.files), *found.held_out.truth.shape[1:]), -1, np.float32)


def _names(words: tuple[str, ...], config: Config) -> tuple[tuple[str, ...], list[int], list[str]]:
    """Names of the classes in the order of the outputs, which of them each word is, and what is to be said of it."""
    for word in words:
        check_name(word, "the class")
    if not config.data.labels:
        return words, list(range(len(words))), []
    entries = read_entries(Path(config.data.labels))
    return tuple(entry.name for entry in entries), *finding.numbered(words, entries)


def _renumbered(truth: NDArray[np.float32], numbers: list[int]) -> NDArray[np.float32]:
    """With the classes as the outputs have them."""
    found = truth.copy()
    is_box = truth[..., 0] >= 0
    found[is_box, 0] = np.array(numbers, np.float32)[truth[is_box, 0].astype(int)]
    return found


def _classes(part: Split) -> set[int]:
    return set(part.truth[..., 0].astype(int).reshape(-1).tolist()) - {-1}


def _boxes_in(part: Split) -> str:
    count = int((part.truth[..., 0] >= 0).sum())
    return f" with {count:,} box{'es' if count != 1 else ''} of {len(_classes(part)):,} classes" if count else ""
