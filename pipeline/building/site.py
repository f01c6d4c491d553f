"""What is known of a build so far, and what its jobs make of that: models, programs, the ingredients that several share."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..errors import ConversionError
from ..program import COMPRESSED, UNROUNDED, About, InputContract, Target, Tensor, compressed_in, is_quantized
from ..store import Entry, Job, Store, Workshop, imported_by
from ..tasks import Task, named
from .exported import Exported
from .factories import Factory
from .zoos import Zoo

if TYPE_CHECKING:
    from torch import nn

    from ..stages import SavedProgram

Create = Callable[[int, float], "nn.Module"]
"""(outputs, width multiplier) -> the model, untrained. It travels to workers: a function of a module, or this:"""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The function ``create`` of a module, which is imported when a model is wanted.

    Attributes:
        options: further arguments.
        makes: the networks of `model/` of the same task by name, for what an error says of a checkpoint that is of another one.
    """

    module: str
    options: Mapping[str, Any]
    makes: Mapping[str, Architecture] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, outputs: int, width: float) -> nn.Module:
        model: nn.Module = importlib.import_module(self.module).create(outputs, width, **self.options)
        return model


CODE = "twinkeel.pipeline"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of an artifact.

    Attributes:
        lowered: with ``artifact<suffix>``, ``operators.json`` and perhaps ``twin<suffix>``; None where it cannot be.
        measured: with ``outputs.npy``, ``metrics.json`` (and where it was measured) and perhaps ``layers.npy``; None where
            it does not run.
        error: why one of the two is not there.
        peak: bytes of memory that the process took at most until then.
    """

    lowered: Entry | None
    measured: Entry | None
    error: str = ""
    peak: int = 0


@dataclass(frozen=True, kw_only=True)
class Site:
    """What was asked for, and what is known of it so far; each step gives one that knows more.

    It is small, and travels to workers, on another machine too if that sees the store.

    Attributes:
        results: of the jobs that are one each, by name: ``data``, ``weights``, ``original``, ``quantize``, ``report``.
        names: of what the outputs stand for, from the data.
        judged: how many of the held-out images artifacts are judged on; 0 where it is all of them.
        told: what a build says of it all, in words: warnings, and what layers in float cost.
        doubts: what there is to say against the float model, though it is built on.
        references: what references said, by key.
        made: artifacts by target and precision; all that are wanted, once they are.
        finished: folders by platform.
        rounds: of a sweep, so far: milliseconds of single runs by ``target precision``.
        latency: milliseconds by ``target precision``; None before they were taken.
    """

    store: str | None
    scratch: str
    damaged: frozenset[str]
    config: Config
    create: Create
    results: Mapping[str, Entry]
    names: tuple[str, ...] = ()
    judged: int = 0
    told: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    references: Mapping[str, Entry]
    made: Mapping[tuple[str, str], Made]
    finished: Mapping[str, Entry]
    rounds: tuple[Mapping[str, Sequence[float]], ...] = ()
    latency: Mapping[str, float] | None = None

    @classmethod
    def of(cls, config: Config, create: Create, shop: Workshop) -> Site:
        """Where nothing is known."""
        return cls(
            store=None if shop.store is None else shop.store.url,
            scratch=shop.scratch.url,
            damaged=shop.damaged,
            config=config,
            create=create,
            results={},
            references={},
            made={},
            finished={},
        )

    def knowing(self, found: Mapping[str, Entry], **more: Any) -> Site:
        """With more results."""
        return replace(self, results={**self.results, **found}, **more)

    @property
    def data(self) -> Entry:
        return self.results["data"]

    @property
    def weights(self) -> Entry:
        return self.results["weights"]

    @property
    def program(self) -> Entry:
        return self.results["quantize"]

    @property
    def task(self) -> Task:
        return named(self.config.model.task)

    @cached_property
    def workshop(self) -> Workshop:
        store = None if self.store is None else Store(self.store)
        return Workshop(store=store, scratch=Store(self.scratch), damaged=self.damaged)

    def seen_from(self, shop: Workshop) -> Site:
        """The same from another machine or process, whose scratch is its own."""
        assert shop.store is not None
        found = replace(self, store=shop.store.url, scratch=shop.scratch.url)
        found.__dict__["workshop"] = shop  # in the place of the one that `workshop` would make
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "workshop"}


def job(
    kind: str, name: str, inputs: Mapping[str, Any], code: Sequence[str], packages: Sequence[str], *, by: str
) -> Job:
    """A job.

    Args:
        by: name of the module that makes it. It counts, and what it imports of this room, without what they import.
    """
    glue = tuple(module for module in (by, *imported_by(by)) if module.startswith(f"{__package__}."))
    return Job(kind=kind, name=name, inputs=inputs, code=tuple(code), glue=glue, packages=tuple(packages))


def model_of(config: Config, create: Create) -> dict[str, Any]:
    """What a model is made of, as ingredients: settings, and the sources of the user's own."""
    # a program and a factory are their content, wherever they lie; a program also whatever it is called
    out = {"exported", "factory", *(["name"] if config.model.exported is not None else [])}
    found = config.model.model_dump(exclude=out)
    return found | {"sources": create.digest()} if isinstance(create, Factory | Zoo | Exported) else found


