"""The command `twinkeel`; the one place that sees models, pipeline and targets."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from .errors import ConfigError, ParityError, TwinkeelError, VerifyError

if TYPE_CHECKING:
    from .artifact import Target
    from .config import Config
    from .data import Dataset
    from .judge import Say
    from .parity import Check
    from .program import Program
    from .sdk import Kit

PLATFORMS = ("android", "ios")


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
    click.echo(f"wrote {path}")


@cli.command()
@_config_option
@_out_option
def train(path: Path | None, out: Path) -> None:
    """Train or load the weights and write them as safetensors."""
    import torch
    from safetensors.torch import save_file

    from . import data, report, runner

    config = _read_config(path)
    images = data.load(config)
    torch.manual_seed(config.train.seed)
    model = _model(config)(len(images.labels), config.model.width)
    with report.progress(report.console()) as say:
        runner.get_weights(model, config, images, out, say)
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{config.project.name}.safetensors"
    save_file(model.state_dict(), target)
    click.echo(f"wrote {target}")


@cli.command()
@click.argument("platform", type=click.Choice([*PLATFORMS, "all"]))
@_config_option
@_out_option
def build(platform: str, path: Path | None, out: Path) -> None:
    """Build every artifact of a platform, or of all, and prove it against torch."""
    from . import html_report, report, runner

    _quiet_converters()
    config = _read_config(path)
    console = report.console()
    platforms = PLATFORMS if platform == "all" else (platform,)
    with report.progress(console) as say:
        results = runner.build(config, _targets(), _kits(), _model(config), platforms, out, say)
        written = html_report.write(config.project.name, results, _targets(), out, say)
    for result in results:
        report.print_result(result, console)
    if len(results) > 1:
        from .compare import compare as compare_folders

        report.print_comparison(compare_folders([r.folder for r in results], _targets()), console)
    console.print(f"wrote {written}", markup=False)
    failed = [f"'{r.folder}': {len(report.failures(r))}" for r in results if not r.is_verified]
    if failed:
        raise ParityError(f"checks failed, and the folder is marked as failed: {', '.join(failed)}")
    for result in results:
        console.print(f"all verified: {result.folder}")


@cli.command()
@_config_option
@_out_option
@click.option("--images", type=click.IntRange(1), default=64, show_default=True, help="Calibration images to use.")
def sensitivity(path: Path | None, out: Path, images: int) -> None:
    """Measure what each layer loses in int8; writes a table and a picture."""
    from . import data, report
    from . import sensitivity as stage

    _quiet_converters()
    config = _read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = _ungated_program(config, out, say)
        found = stage.measure(program, data.rgba(loaded.calibration.images[:images]), say)
    stage.write(found, out)
    report.print_sensitivity(found, console)
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@cli.command()
@_config_option
@_out_option
def calibration(path: Path | None, out: Path) -> None:
    """Measure how int8 depends on the number of calibration images; writes a table and a picture."""
    from . import calibration as stage
    from . import ladder, report

    _quiet_converters()
    config = _read_config(path)
    console = report.console()
    with report.progress(console) as say:
        program, loaded = _ungated_program(config, out, say)
        settings = ladder.settings(config)
        points = stage.curve(program.tuned, program.folded, loaded, program.contract, settings, say)
    stage.write(points, out)
    console.print(f"wrote {out / stage.TABLE} and {out / stage.PICTURE}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--device-results", type=click.Path(path_type=Path), help="File that a kit's test on a device wrote.")
def parity(folder: Path, device_results: Path | None) -> None:
    """Run the artifacts of a finished folder on its golden inputs and compare, from its files alone.

    With --device-results nothing is run: what a device computed is judged, and recorded as evidence.
    """
    from . import device, manifest

    if device_results is not None:
        _print_checks(folder, device.take_in(folder, device_results))
        return
    _quiet_converters()
    _print_checks(folder, manifest.replay(folder, _targets()))


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
def compare(out: Path) -> None:
    """Compare the int8 artifacts of all runtimes below OUT, pair by pair, on the golden images."""
    from . import report
    from .compare import compare as compare_folders

    _quiet_converters()
    report.print_comparison(compare_folders(_platform_folders(out), _targets()), report.console())


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), default=Path("out"))
def drift(out: Path) -> None:
    """Compare each layer of the int8 artifacts below OUT with the quantized reference; writes a table and a picture.

    OUT holds a build's folders, or is one of them; the table and the picture are then written beside it, for a
    finished folder holds what its manifest lists and nothing else.
    """
    from . import drift as stage
    from . import manifest, report

    _quiet_converters()
    is_platform = (out / manifest.MANIFEST).is_file()
    folders = [out] if is_platform else _platform_folders(out)
    console = report.console()
    with report.progress(console) as say:
        found = stage.measure(folders, _targets(), say)
    target = out.resolve().parent if is_platform else out
    stage.write(found, target)
    report.print_drift(found, console)
    console.print(f"wrote {target / stage.TABLE} and {target / stage.PICTURE}")
    failed = [runtime.verdict for runtime in found if runtime.first is not None]
    if failed:
        raise ParityError("\n".join(failed))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def replay(folder: Path) -> None:
    """On a Mac: run the golden inputs through Core ML itself and record the evidence."""
    import platform

    from ..targets.ios import _device
    from . import device, manifest

    manifest.verify(folder)
    device.check_system(platform.system(), folder)
    machine = {"system": f"macOS {platform.mac_ver()[0]}", "machine": platform.machine()}
    _print_checks(folder, device.replay(folder, _targets(), _device.predict, machine))


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

    _quiet_converters()
    found = classify.classify(model, image, labels, repeat)
    for name, probability in found.ranking[:top]:
        click.echo(f"{100 * probability:6.2f} %  {name}")
    click.echo(f"{found.milliseconds:.1f} ms an image here, median of {repeat}; {found.source}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private Ed25519 key, a PEM file.")
def sign(folder: Path, key: Path) -> None:
    """Check the hashes of a finished folder and sign its manifest."""
    from . import signature

    click.echo(f"wrote {signature.sign(folder, key)}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="Public Ed25519 key, a PEM file: check the signature too.")
def verify(folder: Path, key: Path | None) -> None:
    """Check the hashes of a finished folder, and with --key who signed it."""
    from . import manifest, signature

    count = manifest.verify(folder)
    if key is not None:
        signature.check(folder, key)
    click.echo(f"{count} files are as the manifest says" + (", and it is signed with this key" if key else ""))


@cli.command()
@click.option("--classes", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--width", type=click.FloatRange(0, 4, min_open=True), help="Count this width only.")
@click.option("--resolution", type=click.IntRange(32, 1024), default=224, show_default=True, help="With --width.")
def models(classes: int, width: float | None, resolution: int) -> None:
    """Parameters and multiply-adds of the models, beside the published ones."""
    import torch
    from rich.table import Table

    from ..model import mobilenet_v2
    from ..model.count import count, published
    from . import report

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
        click.echo(f"{name}: {', '.join(target.PRECISIONS)}")


def main() -> None:
    """Entry point: a `TwinkeelError` becomes one message and an exit code."""
    try:
        cli(standalone_mode=True)
    except TwinkeelError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


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


def _print_checks(folder: Path, results: list[tuple[str, list[Check]]]) -> None:
    """One line a check; a ParityError where one is not met."""
    failed = 0
    for name, checks in results:
        for check in checks:
            click.echo(f"{'ok    ' if check.is_met else 'FAILED'} {name}: {check}")
            failed += not check.is_met
    if failed:
        raise ParityError(f"{failed} checks of '{folder}' failed")


def _read_config(path: Path | None) -> Config:
    from . import config

    default = Path("twinkeel.toml")
    read = config.load(path if path is not None else default if default.is_file() else None)
    config.check_targets(read, {name: target.PRECISIONS for name, target in _targets().items()})
    return read


def _model(config: Config) -> Any:
    create = importlib.import_module(f"twinkeel.model.{config.model.name}").create
    return functools.partial(create, activation=config.model.activation)


def _ungated_program(config: Config, out: Path, say: Say) -> tuple[Program, Dataset]:
    """The program and its images as the configuration asks for them, to be looked at whatever int8 is worth."""
    from . import data, runner

    loaded = data.load(config)
    program, _ = runner.make_program(config, loaded, _model(config), out, say, is_gated=False)
    return program, loaded


def _platform_folders(out: Path) -> list[Path]:
    """The platforms' folders below `out`; a VerifyError where there is none."""
    folders = [out / platform for platform in PLATFORMS if (out / platform).is_dir()]
    if not folders:
        raise VerifyError(f"'{out}' holds no finished build. `twinkeel build all` makes one.")
    return folders


def _quiet_converters() -> None:
    """Bars and warnings of the converters that mean nothing to a user: optional GPU kernels, C++ log set-up."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
