"""Classify an image file with a Core ML package of any origin, on the reference executor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.data import Fit, fit, read_image, rgba
from twinkeel.pipeline.errors import DataError, PackageError
from twinkeel.pipeline.reading import read_bytes, read_json, shown
from twinkeel.pipeline.tasks import top

from . import mil_executor

MAX_LABELS_BYTES = 16 * 2**20
"""100,000 labels of 160 characters."""
MAX_SIDE = 10_000
"""Pixels that a side of a package's input may have."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Classes from the most probable on, each with its probability 0..1; how long it took; where they come from."""

    ranking: list[tuple[str, float]]
    milliseconds: float
    source: str


def classify(path: Path, image: Path, labels: Path | None = None, repeat: int = 1) -> Classification:
    """Run a package on an image file, resized as all of twinkeel does it; letterboxed where the manifest beside it says so.

    Args:
        path: ``.mlpackage`` folder, or ``.pte`` with a Core ML payload.
        labels: class names, one a line, for a package without; ``../labels.txt`` if it is there and fits.
        repeat: runs that the time is the median of.

    Raises:
        PackageError: the package cannot be run, or takes neither an image nor ``(1, H, W, 4)``.
        DataError: the image or the labels cannot be read.
    """
    _check_kind(path)
    model = mil_executor.open_model(path)
    given = _input(model, path, read_image(image))
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        prediction = model.predict(given)
        times.append(time.perf_counter() - start)
    milliseconds = 1e3 * float(np.median(times))
    if prediction.probabilities:
        ranked = [(shown(n), p) for n, p in sorted(prediction.probabilities.items(), key=lambda item: -item[1])]
        return Classification(ranking=ranked, milliseconds=milliseconds, source="probabilities of the package")
    scores = [(name, a) for name, a in prediction.arrays.items() if a.dtype.kind == "f" and a.size > 1]
    if len(scores) != 1:
        raise PackageError(f"'{path}' is no classifier: its outputs are {sorted(prediction.arrays)}")
    name, found = scores[0]
    if sum(size > 1 for size in found.shape) > 1:
        raise PackageError(
            f"'{path}' is no classifier: its output '{shown(name)}' is {found.shape}, and one score for each class is known. A finished folder's "
            "`evaluate` looks at masks and boxes."
        )
    values = found.reshape(-1)
    names = _names(labels, path.parent.parent / "labels.txt", len(values))
    ranking = [(shown(names[index]), probability) for index, probability in top(values, len(values))]
    return Classification(ranking=ranking, milliseconds=milliseconds, source=f"softmax of the output '{shown(name)}'")


def _check_kind(path: Path) -> None:
    """Raise a PackageError for an artifact of another runtime, whose own words would speak of files that it never has."""
    kinds = {".aimodel": "a Core AI package", ".tflite": "a program of LiteRT", ".onnx": "a program of onnxruntime"}
    suffix = ".aimodel" if (path / "main.mlirb").exists() else path.suffix
    if suffix in kinds and path.exists():
        holder = path.resolve().parent.parent
        folder = str(path.parent.parent) if (holder / "manifest.json").is_file() else "FOLDER"
        where = "" if folder != "FOLDER" else ", FOLDER being the finished one that holds it, out/ios for example"
        raise PackageError(
            f"'{path}' is {kinds[suffix]}, and `run` takes Core ML's: an .mlpackage, or a .pte with one inside. "
            f"`twinkeel parity {folder}` runs it on the golden images{where}."
        )


def _input(model: mil_executor.Model, path: Path, image: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    wanted = model.image
    if wanted is not None:
        return {wanted.name: _fitted(image, wanted.height, wanted.width, path)}
    shapes = list(model.inputs.items())
    shape = shapes[0][1] if len(shapes) == 1 else None
    if (
        shape is None
        or len(shape) != 4
        or shape[0] != 1
        or shape[3] != 4
        or not 1 <= min(shape) <= max(shape) <= MAX_SIDE
    ):
        raise PackageError(
            f"'{path}' takes {shown(dict(shapes))}; an image, or one array of (1, H, W, 4) pixels, is known"
        )
    return {shapes[0][0]: rgba(_fitted(image, shape[1], shape[2], path))[None].astype(np.float32)}


def _fitted(image: NDArray[np.uint8], height: int, width: int, path: Path) -> NDArray[np.uint8]:
    try:
        return fit(image, height, width, _fit_of(path))
    except ValueError as error:
        raise PackageError(f"'{path}' takes another shape of image: {error}") from error


def _fit_of(path: Path) -> Fit:
    """As the manifest of the finished folder says that a package lies in; of any other package it is not known."""
    try:
        how = read_json(path.parent.parent / "manifest.json")["input"]["fit"]
    except (OSError, ValueError, KeyError, TypeError):
        return "crop"
    return "letterbox" if how == "letterbox" else "crop"


def _names(labels: Path | None, beside: Path, count: int) -> list[str]:
    chosen = labels if labels is not None else beside if beside.is_file() else None
    if chosen is None:
        return [f"class {number}" for number in range(count)]
    try:
        names = read_bytes(chosen, MAX_LABELS_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the labels '{chosen}': {error}") from error
    if len(names) == count:
        return names
    if labels is not None:
        raise DataError(f"'{labels}' holds {len(names)} labels, the package gives {count} values")
    return [f"class {number}" for number in range(count)]
