"""Commands that look into a model, or run one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, nearest
from . import architectures, common

if TYPE_CHECKING:
    from rich.table import Table

    pass


@click.command()
@common.config_option
@common.out_option
@common.store_option
@click.option("--images", type=click.IntRange(1), default=64, show_default=True, help="Calibration images to use.")
def sensitivity(path: Path | None, out: Path, store_url: str | None, images: int) -> None:
    """Measure what each layer loses in int8; writes a table and a picture."""
    from ..delivery import outputs
    from ..parity import sensitivity as stage
    from ..report import terminal as report
    from ..store import workers

    workers.quieten()
    config = common.read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = common.ungated_program(config, store_url, out, say)
        found = stage.measure(program, loaded.calibration.inputs[:images], say)
    outputs.add(out, stage.files(found))
    report.print_sensitivity(found, console)
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@click.command()
@common.config_option
@common.out_option
@common.store_option
def calibration(path: Path | None, out: Path, store_url: str | None) -> None:
    """Measure how int8 depends on the number of calibration images; writes a table and a picture."""
    from ..delivery import outputs
    from ..report import terminal as report
    from ..stages import calibration as stage
    from ..stages import candidates
    from ..store import workers

    workers.quieten()
    config = common.read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = common.ungated_program(config, store_url, out, say)
        settings = candidates.settings(config)
        points = stage.curve(program.tuned, program.folded, loaded, program.contract, settings, say)
    outputs.add(out, stage.files(points))
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@click.command()
@click.argument("model", type=common.Place())
@click.argument("image", type=common.Place())
@click.option("--labels", type=common.Place(), help="Class names, one a line, where the model has none.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes to print.")
@click.option("--repeat", type=click.IntRange(1), default=10, show_default=True, help="Runs that are timed.")
def run(model: Path, image: Path, labels: Path | None, top: int, repeat: int) -> None:
    """Classify an image with a Core ML package, on any machine.

    MODEL is an .mlpackage of any origin, or a .pte with a Core ML payload.
    """
    from ...targets.ios import classify
    from ..store import workers

    workers.quieten()
    found = classify.classify(model, image, labels, repeat)
    for name, probability in found.ranking[:top]:
        common.echo(f"{100 * probability:6.2f} %  {name}")
    common.echo(f"{found.milliseconds:.1f} ms an image here, median of {repeat}; {found.source}")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--classes", type=click.IntRange(1, 1_000_000), help="As published by default, or 1000.")
@click.option("--width", type=common.FiniteRange(0, 4, min_open=True), help="Count this width only.")
@click.option(
    "--resolution", callback=common.size, help="Count this size only, N or HxW; with --width alone the network's own."
)
def models(
    names: tuple[str, ...], classes: int | None, width: float | None, resolution: tuple[int, int] | None
) -> None:
    """Parameters and multiply-adds of the models, beside the published ones.

    NAMES are those that `model.name` takes; all of them by default.
    """
    from ..report import terminal as report

    known = architectures.sources()
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown architecture '{name}'. {nearest(name, known)}")
    for name in names or known:
        report.console().print(_counted(name, known[name], classes, width, resolution))


def _counted(
    name: str,
    source: architectures.Source,
    classes: int | None,
    width: float | None,
    resolution: tuple[int, int] | None,
) -> Table:
    """Of an architecture at one width and size, or at all that are published."""
    import functools
    import importlib

    import torch
    from rich.table import Table

    from ...model.count import count, published, usual_classes

    create = functools.partial(importlib.import_module(source.module).create, **source.options)
    known = {(row.width, (row.resolution, row.resolution)): row for row in published(name)}
    own = source.defaults.get("model", {}).get("resolution")
    size = resolution or ((own, own) if own else (224, 224))
    is_asked = width is not None or resolution is not None
    asked = [(1.0 if width is None else width, size)] if is_asked else list(known) or [(1.0, size)]
    number = classes or usual_classes(source.module.rpartition(".")[2])
    table = Table(title=f"{name}, {number} classes")
    for heading in (
        "width",
        "resolution",
        "parameters",
        "multiply-adds",
        "published parameters",
        "published MMAdds",
        "published score",
    ):
        table.add_column(heading, justify="right")
    for w, size in asked:
        with torch.device("meta"):
            found = count(create(number, w), *size)
        row = known.get((w, size))
        beside = ("", "", "")
        if row is not None and row.classes == number:
            score = "" if row.score is None else f"{row.score} % {row.metric}"
            beside = (f"{row.parameters:,}", str(row.mega_multiply_adds), score)
        table.add_row(str(w), common.shown_size(size), f"{found.parameters:,}", f"{found.multiply_adds:,}", *beside)
    return table


@click.command(name="targets")
def list_targets() -> None:
    """The targets and their precisions."""
    for name, target in common.targets().items():
        common.echo(f"{name}: {', '.join(target.PRECISIONS)}")


TITLE = "Look into a model"
COMMANDS = (sensitivity, calibration, run, models, list_targets)
