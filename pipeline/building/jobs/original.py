"""The original: whether the float model knows the images, before anything is built on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import data as data_module
from ...config import Config
from ...errors import OriginalError
from ...saying import counted
from ...store import Entry, Job, Workshop
from ...tasks import named
from ..order import Order
from ..site import CODE, Create, Site, contract_of, job, load_model, meaning_of, model_of, module_of
from ..work import Found, Work, awaited, entries
from . import data as data_step
from .data import SHEET, inputs_in

if TYPE_CHECKING:
    from torch import nn

NAME = "original"
MOST_IMAGES = 1000
"""Held-out images that are looked at."""


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    return {
        NAME: awaited(site, "data", "weights")
        or original_job(site.config, site.create, site.data, site.weights, len(site.names))
    }


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    config, shop = site.config, work.shop
    work.say("original: the float model on held-out images")

    def write(folder: Path) -> None:
        model = load_model(shop, site.weights, config, site.create, len(site.names))
        make_original(config, data_step.part_of(shop, site.data, "held-out"), model, folder)

    return {NAME: shop.make(missing[NAME], write)}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    known = site.knowing(entries(found))
    if NAME not in found:
        return known
    doubts = original_doubts(shop, known.results[NAME], site.config, site.names)
    return known.knowing({}, doubts=doubts, told=(*site.told, *(f"WARNING {line}" for line in doubts)))


def original_job(config: Config, create: Create, data: Entry, weights: Entry, outputs: int) -> Job:
    """What the float model is worth; needed before anything is built on it."""
    inputs: dict[str, Any] = {
        "weights": weights.digest("weights.safetensors"),
        "model": model_of(config, create),
        "outputs": outputs,
        "normalization": [config.data.channels, config.data.mean, config.data.std],
        "images": inputs_in(data, "held-out"),
        "truth": data.digest("held-out-truth.npy"),
    }
    inputs |= meaning_of(config)
    code = (
        module_of(create),
        named(config.model.task).look.__module__,
        f"{CODE}.program.program",
        f"{CODE}.stages.fold",
        f"{CODE}.stages.several",
    )
    return job(NAME, NAME, inputs, code, ("torch", "numpy", "scipy"), by=__name__)


def make_original(config: Config, held_out: data_module.Split, model: nn.Module, folder: Path) -> None:
    from ...program import evaluate, layout
    from ...stages import fold, several

    indices = chosen(len(held_out.images))
    contract = contract_of(config)
    original = fold.Normalized(model, contract.mean, contract.std, contract.channels)
    images = held_out.part(indices).inputs
    outputs = evaluate(original, images, batch=1 if several.why_not(original, images) else 32)
    given = layout(original, images)
    look = named(config.model.task).look(outputs, held_out.truth[indices], config, given)
    described = {"by task": look, "images": len(images), "ignores": ignores_images(images, outputs)}
    (folder / "look.json").write_text(json.dumps(described))


def ignores_images(images: data_module.Images, outputs: NDArray[np.float32]) -> bool:
    """Whether images that differ have one output, to the last bit: weights of zeros give that, and a layer that cuts the image off."""
    if not (outputs == outputs[0]).all():
        return False
    first = data_module.arrays(images[:1])[0]
    # one by one, up to the first that differs: they may lie in files
    return any((data_module.arrays(images[n : n + 1])[0] != first).any() for n in range(1, len(images)))


def chosen(images: int) -> list[int]:
    """Indices of the images that are looked at, spread over all."""
    return list(np.linspace(0, images - 1, min(images, MOST_IMAGES)).astype(int).tolist())


def original_doubts(workshop: Workshop, entry: Entry, config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """What there is to say against the float model though it may be built on, in words.

    Raises:
        OriginalError: it may not: what was counted, and the likely cause.
    """
    task, seen = named(config.model.task), workshop.json(entry, "look.json")
    look = seen["by task"]
    trouble = task.trouble(look, names, is_trained=config.trains)
    if not trouble and seen["ignores"]:
        trouble = (
            f"the float model gives one and the same output for {counted(seen['images'], 'held-out image')} that differ, to the last bit: it "
            "does not look at them. The likely cause: weights of zeros, of another model, or damaged."
        )
    reason = config.data.accept_accuracy
    if trouble and look.get("is_finite") is False:  # there is nothing that could be quantized
        raise OriginalError(f"{trouble} Nothing was built on it.")
    if trouble and not reason:
        raise OriginalError(
            f"{trouble} Nothing was built on it. `twinkeel train` writes {SHEET}: look whether the images are those that you mean. "
            'If it is meant so: [data] accept_accuracy = "the reason".'
        )
    doubt = f"accepted ({reason}): {trouble}" if trouble else task.doubt(look, names)
    return (doubt,) if doubt else ()
