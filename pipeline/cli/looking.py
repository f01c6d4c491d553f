"""Commands that look into a model, or run one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

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
    from ..stages import ladder
    from ..store import workers

    workers.quieten()
    config = common.read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = common.ungated_program(config, store_url, out, say)
        settings = ladder.settings(config)
        points = stage.curve(program.tuned, program.folded, loaded, program.contract, settings, say)
    outputs.add(out, stage.files(points))
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), help="Class names, one a line, where the model has none.")
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
@click.option("--classes", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@click.option("--width", type=common.FiniteRange(0, 4, min_open=True), help="Count this width only.")
@click.option("--resolution", callback=common.size, default="224", show_default=True, help="With --width: N or HxW.")
def models(classes: int, width: float | None, resolution: tuple[int, int]) -> None:
    """Parameters and multiply-adds of the models, beside the published ones."""
    from ..report import terminal as report

    for name, source in architectures.sources().items():
        report.console().print(_counted(name, source, classes, width, resolution))


def _counted(
    name: str, source: architectures.Source, classes: int, width: float | None, resolution: tuple[int, int]
) -> Table:
    """Of an architecture at one width, or at all that are published."""
    import functools
    import importlib

    import torch
    from rich.table import Table

    from ...model.count import count, published

    create = functools.partial(importlib.import_module(source.module).create, **source.options)
    known = {(row.width, (row.resolution, row.resolution)): row for row in published(name)}
    asked = [(width, resolution)] if width is not None else list(known) or [(1.0, resolution)]
    table = Table(title=f"{name}, {classes} classes")
    for heading in (
        "width",
        "resolution",
        "parameters",
        "multiply-adds",
        "published parameters",
        "published MMAdds",
        "top-1",
    ):
        table.add_column(heading, justify="right")
    for w, size in asked:
        with torch.device("meta"):
            found = count(create(classes, w), *size)
        row = known.get((w, size)) if classes == 1000 else None
        beside = (f"{row.parameters:,}", str(row.mega_multiply_adds), f"{row.top1} %") if row else ("", "", "")
        table.add_row(str(w), common.shown_size(size), f"{found.parameters:,}", f"{found.multiply_adds:,}", *beside)
    return table


@click.command(name="targets")
def list_targets() -> None:
    """The targets and their precisions."""
    for name, target in common.targets().items():
        common.echo(f"{name}: {', '.join(target.PRECISIONS)}")


TITLE = "Look into a model"
COMMANDS = (sensitivity, calibration, run, models, list_targets)
