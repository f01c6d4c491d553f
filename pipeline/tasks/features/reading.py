"""The data of a model whose outputs have no truth here: images, and what belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Arrays, Config
from ...data import (
    Dataset,
    beside,
    calibrated_on,
    data_ingredients,
    digits,
    drawn_shapes,
    gathered,
    of_sets,
    read_sets,
    refitted,
    split_in_two,
)
from ...errors import ConfigError
from ...rows import Lines


def load(config: Config, outputs: Callable[[], int] = lambda: 0) -> Dataset:
    """Images, some to calibrate on and the others held out; class folders are folders like others.

    Args:
        outputs: gives how many the given weights have, for networks of ours, which are made with a number of them.

    Raises:
        DataError: a file cannot be read, or a set would be empty.
    """
    names = tuple(str(number) for number in range(outputs())) if asks_weights(config) else ()
    size, root = config.model.size, Path(config.data.path or "")
    if isinstance(config.data, Arrays):
        stored = np.load(root / "images.npy", mmap_mode="r", allow_pickle=False)
        images: Lines = refitted(stored, size, config.data.fit)
        tensors = beside.stored(root, len(images), config)
        found = split_in_two(images, _unknown(len(images)), names, config, tensors)
        found = replace(found, taken=of_sets(found, {}))
    elif config.data.source in ("digits", "shapes"):
        is_drawn = config.data.source == "shapes"
        images = drawn_shapes(*size).images if is_drawn else digits(*size, config.data.fit)[0]
        tensors = beside.tensors_of([], len(images), config)
        found = split_in_two(images, _unknown(len(images)), names, config, tensors)
        found = replace(found, notes=beside.notes([], config), taken=of_sets(found, {}))
    else:
        there = gathered(root, is_sorted=False)
        found = read_sets(there, _unknown(len(there.files)), names, config, has_truth=False)
    if config.data.calibration_path:
        found = calibrated_on(
            Path(config.data.calibration_path), found, config, lambda there: _unknown(len(there.files))
        )
    return found


def ingredients(config: Config) -> dict[str, Any]:
    """What `load` reads, for the key of its result.

    Raises:
        ConfigError: the model would have to be trained, and there is nothing to train it for.
    """
    if config.trains_head:
        raise ConfigError(
            "weights.head = 'train' takes classes to train for, and model.task = 'features' has none: leave it out"
        )
    if config.is_trained:
        raise ConfigError(
            "model.task = 'features' knows no loss to train with: give [weights] path, or from_factory = true"
        )
    if config.quantize.qat == "always":
        raise ConfigError("quantize.qat = 'always' takes training images, and features have none: set it to 'auto'")
    return data_ingredients(config, is_sorted=False)


def asks_weights(config: Config) -> bool:
    """Networks of ours are made with a number of outputs; others know their own."""
    return not config.model.given_by


def marked(image: NDArray[np.uint8], truth: Any, scale: float) -> NDArray[np.uint8]:
    """As it is: nothing is right of it."""
    return image


def doubts(data: Dataset) -> list[str]:
    return []


def _unknown(count: int) -> NDArray[np.int64]:
    return np.full(count, -1, np.int64)
