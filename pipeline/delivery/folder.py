"""What a platform's finished folder holds beside its artifacts: the task's files, golden vectors, parity, kit, manifest."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data as data_module
from ..config import Config
from ..files import write_json
from ..parity import Check, Row
from ..program import UNROUNDED, InputContract, Output, Target, is_quantized, layers
from ..saying import Say
from ..tasks import Task
from . import manifest, sbom, sdk
from .sdk import Kit

if TYPE_CHECKING:
    from ..stages import Rung


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the files of a folder are made from.

    Attributes:
        images: all that the artifacts were measured on, those at the edges last.
        golden: indices of the golden ones.
        names: of what the outputs stand for.
        references: packed outputs ``(N, width)`` by key.
        outputs: what stands where in them.
        recording: what the quantized references computed inside on the golden images.
        in_float: what int8 artifacts compute in float, in an order that is each runtime's own.
        weights_source: where the weights came from, in words.
        weights_sha256: of their values.
        calibration_sha256: of the images and what is right of them.
        warnings: what is doubtful in the calibration set.
        doubts: what there is to say against the float model, though something was built on it.
        errors: artifacts that could not be made, and why.
        shipped: target and precision of the artifact in the kit; None for no kit.
    """

    config: Config
    task: Task
    contract: InputContract
    names: tuple[str, ...]
    images: data_module.Images
    golden: Sequence[int]
    references: Mapping[str, NDArray[np.float32]]
    recording: layers.Recording
    outputs: Sequence[Output]
    in_float: Sequence[str]
    weights_source: str
    weights_sha256: str
    calibration_sha256: str
    calibration_images: int
    warnings: Sequence[str]
    doubts: Sequence[str]
    rungs: Sequence[Rung]
    rows: Sequence[Row]
    program_checks: Sequence[Check]
    reference_scores: Mapping[str, float]
    errors: Sequence[str]
    shipped: tuple[str, str] | None

    @property
    def is_verified(self) -> bool:
        return (
            not self.errors and all(c.is_met for c in self.program_checks) and all(row.is_verified for row in self.rows)
        )


