"""Run an artifact beside its references, and put what comes out into numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ..data import Images, arrays
from ..program import Output, Run, Target
from . import metrics
from .limits import Check
from .meaning import Meaning
from .metrics import Values

DOCTOR = "`twinkeel doctor` says what is installed and does not import, and what to type"
"""Of an ImportError, what to do."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an artifact is compared with, all packed ``(N, width)`` float32 on the same images.

    Attributes:
        reference: what it must equal.
        floating: the folded float model.
        quantized: the int8 reference that all runtimes share; None where none was kept.
        unrounded: `reference` without the rounding of activations; None where it has none.
        outputs: what stands where in them.
        names: what the outputs stand for, in their order.
    """

    reference: Values
    floating: Values
    quantized: Values | None
    unrounded: Values | None
    outputs: Sequence[Output]
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Packed outputs ``(N, width)``, every metric that could be taken of them, whether the artifact decodes them itself or names them, and its
    run."""

    outputs: Values
    metrics: Mapping[str, float]
    decodes: bool
    run: Run


def measure(
    target: Target,
    path: Path,
    precision: str,
    images: Images,
    expected: Expected,
    meaning: Meaning,
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
    outputs = run_all(loaded.run, images)
    quantized = expected.quantized if precision == "int8" else None
    found = metrics.output_metrics(expected.reference, outputs, expected.floating, quantized, expected.outputs)
    if loaded.exact is not None:
        found["exact_error"] = metrics.max_error(expected.reference[chosen], run_all(loaded.exact, images[chosen]))
    if loaded.unrounded is not None and expected.unrounded is not None:
        found["unrounded_error"] = metrics.max_error(
            expected.unrounded[chosen], run_all(loaded.unrounded, images[chosen])
        )
    if loaded.decode is not None and meaning.decode_errors is not None:
        errors = meaning.decode_errors(loaded.decode, images[chosen], outputs[chosen], list(expected.names))
        found[meaning.decoding] = float(errors)
    elif loaded.names is not None and meaning.decoding:
        # all of them, for what no image is answered with is named as well
        found[meaning.decoding] = float(sum(one != other for one, other in zip_longest(loaded.names, expected.names)))
    if twin is not None and expected.quantized is not None:
        run = target.load(twin).exact
        if run is not None:
            found["twin_error"] = metrics.max_error(expected.quantized[chosen], run_all(run, images[chosen]))
    return Measurement(outputs=outputs, metrics=found, decodes=meaning.decoding in found, run=loaded.run)


def described(error: Exception) -> str:
    """An error of any library in a line or two."""
    hint = f". {DOCTOR}" if isinstance(error, ImportError) else ""
    return f"{type(error).__name__}: {str(error).strip()[:500]}{hint}"


def broken(reason: str) -> Check:
    """The check of an artifact that does not run at all."""
    return Check(leg="lower", metric="runs", measured=0, sense=">=", limit=1, reason=reason)


def latencies(runs: Mapping[str, Run], image: Images, repeats: int) -> dict[str, float]:
    """Median milliseconds on this machine, all artifacts in turn so that its noise meets them alike."""
    return {name: float(np.median(taken)) for name, taken in times(runs, image, repeats).items()}


def times(runs: Mapping[str, Run], image: Images, repeats: int) -> dict[str, list[float]]:
    """The same, each single time."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    given = arrays(image)
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run(*given)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return taken


def run_all(run: Run, images: Images) -> Values:
    """Packed outputs ``(N, width)`` of images ``(N, H, W, 4)``, one at a time."""
    return np.concatenate([run(*arrays(images[n : n + 1])) for n in range(len(images))])
