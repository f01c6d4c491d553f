"""Of a classifier: which classes are taken for which, and the images that are answered worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...rows import Lines
from ...tasks import Answers
from ..pictures import THUMBNAIL, data_uri

if TYPE_CHECKING:
    from ...parity import Row
    from ..results import Report

TEMPLATE = "parts/classification.html.j2"
SECTIONS = {"confusion": "Confusion", "images": "Worst images"}
NOTE = "accuracy: - images that the float model gets right and it does not, + the other way round."
MATRIX_CLASSES = 30
"""With more classes the most confused pairs stand instead of a matrix."""
WORST_IMAGES = 12
CONFUSED_PAIRS = 20


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often a model answers what: `counts` ``(labels, answers)``, or the most confused pairs.

    Attributes:
        pairs: label, answer, images, images with this label.
    """

    name: str
    accuracy: float
    counts: list[list[int]]
    pairs: list[tuple[int, int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer to an image: the class, the range of its probability, and the models that gave it."""

    answer: int
    lowest: float
    highest: float
    models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WorstImage:
    """A held-out image as a data URI, its label, and all answers to it, the most frequent first."""

    index: int
    label: int
    uri: str
    is_small: bool
    said: tuple[Said, ...]


def context(said: Report, worst: Row | None) -> dict[str, Any]:
    first, truth = said.results[0], said.held_out.truth
    models = {"float model": Answers.of(first.answers["float"])}
    for result in said.results:
        models |= {name: Answers.of(kept) for name, kept in result.answers.items() if name not in ("float", "int8")}
    labels = first.task.names_of(said.manifests[0])
    name = None if worst is None else f"{worst.artifact.target} {worst.artifact.precision}"
    return {
        "labels": labels,
        "confusions": [] if (truth < 0).all() else confusions(models, truth, name, len(labels)),
        "worst": worst_images(models, truth, said.held_out.images),
        "models": len(models),
    }


def confusions(
    models: Mapping[str, Answers], truth: NDArray[np.int64], worst: str | None, classes: int
) -> list[Confusion]:
    """Of the float model, and of the artifact that answers worst where it answers otherwise."""
    chosen = ["float model"] + ([] if worst is None else [worst])
    found = []
    for name in chosen:
        answers = models[name].classes
        pairs = Counter(zip(truth.tolist(), answers.tolist(), strict=True))
        counts: list[list[int]] = []
        if classes <= MATRIX_CLASSES:
            counts = [[pairs[label, answer] for answer in range(classes)] for label in range(classes)]
        totals = Counter(truth.tolist())
        wrong = sorted((-n, label, answer) for (label, answer), n in pairs.items() if label != answer)
        found.append(
            Confusion(
                name=name,
                accuracy=float((answers == truth).mean()),
                counts=counts,
                pairs=[(label, answer, -n, totals[label]) for n, label, answer in wrong[:CONFUSED_PAIRS]],
            )
        )
    return found


def worst_images(models: Mapping[str, Answers], truth: NDArray[np.int64], images: Lines) -> list[WorstImage]:
    """The images that most models get wrong (without labels: answer otherwise than the float model), then those that they disagree on, then those the float model doubts.

    Args:
        models: float model first.
        images: ``(N, H, W, 3)`` uint8.
    """
    floating = next(iter(models.values()))
    answers = np.stack([answer.classes for answer in models.values()])
    if (truth < 0).all():  # nobody knows what is right; what the float model says is what there is
        truth = floating.classes
    wrong = (answers != truth).sum(0)
    differ = (answers != floating.classes).sum(0)
    surety = np.where(floating.classes == truth, 1.0, -1.0) * floating.probabilities
    order = np.lexsort((surety, -differ, -wrong))[:WORST_IMAGES]
    return [
        WorstImage(
            index=int(index),
            label=int(truth[index]),
            uri=data_uri(images[index]),
            is_small=max(images.shape[1:3]) < THUMBNAIL,
            said=_said(models, int(index)),
        )
        for index in order
    ]


def _said(models: Mapping[str, Answers], index: int) -> tuple[Said, ...]:
    groups: dict[int, list[tuple[str, float]]] = {}
    for name, answers in models.items():
        groups.setdefault(int(answers.classes[index]), []).append((name, float(answers.probabilities[index])))
    found = [
        Said(
            answer=answer,
            lowest=min(p for _, p in group),
            highest=max(p for _, p in group),
            models=_together([name for name, _ in group]),
        )
        for answer, group in groups.items()
    ]
    return tuple(sorted(found, key=lambda said: -len(groups[said.answer])))


def _together(names: Sequence[str]) -> tuple[str, ...]:
    """``a/b fp32``, ``a/b int8`` -> ``a/b fp32, int8``."""
    found: dict[str, list[str]] = {}
    for name in names:
        target, _, precision = name.rpartition(" ")
        found.setdefault(target, []).append(precision)
    return tuple(f"{target} {', '.join(precisions)}" for target, precisions in found.items())
