"""The shards of an evaluation, by workers: each decodes images, has every artifact run them, and writes what is kept, whole or not at all."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..config import Config, Input
from ..data import DamagedImage, ImageFile, Images, arrays, beside, decoded, fit, rgba, with_tensors
from ..errors import ConversionError, DataError, TwinkeelError, WorkerError
from ..parity import Values, each
from ..program import Run, Runtime, Target
from ..saying import Say
from ..store import Workers
from . import parts
from .parts import Kept
from .planning import Artifact, Plan

Damage = list[tuple[int, bool, str]]
"""Number of an image, whether it is damaged or of a kind that is not read, and the error."""

_MOST_DB = 120.0
_OURS = re.compile(r"[0-9a-f]{64}\.npz")
_SHOWN = 20
"""Images that an error names."""


def shards(plan: Plan, folder: Path, work: Path, jobs: int, say: Say) -> int:
    """Write the shards that are not in `folder`, and return how many there were to write; others there are dropped.

    Args:
        work: folder of what is not whole, on the same disk.
        jobs: processes.

    Raises:
        DataError: images cannot be read.
        WorkerError: an artifact or an image ends its process. What was written is kept.
    """
    folder.mkdir(exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    wanted = {f"{key}.npz": number for number, key in enumerate(plan.keys)}
    for name in there - wanted.keys():
        if _OURS.fullmatch(name):  # what else lies there is the user's
            (folder / name).unlink()
    for name in there & wanted.keys():
        if not _is_whole(folder / name, plan.keys[wanted[name]]):
            say(f"evaluate: '{folder / name}' is damaged, or holds another's answers: computed anew")
            _remove(folder / name)
            there.discard(name)
    missing = [number for name, number in wanted.items() if name not in there]
    if kept := len(wanted) - len(missing):
        say(f"evaluate: {kept:,} of {len(wanted):,} shards are there already")
    if missing:
        _run(plan, missing, folder, work, min(jobs, len(missing)), say)
    return len(missing)


def _run(plan: Plan, missing: Sequence[int], folder: Path, work: Path, jobs: int, say: Say) -> None:
    pool, began = Workers(jobs), time.monotonic()
    try:
        waiting = [pool.submit(write, plan, missing[n::jobs], folder, work, n) for n in range(jobs)]
        rest, told = set(waiting), -1
        while rest:
            done, rest = wait(rest, timeout=1.0, return_when="FIRST_EXCEPTION")
            count = sum((folder / f"{plan.keys[number]}.npz").exists() for number in missing)
            if count != told:
                _tell(plan, count, len(missing), time.monotonic() - began, say)
            told = count
            if any(one.exception() for one in done):
                break
        for number, one in enumerate(waiting):
            if one.done():
                _check(one, work / f"at-{number}")
    finally:
        pool.shutdown(cancel_futures=True)


def _check(one: Future[None], place: Path) -> None:
    """Raise what a worker raised, with what it was at where it died."""
    try:
        one.result()
    except WorkerError as error:
        where = place.read_text(encoding="utf-8") if place.is_file() else "its beginning"
        raise WorkerError(
            f"a worker ends at {where}: {error}. What was written is kept. Leave an artifact out by --only, or the images."
        ) from error


def _tell(plan: Plan, done: int, count: int, seconds: float, say: Say) -> None:
    images, total = (min(shards * plan.per_shard, len(plan.files)) for shards in (done, count))
    rate = images / max(seconds, 1e-3)
    left = (count - done) * plan.per_shard / rate if rate else 0.0
    rest = f", {rate:,.0f} a second, about {left:,.0f} s left" if done else ""
    say(f"evaluate: {images:,} of {total:,} images by {len(plan.artifacts)} artifacts{rest}", (done, count))


def write(plan: Plan, numbers: Sequence[int], folder: Path, work: Path, worker: int) -> None:
    """In a worker: these shards, one after the other."""
    one = writer(plan, folder, work, worker)
    for number in numbers:
        one(number)


def writer(plan: Plan, folder: Path, work: Path, worker: int) -> Callable[[int], None]:
    """With all artifacts loaded, what writes a shard by its number."""
    part, runs = parts.named(plan.task), [_loaded(one) for one in plan.artifacts]
    at = work / f"at-{worker}"

    def write_one(number: int) -> None:
        images, index, right, damaged = _decoded(plan, number)
        outputs = []
        for artifact, run in zip(plan.artifacts, runs, strict=True):
            first = plan.files[plan.part(number).start]
            at.write_text(f"{artifact.name}, images {first} and on", encoding="utf-8", errors="replace")
            outputs.append(run_all(run, images, plan, artifact))
        told = {"key": np.array(plan.keys[number]), "damaged": np.array(json.dumps(damaged))}
        found = {"index": index, **told, **_common(outputs, plan)}
        if len(index):
            found |= part.kept(outputs, plan, right)
        stream = io.BytesIO()
        np.savez(stream, **found)  # type: ignore[arg-type]
        _put(stream.getvalue(), folder / f"{plan.keys[number]}.npz", work)

    return write_one


def _put(content: bytes, path: Path, work: Path) -> None:
    """Whole, by a rename, or not at all."""
    descriptor, name = tempfile.mkstemp(dir=work)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    Path(name).replace(path)


def _loaded(artifact: Artifact) -> Run:
    runtime = cast("Runtime", importlib.import_module(artifact.runtime))
    target = cast("Target", importlib.import_module(artifact.target))
    path = artifact.path
    if hasattr(target, "payload"):
        path = target.payload(path, Path(tempfile.mkdtemp(prefix="twinkeel-evaluate-")))
    try:
        return runtime.load(path, runtime.UNITS[0])
    except TwinkeelError:
        raise
    except Exception as error:  # each runtime has errors of its own for what it does not take
        raise ConversionError(
            f"{artifact.name} does not load: {type(error).__name__}: {str(error).strip()[:500]}"
        ) from error


def run_all(run: Run, images: Images, plan: Plan, artifact: Artifact) -> Values:
    """Packed outputs ``(n, width)`` of images ``(n, H, W, 4)``, one at a time."""
    width = sum(one.size for one in plan.outputs)
    given = arrays(images)
    found = np.empty((len(images), width), np.float32)
    try:
        for n, inputs in enumerate(zip(*(array[:, None] for array in given), strict=True)):
            found[n] = run(*inputs)
    except Exception as error:
        raise ConversionError(
            f"{artifact.name} does not run: {type(error).__name__}: {str(error).strip()[:500]}"
        ) from error
    return found


def _decoded(plan: Plan, shard: int) -> tuple[Images, NDArray[np.int64], list[Any], Damage]:
    """Images of a shard that can be read, their numbers among all, what is right of each, and what is wrong with others."""
    part = parts.named(plan.task)
    pixels: list[NDArray[np.uint8]] = []
    index: list[int] = []
    known: list[Any] = []
    damaged: Damage = []
    for number in range(plan.part(shard).start, plan.part(shard).stop):
        try:
            image = decoded(plan.files[number])
            height, width = image.pixels.shape[:2]
            right = part.right_of(plan, number, (height, width, image.orientation))
            pixels.append(fit(image.pixels, *plan.size, plan.how))
            index.append(number)
            known.append(right)
        except DataError as error:
            damaged.append((number, isinstance(error, DamagedImage), str(error)))
    stacked = rgba(np.stack(pixels)) if pixels else np.zeros((0, *plan.size, 4), np.uint8)
    files = [plan.files[n] for n in index]
    return with_tensors(stacked, _tensors(files, plan)), np.array(index, np.int64), known, damaged


def _tensors(files: Sequence[ImageFile], plan: Plan) -> tuple[NDArray[np.float32], ...]:
    """What lies beside the images; drawn ones would say nothing of a real set."""
    if not plan.tensors or not files:
        return ()
    without = [file for file in files if file.beside(".npz") is None]
    if without:
        raise DataError(
            f"{len(without)} images have no tensors beside them, '{without[0]}' is the first. The model takes "
            f"{', '.join(one.name for one in plan.tensors)}: write them as cat.npz beside cat.jpg, by `numpy.savez`."
        )
    asked = [Input(name=one.name, shape=list(one.shape), range=[one.low, one.high]) for one in plan.tensors]
    return beside.tensors_of(files, len(files), Config().model_copy(update={"input": asked}))


def _common(outputs: Sequence[Values], plan: Plan) -> dict[str, NDArray[Any]]:
    """What is kept of any task's outputs."""
    noise = [
        np.full(len(outputs[n]), np.nan) if one.reference is None else _snr_db(outputs[one.reference], outputs[n], plan)
        for n, one in enumerate(plan.artifacts)
    ]
    return {
        "snr_db": np.array(noise, np.float32),
        "is_finite": np.array([np.isfinite(one).all(1) for one in outputs], bool),
    }


