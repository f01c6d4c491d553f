"""Arrays of images that lie in files: what is asked for is read, and the rest costs no memory."""

from __future__ import annotations

import hashlib
import io
import math
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 2**26
"""Bytes that are gathered together where a whole array is gone through."""


@dataclass(frozen=True, eq=False)
class Stored:
    """An array in an ``.npy`` file, open for reading: it stays the same whatever becomes of the path.

    Attributes:
        start: where its first number lies.
        hashes: SHA-256 of each row's bytes, where whoever wrote them took it.
    """

    path: Path
    file: io.FileIO
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    hashes: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, path: Path) -> Stored:
        """Raises an OSError where the file cannot be opened, a ValueError where it holds no such array."""
        descriptor = os.open(path, os.O_RDONLY)
        file = io.FileIO(descriptor, closefd=False)
        weakref.finalize(file, os.close, descriptor)  # when nobody reads it any more
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        if is_fortran or dtype.hasobject or not shape:
            raise ValueError(f"'{path}' holds no rows of numbers, one behind the other")
        return cls(path, file, file.tell(), shape, dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def read_into(self, out: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        """Rows of these numbers; those that follow each other are read together."""
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        ends = [*(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
        begin = 0
        for end in ends:
            part = out[begin:end].reshape(-1).view(np.uint8).data
            place = self.start + size * int(numbers[begin])
            while part:
                count = os.preadv(self.file.fileno(), [part], place)
                if count <= 0:
                    raise OSError(f"'{self.path}' is shorter than it was")
                part, place = part[count:], place + count
            begin = end


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one or several arrays ``(N, ...)``; ``numpy.asarray`` reads them all, an index some.

    Attributes:
        sources: their rows are numbered one after another.
        numbers: which of them these are, in order.
    """

    sources: tuple[Stored | NDArray[Any], ...]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path, hashes: NDArray[np.str_] | None = None) -> Rows:
        """All of an ``.npy`` file; raises as `Stored.of`."""
        stored = replace(Stored.of(path), hashes=hashes)
        return cls((stored,), np.arange(len(stored)))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), *self.sources[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.sources[0].dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, chosen: Any) -> Any:
        """One row in memory, or `Rows`: by a slice, indices, or a mask."""
        if isinstance(chosen, int | np.integer):
            return np.asarray(Rows(self.sources, self.numbers[[int(chosen)]]))[0]
        if isinstance(chosen, list) and not chosen:
            chosen = slice(0)  # numpy takes no empty list for indices
        return Rows(self.sources, self.numbers[chosen])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for part in parts(self):
            yield from part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows of a file are in memory as a copy alone")
        out = np.empty(self.shape, self.dtype)
        first = 0
        for source in self.sources:
            here = np.flatnonzero((self.numbers >= first) & (self.numbers < first + len(source)))
            if len(here) and not isinstance(source, Stored):
                out[here] = source[self.numbers[here] - first]
            elif len(here) and len(here) == len(out):
                source.read_into(out, self.numbers - first)  # type: ignore[union-attr]
            elif len(here):
                found = np.empty((len(here), *out.shape[1:]), out.dtype)
                source.read_into(found, self.numbers[here] - first)  # type: ignore[union-attr]
                out[here] = found
            first += len(source)
        return out if dtype is None else out.astype(dtype)


Lines = NDArray[Any] | Rows
"""An array in memory, or rows of one that need not be."""


def joined(one: Lines, other: Lines) -> Lines:
    """One behind the other; in memory where both are."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.concatenate([one, other])
    left, right = (part if isinstance(part, Rows) else Rows((part,), np.arange(len(part))) for part in (one, other))
    if [id(source) for source in left.sources] == [id(source) for source in right.sources]:
        return Rows(left.sources, np.concatenate([left.numbers, right.numbers]))
    behind = sum(len(source) for source in left.sources)
    return Rows((*left.sources, *right.sources), np.concatenate([left.numbers, right.numbers + behind]))


def at_hand(rows: Lines, most: int = 2**28) -> Lines:
    """In memory where it has at most so many bytes: it is to be read again and again."""
    return np.asarray(rows) if rows.dtype.itemsize * math.prod(rows.shape) <= most else rows


def parts(rows: Lines, at_once: int = AT_ONCE) -> Iterator[NDArray[Any]]:
    """All of it in order, so many bytes in memory at a time."""
    count = max(1, at_once // max(1, rows.dtype.itemsize * math.prod(rows.shape[1:])))
    for start in range(0, len(rows), count):
        yield np.asarray(rows[start : start + count])


def hashes_of(rows: Lines) -> NDArray[np.str_]:
    """SHA-256 of each row's bytes, ``(N,)``."""
    known = [one.hashes for one in rows.sources if isinstance(one, Stored)] if isinstance(rows, Rows) else []
    if isinstance(rows, Rows) and known and len(known) == len(rows.sources) and all(one is not None for one in known):
        found: NDArray[np.str_] = np.concatenate(known)[rows.numbers]  # type: ignore[arg-type]
        return found
    return np.array([hash_of(row) for row in rows], "<U64")


def hash_of(row: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(row).data).hexdigest()


def save(rows: Lines, path: Path, tell: Callable[[int], None] = lambda _: None) -> None:
    """As `numpy.save` writes it.

    Args:
        tell: is told how many rows are written, again and again.
    """
    described = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": rows.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        done = 0
        for part in parts(rows):
            file.write(np.ascontiguousarray(part).data)
            done += len(part)
            tell(done)
