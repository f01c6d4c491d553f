"""Files that are known without being read: by what the system says of them, and noted for who keeps what a command looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable

SETTLED = 2_000_000_000
"""Nanoseconds for which a file has to be at rest: within a tick of its clock it could change once more and look the same."""

Seen = tuple[int, int, int, int]
"""Size, time of the content and of the entry in nanoseconds, and inode."""

_noted: list[set[str]] = []


def seen(path: str) -> Seen:
    """Raises an OSError where there is nothing."""
    status = os.stat(path)  # noqa: PTH116  of text, for a Path takes longer to make than the file to look at
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def seen_or_none(path: str) -> Seen | None:
    """None where there is nothing, or what is no path."""
    try:
        return seen(path)
    except (OSError, ValueError):
        return None


def is_settled(found: Seen | None, now: int) -> bool:
    """Whether what was seen then would look otherwise, had it changed; `now` in nanoseconds."""
    return not found or max(found[1], found[2]) < now - SETTLED


def into(names: set[str]) -> None:
    """Note them there, from now on."""
    _noted.append(names)


def files(names: Iterable[str]) -> None:
    """These were looked at; nothing where nobody asks."""
    if _noted:
        found = set(names)
        for noted in _noted:
            noted |= found
