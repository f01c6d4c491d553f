"""Hashes of files, remembered from build to build as git does: by size, times and inode."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import noted
from ..files import digest, keep, real

_TOGETHER = 64
"""Files that a thread looks at before it takes others: handing one over takes longer than looking at it."""
_HASH = re.compile("[0-9a-f]{64}")


def digests(root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of files below a folder. What is remembered lies in this user's cache; it speeds up, and is never needed.

    Raises:
        OSError: one cannot be read; `filename` is its path.
    """
    place = _place(root)
    known = _read(place)
    noted.files(f"{root}/{name}" for name in names)
    some = [names[start : start + _TOGETHER] for start in range(0, len(names), _TOGETHER)]
    with ThreadPoolExecutor() as pool:
        # of text, for a Path takes longer to make than the file to look at
        parts = pool.map(lambda part: [_one(f"{root}/{name}", known.get(name)) for name in part], some)
        found = [one for part in parts for one in part]
    new = {name: row for name, (_, row) in zip(names, found, strict=True) if row is not None and row != known.get(name)}
    if new:
        # what is not asked for now may be asked for by another list of files; what is gone is not kept for ever
        kept = known if len(known) < 2 * len(names) + 1000 else {n: known[n] for n in names if n in known}
        keep(json.dumps(kept | new, separators=(",", ":")).encode(), place)
    return [one for one, _ in found]


def _one(path: str, known: list[Any] | None) -> tuple[str, list[Any] | None]:
    """A file's hash, and what to remember; nothing where it has changed just now."""
    before, now = noted.seen(path), time.time_ns()
    if known is not None and known[:-1] == list(before):
        return str(known[-1]), known
    found = digest(Path(path))
    is_settled = max(before[1], before[2]) < now - noted.SETTLED and noted.seen(path) == before
    return found, [*before, found] if is_settled else None


def _place(root: Path) -> Path:
    import platformdirs

    name = hashlib.sha256(os.fsencode(real(root))).hexdigest()
    return Path(platformdirs.user_cache_path("twinkeel")) / "hashes" / f"{name}.json"


def _read(place: Path) -> dict[str, list[Any]]:
    """What is sound of it."""
    try:
        found = json.loads(place.read_bytes())
        return {name: row for name, row in found.items() if len(row) == 5 and _HASH.fullmatch(row[-1])}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
