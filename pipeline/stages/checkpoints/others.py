"""Which of our networks a checkpoint is of that does not fit the one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from . import fitting

Make = Callable[[int, float], nn.Module]
"""(outputs, width multiplier) -> the network."""

_WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.4, 0.25, 1.3, 0.1, 0.2)
"""Multipliers that networks are published with, or made with here."""
_FEW = 0.5
"""Share of the tensors that may differ by the number of classes."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """A network that has the checkpoint's names.

    Attributes:
        width: with which it has its shapes too, but for the number of classes; None where it is none of the usual ones.
    """

    name: str
    width: float | None


def of_content(content: dict[Any, Any], key: str | None, makes: Mapping[str, Make]) -> list[Other]:
    """Those that a checkpoint's content fits; where it fits none, those whose names it has."""

    def looked_at(model: nn.Module) -> tuple[bool, bool]:
        shapes = shapes_of(model)
        best = fitting.fits(content, shapes, key)[0]
        return not best.missing and not best.extra, is_alike(best.state, shapes)

    return chosen(makes, looked_at)


def chosen(makes: Mapping[str, Make], looked_at: Callable[[nn.Module], tuple[bool, bool]]) -> list[Other]:
    """The networks that have the shapes of a file; where none has, those that have its names.

    Args:
        looked_at: whether the file has the names of a network, and whether its shapes too.
    """
    found = [one for name, make in makes.items() if (one := _tried(name, make, looked_at)) is not None]
    return [one for one in found if one.width is not None] or found


def _tried(name: str, make: Make, looked_at: Callable[[nn.Module], tuple[bool, bool]]) -> Other | None:
    for width in _WIDTHS:
        with torch.device("meta"):  # shapes alone
            model = make(2, width)
        has_names, has_shapes = looked_at(model)
        if not has_names:  # they are the same at any width
            return None
        if has_shapes:
            return Other(name=name, width=width)
    return Other(name=name, width=None)


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def is_alike(state: Mapping[str, torch.Tensor], shapes: fitting.Shapes) -> bool:
    """Whether tensors have these shapes, but for a few that differ in how many numbers their layer gives."""
    other = [key for key, shape in shapes.items() if key in state and state[key].shape != shape]
    return len(other) <= _FEW * len(shapes) and all(is_longer(state[key].shape, shapes[key]) for key in other)


def is_longer(given: torch.Size, wanted: torch.Size) -> bool:
    """Whether two shapes differ in their first side alone: in how many numbers a layer gives."""
    return len(given) == len(wanted) > 0 and given[1:] == wanted[1:]
