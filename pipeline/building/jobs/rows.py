"""The rows of artifacts, judged, without the folders: what tells which of many models is worth its kits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...store import Job, Workshop
from ..order import Order
from ..site import CODE, Site, contract_of, job, meaning_of
from ..work import Found, Work, artifacts_awaited, entries
from .data import judged_in
from .folder import collect, judge_of, table

NAME = "rows"
ROWS = "rows.json"


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    return {NAME: artifacts_awaited(order, site) or rows_job(order, site)}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    return {NAME: work.shop.make(missing[NAME], lambda folder: make_rows(work, site, folder))}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    return site.knowing(entries(found))


def rows_job(order: Order, site: Site) -> Job:
    config = order.config
    inputs: dict[str, Any] = {
        "limits": [limit.model_dump() for limit in config.limit],
        "open verdicts": config.parity.require,
        "int8 is shipped": order.has_int8,
        "input contract": asdict(contract_of(config)),
        "names": list(site.names),
        "images": judged_in(site),
        "truth": site.data.digest("held-out-truth.npy"),
        "quantization": site.program.digest("program.json"),
    }
    inputs |= meaning_of(config)
    inputs |= {f"reference {key}": entry.digest() for key, entry in site.references.items()}
    modules = set()
    for target, precision in order.wanted:
        item = site.made[target.NAME, precision]
        modules.add(target.__name__)
        inputs[f"{target.NAME} {precision}"] = [
            item.lowered.digest() if item.lowered else "",
            item.measured.digest() if item.measured else "",
            item.error,
        ]
    # artifacts are described by `collect`, which stands among what makes folders
    code = (site.task.__name__, f"{CODE}.parity.judging", f"{CODE}.program.artifact", *sorted(modules))
    return job(NAME, NAME, inputs, code, ("numpy",), by=__name__)


def make_rows(work: Work, site: Site, result: Path) -> None:
    """Judge the artifacts of all platforms into ``rows.json``: by platform, what a folder's ``result.json`` holds."""
    order, shop = work.order, work.shop
    outputs = {key: shop.array(entry, "outputs.npy") for key, entry in site.references.items()}
    judge, found = judge_of(order, shop, site, outputs), {}
    checks = judge.program_checks(has_int8=order.has_int8)
    for platform in order.plans:
        with tempfile.TemporaryDirectory(dir=work.folder) as name:
            measured, errors = collect(work, site, platform, Path(name))
        found[platform] = table(judge, checks, judge.rows(measured, checks), errors)
    (result / ROWS).write_text(json.dumps(found))
