"""The data of a segmentation network: images with a mask each, and the names of the classes."""

from __future__ import annotations

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
    Split,
    beside,
    calibrated_on,
    data_ingredients,
    drawn_shapes,
    gathered,
    missing_classes,
    of_sets,
    pair_ingredients,
    paired,
    read_masks,
    read_sets,
    refitted,
    split,
    split_in_two,
)
from ...errors import DataError
from ..classification.names import read_labels
from .decoding import MOST_CLASSES, UNSEEN

BACKGROUND = "background"


def load(config: Config, outputs: Callable[[], int] = lambda: 0) -> Dataset:
    """Images, and masks ``(N, height, width)`` uint8 of the input's size: the class of each pixel, `UNSEEN` where none is counted.

    Args:
        outputs: gives the number of classes of the given weights, for images whose classes nobody names.

    Raises:
        DataError: a file cannot be read, or a set would be empty.
    """
    root, size = Path(config.data.path or ""), config.model.size
    if config.data.source == "shapes":
        drawn = drawn_shapes(*size)
        names = _labels(config) or (BACKGROUND, *SHAPES)
        _check_count(names, config, 1 + len(SHAPES))
        found = split(drawn.images, drawn.masks, names, config, np.zeros(len(drawn.masks), np.int64))
        found = replace(found, taken=of_sets(found, {}, _classes_in))
    elif config.data.source == "folder":
        found = _masked(root, config)
    else:
        found = _unmasked(root, config, outputs)
    if config.data.calibration_path:
        path = Path(config.data.calibration_path)
        found = calibrated_on(path, found, config, lambda there: _unknown(len(there.files), size), _classes_in)
    source = Path(config.data.labels).name if config.data.labels else "those of the data"
    return replace(found, taken=(*found.taken, ("names of classes", f"{source}: {len(found.names):,}")))


def ingredients(config: Config) -> dict[str, Any]:
    """What `load` reads, for the key of its result.

    Raises:
        ConfigError: the last layer would have to be trained by itself.
    """
    if config.data.source == "folder":
        settings = config.model_copy(update={"data": config.data.model_copy(update={"path": None})})
        found = data_ingredients(settings, is_sorted=False)
        found["images and masks"] = pair_ingredients(Path(config.data.path or ""))
        found["damaged images"] = "passed over" if config.data.skip_damaged else "an error"
    else:
        found = data_ingredients(config, is_sorted=False)
    if config.data.labels:
        found["labels"] = list(_labels(config))
    return found


def asks_weights(config: Config) -> bool:
    """Images without masks do not tell how many classes there are, a file of names does."""
    return config.data.source not in ("shapes", "folder") and not config.data.labels


def doubts(data: Dataset) -> list[str]:
    """What is wrong with the calibration set as far as masks tell, one line each."""
    held, there = ({*np.unique(part.truth).tolist()} - {UNSEEN} for part in (data.held_out, data.calibration))
    if not there:
        return []
    trained = np.unique(data.train.truth).tolist()
    return missing_classes("have no pixel in the calibration images", held - there, trained, data.names)


def _labels(config: Config) -> tuple[str, ...]:
    names = read_labels(Path(config.data.labels)) if config.data.labels else ()
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"data.labels '{config.data.labels}' has {len(names):,} classes, and a mask can hold {MOST_CLASSES}."
        )
    return names


def _check_count(names: tuple[str, ...], config: Config, count: int) -> None:
    if len(names) < count:
        raise DataError(
            f"data.labels '{config.data.labels}' has {len(names)} names, and the masks have {count} classes."
        )


def _numbers_in(part: Split) -> NDArray[np.int64]:
    """What pixels hold, `UNSEEN` among it, in order; a mask at a time, for of all together a sort takes minutes."""
    found = np.zeros(UNSEEN + 1, np.bool_)
    for mask in part.truth:
        found[mask] = True
    return np.flatnonzero(found)


def _check_numbers(found: Dataset) -> NDArray[np.int64]:
    """The numbers of the classes in all masks.

    Raises:
        DataError: there are none to be told apart, or in a set that is trained or judged by no pixel is counted.
    """
    sets = {"training": found.train, "calibration": found.calibration, "held-out": found.held_out}
    each = {name: _numbers_in(part) for name, part in sets.items()}
    there = np.unique(np.concatenate(list(each.values())))
    known: NDArray[np.int64] = there[there != UNSEEN]
    if len(known) < 2:
        only = f"the class {known[0]} alone" if len(known) else "no class"
        ends = (
            " Where 255 is meant to be a class, write 1 in its place: 255 is not counted here."
            if UNSEEN in there
            else ""
        )
        raise DataError(f"the masks have {only}; at least 2 are needed.{ends}")
    for name in ("training", "held-out"):
        if each[name].tolist() == [UNSEEN]:
            raise DataError(
                f"no pixel of the {name} images is counted: their masks hold 255 alone, {len(sets[name].truth):,} of them. Write the numbers of classes, "
                "from 0 on, into them; 255 is for pixels of which nothing is known."
            )
    return known


def _masked(root: Path, config: Config) -> Dataset:
    """Images with masks beside them."""
    pairs, names = paired(root), _labels(config)
    alike = np.zeros(len(pairs.there.files), np.int64)
    found = read_sets(
        pairs.there,
        alike,
        names,
        config,
        has_truth=True,
        more=_classes_in,
        truth_of=lambda numbers, read: read_masks(pairs, numbers, read, config, len(names)),
    )
    known = _check_numbers(found)
    if names:
        return found
    names, count = tuple(f"class {number}" for number in range(int(known.max()) + 1)), len(known)
    notes = [
        f"the masks have the numbers of {count} classes, and the largest, {len(names) - 1}, makes {len(names)} of them: if that is not meant, "
        "mend the masks (a stray number, or 0, 100, 200 to tell them apart by eye), or name the classes in data.labels."
    ]
    return replace(found, names=names, notes=(*found.notes, *(notes if len(names) > 2 * count else ())))


def _unmasked(root: Path, config: Config, outputs: Callable[[], int]) -> Dataset:
    """Images alone, for given weights."""
    names = _labels(config) or tuple(f"class {number}" for number in range(outputs()))
    if len(names) > MOST_CLASSES:
        raise DataError(f"the weights have {len(names):,} outputs, and a mask can hold {MOST_CLASSES} classes.")
    if isinstance(config.data, Arrays):
        images = refitted(np.load(root / "images.npy", mmap_mode="r", allow_pickle=False), config.model.size)
        truth = _unknown(len(images), config.model.size)
        found = split_in_two(images, truth, names, config, beside.stored(root, len(images), config))
        return replace(found, taken=of_sets(found, {}))
    there = gathered(root, is_sorted=False)
    found = read_sets(there, np.full(len(there.files), -1, np.int64), names, config, has_truth=False)
    train, calibration, held_out = (
        replace(part, truth=_unknown(len(part.images), config.model.size))
        for part in (found.train, found.calibration, found.held_out)
    )
    return replace(found, train=train, calibration=calibration, held_out=held_out)


def _unknown(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.full((count, *size), UNSEEN, np.uint8)


def _classes_in(part: Split) -> str:
    """How many classes, and how much is not counted."""
    counts = np.bincount(part.truth.reshape(-1), minlength=UNSEEN + 1)
    classes, unseen = int((counts[:UNSEEN] > 0).sum()), counts[UNSEEN] / max(1, counts.sum())
    if not classes:
        return ""
    less = f", {100 * unseen:.1f} % of the pixels not counted" if unseen else ""
    return f" of {classes:,} class{'es' if classes != 1 else ''}{less}"
