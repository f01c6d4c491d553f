"""What was loaded, in a line; and why a checkpoint does not fit, with the nearest names and the likely cause."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch

from ...reading import shown
from .fitting import HARMLESS, Fit

_LONGEST, _MOST = 200, 2000
"""Of names, and names, that are compared letter by letter."""


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


def mismatch(fit: Fit, path: Path) -> str:
    """The first name that does not fit, both shapes, the nearest names, counts, and the likely cause."""
    head = f"'{path}'" + (f": '{shown(fit.found.path)}'" if fit.found.path else "")
    count = f"{fit.matching} of the model's {len(fit.wanted)} tensors are there with their shapes."
    if fit.extra:
        key = fit.extra[0]
        near = _near(key, [*fit.missing, *fit.wanted])
        like = f" (the most like it: '{near}')" if near else ""
        return f"{head} has the key '{shown(key)}', which the model does not{like}. {count} {_cause_of_names(fit)}"
    if fit.missing:
        key = fit.missing[0]
        near = _near(key, [name for name in fit.state if name not in fit.wanted])
        like = f" (the most like it: '{shown(near)}')" if near else ""
        return f"{head} lacks the key '{key}'{like}. {count} Is it another architecture, or only a part?"
    key = fit.misshapen[0]
    shape = tuple(fit.state[key].shape)
    return f"{head}: '{key}' has shape {shape}, the model needs {tuple(fit.wanted[key])}. {count} " + _cause_of_shape(
        fit, key, shape
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


def _cause_of_shape(fit: Fit, key: str, shape: tuple[int, ...]) -> str:
    layer = next(reversed([name for name in fit.wanted if name.endswith("weight")]), "").rpartition(".")[0]
    is_last = {name.rpartition(".")[0] for name in fit.misshapen} == {layer}
    if is_last and len(shape) == len(fit.wanted[key]) and shape[1:] == tuple(fit.wanted[key])[1:]:
        return (
            f"The checkpoint has {shape[0]} classes: use data with as many, or as many lines in the file that data.labels "
            'names, or train the last layer on the data: [weights] head = "train".'
        )
    return (
        "The checkpoint has another width, or is of another variant: set model.width and model.name to those that it was "
        "trained with."
    )
