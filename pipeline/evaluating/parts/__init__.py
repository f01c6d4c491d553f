"""What an evaluation keeps and counts of a task's outputs, a module each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ...data import Gathered
from ...errors import ConfigError
from ...parity import Values

if TYPE_CHECKING:
    from ...parity import Counted
    from ...tasks import Task
    from ..planning import Plan

Kept = Mapping[str, NDArray[Any]]
"""Of the images of a shard that could be read: ``index`` ``(n,)``, ``same`` ``(pairs, n)``, ``snr_db`` ``(artifacts, n)`` against the
reference of each, ``is_finite`` ``(artifacts, n)``, and what the task's part keeps."""
Shards = Callable[[], Iterator[Kept]]
"""All of them in order, as often as it is asked: one in memory at a time."""


class Counting(Protocol):
    """What was counted of all images."""

    @property
    def shares(self) -> list[dict[str, Counted]]:
        """Of each artifact, by what is counted."""

    @property
    def counted(self) -> list[dict[str, Counted]]:
        """Of each artifact by metric, against its reference; empty where it has none."""

    @property
    def groups(self) -> list[tuple[str, int, list[int]]]:
        """Name, images and how many of them each artifact gets right, by what is right; empty where nothing is known."""


@dataclass(kw_only=True)
class Nearness:
    """What was counted where nothing is known to be right: how near each artifact is to its reference.

    Attributes:
        images: that were counted.
    """

    plan: Plan
    images: int

    @property
    def shares(self) -> list[dict[str, Counted]]:
        return [{} for _ in self.plan.artifacts]

    @property
    def counted(self) -> list[dict[str, Counted]]:
        return [
            {} if one.reference in (None, n) else self.against_reference(n) for n, one in enumerate(self.plan.artifacts)
        ]

    @property
    def groups(self) -> list[tuple[str, int, list[int]]]:
        return []

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        """Of an artifact that has another one for its reference, by metric."""
        raise NotImplementedError


class Part(Protocol):
    """What a module of this folder has."""

    def truth_of(
        self, there: Gathered, names: Sequence[str], naming: Path | None
    ) -> tuple[NDArray[np.int64], list[str]]:
        """What is right of each image, and what is to be said of it.

        Raises:
            DataError: it is nothing that the outputs stand for.
        """

    def kept(self, outputs: Sequence[Values], plan: Plan) -> dict[str, NDArray[Any]]:
        """What is kept of the outputs ``(n, width)`` of each artifact, ``same`` with it."""

    def counting(self, plan: Plan, shards: Shards) -> Counting:
        """Counted over all shards."""

    def columns(self, kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
        """What the table of answers says of an artifact, a list or an array ``(n,)`` by column."""

    def said(self, kept: Kept, place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
        """An artifact's answer to the image at a place of a shard, in words, and whether it is right, where that is known."""


def of(task: Task) -> Part:
    """The part of a task.

    Raises:
        ConfigError: it has none.
    """
    return named(task.__name__.rpartition(".")[2])


def named(name: str) -> Part:
    """The part of the task of this name; as `of`."""
    known = sorted(entry.name for entry in pkgutil.iter_modules(__path__))
    if name not in known:
        raise ConfigError(f"evaluate does not know the task '{name}'; it knows {', '.join(known)}")
    return cast("Part", importlib.import_module(f"{__name__}.{name}"))
