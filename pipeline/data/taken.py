"""What a data set was taken from, in words, a pair a line: it is said when the data are read, and stands in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..rows import hashes_of
from .files import counted
from .fitting import SHOWN
from .splits import Dataset, Split

Taken = tuple[tuple[str, str], ...]
EQUAL = "equal images"


def of_sets(found: Dataset, places: Mapping[str, str], more: Callable[[Split], str] = lambda _: "") -> Taken:
    """How many images each set has, and where they are from.

    Args:
        places: in words, by set.
        more: what else there is to say of one.
    """
    parts = {"training": found.train, "calibration": found.calibration, "held-out": found.held_out}
    rows = []
    for name, part in parts.items():
        count = f"{_images(len(part.images))}{more(part)}" if len(part.images) else "none"
        where = places.get(name, "")
        rows.append((name, f"{count}, from {where}" if where and len(part.images) else count))
    return tuple(rows)


def of_files(passed: Mapping[str, int], damaged: Sequence[str], said: Counter[str], equal: int) -> Taken:
    """What was passed over, and what was done to images beyond decoding them; nothing where it is nothing."""
    rows = []
    if passed:
        rows.append(("passed over", counted(passed)))
    if damaged:
        rest = f" and {len(damaged) - SHOWN:,} more" if len(damaged) > SHOWN else ""
        rows.append(("damaged, passed over", f"{len(damaged):,}: {', '.join(damaged[:SHOWN])}{rest}"))
    if equal:
        rows.append(
            (EQUAL, f"{equal:,} {'is' if equal == 1 else 'are'} there more than once, at the size of the input")
        )
    rows += [(what, _images(count)) for what, count in sorted(said.items())]
    return tuple(rows)


def _images(count: int) -> str:
    return counted({"image": count})


def count_equal(found: Dataset) -> int:
    """How many images are there a second time or more often, over all sets."""
    hashes = np.concatenate([hashes_of(part.images) for part in (found.train, found.calibration, found.held_out)])
    return len(hashes) - len(set(hashes.tolist()))
