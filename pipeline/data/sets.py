"""From images that were gathered to the three sets: as the data set brings them, or else divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from ..files import real
from ..reading import quoted, shown
from ..rows import Lines, hashes_of, joined
from . import beside, given, taken
from .files import ImageFile
from .fitting import Fitted, fitted, none_read
from .gathering import Gathered
from .sources import gathered
from .splits import Dataset, Split, split, split_in_two


def read_sets(
    there: Gathered,
    truth: NDArray[np.int64],
    names: tuple[str, ...],
    config: Config,
    *,
    has_truth: bool,
    more: Callable[[Split], str] = lambda _: "",
    truth_of: Callable[[NDArray[np.int64], Fitted], tuple[NDArray[Any], Fitted]] | None = None,
) -> Dataset:
    """The images, decoded and at the size of the model's input, in their sets, with what was taken from where.

    Args:
        truth: ``(N,)`` of all that were gathered; or, with `truth_of`, numbers of kinds that are to be in all sets alike.
        has_truth: whether the truth is known, so that images can be for training.
        more: what else the table says of a set.
        truth_of: gives what is right of images by their numbers, ``(n, ...)``, when it is known what these were like, and those of the images that it
            could be read of.

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
    read = fitted(
        [there.files[i] for i in used], config.model.size, config.data.fit, skips_damaged=config.data.skip_damaged
    )
    if not len(read.images):
        raise DataError(none_read(f"data.path '{config.data.path}'", read))
    notes += _all_damaged(there, truth, used, read, names) if has_truth and truth_of is None else []
    right, read = (truth[used[read.kept]], read) if truth_of is None else truth_of(used[read.kept], read)
    used = used[read.kept]
    files, groups = [there.files[i] for i in used], truth[used]
    if there.has_sets:
        tensors = beside.tensors_of(files, len(files), config)
        found = given.as_given(read.images, right, purposes[used], names, tensors)
        found = replace(found, notes=(*found.notes, *beside.notes(files, config)))
    elif has_truth:
        found = split(read.images, right, names, config, groups=groups, files=files)
    else:
        found = split_in_two(read.images, right, names, config, beside.tensors_of(files, len(files), config))
        found = replace(found, notes=beside.notes(files, config))
    places = _places(there, config)
    rows = taken.of_sets(found, places, more)
    if unused := len(there.files) - int((purposes != given.UNUSED).sum()):
        rows += (("not used", f"{unused:,} images of the other sets"),)
    rows += taken.of_files(there.passed, read.damaged, read.said, taken.count_equal(found))
    return replace(found, notes=(*notes, *found.notes), taken=rows, places=places)


def _all_damaged(
    there: Gathered, truth: NDArray[np.int64], used: NDArray[np.int64], read: Fitted, names: tuple[str, ...]
) -> list[str]:
    """Classes none of whose images in a set could be read, a line each."""
    own = [(there.sets[i], int(truth[i])) for i in used]
    kept = {one for one, is_kept in zip(own, read.kept, strict=True) if is_kept}
    return [
        f"no image of the class '{names[right]}'{f' in {there.places[name]}' if name else ''} can be read: the class is kept, and has no "
        "images there."
        for name, right in sorted(set(own) - kept)
    ]


def calibrated_on(
    root: Path,
    found: Dataset,
    config: Config,
    truth_of: Callable[[Gathered], NDArray[Any]],
    more: Callable[[Split], str] = lambda _: "",
) -> Dataset:
    """With the images below `root` as calibration set, at most as many as configured, evenly chosen; the calibration
    images of before are for training then.

    Args:
        truth_of: gives what is right of images, as far as it is known.
        more: what else the table says of a set.

    Raises:
        DataError: there is none, or one of them is a held-out image too.
    """
    there = gathered(root, is_sorted=False, setting="data.calibration_path")
    chosen = np.linspace(0, len(there.files) - 1, min(len(there.files), config.data.calibration)).astype(int)
    read = fitted(
        [there.files[i] for i in chosen], config.model.size, config.data.fit, skips_damaged=config.data.skip_damaged
    )
    unused = len(there.files) - len(chosen)
    chosen = chosen[read.kept]
    files = [there.files[i] for i in chosen]
    if not files:
        raise DataError(none_read(f"data.calibration_path '{root}'", read))
    _check_apart(files, read.images, found.held_out.images)
    train = Split(
        images=joined(found.train.images, found.calibration.images),
        truth=np.concatenate([found.train.truth, found.calibration.truth]),
        tensors=tuple(map(np.concatenate, zip(found.train.tensors, found.calibration.tensors, strict=True))),
    )
    calibration = Split(
        images=read.images, truth=truth_of(there)[chosen], tensors=beside.tensors_of(files, len(files), config)
    )
    place = f"{shown(real(root).name, 100)}{'/' if root.is_dir() else ''}"
    found = replace(found, train=train, calibration=calibration, places={**found.places, "calibration": place})
    return replace(found, taken=_taken_anew(found, there, read, unused, more))


def _check_apart(files: Sequence[ImageFile], images: Lines, held_out: Lines) -> None:
    """Raise a DataError where images to calibrate on are held out too."""
    known = set(hashes_of(held_out).tolist())
    shared = [file for file, key in zip(files, hashes_of(images).tolist(), strict=True) if key in known]
    if not shared:
        return
    if len(shared) == 1:
        what = f"'{shared[0]}' is one of the held-out images too: measured on it"
    else:
        which = "all" if len(shared) == len(files) else f"{len(shared):,} of the"
        what = f"{which} {len(files):,} calibration images are held out too ({quoted(shared, 3)}): measured on them"
    raise DataError(f"{what}, int8 would look better than it is. Calibrate on other images.")


def _taken_anew(
    found: Dataset, there: Gathered, read: Fitted, unused: int, more: Callable[[Split], str]
) -> taken.Taken:
    """The table with the sets as they are now, and with what became of the calibration images' files."""
    rows = dict(found.taken) | dict(taken.of_sets(found, found.places, more))
    own = taken.of_files(there.passed, read.damaged, read.said, 0)
    own = ((("not used", f"{unused:,} more than data.calibration"),) if unused else ()) + own
    rows |= {f"calibration: {what}": words for what, words in own}
    rows.pop(taken.EQUAL, None)
    return (*rows.items(), *taken.of_files({}, (), Counter(), taken.count_equal(found)))


def _places(there: Gathered, config: Config) -> dict[str, str]:
    """Where images of each purpose are from, in words."""
    if not there.has_sets:
        where = ", ".join(there.places.values())
        return dict.fromkeys(("training", "calibration", "held-out"), where)
    held_out, drawn_from = given.sources(there.sets)
    wanted = {"training": "train", "calibration": drawn_from, "held-out": held_out}
    return {purpose: there.places[name] for purpose, name in wanted.items() if name in there.places}
