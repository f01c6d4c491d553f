"""Outputs that other machines computed from the golden inputs: judged, and recorded in the finished folder."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import parity
from ..config import Limit as Override
from ..errors import TwinkeelError, VerifyError
from ..files import digest, read_json, real, write_json
from ..parity import Check, Limit, Values, state
from ..program import Output
from ..reading import shown
from . import evidence, manifest, outputs
from .results import Results, Run, read_results


def limits(entry: Mapping[str, Any], ran: Collection[str] = (), *, in_kit: bool = False) -> tuple[Limit, ...]:
    """What an artifact's outputs on a device are judged by, by its `entry` in the manifest.

    Args:
        ran: the units that computed, where they are known.
        in_kit: a kit computed them, which may take the system's own runtime.
    """
    overrides = [Override.model_validate(one) for one in entry.get("device_limits", ())]
    return parity.device_limits_for(_rows(entry, ran, in_kit), entry["precision"], parity.deciding(ran), overrides)


def _rows(entry: Mapping[str, Any], ran: Collection[str], in_kit: bool) -> tuple[Limit, ...]:
    """The same without what its configuration has changed."""
    kernels = parity.SYSTEMS.get(entry["runtime"], entry["runtime"]) if in_kit else entry["runtime"]
    found = parity.device_limits(kernels, entry["precision"], ran)
    if found is not None:
        return found
    named = {"coreml": "Core ML", parity.SYSTEMS["coreai"]: "Core AI"}.get(kernels)
    if named or set(ran) - {"CPU"}:
        where = named or " and ".join(sorted(ran))
        raise VerifyError(f"{where} has no precision '{shown(entry['precision'])}'. Build again.")
    return parity.of_outputs(
        Limit(
            metric=check["metric"],
            sense=check["sense"],
            value=check["limit"],
            reason=check["reason"],
            needs_all=check["needs_all"],
        )
        for check in entry["checks"]
    )


def take_in(folder: Path, file: Path) -> list[Judged]:
    """Judge the results that a kit's test wrote on a device, each run by the limits of what ran, and record them.

    The verdict is formed here, from the outputs; a file cannot bring its own.

    Raises:
        VerifyError: the folder is not what its manifest says, or the file is damaged or of another artifact.
    """
    content, golden = manifest.read_verified(folder)
    results = read_results(file)
    entry = _entry(content, results, file)
    _check_asked(entry, results, file)
    width = golden.expected["fp32"].shape[1]
    outputs = [_outputs(run, golden, file, folder, width) for run in results.runs]
    asked = [run.name for run in results.runs]
    if twice := [name for name in asked if asked.count(name) > 1]:
        raise VerifyError(f"'{file}': it holds two runs of {shown(twice[0])}")
    processors = (out for run, out in zip(results.runs, outputs, strict=True) if run.name in ("CPU", "CPU_ONLY"))
    on_processor = next(processors, None)
    given = manifest.outputs_of(content, width)
    found = []
    for run, values in zip(results.runs, outputs, strict=True):
        name = run.name
        checks: list[Check] = []
        if results.tells_what_ran:
            told, name = run.told, str(run.told)
            checks = parity.unit_checks("device", told, entry["precision"], values, on_processor)
            checks += [] if values is None else parity.finite_checks("device", told, values, on_processor)
        if values is not None:
            checks += judged("device", entry, golden, values, given, run.ran or ())
        row = evidence.row(
            evidence="device",
            by="kit",
            machine={"system": results.device.system, "processor": results.device.machine},
            versions={},
            units=run.name,
            checks=[manifest.described(check) for check in checks],
            accelerator=_accelerator(run) if results.tells_what_ran else None,
        )
        key = (entry["target"], entry["precision"])
        found.append(Judged(key=key, sha256=entry["sha256"], row=row, checks=checks, name=f"{' '.join(key)} {name}"))
    record(folder, found)
    return found


def _check_asked(entry: Mapping[str, Any], results: Results, file: Path) -> None:
    """Apple's runtimes are asked for compute units, all others for an accelerator; the limits and what must run depend on it."""
    has_units = entry["target"] in ("ios/coreml", "ios/coreai")
    known = [one for one in parity.ASKED if (one in ("CPU", "GPU", "NPU")) != has_units]
    for run in results.runs if results.tells_what_ran else ():
        if run.asked not in known:
            raise VerifyError(
                f"'{file}': no accelerator of {entry['target']} is called '{shown(run.asked)}'; {', '.join(known)} are"
            )


