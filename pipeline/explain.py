"""What a build would do, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from . import finish, references, steps, walk
from .jobs import Job, Workshop
from .order import Order
from .steps import Made, Site
from .store import Entry


@dataclass(frozen=True, kw_only=True)
class Line:
    """A job, and why it would run; `why` is empty where its result is there."""

    name: str
    why: str


def explain(order: Order, shop: Workshop) -> Iterator[Line]:
    """Every job in the order of the work; what hangs on a result that is not there yet is said to hang on it."""
    entries: list[Entry] = []
    config, create = order.config, order.create
    labels: tuple[str, ...] = ()
    for number in range(3):
        if number == 0:
            job = steps.data_job(config)
        elif number == 1:
            labels = tuple(shop.json(entries[0], "labels.json"))
            job = steps.weights_job(config, create, entries[0], len(labels))
        else:
            job = steps.program_job(config, create, entries[0], entries[1], is_gated=order.has_int8)
        found = shop.find(job)
        yield _line(order, shop, job, found)
        if found is None:
            yield Line(name="all that follows", why=f"as far as '{job.name}' comes out different")
            return
        entries.append(found)
    data, weights, program = entries
    site = Site(
        store=None, scratch="", damaged=frozenset(), config=config, create=create, labels=labels,
        data=data, weights=weights, program=program, references={},
    )  # fmt: skip
    known: dict[str, Entry] = {}
    for key in references.keys(order.wanted):
        job = steps.reference_job(site, key)
        found = shop.find(job)
        yield _line(order, shop, job, found)
        if found is not None:
            known[key] = found
    is_whole = len(known) == len(references.keys(order.wanted))
    yield from _artifacts(order, shop, replace(site, references=known), is_whole=is_whole)


def _artifacts(order: Order, shop: Workshop, site: Site, *, is_whole: bool) -> Iterator[Line]:
    made: dict[tuple[str, str], Made] = {}
    for target, precision in order.wanted:
        job = steps.lower_job(site, target, precision)
        lowered = shop.find(job)
        yield _line(order, shop, job, lowered)
        if lowered is None or not is_whole:
            yield Line(name=f"measure {target.NAME} {precision}", why="it follows from the above")
            continue
        job = steps.measure_job(site, target, precision, lowered)
        measured = shop.find(job)
        yield _line(order, shop, job, measured)
        if measured is not None:
            made[target.NAME, precision] = Made(lowered=lowered, measured=measured)
    if len(made) < len(order.wanted):
        for name in (*(f"folder {platform}" for platform in order.plans), "latency", "report"):
            yield Line(name=name, why="it follows from the above")
        return
    finished = {}
    for platform in order.plans:
        job = finish.folder_job(order, site, platform, made)
        found = shop.find(job)
        yield _line(order, shop, job, found)
        if found is not None:
            finished[platform] = found
    job = walk.latency_job(order, site, made)
    timed = shop.find(job)
    yield _line(order, shop, job, timed)
    if timed is None or len(finished) < len(order.plans):
        yield Line(name="report", why="it follows from the above")
        return
    job = finish.report_job(order, site, finished, shop.json(timed, "latency.json"), made)
    yield _line(order, shop, job, shop.find(job))


def _line(order: Order, shop: Workshop, job: Job, found: Entry | None) -> Line:
    return Line(name=job.name, why="" if found is not None else shop.why(order.place, job))
