"""The references: what each form of the program says of all images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...program import layers as layers_module
from ...program import references
from ...store import Entry, Job, Workshop
from ..order import Order
from ..site import CODE, Site, job, load_program, module_of, numbers_of
from ..waiting import completed
from ..work import Found, Work, entries, in_store, reference_awaited
from .data import all_images, judged_in


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    return {
        name_of(key): reference_awaited(site, key) or reference_job(site, key) for key in references.keys(order.wanted)
    }


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    keys = [key for key in references.keys(work.order.wanted) if name_of(key) in missing]
    work.say(f"references: {', '.join(keys)}")
    futures = [work.submit(make_references, site, share) for share in shares_of(keys, work.number)]
    found: dict[str, Entry] = {}
    for future in completed(work.say, futures, "references", in_store(work, [missing[name_of(key)] for key in keys])):
        found |= future.result()
    return {name_of(key): entry for key, entry in found.items()}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    known = entries(found)
    said = {key: known[name] for key in references.keys(order.wanted) if (name := name_of(key)) in known}
    return site.knowing({}, references=said)


def name_of(key: str) -> str:
    return f"reference {key}"


def reference_job(site: Site, key: str) -> Job:
    inputs: dict[str, Any] = numbers_of(site, key)
    inputs |= {"reference": key, "images": judged_in(site)}
    code = (module_of(site.create), f"{CODE}.program.references", f"{CODE}.stages.saved")
    return job("reference", name_of(key), inputs, code, ("torch", "torchao", "numpy"), by=__name__)


def make_references(site: Site, keys: Sequence[str]) -> dict[str, Entry]:
    """In a worker: what references say of all images."""
    from ...store import light_objects, one_thread

    shop = site.workshop
    images, golden = all_images(site)
    program = load_program(site, is_quantized=True, keys=keys)

    def make(key: str, folder: Path) -> None:
        outputs, recording = references.run(program, key, images, golden)
        np.save(folder / "outputs.npy", outputs)
        if recording is not None:
            np.save(folder / "steps.npy", recording.steps[key])
            (folder / "layers.json").write_text(json.dumps([asdict(layer) for layer in recording.layers]))

    with one_thread(), light_objects():
        return {key: shop.make(reference_job(site, key), lambda folder, key=key: make(key, folder)) for key in keys}  # type: ignore[misc]


def load_recording(workshop: Workshop, entries: Mapping[str, Entry]) -> layers_module.Recording:
    """What the quantized references computed inside, of all that were asked."""
    found = []
    for key, entry in entries.items():
        if entry.has("steps.npy"):
            described_layers = workshop.json(entry, "layers.json")
            layers = tuple(layers_module.Layer(**(d | {"shape": tuple(d["shape"])})) for d in described_layers)
            found.append(layers_module.Recording(layers=layers, steps={key: workshop.array(entry, "steps.npy")}))
    return layers_module.joined(found)


def shares_of(keys: Sequence[str], number: int) -> list[list[str]]:
    """References dealt out to as many workers at most, the longest first, each to the one that has least to do."""
    shares: list[list[str]] = [[] for _ in range(min(number, len(keys)))]
    for key in sorted(keys, key=lambda key: (-references.cost(key), key)):
        min(shares, key=lambda share: sum(map(references.cost, share))).append(key)
    return shares
