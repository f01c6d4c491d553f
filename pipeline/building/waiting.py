"""Waiting for workers, never silent for long: what takes minutes says so, and repeats itself no sooner."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

from ..saying import EVERY, Say

T = TypeVar("T")

SILENT = 30.0
"""Seconds after which something is said though no more is done than before."""

Progress = tuple[int, int]
"""How many are done, of how many."""


def completed(
    say: Say, futures: Iterable[Future[T]], what: str, done: Callable[[], Progress] | None = None, how: str = ""
) -> Iterator[Future[T]]:
    """Futures in the order in which they end. What is done is told meanwhile: when it is more than before, or nothing was said for `SILENT`.

    Args:
        what: is waited for.
        done: how much of it is there, for a worker may have much to do. It is looked up every few seconds; nothing where nobody can
            look.
        how: it is done, in a word.
    """
    began = said = time.monotonic()
    before, left = 0, list(futures)
    while left:
        rest = max(0.0, SILENT - (time.monotonic() - said))
        ended = wait(left, min(EVERY, rest), FIRST_COMPLETED).done
        for future in [one for one in left if one in ended]:
            left.remove(future)
            yield future
        if ended:
            continue
        found, now = done() if done is not None else (0, 0), time.monotonic()
        if found[0] > before or now - said >= SILENT:
            before, said = found[0], now
            _say(say, what, found, f"{how} after {now - began:.0f} s".strip())


def _say(say: Say, what: str, found: Progress, when: str) -> None:
    done, total = found
    if total:
        say(f"{what}: {done} of {total} {when}", found)
    else:
        say(f"{what}: still at work {when}")
