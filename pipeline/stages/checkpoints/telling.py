"""What was loaded, in a line; and why a checkpoint does not fit, with the nearest names and the likely cause."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...reading import quoted, shown
from .fitting import HARMLESS, Fit
from .others import Make, Other, is_longer

_LONGEST, _MOST = 200, 2000
"""Of names, and names, that are compared letter by letter."""
_BESIDE = (0, 1, 4, 5)
"""Numbers that a head's layer has beside those of the classes, for each anchor: none, a background's, a box's, a box's and its objectness."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a message can say of the model that weights are loaded into.

    Attributes:
        names: of the classes of the data; none where they are not known.
        given_by: the setting that the model comes from, as of `config.Model`; empty for networks of `model/`.
        can_train: whether its last layer could be trained on the data, which takes labels.
        makes: the networks of `model/` by name, of which the checkpoint may be another; none where that is not asked.
        size: height and width of its input; None where that is not known.
    """

    names: Sequence[str] = ()
    given_by: str = ""
    can_train: bool = True
    makes: Mapping[str, Make] = field(default_factory=dict)
    size: tuple[int, int] | None = None


def of_size(theirs: tuple[int, int] | None, ours: tuple[int, int] | None) -> str:
    """What there is to say of a checkpoint whose network had another input; empty where nothing is."""
    if theirs is None or ours is None or theirs == ours:
        return ""
    had, has = (f"{width} x {height}" for height, width in (theirs, ours))
    setting = str(theirs[0]) if theirs[0] == theirs[1] else f"[{theirs[0]}, {theirs[1]}]"
    return f"; WARNING its network took {had} pixels, and {has} are built: [model] resolution = {setting} is what it was made for"


def told(fit: Fit, others: Sequence[Fit]) -> str:
    """What of a checkpoint is loaded: how many tensors from where, what was done to them, and what was left.

    Args:
        others: further state dicts that fit as well.
    """
    taken = [value for key, value in fit.state.items() if key in fit.wanted and key not in fit.fresh]
    kind = f" of '{shown(fit.found.path)}'" if fit.found.path else ""
    choice = ["averaged (EMA)"] if fit.is_averaged else []
    if others:
        named = ", ".join(f"'{shown(one.name) or 'the outermost'}'" for one in others[:3])
        choice.append(f"{named} fit{'s' if len(others) == 1 else ''} too: weights.key")
    parts = [f"{len(taken)} tensors{kind}" + (f" ({'; '.join(choice)})" if choice else "")]
    parts += [f"prefix '{shown(fit.prefix)}' taken off"] if fit.prefix else []
    parts += [f"prefix '{shown(fit.added)}' put before"] if fit.added else []
    parts += [f"named as {fit.layout.project} does"] if fit.layout else []
    parts += [f"'_orig_mod.' taken out of {count} names"] if (count := _compiled(fit)) else []
    parts += _kinds(taken)
    parts += _left(fit)
    return ", ".join(parts)


def _compiled(fit: Fit) -> int:
    """How many names had torch.compile's mark."""
    return (
        sum("_orig_mod." in key for key in fit.found.tensors)
        if not any("_orig_mod." in key for key in fit.state)
        else 0
    )


def _kinds(taken: Sequence[torch.Tensor]) -> list[str]:
    """What the numbers are, where they are not float32."""
    kinds = sorted(
        {str(value.dtype).removeprefix("torch.") for value in taken if value.is_floating_point()} - {"float32"}
    )
    return [f"{kind} rounded to float32" if kind == "float64" else kind for kind in kinds]


def _left(fit: Fit) -> list[str]:
    """Tensors that were not taken, by what they are."""
    over = [key for key in fit.state if key not in fit.wanted and key not in fit.old_heads]
    heads = [key for key in over if fit.is_body and not HARMLESS.search(key)]
    counters = [key for key in over if HARMLESS.search(key)]
    last = [*fit.old_heads, *(key for key in fit.state if key in fit.fresh)]
    found = [f"left: {len(counters)} of counters ('{shown(counters[0])}')"] if counters else []
    found += [f"left: {len(fit.outside)} of other parts ('{shown(fit.outside[0])}')"] if fit.outside else []
    found += [f"left: {len(heads)} of its head ('{shown(min(heads))}')"] if heads else []
    return found + ([f"left: its last layer ('{shown(min(last))}')"] if last else [])


def named(fit: Fit, key: str) -> str:
    """A tensor by its name in the file, and by the model's where that is another."""
    own = fit.own(key)
    return f"'{shown(own)}'" + (f" ('{shown(key)}' here)" if own != key else "")


def mismatch(fit: Fit, path: Path, asked: Asked, others: Callable[[], Sequence[Other]] = lambda: ()) -> str:
    """The first name that does not fit, both shapes, the nearest names, counts, and the likely cause.

    Args:
        others: gives the networks that the checkpoint may be of.
    """
    head = f"'{path}'" + (f": '{shown(fit.found.path)}'" if fit.found.path else "")
    count = f"{fit.matching} of the model's {len(fit.wanted)} tensors are there with their shapes."
    if fit.extra:
        key = fit.extra[0]
        near = _near(key, [*fit.missing, *fit.wanted])
        like = f" (the most like it: '{near}')" if near else ""
        cause = of_others(others()) or _cause_of_names(fit)
        return f"{head} has the key {named(fit, key)}, which the model does not{like}. {count} {cause}"
    if fit.missing:
        key = fit.missing[0]
        near = _near(key, [name for name in fit.state if name not in fit.wanted])
        like = f" (the most like it: {named(fit, near)})" if near else ""
        cause = of_others(others()) or "Is it another architecture, or only a part?"
        return f"{head} lacks the key {named(fit, key)}{like}. {count} {cause}"
    key = fit.misshapen[0]
    shape = tuple(fit.state[key].shape)
    cause = _cause_of_shape(fit, key, shape, asked) or of_others(others()) or _variant(asked)
    return f"{head}: {named(fit, key)} has shape {shape}, the model needs {tuple(fit.wanted[key])}. {count} {cause}"


