"""Measuring: what an artifact says of all images, beside its references."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ...data import Images
from ...delivery import machine
from ...parity import Expected, described, measure
from ...program import UNROUNDED, Target, references
from ...store import Entry, Job
from ..site import CODE, Site, job, reads
from .data import all_images, judged_in
from .program import outputs_of
from .reference import load_recording


def name_of(target: str, precision: str) -> str:
    return f"measure {target} {precision}"


def measure_job(site: Site, target: Target, precision: str, lowered: Entry) -> Job:
    key = target.REFERENCES[precision]
    wanted = {name: site.references[name] for name in ("fp32", "int8", key, key + UNROUNDED) if name in site.references}
    inputs: dict[str, Any] = {
        "artifact": lowered.digest(f"artifact{target.SUFFIX}"),
        "twin": lowered.digest(twin) if lowered.has(twin := f"twin{target.SUFFIX}") else "",
        "precision": precision,
        "images": judged_in(site),
        "outputs": site.program.digest("program.json"),
    }
    inputs |= {f"reference {name}": entry.digest() for name, entry in sorted(wanted.items())}
    if "labels" in reads(target):
        inputs["names"] = list(site.names)
    code = (
        target.load.__module__,
        site.task.MEANING.score.__module__,
        *(f"{CODE}.{name}" for name in ("parity.measuring", "parity.drift", "program.references", "delivery.machine")),
    )
    return job("measure", name_of(target.NAME, precision), inputs, code, (*target.PACKAGES, "numpy"), by=__name__)


def measured(site: Site, target: Target, precision: str, lowered: Entry) -> Entry:
    """In a worker: its measurement, from the store or made."""

    def make(folder: Path) -> None:
        shop, key = site.workshop, target.REFERENCES[precision]
        images, golden = all_images(site)
        outputs = {name: shop.array(entry, "outputs.npy") for name, entry in site.references.items()}
        count, some = len(images), references.looked_at(key, images, golden)
        if some is not None:
            outputs = {name: values[some] for name, values in outputs.items()}
            images, golden = images[some], [some.index(number) for number in golden]
        expected = Expected(
            reference=outputs[key],
            floating=outputs["fp32"],
            quantized=outputs["int8"],
            unrounded=outputs.get(key + UNROUNDED),
            outputs=outputs_of(shop, site.program),
            names=site.names,
        )
        with tempfile.TemporaryDirectory(dir=site.scratch) as name:
            here = Path(name)
            shop.fetch(lowered, here)
            path, twin = here / f"artifact{target.SUFFIX}", here / f"twin{target.SUFFIX}"
            found = measure(
                target,
                path,
                precision,
                images,
                expected,
                site.task.MEANING,
                closely=golden,
                twin=twin if twin.exists() else None,
            )
            _write_layers(site, target, precision, path, images[golden], folder)
        whole = found.outputs if some is None else references.spread(found.outputs, some, count)
        np.save(folder / "outputs.npy", whole)
        described_metrics = {
            "metrics": dict(found.metrics),
            "decodes": found.decodes,
            "images": some,
            # a store may be shared: another machine's build says where this was measured
            "machine": machine.here(),
            "versions": _runtime_versions(target),
        }
        (folder / "metrics.json").write_text(json.dumps(described_metrics))

    return site.workshop.make(measure_job(site, target, precision, lowered), make)


def _runtime_versions(target: Target) -> dict[str, str]:
    """Of the runtime that `load` runs an artifact on."""
    runtime = getattr(target, "RUNTIME", None)
    packages = () if runtime is None or target.EVIDENCE != "runtime" else runtime.PACKAGES
    return {name: importlib.metadata.version(name) for name in packages}


def _write_layers(site: Site, target: Target, precision: str, path: Path, images: Images, folder: Path) -> None:
    """What the layers of an int8 artifact give for the golden images; a trace that fails is noted, the build goes on."""
    from ...parity import drift

    if precision != "int8" or not hasattr(target, "trace"):
        return
    key = target.REFERENCES["int8"]
    recording = load_recording(site.workshop, {key: site.references[key]})
    try:
        values = drift.candidates(target.trace(path), images, recording, key, f"{target.NAME} int8")
        np.save(folder / "layers.npy", np.concatenate(values, axis=1))
    except Exception as error:  # each runtime has errors of its own for what it does not take
        (folder / "layers-error.txt").write_text(described(error))
