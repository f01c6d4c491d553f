"""The cost of layers in float: an int8 artifact beside one with all of its layers in int8."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ...parity import described, latencies
from ...program import Target
from ...store import Damaged, Entry, Job, Workshop, is_no_room
from ..order import Order
from ..site import CODE, Site, graphs, job, load_program, reads
from ..waiting import completed
from ..work import Failure, Found, Work
from .data import all_images
from .latency import processor
from .lower import lower_job

NAME = "cost of float"


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    """None, where all layers are in int8."""
    chosen = _chosen(order, site)
    return {} if chosen is None else {NAME: cost_job(site, *chosen)}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    chosen = _chosen(work.order, site)
    assert chosen is not None
    target, lowered = chosen

    def write(folder: Path) -> None:
        work.say(f"{NAME}: {target.NAME} once more with all layers in int8, to be timed beside it")
        (ended,) = completed(work.say, [work.submit(cost_of_float, site, target.__name__, lowered)], NAME)
        (folder / "cost.json").write_text(json.dumps(ended.result()))

    try:
        return {NAME: work.shop.make(missing[NAME], write)}
    except Damaged:
        raise
    except Exception as error:  # the artifacts are what they are: one with all layers in int8 may be refused by a runtime, or end its process
        if is_no_room(error):
            raise
        return {NAME: Failure(error=described(error))}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    chosen, entry = _chosen(order, site), found.get(NAME)
    if chosen is None or entry is None:
        return site
    if isinstance(entry, Failure):
        told = f"{NAME}: not measured, for {chosen[0].NAME} with all layers in int8 gave no answer: {entry.error}"
        return site.knowing({}, told=(*site.told, told))
    cost = shop.json(entry, "cost.json")
    told = (
        f"cost of the layers in float, {chosen[0].NAME}: {cost['bytes']:,} bytes instead of {cost['plain bytes']:,}, "
        f"{cost['ms'] / cost['plain ms']:.2f} times the latency, both timed in turn"
    )
    return site.knowing({}, told=(*site.told, told))


def _chosen(order: Order, site: Site) -> tuple[Target, Entry] | None:
    """The first int8 artifact that a runtime runs here, where the program has layers in float."""
    if "quantize" not in site.results or not site.program.has("all-int8-quantized.pt2"):
        return None
    for target, precision in order.wanted:
        made = site.made.get((target.NAME, precision))
        if precision == "int8" and target.EVIDENCE == "runtime" and made is not None and made.measured is not None:
            return None if made.lowered is None else (target, made.lowered)
    return None


def cost_job(site: Site, target: Target, lowered: Entry) -> Job:
    lowering = lower_job(site, target, "int8")
    inputs = {
        **lowering.inputs,
        "artifact": lowered.digest(f"artifact{target.SUFFIX}"),
        "all in int8": graphs(site, "all-int8-"),
        "processor": processor(),
    }
    return job(NAME, NAME, inputs, (*lowering.code, f"{CODE}.parity.measuring"), lowering.packages, by=__name__)


def cost_of_float(site: Site, module: str, lowered: Entry) -> dict[str, float]:
    """In a worker: size and latency of an int8 artifact with layers in float, beside one with all of them in int8."""
    target = cast("Target", importlib.import_module(module))
    program = load_program(site, is_quantized=True, reads=reads(target), variant="all-int8-")
    with tempfile.TemporaryDirectory(dir=site.scratch) as name:
        folder = Path(name)
        plain = target.build(program, "int8", folder / f"plain{target.SUFFIX}")
        site.workshop.fetch(lowered, folder, f"artifact{target.SUFFIX}")
        mixed = folder / f"artifact{target.SUFFIX}"
        image = all_images(site)[0][:1]
        taken = latencies({"mixed": target.load(mixed).run, "plain": target.load(plain).run}, image, 30)
        return {"bytes": mixed.stat().st_size, "plain bytes": plain.stat().st_size,
                "ms": taken["mixed"], "plain ms": taken["plain"]}  # fmt: skip
