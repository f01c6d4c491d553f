"""From Python: a model and images in memory, and what became of them."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError, nearest
from . import architectures, common

if TYPE_CHECKING:
    from torch import nn

    from ..config import Config
    from ..report import Outcome

_WHERE = "twinkeel.build"
_SECTIONS = ("project", "data", "train", "quantize", "android", "ios", "parity", "targets", "input", "output", "limit")
"""Of the configuration, that are taken as keywords; the model and its weights are there, and the store is an argument."""


def build(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    names: Sequence[str] | None = None,
    out: str | Path = "out",
    platform: str | Sequence[str] = common.PLATFORMS,
    resolution: Any = None,
    task: str = "classification",
    tensors: Mapping[str, Any] | None = None,
    weights: str | Path | Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    jobs: int | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Outcome:
    """Build every artifact of a model in memory, for both platforms, and prove each against torch.

    The model stays as it is: a copy is exported in evaluation mode. It is known by its graph and its weights, and images by
    their pixels: a second call with the same makes nothing again.

    Args:
        model: ``(1, 3, H, W)`` float32, normalized RGB, or what ``data`` says of channels, and then `tensors` -> one tensor, or
            with ``task="features"`` any number of them, with its weights.
        images: uint8 RGB: an array ``(N, H, W, 3)``; a folder of images at any depth; or what gives images or batches of them,
            as a loader does, with or without their labels. Some set the int8 ranges, the others are judged on.
        labels: ``(N,)`` integers; without them what is counted is agreement with the float model.
        names: of the classes, in the order of the model's outputs.
        out: folder that gets a folder for each platform and the report.
        platform: ``"android"``, ``"ios"`` or both.
        resolution: of the model's input, a number or height and width; the images' own where they have one size.
        task: what the model's outputs mean: ``"classification"``, or ``"features"`` for any tensors.
        tensors: what the model is given beside each image, in the order of its arguments: ``(N, ...)`` by name. int8 is made
            for their range; of images in a folder they lie beside these, and ``input=[...]`` describes them.
        weights: a checkpoint to take instead of the model's own weights, or ``{"path": ..., "key": ...}`` as the configuration has
            them; they are loaded into a copy.
        store: where results are kept, a folder or an address; ``"none"`` keeps nothing, None is this user's cache.
        jobs: worker processes at a time; by cores and memory where it is None.
        quiet: no lines of progress.
        settings: sections of the configuration as tables, ``quantize={"minutes": 1}``, ``data={"mean": [0.5, 0.5, 0.5]}``.

    Returns:
        what became of it, verified or not: it shows itself in a notebook and as text.

    Raises:
        TwinkeelError: an argument cannot be, or nothing could be built.
    """
    unknown = sorted(settings.keys() - set(_SECTIONS))
    if unknown:
        raise ConfigError(f"{_WHERE}: unknown keyword '{unknown[0]}'. {nearest(unknown[0], _SECTIONS)}")
    with tempfile.TemporaryDirectory(prefix="twinkeel-") as name, _considerate():
        _check_model(model)
        told = []
        if weights is not None:
            model, line = _loaded(model, weights, Path(name))
            told.append(line)
        config = _configured(model, images, labels, names, resolution, task, tensors, settings, Path(name))
        return _built(config, platform, Path(out), None if store is None else str(store), jobs, told, quiet=quiet)


def _check_model(model: Any) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ConfigError(f"{_WHERE}: a torch.nn.Module is wanted, not a {type(model).__name__}")


def _loaded(model: nn.Module, weights: Any, folder: Path) -> tuple[nn.Module, str]:
    """A copy of the model with the weights of a checkpoint, and what was loaded, in a line."""
    from copy import deepcopy

    from .. import config as settings_module
    from ..stages import checkpoint
    from ..stages import weights as loading

    given = _plain(weights) if isinstance(weights, Mapping) else {"path": str(weights)}
    if taken := sorted({"head", "from_factory"} & given.keys()):
        raise ConfigError(f"{_WHERE}: weights: {taken[0]} does not apply to a model in memory; leave it out")
    asked = settings_module.of({"weights": given}, _WHERE).weights
    if not asked.is_given:
        raise ConfigError(f"{_WHERE}: weights: a path is wanted, or {{'path': ...}}")
    path, _ = checkpoint.locate(asked, folder / "fetched")
    try:
        copy = deepcopy(model)
    except Exception as error:  # of any module
        raise ConfigError(
            f"{_WHERE}: weights: a copy of the {type(model).__name__} is to take them, and it cannot be copied: {str(error)[:300]}"
        ) from error
    return copy, f"weights: {loading.load_into(copy, path, asked.key, asked=loading.Asked(given_by='memory'))}"


def _configured(
    model: nn.Module,
    images: Any,
    labels: Any,
    names: Sequence[str] | None,
    resolution: Any,
    task: str,
    tensors: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    folder: Path,
) -> Config:
    """The configuration, with the model and the images put into a folder that it names."""
    import numpy as np

    from .. import config as settings_module
    from ..data import beside
    from ..program import CHANNELS
    from ..stages import pt2_writing

    asked = {name: _plain(value) for name, value in settings.items()}
    if not isinstance(asked.get("data", {}), dict):
        raise ConfigError(f"{_WHERE}: data: a table is wanted: data={{'mean': ...}}")
    data: dict[str, Any] = dict(asked.get("data", {}))
    if names is not None:
        (folder / "names.txt").write_text("".join(f"{one}\n" for one in names), encoding="utf-8")
        data["labels"] = str(folder / "names.txt")
    if tensors:
        asked["input"] = _described(tensors, images, asked)
    if isinstance(images, (str, Path)):
        if labels is not None:
            raise DataError(f"{_WHERE}: labels of a folder are its folders' names: data={{'source': 'folder'}}")
        data = {"source": "images", "path": str(images), **data}
    else:
        data, resolution = _kept(images, labels, data, resolution, folder)
    if resolution is None:
        raise ConfigError(f"{_WHERE}: resolution is not given, and the images do not tell: resolution=224, for example")
    path = folder / f"{architectures.stem(type(model).__name__)}.pt2"
    given = {"exported": str(path), "resolution": _plain(resolution), "task": task}
    arrays = data.pop("arrays", None)
    config = settings_module.of({**asked, "data": data, "model": given}, _WHERE)
    if arrays is not None:
        # nothing is trained on: all images are calibrated or judged on
        if config.quantize.qat == "always":
            raise ConfigError(f"{_WHERE}: quantize.qat = 'always' takes training images; give class folders")
        there = settings_module.Arrays.model_validate(config.data.model_dump() | arrays)
        config = config.model_copy(update={"data": there})
        place = beside.arrays_below(folder / "images")
        for key, values in (tensors or {}).items():  # by names that are checked by now
            np.save(place / f"{key}.npy", _numbers(key, values))
    shape = (1, len(CHANNELS[config.data.channels]), *config.model.size)
    pt2_writing.write(model, [shape, *((1, *one.shape) for one in config.input)], path)
    return common.checked(config)


def _described(tensors: Mapping[str, Any], images: Any, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, shape and range of arrays, as the configuration has them."""
    import numpy as np

    if not isinstance(tensors, Mapping):
        raise ConfigError(f"{_WHERE}: tensors is a {type(tensors).__name__}; arrays (N, ...) by name are wanted")
    if "input" in asked or isinstance(images, (str, Path)):
        raise ConfigError(
            f"{_WHERE}: tensors are arrays beside images in memory, and describe themselves; of a folder of images, input=[...] "
            "describes those that lie beside them"
        )
    found = []
    for name, values in tensors.items():
        array = _numbers(str(name), values)
        if not array.ndim or not array.size or not np.isfinite(array).all():
            wrong = "" if np.isfinite(array).all() else ", and not all of it is finite"
            raise DataError(f"{_WHERE}: tensors['{name}'] is {array.shape}{wrong}; finite numbers (N, ...) are wanted")
        low, high = float(array.min()), float(array.max())
        found.append({"name": name, "shape": list(array.shape[1:]), "range": [low, high if high > low else low + 1]})
    return found


