"""From a configuration to a verified folder. The order of the work stands in `make_program` and `build`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import data as data_module
from . import manifest, parity
from .artifact import Artifact, Run, Target, seal
from .config import Config
from .errors import ConversionError, TwinkeelError
from .program import InputContract, Program, evaluate, evaluate_quantized

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
    evidence: str = "runtime"

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
    )
    return program, source, _digest(model)


def build(
    config: Config,
    targets: Mapping[str, Target],
    create: Callable[[int, float], nn.Module],
    platform: str,
    out: Path,
    say: Say,
) -> Result:
    """Build and judge every artifact of a platform into ``out/platform``, which appears whole.

    A failing target does not hide the others. Artifacts over a limit stay in the folder, marked as failed.

    Raises:
        TwinkeelError: nothing could be built; what was at ``out/platform`` is untouched.
    """
    wanted = [
        (t, p) for name, t in targets.items() for p in config.targets.get(name, () if config.targets else t.PRECISIONS)
    ]
    for _, precision in wanted:
        parity.limits_for("lower", precision, _is_default(config), config.limit)
    say("data: " + (config.data.path or config.data.source))
    data = data_module.load(config)
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{platform}-", dir=out))
    except OSError as error:
        raise TwinkeelError(f"cannot write to '{out}': {error}. Choose another folder with --out.") from error
    try:
        program, source, digest = make_program(config, data, create, out, say)
        artifacts, errors = _lower(program, wanted, staging, say)
        if not artifacts:
            raise ConversionError("no artifact could be built:\n" + "\n".join(errors))
        outputs = _reference_outputs(program, data)
        rows = _judge_artifacts(program, artifacts, targets, outputs, config, staging, say)
        result = Result(
            folder=out / platform,
            program_checks=_judge_program(outputs, config),
            rows=rows,
            errors=errors,
            reference_accuracy=_accuracies(outputs),
        )
        _write_folder(result, program, data, config, outputs, targets, staging, source, digest)
        _swap(staging, out / platform)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return result


def _is_default(config: Config) -> bool:
    """Whether the tighter limits of the default model apply: trained here, on the embedded digits."""
    return config.data.source == "digits" and not config.weights.is_given


def _lower(
    program: Program, wanted: list[tuple[Target, str]], staging: Path, say: Say
) -> tuple[list[Artifact], list[str]]:
    artifacts, errors = [], []
    for target, precision in wanted:
        say(f"lower: {target.NAME} {precision}")
        path = staging / target.NAME.split("/")[1] / f"{program.name}-{precision}{target.SUFFIX}"
        path.parent.mkdir(exist_ok=True)
        try:
            artifacts.append(seal(target.build(program, precision, path), staging, target.NAME, precision))
        except Exception as error:  # converters raise anything; the others still deserve their turn
            path.unlink(missing_ok=True)
            errors.append(f"{target.NAME} {precision}: {type(error).__name__}: {str(error).strip()[:500]}")
    return artifacts, errors


def _reference_outputs(program: Program, data: data_module.Dataset) -> _Outputs:
    edges, _ = data_module.edge_images(data.held_out)
    images = data_module.rgba(np.concatenate([data.held_out.images, edges]))
    return _Outputs(
        images=images,
        held_out=len(data.held_out.images),
        labels=data.held_out.labels,
        references={
            "original": evaluate(program.original, images),
            **{p: evaluate(program.reference(p), images) for p in ("fp32", "fp16")},
            "int8": evaluate_quantized(program.quantized, images),
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
    artifacts: list[Artifact],
    targets: Mapping[str, Target],
    outputs: _Outputs,
    config: Config,
    folder: Path,
    say: Say,
) -> list[Row]:
    runs: dict[str, Run] = {a.path: targets[a.target].load(folder / a.path) for a in artifacts}
    logits: dict[str, NDArray[np.float32]] = {}
    for artifact in artifacts:
        say(f"parity: {artifact.target} {artifact.precision} on {len(outputs.images)} images")
        logits[artifact.path] = np.concatenate([runs[artifact.path](image[None]) for image in outputs.images])
    latency = _latencies(runs, outputs.images[:1])
    rows = []
    for artifact in artifacts:
        candidate, precision = logits[artifact.path], artifact.precision
        measured = parity.lowered(
            outputs.references[precision],
            outputs.references["fp32"],
            candidate,
            precision,
            program.output_scale,
        )
        limits = parity.limits_for("lower", precision, _is_default(config), config.limit)
        peers = [
            logits[a.path]
            for a in artifacts
            if a.precision == precision and targets[a.target].KERNELS == targets[artifact.target].KERNELS
        ]
        if len(peers) > 1:
            measured["equal_to_same_kernels"] = min(
                float((parity.steps(peer, candidate, program.output_scale) == 0).mean()) for peer in peers
            )
        else:
            limits = tuple(row for row in limits if row.metric != "equal_to_same_kernels")
        count = outputs.held_out
        rows.append(
            Row(
                artifact=artifact,
                checks=parity.judge("lower", limits, measured),
                agreement=parity.agreement(outputs.references["fp32"][:count], candidate[:count]),
                accuracy=parity.accuracy(candidate[:count], outputs.labels),
                latency_ms=latency[artifact.path],
                operators=targets[artifact.target].operators(folder / artifact.path),
            )
        )
    return rows


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
    manifest.write_golden(_golden(data, outputs), staging / "golden")
    manifest.write_json(_parity_table(result), staging / "parity.json")
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
        "program_checks": [_described(c) for c in result.program_checks],
        "artifacts": [
            asdict(r.artifact)
            | {
                "runtime": targets[r.artifact.target].KERNELS,
                "parity": "verified" if r.is_verified else "failed",
                "evidence": r.evidence,
                "operators": r.operators,
                "checks": [_described(c) for c in r.checks],
            }
            for r in result.rows
        ],
        "errors": result.errors,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "files": manifest.hash_files(staging),
    }
    manifest.write_json(content, staging / manifest.MANIFEST)


def _described(check: parity.Check) -> dict[str, Any]:
    measured = check.measured if np.isfinite(check.measured) else str(check.measured)
    return asdict(check) | {"measured": measured, "is_met": check.is_met}


def _parity_table(result: Result) -> dict[str, Any]:
    """Without latency: it differs from run to run, and equal builds shall give equal files."""
    return {
        "reference_accuracy": result.reference_accuracy,
        "program": [_described(c) for c in result.program_checks],
        "artifacts": [
            {
                "target": r.artifact.target,
                "precision": r.artifact.precision,
                "agreement": r.agreement,
                "accuracy": r.accuracy,
                "evidence": r.evidence,
                "checks": [_described(c) for c in r.checks],
            }
            for r in result.rows
        ],
    }


def _golden(data: data_module.Dataset, outputs: _Outputs) -> manifest.Golden:
    """A few held-out images, spread over the set, and all edge images."""
    _, edge_names = data_module.edge_images(data.held_out)
    spread = np.linspace(0, outputs.held_out - 1, min(GOLDEN_IMAGES, outputs.held_out)).astype(int)
    chosen = [*spread.tolist(), *range(outputs.held_out, len(outputs.images))]
    return manifest.Golden(
        names=tuple([f"held-out-{i:02d}" for i in range(len(spread))] + [f"edge-{name}" for name in edge_names]),
        inputs=outputs.images[chosen],
        expected={p: outputs.references[p][chosen] for p in ("fp32", "fp16", "int8")},
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
