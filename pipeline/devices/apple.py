"""Core ML packages timed on the Mac that runs this, on each of its compute units, with Core ML's plan of which operation runs where.

Apple has no tool that runs a package on a connected iPhone from a command line: there an app has to, and the kit's own test is one.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, cast

from ..data import Images, arrays
from ..delivery import machine
from ..errors import DeviceError, WorkerError
from ..parity import Ran
from ..program import Runtime, Target
from ..reading import shown
from ..saying import Say
from .found import HOT, Left, Measured, Outcome, Placement, Round, Timing

ROUNDS = 4
"""Loads of a package on a unit: compiling one takes seconds."""
_WARM = 3
CORE_ML = "Core ML"


def check(targets: Mapping[str, Target]) -> None:
    """See that Core ML can run here.

    Raises:
        DeviceError: it cannot; what is needed.
    """
    runtime = _core_ml(targets)
    missing = getattr(runtime, "missing", lambda: "")()
    if missing:
        raise DeviceError(
            f"Core ML cannot be timed here: {missing}. On a Mac with `pip install coremltools pillow`, run this on the same folder. "
            "For the times of an iPhone, run the kit's test on it (its README says how) and "
            "`twinkeel parity OUT/ios --device-results FILE`."
        )
    if gone := [name for name in runtime.MODULES if importlib.util.find_spec(name.partition(".")[0]) is None]:
        packages = " ".join(runtime.PACKAGES)
        raise DeviceError(
            f"Core ML cannot be timed here: no module '{gone[0]}'. `pip install {packages} pillow` first."
        )


def _core_ml(targets: Mapping[str, Target]) -> Runtime:
    return next(
        runtime
        for target in targets.values()
        if (runtime := cast("Runtime", getattr(target, "RUNTIME", None))) is not None and runtime.NAME == CORE_ML
    )


def units(targets: Mapping[str, Target]) -> tuple[str, ...]:
    """Names of Core ML's compute units."""
    return _core_ml(targets).UNITS


