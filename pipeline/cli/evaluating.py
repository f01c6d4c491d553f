"""The command that runs a finished build over a validation set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, ParityError
from ..files import real
from . import common

if TYPE_CHECKING:
    from ..delivery import Golden
    from ..evaluating import Evaluation, planning
    from ..saying import Say

    Folders = dict[Path, tuple[dict[str, Any], Golden]]


@click.command()
@click.argument("out", type=common.Place(), default=Path("out"))
@click.option(
    "--data",
    type=common.Place(),
    required=True,
    help="Class folders, an archive, or a list; images with boxes or masks.",
)
@click.option(
    "-o",
    "--into",
    type=common.Place(is_folder=True),
    default=Path("evaluation"),
    show_default=True,
    help="Folder for what is found; what is there of the same images and artifacts is not computed again.",
)
@click.option(
    "--names",
    type=common.Place(),
    help="What the model's outputs are called in the data: the file of names that its build was given.",
)
@click.option(
    "--set",
    "which",
    type=click.Choice(["train", "val", "test"]),
    help="Of data with sets; the held-out one without it.",
)
@click.option("--unlabelled", is_flag=True, help="Nothing is known of the images: count what artifacts answer alike.")
@click.option("--skip-damaged", is_flag=True, help="Pass over images that cannot be decoded.")
@click.option("--only", multiple=True, metavar="TARGET", help="Such as android/litert; may be given several times.")
@click.option("--jobs", type=click.IntRange(1), help="Worker processes; by cores and memory without it.")
@click.option("--json", "is_json", is_flag=True, help="The result as JSON on standard output, progress elsewhere.")
def evaluate(
    out: Path,
    data: Path,
    into: Path,
    names: Path | None,
    which: str | None,
    unlabelled: bool,
    skip_damaged: bool,
    only: tuple[str, ...],
    jobs: int | None,
    is_json: bool,
) -> None:
    """Run every artifact of a finished build over a whole validation set.

    OUT holds a build's folders, or is one of them; it stays as it is. It needs the runtimes alone, as replay does. Stopped and run
    again, it goes on where it was.
    """
    from ..delivery import manifest
    from ..evaluating import planning
    from ..report import evaluation as report
    from ..report import terminal
    from ..store import workers

    folders = [out] if (out / manifest.MANIFEST).is_file() else common.platform_folders(out)
    _check_place(into, data)
    console = terminal.console(is_error=is_json)
    with terminal.progress(console) as say:
        read = {folder: manifest.read_verified(folder) for folder in folders}
        plan = planning.planned(
            read,
            common.targets(),
            data,
            naming=names,
            which=which,
            has_truth=not unlabelled,
            skips_damaged=skip_damaged,
            only=only,
        )
        found = _evaluated(plan, read, into, jobs or workers.count(), say)
    if is_json:
        common.echo(report.as_json(found))
    else:
        report.show(found, console)
        common.tell_passed_over(folders)
    if found.missed:
        raise ParityError("limits of the build are missed on these images:\n" + "\n".join(found.missed))


def _evaluated(plan: planning.Plan, read: Folders, into: Path, jobs: int, say: Say) -> Evaluation:
    """The shards that lack, then what all of them say, in the folder of the evaluation."""
    from ..delivery import outputs
    from ..evaluating import answers, running, summarized
    from ..report import evaluation as report

    if not answers.can_write():
        say(answers.MISSING)
    with outputs.claimed(into, say, "--into") as work:
        kept = into / "shards"
        running.shards(plan, kept, work, jobs, say)
        damaged = running.damaged(plan, kept)
        found = summarized(plan, lambda: running.read(plan, kept), damaged, read)
        if answers.can_write():
            answers.write(plan, lambda: running.read(plan, kept), work / answers.NAME)
            (work / answers.NAME).replace(into / answers.NAME)
        name = next(iter(read.values()))[0].get("model", {}).get("name", "evaluation")
        for file, content in ((report.RESULTS, report.as_json(found)), (report.PAGE, report.render(str(name), found))):
            say(f"wrote {outputs.save(content, into / file)}")
    return found


def _check_place(into: Path, data: Path) -> None:
    """Nothing is written into what a build wrote, nor among the images, where the next evaluation would look."""
    from ..delivery import manifest, outputs

    if real(data) in (real(into), *real(into).parents):
        raise ConfigError(f"--into '{into}' lies in the data, '{data}', which stay as they are. Give another folder.")

    for place in (into, *real(into).parents):
        if (place / manifest.MANIFEST).is_file() or (place / outputs.INDEX).is_file():
            raise ConfigError(
                f"--into '{into}' lies in the finished build '{place}', which stays as it is. Give another folder."
            )
