"""Commands that run, compare, check and sign finished folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import DiffError, ParityError, TwinkeelError
from ..files import real
from . import common
from .devices import device
from .evaluating import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .. import delivery

    Found = Mapping[str, tuple[Path, delivery.Folder]]
    Timing = delivery.Timing


@click.command()
@click.argument("folder", type=common.Place())
@click.option("--device-results", type=common.Place(), help="File that a kit's test on a device wrote.")
def parity(folder: Path, device_results: Path | None) -> None:
    """Run the artifacts of a finished folder on its golden inputs and compare, from its files alone.

    With --device-results nothing is run: what a device computed is judged, each accelerator by limits of its own, and
    recorded as evidence. One that fell back to the processor without a word is a failure.
    """
    from ..delivery import device, manifest
    from ..store import workers

    if device_results is not None:
        judged = device.take_in(folder, device_results)
        for item in judged:
            if line := device.told(item):
                common.echo(line)
        common.print_checks([folder], [(item.name, item.checks) for item in judged])
        return
    processes = workers.Workers(workers.count())
    try:
        found = manifest.replay(folder, common.targets(), processes)
    finally:
        processes.shutdown(cancel_futures=True)
    common.print_checks([folder], found)


@click.command()
@click.argument("out", type=common.Place(), default=Path("out"))
@click.option(
    "--python",
    "command",
    help='Another Python: "ssh host python3", "docker run -i IMAGE python". It is started with `-` as its last argument, '
    "and reads a program from its standard input.",
)
@click.option(
    "--timeout", type=common.FiniteRange(1), default=300, show_default=True, help="Seconds without a sign of life."
)
def replay(out: Path, command: str | None, timeout: float) -> None:
    """Run the golden inputs through every runtime that is installed, and record the evidence.

    OUT holds a build's folders, or is one of them. With --python the runtimes of another Python run them: on another
    machine, or behind an emulator. It needs numpy and a runtime, and nothing of twinkeel.
    """
    from ..delivery import manifest, outputs
    from ..delivery import replay as stage
    from ..report import terminal as report

    folders = [out] if (out / manifest.MANIFEST).is_file() else common.platform_folders(out)
    for parent in {real(folder).parent for folder in folders}:
        if (parent / outputs.INDEX).exists():  # it is written anew in the end: what is wrong with it is said before
            outputs.read_index(parent)
    with report.progress(report.console(is_error=True)) as say:
        found = stage.replay(folders, common.targets(), say, command, timeout)
    common.print_checks(folders, found)


@click.command()
@click.argument("out", type=common.Place(), default=Path("out"))
def compare(out: Path) -> None:
    """Compare the int8 artifacts of all runtimes below OUT, pair by pair, on the golden images."""
    from ..delivery import compare as compare_folders
    from ..report import terminal as report
    from ..store import workers

    workers.quieten()
    folders = common.platform_folders(out)
    report.print_comparison(compare_folders(folders, common.targets()), report.console())
    common.tell_passed_over(folders)


@click.command()
@click.argument("out", type=common.Place(), default=Path("out"))
@click.option("--tables", type=common.Place(is_folder=True), help="Folder for the table and the picture.")
def drift(out: Path, tables: Path | None) -> None:
    """Compare each layer of the int8 artifacts below OUT with the quantized reference; writes a table and a picture.

    OUT holds a build's folders, or is one of them; the table and the picture are then written beside it, for a
    finished folder holds what its manifest lists and nothing else. Where that cannot be written, they are left out, and
    --tables names another folder.
    """
    from ..delivery import finished, manifest, outputs
    from ..parity import drift as stage
    from ..report import terminal as report
    from ..store import workers

    workers.quieten()
    is_platform = (out / manifest.MANIFEST).is_file()
    folders = [out] if is_platform else common.platform_folders(out)
    console = report.console()
    with report.progress(console) as say:
        found = finished.drift(folders, common.targets(), say)
    report.print_drift(found, console)
    common.tell_passed_over(folders)
    target = tables or (real(out).parent if is_platform else out)
    try:
        outputs.add(target, stage.files(found))
        console.print(f"wrote {target / stage.TABLE} and {target / stage.PICTURE}", markup=False)
    except TwinkeelError as error:
        if tables is not None:
            raise
        common.echo(f"WARNING no table and no picture: {error} --tables names one.", is_error=True)
    failed = [runtime.verdict for runtime in found if runtime.first is not None]
    if failed:
        raise ParityError("\n".join(failed))


@click.command()
@click.argument("folder", type=common.Place())
@click.option("--key", type=common.Place(), help="Public Ed25519 key, a PEM file: check the signature too.")
def verify(folder: Path, key: Path | None) -> None:
    """Check every hash of a finished folder, or of all that a build wrote, and with --key who signed it."""
    count, _, strays = _whole(folder, key)
    common.tell_strays(strays)
    common.echo(f"{count} files are as the manifest says" + (", and it is signed with this key" if key else ""))


def _whole(folder: Path, key: Path | None) -> tuple[int, list[Path], list[str]]:
    """Number of files of a finished folder, or of all that a build wrote, whose hashes are right; the platforms' folders; and what
    other programs left."""
    from ..delivery import manifest, outputs, signature

    if (folder / outputs.INDEX).is_file():
        platforms = common.platform_folders(folder)
        count, strays = outputs.verify(folder), outputs.passed_over(folder)
    else:
        count, platforms, strays = manifest.verify(folder), [folder], manifest.passed_over(folder)
    if key is not None:
        for platform in platforms:
            signature.check(platform, key)
    return count, platforms, strays


@click.command()
@click.argument("folder", type=common.Place())
@click.option("--key", type=common.Place(), required=True, help="Private Ed25519 key, a PEM file.")
def sign(folder: Path, key: Path) -> None:
    """Check the hashes of a finished folder and sign its manifest."""
    from ..delivery import signature

    common.echo(f"wrote {signature.sign(folder, key)}")
    common.tell_passed_over([folder])


@click.command()
@click.argument("old", type=common.Place())
@click.argument("new", type=common.Place())
@click.option("--max-size-growth", type=common.Share(), help="Of each artifact: 5%.")
@click.option("--max-score-drop", type=common.Share(most=1), help="Of what the task counts: 0.005, or 0.5%.")
@click.option("--max-latency-growth", type=common.Share(), help="Of each artifact: 20%. Measures, as --latency.")
@click.option(
    "--latency", is_flag=True, help="Run the artifacts that differ here, old and new in turn; takes their runtimes."
)
@click.option("--allow-contract", is_flag=True, help="Let pass what changes for apps, and artifacts that are gone.")
@click.option("--require", type=click.Choice(["shown"]), help="'shown': fail too where the images cannot tell.")
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
@click.option("--markdown", "is_markdown", is_flag=True, help="As a table in Markdown, for a comment.")
@click.option("--key", type=common.Place(), help="Public Ed25519 key: check the signatures of both.")
def diff(
    old: Path,
    new: Path,
    max_size_growth: float | None,
    max_score_drop: float | None,
    max_latency_growth: float | None,
    latency: bool,
    allow_contract: bool,
    require: str | None,
    is_json: bool,
    is_markdown: bool,
    key: Path | None,
) -> None:
    """Compare two finished builds: size, score, parity, operators, what apps rely on, versions.

    OLD and NEW are a platform's finished folder each, or the folder that holds them. The exit code is 14 where a limit is
    crossed or what apps rely on has changed.
    """
    from ..delivery import diff as stage
    from ..report import differences, terminal

    if is_json and is_markdown:
        raise click.UsageError("--json and --markdown are two forms of one answer: give one of them.")
    allowed = stage.Allowed(
        size_growth=max_size_growth,
        score_drop=max_score_drop,
        latency_growth=max_latency_growth,
        contract=allow_contract,
        must_show=require == "shown",
    )
    before, after = (stage.read(_platforms_of(place, key)) for place in (old, new))
    timings = _timed(before, after) if latency or max_latency_growth is not None else {}
    found = stage.compare(before, after, allowed, timings)
    if is_json:
        common.echo(differences.as_json(found))
    elif is_markdown:
        common.echo(differences.as_markdown(found))
    else:
        differences.show(found, terminal.console())
    if found.crossed:
        raise DiffError("the new build crosses what is allowed:\n" + "\n".join(found.crossed))


def _platforms_of(place: Path, key: Path | None) -> list[Path]:
    """The finished folders of a build, all of them whole and, with a key, signed."""
    from ..delivery import manifest, outputs

    is_known = any((place / name).is_file() for name in (manifest.MANIFEST, outputs.INDEX))
    # of a copy, the index may be left behind
    places = [place] if is_known or not place.is_dir() else common.platform_folders(place)
    return [folder for one in places for folder in _whole(one, key)[1]]


def _timed(before: Found, after: Found) -> dict[str, Timing]:
    """Latency of the artifacts that both have and that differ, in a process of its own: a runtime can die of one."""
    from ..delivery import diff as stage
    from ..delivery import timing
    from ..store import workers

    pairs = stage.pairs(before, after, common.targets())
    if not pairs:
        return {}
    worker = workers.Workers(1)
    try:
        return worker.submit(timing.measure, pairs).result()
    finally:
        worker.shutdown(cancel_futures=True)


TITLE = "Prove a finished folder"
COMMANDS = (parity, replay, device, evaluate, compare, drift, diff, verify, sign)
