"""What several commands take, find and say."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ..errors import ConfigError, ParityError
from . import architectures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ..config import Config
    from ..data import Dataset
    from ..delivery import Kit
    from ..parity import Check
    from ..program import Program, Target
    from ..report import Built
    from ..saying import Say
    from ..stages import World
    from ..store import Store

PLATFORMS = ("android", "ios")


class FiniteRange(click.FloatRange):
    """A range of numbers: NaN is in every range of click's, and infinity in those without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


_EMPTY = "it is empty. Is a variable not set?"


class Place(click.Path):
    """A file or a folder, and not what a variable that is not set gives: the working directory is ``.``."""

    def __init__(self, *, is_folder: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=not is_folder)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(f"{_EMPTY} '.' is the working directory.", param, ctx)
        return super().convert(value, param, ctx)


class StoreUrl(click.types.StringParamType):
    """A folder or an address, which is not empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(
                f"{_EMPTY} 'none' keeps nothing, and without --store it is where the configuration says.", param, ctx
            )
        return super().convert(value, param, ctx)


class Share(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A share: ``0.05`` or ``5%``, at `most` 10."""

    name = "share"

    def __init__(self, most: float = 10) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text!r} is no share: 5%, or 0.05.", param, ctx)
        if not 0 <= share <= self.most:
            self.fail(f"{text!r} is {share:g}, and a share is 0 to {self.most:g} here: 5%, or 0.05.", param, ctx)
        return share


