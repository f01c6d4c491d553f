"""The artifacts: each lowered and measured, in one process for each converter, whose import takes seconds."""

from __future__ import annotations

import errno
import importlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import cast

from ...parity import described
from ...program import Target, references
from ...store import Damaged, Entry, Job, Workshop, is_no_room
from ..order import Order
from ..site import Made, Site
from ..waiting import Progress, completed
from ..work import Failure, Found, Work, reference_awaited
from . import lower, measure

_NO_ROOM = 1_000_000
"""Bytes that are left on a disk when it is full."""


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    is_whole = len(site.references) == len(references.keys(order.wanted))
    found: dict[str, Job | str] = {}
    for target, precision in order.wanted:
        made = lower.name_of(target.NAME, precision), measure.name_of(target.NAME, precision)
        if awaited := reference_awaited(site, target.REFERENCES[precision]):
            found |= dict.fromkeys(made, awaited)
            continue
        found[made[0]] = lowering = lower.lower_job(site, target, precision)
        lowered = shop.find(lowering)
        if lowered is None or not is_whole:
            found[made[1]] = "the artifact comes" if is_whole else "the references come"
        else:
            found[made[1]] = measure.measure_job(site, target, precision, lowered)
    return found


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    """One that fails does not hide the others: it is a `Failure`, of its lowering or of its measurement."""
    groups: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for target, precision in work.order.wanted:
        if missing.keys() & {part.name_of(target.NAME, precision) for part in (lower, measure)}:
            # targets that share their code share their results: made once, for all of them
            one = groups.setdefault(target.build.__module__, {}).setdefault(precision, [])
            one.append((target.NAME, precision))
    tasks = _tasks(groups, work.number, work.order.targets)
    total, done = sum(len(names) for group in groups.values() for names in group.values()), 0
    work.say(f"artifacts: {total} to make, {len(tasks)} processes, {min(len(tasks), work.number)} at a time")
    waiting = {work.submit(make_artifacts, site, _modules(work, task)): task for task in tasks}
    found: dict[str, Entry | Failure] = {}
    for future in completed(work.say, waiting, "artifacts", _converted(work, site, waiting.values()), "converted"):
        task = waiting[future]
        for names, made in zip(task, _outcome(work, future, site, task), strict=True):
            work.peak = max(work.peak, made.peak)
            for name in names:
                done += 1
                found |= _results(name, made)
                work.say(_told(name, made), (done, total))
                if made.lowered is not None:  # what workers have asked for is known here too
                    asked = measure.measure_job(site, work.order.targets[name[0]], name[1], made.lowered)
                    work.shop.asked[asked.name] = asked.ingredients
    return found


def _converted(work: Work, site: Site, tasks: Iterable[Sequence[Sequence[tuple[str, str]]]]) -> Callable[[], Progress]:
    """How many artifacts the store has: a process has many to make."""
    lowering = [
        lower.lower_job(site, work.order.targets[names[0][0]], names[0][1]).key for task in tasks for names in task
    ]
    return lambda: (sum(work.shop.lookup(key) is not None for key in lowering), len(lowering))


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    made = {}
    for target, precision in order.wanted:
        names = lower.name_of(target.NAME, precision), measure.name_of(target.NAME, precision)
        if names[1] not in found:
            continue  # it is to come
        lowered, measured = (found.get(name) for name in names)
        errors = (one.error for one in (lowered, measured) if isinstance(one, Failure))
        made[target.NAME, precision] = Made(
            lowered=lowered if isinstance(lowered, Entry) else None,
            measured=measured if isinstance(measured, Entry) else None,
            error=next(errors, ""),
        )
    return site.knowing({}, made=made)


def _results(name: tuple[str, str], made: Made) -> dict[str, Entry | Failure]:
    failure = Failure(error=made.error)
    return {lower.name_of(*name): made.lowered or failure, measure.name_of(*name): made.measured or failure}


def make_artifacts(site: Site, wanted: Sequence[tuple[str, str]]) -> list[Made]:
    """In a worker: lower and measure artifacts, given by a target's module and a precision; one that fails does not
    hide the others."""
    from ...store import light_objects, one_thread, peak_memory

    found = []
    for module, precision in wanted:
        target = cast("Target", importlib.import_module(module))
        lowered = measured = None
        error = ""
        try:
            with one_thread(), light_objects():
                lowered = lower.lowered(site, target, precision)
                measured = measure.measured(site, target, precision, lowered)
        except Damaged:
            raise
        except Exception as failure:  # converters and runtimes raise anything; the others still deserve their turn
            if is_no_room(failure):
                raise OSError(errno.ENOSPC, described(failure)) from failure
            error = described(failure)
        found.append(Made(lowered=lowered, measured=measured, error=error, peak=peak_memory()))
    return found


def _outcome(
    work: Work, future: Future[list[Made]], site: Site, task: Sequence[Sequence[tuple[str, str]]]
) -> list[Made]:
    """What a worker made; of one that died, what each artifact gives in a process of its own."""
    try:
        return future.result()
    except Damaged:
        raise
    except Exception as error:
        if is_no_room(error):
            raise
        if shutil.disk_usage(work.folder).free < _NO_ROOM:  # native code that ends its process for it
            raise OSError(errno.ENOSPC, described(error)) from error
        if len(task) == 1:
            # what it had finished is in the store
            target, precision = task[0][0]
            lowered = work.shop.find(lower.lower_job(site, work.order.targets[target], precision))
            return [Made(lowered=lowered, measured=None, error=described(error))]
    apart = [work.submit(make_artifacts, site, _modules(work, [names])) for names in task]
    return [_outcome(work, one, site, [names])[0] for one, names in zip(apart, task, strict=True)]


def _modules(work: Work, task: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, str]]:
    return [(work.order.targets[names[0][0]].__name__, names[0][1]) for names in task]


def _tasks(
    groups: Mapping[str, Mapping[str, list[tuple[str, str]]]], number: int, targets: Mapping[str, Target]
) -> list[list[list[tuple[str, str]]]]:
    """Artifacts for each process: all of a converter, for its import takes seconds, but no process stays idle for it.

    Args:
        groups: by the module that builds, by precision, the artifacts that are the same file.

    Returns:
        the longest task first: started last, it would keep one process alone at the end.
    """
    tasks = [list(group.values()) for group in groups.values()]
    while len(tasks) < number and any(len(task) > 1 for task in tasks):
        largest = max(tasks, key=len)
        tasks.remove(largest)
        tasks += [largest[::2], largest[1::2]]
    return sorted(tasks, key=lambda task: sum(_cost(names[0], targets) for names in task), reverse=True)


def _cost(artifact: tuple[str, str], targets: Mapping[str, Target]) -> int:
    """About how long an artifact takes: int8 three times as long as the others, and with a twin twice that."""
    name, precision = artifact
    if precision != "int8":
        return 1
    return 6 if precision in getattr(targets[name], "TWINS", ()) else 3


def _told(name: tuple[str, str], made: Made) -> str:
    if made.error:
        return f"FAILED {' '.join(name)}: {made.error}"
    return f"made: {' '.join(name)}"
