"""Detectors as `[[output]]` declares them, one of each kind, and outputs that such a one could give."""

from __future__ import annotations

import numpy as np
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.tasks.detection.form import form_of

HEAD = {"name": "out", "holds": "packed"}
CORNERS = HEAD | {"format": "xyxy", "activation": "none", "layout": "rows"}
DETECTORS = {  # by name: what [[output]] says, and the shapes
    "packed columns": ([HEAD | {"format": "cxcywh", "activation": "none"}], [(7, 84)]),
    "packed rows with objectness": (
        [HEAD | {"format": "cxcywh", "activation": "sigmoid", "objectness": True, "unit": "share"}],
        [(84, 8)],
    ),
    "background last": (
        [
            {"name": "b", "holds": "boxes", "format": "xyxy", "unit": "share"},
            {"name": "s", "holds": "scores", "activation": "softmax", "background": "last"},
        ],
        [(50, 4), (50, 4)],
    ),
    "anchors": (
        [
            {
                **{
                    "name": "b",
                    "holds": "boxes",
                    "format": "anchors",
                    "variances": [0.1, 0.2],
                    "maps": [[4, 4], [2, 2]],
                },
                "anchors": [[[8, 8], [9, 20]], [[20, 20]]],
            },
            {"name": "s", "holds": "scores", "activation": "softmax", "background": "first"},
        ],
        [(36, 4), (36, 4)],
    ),
    "distances in two maps": (
        [
            *({"name": f"b{n}", "holds": "boxes", "format": "ltrb", "strides": [8 * n]} for n in (1, 2)),
            *({"name": f"s{n}", "holds": "scores", "activation": "sigmoid"} for n in (1, 2)),
            *({"name": f"o{n}", "holds": "objectness"} for n in (1, 2)),
        ],
        [(4, 6, 4), (4, 3, 2), (3, 6, 4), (3, 3, 2), (1, 6, 4), (1, 3, 2)],
    ),
    "anchors in a packed map": (
        [
            {
                **HEAD,
                **{"format": "anchors", "anchors": [[[8, 8], [9, 20]]], "activation": "sigmoid"},
                **{"objectness": True, "center": 0},
            }
        ],
        [(16, 4, 3)],
    ),
    "heat": (
        [
            {"name": "h", "holds": "heat", "activation": "sigmoid"},
            {"name": "w", "holds": "sizes"},
            {"name": "o", "holds": "offsets"},
        ],
        [(3, 12, 8), (2, 12, 8), (2, 12, 8)],
    ),
    "heat in rows without offsets": (
        [
            {"name": "h", "holds": "heat", "activation": "none", "layout": "rows"},
            {"name": "w", "holds": "sizes", "layout": "rows", "unit": "share"},
        ],
        [(12, 8, 3), (12, 8, 2)],
    ),
}


def formed(outputs, shapes, **detection):
    settings = {"model": {"resolution": [48, 32]}, "output": outputs, "detection": detection}
    layout = [Output(name=one["name"], shape=shape) for one, shape in zip(outputs, shapes, strict=True)]
    form = form_of(Config.model_validate(settings), layout)
    assert form.fault(layout) == ""
    return form


def drawn(shapes, seed):
    """Outputs with ties in some, and in some with what is not finite or far too large."""
    rng = np.random.default_rng(seed)
    found = [(rng.normal(size=shape) * 4).astype(np.float32) for shape in shapes]
    if seed % 3 == 1:
        found = [np.round(values) for values in found]
    if seed % 2:
        found = [np.abs(values) for values in found]
    if seed % 5 == 2:
        for values in found:
            strange = rng.choice([np.nan, np.inf, -np.inf, 3e38, -0.0], values.size // 8)
            values.reshape(-1)[rng.integers(0, values.size, len(strange))] = strange
    return found
