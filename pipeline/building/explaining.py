"""What a build would do, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..store import Entry, Workshop
from .order import Order
from .site import Site
from .walk import STEPS


@dataclass(frozen=True, kw_only=True)
class Line:
    """A job, and why it would run; `why` is empty where its result is there.

    Attributes:
        is_open: it is made from results that are not there yet, and runs where they come out different from before.
    """

    name: str
    why: str
    is_open: bool = False


def explain(order: Order, shop: Workshop) -> Iterator[Line]:
    """Every job of a build in the order of the work.

    Raises:
        TwinkeelError: the build would end with it, by results that are there.
    """
    site = Site.of(order.config, order.create, shop)
    for step in STEPS:
        found: dict[str, Entry] = {}
        for name, job in step.jobs(order, shop, site).items():
            if isinstance(job, str):
                yield Line(name=name, why=f"as far as {job} out different", is_open=True)
            elif (entry := shop.find(job)) is not None:
                found[name] = entry
                yield Line(name=name, why="")
            else:
                yield Line(name=name, why=shop.why(order.place, job))
        site = step.take(order, shop, site, found)