def size(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Height and width of an input, from ``N`` or ``HxW``; None where it was not given."""
    from ..config import SIDES

    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    sides = [int(side) for side in found.groups(found[1])] if found else []
    if not sides or not all(SIDES[0] <= side <= SIDES[1] for side in sides):
        raise click.BadParameter(f"{text!r} is no size: N, or HxW, each {SIDES[0]} to {SIDES[1]} pixels.")
    return sides[0], sides[1]


def shown_size(size: tuple[int, int]) -> str:
    """As `size` takes it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def config_option(function: Any) -> Any:
    kind = Place()
    return click.option(
        "-c", "--config", "path", type=kind, help="twinkeel.toml; without it ./twinkeel.toml or the defaults."
    )(function)


def out_option(function: Any) -> Any:
    kind = Place(is_folder=True)
    return click.option("-o", "--out", type=kind, default=Path("out"), show_default=True, help="Output folder.")(
        function
    )


def store_option(function: Any) -> Any:
    return click.option(
        "--store",
        "store_url",
        type=StoreUrl(),
        envvar="TWINKEEL_STORE",
        help="Where results are kept, a folder or an address that fsspec knows; 'none' keeps nothing.",
    )(function)


def echo(text: str, *, is_error: bool = False) -> None:
    """A line to the stream as it is: click would write UTF-8 to one that takes ASCII alone."""
    click.echo(text, file=sys.stderr if is_error else sys.stdout)


def targets() -> dict[str, Target]:
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


def kits() -> dict[str, Kit]:
    """The package ``sdk`` of every platform."""
    return {p: cast("Kit", importlib.import_module(f"twinkeel.targets.{p}.sdk")) for p in PLATFORMS}


def print_checks(folders: Sequence[Path], results: list[tuple[str, list[Check]]]) -> None:
    """One line a check, then what the build counted on all images; a ParityError where a check is not met, here or where
    the folder was built or ran before."""
    from ..delivery import manifest
    from ..reading import shown

    tell_passed_over(folders)
    failed = 0
    for name, checks in results:
        for check in checks:
            echo(f"{'ok    ' if check.is_met else 'FAILED'} {name}: {check}")
            failed += not check.is_met
    marked = []
    for folder in folders:
        content = manifest.read_manifest(folder)
        for line in manifest.counted(content):
            echo(f"build  {line}")
        for line in content.get("doubts", []):
            echo(f"build  WARNING {shown(line, 1000)}")
        if unmet := manifest.unmet(content):
            marked.append(f"'{folder}' is marked as failed: " + "; ".join(unmet[:5]) + ("; ..." if unmet[5:] else ""))
    names = ", ".join(f"'{folder}'" for folder in folders)
    failures = [f"{failed} checks of {names} failed"] if failed else []
    if failures or marked:
        raise ParityError("\n".join([*failures, *marked]))


def tell_built(built: Built, out: Path, console: Console, *, is_json: bool) -> None:
    """Print what was built; a ParityError where checks failed."""
    from ..report import headline
    from ..report import terminal as report

    for result in built.results:
        report.print_result(result, console)
    if is_json:
        echo(report.as_json(built))
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
        console.print(f"{headline(result.rows)}: {result.folder}", markup=False)


def read_config(path: Path | None) -> Config:
    from .. import config

    default = Path("twinkeel.toml")
    # a link that leads nowhere is no configuration that is not there
    chosen = path if path is not None else default if default.is_file() or default.is_symlink() else None
    loaded = config.load(chosen)
    try:
        return checked(loaded)
    except ConfigError as error:
        raise ConfigError(f"{chosen}: {error}") from error


def checked(
    config: Config,
    networks: Mapping[str, architectures.Source] | None = None,
    known: Mapping[str, Target] | None = None,
) -> Config:
    """With the model's own defaults; a ConfigError where it names a model, a task or a target that there is not.

    Args:
        networks: of `architectures.sources`; it and `known`, of `targets`, where many configurations are checked.
    """
    from .. import tasks
    from ..config import check_outputs, check_source, check_targets, with_defaults

    found = architectures.checked(config, networks)
    task = tasks.named(found.model.task)
    found = with_defaults(found, task.DEFAULTS)
    check_outputs(found)
    check_source(found, task.SOURCES)
    known = targets() if known is None else known
    check_targets(found, {name: target.PRECISIONS for name, target in known.items()})
    return found


def check_processes(world: World, config: Config) -> None:
    """Raise in process 0, and end the others, where they cannot train together as the configuration says."""
    from ..stages import distributed, train

    world.check_same(_compared(config))
    with world.alike():
        distributed.check_batch(world, config.train.batch_size, config.train.accumulate)
        device = train.device_of(config.train.device)
        distributed.check_device(world, device)
    world.check_same({"train.device, as it is found": device.type})


def _compared(config: Config) -> dict[str, object]:
    """Settings that have to be the same on every machine: not where files lie, whose content is compared."""
    places = {"path", "calibration_path", "labels", "factory", "exported"}
    found: dict[str, object] = {}
    for name in ("model", "data", "weights", "train", "detection"):
        section = getattr(config, name).model_dump(exclude=places)
        found |= {f"{name}.{key}": value for key, value in section.items()}
    return found | {name: [one.model_dump() for one in getattr(config, name)] for name in ("input", "output")}


def ungated_program(config: Config, store_url: str | None, out: Path, say: Say) -> tuple[Program, Dataset]:
    """The program and its images as the configuration asks for them, to be looked at whatever int8 is worth."""
    from ..building import runner

    return runner.ungated_program(config, architectures.architecture(config), store_of(config, store_url), out, say)


def store_of(config: Config, url: str | None) -> Store | None:
    """By the command, the environment, the configuration, or where this user's caches lie; None for 'none'."""
    from ..store import Store

    if url == "none":
        return None
    if not (chosen := url or config.store.url):
        import platformdirs

        chosen = str(platformdirs.user_cache_path("twinkeel") / "store")
    return Store(chosen)


def given_store(path: Path | None, url: str | None) -> Store:
    store = store_of(read_config(path), url)
    if store is None:
        raise ConfigError("--store none is no store. Give a folder or an address, or leave --store out.")
    return store


def platform_folders(out: Path) -> list[Path]:
    """The platforms' folders below `out`; a VerifyError where there is none."""
    from ..delivery import faults

    folders = [out / platform for platform in PLATFORMS if (out / platform).is_dir()]
    if not folders:
        raise faults.no_build(out)
    return folders


def tell_passed_over(folders: Sequence[Path]) -> None:
    """A line on what other programs left in finished folders, where there is anything."""
    from ..delivery import manifest

    tell_strays([f"{folder.name}/{name}" for folder in folders for name in manifest.passed_over(folder)])


def tell_strays(names: Sequence[str]) -> None:
    """A line on these names."""
    from ..reading import shown

    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        echo(f"passed over, as other programs leave such files: {', '.join(map(shown, names[:5]))}{more}")
