"""Commands that time a finished build's artifacts on devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DeviceError
from ..files import rendered
from . import common

if TYPE_CHECKING:
    from ..delivery import device as stage
    from ..devices import found

UNITS = ("cpu", "gpu", "npu")


@click.group()
def device() -> None:
    """Time the artifacts of a finished build on a phone or a Mac, and record it."""


def phone_options(function: Any) -> Any:
    """Which phone, and with what."""
    for option in (
        click.option("--serial", help="Of the phone, as `adb devices` lists it; needed where there are several."),
        click.option(
            "--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="That a runtime computes with."
        ),
        click.option(
            "--timeout",
            type=common.FiniteRange(1),
            default=300,
            show_default=True,
            help="Seconds for one start of a benchmark.",
        ),
    ):
        function = option(function)
    return function


@device.command()
@click.argument("out", type=common.Place(), default=Path("out"))
@click.option(
    "--binaries",
    type=common.Place(),
    required=True,
    help="Folder of the runtimes' benchmark programs for the phone: benchmark_model, executor_runner, onnxruntime_perf_test, and the "
    "libraries that they load. Nothing is downloaded.",
)
@click.option(
    "--unit",
    "units",
    multiple=True,
    type=click.Choice(UNITS, case_sensitive=False),
    help="To ask for; may be given several times. All that a runtime has without it.",
)
@click.option("--only", multiple=True, metavar="TARGET", help="Such as android/litert; may be given several times.")
@click.option(
    "--runs", type=click.IntRange(8, 100_000), default=80, show_default=True, help="Of each artifact and unit."
)
@phone_options
@click.option("--json", "is_json", is_flag=True, help="The result as JSON on standard output, progress elsewhere.")
def android(
    out: Path,
    binaries: Path,
    units: tuple[str, ...],
    only: tuple[str, ...],
    runs: int,
    serial: str | None,
    threads: int,
    timeout: float,
    is_json: bool,
) -> None:
    """Time the Android artifacts on a phone, through adb and the runtimes' own benchmark programs.

    OUT holds a build's folders, or is its android folder. What a unit took over and what fell back to the CPU is told, as far as the
    benchmark says it; the rows go into the manifest, beside the evidence, and prove nothing but speed. The phone is left as it was.
    """
    from ..delivery import manifest, replay
    from ..devices import android as stage
    from ..devices import binaries as programs
    from ..report import terminal

    folder = _folder(out, "android")
    _check_targets(only, "android/")
    given = programs.Binaries(folder=binaries)
    replay.check_writable([folder], "make it writable")
    content, _ = manifest.read_verified(folder)
    artifacts = stage.artifacts_of(folder, content, common.targets(), only)
    options = stage.Options(
        units=tuple(unit for unit in stage.UNITS if unit.lower() in units) or stage.UNITS,
        are_asked=bool(units),
        runs=runs,
        threads=threads,
        seconds=timeout,
    )
    with terminal.progress(terminal.console(is_error=True)) as say:
        phone = stage.opened(serial)
        say(f"phone {phone.serial}: {_of(phone.machine)}, {phone.machine['abi']}")
        found = stage.measure(artifacts, phone, given, options, say)
    rows = stage.record(folder, phone.machine, found.measured) if found.measured else []
    _told(folder, found, rows, is_json=is_json)


@device.command()
@click.argument("out", type=common.Place(), default=Path("out"))
@click.option(
    "--unit",
    "units",
    multiple=True,
    help="Core ML's name of what may compute: CPU_ONLY, CPU_AND_GPU, CPU_AND_NE, ALL; may be given several times. Each in turn without it.",
)
@click.option("--only", multiple=True, metavar="TARGET", help="Such as ios/coreml; may be given several times.")
@click.option(
    "--runs", type=click.IntRange(8, 100_000), default=80, show_default=True, help="Of each artifact and unit."
)
@click.option("--json", "is_json", is_flag=True, help="The result as JSON on standard output, progress elsewhere.")
def ios(out: Path, units: tuple[str, ...], only: tuple[str, ...], runs: int, is_json: bool) -> None:
    """Time the Core ML packages on this Mac, on each compute unit, with Core ML's plan of what runs where.

    OUT holds a build's folders, or is its ios folder. On an iPhone an app has to run them: the kit's test does, and `twinkeel parity
    --device-results` records its times.
    """
    from ..delivery import manifest, replay
    from ..devices import android as recording
    from ..devices import apple
    from ..report import terminal
    from ..store import workers

    folder = _folder(out, "ios")
    targets = common.targets()
    _check_targets(only, "ios/")
    apple.check(targets)
    if unknown := [unit for unit in units if unit not in apple.units(targets)]:
        raise click.UsageError(f"--unit {unknown[0]}: Core ML's are {', '.join(apple.units(targets))}.")
    replay.check_writable([folder], "make it writable")
    content, golden = manifest.read_verified(folder)
    worker = workers.Workers(1)
    try:
        with terminal.progress(terminal.console(is_error=True)) as say:
            for line in apple.iphones():
                say(
                    f"iPhone {line}: no tool of Apple's runs a package on it from here. The kit's test does (`xcodebuild test`, see its "
                    "README), and `twinkeel parity --device-results FILE` records it"
                )
            found = apple.measure(
                folder, content, golden.images, targets, worker, say, asked=units, only=only, runs=runs
            )
    finally:
        worker.shutdown(cancel_futures=True)
    rows = recording.record(folder, apple.this_mac(), found.measured, "mac") if found.measured else []
    _told(folder, found, rows, is_json=is_json)


def _folder(out: Path, platform: str) -> Path:
    """The platform's folder: OUT, or in it."""
    from ..delivery import faults, manifest

    if (out / manifest.MANIFEST).is_file():
        return out
    if not (out / platform).is_dir():
        raise faults.no_build(out / platform)
    return out / platform


def _check_targets(only: Sequence[str], begin: str) -> None:
    known = [name for name in common.targets() if name.startswith(begin)]
    if unknown := [name for name in only if name not in known]:
        raise click.UsageError(f"--only {unknown[0]}: there are {', '.join(known)}.")


def _of(machine: Any) -> str:
    from ..delivery import machine as machines

    return machines.short(machine)


def _told(folder: Path, outcome: found.Outcome, rows: Sequence[stage.Judged], *, is_json: bool) -> None:
    """A line for each artifact and unit, what is to be said of it, and what was not measured.

    Raises:
        DeviceError: nothing was measured, or the phone went away.
    """
    from ..delivery import device as stage
    from ..devices import android

    if is_json:
        content = {
            "measured": [dict(zip(("target", "precision"), row.key, strict=True)) | dict(row.row) for row in rows],
            "left": [asdict(one) for one in outcome.left],
            "lost": outcome.lost,
        }
        common.echo(rendered(content).decode().rstrip())
    else:
        for row, item in zip(rows, outcome.measured, strict=True):
            common.echo(stage.told(row))
            for note in item.notes:
                common.echo(f"WARNING {' '.join(item.key)} on the {item.placement.ran.asked}: {note}")
    for one in outcome.left:
        common.echo(f"not measured: {one.name}: {one.reason}", is_error=is_json)
    common.tell_passed_over([folder])
    if rows:
        common.echo(f"recorded in {folder / 'manifest.json'}: {len(rows)} rows", is_error=is_json)
    if outcome.lost:
        kept = "What was measured before is recorded." if rows else "Nothing is recorded."
        raise DeviceError(f"{outcome.lost} {kept}")
    if not rows:
        raise android.none_measured(outcome)
