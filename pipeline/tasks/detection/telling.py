"""How boxes are told: in tables, in the manifest, and in the files of a finished folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...config import Config
from ...parity import Worth
from ...program import Output
from .counting import LEAST_SCORE, MOST
from .form import Form, form_of

SCORE = "AP"
IS_SHARE = False
"""Of images, whose interval follows from their number: average precision is none."""
OUTPUTS: tuple[str, ...] = ()
"""Names of the outputs: the model's own, or those of `[[output]]`."""
SOURCES = ("shapes", "folder", "images", "arrays")
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "data": {"source": "shapes"},
    "train": {
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.1,
        "rotation_degrees": 0.0,
        "zoom": 0.2,
        "mirror": True,
    },
    "android": {"package": "com.example.detector"},
    "ios": {"module": "ImageDetector"},
}
FORM = "boxes"
"""In the manifest, and the name of its file: how boxes are found in the outputs."""


def misfit(shapes: Sequence[tuple[int, ...]], outputs: int, config: Config) -> str:
    """What `[[output]]` says, of as many classes as there are names."""
    layout = [Output(name=f"output{number}", shape=shape[1:]) for number, shape in enumerate(shapes)]
    classes = form_of(config, layout).classes
    if classes == outputs:
        return ""
    return (
        f"their scores tell {classes} classes apart, and there are {outputs} names: name the classes of the weights in data.labels, one a line in "
        "their order, and set background under [[output]] where a number of theirs is no class"
    )


def settings(config: Config, *, trains: bool = False) -> Mapping[str, Any]:
    """How outputs are read, and which boxes apps see; average precision, which training tells, looks at more of them."""
    shown = config.detection.model_dump()
    looked_at = shown | {"score": min(LEAST_SCORE, shown["score"]), "most": max(MOST, shown["most"])}
    return {
        "outputs": [one.model_dump(exclude={"name"}) for one in config.output],
        "detection": looked_at if trains else shown,
    }


def told(worth: Worth) -> dict[str, Any]:
    """Average precision, what of it is lost, and the share of boxes that are the float model's, with the counts behind them; NaN and None
    where there are none."""
    return {SCORE: worth.score} | worth.told(("ap_drop", "ap50_drop", "same_boxes"))


def shares(worth: Worth) -> dict[str, float]:
    found = {"same boxes": worth.counted["same_boxes"][0], SCORE: worth.score}
    return {name: share for name, share in found.items() if not math.isnan(share)}


def columns(worth: Worth) -> dict[str, str]:
    """Boxes that are the float model's, of all; average precision, with what of it is lost."""
    _, same = worth.counted.get("same_boxes", (math.nan, None))
    drop, _ = worth.counted.get("ap_drop", (math.nan, None))
    lost = "" if math.isnan(drop) else f" ({-100 * drop:+.2f})"
    return {
        "as float": "" if same is None else f"{same.kept:,} of {same.images:,} boxes",
        SCORE: ("–" if math.isnan(worth.score) else f"{100 * worth.score:.2f} %") + lost,
    }


def size(names: Sequence[str]) -> str:
    return f"boxes of {len(names)} class{'es' if len(names) != 1 else ''}"


def labels(names: Sequence[str]) -> tuple[str, ...]:
    """None: no artifact names the class of an image."""
    return ()


DESCRIBES = ("labels", FORM)
"""Keys of the manifest that `described` gives."""


def described(names: Sequence[str], config: Config, layout: Sequence[Output]) -> dict[str, Any]:
    return {"labels": list(names), FORM: form_of(config, layout).described()}


def fault(manifest: Mapping[str, Any], width: int) -> str:
    found = manifest.get("labels", [])
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        return "labels that are no list of names"
    try:
        form = Form.of(manifest.get(FORM, {}))
    except ValueError:
        return f"'{FORM}' that does not say how boxes are read"
    outputs = [Output(name=one["name"], shape=tuple(one["shape"])) for one in manifest.get("outputs", [])]
    if form.classes != len(found):
        return f"{len(found)} labels and boxes of {form.classes} classes"
    return form.fault(outputs)
