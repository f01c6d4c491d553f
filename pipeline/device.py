"""What a device says of the golden inputs, judged and recorded: a Mac here and now, or results from a phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import manifest, outputs, parity
from .artifact import Target, digest
from .errors import DeviceError, VerifyError
from .measure import broken
from .measure import described as described_error
from .parity import Check, Limit, Logits
from .reading import read_bytes, shown

SCHEMA_VERSION = 1
"""Of the result files."""

UNITS = ("CPU_ONLY", "ALL")
"""Core ML's names: the CPU alone, and whatever it chooses among CPU, GPU and Neural Engine."""

Predict = Callable[[Path, NDArray[np.uint8], str], Logits]
"""(artifact, images ``(N, H, W, 4)`` uint8, unit) -> logits ``(N, classes)``."""

_UNMEASURED = "chosen from the rounding of its arithmetic; not yet measured on a Mac, tighten it when it is"
DEVICE_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "fp32": (Limit(metric="snr_db", sense=">=", value=50, reason=_UNMEASURED),),
    **{
        precision: (Limit(metric="snr_db", sense=">=", value=30, reason=_UNMEASURED),)
        for precision in ("fp16", "w8", "w4")
    },
    "int8": (Limit(metric="snr_loss_db", sense="<=", value=3, reason=_UNMEASURED),),
}

LOGIT_METRICS = ("equal_logits", "max_error", "max_steps", "snr_db", "snr_loss_db")
"""What can be measured of logits alone; the kits' own tests measure the same."""

MAX_RESULTS_BYTES = 200_000_000
"""Larger result files are refused before they are read: 100 images of 100,000 classes are 100 MB."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Device(_Strict):
    """Which machine: ``Android 15`` or ``iOS 18.1``, and its model."""

    system: str = Field(min_length=1, max_length=200)
    machine: str = Field(min_length=1, max_length=200)


class Run(_Strict):
    """Logits of each golden image by its name; null where one is not finite.

    Attributes:
        units: what computed: ``CPU`` on Android, one of `UNITS` on iOS.
    """

    units: str = Field(min_length=1, max_length=50)
    logits: dict[str, list[float | None]]


class Results(_Strict):
    """The file that a kit's test on a device writes."""

    schema_version: int
    target: str
    precision: str
    artifact_sha256: str
    device: Device
    runs: list[Run] = Field(min_length=1, max_length=10)


def limits(entry: Mapping[str, Any]) -> tuple[Limit, ...]:
    """What an artifact's logits on a device are judged by, by its `entry` in the manifest."""
    if entry["runtime"] == "coreml":
        if entry["precision"] not in DEVICE_LIMITS:
            raise VerifyError(f"Core ML has no precision '{shown(entry['precision'])}'. Build again.")
        return DEVICE_LIMITS[entry["precision"]]
    return tuple(
        Limit(metric=check["metric"], sense=check["sense"], value=check["limit"], reason=check["reason"])
        for check in entry["checks"]
        if check["metric"] in LOGIT_METRICS and not check["needs_all"]
    )


def check_system(system: str, folder: Path) -> None:
    """Raise a DeviceError, which says what is needed, on anything but macOS.

    Args:
        system: as `platform.system()` gives it; ``Darwin`` on a Mac.
    """
    if system != "Darwin":
        raise DeviceError(
            f"replay runs the golden inputs through Core ML, which macOS alone has; this is {system}. "
            f"Copy '{folder}' to a Mac (macOS 15 or later for packages that need iOS 18), install twinkeel there, and "
            "run the same command. "
            f"What can be checked here: `twinkeel parity {folder}`."
        )


def replay(
    folder: Path, targets: Mapping[str, Target], predict: Predict, machine: Mapping[str, str]
) -> list[tuple[str, list[Check]]]:
    """Run every Core ML artifact of a finished folder on each of `UNITS`; (name, checks) of each.

    ``parity.json`` and ``manifest.json`` then say ``device``, and which machine it was.

    Raises:
        VerifyError: the folder is not what its manifest says, or holds no Core ML artifact.
    """
    content, golden = manifest.read_verified(folder)
    found = []
    for entry in content["artifacts"]:
        target = targets.get(entry["target"])
        if target is None or target.KERNELS != "coreml":
            continue
        runs = {unit: _predicted(folder / entry["path"], entry, golden, content, predict, unit) for unit in UNITS}
        found.append((entry, runs))
    if not found:
        raise VerifyError(f"'{folder}' holds no Core ML artifact to replay. `twinkeel build ios` makes them.")
    return _record(folder, content, found, machine)


