"""The report: one page on all platforms, and the curves of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...delivery import manifest
from ...program import is_quantized
from ...report import Report, parts
from ...store import Job, Workshop
from ..order import Order
from ..site import Site, job
from ..telling import added_evidence, result_of
from ..work import Found, Work, artifacts_awaited, entries
from .data import SHEET, TAKEN, images_in, judged, taken_in
from .reference import load_recording

if TYPE_CHECKING:
    from ...parity import RuntimeDrift

NAME = "report"
PAGE = "report.html"
CURVES = ("curves.csv", "curves.png")


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    wait = artifacts_awaited(order, site)
    if not wait and site.latency is None:
        wait = "the latencies come"
    elif not wait and len(site.finished) < len(order.plans):
        wait = "the folders come"
    return {NAME: wait or report_job(order, shop, site)}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    return {NAME: work.shop.make(missing[NAME], partial(make_report, work, site))}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    return site.knowing(entries(found))


def report_job(order: Order, shop: Workshop, site: Site) -> Job:
    inputs: dict[str, Any] = {f"folder {platform}": entry.digest() for platform, entry in site.finished.items()}
    inputs |= {
        f"layers of {name} {precision}": item.measured.digest()
        for (name, precision), item in site.made.items()
        if item.measured is not None and precision == "int8"
    }
    inputs["latency"] = dict(site.latency or {})
    if more := added_evidence(order, shop, site.finished):
        inputs["evidence that was added"] = [[*key, list(runs)] for key, runs in sorted(more.items())]
    inputs["images"] = [*images_in(site.data, "held-out"), site.data.digest(SHEET)]
    inputs["what the data were taken from"] = site.data.digest(TAKEN)
    inputs["training"] = site.weights.digest()
    inputs["rungs"] = site.program.digest("rungs.json")
    for path in sorted(order.out.glob("sensitivity.csv")):
        inputs["sensitivity"] = hashlib.sha256(path.read_bytes()).hexdigest()
    code = ("twinkeel.pipeline.parity.drift", order.render.__module__, *parts.modules(site.config.model.task))
    return job(NAME, NAME, inputs, code, ("jinja2", "numpy"), by=__name__)


def make_report(work: Work, site: Site, result: Path) -> None:
    order, shop = work.order, work.shop
    drift, errors = _drift(order, shop, site)
    said = Report(
        results=[result_of(order, shop, site, p, has_answers=True) for p in order.plans],
        manifests=[shop.json(site.finished[p], f"folder/{manifest.MANIFEST}") for p in order.plans],
        held_out=judged(shop, site.data, order.config.parity.images),
        taken=taken_in(shop, site.data),
        drift=drift,
        drift_errors=errors,
        sheet=shop.read(site.data, SHEET),
    )
    for name, content in order.render(order.config.project.name, said, order.out).items():
        (result / name).write_bytes(content)
    (result / SHEET).write_bytes(said.sheet)
    for name in CURVES:
        if site.weights.has(name):
            (result / name).write_bytes(shop.read(site.weights, name))


def _drift(order: Order, shop: Workshop, site: Site) -> tuple[tuple[RuntimeDrift, ...], str]:
    """Layer by layer, each artifact that is the same on several platforms once."""
    from ...parity import RuntimeDrift, arithmetic, compare

    in_float = shop.json(site.program, "program.json")["in_float"]
    recording = load_recording(shop, {key: entry for key, entry in site.references.items() if is_quantized(key)})
    found: dict[str, RuntimeDrift] = {}
    errors = []
    for (name, _), item in site.made.items():
        if item.measured is None or item.lowered is None:
            continue
        target = order.targets[name]
        if item.measured.has("layers-error.txt"):
            errors.append(shop.read(item.measured, "layers-error.txt").decode())
        if not item.measured.has("layers.npy"):
            continue
        key = item.measured.digest("layers.npy") + target.KERNELS + item.lowered.digest(f"artifact{target.SUFFIX}")
        if key in found:
            found[key] = replace(found[key], targets=(*found[key].targets, name))
            continue
        reference = target.REFERENCES["int8"]
        values = replace(recording, steps={name: shop.array(item.measured, "layers.npy")}).of(name)
        compared = compare(recording, reference, values, arithmetic(target.KERNELS, in_float))
        found[key] = RuntimeDrift(targets=(name,), reference=reference, layers=compared)
    return tuple(found.values()), "; ".join(sorted(set(errors)))
