"""Sets that a data set brings itself: which of them is held out, which is calibrated on, and which is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import DataError
from ..reading import quoted
from ..rows import Lines, hashes_of
from .files import counted
from .splits import Dataset, Split, ambiguous, equal_notes

HELD_OUT, CALIBRATION, TRAINING, UNUSED = "held-out", "calibration", "training", ""


def sources(sets: Sequence[str]) -> tuple[str, str]:
    """The set to hold out, and the one to draw calibration images from."""
    there = set(sets)
    return "test" if "test" in there else "val", "val" if {"val", "test"} <= there else "train"


def roles(sets: Sequence[str], groups: NDArray[np.int64], config: Config, *, trains: bool) -> NDArray[np.str_]:
    """What each image is for, ``(N,)``, before any is read.

    Held out is ``test``, or ``val`` where there is no ``test``. Calibration images are drawn from ``val`` where there is a ``test``, else
    from ``train``, evenly from the groups; the other images of such a ``val`` are not used. What is left of ``train`` is for
    training.

    Args:
        trains: whether images can be for training.

    Raises:
        DataError: it has no set to hold out, none to calibrate on, or none to train on where that is asked for.
    """
    own = np.asarray(sets)
    held_out, drawn_from = sources(sets)
    wanted = {held_out: "judge"}
    wanted |= {} if config.data.calibration_path else {drawn_from: "calibrate"}
    wanted |= {"train": "train"} if config.trains else {}
    for name, purpose in wanted.items():
        if not (own == name).any():
            raise DataError(
                f"the data have the sets {', '.join(sorted(set(sets)))}, and lack '{name}' to {purpose} on. Bring it, or give all images "
                "without sets: they are divided then."
            )
    found = np.full(len(own), UNUSED, "<U16")
    found[own == held_out] = HELD_OUT
    if trains:
        found[own == "train"] = TRAINING
    if not config.data.calibration_path:
        drawn = _drawn(np.flatnonzero(own == drawn_from), groups, config, leaves_half=drawn_from == "train")
        if not len(drawn):
            raise DataError(
                f"the set '{drawn_from}' has too few images to calibrate on. Bring more, or give data.calibration_path."
            )
        found[drawn] = CALIBRATION
    return found


def _drawn(of: NDArray[np.int64], groups: NDArray[np.int64], config: Config, *, leaves_half: bool) -> NDArray[np.int64]:
    """Indices of the calibration images: as many of each group as of another.

    Args:
        leaves_half: of each group, which is trained on as well; an image alone stays there.
    """
    random = np.random.default_rng(config.data.seed)
    known = np.unique(groups[of])
    most = max(1, round(config.data.calibration / len(known)))
    found = []
    for group in known:
        order = of[groups[of] == group]
        random.shuffle(order)
        found.append(order[: min(most, len(order) // 2 if leaves_half else len(order))])
    return np.sort(np.concatenate(found))


def as_given(
    images: Lines,
    truth: NDArray[Any],
    purposes: NDArray[np.str_],
    names: tuple[str, ...],
    tensors: tuple[NDArray[np.float32], ...] = (),
) -> Dataset:
    """The sets as they were brought, without images of the others that are held out as well, and without training images that
    stand in several classes.

    Args:
        images: ``(N, H, W, 3)`` uint8 RGB, all that are used.
        truth: ``(N, ...)``.
        purposes: ``(N,)`` of `roles`.

    Raises:
        DataError: nothing is left to judge on.
    """
    hashes = hashes_of(images)
    is_held_out = purposes == HELD_OUT
    leaked = ~is_held_out & np.isin(hashes, hashes[is_held_out])
    doubtful = ambiguous(hashes, truth)
    whole = Split(images=images, truth=truth, tensors=tensors)
    notes = equal_notes(hashes, doubtful)
    if leaked.any():
        notes.append(
            f"{counted({'image': int(leaked.sum())})} of the other sets {'is' if leaked.sum() == 1 else 'are'} held out too, equal at the size "
            "of the input: taken out of those, and still held out."
        )
    found = Dataset(
        train=whole.part((purposes == TRAINING) & ~leaked & ~doubtful),
        calibration=whole.part((purposes == CALIBRATION) & ~leaked),
        held_out=whole.part(is_held_out),
        names=names,
        notes=tuple(notes),
    )
    if not len(found.held_out.images) or ((purposes == CALIBRATION).any() and not len(found.calibration.images)):
        raise DataError(
            "the held-out or the calibration set is empty: its images are damaged, or are those of the other."
        )
    return found


def check_words(words: Sequence[str], sets: Sequence[str], purposes: NDArray[np.str_]) -> list[str]:
    """What words one side lacks, a line each.

    Raises:
        DataError: something that is held out is never trained on.
    """
    own = np.asarray(words, dtype=object)
    trained = set(own[np.asarray(sets) == "train"])
    judged = set(own[purposes == HELD_OUT])
    if trained and (missing := sorted(judged - trained)):
        raise DataError(
            f"{_classes(missing, 'is', 'are')} held out without training images: {quoted(missing)}. Bring images of them, or take them out."
        )
    if missing := sorted(trained - judged):
        return [f"{_classes(missing, 'has', 'have')} no held-out image, so nothing is said of them: {quoted(missing)}."]
    return []


def _classes(words: Sequence[str], one: str, several: str) -> str:
    return f"1 class {one}" if len(words) == 1 else f"{len(words)} classes {several}"
