"""The jobs of a build, one after the other: what goes into each, and how its result is made.

    data -> weights -> program -> references -> lower, measure -> latency

The first three run in the build's own process, on all cores. The others run in workers, which get a `Site` and read
what they need from the store.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import data as data_module
from ..data import doubts
from ..delivery import machine
from ..parity import original
from ..program import references
from ..program import layers as layers_module
from ..program import Target
from ..config import Config
from ..errors import ConversionError, OriginalError
from ..stages import Epoch
from ..store import Job, Workshop, is_no_room
from ..parity import Expected, described, latencies, measure
from ..program import UNROUNDED, About, InputContract, Program, is_quantized
from ..saying import Say
from ..stages import checkpoint
from ..store import Damaged, Entry, Store

if TYPE_CHECKING:
    from torch import nn

    from ..stages import SavedProgram

Create = Callable[[int, float], "nn.Module"]
"""(classes, width multiplier) -> the model, untrained. It travels to workers: a function of a module, or this:"""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The function ``create`` of a module, which is imported when a model is wanted.

    Attributes:
        options: further arguments.
    """

    module: str
    options: Mapping[str, Any]

    def __call__(self, classes: int, width: float) -> nn.Module:
        model: nn.Module = importlib.import_module(self.module).create(classes, width, **self.options)
        return model