def _snr_db(reference: Values, candidate: Values, plan: Plan) -> NDArray[np.float64]:
    """Of each image ``(n,)``, at most 120 dB; of several outputs the worst."""
    found = []
    for one, other in each(plan.outputs, reference, candidate):
        signal = np.square(one, dtype=np.float64).sum(1)
        noise = np.maximum(np.square(one.astype(np.float64) - other).sum(1), 10 ** (-_MOST_DB / 10) * signal)
        found.append(10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30)))
    least: NDArray[np.float64] = np.min(found, axis=0)
    return least


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A shard; a TwinkeelError where it is damaged, which its disk alone does."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise TwinkeelError(f"'{path}' is damaged: {error}. Remove it, and run again: it alone is computed.") from error


def _is_whole(path: Path, key: str) -> bool:
    """Whether a shard is the one that its name says, to its last byte: the archive has a checksum of each array."""
    try:
        with _opened(path) as stored:
            found = {name: stored[name] for name in stored.files}
    except TwinkeelError:
        return False
    return str(found.get("key")) == key


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def read(plan: Plan, folder: Path) -> Iterator[Kept]:
    """The shards in their order, without those of which no image could be read."""
    for key in plan.keys:
        with _opened(folder / f"{key}.npz") as stored:
            found = {name: stored[name] for name in stored.files}
        if len(found["index"]):
            yield found


def damaged(plan: Plan, folder: Path) -> list[str]:
    """Names of images that could not be read.

    Raises:
        DataError: there are some, and they are not to be passed over; those that are not read by a rule never are.
    """
    found: Damage = []
    for key in plan.keys:
        with _opened(folder / f"{key}.npz") as stored:
            found += [
                (int(number), bool(is_damaged), text) for number, is_damaged, text in json.loads(str(stored["damaged"]))
            ]
    wrong = [one for one in found if not (one[1] and plan.skips_damaged)]
    if wrong:
        (_, _, text), *others = wrong
        if others:
            more = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
            names = ", ".join(f"'{plan.files[number]}'" for number, _, _ in others[:_SHOWN])
            text = f"{len(wrong):,} images cannot be read. The first: {text} The others: {names}{more}."
        raise DataError(f"{text} --skip-damaged passes over damaged ones; nothing is computed twice.")
    return [str(plan.files[number]) for number, _, _ in found]
