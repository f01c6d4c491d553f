"""The data of a classifier: images with a label each, and the names of the classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Arrays, Config
from ...data import (
    Dataset,
    beside,
    calibrated_on,
    digits,
    fit,
    image_files,
    listing,
    read_image,
    split,
    split_in_two,
)
from ...errors import DataError
from ...reading import read_bytes, shown

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They show a text in another order than it has; Arabic and Hebrew do without."""

MAX_LABELS = 10_000_000
"""Bytes of a file of class names."""


def load(config: Config, outputs: Callable[[], int] = lambda: 0) -> Dataset:
    """The data set of a configuration, at the size of the model's input; labels are int64, -1 where they are not known.

    Args:
        outputs: gives the number of classes of the given weights, for images whose classes nobody names.

    Raises:
        DataError: a file cannot be read, or a set would be empty.
    """
    if config.data.source == "images":
        return _unlabelled(Path(config.data.path or ""), config, outputs)
    if isinstance(config.data, Arrays):
        return _in_memory(Path(config.data.path or ""), config, outputs)
    if config.data.source == "digits":
        images, labels, names = digits(*config.model.size)
    else:
        images, labels, names = _folder(Path(config.data.path or ""), *config.model.size)
    found = split(images, labels, names, config, groups=labels)
    if config.data.calibration_path:
        found = calibrated_on(Path(config.data.calibration_path), found, config, partial(_labels_of, names))
    return replace(found, names=_renamed(names, Path(config.data.labels))) if config.data.labels else found


def ingredients(config: Config) -> dict[str, Any]:
    """What `load` reads, for the key of its result."""
    settings = config.data
    found: dict[str, Any] = {
        "data settings": settings.model_dump(include={"source", "calibration", "seed"}),
        "share held out": settings.held_out_share,
    }
    if settings.source != "digits":
        found["images"] = listing(Path(settings.path or ""))
    if settings.calibration_path:
        found["calibration images"] = listing(Path(settings.calibration_path))
    if settings.labels:
        found["labels"] = list(read_labels(Path(settings.labels)))
    return found


def asks_weights(config: Config) -> bool:
    """Unlabelled images do not tell how many classes there are, a file of names does."""
    has_names = config.data.source in ("digits", "folder") or config.data.labels
    return not has_names


def doubts(data: Dataset) -> list[str]:
    """What is wrong with the calibration set as far as labels tell, one line each."""
    missing = sorted(set(range(len(data.names))) - set(data.calibration.truth.tolist()))
    if not missing or data.calibration.truth.max(initial=-1) < 0:
        return []
    named = ", ".join(f"'{data.names[i]}'" for i in missing[:5]) + (" ..." if len(missing) > 5 else "")
    return [
        f"{len(missing)} of {len(data.names)} classes have no calibration image ({named}). "
        "Raise data.calibration, or bring images of them."
    ]


def _labels_of(names: Sequence[str], paths: Sequence[Path]) -> NDArray[np.int64]:
    """Of images in folders that are named as classes; -1 of others."""
    by_name = {name: label for label, name in enumerate(names)}
    return np.array([by_name.get(path.parts[0], -1) for path in paths], np.int64)


def read_labels(path: Path) -> tuple[str, ...]:
    """The lines of a file of class names, in UTF-8.

    Raises:
        DataError: it cannot be read, is far larger than names are, or a name is empty or there twice.
    """
    try:
        # a byte order mark, and spaces around a name, are an editor's
        names = tuple(line.strip() for line in read_bytes(path, MAX_LABELS).decode("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read data.labels '{path}': {error}. Give a text file, one name a line.") from error
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise DataError(f"data.labels '{path}': line {number} is empty; every class needs a name")
        if _visible(name) in seen:
            raise DataError(f"data.labels '{path}': line {number} repeats '{shown(name)}'; every class needs its own")
        _check_label(name, f"line {number} of data.labels")
        seen.add(_visible(name))
    return names


def _visible(name: str) -> str:
    """What people see of a name: without what has no width, in one form of composed letters."""
    return unicodedata.normalize("NFC", "".join(c for c in name if unicodedata.category(c) != "Cf"))


def _renamed(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    given = read_labels(path)
    if len(given) != len(names):
        raise DataError(
            f"data.labels '{path}' has {len(given)} lines, the data {len(names)} classes. "
            "Give one name a line, in the order of the class folders."
        )
    return given


def _folder(root: Path, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Images of ``root/<class>/*``; classes in the order of their names."""
    if not root.is_dir():
        raise DataError(f"data.path '{root}' is no folder. It must hold one folder of images per class.")
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"'{root}' holds {len(classes)} class folder{'s' if len(classes) != 1 else ''}; at least 2 are needed. "
            "Images without classes, for given weights: data.source = 'images'."
        )
    images, labels = [], []
    for label, folder in enumerate(classes):
        _check_label(folder.name, "the class folder")
        files = list(image_files(folder))
        if len(files) < 3:
            raise DataError(f"class '{folder.name}' has {len(files)} images; at least 3 are needed, one for each set.")
        images += [fit(read_image(file), height, width) for file in files]
        labels += [label] * len(files)
    return np.stack(images), np.array(labels, np.int64), tuple(p.name for p in classes)


def _in_memory(root: Path, config: Config, outputs: Callable[[], int]) -> Dataset:
    """``images.npy`` ``(N, H, W, 3)`` uint8 below `root`, and ``labels.npy`` ``(N,)`` integers where they are known."""
    stored = np.load(root / "images.npy", mmap_mode="r", allow_pickle=False)
    images = np.stack([fit(image, *config.model.size) for image in stored])
    names = read_labels(Path(config.data.labels)) if config.data.labels else _numbered(outputs())
    labels = np.full(len(images), -1, np.int64)
    if config.data.has_truth:
        labels = np.load(root / "labels.npy", allow_pickle=False).astype(np.int64)
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"the labels are {labels.min()} to {labels.max()}, and the model has {len(names)} outputs: 0 to {len(names) - 1} "
                "are known. Number the classes in the order of the outputs."
            )
    found = split_in_two(images, labels, names, config, beside.stored(root, len(images), config))
    if config.data.calibration_path:
        found = calibrated_on(Path(config.data.calibration_path), found, config, partial(_labels_of, names))
    return found


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {n}" for n in range(count))


def _unlabelled(root: Path, config: Config, outputs: Callable[[], int]) -> Dataset:
    """Images at any depth below `root`."""
    files = image_files(root) if root.is_dir() else []
    if not files:
        raise DataError(f"data.path '{root}' is no folder with images.")
    images = np.stack([fit(read_image(file), *config.model.size) for file in files])
    names = read_labels(Path(config.data.labels)) if config.data.labels else _numbered(outputs())
    tensors = beside.tensors_of(files, len(images), config)
    found = split_in_two(images, np.full(len(images), -1, np.int64), names, config, tensors)
    found = replace(found, notes=beside.notes(files, config))
    if not config.data.calibration_path:
        return found
    return calibrated_on(
        Path(config.data.calibration_path), found, config, lambda paths: np.full(len(paths), -1, np.int64)
    )


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
