"""Which of a checkpoint's state dicts are a model's weights, under which prefix, in which layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from ...errors import WeightsError
from ...reading import shown
from . import kinds, layouts
from .finding import Found, dictionaries, listed, meant, state_dicts

HARMLESS = re.compile(
    r"(^|\.)(num_batches_tracked|total_ops|total_params|n_averaged|_extra_state|relative_position_index|position_ids)$"
)
"""Tensors that no answer depends on: counters of BatchNorm, profilers and averages, numbers of places."""
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|avg)([._]|$)")
_MOST_PREFIXES = 8
_MOST_READ = 50
"""State dicts that are read as the model's, those with the most tensors."""
_LARGE_PART = 0.5
"""Of a state dict's tensors that have to be behind a prefix for the others to be another part's."""
_WRAPPERS = re.compile(
    r"((_orig_mod|module|model|net|network|backbone|encoder|generator|student|teacher|base|body|inner|wrapped|trunk|"
    r"feature_extractor|(\w+_)?(ema|swa)(_\w+)?|(ema|swa)\w*|net_?[a-z]|averaged_model|online|target|encoder_q|policy)\.)+",
    re.IGNORECASE,
)
"""What projects put before the names of a whole network."""

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A state dict, read as a model's.

    Attributes:
        found: where it is.
        prefix: taken off its names.
        added: put before them.
        layout: whose names became ours.
        state: by the model's names.
        outside: names without the prefix.
        wanted: shapes of the model's tensors.
        fresh: names in the model that need not be there or fit, for they are trained.
        is_body: what is wanted is the body of a network, and the checkpoint's own head is left.
        layers: the layout's names of layers, by ours.
        theirs: names in the file, by the model's, where the content was read under the model's.
    """

    found: Found
    prefix: str
    added: str
    layout: layouts.Layout | None
    state: dict[str, torch.Tensor] = field(repr=False)
    outside: tuple[str, ...]
    wanted: Shapes = field(repr=False)
    fresh: frozenset[str] = frozenset()
    is_body: bool = False
    layers: Mapping[str, str] = field(default_factory=dict, repr=False)
    theirs: Mapping[str, str] = field(default_factory=dict, repr=False)

    def own(self, key: str) -> str:
        """What the file calls a tensor of `state` or of the model; the name itself where it has no other."""
        if key in self.theirs or (key in self.outside and key not in self.state):
            return self.theirs.get(key, key)
        name = self.prefix + layouts.renamed(key, self.layers).removeprefix(self.added)
        return self._uncompiled.get(name, name)

    @cached_property
    def _uncompiled(self) -> dict[str, str]:
        """Names that have torch.compile's mark, by what they are without."""
        return {_plain(key): key for key in self.found.tensors if _plain(key) not in self.found.tensors}

    @property
    def name(self) -> str:
        """What `weights.key` calls it."""
        return ".".join(filter(None, (self.found.path, self.prefix.removesuffix("."))))

    @property
    def is_averaged(self) -> bool:
        return bool(_AVERAGED.search(self.name))

    @cached_property
    def matching(self) -> int:
        return sum(key in self.state and self.state[key].shape == shape for key, shape in self.wanted.items())

    @cached_property
    def missing(self) -> list[str]:
        return [key for key in self.wanted if key not in self.state and key not in self.fresh and not _is_counter(key)]

    @cached_property
    def misshapen(self) -> list[str]:
        return [
            key
            for key, shape in self.wanted.items()
            if key in self.state and self.state[key].shape != shape and key not in self.fresh
        ]

    @cached_property
    def extra(self) -> list[str]:
        """Names that the model does not have, and that mean something."""
        if self.is_body:
            return []
        over = [key for key in self.state if key not in self.wanted and not HARMLESS.search(key)]
        over = [key for key in over if key not in self.old_heads]
        if self.outside and not self._is_wrapped:
            over += self.outside
        return sorted(over)

    @cached_property
    def old_heads(self) -> frozenset[str]:
        """Names of layers that take what the layer that is trained takes: what stood in its place."""
        taken = next((self.wanted[key][1:] for key in self.fresh if key.endswith("weight")), None)
        named = {
            key.rpartition(".")[0]
            for key, value in self.state.items()
            if key not in self.wanted and key.endswith(".weight") and value.ndim > 1 and value.shape[1:] == taken
        }
        return frozenset(key for key in self.state if key not in self.wanted and key.rpartition(".")[0] in named)

    @property
    def is_whole(self) -> bool:
        return not self.missing and not self.misshapen and not self.extra

    @property
    def _is_wrapped(self) -> bool:
        """Whether what is outside of the prefix is of something else than the model."""
        return bool(_WRAPPERS.fullmatch(self.prefix)) or len(self.state) >= _LARGE_PART * len(self.found.tensors)