def of_others(found: Sequence[Other]) -> str:
    """Of which network a checkpoint is, and what to set; empty where that is not known."""
    if not found:
        return ""
    names = " or ".join(f"'{one.name}'" for one in found)
    if found[0].width is None:
        return f"Its layers are called as those of {names} are, with other shapes: set model.name and model.width to those that it was trained with."
    given = [f'model.name = "{one.name}" and model.width = {one.width}' for one in found]
    return f"It is another architecture, or has another width: its tensors are those of {names}. Set {', or '.join(given)}."


def padding(path: Path, wanted: str) -> str:
    """That a checkpoint's networks pad in another way than the model."""
    return (
        f"'{path}' is of a network with TensorFlow's padding, which the model does not have: its answers would be "
        f'others. Set model.padding = "{wanted}".'
    )


def _near(key: str, names: Sequence[str]) -> str:
    short = [name for name in names if len(name) <= _LONGEST][:_MOST]
    return next(iter(difflib.get_close_matches(key[:_LONGEST], short, n=1, cutoff=0.6)), "")


def _cause_of_names(fit: Fit) -> str:
    if not fit.missing:
        return "All that the model has is there: is the checkpoint of a larger variant, or of the model before it was changed?"
    if not fit.matching:
        return "Is it another architecture, or one whose layers another project names?"
    return f"Is it another architecture? It lacks '{fit.missing[0]}'."


def _cause_of_shape(fit: Fit, key: str, shape: tuple[int, ...], asked: Asked) -> str:
    """That the number of classes is another; empty where it is not that."""
    layer = next(reversed([name for name in fit.wanted if name.endswith("weight")]), "").rpartition(".")[0]
    is_last = {name.rpartition(".")[0] for name in fit.misshapen} == {layer} and _is_longer(fit, key)
    ours = len(asked.names) or (fit.wanted[key][0] if is_last else 0)
    theirs = f"{shape[0]} classes" if is_last and fit.wanted[key][0] == ours else _classes(fit, ours, asked)
    if not theirs:
        return ""
    classes = f"The checkpoint has {theirs}" + (
        f", and the data {ours}: {quoted([shown(name, 50) for name in asked.names], 5)}" if asked.names else ""
    )
    if asked.given_by == "memory":
        return f"{classes}: make the model with as many outputs."
    if not asked.can_train:
        return f"{classes}: write as many lines into the file that data.labels names, in the order of the outputs, or leave it out."
    anew = (
        'train the last layer on the data: [weights] head = "train".'
        if is_last or not asked.given_by
        else 'train the network anew on these classes, where it was trained: [weights] head = "train" trains one last layer, and here are several.'
    )
    return f"{classes}: use data with as many, or as many lines in the file that data.labels names, or {anew}"


def _is_longer(fit: Fit, key: str) -> bool:
    return is_longer(fit.state[key].shape, fit.wanted[key])


def _classes(fit: Fit, ours: int, asked: Asked) -> str:
    """How many classes a checkpoint's heads are for, in words; empty where that is not what differs: all that does are a few layers, each in how many
    numbers it gives, and these are of so many anchors with as many numbers beside the classes.

    Args:
        ours: how many the model's are for; 0 where that is not known.
    """
    if not ours or len(fit.misshapen) > len(fit.wanted) / 2 or not all(_is_longer(fit, key) for key in fit.misshapen):
        return ""
    sides = {(fit.wanted[key][0], fit.state[key].shape[0]) for key in fit.misshapen}
    besides = _BESIDE if asked.given_by else _BESIDE[:2]  # networks of `model/` give boxes by themselves
    common = set.intersection(*(_counts(wanted, theirs, ours, besides) for wanted, theirs in sides))
    if len(common) > 1:
        return "another number of classes"
    return f"{common.pop()} classes" if common else ""


def _counts(wanted: int, theirs: int, ours: int, besides: Sequence[int]) -> set[int]:
    """How many classes a layer of `theirs` numbers may be for, where one of `wanted` is for `ours`."""
    found = set()
    for beside in besides:
        anchors, rest = divmod(wanted, ours + beside)
        if anchors and not rest and theirs % anchors == 0 and theirs // anchors > beside:
            found.add(theirs // anchors - beside)
    return found


def _variant(asked: Asked) -> str:
    if not asked.given_by:
        return (
            "The checkpoint has another width, or is of another variant: set model.width and model.name to those that it was "
            "trained with."
        )
    settings = {"factory": "set [model.arguments] to those", "name": "set model.name and [model.arguments] to those"}
    made = f"{settings.get(asked.given_by, 'give it the arguments')} that it was trained with"
    return f"The checkpoint has another width, or is of another variant of the network: {made}."
