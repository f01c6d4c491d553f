"""The networks that `[model] name` takes, found in the sources of `model/` without importing them: that takes torch."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..building import Architecture, Exported, Factory, Zoo
    from ..config import Config

_SETTINGS = ("activation", "padding")
"""Of `[model]`: what a network's ``create`` may take beside the number of classes and the width."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the source of a network says.

    Attributes:
        module: dotted name.
        settings: which of `_SETTINGS` apply to it.
        defaults: by section of the configuration, what settings are that the user does not give.
        options: what ``create`` is given beside.
        says_outputs: whether its function ``outputs`` gives what ``[[output]]`` is where the user does not say.
    """

    module: str
    settings: tuple[str, ...]
    defaults: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    says_outputs: bool = False


def sources() -> dict[str, Source]:
    """Of every module of `model/` that has a function ``create``, by name: the file's, or those in its ``RESOLUTIONS``."""
    package = importlib.import_module("twinkeel.model")
    found: dict[str, Source] = {}
    for path in sorted(path for folder in package.__path__ for path in Path(folder).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        create, says_outputs = functions.get("create"), "outputs" in functions
        if create is None:
            continue
        module, arguments = f"{package.__name__}.{path.stem}", [a.arg for a in create.args.args]
        settings = tuple(name for name in _SETTINGS if name in arguments)
        defaults: dict[str, dict[str, Any]] = _literal(tree, "DEFAULTS")
        resolutions: dict[str, int] = _literal(tree, "RESOLUTIONS")
        for name, resolution in resolutions.items():
            own = {**defaults, "model": {**defaults.get("model", {}), "resolution": resolution}}
            options = {"name": name}
            found[name] = Source(
                module=module, settings=settings, defaults=own, options=options, says_outputs=says_outputs
            )
        if not resolutions:
            found[path.stem] = Source(
                module=module, settings=settings, defaults=defaults, options={}, says_outputs=says_outputs
            )
    return dict(sorted(found.items()))


def _literal(tree: ast.Module, name: str) -> dict[str, Any]:
    """The value of a name in a module; empty without it."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == [name]:
            value: dict[str, Any] = ast.literal_eval(node.value)
            return value
    return {}


def checked(config: Config, known: Mapping[str, Source] | None = None) -> Config:
    """The configuration with the network's own defaults for what it does not say.

    Args:
        known: what `sources` gives, where it is asked for many configurations.

    Raises:
        ConfigError: there is no such network, it does not take a setting that is given, or its package is not installed.
        WeightsError: an exported program cannot be read.
    """
    from .. import config as settings
    from ..building import Zoo

    if config.model.factory is not None:
        name = stem(config.model.factory.rpartition(":")[2])
        return settings.with_defaults(config, {"project": {"name": name}, "model": {"name": name}})
    if config.model.exported is not None:
        return _of_program(config, Path(config.model.exported))
    if config.model.given_by:
        return _of_zoo(config, Zoo.of(config.model.name, config.model.arguments))
    known = sources() if known is None else known
    usual = settings.Model.model_fields["task"].default
    settings.check_model(
        config,
        {name: source.settings for name, source in known.items()},
        _SETTINGS,
        {name: source.defaults.get("model", {}).get("task", usual) for name, source in known.items()},
    )
    source = known[config.model.name]
    found = settings.with_defaults(config, {"project": {"name": config.model.name}, **source.defaults})
    if not source.says_outputs:
        return found
    said = importlib.import_module(source.module).outputs(*found.model.size, **source.options)
    return settings.with_outputs(found, said)


def _of_zoo(config: Config, zoo: Zoo) -> Config:
    from .. import config as settings

    said = zoo.defaults()
    size = said.get("model", {}).get("resolution")
    if size is not None and "resolution" not in config.model.model_fields_set and not _is_resolution(size):
        raise ConfigError(f"model.resolution: {zoo.package} says {size} for '{zoo}', which it cannot be; set it")
    return settings.with_defaults(config, {"project": {"name": stem(zoo.name)}, **said})


def _of_program(config: Config, path: Path) -> Config:
    """With the resolution that an exported program was made for."""
    from .. import config as settings
    from ..program import CHANNELS
    from ..stages import pt2_file

    _, channels, height, width = pt2_file.read(path).shape
    if channels != len(CHANNELS[config.data.channels]):
        known = " or ".join(f"'{name}'" for name, rows in CHANNELS.items() if len(rows) == channels)
        raise ConfigError(
            f"data.channels is '{config.data.channels}', and the program '{path}' takes {channels}: set it to {known}"
        )
    size = height if height == width else [height, width]
    if not _is_resolution(size):
        raise ConfigError(f"model.exported: '{path}' takes {height} x {width} pixels, which model.resolution cannot be")
    if "resolution" in config.model.model_fields_set and config.model.resolution != size:
        raise ConfigError(
            f"model.resolution is {config.model.resolution}, and the program '{path}' was exported for {size}: leave it out"
        )
    asked, taken = [tuple(one.shape) for one in config.input], pt2_file.read(path).tensors
    if asked != taken:
        raise ConfigError(
            f"the program '{path}' takes {taken or 'nothing'} beside the image, and [[input]] names {asked or 'none'}: give name, shape and "
            "range of each, in this order"
        )
    name = stem(path.stem)
    return settings.with_defaults(config, {"project": {"name": name}, "model": {"name": name, "resolution": size}})


def _is_resolution(size: Any) -> bool:
    from .. import config as settings

    try:
        settings.Model.model_validate({"resolution": size})
    except ValueError:
        return False
    return True


def stem(text: str) -> str:
    """A name as artifacts' files may have it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text).strip("_-")[:64] or "model"


def told(config: Config) -> str:
    """What a build says of a network of others: its settings, and whose they are; empty for others."""
    from ..building import Zoo

    if config.model.given_by != "name":
        return ""
    zoo = Zoo.of(config.model.name, config.model.arguments)
    return zoo.told(config.model.resolution, config.data.mean, config.data.std)


def architecture(config: Config, known: Mapping[str, Source] | None = None) -> Architecture | Factory | Zoo | Exported:
    """What makes the model.

    Args:
        known: as of `checked`.

    Raises:
        ConfigError: there is no such file or module as `model.factory` names.
        WeightsError: there is no such file as `model.exported` names.
    """
    from ..building import Architecture, Exported, Factory, Zoo

    if config.model.exported is not None:
        return Exported.of(config.model.exported)
    if config.model.factory is not None:
        return Factory.of(config.model.factory, config.model.arguments)
    if config.model.given_by:
        return Zoo.of(config.model.name, config.model.arguments)
    known = sources() if known is None else known
    source = known[config.model.name]
    given = {name: getattr(config.model, name) for name in source.settings}
    task = source.defaults.get("model", {}).get("task")
    makes = {
        name: Architecture(module=one.module, options=one.options)
        for name, one in known.items()
        if one.defaults.get("model", {}).get("task") == task
    }
    return Architecture(module=source.module, options={**given, **source.options}, makes=makes)