LATENCY_RUNS = {"runtime": 30, "reference executor": 5}
_CODE = "twinkeel.pipeline"
_GLUE = (f"{_CODE}.build.steps",)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a worker needs to find its material; small, and it travels to another machine that sees the store.

    Attributes:
        references: what references said, by key.
    """

    store: str | None
    scratch: str
    damaged: frozenset[str]
    config: Config
    create: Create
    labels: tuple[str, ...]
    data: Entry
    weights: Entry
    program: Entry
    references: Mapping[str, Entry]

    @cached_property
    def workshop(self) -> Workshop:
        store = None if self.store is None else Store(self.store)
        return Workshop(store=store, scratch=Store(self.scratch), damaged=self.damaged)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "workshop"}


# ---- data


def data_job(config: Config) -> Job:
    settings = config.data
    packages = ["numpy", "pillow"]
    inputs: dict[str, Any] = {
        "data settings": settings.model_dump(include={"source", "calibration", "seed"}),
        "share held out": settings.held_out_share,
        "resolution": config.model.resolution,
    }
    if settings.source == "digits":
        packages.append("scikit-learn")
    else:
        inputs["images"] = data_module.listing(Path(settings.path or ""))
    if settings.calibration_path:
        inputs["calibration images"] = data_module.listing(Path(settings.calibration_path))
    if settings.labels:
        inputs["labels"] = list(data_module.read_labels(Path(settings.labels)))
    return _job("data", "data", inputs, (f"{_CODE}.data.sets", f"{_CODE}.data.doubts"), packages)


def make_data(config: Config, job: Job, folder: Path) -> None:
    found = data_module.load(config)
    if data_job(config).key != job.key:
        raise data_module.changed_meanwhile(config)
    for name, part in (("train", found.train), ("calibration", found.calibration), ("held-out", found.held_out)):
        np.save(folder / f"{name}-images.npy", part.images)
        np.save(folder / f"{name}-labels.npy", part.labels)
    (folder / "labels.json").write_text(json.dumps(found.labels))
    described_set = {"calibration": found.calibration.digest(), "calibration images": len(found.calibration.images)}
    (folder / "digests.json").write_text(json.dumps(described_set))
    (folder / "warnings.json").write_text(json.dumps(doubts.warnings(found)))


def warn(workshop: Workshop, data: Entry, say: Say) -> None:
    """Say what is doubtful in the calibration set."""
    for line in workshop.json(data, "warnings.json"):
        say(f"WARNING {line}")


def load_data(workshop: Workshop, entry: Entry) -> data_module.Dataset:
    def part(name: str) -> data_module.Split:
        return data_module.Split(
            images=workshop.array(entry, f"{name}-images.npy"), labels=workshop.array(entry, f"{name}-labels.npy")
        )

    return data_module.Dataset(
        train=part("train"),
        calibration=part("calibration"),
        held_out=part("held-out"),
        labels=tuple(workshop.json(entry, "labels.json")),
    )


# ---- weights


def weights_job(config: Config, create: Create, data: Entry, classes: int) -> Job:
    inputs: dict[str, Any] = {"model": config.model.model_dump(), "classes": classes}
    code = [_module_of(create), f"{_CODE}.stages.weights"]
    if config.weights.is_given:
        inputs["checkpoint"] = checkpoint.expected_digest(config.weights)
    else:
        code.append(f"{_CODE}.stages.train")
        inputs["training recipe"] = config.train.model_dump()
        inputs["normalization"] = [config.data.mean, config.data.std]
        inputs["source of the images"] = config.data.source
        inputs |= {name.replace("-", " "): data.digest(f"{name}.npy") for name in ("train-images", "train-labels")}
        inputs |= {
            name.replace("-", " "): data.digest(f"{name}.npy") for name in ("held-out-images", "held-out-labels")
        }
    return _job("weights", "weights", inputs, code, ("torch", "safetensors"))


def make_weights(
    config: Config, create: Create, data: data_module.Dataset, state: Path, say: Say, folder: Path
) -> None:
    """Loaded or trained.

    Args:
        state: folder for what a training that was ended goes on from.
    """
    import torch
    from safetensors.torch import save_file

    from ..stages import train, weights

    torch.manual_seed(config.train.seed)
    model = create(len(data.labels), config.model.width)
    curve: list[Epoch] = []
    if config.weights.is_given:
        with tempfile.TemporaryDirectory(dir=folder) as fetched:
            path, found = checkpoint.locate(config.weights, Path(fetched))
            weights.load_into(model, path)
            source = f"checkpoint, SHA-256 {found}"
    else:
        source = f"trained on {config.data.source}"
        curve = train.train(
            model,
            data,
            config,
            state,
            lambda e, n: say(
                f"train: epoch {e.epoch}/{n}  loss {e.loss:.4f}  held-out accuracy {100 * e.accuracy:.2f} %",
                (e.epoch, n),
            ),
        )
    for name, content in (train.curves(curve) if curve else {}).items():
        (folder / name).write_bytes(content)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
    (folder / "origin.json").write_text(json.dumps({"source": source, "curve": [asdict(epoch) for epoch in curve]}))


def load_model(workshop: Workshop, weights: Entry, config: Config, create: Create, classes: int) -> nn.Module:
    """In evaluation mode."""
    from safetensors.torch import load

    model = create(classes, config.model.width)
    model.load_state_dict(load(workshop.read(weights, "weights.safetensors")))
    return model.eval().requires_grad_(False)


# ---- the original


def original_job(config: Config, create: Create, data: Entry, weights: Entry, classes: int) -> Job:
    """What the float model is worth; needed before anything is built on it."""
    inputs: dict[str, Any] = {
        "weights": weights.digest("weights.safetensors"),
        "model": config.model.model_dump(),
        "classes": classes,
        "normalization": [config.data.mean, config.data.std],
        "images": data.digest("held-out-images.npy"),
        "image labels": data.digest("held-out-labels.npy"),
    }
    code = (_module_of(create), f"{_CODE}.parity.original", f"{_CODE}.program.program", f"{_CODE}.stages.fold")
    return _job("original", "original", inputs, code, ("torch", "numpy", "scipy"))


def make_original(config: Config, data: data_module.Dataset, model: nn.Module, folder: Path) -> None:
    from ..program import evaluate
    from ..stages import fold

    indices = original.chosen(len(data.held_out.images))
    contract = contract_of(config)
    images = data_module.rgba(data.held_out.images[indices])
    logits = evaluate(fold.Normalized(model, contract.mean, contract.std), images, batch=32)
    (folder / "look.json").write_text(json.dumps(asdict(original.look(logits, data.held_out.labels[indices]))))


def original_doubts(workshop: Workshop, entry: Entry, config: Config, labels: Sequence[str]) -> tuple[str, ...]:
    """What there is to say against the float model though it may be built on, in words.

    Raises:
        OriginalError: it may not: what was counted, and the likely cause.
    """
    stored = workshop.json(entry, "look.json")
    found = original.Look(**{**stored, "moved": tuple((a, b) for a, b in stored["moved"])})
    trouble = original.trouble(found, labels, is_trained=not config.weights.is_given)
    reason = config.data.accept_accuracy
    if trouble and not reason:
        raise OriginalError(
            f'{trouble} Nothing was built on it. If it is meant so: [data] accept_accuracy = "the reason".'
        )
    doubt = f"accepted ({reason}): {trouble}" if trouble else original.doubt(found, labels)
    return (doubt,) if doubt else ()


# ---- program


def program_job(config: Config, create: Create, data: Entry, weights: Entry, *, is_gated: bool) -> Job:
    names = ["calibration-images", "calibration-labels", "held-out-images", "held-out-labels"]
    inputs: dict[str, Any] = {
        "weights": weights.digest("weights.safetensors"),
        "model": config.model.model_dump(),
        "normalization": [config.data.mean, config.data.std],
        "quantization settings": config.quantize.model_dump(),
        "limits of the quantize leg": [
            [row.metric, row.value] for row in config.limit if row.leg == "quantize" and is_gated
        ],
        "gated": is_gated,
    }
    if config.quantize.qat != "never":
        inputs["training recipe"] = config.train.model_dump()
        names += ["train-images", "train-labels"]
    inputs |= {name.replace("-", " "): data.digest(f"{name}.npy") for name in names}
    code = (_module_of(create), f"{_CODE}.stages.ladder", f"{_CODE}.stages.saved", f"{_CODE}.stages.fold", f"{_CODE}.stages.qat")
    return _job("program", "quantize", inputs, code, ("torch", "torchao", "executorch", "numpy"))


def make_program(
    config: Config, data: data_module.Dataset, model: nn.Module, say: Say, folder: Path, *, is_gated: bool
) -> None:
    from ..stages import saved

    program, rungs, all_int8 = quantized_program(config, data, model, say, is_gated=is_gated)
    import torch

    example = torch.zeros(program.contract.shape, dtype=torch.uint8)
    variants = {"": program} | ({"all-int8-": all_int8} if all_int8 is not None else {})
    for prefix, variant in variants.items():
        saved.write_graph(variant.quantized, example, folder / f"{prefix}quantized.pt2")
        saved.write_graph(variant.quantized_unfolded, example, folder / f"{prefix}unfolded.pt2")
        (folder / f"{prefix}program.json").write_text(json.dumps({"output_scale": variant.output_scale}))
    described_rungs = [asdict(rung) for rung in rungs]
    (folder / "rungs.json").write_text(json.dumps(described_rungs))
    for rung in described_rungs:  # equal work, equal file
        del rung["seconds"], rung["peak_bytes"]
    (folder / "ladder.json").write_text(json.dumps(described_rungs))


def quantized_program(
    config: Config, data: data_module.Dataset, model: nn.Module, say: Say, *, is_gated: bool
) -> tuple[Program, tuple[Any, ...], Program | None]:
    """fold -> equalize -> quantize, and up the ladder where that is not enough.

    Args:
        model: with its weights, in evaluation mode.
        is_gated: False takes the int8 reference as it comes; for models that ship none, and to look at one.

    Returns:
        the program, the rungs of the ladder, and the program without layers in float where it has some.
    """
    from ..stages import ladder
    from ..stages import fold

    contract = contract_of(config)
    say("fold: BatchNorm and normalization into the convolutions")
    folded = fold.fold(model, contract)
    say(f"quantize: {len(data.calibration.images)} calibration images")
    climbed = ladder.climb(folded, data, contract, config, say, is_gated=is_gated)
    program = Program(
        name=config.project.name,
        contract=contract,
        labels=data.labels,
        original=fold.Normalized(model, contract.mean, contract.std),
        folded=folded,
        tuned=climbed.tuned,
        quantized=climbed.quantized.module,
        quantized_unfolded=climbed.quantized.unfolded,
        output_scale=climbed.quantized.output_scale,
        about=about(config, len(data.labels)),
        minimum_ios=config.ios.version,
    )
    plain = climbed.all_int8
    if plain is None:
        return program, climbed.rungs, None
    all_int8 = replace(
        program, quantized=plain.module, quantized_unfolded=plain.unfolded, output_scale=plain.output_scale
    )
    return program, climbed.rungs, all_int8


def contract_of(config: Config) -> InputContract:
    return InputContract.of(config.model.resolution, config.data.mean, config.data.std)


def about(config: Config, classes: int) -> About:
    made = (
        f"{config.model.name}, width {config.model.width}, {classes} classes, "
        f"{config.model.resolution} x {config.model.resolution} pixels"
    )
    return About(
        author=config.project.author,
        license=config.project.license,
        version=config.project.version,
        description=config.project.description or made,
    )


def _load_program(
    site: Site, *, is_quantized: bool, reads: Iterable[str] = (), variant: str = "", code: str = ""
) -> SavedProgram:
    """The program as far as a job's key speaks of it.

    Args:
        is_quantized: whether the quantized graphs may be read.
        reads: of `saved.DESCRIPTIVE`.
    """
    from ..stages import SavedProgram

    model = load_model(site.workshop, site.weights, site.config, site.create, len(site.labels))

    def read(name: str) -> bytes:
        if not is_quantized:
            raise ConversionError("the quantized program belongs to int8 alone; REFERENCES names a float reference")
        return site.workshop.read(site.program, variant + name)

    known = {
        "labels": site.labels,
        "about": about(site.config, len(site.labels)),
        "minimum_ios": site.config.ios.version,
    }
    return SavedProgram(model, contract_of(site.config), read, {name: known[name] for name in reads})


# ---- references


def reference_job(site: Site, key: str) -> Job:
    inputs: dict[str, Any] = _numbers_of(site, is_quantized=is_quantized(key) or key.endswith(UNROUNDED))
    inputs |= {"reference": key, "images": site.data.digest("held-out-images.npy")}
    code = (_module_of(site.create), f"{_CODE}.program.references", f"{_CODE}.stages.saved")
    return _job("reference", f"reference {key}", inputs, code, ("torch", "torchao", "numpy"))


def _numbers_of(site: Site, *, is_quantized: bool) -> dict[str, Any]:
    """The program's modules as ingredients: weights, input contract, and quantized graphs where they are read."""
    found: dict[str, Any] = {
        "weights": site.weights.digest("weights.safetensors"),
        "model": site.config.model.model_dump(),
        "classes": len(site.labels),
        "input contract": asdict(contract_of(site.config)),
    }
    if is_quantized:
        found["quantization"] = _graphs(site)
    return found


