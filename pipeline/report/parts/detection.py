"""Of a detector: its boxes on images, precision over recall, and the classes one by one."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...rows import Lines
from ...tasks import Boxes, by_class, errors, kept_in, precision_at_levels
from .. import charts

if TYPE_CHECKING:
    from ...parity import Row
    from ..results import Report

TEMPLATE = "parts/detection.html.j2"
SECTIONS = {"boxes": "Boxes", "precision": "Precision, recall"}
NOTE = "as float: boxes of both that the other one has too, of the same class and 70 % in common. AP: COCO's, in brackets what it is off the float model's."
WORST, SPREAD = 8, 4
"""Images that are shown: where artifacts differ most, and evenly spread over all."""
SIDE = 224
"""Pixels of the longer side that an image has at most on the page."""
CLASSES = 30
LINES = 4

Answers = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A box in pixels of the input: whose, and what it says."""

    left: float
    top: float
    width: float
    height: float
    colour: int
    is_right: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A held-out image as a data URI, and what is drawn on it.

    Attributes:
        said: how many boxes each model shows, in words.
    """

    index: int
    uri: str
    is_small: bool
    boxes: tuple[Drawn, ...]
    said: str


def context(said: Report, worst: Row | None) -> dict[str, Any]:
    first, truth = said.results[0], said.held_out.truth
    models: dict[str, NDArray[np.float64]] = {"float model": first.answers["float"]}
    for result in said.results:
        models |= {name: kept for name, kept in result.answers.items() if name not in ("float", "int8")}
    labels = first.task.names_of(said.manifests[0])
    other = next(iter(models)) if worst is None else f"{worst.artifact.target} {worst.artifact.precision}"
    least = float(said.manifests[0]["boxes"]["score_threshold"])
    is_known = truth.shape[1] > 0
    chosen = ["float model", *([other] if other != "float model" else [])]
    height, width = said.held_out.images.shape[1:3]
    shown = {name: kept_in(models[name]).above(least) for name in models}
    return {
        "labels": labels,
        "chosen": chosen,
        "least": least,
        "is_known": is_known,
        "size": (width, height),
        "pictures": pictures(shown, chosen, truth, said.held_out.images, labels),
        "recall": recall({name: models[name] for name in _lines(models, chosen)}, truth) if is_known else None,
        "recall_names": _lines(models, chosen),
        "classes": classes({name: models[name] for name in chosen}, truth) if is_known else [],
    }


def _lines(models: Answers, chosen: Sequence[str]) -> list[str]:
    """The float model, the artifact that is furthest from it, and one of each other precision."""
    found = list(chosen)
    for name in models:
        precision = name.rpartition(" ")[2]
        if precision not in [one.rpartition(" ")[2] for one in found] and len(found) < LINES:
            found.append(name)
    return found


def pictures(
    shown: Mapping[str, Boxes], chosen: Sequence[str], truth: NDArray[np.float32], images: Lines, labels: Sequence[str]
) -> list[Picture]:
    """Where artifacts differ most from the float model, then where it is furthest from what is right, then some others.

    Args:
        shown: boxes of each model, the float model's first.
        chosen: whose boxes are drawn.
        images: ``(N, H, W, 3)`` uint8.
    """
    right, floating = Boxes.right(truth), shown["float model"]
    differ = sum((errors(boxes, floating) for boxes in shown.values()), np.zeros(len(truth), np.int64))
    wrong = errors(floating, right) if truth.shape[1] else differ
    order = np.lexsort((-wrong, -differ))[:WORST].tolist()
    order += [n for n in np.linspace(0, len(truth) - 1, SPREAD).astype(int).tolist() if n not in order]
    found = []
    for index in order:
        boxes = [one for number, name in enumerate(chosen) for one in _of(shown[name], index, number, name, labels)]
        counts = [f"{name} {int((shown[name].images == index).sum())}" for name in chosen]
        if truth.shape[1]:
            boxes = [*_of(right, index, -1, "right", labels), *boxes]
            counts = [f"right {int((right.images == index).sum())}", *counts]
        uri, is_small = data_uri(images[index])
        found.append(Picture(index=index, uri=uri, is_small=is_small, boxes=tuple(boxes), said=", ".join(counts)))
    return found


def _of(boxes: Boxes, index: int, colour: int, name: str, labels: Sequence[str]) -> list[Drawn]:
    own = boxes[boxes.images == index]
    return [
        Drawn(
            left=left,
            top=top,
            width=right - left,
            height=bottom - top,
            colour=max(colour, 0),
            is_right=colour < 0,
            text=f"{name}: {labels[number] if number < len(labels) else number}{'' if colour < 0 else f', {score:.2f}'}",
        )
        for (left, top, right, bottom), number, score in zip(
            own.boxes.tolist(), own.classes.tolist(), own.scores.tolist(), strict=True
        )
    ]


def recall(models: Answers, truth: NDArray[np.float32]) -> charts.Chart:
    """Precision over recall at an overlap of a half, the mean over classes."""
    found = {name: precision_at_levels(kept, truth) for name, kept in models.items()}
    frame = charts.Frame(
        title="Precision over recall, at an overlap of 0.5",
        description="; ".join(f"{name}: AP50 {100 * float(values.mean()):.1f} %" for name, values in found.items()),
        x_label="recall, %",
        y_label="precision, %",
        x_range=(0, 100),
        y_range=(0, 104),
    )
    lines = [
        charts.Line(
            path=frame.path(list(range(101)), (100 * values).tolist()), colour=number, dashes="5 4" if number else ""
        )
        for number, values in enumerate(found.values())
    ]
    return frame.chart(lines=lines)


def classes(models: Answers, truth: NDArray[np.float32]) -> list[tuple[int, int, list[tuple[float, float]]]]:
    """Number, right boxes, and (AP, AP50) of each model; of many classes those that the last model finds worst."""
    found = [by_class(kept, truth) for kept in models.values()]
    rows = [(one[0].number, one[0].boxes, [(own.ap, own.ap50) for own in one]) for one in zip(*found, strict=True)]
    rows.sort(key=lambda row: row[2][-1][0] if not math.isnan(row[2][-1][0]) else 0.0)
    return rows[:CLASSES]


def data_uri(image: NDArray[np.uint8]) -> tuple[str, bool]:
    """An image ``(H, W, 3)`` uint8 as a PNG inside an address, no larger than `SIDE`, and whether it is small as it is."""
    from PIL import Image

    picture = Image.fromarray(image)
    is_small = max(picture.size) < SIDE // 2
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode(), is_small
