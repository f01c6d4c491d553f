"""The data of a classifier: images with a label each, and the names of the classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Arrays, Config
from ...data import (
    Dataset,
    Gathered,
    Split,
    beside,
    calibrated_on,
    data_ingredients,
    digits,
    gathered,
    of_sets,
    read_sets,
    refitted,
    split,
    split_in_two,
)
from ...errors import DataError
from ...reading import quoted
from .names import Entry, check_name, matched, may_lack_background, read_entries, with_background


@dataclass(frozen=True, kw_only=True)
class _Classes:
    """What the outputs stand for.

    Attributes:
        names: in their order.
        numbers: of the outputs, by what folders and lists say.
        source: of the names, in words.
        notes: what is to be said of it.
    """

    names: tuple[str, ...]
    numbers: Mapping[str, int]
    source: str
    notes: tuple[str, ...] = ()

    def of(self, found: Gathered) -> NDArray[np.int64]:
        """Labels of images, -1 where they are not known: what is said of them, or the name of the first folder they lie in."""
        own = [
            word or unicodedata.normalize("NFC", file.parts[0])
            for word, file in zip(found.words, found.files, strict=True)
        ]
        return np.array([self.numbers.get(word, -1) for word in own], np.int64)


def load(config: Config, outputs: Callable[[], int] = lambda: 0) -> Dataset:
    """The data set of a configuration, at the size of the model's input; labels are int64, -1 where they are not known.

    Args:
        outputs: gives the number of classes of the given weights, for images whose classes nobody names.

    Raises:
        DataError: a file cannot be read, or a set would be empty.
    """
    if isinstance(config.data, Arrays):
        found, classes = _in_memory(Path(config.data.path or ""), config, outputs)
    elif config.data.source == "digits":
        images, labels, words = digits(*config.model.size, config.data.fit)
        classes = _classes(words, config, outputs)
        labels = np.array([classes.numbers[words[label]] for label in labels], np.int64)
        found = split(images, labels, classes.names, config, groups=labels)
        found = replace(found, taken=of_sets(found, {}, _classes_in))
    else:
        found, classes = _of_files(Path(config.data.path or ""), config, outputs)
    if config.data.calibration_path:
        found = calibrated_on(Path(config.data.calibration_path), found, config, classes.of, _classes_in)
    more = _untrained(found) if config.trains else []
    return replace(
        found, notes=(*classes.notes, *found.notes, *more), taken=(*found.taken, ("names of classes", classes.source))
    )


def ingredients(config: Config) -> dict[str, Any]:
    """What `load` reads, for the key of its result."""
    is_sorted = config.data.source == "folder"
    found = data_ingredients(config, is_sorted=is_sorted)
    if is_sorted:
        found["has to have training images"] = config.trains
    if config.data.labels:
        found["labels"] = [[entry.name, *entry.others] for entry in read_entries(Path(config.data.labels))]
    return found


def asks_weights(config: Config) -> bool:
    """Unlabelled images do not tell how many classes there are, a file of names does, but for a background."""
    if config.data.labels:
        # such a factory's own weights would have to be made to be asked
        is_asked = config.weights.path or config.weights.url or config.model.exported
        return bool(is_asked) and may_lack_background(read_entries(Path(config.data.labels)))
    return config.data.source not in ("digits", "folder")


def marked(image: NDArray[np.uint8], truth: Any, scale: float) -> NDArray[np.uint8]:
    """As it is: the class is written below."""
    return image


def doubts(data: Dataset) -> list[str]:
    """What is wrong with the calibration set as far as labels tell, one line each."""
    held = set(data.held_out.truth.tolist()) | set(data.train.truth.tolist())
    missing = sorted(held - set(data.calibration.truth.tolist()) - {-1})
    if not missing or data.calibration.truth.max(initial=-1) < 0:
        return []
    return [
        f"{len(missing)} of {len(data.names)} classes have no calibration image ({quoted([data.names[i] for i in missing], 5)}). "
        "Raise data.calibration, or bring images of them."
    ]


def _classes(words: tuple[str, ...], config: Config, outputs: Callable[[], int]) -> _Classes:
    """What the outputs stand for, of words in the data; without a file of names, these words in their order."""
    if not config.data.labels:
        return _Classes(names=words, numbers={word: n for n, word in enumerate(words)}, source="those of the data")
    entries, notes = _entries(config, outputs)
    numbers, more = matched(words, entries)
    return _Classes(
        names=tuple(entry.name for entry in entries),
        numbers={entry.name: n for n, entry in enumerate(entries)} | dict(zip(words, numbers, strict=True)),
        source=f"{Path(config.data.labels).name}: {len(entries):,}, of which the data have {len(words):,}",
        notes=(*notes, *more),
    )


def _numbered(words: tuple[str, ...], config: Config, outputs: Callable[[], int]) -> _Classes:
    """The same of words that are numbers of classes."""
    numbers = {word: int(word) for word in words}
    if not config.data.labels:
        names = tuple(f"class {word}" for word in words)
        return _Classes(names=names, numbers=numbers, source=f"numbers, for none are given: {len(names):,}")
    entries, notes = _entries(config, outputs)
    if len(words) > len(entries):
        raise DataError(
            f"the data have a label {len(words) - 1}, and data.labels names {len(entries)} classes, 0 to {len(entries) - 1}. Give a name of each."
        )
    names = tuple(entry.name for entry in entries)
    shift = len(entries) - len(read_entries(Path(config.data.labels)))  # labels do not count a background
    source = f"{Path(config.data.labels).name}: {len(names):,}, by their numbers"
    return _Classes(
        names=names, numbers={word: n + shift for word, n in numbers.items()}, source=source, notes=tuple(notes)
    )


def _unsaid(config: Config, outputs: Callable[[], int]) -> _Classes:
    """The same of images that nothing is said of."""
    if not config.data.labels:
        names = tuple(f"class {n}" for n in range(outputs()))
        return _Classes(names=names, numbers={}, source=f"numbers, for none are given: {len(names):,}")
    entries, notes = _entries(config, outputs)
    names = tuple(entry.name for entry in entries)
    source = f"{Path(config.data.labels).name}: {len(names):,}"
    return _Classes(names=names, numbers={name: n for n, name in enumerate(names)}, source=source, notes=tuple(notes))


def _entries(config: Config, outputs: Callable[[], int]) -> tuple[tuple[Entry, ...], list[str]]:
    found = read_entries(Path(config.data.labels or ""))
    return with_background(found, outputs()) if asks_weights(config) else (found, [])


def _of_files(root: Path, config: Config, outputs: Callable[[], int]) -> tuple[Dataset, _Classes]:
    """Class folders, lists, or images without labels."""
    is_sorted = config.data.source == "folder"
    there = gathered(root, is_sorted=is_sorted)
    if not is_sorted:
        there, classes = replace(there, words=("",) * len(there.files)), _unsaid(config, outputs)
        labels = np.full(len(there.files), -1, np.int64)
    else:
        for word in there.known:
            check_name(word, "the class")
        if len(there.known) < 2:
            raise DataError(f"'{root}' has images of {len(there.known)} class alone; at least 2 are needed.")
        classes = (_numbered if there.is_numbered else _classes)(there.known, config, outputs)
        labels = classes.of(there)
    found = read_sets(there, labels, classes.names, config, has_truth=is_sorted, more=_classes_in)
    return replace(found, notes=(*found.notes, *_few(found, labels, classes))), classes


def _few(found: Dataset, labels: NDArray[np.int64], classes: _Classes) -> list[str]:
    """Classes that nothing is said of, for they have one image alone."""
    there, counts = np.unique(labels[labels >= 0], return_counts=True)
    is_used = np.isin(there, found.train.truth) & ~np.isin(there, found.held_out.truth)
    single = [classes.names[n] for n in there[(counts == 1) & is_used]]
    if not single:
        return []
    which = "1 class has one image" if len(single) == 1 else f"{len(single)} classes have one image each"
    return [f"{which}, which is trained on, so none is held out: {quoted(single)}."]


def _untrained(found: Dataset) -> list[str]:
    """Classes that are judged, and that training shows no image of.

    Raises:
        DataError: it shows none at all.
    """
    if not len(found.train.images):
        raise DataError(
            "the training set is empty: its images are damaged, held out too, or different things are said to be right of them."
        )
    missing = sorted(set(found.held_out.truth.tolist()) - set(found.train.truth.tolist()) - {-1})
    if not missing:
        return []
    which = "1 class that is" if len(missing) == 1 else f"{len(missing)} classes that are"
    return [
        f"training has no image of {which} held out: {quoted([found.names[n] for n in missing])}. Bring more images of each."
    ]


def _classes_in(part: Split) -> str:
    count = len(set(part.truth.tolist()) - {-1})
    return f" of {count:,} class{'es' if count != 1 else ''}" if count else ""


def _in_memory(root: Path, config: Config, outputs: Callable[[], int]) -> tuple[Dataset, _Classes]:
    """``images.npy`` ``(N, H, W, 3)`` uint8 below `root`, and ``labels.npy`` ``(N,)`` integers where they are known."""
    stored = np.load(root / "images.npy", mmap_mode="r", allow_pickle=False)
    images = refitted(stored, config.model.size, config.data.fit)
    classes = _unsaid(config, outputs)
    names = classes.names
    labels = np.full(len(images), -1, np.int64)
    if config.data.has_truth:
        labels = np.load(root / "labels.npy", allow_pickle=False).astype(np.int64)
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"the labels are {labels.min()} to {labels.max()}, and the model has {len(names)} outputs: 0 to {len(names) - 1} "
                "are known. Number the classes in the order of the outputs."
            )
    found = split_in_two(images, labels, names, config, beside.stored(root, len(images), config))
    return replace(found, taken=of_sets(found, {}, _classes_in)), classes
