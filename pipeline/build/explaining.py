"""What a build would do, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from . import finish, steps, walk
from ..program import references
from ..store import Job, Workshop
from .order import Order
from .steps import Made, Site
from ..store import Entry


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
    """Every job of a build in the order of the work."""
    lines: list[Line] = []
    found_site = _until_program(order, shop, lines)
    yield from lines
    if found_site is None:
        for name in _names(order)[len(lines) :]:
            yield _open(name, f"'{lines[-1].name}' comes")
        return
    site, doubts = found_site
    known: dict[str, Entry] = {}
    for key in references.keys(order.wanted):
        job = steps.reference_job(site, key)
        found = shop.find(job)
        yield _line(order, shop, job, found)
        if found is not None:
            known[key] = found
    is_whole = len(known) == len(references.keys(order.wanted))
    yield from _artifacts(order, shop, replace(site, references=known), doubts, is_whole=is_whole)


def _until_program(order: Order, shop: Workshop, lines: list[Line]) -> tuple[Site, tuple[str, ...]] | None:
    """What the artifacts are made from, and what there is to say against the float model, each job of it as a line; None
    behind the first whose result is not there.

    Raises:
        TwinkeelError: the build would end with it, by results that are there.
    """
    config, create = order.config, order.create

    def find(job: Job) -> Entry | None:
        found = shop.find(job)
        lines.append(_line(order, shop, job, found))
        return found

    if (data := find(steps.data_job(config))) is None:
        return None
    order.check_certainty(len(shop.array(data, "held-out-labels.npy")))
    labels = tuple(shop.json(data, "labels.json"))
    if (weights := find(steps.weights_job(config, create, data, len(labels)))) is None:
        return None
    if (original := find(steps.original_job(config, create, data, weights, len(labels)))) is None:
        return None
    doubts = steps.original_doubts(shop, original, config, labels)
    if (program := find(steps.program_job(config, create, data, weights, is_gated=order.has_int8))) is None:
        return None
    site = Site(
        store=None, scratch="", damaged=frozenset(), config=config, create=create, labels=labels,
        data=data, weights=weights, program=program, references={},
    )  # fmt: skip
    return site, doubts


def _artifacts(order: Order, shop: Workshop, site: Site, doubts: tuple[str, ...], *, is_whole: bool) -> Iterator[Line]:
    made: dict[tuple[str, str], Made] = {}
    for target, precision in order.wanted:
        job = steps.lower_job(site, target, precision)
        lowered = shop.find(job)
        yield _line(order, shop, job, lowered)
        if lowered is None or not is_whole:
            yield _open(
                f"measure {target.NAME} {precision}", "the artifact comes" if is_whole else "the references come"
            )
            continue
        job = steps.measure_job(site, target, precision, lowered)
        measured = shop.find(job)
        yield _line(order, shop, job, measured)
        if measured is not None:
            made[target.NAME, precision] = Made(lowered=lowered, measured=measured)
    if len(made) < len(order.wanted):
        for name in _last_names(order):
            yield _open(name, "these come")
        return
    finished = {}
    for platform in order.plans:
        job = finish.folder_job(order, site, platform, made, doubts)
        found = shop.find(job)
        yield _line(order, shop, job, found)
        if found is not None:
            finished[platform] = found
    job = walk.latency_job(order, site, made)
    timed = shop.find(job)
    yield _line(order, shop, job, timed)
    if timed is None or len(finished) < len(order.plans):
        yield _open("report", "the folders come" if timed is not None else "the latencies come")
        return
    job = finish.report_job(order, shop, site, finished, shop.json(timed, "latency.json"), made)
    yield _line(order, shop, job, shop.find(job))


def _names(order: Order) -> list[str]:
    """All jobs of a build."""
    found = ["data", "weights", "original", "quantize", *(f"reference {key}" for key in references.keys(order.wanted))]
    for target, precision in order.wanted:
        found += [f"lower {target.NAME} {precision}", f"measure {target.NAME} {precision}"]
    return found + _last_names(order)


def _last_names(order: Order) -> list[str]:
    return [*(f"folder {platform}" for platform in order.plans), "latency", "report"]


def _open(name: str, what: str) -> Line:
    return Line(name=name, why=f"as far as {what} out different", is_open=True)


def _line(order: Order, shop: Workshop, job: Job, found: Entry | None) -> Line:
    return Line(name=job.name, why="" if found is not None else shop.why(order.place, job))
