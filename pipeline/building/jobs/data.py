"""The data: images and what is right of them, read once, in parts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import data as data_module
from ... import rows
from ...config import MOST_TENSORS, Arrays, Config
from ...data import beside, contact, doubts
from ...errors import ConfigError
from ...program import references
from ...saying import Pace, Say
from ...stages import checkpoint, pt2_file
from ...store import Entry, Job, Workshop
from ...tasks import named
from ..order import Order
from ..site import CODE, Site, job
from ..work import Found, Work, entries

NAME = "data"
SHEET = "contact-sheet.png"
TAKEN = "taken.json"
DIGESTS = "digests.json"
DECODED = "images.npy"
"""All images that were decoded, where a set has most of them: its numbers in it are in ``<set>-rows.npy``, so that they are not copied.
Every other set has its own in ``<set>-images.npy``."""
SETS = ("train", "calibration", "held-out")


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    return {NAME: data_job(site.config)}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    config, wanted = site.config, missing[NAME]
    check_weights(config)
    is_in_memory = isinstance(config.data, Arrays)
    work.say("data: " + (config.data.source if is_in_memory else config.data.path or config.data.source))
    made = work.shop.make(wanted, lambda folder: make_data(config, wanted, folder, work.say, work.number))
    for what, words in taken_in(work.shop, made):
        work.say(f"  {what}: {words}")
    return {NAME: made}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    known = site.knowing(entries(found))
    if NAME not in found:
        return known
    count, most = len(shop.array(known.data, "held-out-truth.npy")), site.config.parity.images
    order.check_certainty(min(count, most))
    found_doubts = [*doubts.of_order(site.config), *shop.json(known.data, "warnings.json")]
    warnings = [f"WARNING {line}" for line in found_doubts]
    some = [
        f"data: artifacts are judged on {most:,} of {count:,} held-out images, evenly chosen; [parity] images = {count} judges on all"
    ]
    return known.knowing(
        {},
        names=tuple(shop.json(known.data, "names.json")),
        judged=most if count > most else 0,
        told=(*site.told, *warnings, *(some if count > most else ())),
    )


def check_weights(config: Config) -> None:
    """Raise a WeightsError where it is known at once that the checkpoint cannot be read: images may take minutes before it is."""
    if config.weights.path is None:
        return
    from ...stages import weights

    weights.check_kind(checkpoint.there(config.weights))


def data_job(config: Config) -> Job:
    task = named(config.model.task)
    inputs: dict[str, Any] = {**task.ingredients(config), "resolution": config.model.resolution}
    inputs["channels of the contact sheet"] = config.data.channels
    if config.input:
        inputs["tensors"] = [one.model_dump() for one in config.input]
        folders = (config.data.path, config.data.calibration_path)
        inputs["tensors beside images"] = [beside.listing(Path(path)) for path in folders if path]
    if task.asks_weights(config) and config.model.exported is not None:
        inputs["outputs of the exported program"] = pt2_file.read(Path(config.model.exported)).outputs
    elif task.asks_weights(config) and not config.weights.from_factory:
        inputs |= checkpoint.ingredients(config.weights)
    packages = ["numpy", "pillow", *(["scikit-learn"] if config.data.source == "digits" else [])]
    code = (
        task.load.__module__,
        task.doubts.__module__,
        task.marked.__module__,
        *(f"{CODE}.data.{n}" for n in ("splits", "doubts", "contact")),
    )
    return job(NAME, NAME, inputs, code, packages, by=__name__)


def make_data(config: Config, job: Job, folder: Path, say: Say = lambda *_: None, number: int = 1) -> None:
    """Write the sets into a folder, none of them ever in memory whole.

    Args:
        number: of processes that decode images.
    """
    task = named(config.model.task)
    with tempfile.TemporaryDirectory(prefix="images-", dir=folder.parent) as name:
        with data_module.put_into(data_module.Place(folder=Path(name), say=say, number=number)):
            found = task.load(config, lambda: _outputs(config))
        if data_job(config).key != job.key:
            raise data_module.changed_meanwhile(config)
        found = _written(found, folder, Path(name), say)
    (folder / "names.json").write_text(json.dumps(found.names))
    (folder / SHEET).write_bytes(contact.sheet(found, task.labels(found.names), config.data.channels, task.marked))
    described_set = {"calibration": found.calibration.digest(), "calibration images": len(found.calibration.images)}
    (folder / DIGESTS).write_text(json.dumps(described_set))
    (folder / TAKEN).write_text(json.dumps(found.taken))
    (folder / "warnings.json").write_text(
        json.dumps(
            [
                *doubts.warnings(found, config.data.calibration),
                *found.notes,
                *doubts.of_tensors(found, config),
                *task.doubts(found),
            ]
        )
    )


def _written(found: data_module.Dataset, folder: Path, place: Path, say: Say) -> data_module.Dataset:
    """The same with its images in the files of the result.

    Args:
        place: folder of those that were decoded.
    """
    parts = dict(zip(SETS, (found.train, found.calibration, found.held_out), strict=True))
    done, most = 0, next((name for name, part in parts.items() if _has_most(part.images, place)), "")
    tell = Pace(say, "data: put into sets", sum(len(part.images) for name, part in parts.items() if name != most))
    for name, part in parts.items():
        np.save(folder / f"{name}-truth.npy", part.truth)
        for number, tensor in enumerate(part.tensors):
            np.save(folder / f"{name}-tensor-{number}.npy", tensor)
        if name != most:
            path = folder / f"{name}-images.npy"
            rows.save(part.images, path, lambda count, before=done: tell(before + count))  # type: ignore[misc]
            parts[name], done = replace(part, images=rows.Rows.of(path)), done + len(part.images)
    if most:
        images = parts[most].images
        assert isinstance(images, rows.Rows)
        images.sources[0].path.rename(folder / DECODED)  # type: ignore[union-attr]
        np.save(folder / f"{most}-rows.npy", images.numbers)
    return replace(found, train=parts["train"], calibration=parts["calibration"], held_out=parts["held-out"])


def _has_most(images: rows.Lines, place: Path) -> bool:
    """Whether a set has more than half of a file of decoded images, and no others."""
    if not isinstance(images, rows.Rows) or len(images.sources) > 1:
        return False
    source = images.sources[0]
    return isinstance(source, rows.Stored) and source.path.parent == place and 2 * len(images) > len(source)


def _outputs(config: Config) -> int:
    """How many the given weights have."""
    if config.model.exported is not None:
        return pt2_file.read(Path(config.model.exported)).outputs
    if config.weights.from_factory:
        raise ConfigError("the images do not tell how many classes there are: name them, one a line, in data.labels")
    from ...stages import weights

    with tempfile.TemporaryDirectory() as name:
        path, _ = checkpoint.locate(config.weights, Path(name))
        return weights.outputs_in(path, config.weights.key)


def taken_in(workshop: Workshop, entry: Entry) -> list[tuple[str, str]]:
    """What the data were taken from, and what was not taken, in pairs of words."""
    return [(what, words) for what, words in workshop.json(entry, TAKEN)]


def load_data(workshop: Workshop, entry: Entry) -> data_module.Dataset:
    return data_module.Dataset(
        train=part_of(workshop, entry, "train"),
        calibration=part_of(workshop, entry, "calibration"),
        held_out=part_of(workshop, entry, "held-out"),
        names=tuple(workshop.json(entry, "names.json")),
    )


def part_of(workshop: Workshop, entry: Entry, name: str) -> data_module.Split:
    """``train``, ``calibration`` or ``held-out``."""
    if entry.has(f"{name}-rows.npy"):
        images = workshop.rows(entry, DECODED)[workshop.array(entry, f"{name}-rows.npy")]
    else:
        images = workshop.rows(entry, f"{name}-images.npy")
    return data_module.Split(
        images=images,
        truth=workshop.array(entry, f"{name}-truth.npy"),
        tensors=tuple(workshop.array(entry, file) for file in _tensors(entry, name)),
    )


def inputs_in(entry: Entry, name: str) -> list[str]:
    """Hashes of what a model is called with, of one of these parts."""
    return [*images_in(entry, name), *map(entry.digest, _tensors(entry, name))]


def images_in(entry: Entry, name: str) -> list[str]:
    """The same of the images alone."""
    rows_of = f"{name}-rows.npy"
    return [entry.digest(file) for file in ((DECODED, rows_of) if entry.has(rows_of) else (f"{name}-images.npy",))]


def _tensors(entry: Entry, name: str) -> list[str]:
    found = [f"{name}-tensor-{number}.npy" for number in range(MOST_TENSORS)]
    return [file for file in found if entry.has(file)]


def judged(workshop: Workshop, entry: Entry, most: int) -> data_module.Split:
    """The held-out images that references and artifacts are run on: all, or `most` of them, evenly chosen."""
    held_out = part_of(workshop, entry, "held-out")
    count = len(held_out.images)
    return held_out if count <= most else held_out.part(np.linspace(0, count - 1, most).astype(int))


def judged_in(site: Site) -> list[str]:
    """What tells these images, and what belongs to them, from others."""
    some = [f"{site.judged} of them"] if site.judged else []
    return [*inputs_in(site.data, "held-out"), *some]


def all_images(site: Site) -> tuple[data_module.Images, list[int]]:
    """What references and artifacts are run on, and the indices of the golden ones; see `references.images_of`."""
    held_out = judged(site.workshop, site.data, site.config.parity.images)
    return references.images_of(held_out.images, held_out.tensors)
