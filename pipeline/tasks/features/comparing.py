"""How near outputs are to those of the float model, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...parity import Counted, Limit, Meaning, Truth, Values, each, share_of
from ...program import Output

COSINE = 0.98
"""Of an output and the float model's on one image, at least. Noise 14 dB below the signal turns it as far."""
MARGIN = 0.1
"""Of the float model's range over all images: what lies further outside is out of range."""


def cosines(reference: Values, candidate: Values, outputs: Sequence[Output]) -> NDArray[np.float64]:
    """Of each image ``(N,)``, -1..1: of several outputs the least. Two outputs of zeros are alike."""
    found = []
    for one, other in each(outputs, reference, candidate):
        a, b = one.astype(np.float64), other.astype(np.float64)
        lengths = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
        products = (a * b).sum(1)
        are_equal = (a == b).all(1)
        found.append(np.where(are_equal, 1.0, products / np.maximum(lengths, 1e-30)))
    least: NDArray[np.float64] = np.min(found, axis=0)
    return least


def are_in_range(reference: Values, candidate: Values, outputs: Sequence[Output]) -> NDArray[np.bool_]:
    """Whether all that an image gives ``(N,)`` lies in the range of the reference over all images, and `MARGIN` around it."""
    found = []
    for one, other in each(outputs, reference, candidate):
        low, high = float(one.min()), float(one.max())
        more = MARGIN * max(high - low, 1e-6)
        found.append(((other >= low - more) & (other <= high + more)).all(1))
    inside: NDArray[np.bool_] = np.all(found, axis=0)
    return inside


def count(
    original: Values, folded: Values, candidate: Values, truth: Truth, outputs: Sequence[Output]
) -> dict[str, Counted]:
    """Images that point where the float model's outputs do, and that stay in its range."""
    alike = cosines(folded, candidate, outputs) >= COSINE
    inside = are_in_range(folded, candidate, outputs)
    return {"alike": share_of(len(alike), int(alike.sum())), "in_range": share_of(len(inside), int(inside.sum()))}


def answers(models: Sequence[Values], truth: Truth, config: Config, layout: Sequence[Output]) -> NDArray[np.float64]:
    """Mean and root mean square of what each image gives, ``(models, 2, N)``."""
    each_one = [outputs.astype(np.float64) for outputs in models]
    return np.array([[values.mean(1), np.sqrt(np.square(values).mean(1))] for values in each_one])


_ALIKE = Limit.counted("alike", ">=", 0.95, f"images whose outputs keep their direction, a cosine of {COSINE} and more")
_INSIDE = Limit.counted(
    "in_range", ">=", 0.9, "what leaves the float model's range by a tenth is nothing that it would say"
)

MEANING = Meaning(
    counted={"alike": ">=", "in_range": ">="},
    limits={
        ("quantize", "int8", "runtime"): (Limit.counted("alike", ">=", 0.9, _ALIKE.reason), _INSIDE),
        ("lower", "fp16", "reference executor"): (_ALIKE,),
        ("lower", "int8", "reference executor"): (Limit.counted("alike", ">=", 0.9, _ALIKE.reason), _INSIDE),
        ("lower", "w8", "reference executor"): (_ALIKE, _INSIDE),
        ("lower", "w4", "reference executor"): (
            Limit.counted(
                "alike", ">=", 0.8, "one image of five turned further, twice what int8 may, is the price of 4 bits"
            ),
        ),
    },
    score=lambda outputs, truth, layout: math.nan,
    count=count,
)


def meaning(config: Config) -> Meaning:
    return MEANING
