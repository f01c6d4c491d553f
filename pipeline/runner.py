"""From a configuration to a verified folder. The order of the work stands in `make_program` and `build`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import data as data_module
from . import layers, manifest, parity, sbom, sdk
from .artifact import Target, seal
from .config import Config
from .errors import ConfigError, ConversionError, TwinkeelError
from .judge import Judge, Lowered, Outputs, Row, Say, latencies, reference_outputs
from .program import UNROUNDED, About, InputContract, Program, is_quantized
from .sdk import Kit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from .ladder import Rung
    from .ranking import Answers
    from .stages.quantize import Quantized
    from .stages.train import Epoch


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a build gave.

    Attributes:
        reference_accuracy: top-1 of the references ``float`` and ``int8``, 0..1.
        reference_answers: what they say of the held-out images.
        held_out: these images and their labels.
        curve: of the training; empty where weights were given.
    """

    folder: Path
    program_checks: list[parity.Check]
    reference_accuracy: dict[str, float]
    rows: list[Row]
    errors: list[str]
    rungs: tuple[Rung, ...]
    reference_answers: dict[str, Answers]
    held_out: data_module.Split
    curve: tuple[Epoch, ...]

    @property
    def is_verified(self) -> bool:
        return not self.errors and all(c.is_met for c in self.program_checks) and all(r.is_verified for r in self.rows)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a model's weights came from, and the curve of the training; empty where they were given."""

    source: str
    curve: tuple[Epoch, ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a program came from.

    Attributes:
        weights: where they came from.
        weights_sha256: of their values.
        rungs: of the quantization.
        warnings: what is doubtful in the calibration set.
        all_int8: the program without layers in float; None where it has none.
    """

    weights: Weights
    weights_sha256: str
    rungs: tuple[Rung, ...]
    warnings: tuple[str, ...]
    all_int8: Program | None


def get_weights(model: nn.Module, config: Config, data: data_module.Dataset, out: Path, say: Say) -> Weights:
    """Give `model` its weights, loaded or trained."""
    from .stages import train, weights

    if config.weights.is_given:
        path = weights.locate(config.weights, out / "weights")
        weights.load_into(model, path)
        return Weights(source=f"checkpoint, SHA-256 {weights.file_digest(path)}", curve=())
    key = json.dumps(
        [
            config.model.model_dump(),
            config.data.model_dump(exclude={"path", "calibration_path"}),
            config.train.model_dump(),
            data.train.digest(),
        ],
        sort_keys=True,
    )
    folder = out / "train" / hashlib.sha256(key.encode()).hexdigest()[:12]
    curve = train.train(
        model,
        data,
        config,
        folder,
        lambda e, n: say(
            f"train: epoch {e.epoch}/{n}  loss {e.loss:.4f}  held-out accuracy {100 * e.accuracy:.2f} %", (e.epoch, n)
        ),
    )
    return Weights(source=f"trained on {config.data.source}", curve=tuple(curve))


def make_program(
    config: Config,
    data: data_module.Dataset,
    create: Callable[[int, float], nn.Module],
    out: Path,
    say: Say,
    *,
    is_gated: bool = True,
) -> tuple[Program, Origin]:
    """define -> weights -> fold -> equalize -> quantize, and up the ladder where that is not enough.

    Args:
        is_gated: False takes the int8 reference as it comes; for models that ship none, and to look at one.
    """
    import torch

    from . import calibration, ladder
    from .stages import fold

    warnings = tuple(calibration.warnings(data))
    for line in warnings:
        say(f"WARNING {line}")

    torch.manual_seed(config.train.seed)
    model = create(len(data.labels), config.model.width)
    weights = get_weights(model, config, data, out, say)
    model.eval().requires_grad_(False)
    contract = _contract(config)
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
        about=_about(config, len(data.labels)),
        minimum_ios=config.ios.version,
    )
    origin = Origin(
        weights=weights,
        weights_sha256=_digest(model),
        rungs=climbed.rungs,
        warnings=warnings,
        all_int8=None if climbed.all_int8 is None else _with_quantized(program, climbed.all_int8),
    )
    return program, origin


def _contract(config: Config) -> InputContract:
    from .stages import fold

    mean = (config.data.mean[0], config.data.mean[1], config.data.mean[2])
    std = (config.data.std[0], config.data.std[1], config.data.std[2])
    return InputContract(resolution=config.model.resolution, mean=mean, std=std, grey=fold.grey_level(mean, std))


def _about(config: Config, classes: int) -> About:
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


def _with_quantized(program: Program, made: Quantized) -> Program:
    return replace(program, quantized=made.module, quantized_unfolded=made.unfolded, output_scale=made.output_scale)


def plan(config: Config, targets: Mapping[str, Target], platform: str) -> list[tuple[Target, str]]:
    """The artifacts that a configuration asks for on a platform.

    Raises:
        ConfigError: a precision needs a later iOS than the packages must run on, or has no parity limits.
    """
    wanted = [
        (t, p)
        for name, t in targets.items()
        if name.startswith(f"{platform}/")
        for p in config.targets.get(name, () if config.targets else t.PRECISIONS)
    ]
    for target, precision in wanted:
        needed = getattr(target, "NEEDS", {}).get(precision, 0)
        if needed > config.ios.version:
            raise ConfigError(
                f"{target.NAME} {precision} needs iOS {needed}, ios.minimum_deployment_target is "
                f"'{config.ios.minimum_deployment_target}'. Set it to 'iOS{needed}', or list the precisions that "
                f'you want: [targets] "{target.NAME}" = '
                + str([p for p in target.PRECISIONS if getattr(target, "NEEDS", {}).get(p, 0) <= config.ios.version])
            )
        parity.limits_for("lower", precision, config.is_default_model, config.limit, target.EVIDENCE, target.KERNELS)
    return wanted


def build(
    config: Config,
    targets: Mapping[str, Target],
    kits: Mapping[str, Kit],
    create: Callable[[int, float], nn.Module],
    platforms: Sequence[str],
    out: Path,
    say: Say,
) -> list[Result]:
    """Build and judge every artifact of the platforms, from one program, into ``out/<platform>``, each of which
    appears whole.

    A failing target does not hide the others. Artifacts over a limit stay in the folder, marked as failed.

    Raises:
        TwinkeelError: nothing could be built; what was at ``out/<platform>`` is untouched.
    """
    plans = {platform: plan(config, targets, platform) for platform in platforms}
    shipped = {platform: sdk.chosen(config, platform, pairs, say) for platform, pairs in plans.items() if pairs}
    if not any(plans.values()):
        raise ConfigError(f"[targets] names none of {' or '.join(platforms)}: nothing to build")
    for leg, precision in (("fold", "float"), ("quantize", "int8")):
        parity.limits_for(leg, precision, config.is_default_model, config.limit)
    parity.check_overrides(config.limit)
    say("data: " + (config.data.path or config.data.source))
    data = data_module.load(config)
    stagings: dict[str, Path] = {}
    results = []
    try:
        for platform in [p for p in platforms if plans[p]]:
            stagings[platform] = _staging(out, platform)
        wanted = [(target, precision) for pairs in plans.values() for target, precision in pairs]
        has_int8 = any(precision == "int8" for _, precision in wanted)
        program, origin = make_program(config, data, create, out, say, is_gated=has_int8)
        judge = Judge(program=program, outputs=reference_outputs(program, data, wanted), targets=targets, config=config)
        for platform, staging in stagings.items():
            built, errors = _lower(program, plans[platform], staging, say)
            if not built:
                raise ConversionError("no artifact could be built:\n" + "\n".join(errors))
            result = Result(
                folder=out / platform,
                program_checks=judge.program_checks(has_int8=has_int8),
                rungs=origin.rungs,
                rows=judge.rows(built, staging, say),
                errors=errors,
                reference_accuracy=judge.accuracies,
                reference_answers=judge.answers,
                held_out=data.held_out,
                curve=origin.weights.curve,
            )
            if origin.all_int8 is not None:
                _say_cost_of_float(origin.all_int8, plans[platform], built, staging, judge.outputs.images[:1], say)
            _write_folder(result, judge, data, staging, origin, shipped[platform], kits[platform], say)
            _swap(staging, out / platform)
            results.append(result)
    finally:
        for staging in stagings.values():
            shutil.rmtree(staging, ignore_errors=True)
    return results


def _staging(out: Path, platform: str) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{platform}-", dir=out))
    except OSError as error:
        raise TwinkeelError(f"cannot write to '{out}': {error}. Choose another folder with --out.") from error


def _lower(
    program: Program, wanted: list[tuple[Target, str]], staging: Path, say: Say
) -> tuple[list[Lowered], list[str]]:
    built, errors = [], []
    for target, precision in wanted:
        say(f"lower: {target.NAME} {precision}")
        runtime = target.NAME.split("/")[1]
        path = staging / runtime / f"{program.name}-{precision}{target.SUFFIX}"
        twin = None
        if precision in getattr(target, "TWINS", ()):
            twin = staging / "evidence" / runtime / f"{program.name}-{precision}-float32{target.SUFFIX}"
        try:
            path.parent.mkdir(exist_ok=True)
            target.build(program, precision, path)
            if twin is not None:
                twin.parent.mkdir(parents=True, exist_ok=True)
                target.build_twin(program, precision, twin)  # type: ignore[attr-defined]
            built.append(
                Lowered(
                    artifact=seal(path, staging, target.NAME, precision),
                    twin=None if twin is None else twin.relative_to(staging).as_posix(),
                )
            )
        except Exception as error:  # converters raise anything; the others still deserve their turn
            for left in (path, twin):
                _remove(left)
            errors.append(f"{target.NAME} {precision}: {type(error).__name__}: {str(error).strip()[:500]}")
    return built, errors


def _say_cost_of_float(
    all_int8: Program,
    wanted: Sequence[tuple[Target, str]],
    built: Sequence[Lowered],
    staging: Path,
    image: NDArray[np.uint8],
    say: Say,
) -> None:
    """Size and latency of the first int8 artifact that a runtime runs here, beside one with all layers in int8."""
    paths = {item.artifact.target: item.artifact for item in built if item.artifact.precision == "int8"}
    target = next((t for t, p in wanted if p == "int8" and t.EVIDENCE == "runtime" and t.NAME in paths), None)
    if target is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = target.build(all_int8, "int8", Path(folder) / f"plain{target.SUFFIX}")
        runs = {"with": target.load(staging / paths[target.NAME].path).run, "without": target.load(plain).run}
        taken = latencies(runs, image)
        size = plain.stat().st_size
    say(
        f"cost of the layers in float, {target.NAME}: {paths[target.NAME].bytes:,} bytes instead of {size:,}, "
        f"{taken['with']:.3f} ms here instead of {taken['without']:.3f}"
    )


def _remove(path: Path | None) -> None:
    if path is not None and path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path is not None:
        path.unlink(missing_ok=True)


def _write_folder(
    result: Result,
    judge: Judge,
    data: data_module.Dataset,
    staging: Path,
    origin: Origin,
    shipped: tuple[str, str] | None,
    kit: Kit,
    say: Say,
) -> None:
    program, config, targets = judge.program, judge.config, judge.targets
    (staging / "labels.txt").write_text("\n".join(program.labels) + "\n", encoding="utf-8")
    golden = _golden(data, judge.outputs, result.rows)
    manifest.write_golden(golden, staging / "golden")
    layers.write(judge.outputs.layers, staging / "golden", sorted(filter(is_quantized, golden.expected)))
    manifest.write_json(_parity_table(result), staging / manifest.PARITY)
    packages = sorted({"twinkeel"} | {name for row in result.rows for name in targets[row.artifact.target].PACKAGES})
    content: dict[str, Any] = {
        "schema_version": manifest.SCHEMA_VERSION,
        "model": {
            "name": config.model.name,
            "width": config.model.width,
            "weights": origin.weights.source,
            "weights_sha256": origin.weights_sha256,
        },
        "input": asdict(program.contract) | {"dtype": "uint8", "layout": "NHWC", "channels": "RGBA, alpha always 255"},
        "labels": program.labels,
        "output_scale": program.output_scale,
        "calibration_sha256": data.calibration.digest(),
        "calibration_images": len(data.calibration.images),
        "warnings": origin.warnings,
        "quantization": [_rung(rung) for rung in result.rungs],
        "is_verified": result.is_verified,
        "program_checks": [manifest.described(c) for c in result.program_checks],
        "artifacts": [
            asdict(r.artifact)
            | {
                "runtime": targets[r.artifact.target].KERNELS,
                "parity": "verified" if r.is_verified else "failed",
                "evidence": r.evidence,
                "reference": r.reference,
                "twin": r.twin,
                "operators": r.operators,
                "checks": [manifest.described(c) for c in r.checks],
            }
            for r in result.rows
        ],
        "errors": result.errors,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    _write_kit(config, content, golden, staging, shipped, kit, say)
    sbom.write(content, config.project, staging)
    content["files"] = manifest.hash_files(staging)
    manifest.write(content, staging / manifest.MANIFEST)


def _write_kit(
    config: Config,
    content: dict[str, Any],
    golden: manifest.Golden,
    staging: Path,
    shipped: tuple[str, str] | None,
    kit: Kit,
    say: Say,
) -> None:
    """The kit with its artifact, if that is verified: no app shall be given another."""
    if shipped is None:
        return
    name = " ".join(shipped)
    states = {(entry["target"], entry["precision"]): entry["parity"] for entry in content["artifacts"]}
    if states.get(shipped) != "verified":
        say(f"sdk: none, since {name} is not verified")
        return
    say(f"sdk: {name}")
    kit.write(sdk.contents(config, content, golden, staging, shipped), staging / "sdk")


def _rung(rung: Rung) -> dict[str, Any]:
    """Without time and memory: they differ from run to run, and equal builds shall give equal files."""
    return {key: manifest.finite(value) if isinstance(value, float) else value
            for key, value in asdict(rung).items() if key not in ("seconds", "peak_bytes")}  # fmt: skip


def _parity_table(result: Result) -> dict[str, Any]:
    """Without latency: it differs from run to run, and equal builds shall give equal files."""
    return {
        "reference_accuracy": result.reference_accuracy,
        "program": [manifest.described(c) for c in result.program_checks],
        "artifacts": [
            {
                "target": r.artifact.target,
                "precision": r.artifact.precision,
                "agreement": manifest.finite(r.agreement),
                "accuracy": manifest.finite(r.accuracy),
                "evidence": r.evidence,
                "checks": [manifest.described(c) for c in r.checks],
            }
            for r in result.rows
        ],
    }


def _golden(data: data_module.Dataset, outputs: Outputs, rows: list[Row]) -> manifest.Golden:
    """A few held-out images, spread over the set, and all edge images."""
    _, edge_names = data_module.edge_images(data.held_out)
    count = len(outputs.golden) - len(edge_names)
    keys = {"fp32", "int8"} | {row.reference for row in rows} | {row.reference + UNROUNDED for row in rows}
    return manifest.Golden(
        names=tuple([f"held-out-{i:02d}" for i in range(count)] + [f"edge-{name}" for name in edge_names]),
        inputs=outputs.images[outputs.golden],
        expected={key: outputs.references[key][outputs.golden] for key in sorted(keys & outputs.references.keys())},
    )


def _digest(model: nn.Module) -> str:
    content = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        content.update(key.encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def _swap(staging: Path, final: Path) -> None:
    """Put the finished folder in its place."""
    staging.chmod(0o755)
    old = staging.with_name(staging.name + ".old")
    if final.exists():
        final.replace(old)
    staging.replace(final)
    shutil.rmtree(old, ignore_errors=True)