def _graphs(site: Site, variant: str = "") -> list[str]:
    """Hashes of the quantized graphs and of what belongs to them."""
    return [site.program.digest(variant + name) for name in ("quantized.pt2", "unfolded.pt2", "program.json")]


def make_references(site: Site, keys: Sequence[str]) -> dict[str, Entry]:
    """In a worker: what references say of all images."""
    from ..store import one_thread

    shop = site.workshop
    images, golden = references.images_of(shop.array(site.data, "held-out-images.npy"))
    program = _load_program(site, is_quantized=True)

    def make(key: str, folder: Path) -> None:
        logits, recording = references.run(program, key, images, golden)
        np.save(folder / "logits.npy", logits)
        if recording is not None:
            np.save(folder / "steps.npy", recording.steps[key])
            (folder / "layers.json").write_text(json.dumps([asdict(layer) for layer in recording.layers]))

    with one_thread():
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


# ---- lower and measure


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a worker made of an artifact.

    Attributes:
        lowered: with ``artifact<suffix>``, ``operators.json`` and perhaps ``twin<suffix>``; None where it cannot be.
        measured: with ``logits.npy``, ``metrics.json`` (and where it was measured) and perhaps ``layers.npy``; None where it does not run.
        error: why one of the two is not there.
        peak: bytes of memory that the process took at most until then.
    """

    lowered: Entry | None
    measured: Entry | None
    error: str = ""
    peak: int = 0


def lower_job(site: Site, target: Target, precision: str) -> Job:
    """Targets that share their ``build``, as XNNPACK's on both platforms do, share its results."""
    inputs = _numbers_of(site, is_quantized=is_quantized(target.REFERENCES[precision]))
    inputs["precision"] = precision
    known = {"labels": list(site.labels), "about": asdict(about(site.config, len(site.labels))),
             "minimum_ios": site.config.ios.version}  # fmt: skip
    inputs |= {name: known[name] for name in _reads(target)}
    code = (target.build.__module__, f"{_CODE}.stages.saved", f"{_CODE}.stages.fold", _module_of(site.create))
    return _job("lower", f"lower {target.NAME} {precision}", inputs, code, target.PACKAGES)


