"""Every state dict in a checkpoint's content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

_DEPTH = 6
"""Of dictionaries: Lightning's callbacks keep averages at 3."""
_MOST = 20_000
"""Dictionaries that are looked at; an optimizer has one for each tensor."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One dictionary with tensors.

    Attributes:
        path: the keys that lead to it, joined by dots; empty of the content itself.
        depth: their number.
        tensors: by name.
    """

    path: str
    depth: int
    tensors: dict[str, torch.Tensor] = field(repr=False)


def state_dicts(content: dict[Any, Any]) -> list[Found]:
    """All dictionaries with tensors under names, the outer ones first, in the order of the file."""
    found = []
    for path, depth, node in _levels(content):
        # methods of the class: a file can give a dictionary attributes of these names
        items = dict.items(node)
        tensors = {key: value for key, value in items if isinstance(key, str) and isinstance(value, torch.Tensor)}
        if tensors:
            found.append(Found(path=path, depth=depth, tensors=tensors))
    return found


def dictionaries(content: dict[Any, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The content and the dictionaries in it with the keys that lead to them, the outer ones first."""
    return ((path, node) for path, _, node in _levels(content))


def _levels(content: dict[Any, Any]) -> Iterator[tuple[str, int, dict[Any, Any]]]:
    level, seen = [("", content)], {id(content)}
    for depth in range(_DEPTH):
        inner = []
        for path, node in level:
            yield path, depth, node
            for key, value in dict.items(node):
                if (
                    isinstance(value, dict)
                    and isinstance(key, str | int)
                    and id(value) not in seen
                    and len(seen) < _MOST
                ):
                    seen.add(id(value))
                    inner.append((f"{path}.{key}" if path else str(key), value))
        level = inner


def meant(found: Iterable[Found], key: str) -> list[Found]:
    """The state dicts that a dotted path leads to; the path may end in what stands before the names that are meant."""
    named = []
    for one in found:
        rest = key if not one.path else key.removeprefix(f"{one.path}.") if key.startswith(f"{one.path}.") else ""
        inside = {name: value for name, value in one.tensors.items() if rest and name.startswith(f"{rest}.")}
        if one.path == key:
            named.append(one)
        elif inside:
            named.append(Found(path=one.path, depth=one.depth, tensors=inside))
    return named


def listed(found: Iterable[Found], most: int = 6) -> str:
    """Paths with numbers of tensors, those with the most first, for a message."""
    largest = sorted(found, key=lambda one: -len(one.tensors))
    named = [f"'{one.path}' ({len(one.tensors)})" for one in largest if one.path]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")
