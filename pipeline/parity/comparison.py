"""How equal the int8 artifacts of all runtimes are: pair by pair, on the same golden images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import limits
from .verdict import Logits

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
        equal: share of logits that are equal, in steps of the int8 logits.
        largest: largest difference in steps.
    """

    names: tuple[str, ...]
    images: int
    equal: tuple[tuple[float, ...], ...]
    largest: tuple[tuple[int, ...], ...]


def tabulate(logits: Mapping[str, Logits], scale: float) -> Comparison:
    """Every pair of logits ``(images, classes)``, by name.

    Args:
        scale: step of the int8 logits.
    """
    apart = [[limits.steps(a, b, scale) for b in logits.values()] for a in logits.values()]
    return Comparison(
        names=tuple(logits),
        images=len(next(iter(logits.values()))),
        equal=tuple(tuple(float((d == 0).mean()) for d in row) for row in apart),
        largest=tuple(tuple(int(d.max()) for d in row) for row in apart),
    )
