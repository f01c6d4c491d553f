"""Of a segmentation network: masks on images, and how well each class is found."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...tasks import Shown, colours, ious, overlaid, step_of

if TYPE_CHECKING:
    from ...parity import Row
    from ..results import Report

TEMPLATE = "parts/segmentation.html.j2"
SECTIONS = {"classes": "Classes", "masks": "Masks"}
NOTE = "as float: pixels that are answered as by the float model, the mean over images. mIoU: in brackets the points that are lost or won against it."
CLASSES = 40
"""With more, those that are lost most."""
_ENLARGED = 96
"""Pixels of the longer side that a picture has at least: small ones are enlarged by a whole number."""
_UNCOUNTED = 255


@dataclass(frozen=True, kw_only=True)
class OfClass:
    """A class: its colour, the share of the counted pixels that are it, and its IoU by each model; NaN where it is in neither truth nor answer."""

    index: int
    colour: str
    share: float
    ious: tuple[float, ...]

    @property
    def loss(self) -> float:
        apart = self.ious[0] - self.ious[-1]
        return 0.0 if math.isnan(apart) else apart


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A held-out image as data URIs: as it is, under its truth, and under the mask of each model, with the mIoU of each by itself; and the pixels
    that the models answer otherwise, in percent."""

    index: int
    image: str
    truth: str
    masks: tuple[str, ...]
    own: tuple[float, ...]
    apart: float


def context(said: Report, worst: Row | None) -> dict[str, Any]:
    first, truth = said.results[0], said.held_out.truth
    labels = first.task.names_of(said.manifests[0])
    is_known = bool((truth != _UNCOUNTED).any())
    models = chosen(said, worst, truth, len(labels))
    return {
        "labels": labels,
        "chosen": list(models),
        "is_known": is_known,
        "classes": of_classes(list(models.values())) if is_known else [],
        "pictures": pictures(said, list(models.values())),
    }


def chosen(said: Report, worst: Row | None, truth: NDArray[np.uint8], classes: int) -> dict[str, Shown]:
    """The float model and the worst artifact, on the same images."""
    other = "" if worst is None else f"{worst.artifact.target} {worst.artifact.precision}"
    # each platform keeps the images on which its own artifacts are furthest apart
    result = next((one for one in said.results if other in one.answers), said.results[0])
    return {
        label: Shown.of(result.answers[name], len(truth), classes, truth.shape[1:])
        for label, name in (("float model", "float"), (other, other))
        if name in result.answers
    }


def of_classes(models: list[Shown]) -> list[OfClass]:
    """In their order; of many those that the last model loses most."""
    each = [ious(one.counts) for one in models]
    pixels = models[0].counts.truth[0]
    found = [
        OfClass(
            index=n,
            colour=_colour(n),
            share=float(pixels[n] / max(1, pixels.sum())),
            ious=tuple(float(one[n]) for one in each),
        )
        for n in range(len(pixels))
    ]
    if len(found) > CLASSES:
        found = sorted(found, key=lambda one: -one.loss)[:CLASSES]
    return found


def pictures(said: Report, models: list[Shown]) -> list[Picture]:
    held_out = said.held_out
    step = step_of(held_out.truth.shape[1:])
    found = []
    for place, index in enumerate(models[0].images.tolist()):
        image = np.asarray(held_out.images[index])[::step, ::step]
        masks = [one.masks[place] for one in models]
        found.append(
            Picture(
                index=index,
                image=data_uri(image),
                truth=data_uri(overlaid(image, held_out.truth[index][::step, ::step])),
                masks=tuple(data_uri(overlaid(image, mask)) for mask in masks),
                own=tuple(float(one.own[index]) for one in models),
                apart=float((masks[0] != masks[-1]).mean()),
            )
        )
    return found


def _colour(index: int) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in colours()[index])


def data_uri(image: NDArray[np.uint8]) -> str:
    """An image ``(H, W, 3)`` uint8 as a PNG inside an address."""
    from PIL import Image

    picture = Image.fromarray(image)
    factor = max(1, _ENLARGED // max(picture.size))
    picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
