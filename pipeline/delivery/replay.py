"""Finished folders on any machine that a command line reaches: the golden inputs through every runtime there.

    twinkeel replay out                                     this Python
    twinkeel replay out --python "ssh phone-lab python3"    another machine
    twinkeel replay out --python .nox/arm64/python          an emulated processor

Nothing is assumed of the other side but a Python with numpy and runtimes. It reads a program from its standard input,
which carries the code (`far_side`, `machine`, the runtimes' loaders), artifacts and inputs, and answers with outputs. They
are judged here, by the limits in the manifest; what comes back is a stranger's, and read as such.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data import arrays
from ..errors import DeviceError, VerifyError
from ..files import digest, real
from ..parity import Check, Ran, broken, finite_checks, unit_checks
from ..program import Runtime, Target
from ..reading import shown
from ..saying import Say
from . import device, evidence, faults, manifest, outputs
from .conversation import Conversation, Found, Task
from .other_side import Plan

SILENCE = 300.0
"""Seconds without a sign of life after which the other side is given up; the first run of a large package on a Mac is
compiled for a minute."""


def replay(
    folders: Sequence[Path],
    targets: Mapping[str, Target],
    say: Say,
    command: str | None = None,
    silence: float = SILENCE,
) -> list[tuple[str, list[Check]]]:
    """Run the golden inputs of finished folders on another Python, or this one, and record what came of it.

    ``parity.json`` and ``manifest.json`` of each folder get a row of evidence for each artifact; one of the same machine
    takes the place of its earlier one.

    Args:
        command: a Python that reads a program from standard input when it is given ``-``.

    Returns:
        (name, checks) of each artifact, unit and folder.

    Raises:
        VerifyError: a folder is not what its manifest says.
        DeviceError: the command does not do, or no runtime is installed where it runs; nothing is recorded.
    """
    check_writable(folders, "look without recording: `twinkeel parity FOLDER`, for each platform's")
    read = {folder: manifest.read_verified(folder) for folder in folders}
    tasks = list(_tasks(read, targets, say))
    if not tasks:
        raise VerifyError(f"{_named(folders)} nothing that a runtime could replay. `twinkeel build all` makes it.")
    with tempfile.TemporaryDirectory(prefix="twinkeel-replay-") as work:
        found = Conversation(tasks, _split(command), say, silence, Path(work)).held()
    built = _built_by(read, tasks)
    wanted = {task.runtime.NAME: task.runtime.PACKAGES[0] for task in tasks if task.runtime.EVIDENCE == "runtime"}
    advice = {name: _pinned(package, built[name]) for name, package in wanted.items()}
    for name, reason in found.missing.items():
        say(
            f"skipped {name}: {shown(reason, 400)}" + (f". There: pip install {advice[name]}" if name in advice else "")
        )
    for name, versions in found.versions.items():
        for line in _other_versions(name, versions, built[name]):
            say(f"WARNING {line}")
    if not found.outputs:
        raise DeviceError(
            f"no runtime is installed where '{shown(command or sys.executable)}' runs: "
            + "; ".join(f"{name}: {shown(reason)}" for name, reason in found.missing.items())
            + ". There: pip install "
            + " ".join(sorted(set(advice.values())))
        )
    return _judged(read, tasks, found)


def _built_by(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], tasks: Sequence[Task]
) -> dict[str, dict[str, set[str]]]:
    """By runtime and package, the versions that ran the artifacts as they were built, as the manifests record them."""
    found: dict[str, dict[str, set[str]]] = {}
    for task in tasks:
        known = found.setdefault(task.runtime.NAME, {})
        for folder, key in task.owners:
            content = read[folder][0]
            runs = device.entry_of(content, key).get("runs", [])
            recorded = dict(content.get("versions", {}))
            for run in runs:
                recorded |= run["versions"] if run["by"] == "build" else {}
            for package in task.runtime.PACKAGES:
                if recorded.get(package):
                    known.setdefault(package, set()).add(shown(recorded[package], 60).split("+")[0])
    return found


def _pinned(package: str, built: Mapping[str, set[str]]) -> str:
    """For pip: the version that built, where it was one."""
    versions = sorted(built.get(package, ()))
    return f"{package}=={versions[0]}" if len(versions) == 1 else package


def _other_versions(name: str, versions: Mapping[str, str], built: Mapping[str, set[str]]) -> list[str]:
    """What ran with another version than it was built with, and how to have that one."""
    return [
        f"{name}: {package} {shown(version, 60)} ran what {' and '.join(sorted(built[package]))} ran when it was built; what differs may be its own. "
        f"There: pip install {_pinned(package, built)}"
        for package, version in versions.items()
        if package in built and version != "unknown" and version.split("+")[0] not in built[package]
    ]


def _judged(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], tasks: Sequence[Task], found: Found
) -> list[tuple[str, list[Check]]]:
    """Judge all, then record all."""
    rows: dict[Path, list[device.Judged]] = {folder: [] for folder in read}
    for (number, unit), answer in sorted(found.outputs.items(), key=lambda item: item[0][0]):
        task = tasks[number]
        for folder, key in task.owners:
            content, golden = read[folder]
            given = manifest.outputs_of(content, golden.expected["fp32"].shape[1])
            entry = device.entry_of(content, key)
            told = _told(unit, found.plans.get((number, unit)))
            if isinstance(answer, str):
                checks = [broken(answer)]
            elif told is None:
                checks = device.judged("replay", entry, golden, answer, given)
            else:
                alone = found.outputs.get((number, task.runtime.UNITS[0]))
                on_processor = None if isinstance(alone, str) else alone
                checks = unit_checks("replay", told, key[1], answer, on_processor)
                checks += finite_checks("replay", told, answer, on_processor)
                checks += device.judged("replay", entry, golden, answer, given, told.ran or ())
            row = evidence.row(
                evidence=task.runtime.EVIDENCE,
                by="replay",
                machine=found.machine,
                versions=found.versions.get(task.runtime.NAME, {}),
                units=unit,
                checks=[manifest.described(check) for check in checks],
                accelerator=None if told is None else _accelerator(told, found.plans.get((number, unit))),
            )
            rows[folder].append(device.Judged(key=key, sha256=entry["sha256"], row=row, checks=checks))
    results = []
    for folder, judged in rows.items():
        device.record(folder, judged)
        results += [(f"{' '.join(item.key)}, {evidence.short(item.row)}", item.checks) for item in judged]
    return results


def _told(unit: str, plan: Plan | None) -> Ran | None:
    """What ran by a plan, of a unit that may be an accelerator; None where the runtime has no plans.

    A plan that gives everything to the processor is told: the row of evidence says so.
    """
    if plan is None:
        return None
    units = tuple(sorted({one[0] for one in plan.operations}))
    if not units:
        known = ("CPU",) if unit in ("CPU", "CPU_ONLY") else None
        return Ran(asked=unit, ran=known, reason=shown(f"no compute plan: {plan.reason}", 300))
    told = Ran(asked=unit, ran=units)
    if not told.is_fallback:
        return told
    return replace(told, fell_back=True, reason="the compute plan gives every operation to the CPU")


def _accelerator(told: Ran, plan: Plan | None) -> dict[str, Any]:
    """What a row of evidence keeps of what ran, with the operations of each unit."""
    operations: dict[str, list[str]] = {}
    for unit, operator, name in plan.operations if plan is not None else ():
        operations.setdefault(unit, []).append(f"{operator} {name}".rstrip())
    return {
        "ran": None if told.ran is None else list(told.ran),
        "fell_back": told.fell_back,
        "reason": told.reason,
        "ms": None,
        "plan": {unit: len(names) for unit, names in sorted(operations.items())},
        "operations": dict(sorted(operations.items())),
    }


def check_writable(folders: Sequence[Path], instead: str) -> None:
    """See before minutes of work that what comes of it can be recorded.

    Args:
        instead: what else there is to do.

    Raises:
        DeviceError: it cannot.
        VerifyError: there is no such folder.
    """
    for folder in folders:
        _check_place(folder, instead)
    for out in {real(folder).parent for folder in folders}:
        if (out / outputs.INDEX).is_file():  # which lists the folders' manifests
            _check_place(out, instead)


def _check_place(folder: Path, instead: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise faults.no_build(folder) from error
    except OSError as error:
        raise DeviceError(
            f"the evidence is recorded in '{folder}', and that cannot be written: {error}. Copy it to where you may write "
            f"(`cp -r {folder} .`), or {instead}."
        ) from error


def _tasks(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], targets: Mapping[str, Target], say: Say
) -> Iterator[Task]:
    """All artifacts that a runtime could run: each file once, however many folders hold it."""
    known: dict[tuple[str, str, str], Task] = {}
    for folder, (content, golden) in read.items():
        inputs = hashlib.sha256()
        for array in arrays(golden.images):
            inputs.update(array.tobytes() + str(array.shape).encode())
        for entry in content["artifacts"]:
            target = targets.get(entry["target"])
            runtime: Runtime | None = getattr(target, "RUNTIME", None)
            key, name = (entry["target"], entry["precision"]), shown(f"{entry['target']} {entry['precision']}")
            if target is None or runtime is None:
                say(f"skipped {name}: no runtime here is known to run it")
                continue
            if not device.limits(entry):
                say(
                    f"skipped {name}: it has no limit that outputs are judged by, as one that did not run when it was built"
                )
                continue
            same = runtime.NAME, digest(folder / entry["path"]), inputs.hexdigest()
            if same in known:
                known[same].owners.append((folder, key))
                continue
            known[same] = Task(
                name=name,
                runtime=runtime,
                path=folder / entry["path"],
                payload=getattr(target, "payload", None),
                images=golden.images,
                width=golden.expected["fp32"].shape[1],
                owners=[(folder, key)],
            )
    yield from known.values()


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(f"'{folder}'" for folder in folders) + (" holds" if len(folders) == 1 else " hold")


def _split(command: str | None) -> list[str]:
    if command is None:
        return [sys.executable]
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise DeviceError(f"--python '{shown(command)}' is no command line: {error}") from error
    if not found:
        raise DeviceError('--python is empty. A command that starts a Python: --python "ssh host python3"')
    return found