def _numbers(name: str, values: Any) -> Any:
    """float32 of what was handed over, a tensor's gradient left behind."""
    import numpy as np

    try:
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"it is of {array.dtype}")
        return array.astype(np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{_WHERE}: tensors['{name}'] is no array of numbers: {error}. (N, ...) is wanted") from error


def _kept(images: Any, labels: Any, data: dict[str, Any], resolution: Any, folder: Path) -> tuple[dict[str, Any], Any]:
    """Images and labels as files, the settings that name them, and the resolution."""
    import numpy as np

    from ..data import Fit, stacked, truth_of

    if taken := sorted({"source", "path"} & data.keys()):
        raise ConfigError(f"{_WHERE}: data.{taken[0]} does not apply to images in memory; leave it out")
    sides = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
    how: Fit = "letterbox" if data.get("fit") == "letterbox" else "crop"  # another is an error later
    pixels, truth = stacked(images, None if resolution is None else (int(sides[0]), int(sides[-1])), how)
    if labels is not None:
        truth = truth_of(labels, len(pixels), "labels")
    elif truth is not None:
        truth = truth_of(truth, len(pixels), "labels")
    if resolution is None:
        resolution = list(pixels.shape[1:3])
    place = folder / "images"
    place.mkdir()
    np.save(place / "images.npy", pixels)
    if truth is not None:
        np.save(place / "labels.npy", truth)
    source = "arrays" if truth is None else "arrays with truth"
    return data | {"arrays": {"source": source, "path": str(place)}}, resolution


def _built(
    config: Config,
    platform: str | Sequence[str],
    out: Path,
    store_url: str | None,
    jobs: int | None,
    told: Sequence[str],
    *,
    quiet: bool,
) -> Outcome:
    from ..building import order, runner
    from ..report import Outcome, page, terminal

    platforms = common.PLATFORMS if platform == "all" else (platform,) if isinstance(platform, str) else tuple(platform)
    for one in platforms:
        if one not in common.PLATFORMS:
            raise ConfigError(f"{_WHERE}: unknown platform '{one}'. {nearest(one, common.PLATFORMS)}")
    store = common.store_of(config, store_url)
    with terminal.progress(terminal.console(is_quiet=quiet)) as say:
        for line in told:
            say(line)
        create = architectures.architecture(config)
        asked = order.checked(config, common.targets(), common.kits(), create, platforms, out, page.render, say)
        built = runner.build(asked, store, say, None, jobs)
    return Outcome(built=built, folder=out)


def _plain(value: Any) -> Any:
    """As a file has it: lists of tuples and arrays, numbers of Python, text of paths."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


@contextlib.contextmanager
def _considerate() -> Iterator[None]:
    """What is quietened for a build, and meant for the whole of a command, is as before afterwards."""
    from ..store import workers

    level = logging.root.manager.disable
    with warnings.catch_warnings():
        workers.quieten()
        try:
            yield
        finally:
            logging.disable(level)
