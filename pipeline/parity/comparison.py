"""How equal the int8 artifacts of all runtimes are: pair by pair, on the same golden images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .metrics import Values

REFERENCE = "quantized reference"
INTEGERS = {
    "int8-xnnpack": f"{REFERENCE}, XNNPACK's integers",
    "int8-onnxruntime": f"{REFERENCE}, onnxruntime's integers",
}
"""What the references in integer arithmetic are called, by key."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Square tables in the order of `names`.

    Attributes:
        images: number of golden images.
        equal: share of outputs that are equal, in steps of the int8 outputs.
        largest: largest difference in steps.
    """

    names: tuple[str, ...]
    images: int
    equal: tuple[tuple[float, ...], ...]
    largest: tuple[tuple[int, ...], ...]


def tabulate(outputs: Mapping[str, Values], scale: float | NDArray[np.float64]) -> Comparison:
    """Every pair of outputs ``(images, ...)``, by name.

    Args:
        scale: step of the int8 outputs, or of each value ``(width,)``.
    """
    apart = [[metrics.steps(a, b, scale) for b in outputs.values()] for a in outputs.values()]
    return Comparison(
        names=tuple(outputs),
        images=len(next(iter(outputs.values()))),
        equal=tuple(tuple(float((d == 0).mean()) for d in row) for row in apart),
        largest=tuple(tuple(int(d.max()) for d in row) for row in apart),
    )
