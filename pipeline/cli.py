"""The command `twinkeel`; the one place that sees models, pipeline and targets."""

from __future__ import annotations

import contextlib
import importlib
import math
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from . import streams
from .errors import ConfigError, ParityError, TwinkeelError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .build import Architecture, Order
    from .config import Config
    from .data import Dataset
    from .delivery import Kit
    from .parity import Check
    from .program import Program, Target
    from .saying import Say
    from .store import Store

PLATFORMS = ("android", "ios")


class FiniteRange(click.FloatRange):
    """A range of numbers: NaN is in every range of click's, and infinity in those without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def _config_option(function: Any) -> Any:
    kind = click.Path(path_type=Path)
    return click.option(
        "-c", "--config", "path", type=kind, help="twinkeel.toml; without it ./twinkeel.toml or the defaults."
    )(function)


def _out_option(function: Any) -> Any:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("-o", "--out", type=kind, default=Path("out"), show_default=True, help="Output folder.")(
        function
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="twinkeel")
def cli() -> None:
    """One torch vision model in; verified Android and iOS artifacts out."""


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("twinkeel.toml"))
def init(path: Path) -> None:
    """Write a commented twinkeel.toml with every setting at its default."""
    from . import config

    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(config.template())
    except FileExistsError as error:
        raise ConfigError(
            f"'{path}' exists already; it is left as it is. Name another file: twinkeel init PATH"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot write '{path}': {error}") from error
    _echo(f"wrote {path}")


def _store_option(function: Any) -> Any:
    return click.option(
        "--store",
        "store_url",
        envvar="TWINKEEL_STORE",
        help="Where results are kept, a folder or an address that fsspec knows; 'none' keeps nothing.",
    )(function)


@cli.command()
@_config_option
@_out_option
@_store_option
def train(path: Path | None, out: Path, store_url: str | None) -> None:
    """Train or load the weights and write them as safetensors."""
    from .build import runner
    from .delivery import outputs
    from .report import terminal as report

    config = _read_config(path)
    with report.progress(report.console()) as say:
        files = runner.weights(config, _model(config), _store(config, store_url), out, say)
    outputs.add(out, files)
    _echo(f"wrote {out / f'{config.project.name}.safetensors'}")


@cli.command()
@click.argument("platform", type=click.Choice([*PLATFORMS, "all"]))
@_config_option
@_out_option
@_store_option
@click.option("--jobs", type=click.IntRange(1), help="Worker processes; by cores and memory without it.")
@click.option("--explain", is_flag=True, help="Say what would run and why, and do nothing.")
@click.option("--json", "is_json", is_flag=True, help="The result as JSON on standard output, progress elsewhere.")
@click.option("--quiet", is_flag=True, help="Nothing but errors.")
def build(
    platform: str,
    path: Path | None,
    out: Path,
    store_url: str | None,
    jobs: int | None,
    explain: bool,
    is_json: bool,
    quiet: bool,
) -> None:
    """Build every artifact of a platform, or of all, and prove it against torch."""
    from .build import order, runner
    from .report import page as html_report
    from .report import terminal as report
    from .store import workers

    if explain and quiet and not is_json:
        raise click.UsageError("--explain prints and --quiet does not: give one of the two, or --json as well.")
    workers.quieten()
    config = _read_config(path)
    console = report.console(is_error=is_json, is_quiet=quiet)
    platforms = PLATFORMS if platform == "all" else (platform,)
    store = _store(config, store_url)
    with report.progress(console) as say:
        asked = order.checked(config, _targets(), _kits(), _model(config), platforms, out, html_report.render, say)
        if explain:
            _explain(asked, store, is_json=is_json)
            return
        built = runner.build(asked, store, say, None, jobs)
        if store is not None and built.ran:
            runner.keep_within(store, config, say)
    for result in built.results:
        report.print_result(result, console)
    if is_json:
        _echo(report.as_json(built))
    if built.comparison is not None:
        report.print_comparison(built.comparison, console)
    for name in built.files:
        console.print(f"wrote {out / name}", markup=False)
    if not built.ran:
        console.print("nothing to do: all results were in the store", markup=False)
    failed = [f"'{r.folder}': {len(report.failures(r))}" for r in built.results if not r.is_verified]
    if failed:
        raise ParityError(f"checks failed, and the folder is marked as failed: {', '.join(failed)}")
    for result in built.results:
        count = sum(row.state == "open" for row in result.rows)
        rest = f", {count} of {len(result.rows)} artifacts with an open verdict" if count else ""
        console.print(f"all verified: {result.folder}{rest}", markup=False)


def _explain(asked: Order, store: Store | None, *, is_json: bool) -> None:
    """Print what a build would do."""
    import json
    import tempfile
    from dataclasses import asdict

    from .build import explain
    from .store import Store, Workshop

    with tempfile.TemporaryDirectory() as scratch:
        lines = list(explain(asked, Workshop(store=store, scratch=Store(scratch))))
    if is_json:
        _echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    for line in lines:
        state = "may run" if line.is_open else "runs" if line.why else "kept"
        _echo(f"{state:7}  {line.name}{f': {line.why}' if line.why else ''}")
    runs, may = sum(bool(line.why) for line in lines), sum(line.is_open for line in lines)
    if not runs:
        _echo(f"nothing to do: all {len(lines)} are there")
        return
    more = f", {may} more as far as these come out different" if may else ""
    _echo(f"{runs - may} of {len(lines)} jobs would run{more}")


@cli.group()
def cache() -> None:
    """Look at the store of results, and make it smaller."""


@cache.command(name="show")
@_config_option
@_store_option
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def show_cache(path: Path | None, store_url: str | None, is_json: bool) -> None:
    """What the store holds, and where."""
    from .report import terminal as report

    store = _given_store(path, store_url)
    report.print_usage(store.url, store.usage(), report.console(), is_json=is_json)


@cache.command(name="check")
@_config_option
@_store_option
def check_cache(path: Path | None, store_url: str | None) -> None:
    """Read every file of the store and name those that are damaged."""
    store = _given_store(path, store_url)
    usage = store.usage(is_checked=True)
    for name in usage.damaged:
        _echo(f"damaged: {name}")
    if usage.damaged:
        raise VerifyError(
            f"{len(usage.damaged)} files of the store '{store.url}' are damaged. A build that needs one makes it anew."
        )
    _echo(f"{len(usage.entries)} results, {usage.bytes:,} bytes, none damaged")


@cache.command(name="prune")
@_config_option
@_store_option
@click.option("--max-gigabytes", type=FiniteRange(0, 1e6), help="Instead of [store] max_gigabytes.")
def prune_cache(path: Path | None, store_url: str | None, max_gigabytes: float | None) -> None:
    """Drop the results that were not used for longest, until the rest fits."""
    store = _given_store(path, store_url)
    limit = _read_config(path).store.max_gigabytes if max_gigabytes is None else max_gigabytes
    dropped, freed = store.prune(int(limit * 1e9))
    _echo(f"dropped {dropped} results, {freed:,} bytes")


@cache.command(name="clear")
@_config_option
@_store_option
def clear_cache(path: Path | None, store_url: str | None) -> None:
    """Drop every result."""
    store = _given_store(path, store_url)
    store.clear()
    _echo(f"'{store.url}' is empty")


@cli.command()
@_config_option
@_out_option
@_store_option
@click.option("--images", type=click.IntRange(1), default=64, show_default=True, help="Calibration images to use.")
def sensitivity(path: Path | None, out: Path, store_url: str | None, images: int) -> None:
    """Measure what each layer loses in int8; writes a table and a picture."""
    from . import data
    from .delivery import outputs
    from .parity import sensitivity as stage
    from .report import terminal as report
    from .store import workers

    workers.quieten()
    config = _read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = _ungated_program(config, store_url, out, say)
        found = stage.measure(program, data.rgba(loaded.calibration.images[:images]), say)
    outputs.add(out, stage.files(found))
    report.print_sensitivity(found, console)
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@cli.command()
@_config_option
@_out_option
@_store_option
def calibration(path: Path | None, out: Path, store_url: str | None) -> None:
    """Measure how int8 depends on the number of calibration images; writes a table and a picture."""
    from .delivery import outputs
    from .report import terminal as report
    from .stages import calibration as stage
    from .stages import ladder
    from .store import workers

    workers.quieten()
    config = _read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = _ungated_program(config, store_url, out, say)
        settings = ladder.settings(config)
        points = stage.curve(program.tuned, program.folded, loaded, program.contract, settings, say)
    outputs.add(out, stage.files(points))
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--device-results", type=click.Path(path_type=Path), help="File that a kit's test on a device wrote.")
def parity(folder: Path, device_results: Path | None) -> None:
    """Run the artifacts of a finished folder on its golden inputs and compare, from its files alone.

    With --device-results nothing is run: what a device computed is judged, and recorded as evidence.
    """
    from .delivery import device, manifest
    from .store import workers

    if device_results is not None:
        _print_checks([folder], device.take_in(folder, device_results))
        return
    processes = workers.Workers(workers.count())
    try:
        found = manifest.replay(folder, _targets(), processes)
    finally:
        processes.shutdown(cancel_futures=True)
    _print_checks([folder], found)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
def compare(out: Path) -> None:
    """Compare the int8 artifacts of all runtimes below OUT, pair by pair, on the golden images."""
    from .delivery import compare as compare_folders
    from .report import terminal as report
    from .store import workers

    workers.quieten()
    report.print_comparison(compare_folders(_platform_folders(out), _targets()), report.console())


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
def drift(out: Path) -> None:
    """Compare each layer of the int8 artifacts below OUT with the quantized reference; writes a table and a picture.

    OUT holds a build's folders, or is one of them; the table and the picture are then written beside it, for a
    finished folder holds what its manifest lists and nothing else.
    """
    from .delivery import finished, manifest, outputs
    from .parity import drift as stage
    from .report import terminal as report
    from .store import workers

    workers.quieten()
    is_platform = (out / manifest.MANIFEST).is_file()
    folders = [out] if is_platform else _platform_folders(out)
    console = report.console()
    with report.progress(console) as say:
        found = finished.drift(folders, _targets(), say)
    target = out.resolve().parent if is_platform else out
    outputs.add(target, stage.files(found))
    report.print_drift(found, console)
    console.print(f"wrote {target / stage.TABLE} and {target / stage.PICTURE}")
    failed = [runtime.verdict for runtime in found if runtime.first is not None]
    if failed:
        raise ParityError("\n".join(failed))


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
@click.option(
    "--python",
    "command",
    help='Another Python: "ssh host python3", "docker run -i IMAGE python". It is started with `-` as its last argument, '
    "and reads a program from its standard input.",
)
@click.option("--timeout", type=FiniteRange(1), default=300, show_default=True, help="Seconds without a sign of life.")
def replay(out: Path, command: str | None, timeout: float) -> None:
    """Run the golden inputs through every runtime that is installed, and record the evidence.

    OUT holds a build's folders, or is one of them. With --python the runtimes of another Python run them: on another
    machine, or behind an emulator. It needs numpy and a runtime, and nothing of twinkeel.
    """
    from .delivery import manifest
    from .delivery import replay as stage
    from .report import terminal as report

    folders = [out] if (out / manifest.MANIFEST).is_file() else _platform_folders(out)
    with report.progress(report.console(is_error=True)) as say:
        found = stage.replay(folders, _targets(), say, command, timeout)
    _print_checks(folders, found)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), help="Class names, one a line, where the model has none.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes to print.")
@click.option("--repeat", type=click.IntRange(1), default=10, show_default=True, help="Runs that are timed.")
def run(model: Path, image: Path, labels: Path | None, top: int, repeat: int) -> None:
    """Classify an image with a Core ML package, on any machine.

    MODEL is an .mlpackage of any origin, or a .pte with a Core ML payload.
    """
    from ..targets.ios import classify
    from .store import workers

    workers.quieten()
    found = classify.classify(model, image, labels, repeat)
    for name, probability in found.ranking[:top]:
        _echo(f"{100 * probability:6.2f} %  {name}")
    _echo(f"{found.milliseconds:.1f} ms an image here, median of {repeat}; {found.source}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private Ed25519 key, a PEM file.")
def sign(folder: Path, key: Path) -> None:
    """Check the hashes of a finished folder and sign its manifest."""
    from .delivery import signature

    _echo(f"wrote {signature.sign(folder, key)}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="Public Ed25519 key, a PEM file: check the signature too.")
def verify(folder: Path, key: Path | None) -> None:
    """Check every hash of a finished folder, or of all that a build wrote, and with --key who signed it."""
    from .delivery import manifest, outputs, signature

    if (folder / outputs.INDEX).is_file():
        count = outputs.verify(folder)
        platforms = _platform_folders(folder)
    else:
        count, platforms = manifest.verify(folder), [folder]
    if key is not None:
        for platform in platforms:
            signature.check(platform, key)
    _echo(f"{count} files are as the manifest says" + (", and it is signed with this key" if key else ""))


@cli.command()
@click.option("--classes", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--width", type=FiniteRange(0, 4, min_open=True), help="Count this width only.")
@click.option("--resolution", type=click.IntRange(32, 1024), default=224, show_default=True, help="With --width.")
def models(classes: int, width: float | None, resolution: int) -> None:
    """Parameters and multiply-adds of the models, beside the published ones."""
    import torch
    from rich.table import Table

    from ..model import mobilenet_v2
    from ..model.count import count, published
    from .report import terminal as report

    known = {(row.width, row.resolution): row for row in published()}
    table = Table(title=f"{mobilenet_v2.NAME}, {classes} classes")
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
    for w, r in [(width, resolution)] if width is not None else list(known):
        with torch.device("meta"):
            found = count(mobilenet_v2.create(classes, w), r)
        row = known.get((w, r)) if classes == 1000 else None
        beside = (f"{row.parameters:,}", str(row.mega_multiply_adds), f"{row.top1} %") if row else ("", "", "")
        table.add_row(str(w), str(r), f"{found.parameters:,}", f"{found.multiply_adds:,}", *beside)
    report.console().print(table)


@cli.command(name="targets")
def list_targets() -> None:
    """The targets and their precisions."""
    for name, target in _targets().items():
        _echo(f"{name}: {', '.join(target.PRECISIONS)}")


def main() -> None:
    """Entry point: a `TwinkeelError` becomes one message and an exit code."""
    streams.prepare()
    code = 1
    with contextlib.suppress(BrokenPipeError):  # of an error that nobody reads, the exit code is left
        try:
            code = _run()
        except click.ClickException as error:
            code = error.exit_code
            error.show(file=sys.stderr)
        except click.Abort:
            _echo("stopped", is_error=True)
        except TwinkeelError as error:
            code = error.exit_code
            _echo(f"error: {error}", is_error=True)
    sys.exit(code)


def _run() -> int:
    """The command, and all of its output written: as Python ends, what cannot be is beyond every error."""
    try:
        return cli.main(standalone_mode=False) or 0
    finally:
        sys.stdout.flush()


def _echo(text: str, *, is_error: bool = False) -> None:
    """A line to the stream as it is: click would write UTF-8 to one that takes ASCII alone."""
    click.echo(text, file=sys.stderr if is_error else sys.stdout)


def _targets() -> dict[str, Target]:
    """Every module below `targets/<platform>/` whose name has no leading underscore."""
    found: dict[str, Target] = {}
    for platform in PLATFORMS:
        package = importlib.import_module(f"twinkeel.targets.{platform}")
        for entry in pkgutil.iter_modules(package.__path__):
            if not entry.name.startswith("_") and not entry.ispkg:
                module = importlib.import_module(f"{package.__name__}.{entry.name}")
                if hasattr(module, "NAME"):  # a tool that lives beside the targets has none
                    found[module.NAME] = cast("Target", module)
    return found


def _kits() -> dict[str, Kit]:
    """The package ``sdk`` of every platform."""
    return {p: cast("Kit", importlib.import_module(f"twinkeel.targets.{p}.sdk")) for p in PLATFORMS}


def _print_checks(folders: Sequence[Path], results: list[tuple[str, list[Check]]]) -> None:
    """One line a check, then what the build counted on all images; a ParityError where a check is not met, here or where
    the folder was built or ran before."""
    from .delivery import manifest
    from .reading import shown

    failed = 0
    for name, checks in results:
        for check in checks:
            _echo(f"{'ok    ' if check.is_met else 'FAILED'} {name}: {check}")
            failed += not check.is_met
    marked = []
    for folder in folders:
        content = manifest.read_manifest(folder)
        for line in manifest.counted(content):
            _echo(f"build  {line}")
        for line in content.get("doubts", []):
            _echo(f"build  WARNING {shown(line, 1000)}")
        if unmet := manifest.unmet(content):
            marked.append(f"'{folder}' is marked as failed: " + "; ".join(unmet[:5]) + ("; ..." if unmet[5:] else ""))
    names = ", ".join(f"'{folder}'" for folder in folders)
    failures = [f"{failed} checks of {names} failed"] if failed else []
    if failures or marked:
        raise ParityError("\n".join([*failures, *marked]))


def _read_config(path: Path | None) -> Config:
    from . import config

    default = Path("twinkeel.toml")
    read = config.load(path if path is not None else default if default.is_file() else None)
    config.check_targets(read, {name: target.PRECISIONS for name, target in _targets().items()})
    return read


def _model(config: Config) -> Architecture:
    from .build import Architecture

    return Architecture(module=f"twinkeel.model.{config.model.name}", options={"activation": config.model.activation})


def _ungated_program(config: Config, store_url: str | None, out: Path, say: Say) -> tuple[Program, Dataset]:
    """The program and its images as the configuration asks for them, to be looked at whatever int8 is worth."""
    from .build import runner

    return runner.ungated_program(config, _model(config), _store(config, store_url), out, say)


def _store(config: Config, url: str | None) -> Store | None:
    """By the command, the environment, the configuration, or where this user's caches lie; None for 'none'."""
    from .store import Store

    if url == "none":
        return None
    if not (chosen := url or config.store.url):
        import platformdirs

        chosen = str(platformdirs.user_cache_path("twinkeel") / "store")
    return Store(chosen)


def _given_store(path: Path | None, url: str | None) -> Store:
    store = _store(_read_config(path), url)
    if store is None:
        raise ConfigError("--store none is no store. Give a folder or an address, or leave --store out.")
    return store


def _platform_folders(out: Path) -> list[Path]:
    """The platforms' folders below `out`; a VerifyError where there is none."""
    folders = [out / platform for platform in PLATFORMS if (out / platform).is_dir()]
    if not folders:
        raise VerifyError(f"'{out}' holds no finished build. `twinkeel build all` makes one.")
    return folders
