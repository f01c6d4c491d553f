"""Replay the golden inputs on a Mac, through Core ML itself, and record what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import manifest, parity
from .artifact import Target, digest
from .errors import DeviceError, VerifyError
from .measure import broken
from .parity import Check, Limit, Logits

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
    manifest.verify(folder)
    content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
    table = manifest.read_json(folder / manifest.PARITY)
    results = []
    for entry in content["artifacts"]:
        target = targets.get(entry["target"])
        if target is None or target.KERNELS != "coreml":
            continue
        record: list[dict[str, Any]] = []
        for unit in UNITS:
            checks = _checks(folder / entry["path"], entry, golden, predict, unit)
            results.append((f"{entry['target']} {entry['precision']} {unit}", checks))
            record.append({"units": unit, **machine, "checks": [manifest.described(check) for check in checks]})
        is_met = all(check["is_met"] for run in record for check in run["checks"])
        for described in (entry, _row(table, entry)):
            described["evidence"], described["device"] = "device", record
        if not is_met:
            entry["parity"], content["is_verified"] = "failed", False
    if not results:
        raise VerifyError(f"'{folder}' holds no Core ML artifact to replay. `twinkeel build ios` makes them.")
    _write(folder, content, table)
    return results


def _checks(path: Path, entry: Mapping[str, Any], golden: manifest.Golden, predict: Predict, unit: str) -> list[Check]:
    floating, reference = golden.expected["fp32"], golden.expected[entry["reference"]]
    try:
        logits = predict(path, golden.inputs, unit)
        if logits.shape != reference.shape:
            raise ValueError(f"{logits.shape} logits where {reference.shape} were expected")
    except Exception as error:  # Core ML raises its own errors; the others still deserve their turn
        return [broken(error)]
    metrics = {
        "snr_db": parity.snr_db(reference, logits),
        "snr_loss_db": parity.snr_loss_db(floating, golden.expected["int8"], logits),
    }
    return parity.judge("device", DEVICE_LIMITS[entry["precision"]], metrics)


def _row(table: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact's row of ``parity.json``."""
    keys = (entry["target"], entry["precision"])
    row: dict[str, Any] = next(r for r in table["artifacts"] if (r["target"], r["precision"]) == keys)
    return row


def _write(folder: Path, content: dict[str, Any], table: Mapping[str, Any]) -> None:
    """Both files, each by a rename: the table first, then the manifest, which holds its hash."""
    partial = folder / f".{manifest.PARITY}.partial"
    manifest.write_json(table, partial)
    content["files"][manifest.PARITY] = digest(partial)
    next_manifest = folder / f".{manifest.MANIFEST}.partial"
    manifest.write_json(content, next_manifest)
    partial.replace(folder / manifest.PARITY)
    next_manifest.replace(folder / manifest.MANIFEST)
