"""From images that were gathered to the three sets: as the data set brings them, or else divided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from . import beside, given, taken
from .fitting import fitted
from .gathering import Gathered
from .splits import Dataset, Split, split, split_in_two


def read_sets(
    there: Gathered,
    truth: NDArray[np.int64],
    names: tuple[str, ...],
    config: Config,
    *,
    has_truth: bool,
    more: Callable[[Split], str] = lambda _: "",
) -> Dataset:
    """The images, decoded and at the size of the model's input, in their sets, with what was taken from where.

    Args:
        truth: ``(N,)`` of all that were gathered.
        has_truth: whether the truth is known, so that images can be for training.
        more: what else the table says of a set.

    Raises:
        DataError: images cannot be read, or a set would be empty.
    """
    purposes = np.full(len(there.files), given.TRAINING, "<U16")
    notes = list(there.notes)
    if there.has_sets:
        purposes = given.roles(there.sets, truth, config, trains=has_truth)
        notes += given.check_words(there.words, there.sets, purposes) if has_truth else []
        if config.data.held_out is not None:
            notes.append("data.held_out divides nothing here, for the data bring their own sets.")
    used = np.flatnonzero(purposes != given.UNUSED)
    read = fitted([there.files[i] for i in used], config.model.size, skips_damaged=config.data.skip_damaged)
    if not len(read.images):
        raise DataError(f"data.path '{config.data.path}' is no folder with images that can be read.")
    used = used[read.kept]
    files, truth = [there.files[i] for i in used], truth[used]
    if there.has_sets:
        tensors = beside.tensors_of(files, len(files), config)
        found = given.as_given(read.images, truth, purposes[used], names, tensors)
        found = replace(found, notes=(*found.notes, *beside.notes(files, config)))
    elif has_truth:
        found = split(read.images, truth, names, config, groups=truth, files=files)
    else:
        found = split_in_two(read.images, truth, names, config, beside.tensors_of(files, len(files), config))
        found = replace(found, notes=beside.notes(files, config))
    rows = taken.of_sets(found, _places(there, config), more)
    if unused := len(there.files) - int((purposes != given.UNUSED).sum()):
        rows += (("not used", f"{unused:,} images of the other sets"),)
    rows += taken.of_files(there.passed, read.damaged, read.said, taken.count_equal(found))
    return replace(found, notes=(*notes, *found.notes), taken=rows)


def _places(there: Gathered, config: Config) -> dict[str, str]:
    """Where images of each purpose are from, in words."""
    if not there.has_sets:
        (where,) = set(there.places.values()) or {""}
        return dict.fromkeys(("training", "calibration", "held-out"), where)
    held_out, drawn_from = given.sources(there.sets)
    wanted = {"training": "train", "calibration": drawn_from, "held-out": held_out}
    return {purpose: there.places[name] for purpose, name in wanted.items() if name in there.places}