def take_in(folder: Path, file: Path) -> list[tuple[str, list[Check]]]:
    """Judge the results that a kit's test wrote on a device, and record them; (name, checks) of each run.

    The verdict is formed here, from the logits; a file cannot bring its own.

    Raises:
        VerifyError: the folder is not what its manifest says, or the file is damaged or of another artifact.
    """
    content, golden = manifest.read_verified(folder)
    results = read_results(file)
    entry = _entry(content, results, file)
    classes = len(content["labels"])
    runs = {}
    for run in results.runs:
        if set(run.logits) != set(golden.names):
            apart = [shown(name) for name in sorted(set(run.logits) ^ set(golden.names))[:5]]
            raise VerifyError(
                f"'{file}': the images of {shown(run.units)} are not the golden ones of '{folder}': {apart}"
            )
        wrong = [name for name, logits in run.logits.items() if len(logits) != classes]
        if wrong:
            raise VerifyError(f"'{file}': '{wrong[0]}' has {len(run.logits[wrong[0]])} logits, the model {classes}")
        if run.units in runs:
            raise VerifyError(f"'{file}': it holds two runs of {shown(run.units)}")
        logits = np.array([run.logits[name] for name in golden.names], np.float32)
        runs[run.units] = _judged(entry, golden, logits, content["output_scale"])
    return _record(folder, content, [(entry, runs)], results.device.model_dump())


def read_results(file: Path) -> Results:
    """The result file of a device.

    Raises:
        VerifyError: it cannot be read, or is no such file.
    """
    try:
        results = Results.model_validate_json(read_bytes(file, MAX_RESULTS_BYTES))
    except OSError as error:
        raise VerifyError(f"cannot read the device results '{file}': {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(str(part) for part in first["loc"]))
        raise VerifyError(
            f"'{file}' holds no device results: {where + ': ' if where else ''}{first['msg']}. "
            "The test on a device writes the file; the kit's README says where."
        ) from error
    if results.schema_version != SCHEMA_VERSION:
        raise VerifyError(f"'{file}' has schema version {results.schema_version}, this is {SCHEMA_VERSION}")
    return results


def _entry(content: Mapping[str, Any], results: Results, file: Path) -> dict[str, Any]:
    for entry in content["artifacts"]:
        if (entry["target"], entry["precision"]) == (results.target, results.precision):
            if entry["sha256"] != results.artifact_sha256:
                raise VerifyError(
                    f"'{file}' is of another {results.target} {results.precision}: SHA-256 "
                    f"{shown(results.artifact_sha256)}, this one has {entry['sha256']}. Run the test on this build's kit."
                )
            found: dict[str, Any] = entry
            return found
    made = shown(f"{results.target} {results.precision}")
    raise VerifyError(f"'{file}' is of {made}, which this folder does not hold")


def _predicted(
    path: Path,
    entry: Mapping[str, Any],
    golden: manifest.Golden,
    content: Mapping[str, Any],
    predict: Predict,
    unit: str,
) -> list[Check]:
    try:
        logits = predict(path, golden.inputs, unit)
        if logits.shape != golden.expected[entry["reference"]].shape:
            raise ValueError(f"{logits.shape} logits where one of each class and image was expected")
    except Exception as error:  # Core ML raises its own errors; the others still deserve their turn
        return [broken(described_error(error))]
    return _judged(entry, golden, logits, content["output_scale"])


def _judged(entry: Mapping[str, Any], golden: manifest.Golden, logits: Logits, output_scale: float) -> list[Check]:
    expected = golden.expected
    quantized = expected["int8"] if entry["precision"] == "int8" else None
    metrics = parity.logit_metrics(expected[entry["reference"]], logits, expected["fp32"], quantized, output_scale)
    return parity.judge("device", limits(entry), metrics)


def _record(
    folder: Path,
    content: dict[str, Any],
    found: list[tuple[dict[str, Any], dict[str, list[Check]]]],
    machine: Mapping[str, str],
) -> list[tuple[str, list[Check]]]:
    """Write the checks of each (entry, units -> checks) as evidence ``device`` into both files; (name, checks)."""
    table = manifest.read_json(folder / manifest.PARITY)
    for entry, runs in found:
        record = [
            {"units": unit, **machine, "checks": [manifest.described(check) for check in checks]}
            for unit, checks in runs.items()
        ]
        for described in (entry, _row(table, entry)):
            described["evidence"], described["device"] = "device", record
        if not all(check.is_met for checks in runs.values() for check in checks):
            entry["parity"], content["is_verified"] = "failed", False
    _write(folder, content, table)
    return [
        (f"{entry['target']} {entry['precision']} {unit}", checks)
        for entry, runs in found
        for unit, checks in runs.items()
    ]


def _row(table: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact's row of ``parity.json``."""
    keys = (entry["target"], entry["precision"])
    try:
        row: dict[str, Any] = next(r for r in table["artifacts"] if (r["target"], r["precision"]) == keys)
    except (StopIteration, KeyError, TypeError) as error:
        raise VerifyError(f"'{manifest.PARITY}' has no row of {shown(' '.join(keys))}. Build again.") from error
    return row


def _write(folder: Path, content: dict[str, Any], table: Mapping[str, Any]) -> None:
    """Both files, each by a rename: the table first, then the manifest, which holds its hash. A signature goes."""
    partial = folder / f".{manifest.PARITY}.partial"
    manifest.write_json(table, partial)
    content["files"][manifest.PARITY] = digest(partial)
    next_manifest = folder / f".{manifest.MANIFEST}.partial"
    manifest.write(content, next_manifest)
    (folder / manifest.SIGNATURE).unlink(missing_ok=True)
    partial.replace(folder / manifest.PARITY)
    next_manifest.replace(folder / manifest.MANIFEST)
    outputs.refresh(folder.resolve().parent)
