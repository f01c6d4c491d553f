"""How masks are told: in tables, in the manifest, and in the files of a finished folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...config import Config
from ...parity import Worth
from ...program import Output

SCORE = "mIoU"
IS_SHARE = False
"""Of images, whose interval follows from their number: mIoU is none."""
OUTPUTS = ("logits",)
"""Names of the outputs."""
SOURCES = ("shapes", "folder", "images", "arrays")
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "data": {"source": "shapes"},
    "train": {
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.05,
        "label_smoothing": 0.0,
        "rotation_degrees": 0.0,
        "zoom": 0.2,
        "mirror": True,
    },
    "android": {"package": "com.example.segmenter"},
    "ios": {"module": "ImageSegmenter"},
}


def settings(config: Config, *, trains: bool = False) -> Mapping[str, Any]:
    """The size of the masks, which is the input's, is known with the model."""
    return {}


def misfit(shapes: Sequence[tuple[int, ...]], outputs: int, config: Config) -> str:
    """Logits of each class at any number of places."""
    (shape,) = shapes
    if len(shape) == 4 and shape[1] == outputs and min(shape[2:]) >= 1:
        return ""
    return f"the masks have {outputs} classes: (1, {outputs}, height, width) of any height and width is wanted"


def told(worth: Worth) -> dict[str, Any]:
    """Agreement and mIoU as shares, and the counts behind them; NaN and None where there are none."""
    return {SCORE: worth.score} | worth.told(("agreement", "miou_drop"))


def shares(worth: Worth) -> dict[str, float]:
    found = {"agreement": worth.counted["agreement"][0], SCORE: worth.score}
    return {name: share for name, share in found.items() if not math.isnan(share)}


def columns(worth: Worth) -> dict[str, str]:
    """Pixels that are answered as by the float model, of all; mIoU, with what of it is lost."""
    alike, _ = worth.counted.get("agreement", (math.nan, None))
    drop, counts = worth.counted.get("miou_drop", (math.nan, None))
    return {
        "as float": "" if math.isnan(alike) else f"{100 * alike:.2f} % of pixels",
        SCORE: ("–" if math.isnan(worth.score) else f"{100 * worth.score:.2f} %")
        + ("" if counts is None else f" ({-100 * drop:+.2f})"),
    }


def size(names: Sequence[str]) -> str:
    return f"masks of {len(names)} classes"


def labels(names: Sequence[str]) -> tuple[str, ...]:
    """None: no artifact makes masks itself."""
    return ()


DESCRIBES = ("labels",)
"""Keys of the manifest that `described` gives."""


def described(names: Sequence[str], config: Config, layout: Sequence[Output]) -> dict[str, Any]:
    return {"labels": list(names)}


def fault(manifest: Mapping[str, Any], width: int) -> str:
    found = manifest.get("labels", [])
    if not isinstance(found, list) or not found or not all(isinstance(label, str) for label in found):
        return "labels that are no list of names"
    return "" if width % len(found) == 0 else f"{len(found)} labels, and outputs of {width} values"
