"""Latency: the artifacts that run, timed in turn with no other at work."""

from __future__ import annotations

import importlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...parity import times
from ...program import Target
from ...saying import counted
from ...store import Entry, Job, Workshop
from ..order import Order
from ..site import CODE, Site, contract_of, job
from ..waiting import completed
from ..work import Found, Work, artifacts_awaited, entries
from .data import all_images

NAME = "latency"
LATENCY_RUNS = {"runtime": 30, "reference executor": 5}


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    if wait := artifacts_awaited(order, site):
        return {NAME: wait}
    found = running(order, site)
    return {NAME: latency_job(site, found)} if found else {}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    def write(folder: Path) -> None:
        rounds = site.rounds or [taken(work, site)]
        medians = {name: float(np.median([np.median(one[name]) for one in rounds])) for name in rounds[0]}
        (folder / "latency.json").write_text(json.dumps(medians))

    return {NAME: work.shop.make(missing[NAME], write)}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    if NAME in found:
        return site.knowing({}, latency=shop.json(entries(found)[NAME], "latency.json"))
    is_none = len(site.made) == len(order.wanted) and not running(order, site)
    return site.knowing({}, latency={}) if is_none else site


def taken(work: Work, site: Site, rounds: int = 1) -> dict[str, list[float]]:
    """Milliseconds by ``target precision``, from a worker.

    Args:
        rounds: among how many the runs are divided; these are one's.
    """
    wanted = {name: (target.__name__, lowered) for name, (target, lowered) in running(work.order, site).items()}
    work.say(f"latency: {counted(len(wanted), 'artifact')} in turn")
    (ended,) = completed(work.say, [work.submit(make_times, site, wanted, rounds)], "latency")
    found: dict[str, list[float]] = ended.result()
    return found


def running(order: Order, site: Site) -> dict[tuple[str, str], tuple[Target, Entry]]:
    """The artifacts that run."""
    return {
        name: (order.targets[name[0]], item.lowered)
        for name, item in site.made.items()
        if item.lowered is not None and item.measured is not None
    }


def latency_job(site: Site, made: Mapping[tuple[str, str], tuple[Target, Entry]]) -> Job:
    """Of all artifacts at once, for they are timed in turn."""
    inputs: dict[str, Any] = {
        f"{target.load.__module__} {precision}": lowered.digest(f"artifact{target.SUFFIX}")
        for (_, precision), (target, lowered) in made.items()
    }
    inputs |= {"shapes": contract_of(site.config).shapes, "processor": processor()}
    code = tuple(sorted({target.load.__module__ for target, _ in made.values()} | {f"{CODE}.parity.measuring"}))
    packages = sorted({name for target, _ in made.values() for name in target.PACKAGES})
    return job(NAME, NAME, inputs, code, packages, by=__name__)


def make_times(
    site: Site, wanted: Mapping[tuple[str, str], tuple[str, Entry]], rounds: int = 1
) -> dict[str, list[float]]:
    """In a worker, with no other at work: milliseconds by ``target precision``.

    What a runtime runs is timed apart from what an executor does: an executor's milliseconds of numpy between two runs
    of a runtime make that up to 30 times slower. One file that several targets ship is timed once.

    Args:
        wanted: by target and precision, the target's module and the lowered artifact.
        rounds: see `taken`.
    """
    from ...store import one_thread

    shop = site.workshop
    image = all_images(site)[0][:1]
    runs: dict[str, dict[str, Any]] = {}
    owners: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(dir=site.scratch) as folder, one_thread():
        for number, ((name, precision), (module, lowered)) in enumerate(wanted.items()):
            target = cast("Target", importlib.import_module(module))
            key = f"{target.load.__module__} {lowered.digest(f'artifact{target.SUFFIX}')}"
            owners.setdefault(key, []).append(f"{name} {precision}")
            if len(owners[key]) == 1:
                here = Path(folder) / str(number)
                here.mkdir()
                shop.fetch(lowered, here, f"artifact{target.SUFFIX}")
                runs.setdefault(target.EVIDENCE, {})[key] = target.load(here / f"artifact{target.SUFFIX}").run
        found = {
            key: value
            for evidence, group in runs.items()
            for key, value in times(group, image, -(-LATENCY_RUNS.get(evidence, 5) // rounds)).items()
        }
    return {name: found[key] for key, names in owners.items() for name in names}


def processor() -> str:
    """Whose milliseconds these are: not those of another machine that shares the store."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores"
