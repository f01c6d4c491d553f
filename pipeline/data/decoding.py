"""Many image files, decoded once and side by side, into one file of pixels that is never in memory whole."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextvars import ContextVar
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, WorkerError
from ..rows import Lines, Rows, Stored, hash_of
from ..saying import Say, time_left
from ..store import Workers
from .files import ImageFile
from .pixels import Fit, fit

Seen = tuple[int, int, int]
"""Of a file: height and width of the upright image, and the orientation in which it is stored, as EXIF numbers it."""
Read = Callable[[ImageFile], tuple[NDArray[np.uint8], tuple[str, ...], Seen]]
"""Gives the pixels ``(height, width, 3)`` of a file, what was done to them, and how it was before; it travels to other processes."""

FEW = 1024
"""So many images are decoded before another process would have started."""
_PART = (512, 4096)
"""Images of one process at least and at most: starting one takes as long as a hundred, and progress is said after each."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where pixels are put, and who hears how far it is.

    Attributes:
        folder: of files that are needed until the data set is kept.
        number: of processes that decode; one is this one.
    """

    folder: Path
    say: Say
    number: int = 1


_PLACE: ContextVar[Place | None] = ContextVar("place of decoded images", default=None)


@contextlib.contextmanager
def put_into(place: Place) -> Iterator[None]:
    """Within it, what is decoded goes into a file there; without, into memory."""
    token = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(token)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Of files, in their order.

    Attributes:
        images: ``(files, height, width, 3)`` uint8; zeros where a file could not be read.
        said: how many images were changed beyond decoding, by what was done.
        errors: why files could not be read, by their number.
        seen: ``(files, 3)`` int64, as `Seen` has it.
    """

    images: Lines
    said: Counter[str]
    errors: dict[int, DataError]
    seen: NDArray[np.int64]


def decode(files: Sequence[ImageFile], size: tuple[int, int], read: Read) -> Pixels:
    """All of them, whatever is wrong with some.

    Args:
        size: height and width that `read` gives.
    """
    place, said, errors = _PLACE.get(), Counter[str](), dict[int, DataError]()
    shape, seen = (len(files), *size, 3), np.zeros((len(files), 3), np.int64)
    if place is None:
        pixels = np.zeros(shape, np.uint8)
        for number, found in enumerate(_read(read, file, said) for file in files):
            if isinstance(found, DataError):
                errors[number] = found
            else:
                pixels[number], seen[number] = found
        return Pixels(images=pixels, said=said, errors=errors, seen=seen)
    path, hashes = _new_file(place.folder, shape), np.zeros(len(files), "<U64")
    for first, part in _shared(files, read, path, place):
        hashes[first : first + len(part.hashes)] = part.hashes
        seen[first : first + len(part.hashes)] = part.seen
        said += part.said
        errors |= part.errors
    return Pixels(images=Rows.of(path, hashes), said=said, errors=dict(sorted(errors.items())), seen=seen)


class Images(Protocol):
    """An array of images, or what makes them one by one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...


def refitted(given: Images, size: tuple[int, int], how: Fit = "crop") -> Lines:
    """Images ``(H, W, 3)`` uint8 at another size, in a file where there is a place for one."""
    place = _PLACE.get()
    if place is None:
        return np.stack([fit(image, *size, how) for image in given])
    path = _new_file(place.folder, (len(given), *size, 3))
    with path.open("r+b") as out:
        start = Stored.of(path).start
        for number, image in enumerate(given):
            _write(out, fit(image, *size, how), start + number * 3 * size[0] * size[1])
    return Rows.of(path)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Of some files, as `Pixels` has it."""

    hashes: list[str]
    said: Counter[str]
    errors: dict[int, DataError]
    seen: list[Seen]


def _shared(files: Sequence[ImageFile], read: Read, path: Path, place: Place) -> Iterator[tuple[int, _Part]]:
    """The number of the first file of each part, and what was made of it; as they are done."""
    count, began, done = len(files), time.monotonic(), 0
    size = min(max(-(-count // (4 * place.number)), _PART[0]), _PART[1])
    firsts = range(0, count, size)
    if place.number < 2 or count <= FEW:
        for first in firsts:
            yield first, _part(first, files[first : first + size], read, path)
            _tell(place.say, min(first + size, count), count, time.monotonic() - began)
        return
    pool = Workers(place.number)
    try:
        waiting = {pool.submit(_part, first, files[first : first + size], read, path): first for first in firsts}
        for future in as_completed(waiting):
            some = files[waiting[future] : waiting[future] + size]
            try:
                yield waiting[future], future.result()
            except WorkerError as error:
                raise DataError(
                    f"one of the images '{some[0]}' to '{some[-1]}', {len(some):,} in all, ends the process that decodes it: "
                    f"{error}. Leave out half of them to find it."
                ) from error
            done += len(some)
            _tell(place.say, done, count, time.monotonic() - began)
    finally:
        pool.shutdown(cancel_futures=True)


def _tell(say: Say, done: int, count: int, seconds: float) -> None:
    if count <= FEW:
        return
    rate, rest = done / max(seconds, 1e-3), time_left(done, count, seconds)
    say(f"data: {done:,} of {count:,} images, {rate:,.0f} a second{rest}", (done, count))


def _part(first: int, files: Sequence[ImageFile], read: Read, path: Path) -> _Part:
    """In a worker: some of the files, from the number `first` on, written where they belong."""
    made, start = _Part(hashes=[], said=Counter(), errors={}, seen=[]), Stored.of(path).start
    with path.open("r+b") as out:
        for number, file in enumerate(files, first):
            found = _read(read, file, made.said)
            if isinstance(found, DataError):
                made.errors[number] = found
                made.hashes.append("")
                made.seen.append((0, 0, 1))
                continue
            pixels, seen = found
            _write(out, pixels, start + number * pixels.nbytes)
            made.hashes.append(hash_of(pixels))
            made.seen.append(seen)
    return made


def _read(read: Read, file: ImageFile, said: Counter[str]) -> tuple[NDArray[np.uint8], Seen] | DataError:
    try:
        pixels, words, seen = read(file)
    except DataError as error:
        return error
    said.update(words)
    return pixels, seen


def _new_file(folder: Path, shape: tuple[int, ...]) -> Path:
    """An array of zeros in a file there; the room for it is taken, so that a disk that is too small says so before hours of work."""
    path = folder / f"images-{len(list(folder.iterdir()))}.npy"
    with path.open("xb") as file:
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)
        file.flush()
        size = file.tell() + math.prod(shape)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            os.ftruncate(file.fileno(), size)
    return path


def _write(out: BufferedRandom, pixels: NDArray[np.uint8], place: int) -> None:
    part = np.ascontiguousarray(pixels).reshape(-1).data
    while part:
        count = os.pwrite(out.fileno(), part, place)
        part, place = part[count:], place + count
