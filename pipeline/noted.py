"""Files that were looked at and not opened, noted for who keeps what a command read."""

from __future__ import annotations

from collections.abc import Iterable

_noted: list[set[str]] = []


def into(names: set[str]) -> None:
    """Note them there, from now on."""
    _noted.append(names)


def files(names: Iterable[str]) -> None:
    """These were looked at; nothing where nobody asks."""
    if _noted:
        found = set(names)
        for noted in _noted:
            noted |= found
