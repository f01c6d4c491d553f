"""Commands that run, compare, check and sign finished folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ParityError, TwinkeelError
from . import common

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--device-results", type=click.Path(path_type=Path), help="File that a kit's test on a device wrote.")
def parity(folder: Path, device_results: Path | None) -> None:
    """Run the artifacts of a finished folder on its golden inputs and compare, from its files alone.

    With --device-results nothing is run: what a device computed is judged, and recorded as evidence.
    """
    from ..delivery import device, manifest
    from ..store import workers

    if device_results is not None:
        common.print_checks([folder], device.take_in(folder, device_results))
        return
    processes = workers.Workers(workers.count())
    try:
        found = manifest.replay(folder, common.targets(), processes)
    finally:
        processes.shutdown(cancel_futures=True)
    common.print_checks([folder], found)


@click.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
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
    for parent in {folder.resolve().parent for folder in folders}:
        if (parent / outputs.INDEX).exists():  # it is written anew in the end: what is wrong with it is said before
            outputs.read_index(parent)
    with report.progress(report.console(is_error=True)) as say:
        found = stage.replay(folders, common.targets(), say, command, timeout)
    common.print_checks(folders, found)


@click.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
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
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
@click.option(
    "--tables", type=click.Path(path_type=Path, file_okay=False), help="Folder for the table and the picture."
)
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
    target = tables or (out.resolve().parent if is_platform else out)
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
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="Public Ed25519 key, a PEM file: check the signature too.")
def verify(folder: Path, key: Path | None) -> None:
    """Check every hash of a finished folder, or of all that a build wrote, and with --key who signed it."""
    from ..delivery import manifest, outputs, signature

    if (folder / outputs.INDEX).is_file():
        platforms = common.platform_folders(folder)
        count, strays = outputs.verify(folder), outputs.passed_over(folder)
    else:
        count, platforms, strays = manifest.verify(folder), [folder], manifest.passed_over(folder)
    if key is not None:
        for platform in platforms:
            signature.check(platform, key)
    common.tell_strays(strays)
    common.echo(f"{count} files are as the manifest says" + (", and it is signed with this key" if key else ""))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private Ed25519 key, a PEM file.")
def sign(folder: Path, key: Path) -> None:
    """Check the hashes of a finished folder and sign its manifest."""
    from ..delivery import signature

    common.echo(f"wrote {signature.sign(folder, key)}")
    common.tell_passed_over([folder])


TITLE = "Prove a finished folder"
COMMANDS = (parity, replay, compare, drift, verify, sign)
