"""The weights: loaded, or trained on the data."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import data as data_module
from ...config import Config
from ...errors import ConfigError, StoreError
from ...program import CHANNELS
from ...saying import Say
from ...stages import ALONE, Epoch, World, checkpoint
from ...store import Damaged, Entry, Job, Store, Workshop, changes
from ...tasks import named
from ..order import Order
from ..site import CODE, Architecture, Create, Site, job, meaning_of, model_of, module_of
from ..work import Found, Work, awaited, entries
from . import data as data_step

if TYPE_CHECKING:
    from torch import nn

NAME = "weights"


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    return {NAME: awaited(site, "data") or weights_job(site.config, site.create, site.data, len(site.names))}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    config, create, shop, wanted = site.config, site.create, work.shop, missing[NAME]
    state = training_state(wanted.key, work.checkpoints)

    def begin(frozen: Sequence[str]) -> None:
        scratch, ingredients = shop.scratch.url, wanted.ingredients
        work.followers.begin(Begun(data=site.data.key, scratch=scratch, ingredients=ingredients, frozen=tuple(frozen)))

    made = shop.make(
        wanted,
        lambda folder: make_weights(
            config, create, data_step.load_data(shop, site.data), state, work.say, folder, work.followers.world, begin
        ),
    )
    shutil.rmtree(state, ignore_errors=True)  # kept until its result is
    return {NAME: made}


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    known = site.knowing(entries(found))
    if NAME not in found or not (told := shop.json(known.weights, "origin.json")["told"]):
        return known
    return known.knowing({}, told=(*site.told, f"weights: {told}"))


def weights_job(config: Config, create: Create, data: Entry, outputs: int) -> Job:
    inputs: dict[str, Any] = {"model": model_of(config, create), "outputs": outputs}
    inputs["input channels"] = len(CHANNELS[config.data.channels])  # the model is tried with as many
    code = [module_of(create), f"{CODE}.stages.weights"]
    if config.brings_weights:
        inputs["weights of the model itself"] = True
    elif config.weights.is_given:
        inputs |= checkpoint.ingredients(config.weights)
    if config.trains:
        inputs |= {"what is trained": "the last layer"} if config.trains_head else {}
        code += [f"{CODE}.stages.head"] if config.trains_head else []
        code += [f"{CODE}.stages.train", f"{CODE}.stages.several", named(config.model.task).loss.__module__]
        inputs["training recipe"] = config.train.recipe
        inputs |= meaning_of(config, trains=True)
        inputs["normalization"] = [config.data.channels, config.data.mean, config.data.std]
        inputs["source of the images"] = config.data.source
        inputs |= {f"{name} images": data_step.images_in(data, name) for name in ("train", "held-out")}
        inputs |= {f"{name} truth": data.digest(f"{name}-truth.npy") for name in ("train", "held-out")}
    return job(NAME, NAME, inputs, code, ("torch", "safetensors"), by=__name__)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What the other processes of a training are told when it begins.

    Attributes:
        data: key of the result that holds the images.
        scratch: where it lies, if the store does not take it.
        ingredients: of the weights, which have to be the same for all.
        frozen: names of the modules that stay as they are.
    """

    data: str
    scratch: str
    ingredients: Mapping[str, str]
    frozen: tuple[str, ...]


def follow(begun: Begun, config: Config, create: Create, shop: Workshop, world: World) -> None:
    """Take part in a training that process 0 leads; it writes what comes of it.

    Raises:
        TwinkeelError: in process 0, whose it is.
    """
    from ...stages import train

    with world.alike():
        data = _data_of(begun, shop)
        model = create(len(data.names), config.model.width)
        ours = weights_job(config, create, _entry_of(begun, shop), len(data.names)).ingredients
        if ours != dict(begun.ingredients):
            raise ConfigError(
                f"it would train something else than process 0: {changes(begun.ingredients, ours)}. The same configuration, files and versions are to be on "
                "every machine."
            )
    frozen = [model.get_submodule(name) for name in begun.frozen]
    task = named(config.model.task)
    with tempfile.TemporaryDirectory(prefix="twinkeel-") as unused:
        train.train(model, data, config, task, Path(unused), lambda *_: None, frozen=frozen, world=world)


