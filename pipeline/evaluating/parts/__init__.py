"""What an evaluation keeps and counts of a task's outputs, a module each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ...data import Gathered, ImageFile, Seen
from ...errors import ConfigError, DataError
from ...parity import Values
from ...tasks import Entry, read_entries

if TYPE_CHECKING:
    from ...parity import Counted
    from ...tasks import Task
    from ..planning import Plan

Kept = Mapping[str, NDArray[Any]]
"""Of the images of a shard that could be read: ``index`` ``(n,)``, ``same`` ``(pairs, n)``, ``snr_db`` ``(artifacts, n)`` against the
reference of each, ``is_finite`` ``(artifacts, n)``, and what the task's part keeps."""
Shards = Callable[[], Iterator[Kept]]
"""All of them in order, as often as it is asked: one in memory at a time."""


class Right(Protocol):
    """What is right of images, where that is more than a number; it travels to workers."""

    def part(self, numbers: Sequence[int]) -> Right:
        """Of some of the images."""

    def key(self) -> bytes:
        """Changes where anything of it does."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A validation set.

    Attributes:
        there: the images.
        truth: ``(N,)`` what is right of each, -1 where that is no one number or not known.
        right: what is right, where it is more.
        notes: what is to be said of it, a line each.
    """

    there: Gathered
    truth: NDArray[np.int64]
    right: Right | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, there: Gathered, right: Right | None = None, notes: Sequence[str] = ()) -> Known:
        """Without a number for each image."""
        return cls(there=there, truth=np.full(len(there.files), -1, np.int64), right=right, notes=tuple(notes))

    def part(self, numbers: Sequence[int]) -> Known:
        """Some of the images."""
        chosen = list(numbers)
        there = self.there
        some = replace(
            there,
            files=tuple(there.files[n] for n in chosen),
            words=tuple(there.words[n] for n in chosen),
            sets=tuple(there.sets[n] for n in chosen),
        )
        right = None if self.right is None else self.right.part(chosen)
        return replace(self, there=some, truth=self.truth[chosen], right=right)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A class of what is right.

    Attributes:
        count: how much of it is known to be right.
        of: images, boxes or pixels.
        shares: of each artifact, how much of it is answered right.
    """

    name: str
    count: int
    of: str
    shares: tuple[Counted, ...]


class Counting(Protocol):
    """What was counted of all images."""

    @property
    def shares(self) -> list[dict[str, Counted]]:
        """Of each artifact, by what is counted."""

    @property
    def counted(self) -> list[dict[str, Counted]]:
        """Of each artifact by metric, against its reference; empty where it has none."""

    @property
    def groups(self) -> list[Group]:
        """By what is right; empty where nothing is known."""


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
    def groups(self) -> list[Group]:
        return []

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        """Of an artifact that has another one for its reference, by metric."""
        raise NotImplementedError


class Part(Protocol):
    """What a module of this folder has."""

    def known(self, data: Path, names: Sequence[str], naming: Path | None, *, skips_damaged: bool) -> Known:
        """Images, and what is right of them.

        Args:
            naming: file of what the outputs are called in the data.
            skips_damaged: pass over what is named and not there.

        Raises:
            DataError: it is nothing that the outputs stand for.
        """

    def right_of(self, plan: Plan, number: int, seen: Seen) -> Any:
        """What is right of an image in the model's input, beside `Plan.truth`; None where nothing is.

        Args:
            seen: its height and width upright, and how it is stored.

        Raises:
            DataError: it cannot be read, or is of another image.
        """

    def kept(self, outputs: Sequence[Values], plan: Plan, right: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """What is kept of the outputs ``(n, width)`` of each artifact, ``same`` with it.

        Args:
            right: of each image, as `right_of` gives it.
        """

    def counting(self, plan: Plan, shards: Shards) -> Counting:
        """Counted over all shards."""

    def columns(self, kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
        """What the table of answers says of an artifact, a list or an array ``(n,)`` by column."""

    def said(self, kept: Kept, place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
        """An artifact's answer to the image at a place of a shard, in words, and whether it is right, where that is known."""


def entries_of(names: Sequence[str], naming: Path | None) -> tuple[tuple[Entry, ...], str]:
    """What the outputs are called in the data, and where that is said.

    Raises:
        DataError: the file has other names than the model.
    """
    if naming is None:
        return tuple(Entry(name) for name in names), "the model"
    where, entries = f"--names '{naming}'", read_entries(naming)
    if tuple(entry.name for entry in entries) != tuple(names):
        raise DataError(
            f"{where} has {len(entries)} names, and they are not the {len(names)} of the model in their order. Give the file of "
            "names that its build was given."
        )
    return entries, where


def file_marks(files: Sequence[ImageFile]) -> list[tuple[str, int, int]]:
    """Name, size and time of each; of one in an archive, the archive's.

    Raises:
        DataError: one is gone.
    """
    known: dict[Path, tuple[int, int]] = {}
    found = []
    for file in files:
        place = file.root if file.root.is_file() else file.path
        if place not in known or place != file.root:
            try:
                status = place.stat()
            except OSError as error:
                raise DataError(f"cannot read the image '{file}': {error}. Mend or remove the file.") from error
            known[place] = status.st_size, status.st_mtime_ns
        found.append((file.name, *known[place]))
        if place != file.root:
            del known[place]
    return found


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