def meaning_of(config: Config, *, trains: bool = False) -> dict[str, Any]:
    """What settings say of the outputs' meaning, as an ingredient; nothing where they do not.

    Args:
        trains: only what training depends on.
    """
    settings = dict(named(config.model.task).settings(config, trains=trains))
    return {"meaning of the outputs": settings} if settings else {}


def module_of(create: Create) -> str:
    """The module of a model's code."""
    if isinstance(create, Factory | Zoo | Exported):
        return type(create).__module__  # its own code is in `model_of`
    if isinstance(create, Architecture):
        return create.module
    name: str = getattr(create, "func", create).__module__  # behind bound arguments
    return name


def contract_of(config: Config) -> InputContract:
    data = config.data
    tensors = tuple(Tensor(name=t.name, shape=tuple(t.shape), low=t.range[0], high=t.range[1]) for t in config.input)
    return _contract(config.model.size, tuple(data.mean), tuple(data.std), data.channels, tensors)


@lru_cache
def _contract(
    size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...], channels: str, tensors: tuple[Tensor, ...]
) -> InputContract:
    """Many jobs of many variants ask for the same."""
    return InputContract.of(size, mean, std, channels, tensors)


def output_names(config: Config) -> tuple[str, ...]:
    """As the configuration or else the task has them; none where they are the model's own."""
    return tuple(one.name for one in config.output) or named(config.model.task).OUTPUTS


def about(config: Config, names: Sequence[str]) -> About:
    height, width = config.model.size
    size, pixels = named(config.model.task).size(names), f"{width} x {height} pixels"
    made = f"{config.model.name}, width {config.model.width}, {size}, {pixels}"
    if config.model.given_by:
        made = f"{config.model.name}, {size}, {pixels}"
    return About(
        author=config.project.author,
        license=config.project.license,
        version=config.project.version,
        description=config.project.description or made,
    )


def load_model(workshop: Workshop, weights: Entry, config: Config, create: Create, outputs: int) -> nn.Module:
    """In evaluation mode."""
    from safetensors.torch import load

    model = create(outputs, config.model.width)
    model.load_state_dict(load(workshop.read(weights, "weights.safetensors")))
    return model.eval().requires_grad_(False)


def compress_name(key: str) -> str:
    """Of the job that compresses the weights of a reference."""
    return f"compress {key}"


def load_program(
    site: Site, *, is_quantized: bool, reads: Iterable[str] = (), variant: str = "", keys: Collection[str] = ()
) -> SavedProgram:
    """The program as far as a job's key speaks of it.

    Args:
        is_quantized: whether the quantized graphs may be read.
        keys: the references that may be read; compressed weights belong to those that have them.
        reads: of `saved.DESCRIPTIVE`.
    """
    from ..stages import SavedProgram

    model = load_model(site.workshop, site.weights, site.config, site.create, len(site.names))

    def read(name: str) -> bytes:
        key, _, suffix = name.partition(".")
        if key in COMPRESSED:
            if key not in map(compressed_in, keys):
                raise ConversionError(
                    f"the weights of '{key}' belong to {key} alone; REFERENCES names another reference"
                )
            return site.workshop.read(site.results[compress_name(key)], f"weights.{suffix}")
        if not is_quantized:
            raise ConversionError("the quantized program belongs to int8 alone; REFERENCES names a float reference")
        return site.workshop.read(site.program, variant + name)

    known = descriptive(site)
    settings = {name: known[name] for name in reads}
    key = json.dumps([repr(site.create), numbers_of(site, "fp32")], sort_keys=True)
    return SavedProgram(model, contract_of(site.config), output_names(site.config), read, settings, key)


def descriptive(site: Site) -> dict[str, Any]:
    """What a program says of itself beside its numbers, by the names in `saved.DESCRIPTIVE`."""
    return {
        "labels": site.task.labels(site.names),
        "about": about(site.config, site.names),
        "minimum_ios": site.config.ios.version,
    }


def numbers_of(site: Site, key: str) -> dict[str, Any]:
    """The program's modules as ingredients, as far as the reference `key` reads them: weights, input contract, and perhaps the
    quantized graphs or the compressed weights."""
    found: dict[str, Any] = {
        "weights": site.weights.digest("weights.safetensors"),
        "model": model_of(site.config, site.create),
        "outputs": len(site.names),
        "names of the outputs": list(output_names(site.config)),
        "input contract": asdict(contract_of(site.config)),
    }
    if is_quantized(key.removesuffix(UNROUNDED)):
        found["quantization"] = graphs(site)
    if compressed := compressed_in(key):
        found["compressed weights"] = site.results[compress_name(compressed)].digest("weights.safetensors")
    return found


def graphs(site: Site, variant: str = "") -> list[str]:
    """Hashes of the quantized graphs and of what belongs to them."""
    return [site.program.digest(variant + name) for name in ("quantized.pt2", "unfolded.pt2", "program.json")]


def reads(target: Target) -> tuple[str, ...]:
    """What a target writes into its artifacts beside the numbers; all, where it does not say."""
    from ..stages import DESCRIPTIVE

    return tuple(getattr(target, "READS", DESCRIPTIVE))
