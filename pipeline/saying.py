"""What long work speaks through."""

from __future__ import annotations

import time
from typing import Protocol

EVERY = 5.0
"""Seconds from one line of how far it is to the next, at least."""


class Say(Protocol):
    """Where progress goes: a line, and for long work how much of it is done."""

    def __call__(self, line: str, progress: tuple[int, int] | None = None, /) -> None: ...


class Pace:
    """Says how much of some images is done, and the time left; nothing of work that ends soon.

    Args:
        what: is done, ``train: epoch 3/60`` for example.
        total: number of images.
    """

    def __init__(self, say: Say, what: str, total: int) -> None:
        self._say, self._what, self._total = say, what, total
        self._began = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < EVERY or done >= self._total:
            return
        self._last = now
        rest = time_left(done, self._total, now - self._began)
        self._say(f"{self._what}: {done:,} of {self._total:,} images{rest}", (done, self._total))


def time_left(done: int, total: int, seconds: float) -> str:
    """In words behind a comma, of work of which so much was done in so many seconds; empty where all is."""
    left = (total - done) * seconds / max(done, 1)
    return f", about {left / 60:.0f} minutes left" if left >= 90 else f", about {left:.0f} s left" if left else ""


def duration(seconds: float) -> str:
    """``90 s``, ``5 min``, ``3 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def counted(count: int, what: str) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
