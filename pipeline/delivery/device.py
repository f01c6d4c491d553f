"""Outputs that other machines computed from the golden inputs: judged, and recorded in the finished folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from .. import parity
from ..errors import TwinkeelError, VerifyError
from ..files import digest, read_json, write_json
from ..parity import Check, Limit, Values, state
from ..program import Output
from ..reading import read_bytes, shown
from . import evidence, manifest, outputs

SCHEMA_VERSION = 1
"""Of the result files."""

UNITS = ("CPU_ONLY", "ALL")
"""Core ML's names: the CPU alone, and whatever it chooses among CPU, GPU and Neural Engine."""

_UNMEASURED = "chosen from the rounding of its arithmetic; not yet measured on a Mac, tighten it when it is"
DEVICE_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "fp32": (Limit(metric="snr_db", sense=">=", value=50, reason=_UNMEASURED),),
    **{
        precision: (Limit(metric="snr_db", sense=">=", value=30, reason=_UNMEASURED),)
        for precision in ("fp16", "w8", "w4")
    },
    "int8": (Limit(metric="snr_loss_db", sense="<=", value=3, reason=_UNMEASURED),),
}

OUTPUT_METRICS = ("equal_logits", "float_snr_db", "max_error", "max_steps", "snr_db", "snr_loss_db")
"""What can be measured of outputs alone; the kits' own tests measure the same."""

MAX_RESULTS_BYTES = 200_000_000
"""Larger result files are refused before they are read: 100 images of 100,000 outputs each are 100 MB."""


Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""Text on one line, which a terminal may be given."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Device(_Strict):
    """Which machine: ``Android 15`` or ``iOS 18.1``, and its model."""

    system: Word = Field(min_length=1)
    machine: Word = Field(min_length=1)


class Run(_Strict):
    """Packed outputs of each golden image by its name, as the kits write them, those of classifiers as ``logits``; null where one
    is not finite.

    Attributes:
        units: what computed: ``CPU`` on Android, one of `UNITS` on iOS.
    """

    units: Word = Field(min_length=1, max_length=50)
    outputs: dict[str, list[float | None]] = Field(validation_alias=AliasChoices("outputs", "logits"))


class Results(_Strict):
    """The file that a kit's test on a device writes."""

    schema_version: int
    target: str
    precision: str
    artifact_sha256: str
    device: Device
    runs: list[Run] = Field(min_length=1, max_length=10)


def limits(entry: Mapping[str, Any]) -> tuple[Limit, ...]:
    """What an artifact's outputs on a device are judged by, by its `entry` in the manifest."""
    if entry["runtime"] == "coreml":
        if entry["precision"] not in DEVICE_LIMITS:
            raise VerifyError(f"Core ML has no precision '{shown(entry['precision'])}'. Build again.")
        return DEVICE_LIMITS[entry["precision"]]
    return tuple(
        Limit(metric=check["metric"], sense=check["sense"], value=check["limit"], reason=check["reason"])
        for check in entry["checks"]
        if check["metric"] in OUTPUT_METRICS and not check["needs_all"]
    )


def take_in(folder: Path, file: Path) -> list[tuple[str, list[Check]]]:
    """Judge the results that a kit's test wrote on a device, and record them; (name, checks) of each run.

    The verdict is formed here, from the outputs; a file cannot bring its own.

    Raises:
        VerifyError: the folder is not what its manifest says, or the file is damaged or of another artifact.
    """
    content, golden = manifest.read_verified(folder)
    results = read_results(file)
    entry = _entry(content, results, file)
    width = golden.expected["fp32"].shape[1]
    found: list[Judged] = []
    for run in results.runs:
        if set(run.outputs) != set(golden.names):
            apart = [shown(name) for name in sorted(set(run.outputs) ^ set(golden.names))[:5]]
            raise VerifyError(
                f"'{file}': the images of {shown(run.units)} are not the golden ones of '{folder}': {apart}"
            )
        wrong = [name for name, values in run.outputs.items() if len(values) != width]
        if wrong:
            raise VerifyError(f"'{file}': '{wrong[0]}' has {len(run.outputs[wrong[0]])} outputs, the model {width}")
        if any(item.row["units"] == run.units for item in found):
            raise VerifyError(f"'{file}': it holds two runs of {shown(run.units)}")
        found_there = np.array([run.outputs[name] for name in golden.names], np.float32)
        checks = judged("device", entry, golden, found_there, manifest.outputs_of(content, width))
        row = evidence.row(
            evidence="device",
            by="kit",
            machine={"system": results.device.system, "processor": results.device.machine},
            versions={},
            units=run.units,
            checks=[manifest.described(check) for check in checks],
        )
        key = (entry["target"], entry["precision"])
        found.append(Judged(key=key, sha256=entry["sha256"], row=row, checks=checks))
    record(folder, found)
    return [(f"{' '.join(item.key)} {item.row['units']}", item.checks) for item in found]


