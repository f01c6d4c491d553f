"""A round of latencies. In a sweep each model has its turn in several, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...store import Job, Workshop
from ..order import Order
from ..site import Site
from ..work import Found, Work, entries
from . import latency

ROUNDS = 5
_TIMES = "times.json"


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    """The one that comes next."""
    found: dict[str, Job | str] = {}
    for name, job in latency.jobs(order, shop, site).items():
        number = len(site.rounds) + 1
        told = f"{name}, round {number}"
        of_round = {"round": f"{number} of {ROUNDS}"}
        found[told] = job if isinstance(job, str) else replace(job, name=told, inputs={**job.inputs, **of_round})
    return found


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    def write(folder: Path) -> None:
        (folder / _TIMES).write_text(json.dumps(latency.taken(work, site, ROUNDS)))

    return {name: work.shop.make(job, write) for name, job in missing.items()}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    return site.knowing({}, rounds=(*site.rounds, *(shop.json(one, _TIMES) for one in entries(found).values())))