def measure_job(site: Site, target: Target, precision: str, lowered: Entry) -> Job:
    key = target.REFERENCES[precision]
    wanted = {name: site.references[name] for name in ("fp32", "int8", key, key + UNROUNDED) if name in site.references}
    inputs: dict[str, Any] = {
        "artifact": lowered.digest(f"artifact{target.SUFFIX}"),
        "twin": lowered.digest(f"twin{target.SUFFIX}"),
        "precision": precision,
        "images": site.data.digest("held-out-images.npy"),
        "output scale": site.program.digest("program.json"),
    }
    inputs |= {f"reference {name}": entry.digest() for name, entry in sorted(wanted.items())}
    if "labels" in _reads(target):
        inputs["labels"] = list(site.labels)
    code = (target.load.__module__, *(f"{_CODE}.{name}" for name in ("parity.measuring", "parity.drift", "program.references", "delivery.machine")))
    return _job("measure", f"measure {target.NAME} {precision}", inputs, code, (*target.PACKAGES, "numpy"))


def make_artifacts(site: Site, wanted: Sequence[tuple[str, str]]) -> list[Made]:
    """In a worker: lower and measure artifacts, given by a target's module and a precision; one that fails does not
    hide the others."""
    from ..store import one_thread, peak_memory

    found = []
    for module, precision in wanted:
        target = cast("Target", importlib.import_module(module))
        lowered = measured = None
        error = ""
        try:
            with one_thread():
                lowered = _lowered(site, target, precision)
                measured = _measured(site, target, precision, lowered)
        except Damaged:
            raise
        except Exception as failure:  # converters and runtimes raise anything; the others still deserve their turn
            if is_no_room(failure):
                raise OSError(errno.ENOSPC, described(failure)) from failure
            error = described(failure)
        found.append(Made(lowered=lowered, measured=measured, error=error, peak=peak_memory()))
    return found