def _data_of(begun: Begun, shop: Workshop) -> data_module.Dataset:
    """The images that process 0 read, from the store or, on the same machine, from where it keeps what the store does not take."""
    try:
        return data_step.load_data(shop, _entry_of(begun, shop))
    except (Damaged, OSError) as error:
        raise StoreError(f"the images cannot be read from {_store_of(shop)}: {str(error)[:300]}. {_SHARED}") from error


def _entry_of(begun: Begun, shop: Workshop) -> Entry:
    places = [shop.store, Store(begun.scratch)]
    for place in places:
        if place is None:
            continue
        found = Workshop(store=place, scratch=shop.scratch).lookup(begun.data)
        if found is not None:
            shop.store = place
            return found
    raise StoreError(f"{_store_of(shop)} does not hold the images that process 0 has read. {_SHARED}")


_SHARED = "Give --store a folder or an address that all machines see."


def _store_of(shop: Workshop) -> str:
    return "this process has no store, and" if shop.store is None else f"the store '{shop.store.url}'"


def make_weights(
    config: Config,
    create: Create,
    data: data_module.Dataset,
    state: Path,
    say: Say,
    folder: Path,
    world: World = ALONE,
    begin: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Loaded, trained, or one after the other.

    Args:
        state: folder for what a training that was ended goes on from.
        begin: is called with the names of the modules that stay as they are, before all processes train.
    """
    import torch
    from safetensors.torch import save_file

    from ...stages import head, train

    task = named(config.model.task)
    torch.manual_seed(config.train.seed)
    model = create(len(data.names), config.model.width)
    curve: list[Epoch] = []
    _check_outputs(model, config, len(data.names))
    body = head.body_of(model) if config.trains_head and not config.model.given_by else None
    last = head.last_layer(model, config) if config.trains_head and body is None else None
    makes = create.makes if isinstance(create, Architecture) else {}
    source, told, frozen = _given(model, config, data.names, last, body, folder, makes)
    if config.trains:
        what = "all behind the body" if body is not None else f"'{last}'" if last is not None else ""
        source += f"{f'; {what} ' if what else ''}trained on {config.data.source}"
        curve = _trained(model, data, config, last, frozen, state, say, world, begin)
    for name, content in (train.curves(curve, task.SCORE) if curve else {}).items():
        (folder / name).write_bytes(content)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
    origin: dict[str, Any] = {"source": source, "told": told, "curve": [asdict(epoch) for epoch in curve]}
    if world.size > 1 and last is None and config.trains:
        origin["processes"] = world.size
    (folder / "origin.json").write_text(json.dumps(origin))


def _given(
    model: nn.Module,
    config: Config,
    names: Sequence[str],
    last: str | None,
    body: nn.Module | None,
    folder: Path,
    makes: Mapping[str, Create],
) -> tuple[str, str, list[nn.Module]]:
    """Where weights that are not trained are from, and what was loaded, in words, empty where all are trained; and the blocks of a body that
    stay as they are."""
    from ...stages import head, weights

    if config.brings_weights:
        return "of the factory" if config.weights.from_factory else "of the exported program", "", []
    if not config.weights.is_given:
        return "", "", []
    with tempfile.TemporaryDirectory(dir=folder) as fetched:
        path, found = checkpoint.locate(config.weights, Path(fetched))
        if body is None:
            can_train = config.data.is_trained_on
            asked = weights.Asked(
                names=names, given_by=config.model.given_by, can_train=can_train, makes=makes, size=config.model.size
            )
            told, frozen = weights.load_into(model, path, config.weights.key, last, asked), []
        else:
            told, left = weights.load_body(body, path, config.weights.key)
            frozen = head.blocks_of(body, left)
    return f"checkpoint, SHA-256 {found}: {told}", told, frozen


def _trained(
    model: nn.Module,
    data: data_module.Dataset,
    config: Config,
    last: str | None,
    frozen: Sequence[nn.Module],
    state: Path,
    say: Say,
    world: World,
    begin: Callable[[Sequence[str]], None],
) -> list[Epoch]:
    """The whole model but for what is `frozen`, or its layer `last`, in place."""
    from ...stages import fold, head, several, train

    task = named(config.model.task)
    what = "head" if config.trains_head else "train"

    def progress(e: Epoch, n: int) -> None:
        say(
            f"{what}: epoch {e.epoch}/{n}  loss {e.loss:.4f}  held-out {task.SCORE} {100 * e.score:.2f} %", (e.epoch, n)
        )

    normalized = fold.Normalized(model, config.data.mean, config.data.std, config.data.channels)
    several.check(normalized.eval(), data.train.inputs, "training")
    if last is None:
        begin([name for name, module in model.named_modules() if any(module is one for one in frozen)])
        return train.train(model, data, config, task, state, progress, say, frozen, world)
    return head.train(model, last, data, config, task, state, say, progress)


def _check_outputs(model: nn.Module, config: Config, outputs: int) -> None:
    """Raise a ConfigError where a model does not take the channels that it is to get, or one of the user's own does not
    give as many outputs as the data has names."""
    import torch
    from torch.utils._pytree import tree_leaves

    shape = (1, len(CHANNELS[config.data.channels]), *config.model.size)
    if not config.model.given_by and shape[1] == 3:  # as all of `model/` take
        return
    setting = f"model.{config.model.given_by or 'name'}"
    was_training = model.training
    try:
        with torch.no_grad():
            given = (torch.zeros(1, *one.shape) for one in config.input)
            found = tree_leaves(model.eval()(torch.zeros(shape), *given))
    except Exception as error:  # the user's own code
        raise ConfigError(
            f"{setting}: the model fails on an input of shape {shape}, normalized {config.data.channels}: "
            f"{type(error).__name__}: {str(error)[:500]}. {_likely_cause(error, model, config, shape[1])}"
        ) from error
    model.train(was_training)
    wanted = named(config.model.task).OUTPUTS
    shapes = [tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__ for one in found]
    if wanted and len(shapes) != len(wanted):
        raise ConfigError(
            f"{setting}: the model gives {len(shapes)} outputs, {', '.join(map(str, shapes))}, and {config.model.task} takes "
            f"{len(wanted)}, {', '.join(wanted)}. Let it give that alone, or take them as they are: [model] task = 'features'."
        )
    misfit = named(config.model.task).misfit([tuple(getattr(one, "shape", ())) for one in found], outputs, config)
    if misfit:
        raise ConfigError(
            f"{setting}: the model gives {', '.join(map(str, shapes))}, and {misfit}. Set the number "
            "under [model.arguments], or bring data with as many; [model] task = 'features' takes any tensors."
        )


def _likely_cause(error: Exception, model: nn.Module, config: Config, channels: int) -> str:
    """Of a model that fails on an input of so many channels."""
    from torch import nn

    if isinstance(error, TypeError) and "positional argument" in str(error):
        given = f"{len(config.input)} of [[input]]" if config.input else "nothing else"
        return (
            f"It is called with the image and {given}: write [[input]] once for each further argument, in their order."
        )
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels == channels:
        if config.input:
            return "Are model.resolution and the shapes under [[input]] its own, in the order of its arguments?"
        return "Is model.resolution its own?"
    known = ", ".join(f"'{name}'" for name, rows in CHANNELS.items() if len(rows) == first.in_channels)
    return (
        f"Its first convolution takes {first.in_channels} channel{'s' if first.in_channels > 1 else ''}, and data.channels = "
        f"'{config.data.channels}' gives {channels}: "
        + (f"set {known.replace(', ', ' or ')}." if known else "give a model of 3 channels or of 1.")
    )


def training_state(key: str, folder: Path | None = None) -> Path:
    """Where a training keeps what it goes on from, by the key of its job; on this machine, for it is written often.

    Args:
        folder: in the place of that of this user's caches.
    """
    if folder is not None:
        return folder / key
    import platformdirs

    return Path(platformdirs.user_cache_path("twinkeel")) / "training" / key
