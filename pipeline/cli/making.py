"""Commands that make: a configuration, weights, and the artifacts of both platforms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from . import architectures, common, unchanged
from .sweeping import sweep

if TYPE_CHECKING:
    from ..building import Order
    from ..stages import World
    from ..store import Store


@click.command()
@click.argument("path", type=common.Place(), default=Path("twinkeel.toml"))
def init(path: Path) -> None:
    """Write a commented twinkeel.toml with every setting at its default."""
    from .. import config

    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(config.template())
    except FileExistsError as error:
        raise ConfigError(
            f"'{path}' exists already; it is left as it is. Name another file: twinkeel init PATH"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot write '{path}': {error}") from error
    common.echo(f"wrote {path}")


@click.command()
@common.config_option
@common.out_option
@common.store_option
@click.option(
    "--checkpoints",
    type=common.Place(is_folder=True),
    help="Folder for the state after each epoch, which the same command goes on from; of this user's caches without it.",
)
def train(path: Path | None, out: Path, store_url: str | None, checkpoints: Path | None) -> None:
    """Train or load the weights and write them as safetensors, with a picture of the images that the model is given; under torchrun in several
    processes."""
    from ..delivery import outputs
    from ..stages import ALONE, distributed

    if distributed.is_asked_for():
        with distributed.joined() as world:
            files = _trained(world, path, out, store_url, checkpoints)
            if not world.is_leader:
                return
    else:
        files = _trained(ALONE, path, out, store_url, checkpoints)
    outputs.add(out, files)
    for name in sorted(files):
        common.echo(f"wrote {out / name}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the folder '{path}': {error}. Choose another one with --checkpoints."
        ) from error


def _trained(
    world: World, path: Path | None, out: Path, store_url: str | None, checkpoints: Path | None
) -> dict[str, bytes]:
    """Files by name; none where another process leads."""
    from ..building import runner
    from ..report import terminal as report

    with world.alike():
        config = common.read_config(path)
        create = architectures.architecture(config)
        store = common.store_of(config, store_url)
        if checkpoints is not None and world.is_leader:
            _make_folder(checkpoints)
    if world.size > 1:
        common.check_processes(world, config)
    if not world.is_leader:
        return runner.weights(config, create, store, out, lambda *_: None, world)
    with report.progress(report.console()) as say:
        return runner.weights(config, create, store, out, say, world, checkpoints)


@click.command()
@click.argument("platform", type=click.Choice([*common.PLATFORMS, "all"]))
@common.config_option
@common.out_option
@common.store_option
@click.option(
    "--minutes",
    type=common.FiniteRange(0),
    help="For methods of quantization that cost nothing at run time, 0 for none; [quantize] minutes without it.",
)
@click.option("--jobs", type=click.IntRange(1), help="Worker processes; by cores and memory without it.")
@click.option("--explain", is_flag=True, help="Say what would run and why, and do nothing.")
@click.option("--json", "is_json", is_flag=True, help="The result as JSON on standard output, progress elsewhere.")
@click.option("--quiet", is_flag=True, help="Nothing but errors.")
def build(
    platform: str,
    path: Path | None,
    out: Path,
    store_url: str | None,
    minutes: float | None,
    jobs: int | None,
    explain: bool,
    is_json: bool,
    quiet: bool,
) -> None:
    """Build every artifact of a platform, or of all, and prove it against torch."""
    from ..building import order, runner
    from ..report import page as html_report
    from ..report import terminal as report
    from ..store import workers

    if explain and quiet and not is_json:
        raise click.UsageError("--explain prints and --quiet does not: give one of the two, or --json as well.")

    def asked_for(*, only_looks: bool = False) -> tuple[Store | None, bool]:
        """One pass; the store, and whether there was nothing to do, in `out` neither."""
        workers.quieten()
        config = common.read_config(path)
        if minutes is not None:
            config = config.model_copy(update={"quantize": config.quantize.model_copy(update={"minutes": minutes})})
        console = report.console(is_error=is_json, is_quiet=quiet)
        platforms = common.PLATFORMS if platform == "all" else (platform,)
        store = common.store_of(config, store_url)
        with report.progress(console) as say:
            if told := architectures.told(config):
                say(told)
            asked = order.checked(
                config,
                common.targets(),
                common.kits(),
                architectures.architecture(config),
                platforms,
                out,
                html_report.render,
                say,
            )
            if explain:
                _explain(asked, store, is_json=is_json)
                return store, True
            if only_looks and store is not None:
                built = runner.look(asked, store, say)
            else:
                built = runner.build(asked, store, say, None, jobs)
        common.tell_built(built, out, console, is_json=is_json)
        return store, not (built.ran or built.is_placed)

    with unchanged.heard() as said:
        store, is_idle = asked_for()
    if not explain and store is not None:
        unchanged.keep(said, str(out), store.folder, None if is_idle else lambda: asked_for(only_looks=True))


def _explain(asked: Order, store: Store | None, *, is_json: bool) -> None:
    """Print what a build would do."""
    import json
    import tempfile
    from dataclasses import asdict

    from ..building import explain
    from ..store import Store, Workshop

    with tempfile.TemporaryDirectory() as scratch:
        lines = list(explain(asked, Workshop(store=store, scratch=Store(scratch))))
    if is_json:
        common.echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    for line in lines:
        state = "may run" if line.is_open else "runs" if line.why else "kept"
        common.echo(f"{state:7}  {line.name}{f': {line.why}' if line.why else ''}")
    runs, may = sum(bool(line.why) for line in lines), sum(line.is_open for line in lines)
    if not runs:
        common.echo(f"nothing to do: all {len(lines)} are there")
        return
    more = f", {may} more as far as these come out different" if may else ""
    common.echo(f"{runs - may} of {len(lines)} jobs would run{more}")


TITLE = "Build"
COMMANDS = (build, init, train, sweep)