def _lowered(site: Site, target: Target, precision: str) -> Entry:
    def make(folder: Path) -> None:
        has_int8 = is_quantized(target.REFERENCES[precision])
        program = _load_program(site, is_quantized=has_int8, reads=_reads(target))
        path = target.build(program, precision, folder / f"artifact{target.SUFFIX}")
        if precision in getattr(target, "TWINS", ()):
            target.build_twin(program, precision, folder / f"twin{target.SUFFIX}")  # type: ignore[attr-defined]
        (folder / "operators.json").write_text(json.dumps(target.operators(path)))

    return site.workshop.make(lower_job(site, target, precision), make)


def _measured(site: Site, target: Target, precision: str, lowered: Entry) -> Entry:
    def make(folder: Path) -> None:
        shop, key = site.workshop, target.REFERENCES[precision]
        images, golden = references.images_of(shop.array(site.data, "held-out-images.npy"))
        logits = {name: shop.array(entry, "logits.npy") for name, entry in site.references.items()}
        expected = Expected(
            reference=logits[key],
            floating=logits["fp32"],
            quantized=logits["int8"],
            unrounded=logits.get(key + UNROUNDED),
            output_scale=float(shop.json(site.program, "program.json")["output_scale"]),
            labels=site.labels,
        )
        with tempfile.TemporaryDirectory(dir=site.scratch) as name:
            here = Path(name)
            shop.fetch(lowered, here)
            path, twin = here / f"artifact{target.SUFFIX}", here / f"twin{target.SUFFIX}"
            found = measure(
                target, path, precision, images, expected, closely=golden, twin=twin if twin.exists() else None
            )
            _write_layers(site, target, precision, path, images[golden], folder)
        np.save(folder / "logits.npy", found.logits)
        described_metrics = {
            "metrics": dict(found.metrics),
            "names_classes": found.names_classes,
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


def _write_layers(
    site: Site, target: Target, precision: str, path: Path, images: NDArray[np.uint8], folder: Path
) -> None:
    """What the layers of an int8 artifact give for the golden images; a trace that fails is noted, the build goes on."""
    from ..parity import drift

    if precision != "int8" or not hasattr(target, "trace"):
        return
    recording = load_recording(site.workshop, {target.REFERENCES["int8"]: site.references[target.REFERENCES["int8"]]})
    try:
        values = drift.candidates(target.trace(path), images, recording.layers, f"{target.NAME} int8")
        np.save(folder / "layers.npy", np.concatenate(values, axis=1))
    except Exception as error:  # each runtime has errors of its own for what it does not take
        (folder / "layers-error.txt").write_text(described(error))


def _reads(target: Target) -> tuple[str, ...]:
    """What a target writes into its artifacts beside the numbers; all, where it does not say."""
    from ..stages import DESCRIPTIVE

    return tuple(getattr(target, "READS", DESCRIPTIVE))


# ---- latency


def latency_job(site: Site, made: Mapping[tuple[str, str], tuple[Target, Entry]]) -> Job:
    """Of all artifacts at once, for they are timed in turn."""
    inputs: dict[str, Any] = {
        f"{target.load.__module__} {precision}": lowered.digest(f"artifact{target.SUFFIX}")
        for (_, precision), (target, lowered) in made.items()
    }
    inputs |= {"resolution": site.config.model.resolution, "processor": _processor()}
    code = tuple(sorted({target.load.__module__ for target, _ in made.values()} | {f"{_CODE}.parity.measuring"}))
    packages = sorted({name for target, _ in made.values() for name in target.PACKAGES})
    return _job("latency", "latency", inputs, code, packages)


def make_latencies(site: Site, wanted: Mapping[tuple[str, str], tuple[str, Entry]]) -> dict[str, float]:
    """In a worker, with no other at work: milliseconds by ``target precision``.

    What a runtime runs is timed apart from what an executor does: an executor's milliseconds of numpy between two runs
    of a runtime make that up to 30 times slower. One file that several targets ship is timed once.

    Args:
        wanted: by target and precision, the target's module and the lowered artifact.
    """
    from ..store import one_thread

    shop = site.workshop
    image = np.zeros((1, site.config.model.resolution, site.config.model.resolution, 4), np.uint8)
    image[:] = references.images_of(shop.array(site.data, "held-out-images.npy"))[0][:1]
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
        taken = {
            key: value
            for evidence, group in runs.items()
            for key, value in latencies(group, image, LATENCY_RUNS.get(evidence, 5)).items()
        }
    return {name: taken[key] for key, names in owners.items() for name in names}


def cost_job(site: Site, target: Target, lowered: Entry) -> Job:
    job = lower_job(site, target, "int8")
    inputs = {
        **job.inputs,
        "artifact": lowered.digest(f"artifact{target.SUFFIX}"),
        "all in int8": _graphs(site, "all-int8-"),
        "processor": _processor(),
    }
    return _job("cost of float", "cost of float", inputs, (*job.code, f"{_CODE}.parity.measuring"), job.packages)


def cost_of_float(site: Site, module: str, lowered: Entry) -> dict[str, float]:
    """In a worker: size and latency of an int8 artifact with layers in float, beside one with all of them in int8."""
    target = cast("Target", importlib.import_module(module))
    program = _load_program(site, is_quantized=True, reads=_reads(target), variant="all-int8-")
    with tempfile.TemporaryDirectory(dir=site.scratch) as name:
        folder = Path(name)
        plain = target.build(program, "int8", folder / f"plain{target.SUFFIX}")
        site.workshop.fetch(lowered, folder, f"artifact{target.SUFFIX}")
        mixed = folder / f"artifact{target.SUFFIX}"
        image = references.images_of(site.workshop.array(site.data, "held-out-images.npy"))[0][:1]
        taken = latencies({"mixed": target.load(mixed).run, "plain": target.load(plain).run}, image, 30)
        return {"bytes": mixed.stat().st_size, "plain bytes": plain.stat().st_size,
                "ms": taken["mixed"], "plain ms": taken["plain"]}  # fmt: skip


def _processor() -> str:
    """Whose milliseconds these are: not those of another machine that shares the store."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores"


def _module_of(create: Create) -> str:
    """The module of a model's code."""
    if isinstance(create, Architecture):
        return create.module
    name: str = getattr(create, "func", create).__module__  # behind bound arguments
    return name


def _job(kind: str, name: str, inputs: Mapping[str, Any], code: Sequence[str], packages: Sequence[str]) -> Job:
    return Job(kind=kind, name=name, inputs=inputs, code=tuple(code), glue=_GLUE, packages=tuple(packages))