def fits(
    content: dict[Any, Any],
    wanted: Shapes,
    key: str | None = None,
    fresh: frozenset[str] = frozenset(),
    *,
    is_body: bool = False,
    theirs: Mapping[str, str] | None = None,
) -> list[Fit]:
    """Every way to read a checkpoint as the model's weights, the best first; averaged weights before the others.

    Args:
        key: the path of the state dict that is meant, perhaps with its prefix.
        fresh: names that need not fit.
        is_body: the checkpoint may hold anything else beside it.
        theirs: names in the file, where the content has others.

    Raises:
        WeightsError: the content has no state dict, or none at `key`.
    """
    # an optimizer has a dictionary for each tensor
    taken = sorted(_taken(content, key), key=lambda one: -len(one.tensors))[:_MOST_READ]
    found = (
        replace(fit, is_body=is_body, theirs=theirs or {}) for one in taken for fit in _readings(one, wanted, fresh)
    )
    return sorted(found, key=_rank)


def largest(content: dict[Any, Any], key: str | None = None) -> Found:
    """The state dict with the most weights, averaged ones first: what a model of the checkpoint would take.

    Raises:
        WeightsError: as `fits`.
    """
    taken = _taken(content, key)
    counts = {id(one): sum(name.endswith("weight") for name in one.tensors) for one in taken}
    most = [one for one in taken if counts[id(one)] == max(counts.values())]
    return next((one for one in most if _AVERAGED.search(one.path)), most[0])


def _taken(content: dict[Any, Any], key: str | None) -> list[Found]:
    found = state_dicts(content)
    optimizers = [path for path, node in dictionaries(content) if kinds.is_optimizer(node)]
    states = tuple(f"{path}.state." if path else "state." for path in optimizers)
    if found and all(one.path.startswith(states) for one in found):
        raise WeightsError(f"holds no model's weights, but {kinds.of_optimizer(optimizers[0])}")
    if not found:
        raise WeightsError(f"holds no state dict, but {kinds.held(content)}")
    taken = found if key is None else meant(found, key)
    if not taken:
        raise WeightsError(f"has no tensors at weights.key '{shown(key)}'. {_known(found)}")
    return taken


def _rank(fit: Fit) -> tuple[Any, ...]:
    if fit.is_whole:
        return 0, not fit.is_averaged, bool(fit.added), fit.found.depth, len(fit.prefix)
    return 1, -fit.matching, len(fit.missing), len(fit.extra), fit.found.depth, len(fit.prefix)


def _known(found: Iterable[Found]) -> str:
    named = listed(found)
    return f"It has {named}, with the number of tensors." if named else "Its tensors are in no inner dictionary."


def _plain(key: str) -> str:
    """A name without torch.compile's mark."""
    return key.replace("_orig_mod.", "")


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _readings(found: Found, wanted: Shapes, fresh: frozenset[str]) -> Iterable[Fit]:
    """One state dict under each prefix that could be."""
    tensors = found.tensors
    if not wanted.keys() <= tensors.keys():
        plain = {_plain(key): value for key, value in tensors.items()}
        tensors = plain if len(plain) == len(tensors) else tensors  # of two with one name neither is chosen
    for prefix in _prefixes(tensors, wanted):
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        outside = tuple(key for key in tensors if not key.startswith(prefix))
        layout = None if wanted.keys() <= inside.keys() else layouts.layout_of(inside)
        layers = {} if layout is None else layouts.layers_of(inside, layout)
        state = {layouts.renamed(key, layers): value for key, value in inside.items()}
        yield Fit(
            found=found,
            prefix=prefix,
            added="",
            layout=layout,
            state=state,
            outside=outside,
            wanted=wanted,
            fresh=fresh,
            layers={ours: own for own, ours in layers.items()},
        )
    for added in _common(wanted, tensors):
        if added:
            state = {added + key: value for key, value in tensors.items()}
            yield Fit(
                found=found, prefix="", added=added, layout=None, state=state, outside=(), wanted=wanted, fresh=fresh
            )


def _prefixes(tensors: Mapping[str, torch.Tensor], wanted: Shapes) -> list[str]:
    stems = [f"{layout.stem}.weight" for layout in layouts.LAYOUTS]
    before = [key.removesuffix(stem) for key in tensors for stem in stems if key == stem or key.endswith(f".{stem}")]
    return list(dict.fromkeys(["", *_common(tensors, wanted), *before[:_MOST_PREFIXES]]))


def _common(longer: Iterable[str], shorter: Mapping[str, Any]) -> list[str]:
    """What stands before names that are in `shorter`, the most frequent first."""
    votes: Counter[str] = Counter()
    deepest = max((key.count(".") for key in shorter), default=0)
    for key in longer:
        end = len(key)
        for _ in range(deepest + 1):
            if (end := key.rfind(".", 0, end)) < 0:
                break
            if key[end + 1 :] in shorter:
                votes[key[: end + 1]] += 1
    return [prefix for prefix, _ in votes.most_common(_MOST_PREFIXES)]
