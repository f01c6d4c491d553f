"""Data sets of images of one colour, which says the class and the number, so that each is found again."""

from __future__ import annotations

import numpy as np
from PIL import Image
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.tasks import classification

STEP = 25
"""Between the reds of two classes."""


def put(folder, number, count, first=0, suffix=".png"):
    """Images of class `number`, in order, below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in range(first, first + count):
        Image.new("RGB", (8, 8), (number * STEP, one, 77)).save(folder / f"{one}{suffix}")
    return folder


def load(path, outputs=0, **settings):
    """The data set of a folder."""
    asked = {"source": "folder", "path": str(path), "calibration": 2} | settings
    weights = {"path": "given.safetensors"} if asked["source"] == "images" else {}
    return classification.load(Config.model_validate({"data": asked, "weights": weights}), lambda: outputs)


def images_of(*parts):
    """{(class by its colour, number): truth} of sets."""
    found = {}
    for part in parts:
        for image, truth in zip(part.images, part.truth, strict=True):
            assert np.ptp(image.reshape(-1, 3), axis=0).max() == 0, "no image of one colour"
            red, one, _ = (int(level) for level in image[0, 0])
            found[red // STEP, one] = int(truth)
    return found


def everything(found):
    return images_of(found.train, found.calibration, found.held_out)


def whole(found, names, counts):
    """Check the names, and that every image is there under its class."""
    assert found.names == tuple(names)
    assert everything(found) == {(number, one): number for number, n in enumerate(counts) for one in range(n)}


def said(found):
    """What a user is told of a data set, line by line."""
    return [*found.notes, *(f"{what}: {text}" for what, text in found.taken)]
