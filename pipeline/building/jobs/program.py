"""The program: folded, and quantized as well as the ladder can in its time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import data as data_module
from ...config import Config, Quantize
from ...program import Output, Program
from ...saying import Say, counted
from ...stages import rungs
from ...store import Entry, Job, Workshop, give_back_memory, light_objects
from ...tasks import named
from .. import ahead
from ..order import Order
from ..site import (
    CODE,
    Create,
    Site,
    about,
    contract_of,
    job,
    load_model,
    meaning_of,
    model_of,
    module_of,
    output_names,
)
from ..work import Found, Work, awaited, entries
from . import data as data_step

if TYPE_CHECKING:
    from torch import nn

NAME = "quantize"


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    return {
        NAME: awaited(site, "data", "weights", "original")
        or program_job(asked(order, site.config), site.create, site.data, site.weights, is_gated=order.has_int8)
    }


def asked(order: Order, config: Config) -> Config:
    """What is asked of the quantization: nothing, where no artifact is int8. It is then a reference that golden images and reports hold
    beside the others, and what `[quantize]` says, hours of training perhaps, would be spent on what nobody ships."""
    if order.has_int8:
        return config
    return config.model_copy(update={"quantize": Quantize(qat="never")})


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    config, shop, is_gated = asked(work.order, site.config), work.shop, work.order.has_int8
    if not is_gated:
        work.say("quantize: without the ladder, for no artifact is int8")

    def write(folder: Path) -> bool:
        model = load_model(shop, site.weights, config, site.create, len(site.names))
        return make_program(config, data_step.load_data(shop, site.data), model, work.say, folder, is_gated=is_gated)

    with ahead.beside(work, site), light_objects():
        made = shop.make(missing[NAME], write)
        give_back_memory()
    return {NAME: made}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    known = site.knowing(entries(found))
    in_float = shop.json(known.program, "program.json")["in_float"] if order.has_int8 and NAME in known.results else []
    if not in_float:
        return known
    told = (
        f"int8: {', '.join(in_float)} stay in float, in an order of sums that is each runtime's own: such artifacts are "
        "judged by their noise, not by equal outputs"
    )
    return known.knowing({}, told=(*site.told, told))


def program_job(config: Config, create: Create, data: Entry, weights: Entry, *, is_gated: bool) -> Job:
    sets = ["calibration", "held-out"]
    inputs: dict[str, Any] = {
        "weights": weights.digest("weights.safetensors"),
        "model": model_of(config, create),
        "normalization": [config.data.channels, config.data.mean, config.data.std],
        "names of the outputs": list(output_names(config)),
        "quantization settings": config.quantize.model_dump(),
        "limits of the quantize leg": [
            [row.metric, row.value] for row in config.limit if row.leg == "quantize" and is_gated
        ],
        "gated": is_gated,
    }
    inputs |= meaning_of(config)
    if config.quantize.qat != "never" and config.data.is_trained_on:
        inputs["training recipe"] = config.train.steps_recipe
        sets.append("train")
    inputs |= {f"{name} images": data_step.images_in(data, name) for name in sets}
    inputs |= {f"{name} truth": data.digest(f"{name}-truth.npy") for name in sets}
    if config.input:
        inputs["tensors"] = [one.model_dump() for one in config.input]
        inputs["inputs"] = [data_step.inputs_in(data, name) for name in ("calibration", "held-out")]
    code = (
        module_of(create),
        named(config.model.task).MEANING.score.__module__,
        f"{CODE}.stages.ladder",
        f"{CODE}.stages.saved",
        f"{CODE}.stages.fold",
        f"{CODE}.stages.several",
        *rungs.names(),
    )
    return job("program", NAME, inputs, code, ("torch", "torchao", "executorch", "numpy"), by=__name__)


def make_program(
    config: Config, data: data_module.Dataset, model: nn.Module, say: Say, folder: Path, *, is_gated: bool
) -> bool:
    """Write the program into a folder; False where somebody stopped the ladder: the next build is to go on with it."""
    from ...program import example_inputs, integer
    from ...stages import saved

    program, climbed, all_int8 = quantized_program(config, data, model, say, is_gated=is_gated)
    examples = example_inputs(program.contract)
    variants = {"": program} | ({"all-int8-": all_int8} if all_int8 is not None else {})
    for prefix, variant in variants.items():
        saved.write_graph(variant.quantized, examples, folder / f"{prefix}quantized.pt2")
        saved.write_graph(variant.quantized_unfolded, examples, folder / f"{prefix}unfolded.pt2")
        described = {
            "outputs": [[one.name, one.shape] for one in variant.outputs],
            "output_scales": [one.scale for one in variant.outputs],
            "in_float": integer.in_float(variant.quantized),
        }
        (folder / f"{prefix}program.json").write_text(json.dumps(described))
    described_rungs = [asdict(rung) for rung in climbed]
    (folder / "rungs.json").write_text(json.dumps(described_rungs))
    for rung in described_rungs:  # equal work, equal file
        del rung["seconds"], rung["peak_bytes"]
    (folder / "ladder.json").write_text(json.dumps(described_rungs))
    return not any(rung.is_stopped for rung in climbed)


def quantized_program(
    config: Config, data: data_module.Dataset, model: nn.Module, say: Say, *, is_gated: bool
) -> tuple[Program, tuple[Any, ...], Program | None]:
    """fold -> quantize, as well as the ladder can in its time.

    Args:
        model: with its weights, in evaluation mode.
        is_gated: False takes the int8 reference as it comes; for models that ship none, and to look at one.

    Returns:
        the program, the rungs of the ladder, and the program without layers in float where it has some.
    """
    from ...stages import fold, ladder, several

    contract, task = contract_of(config), named(config.model.task)
    say("fold: BatchNorm and normalization into the convolutions")
    folded = fold.fold(model, contract, output_names(config))
    several.check(folded, data.calibration.inputs, "calibration")
    if folded.normalize is not None:
        cost = folded.normalize.weight.numel() * contract.height * contract.width
        say(
            f"fold: no first convolution that could normalize the bytes; a 1x1 convolution does, {cost:,} multiply-adds"
        )
    say(f"quantize: {counted(len(data.calibration.images), 'calibration image')}")
    climbed = ladder.climb(folded, data, contract, config, task, say, is_gated=is_gated)
    program = Program(
        name=config.project.name,
        contract=contract,
        labels=task.labels(data.names),
        original=fold.Normalized(model, contract.mean, contract.std, contract.channels),
        folded=folded,
        tuned=climbed.tuned,
        quantized=climbed.quantized.module,
        quantized_unfolded=climbed.quantized.unfolded,
        outputs=climbed.quantized.with_steps(folded.outputs),
        about=about(config, data.names),
        minimum_ios=config.ios.version,
    )
    plain = climbed.all_int8
    if plain is None:
        return program, climbed.rungs, None
    all_int8 = replace(
        program,
        quantized=plain.module,
        quantized_unfolded=plain.unfolded,
        outputs=plain.with_steps(folded.outputs),
    )
    return program, climbed.rungs, all_int8


def outputs_of(shop: Workshop, program: Entry) -> tuple[Output, ...]:
    """What a stored program gives, with its steps in int8."""
    known = shop.json(program, "program.json")
    return tuple(
        Output(name=name, shape=tuple(shape), scale=scale)
        for (name, shape), scale in zip(known["outputs"], known["output_scales"], strict=True)
    )
