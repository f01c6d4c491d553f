"""What is counted of answers: accuracy, what of it is lost, and agreement with the float model; and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...data import Images, arrays
from ...parity import NAMED, Counted, Limit, Meaning, Values, drop_of, share_of
from ...program import Decode, Output
from .ranking import softmax

PROBABILITY_TOLERANCE = 4e-3
"""Between an artifact's probabilities and the softmax of its logits: two roundings of values up to 1 to float16,
and of logits up to 16 before the exponential."""

Labels = NDArray[np.int64]


def accuracy(logits: Values, labels: Labels, outputs: Sequence[Output] = ()) -> float:
    """Share of images whose top class is the label; NaN where there are no labels."""
    return math.nan if is_unlabelled(labels) else float((logits.argmax(1) == labels).mean())


def is_unlabelled(labels: Labels) -> bool:
    """Whether nothing is known of any image: labels of -1."""
    return bool((labels < 0).all())


def accuracy_drop(reference: Values, candidate: Values, labels: Labels) -> Counted:
    """How much of the accuracy is lost, -1..1, and the counts behind it.

    Args:
        reference: logits ``(N, classes)``, as `candidate`.
        labels: ``(N,)``.
    """
    one, other = reference.argmax(1) == labels, candidate.argmax(1) == labels
    return drop_of(
        len(labels), kept=int((one & other).sum()), lost=int((one & ~other).sum()), won=int((other & ~one).sum())
    )


def agreement(reference: Values, candidate: Values) -> Counted:
    """Share of images with the same top class, and the counts behind it."""
    return share_of(len(reference), int((reference.argmax(1) == candidate.argmax(1)).sum()))


def count(
    original: Values, folded: Values, candidate: Values, labels: Labels, outputs: Sequence[Output]
) -> dict[str, Counted]:
    """Of the candidate's logits ``(N, classes)``: accuracy against the original, agreement with the folded model."""
    found = {"agreement": agreement(folded, candidate)}
    return found if is_unlabelled(labels) else found | {"accuracy_drop": accuracy_drop(original, candidate, labels)}


def label_errors(classify: Decode, images: Images, logits: Values, labels: list[str]) -> int:
    """Number of images whose label or probabilities are not those of the logits, name by name."""
    errors = 0
    for number, scores in enumerate(logits):
        label, probabilities = classify(*arrays(images[number : number + 1]))
        named = np.array([probabilities.get(name, np.nan) for name in labels])
        expected = softmax(scores)
        is_right = (
            list(probabilities) == labels
            and bool((np.abs(named - expected) <= PROBABILITY_TOLERANCE).all())
            and probabilities.get(label) == named.max()
        )
        errors += not is_right
    return errors


_ACCURACY = Limit.counted("accuracy_drop", "<=", 0.005, "half a point of top-1")
_AGREEMENT = Limit.counted("agreement", ">=", 0.9, "one answer of ten turned is another model to who uses it")

MEANING = Meaning(
    counted={"accuracy_drop": "<=", "agreement": ">="},
    limits={
        ("quantize", "int8", "runtime"): (_AGREEMENT, _ACCURACY),
        ("lower", "fp16", "reference executor"): (_ACCURACY,),
        ("lower", "int8", "reference executor"): (_ACCURACY,),
        ("lower", "w8", "reference executor"): (
            _ACCURACY,
            Limit.counted("agreement", ">=", 0.95, "with activations in float, 8 bits turn half of what int8 may"),
        ),
        ("lower", "w4", "reference executor"): (
            Limit.counted(
                "accuracy_drop",
                "<=",
                0.03,
                "three points of top-1: learned rounding to 4 bits costs MobileNetV2 2.5 (Nagel et al., 'Up or Down?', 2020)",
            ),
            Limit.counted(
                "agreement", ">=", 0.8, "one answer of five turned, twice what int8 may, is the price of 4 bits"
            ),
        ),
    },
    score=accuracy,
    count=count,
    decoding=NAMED.metric,
    decode_errors=label_errors,
)

_HALF = Limit.counted(
    "agreement", ">=", 0.95, "without labels in place of half a point of accuracy: answers on a hair may turn"
)
"""Of artifacts that compute in float16: 58 dB turned 1.3 % of a network's answers to images of none of its classes."""


def _without_labels(key: tuple[str, str, str]) -> tuple[Limit, ...]:
    rows = tuple(row for row in MEANING.limits[key] if row.metric != "accuracy_drop")
    if key[0] != "lower" or key[1] == "fp32" or any(row.metric == "agreement" for row in rows):
        return rows
    return (_HALF if key[1] == "fp16" else _AGREEMENT, *rows)


_UNLABELLED = replace(
    MEANING, counted={"agreement": ">="}, limits={key: _without_labels(key) for key in MEANING.limits}
)


def meaning(config: Config) -> Meaning:
    """Without labels agreement alone is counted, also of artifacts that accuracy limits with them."""
    return MEANING if config.data.has_truth else _UNLABELLED
