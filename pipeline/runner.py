"""From a configuration to a verified folder. The order of the work stands in `make_program` and `build`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import data as data_module
from . import manifest, parity
from .artifact import Artifact, Run, Target, seal
from .config import Config
from .errors import ConfigError, ConversionError, TwinkeelError
from .measure import Expected, Measurement, broken, measure
from .program import UNROUNDED, About, InputContract, Program, evaluate

if TYPE_CHECKING:
    from torch import nn


class Say(Protocol):
    """Where progress goes: a line, and for long work how much of it is done."""

    def __call__(self, line: str, progress: tuple[int, int] | None = None, /) -> None: ...


LATENCY_RUNS = 30
GOLDEN_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: an artifact and everything measured of it."""

    artifact: Artifact
    checks: list[parity.Check]
    agreement: float
    accuracy: float
    latency_ms: float
    operators: dict[str, int]
    evidence: str
    reference: str
    twin: str | None

    @property
    def is_verified(self) -> bool:
        return bool(self.checks) and all(check.is_met for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a build gave."""

    folder: Path
    program_checks: list[parity.Check]
    reference_accuracy: dict[str, float]
    rows: list[Row]
    errors: list[str]

    @property
    def is_verified(self) -> bool:
        return not self.errors and all(c.is_met for c in self.program_checks) and all(r.is_verified for r in self.rows)


@dataclass(frozen=True, kw_only=True)
class _Outputs:
    """Images that the legs are judged on, and what the references say of them."""

    images: NDArray[np.uint8]  # (N, H, W, 4), held-out ones first
    held_out: int
    golden: list[int]  # indices of the golden images
    labels: NDArray[np.int64]
    references: dict[str, NDArray[np.float32]]


def get_weights(model: nn.Module, config: Config, data: data_module.Dataset, out: Path, say: Say) -> str:
    """Give `model` its weights, loaded or trained; where they came from."""
    from .stages import train, weights

    if config.weights.is_given:
        path = weights.locate(config.weights, out / "weights")
        weights.load_into(model, path)
        return f"checkpoint, SHA-256 {weights.file_digest(path)}"
    key = json.dumps(
        [
            config.model.model_dump(),
            config.data.model_dump(exclude={"path"}),
            config.train.model_dump(),
            data.train.digest(),
        ],
        sort_keys=True,
    )
    folder = out / "train" / hashlib.sha256(key.encode()).hexdigest()[:12]
    train.train(
        model,
        data,
        config,
        folder,
        lambda e, n: say(
            f"train: epoch {e.epoch}/{n}  loss {e.loss:.4f}  held-out accuracy {100 * e.accuracy:.2f} %", (e.epoch, n)
        ),
    )
    return f"trained on {config.data.source}"


def make_program(
    config: Config, data: data_module.Dataset, create: Callable[[int, float], nn.Module], out: Path, say: Say
) -> tuple[Program, str, str]:
    """define -> weights -> fold -> quantize; the program, where the weights came from, their digest."""
    import torch

    from .stages import fold, quantize

    torch.manual_seed(config.train.seed)
    model = create(len(data.labels), config.model.width)
    source = get_weights(model, config, data, out, say)
    model.eval().requires_grad_(False)
    mean = (config.data.mean[0], config.data.mean[1], config.data.mean[2])
    std = (config.data.std[0], config.data.std[1], config.data.std[2])
    contract = InputContract(
        resolution=config.model.resolution,
        mean=mean,
        std=std,
        grey=fold.grey_level(mean, std),
    )
    say("fold: BatchNorm and normalization into the convolutions")
    folded = fold.fold(model, contract)
    say(f"quantize: {len(data.calibration.images)} calibration images")
    quantized, unfolded, scale = quantize.quantize(folded, data_module.rgba(data.calibration.images), contract)
    program = Program(
        name=config.project.name,
        contract=contract,
        labels=data.labels,
        original=fold.Normalized(model, mean, std),
        folded=folded,
        quantized=quantized,
        quantized_unfolded=unfolded,
        output_scale=scale,
        about=About(
            author=config.project.author,
            license=config.project.license,
            version=config.project.version,
            description=config.project.description
            or f"{config.model.name}, width {config.model.width}, {len(data.labels)} classes, "
            f"{config.model.resolution} x {config.model.resolution} pixels",
        ),
        minimum_ios=config.ios.version,
    )
    return program, source, _digest(model)


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
        parity.limits_for("lower", precision, _is_default(config), config.limit, target.EVIDENCE)
    return wanted


def build(
    config: Config,
    targets: Mapping[str, Target],
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
    if not any(plans.values()):
        raise ConfigError(f"[targets] names none of {' or '.join(platforms)}: nothing to build")
    for leg, precision in (("fold", "float"), ("quantize", "int8")):
        parity.limits_for(leg, precision, _is_default(config), config.limit)
    parity.check_overrides(config.limit)
    say("data: " + (config.data.path or config.data.source))
    data = data_module.load(config)
    stagings: dict[str, Path] = {}
    results = []
    try:
        for platform in [p for p in platforms if plans[p]]:
            stagings[platform] = _staging(out, platform)
        program, source, digest = make_program(config, data, create, out, say)
        wanted = [(target, precision) for pairs in plans.values() for target, precision in pairs]
        outputs = _reference_outputs(program, data, _reference_keys(wanted))
        for platform, staging in stagings.items():
            built, errors = _lower(program, plans[platform], staging, say)
            if not built:
                raise ConversionError("no artifact could be built:\n" + "\n".join(errors))
            result = Result(
                folder=out / platform,
                program_checks=_judge_program(outputs, config),
                rows=_judge_artifacts(program, built, targets, outputs, config, staging, say),
                errors=errors,
                reference_accuracy=_accuracies(outputs),
            )
            _write_folder(result, program, data, config, outputs, targets, staging, source, digest)
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


def _reference_keys(wanted: list[tuple[Target, str]]) -> list[str]:
    """What the artifacts are compared with; the float and the int8 reference always."""
    keys = {target.REFERENCES[precision] for target, precision in wanted} | {"fp32", "int8"}
    keys |= {
        target.REFERENCES[precision] + UNROUNDED
        for target, precision in wanted
        if precision == "int8" and target.EVIDENCE == "reference executor"
    }
    return sorted(keys)


def _is_default(config: Config) -> bool:
    """Whether the tighter limits of the default model apply: trained here, on the embedded digits."""
    return config.data.source == "digits" and not config.weights.is_given


@dataclass(frozen=True, kw_only=True)
class _Built:
    """An artifact, and the path of its float32 twin, relative to the platform's folder, if it has one."""

    artifact: Artifact
    twin: str | None


def _lower(
    program: Program, wanted: list[tuple[Target, str]], staging: Path, say: Say
) -> tuple[list[_Built], list[str]]:
    built, errors = [], []
    for target, precision in wanted:
        say(f"lower: {target.NAME} {precision}")
        runtime = target.NAME.split("/")[1]
        path = staging / runtime / f"{program.name}-{precision}{target.SUFFIX}"
        twin = None
        if precision in getattr(target, "TWINS", {}):
            twin = staging / "evidence" / runtime / f"{program.name}-{precision}-float32{target.SUFFIX}"
        try:
            path.parent.mkdir(exist_ok=True)
            target.build(program, precision, path)
            if twin is not None:
                twin.parent.mkdir(parents=True, exist_ok=True)
                target.build_twin(program, precision, twin)  # type: ignore[attr-defined]
            built.append(
                _Built(
                    artifact=seal(path, staging, target.NAME, precision),
                    twin=None if twin is None else twin.relative_to(staging).as_posix(),
                )
            )
        except Exception as error:  # converters raise anything; the others still deserve their turn
            for left in (path, twin):
                _remove(left)
            errors.append(f"{target.NAME} {precision}: {type(error).__name__}: {str(error).strip()[:500]}")
    return built, errors


def _remove(path: Path | None) -> None:
    if path is not None and path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path is not None:
        path.unlink(missing_ok=True)


def _reference_outputs(program: Program, data: data_module.Dataset, keys: list[str]) -> _Outputs:
    edges, _ = data_module.edge_images(data.held_out)
    images = data_module.rgba(np.concatenate([data.held_out.images, edges]))
    count = len(data.held_out.images)
    spread = np.linspace(0, count - 1, min(GOLDEN_IMAGES, count)).astype(int)
    return _Outputs(
        images=images,
        held_out=count,
        golden=[*spread.tolist(), *range(count, len(images))],
        labels=data.held_out.labels,
        references={
            "original": evaluate(program.original, images),
            **{key: program.logits(key, images) for key in keys},
        },
    )


def _judge_program(outputs: _Outputs, config: Config) -> list[parity.Check]:
    """The fold leg on all images, the quantize leg on the held-out ones: edge images lie outside what was calibrated."""
    count, refs = outputs.held_out, outputs.references
    accuracies = _accuracies(outputs)
    is_default = _is_default(config)
    folded = {"snr_db": parity.snr_db(refs["original"], refs["fp32"])}
    quantized = {
        "snr_db": parity.snr_db(refs["fp32"][:count], refs["int8"][:count]),
        "agreement": parity.agreement(refs["fp32"][:count], refs["int8"][:count]),
        "accuracy_drop": accuracies["float"] - accuracies["int8"],
    }
    return [
        *parity.judge("fold", parity.limits_for("fold", "float", is_default, config.limit), folded),
        *parity.judge("quantize", parity.limits_for("quantize", "int8", is_default, config.limit), quantized),
    ]


def _accuracies(outputs: _Outputs) -> dict[str, float]:
    count, refs = outputs.held_out, outputs.references
    return {
        "float": parity.accuracy(refs["original"][:count], outputs.labels),
        "int8": parity.accuracy(refs["int8"][:count], outputs.labels),
    }


def _judge_artifacts(
    program: Program,
    built: list[_Built],
    targets: Mapping[str, Target],
    outputs: _Outputs,
    config: Config,
    folder: Path,
    say: Say,
) -> list[Row]:
    found: dict[str, Measurement | Exception] = {}
    for item in built:
        artifact = item.artifact
        say(f"parity: {artifact.target} {artifact.precision} on {len(outputs.images)} images")
        target = targets[artifact.target]
        expected = Expected(
            reference=outputs.references[target.REFERENCES[artifact.precision]],
            floating=outputs.references["fp32"],
            quantized=outputs.references["int8"],
            unrounded=outputs.references.get(target.REFERENCES[artifact.precision] + UNROUNDED),
            output_scale=program.output_scale,
            labels=program.labels,
        )
        try:
            found[artifact.path] = measure(
                target,
                folder / artifact.path,
                artifact.precision,
                outputs.images,
                expected,
                outputs.golden,
                None if item.twin is None else folder / item.twin,
            )
        except Exception as error:  # each runtime has errors of its own; the row says which
            found[artifact.path] = error
    runs = {
        item.artifact.path: targets[item.artifact.target].load(folder / item.artifact.path).run
        for item in built
        if isinstance(found[item.artifact.path], Measurement)
    }
    latency = _latencies(runs, outputs.images[:1])
    return [_row(item, program, built, targets, outputs, config, folder, found, latency) for item in built]


def _row(
    item: _Built,
    program: Program,
    built: list[_Built],
    targets: Mapping[str, Target],
    outputs: _Outputs,
    config: Config,
    folder: Path,
    found: Mapping[str, Measurement | Exception],
    latency: Mapping[str, float],
) -> Row:
    artifact, target = item.artifact, targets[item.artifact.target]
    reference, measurement = target.REFERENCES[artifact.precision], found[artifact.path]
    if isinstance(measurement, Exception):
        nan = float("nan")
        return Row(
            artifact=artifact, checks=[broken(measurement)], agreement=nan, accuracy=nan, latency_ms=nan, operators={},
            evidence="none", reference=reference, twin=item.twin,
        )  # fmt: skip
    count, logits, metrics = outputs.held_out, measurement.logits, dict(measurement.metrics)
    accuracy = parity.accuracy(logits[:count], outputs.labels)
    metrics["accuracy_drop"] = _accuracies(outputs)["float"] - accuracy
    limits = parity.limits_for("lower", artifact.precision, _is_default(config), config.limit, target.EVIDENCE)
    peers = [
        other.logits
        for path, other in ((b.artifact.path, found[b.artifact.path]) for b in built if _is_peer(b, item, targets))
        if isinstance(other, Measurement) and path != artifact.path
    ]
    if peers:
        metrics["equal_to_same_kernels"] = min(
            float((parity.steps(peer, logits, program.output_scale) == 0).mean()) for peer in peers
        )
    # the two rows that not every artifact can have: there is no other one to compare, or no label inside
    optional = {"equal_to_same_kernels"} if measurement.names_classes else {"equal_to_same_kernels", "label_errors"}
    limits = tuple(row for row in limits if row.metric in metrics or row.metric not in optional)
    return Row(
        artifact=artifact,
        checks=parity.judge("lower", limits, metrics),
        agreement=parity.agreement(outputs.references["fp32"][:count], logits[:count]),
        accuracy=accuracy,
        latency_ms=latency[artifact.path],
        operators=target.operators(folder / artifact.path),
        evidence=target.EVIDENCE,
        reference=reference,
        twin=item.twin,
    )


def _is_peer(one: _Built, other: _Built, targets: Mapping[str, Target]) -> bool:
    """Same precision on the same kernels."""
    a, b = one.artifact, other.artifact
    return a.precision == b.precision and targets[a.target].KERNELS == targets[b.target].KERNELS


def _latencies(runs: Mapping[str, Run], image: NDArray[np.uint8]) -> dict[str, float]:
    """Median milliseconds on this machine, all artifacts in turn so that its noise meets them alike."""
    taken: dict[str, list[float]] = {path: [] for path in runs}
    for _ in range(LATENCY_RUNS):
        for path, run in runs.items():
            start = time.perf_counter()
            run(image)
            taken[path].append(time.perf_counter() - start)
    return {path: 1e3 * float(np.median(times)) for path, times in taken.items()}


def _write_folder(
    result: Result,
    program: Program,
    data: data_module.Dataset,
    config: Config,
    outputs: _Outputs,
    targets: Mapping[str, Target],
    staging: Path,
    source: str,
    weights_digest: str,
) -> None:
    (staging / "labels.txt").write_text("\n".join(program.labels) + "\n", encoding="utf-8")
    manifest.write_golden(_golden(data, outputs, result.rows), staging / "golden")
    manifest.write_json(_parity_table(result), staging / manifest.PARITY)
    packages = sorted({name for row in result.rows for name in targets[row.artifact.target].PACKAGES})
    content: dict[str, Any] = {
        "schema_version": manifest.SCHEMA_VERSION,
        "model": {
            "name": config.model.name,
            "width": config.model.width,
            "weights": source,
            "weights_sha256": weights_digest,
        },
        "input": asdict(program.contract) | {"dtype": "uint8", "layout": "NHWC", "channels": "RGBA, alpha always 255"},
        "labels": program.labels,
        "output_scale": program.output_scale,
        "calibration_sha256": data.calibration.digest(),
        "calibration_images": len(data.calibration.images),
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
        "files": manifest.hash_files(staging),
    }
    manifest.write_json(content, staging / manifest.MANIFEST)


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


def _golden(data: data_module.Dataset, outputs: _Outputs, rows: list[Row]) -> manifest.Golden:
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
