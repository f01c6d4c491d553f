"""One pass at work: what its steps find, make and say with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..program import compressed_in
from ..saying import Say
from ..stages import Followers
from ..store import Entry, Job, Workshop
from .order import Order
from .site import Site, compress_name


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Of a job that gave no result, and hides no other: why."""

    error: str


Found = Mapping[str, Entry | Failure]
"""Results by the names of their jobs."""


class ToDo(Exception):
    """Of a pass that only looks: there is something to do."""


@dataclass(kw_only=True)
class Work:
    """What a pass works with.

    Attributes:
        folder: of what is not finished.
        ran: names of the jobs that had to run.
        peak: bytes of memory that a worker took at most, 0 where none ran.
        followers: the other processes of a training, where there are some.
        checkpoints: folder for what a training that was ended goes on from; of this user's caches where it is None.
        only_looks: nothing is made, and nothing put into `out`: where something would be, the pass ends with `ToDo`.
    """

    order: Order
    shop: Workshop
    folder: Path
    say: Say
    executor: Executor
    ran: list[str] = field(default_factory=list)
    peak: int = 0
    followers: Followers = field(default_factory=Followers)
    checkpoints: Path | None = None
    only_looks: bool = False

    def submit(self, function: Any, /, *args: Any) -> Future[Any]:
        """To a worker."""
        return self.executor.submit(function, *args)

    @property
    def number(self) -> int:
        """How many workers there are."""
        return int(getattr(self.executor, "number", 2))


class Step(Protocol):
    """What a module below `jobs/` has: one kind of job, what goes into it, and how it is made."""

    def jobs(self, order: Order, shop: Workshop, site: Site, /) -> dict[str, Job | str]:
        """All jobs of this kind by name; of one whose ingredients are not known yet, what they wait for, in words."""

    def make(self, work: Work, site: Site, missing: Mapping[str, Job], /) -> Found:
        """The results of those that the store does not have, and of those that waited for them."""

    def take(self, order: Order, shop: Workshop, site: Site, found: Found, /) -> Site:
        """What is known with these results, which may be some of them.

        Raises:
            TwinkeelError: they say that nothing more is to be made.
        """


TRUNK = ("data", "weights", "original", "quantize")
"""The jobs that all others need."""


def awaited(site: Site, *names: str) -> str:
    """The first of these jobs whose result is not known, in words; empty where all are."""
    return next((f"'{name}' comes" for name in names if name not in site.results), "")


def reference_awaited(site: Site, key: str) -> str:
    """What a reference, or an artifact that is compared with it, waits for; empty where all is known."""
    compressed = compressed_in(key)
    return awaited(site, *TRUNK, *([compress_name(compressed)] if compressed else ()))


def artifacts_awaited(order: Order, site: Site) -> str:
    """What the artifacts, or what they are made from, wait for; empty where all are known."""
    return awaited(site, *TRUNK) or ("these come" if len(site.made) < len(order.wanted) else "")


def entries(found: Found) -> dict[str, Entry]:
    """Without those that failed."""
    return {name: one for name, one in found.items() if isinstance(one, Entry)}


def in_store(work: Work, jobs: Sequence[Job]) -> Callable[[], tuple[int, int]]:
    """How many of some jobs have a result, of how many."""
    return lambda: (sum(work.shop.lookup(job.key) is not None for job in jobs), len(jobs))