def added_evidence(folder: Path) -> dict[tuple[str, str], list[evidence.Run]]:
    """By target and precision, what was added to a finished folder after its build; empty where there is none."""
    if not (folder / manifest.MANIFEST).is_file():
        return {}
    found = {
        (entry["target"], entry["precision"]): [run for run in entry.get("runs", ()) if run["by"] != "build"]
        for entry in manifest.read_manifest(folder)["artifacts"]
    }
    return {key: runs for key, runs in found.items() if runs}


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


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is to be recorded of an artifact, given by target and precision.

    Attributes:
        sha256: of the artifact that ran.
        row: of evidence.
    """

    key: tuple[str, str]
    sha256: str
    row: evidence.Run
    checks: list[Check]


def judged(
    leg: str, entry: Mapping[str, Any], golden: manifest.Golden, found: Values, given: Sequence[Output]
) -> list[Check]:
    """The checks of packed outputs ``(N, width)`` of the golden inputs.

    Args:
        given: what stands where in them.
    """
    expected = golden.expected
    quantized = expected["int8"] if entry["precision"] == "int8" else None
    with np.errstate(all="ignore"):  # infinities fail by their metrics
        metrics = parity.output_metrics(expected[entry["reference"]], found, expected["fp32"], quantized, given)
    return parity.judge(leg, limits(entry), metrics)


def entry_of(content: Mapping[str, Any], key: tuple[str, str]) -> dict[str, Any]:
    """An artifact's entry in the manifest, by target and precision; a VerifyError where there is none."""
    for entry in content["artifacts"]:
        if (entry["target"], entry["precision"]) == key:
            found: dict[str, Any] = entry
            return found
    raise VerifyError(f"this folder does not hold {shown(' '.join(key))}")


def record(folder: Path, found: Sequence[Judged]) -> None:
    """Add rows of evidence to both files. An artifact is verified where its build found nothing and no row does.

    Raises:
        VerifyError: the folder was changed since its artifacts were read.
        TwinkeelError: it cannot be written.
    """
    parent = folder.resolve().parent
    # a build, or another replay, may be at work in the same folder
    is_built_here = (parent / outputs.INDEX).is_file()
    with outputs.claimed(parent, lambda *_: None) if is_built_here else contextlib.nullcontext():
        content, _ = manifest.read_verified(folder)
        table = read_json(folder / manifest.PARITY)
        for item in found:
            entry = entry_of(content, item.key)
            if entry["sha256"] != item.sha256:
                raise VerifyError(
                    f"'{folder}' was built anew meanwhile: {' '.join(item.key)} is another. Run it again."
                )
            entry["runs"] = evidence.merged(entry.get("runs", []), [item.row])
            if item.row["evidence"] == "device":
                entry["evidence"] = "device"
            checks = [*manifest.checks_before(content, entry["precision"]), *entry["checks"]]
            is_good = bool(entry["checks"]) and all(map(_is_met, checks)) and all(map(evidence.is_met, entry["runs"]))
            entry["parity"] = state((check.get("verdict") for check in checks), is_met=is_good)
            _row(table, entry).update(runs=entry["runs"], evidence=entry.get("evidence", ""), parity=entry["parity"])
        content["is_verified"] = (
            not content.get("errors")
            and all(map(_is_met, content.get("program_checks", [])))
            and all(entry.get("parity") in ("verified", "open") for entry in content["artifacts"])
        )
        table["is_verified"] = content["is_verified"]
        try:
            _write(folder, content, table)
        except OSError as error:
            raise TwinkeelError(f"cannot write to '{folder}': {error}. Nothing is recorded.") from error


def _is_met(check: Mapping[str, Any]) -> bool:
    return bool(check.get("is_met"))


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
    partial, next_manifest = (folder / f".{name}.partial" for name in (manifest.PARITY, manifest.MANIFEST))
    try:
        write_json(table, partial)
        content["files"][manifest.PARITY] = digest(partial)
        manifest.write(content, next_manifest)
        (folder / manifest.SIGNATURE).unlink(missing_ok=True)
        partial.replace(folder / manifest.PARITY)
        next_manifest.replace(folder / manifest.MANIFEST)
    finally:
        for path in (partial, next_manifest):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    outputs.refresh(folder.resolve().parent)