def _outputs(run: Run, golden: manifest.Golden, file: Path, folder: Path, width: int) -> Values | None:
    """``(N, width)`` in the order of the golden images; None where nothing ran."""
    if run.told.is_refused:
        return None
    if set(run.outputs) != set(golden.names):
        apart = [shown(name) for name in sorted(set(run.outputs) ^ set(golden.names))[:5]]
        raise VerifyError(f"'{file}': the images of {shown(run.name)} are not the golden ones of '{folder}': {apart}")
    wrong = [name for name, values in run.outputs.items() if len(values) != width]
    if wrong:
        raise VerifyError(f"'{file}': '{wrong[0]}' has {len(run.outputs[wrong[0]])} outputs, the model {width}")
    return np.array([run.outputs[name] for name in golden.names], np.float32)


def _accelerator(run: Run) -> dict[str, Any]:
    """What a row of evidence keeps of what ran."""
    return {
        "ran": None if run.ran is None else sorted(run.ran),
        "fell_back": run.fell_back,
        "reason": run.told.reason,
        "ms": None if run.ms is None else run.ms.model_dump(),
        "plan": dict(run.plan),
    }


def added_evidence(folder: Path) -> dict[tuple[str, str], list[evidence.Run]]:
    """By target and precision, what was added to a finished folder after its build; empty where there is none."""
    if not (folder / manifest.MANIFEST).is_file():
        return {}
    found = {
        (entry["target"], entry["precision"]): [run for run in entry.get("runs", ()) if run["by"] != "build"]
        for entry in manifest.read_manifest(folder)["artifacts"]
    }
    return {key: runs for key, runs in found.items() if runs}


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
        name: of the artifact and what ran it, for people.
    """

    key: tuple[str, str]
    sha256: str
    row: evidence.Run
    checks: list[Check]
    name: str = ""


def judged(
    leg: str,
    entry: Mapping[str, Any],
    golden: manifest.Golden,
    found: Values,
    given: Sequence[Output],
    ran: Collection[str] = (),
) -> list[Check]:
    """The checks of packed outputs ``(N, width)`` of the golden inputs.

    Args:
        leg: ``device`` where a kit computed them.
        given: what stands where in them.
        ran: the units that computed, where they are known.
    """
    expected = golden.expected
    quantized = expected["int8"] if entry["precision"] == "int8" else None
    with np.errstate(all="ignore"):  # infinities fail by their metrics
        metrics = parity.output_metrics(expected[entry["reference"]], found, expected["fp32"], quantized, given)
    return parity.judge(leg, limits(entry, ran, in_kit=leg == "device"), metrics)


def told(item: Judged) -> str:
    """A line on what ran and how fast; empty where the file says neither."""
    known = item.row.get("accelerator")
    if known is None:
        return ""
    run = evidence.ran(item.row)
    ms = known["ms"]
    fast = "" if ms is None else f"; {_fast(ms)}"
    plan = ", ".join(f"{unit} {count:,}" for unit, count in known["plan"].items())
    return (
        f"device {' '.join(item.key)}: {'' if run is None else run.told}{fast}{f'; operations: {plan}' if plan else ''}"
    )


def _fast(ms: Mapping[str, Any]) -> str:
    middle = "mean" if ms.get("is_mean") else "median"
    last = "" if ms["p90"] is None else f", p90 {ms['p90']:.3g} ms"
    return f"{middle} {ms['median']:.3g} ms{last} of {ms['runs']:,} runs"


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
    parent = real(folder).parent
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
            if item.row["evidence"] == "device" and item.row["checks"] and evidence.has_run(item.row):
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
    outputs.refresh(real(folder).parent)