def measure(
    folder: Path,
    content: Mapping[str, Any],
    images: Images,
    targets: Mapping[str, Target],
    executor: Executor,
    say: Say,
    *,
    asked: Sequence[str] = (),
    only: Sequence[str] = (),
    runs: int = 80,
) -> Outcome:
    """Time the Core ML packages of a finished folder, one after the other, each in a process of its own.

    Args:
        asked: names of Core ML's compute units; all by default.
    """
    measured: list[Measured] = []
    left: list[Left] = []
    for entry in content["artifacts"]:
        name = f"{entry['target']} {entry['precision']}"
        target = targets.get(entry["target"])
        runtime: Runtime | None = getattr(target, "RUNTIME", None)
        if only and entry["target"] not in only:
            continue
        if target is None or runtime is None or runtime.NAME != CORE_ML:
            own = "an unknown runtime" if runtime is None else f"{runtime.NAME} of this Python, not what an iPhone has"
            left.append(Left(name=name, reason=f"a Mac would time {own}; the kit's test on a phone times it"))
            continue
        for unit in asked or runtime.UNITS:
            say(f"{name} on {unit}")
            try:
                found = executor.submit(
                    timed,
                    runtime.__name__,
                    _payload(target),
                    folder / entry["path"],
                    images[:1],
                    unit,
                    -(-runs // ROUNDS),
                ).result()
            except WorkerError as error:
                left.append(Left(name=f"{name} on {unit}", reason=str(error)))
                continue
            if isinstance(found, str):
                left.append(Left(name=f"{name} on {unit}", reason=found))
                continue
            rounds, plan, versions = found
            timing = Timing.of([Round.of(one) for one in rounds])
            notes = (f"it got slower as it ran: the last quarter took {timing.slowdown:.2f} times as long as the first one (told from {HOT:g} on)",)  # fmt: skip
            measured.append(
                Measured(
                    key=(entry["target"], entry["precision"]),
                    sha256=entry["sha256"],
                    placement=_placed(unit, plan),
                    timing=timing,
                    tools=versions,
                    notes=notes if timing.has_slowed else (),
                )
            )
    return Outcome(measured=tuple(measured), left=tuple(left))


def _payload(target: Target) -> str:
    return target.__name__ if hasattr(target, "payload") else ""


def timed(
    module: str, payload: str, path: Path, image: Images, unit: str, runs: int
) -> tuple[list[list[float]], list[list[str]] | str, dict[str, str]] | str:
    """In a worker: milliseconds of each run by round, the plan or why there is none, and versions; in words why it does not run.

    Args:
        module: of the runtime.
        payload: of the target that knows what runs in the artifact's place; empty for the artifact itself.
    """
    runtime = cast("Runtime", importlib.import_module(module))
    given = arrays(image)
    rounds: list[list[float]] = []
    plan: list[list[str]] | str = "no plan"
    with tempfile.TemporaryDirectory() as work:
        try:
            inner: Any = importlib.import_module(payload) if payload else None
            model = path if inner is None else inner.payload(path, Path(work))
            for number in range(ROUNDS):
                run: Any = runtime.load(model, unit)
                taken = []
                for _ in range(runs + _WARM):
                    start = time.perf_counter()
                    run(*given)
                    taken.append(1e3 * (time.perf_counter() - start))
                rounds.append(taken[_WARM:])
                if number == 0:
                    plan = _plan(run)
        except Exception as error:  # each runtime has errors of its own for what it does not take
            return f"{type(error).__name__}: {shown(str(error).strip(), 400)}"
    return rounds, plan, _versions(runtime.PACKAGES)


def _plan(run: Any) -> list[list[str]] | str:
    try:
        found: list[list[str]] = run.plan()
    except Exception as error:  # older than macOS 14.4, or than coremltools 8.1
        return f"{type(error).__name__}: {shown(str(error).strip(), 200)}"
    return found


def _versions(packages: Sequence[str]) -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _placed(unit: str, plan: list[list[str]] | str) -> Placement:
    """By Core ML's plan, which says what it prefers, not what ran."""
    if isinstance(plan, str) or not plan:
        known = ("CPU",) if unit == "CPU_ONLY" else None
        why = plan if isinstance(plan, str) else "it names no operation"
        return Placement(ran=Ran(asked=unit, ran=known, reason=f"no compute plan: {why}"))
    operations: dict[str, list[str]] = {}
    for device, operator, name in plan:
        operations.setdefault(device, []).append(f"{operator} {name}".rstrip())
    ran = Ran(asked=unit, ran=tuple(sorted(operations)))
    if ran.is_fallback:
        ran = Ran(asked=unit, ran=ran.ran, fell_back=True, reason="the compute plan gives every operation to the CPU")
    counts = {device: len(names) for device, names in operations.items()}
    return Placement(ran=ran, plan=counts, operations=operations)


def this_mac() -> dict[str, str]:
    return machine.here()


def iphones() -> list[str]:
    """A line for each iPhone that Xcode's tools know: its name, model, identifier, and whether it can be reached; none without them."""
    if platform.system() != "Darwin" or (xcrun := shutil.which("xcrun")) is None:
        return []
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "devices.json"
        try:
            subprocess.run(
                [xcrun, "devicectl", "list", "devices", "--json-output", str(file)],
                capture_output=True,
                timeout=60,
                check=False,
            )
            return listed(file.read_bytes())
        except (OSError, subprocess.TimeoutExpired):
            return []


def listed(raw: bytes) -> list[str]:
    """The same, of what `devicectl list devices --json-output` writes; none where it is something else."""
    try:
        devices = json.loads(raw)["result"]["devices"]
        found = []
        for one in devices:
            hardware, properties = one.get("hardwareProperties", {}), one.get("deviceProperties", {})
            if hardware.get("platform") != "iOS":
                continue
            state = one.get("connectionProperties", {}).get("pairingState", "in an unknown state")
            names = (
                properties.get("name", "?"),
                hardware.get("marketingName", "?"),
                hardware.get("udid", one.get("identifier", "?")),
            )
            found.append(f"{shown(names[0])} ({shown(names[1])}, {shown(names[2])}, {shown(state)})")
    except (ValueError, LookupError, TypeError, AttributeError):
        return []
    return found
