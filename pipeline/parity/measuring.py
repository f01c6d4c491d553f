"""Run an artifact beside its references, and put what comes out into numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..program import Classify, Run, Target
from ..tasks import softmax
from . import limits
from .limits import Check
from .verdict import Logits

PROBABILITY_TOLERANCE = 4e-3
"""Between an artifact's probabilities and the softmax of its logits: two roundings of values up to 1 to float16,
and of logits up to 16 before the exponential."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an artifact is compared with, all ``(N, classes)`` float32 on the same images.

    Attributes:
        reference: what it must equal.
        floating: the folded float model.
        quantized: the int8 reference that all runtimes share; None where none was kept.
        unrounded: `reference` without the rounding of activations; None where it has none.
        output_scale: step of the int8 logits.
        labels: class names in the order of the logits.
    """

    reference: Logits
    floating: Logits
    quantized: Logits | None
    unrounded: Logits | None
    output_scale: float
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Logits ``(N, classes)``, every metric that could be taken of them, whether the artifact holds labels, and its run."""

    logits: Logits
    metrics: Mapping[str, float]
    names_classes: bool
    run: Run


def measure(
    target: Target,
    path: Path,
    precision: str,
    images: NDArray[np.uint8],
    expected: Expected,
    closely: Sequence[int] | None = None,
    twin: Path | None = None,
) -> Measurement:
    """Run an artifact on images ``(N, H, W, 4)`` uint8 RGBA.

    Args:
        closely: indices of the images for the slow checks, in exact arithmetic; all by default.
        twin: float32 copy of a quantized artifact; it must equal `expected.quantized`.

    Raises:
        Exception: whatever a runtime raises on an artifact that it does not take.
    """
    loaded = target.load(path)
    chosen = list(range(len(images)) if closely is None else closely)
    logits = run_all(loaded.run, images)
    quantized = expected.quantized if precision == "int8" else None
    metrics = limits.logit_metrics(expected.reference, logits, expected.floating, quantized, expected.output_scale)
    if loaded.exact is not None:
        metrics["exact_error"] = limits.max_error(expected.reference[chosen], run_all(loaded.exact, images[chosen]))
    if loaded.unrounded is not None and expected.unrounded is not None:
        metrics["unrounded_error"] = limits.max_error(
            expected.unrounded[chosen], run_all(loaded.unrounded, images[chosen])
        )
    if loaded.classify is not None:
        metrics["label_errors"] = float(
            _label_errors(loaded.classify, images[chosen], logits[chosen], list(expected.labels))
        )
    if twin is not None and expected.quantized is not None:
        run = target.load(twin).exact
        if run is not None:
            metrics["twin_error"] = limits.max_error(expected.quantized[chosen], run_all(run, images[chosen]))
    return Measurement(logits=logits, metrics=metrics, names_classes=loaded.classify is not None, run=loaded.run)


def described(error: Exception) -> str:
    """An error of any library in a line or two."""
    return f"{type(error).__name__}: {str(error).strip()[:500]}"


def broken(reason: str) -> Check:
    """The check of an artifact that does not run at all."""
    return Check(leg="lower", metric="runs", measured=0, sense=">=", limit=1, reason=reason)


def latencies(runs: Mapping[str, Run], image: NDArray[np.uint8], repeats: int) -> dict[str, float]:
    """Median milliseconds on this machine, all artifacts in turn so that its noise meets them alike."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run(image)
            taken[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(times)) for name, times in taken.items()}


def run_all(run: Run, images: NDArray[np.uint8]) -> Logits:
    """Logits ``(N, classes)`` of images ``(N, H, W, 4)``, one at a time."""
    return np.concatenate([run(image[None]) for image in images])


def _label_errors(classify: Classify, images: NDArray[np.uint8], logits: Logits, labels: list[str]) -> int:
    """Number of images whose label or probabilities are not those of the logits, name by name."""
    errors = 0
    for image, scores in zip(images, logits, strict=True):
        label, probabilities = classify(image[None])
        named = np.array([probabilities.get(name, np.nan) for name in labels])
        expected = softmax(scores)
        is_right = (
            list(probabilities) == labels
            and bool((np.abs(named - expected) <= PROBABILITY_TOLERANCE).all())
            and probabilities.get(label) == named.max()
        )
        errors += not is_right
    return errors