def write(contents: Contents, targets: Mapping[str, Target], kit: Kit, folder: Path, say: Say) -> None:
    """Complete a folder that holds the artifacts already, at the paths that the rows name."""
    config, task = contents.config, contents.task
    for name, data in task.files(contents.names).items():
        (folder / name).write_bytes(data)
    golden = _golden(contents)
    manifest.write_golden(golden, folder / "golden")
    layers.write(contents.recording, folder / "golden", sorted(filter(is_quantized, golden.expected)))
    write_json(_parity_table(contents), folder / manifest.PARITY)
    packages = sorted({"twinkeel"} | {name for row in contents.rows for name in targets[row.artifact.target].PACKAGES})
    content: dict[str, Any] = {
        "schema_version": manifest.SCHEMA_VERSION,
        "task": config.model.task,
        "model": {
            "name": config.model.name,
            "width": config.model.width,
            "weights": contents.weights_source,
            "weights_sha256": contents.weights_sha256,
        },
        "input": _input(contents.contract, config),
        "tensors": [asdict(one) for one in contents.contract.tensors],
        **task.described(contents.names, config, contents.outputs),
        "outputs": [asdict(one) for one in contents.outputs],
        "in_float": list(contents.in_float),
        "calibration_sha256": contents.calibration_sha256,
        "calibration_images": contents.calibration_images,
        "warnings": [*contents.warnings, *contents.doubts],
        "doubts": contents.doubts,
        "quantization": [_rung(rung) for rung in contents.rungs],
        "is_verified": contents.is_verified,
        "program_checks": [manifest.described(c) for c in contents.program_checks],
        "artifacts": [
            asdict(r.artifact)
            | {
                "runtime": targets[r.artifact.target].KERNELS,
                "parity": r.state,
                **_finite(task.told(r.worth)),
                "evidence": r.evidence,
                "runs": list(r.runs),
                "reference": r.reference,
                "twin": r.twin,
                "operators": r.operators,
                "checks": [manifest.described(c) for c in r.checks],
                **({} if r.images is None else {"images": r.images}),
                **({"device_limits": changed} if (changed := _device_limits(config, r.artifact.precision)) else {}),
            }
            for r in contents.rows
        ],
        "errors": contents.errors,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    _write_kit(config, content, golden, folder, contents.shipped, kit, say)
    sbom.write(content, config.project, folder)
    (folder / manifest.ATTRIBUTES).write_bytes(manifest.AS_THEY_ARE)
    content["files"] = manifest.hash_files(folder)
    manifest.write(content, folder / manifest.MANIFEST)


def _input(contract: InputContract, config: Config) -> dict[str, Any]:
    """What is handed over, and what the model takes of it."""
    values = asdict(contract)
    values["model_channels"] = values.pop("channels")
    del values["tensors"]  # told by themselves
    values["fit"] = config.data.fit
    return values | {"dtype": "uint8", "layout": "NHWC", "channels": "RGBA, alpha always 255"}


def _write_kit(
    config: Config,
    content: dict[str, Any],
    golden: manifest.Golden,
    folder: Path,
    shipped: tuple[str, str] | None,
    kit: Kit,
    say: Say,
) -> None:
    """The kit with its artifact, unless that has failed: no app shall be given such a one."""
    if shipped is None:
        return
    states = {(entry["target"], entry["precision"]): entry["parity"] for entry in content["artifacts"]}
    other = sdk.earlier(config.settings(shipped[0].split("/")[0]), shipped, states)
    inside = [shipped] if other is None else [shipped, other]
    for pair in inside:
        if states.get(pair, "failed") == "failed":
            say(f"sdk: none, since {' '.join(pair)} is not verified")
            return
    say(f"sdk: {' and '.join(' '.join(pair) for pair in inside)}")
    kit.write(sdk.contents(config, content, golden, folder, shipped), folder / "sdk")


def _device_limits(config: Config, precision: str) -> list[dict[str, Any]]:
    """What the configuration changes of the limits that this precision has on devices."""
    return [limit.model_dump() for limit in config.limit if (limit.leg, limit.precision) == ("device", precision)]


def _rung(rung: Rung) -> dict[str, Any]:
    """Without time and memory: they differ from run to run, and equal builds shall give equal files."""
    values = {key: value for key, value in asdict(rung).items() if key not in ("shares", "seconds", "peak_bytes")}
    return _finite({**values, **rung.shares})


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: manifest.finite(value) if isinstance(value, float) else value for key, value in values.items()}


def _parity_table(contents: Contents) -> dict[str, Any]:
    """Without latency: it differs from run to run, and equal builds shall give equal files."""
    return {
        "is_verified": contents.is_verified,
        "doubts": contents.doubts,
        f"reference_{contents.task.SCORE}": _finite(contents.reference_scores),
        "program": [manifest.described(c) for c in contents.program_checks],
        "artifacts": [
            {
                "target": r.artifact.target,
                "precision": r.artifact.precision,
                **_finite(contents.task.told(r.worth)),
                "parity": r.state,
                "evidence": r.evidence,
                "runs": list(r.runs),
                "checks": [manifest.described(c) for c in r.checks],
            }
            for r in contents.rows
        ],
    }


def _golden(contents: Contents) -> manifest.Golden:
    """A few held-out images, spread over the set, and all edge images."""
    indices = list(contents.golden)
    pixels, *tensors = data_module.arrays(contents.images[indices])
    _, edge_names = data_module.edge_images(pixels[:1, ..., :3])
    count = len(contents.golden) - len(edge_names)
    keys = {"fp32", "int8"} | {row.reference for row in contents.rows}
    keys |= {row.reference + UNROUNDED for row in contents.rows}
    return manifest.Golden(
        names=tuple([f"held-out-{i:02d}" for i in range(count)] + [f"edge-{name}" for name in edge_names]),
        inputs=pixels,
        tensors={one.name: values for one, values in zip(contents.contract.tensors, tensors, strict=True)},
        expected={key: contents.references[key][indices] for key in sorted(keys & contents.references.keys())},
    )
