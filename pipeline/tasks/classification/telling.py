"""How answers are told: in tables, in the manifest, and in the files of a finished folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...config import Config
from ...parity import Counts, Worth
from ...program import Output

SCORE = "accuracy"
OUTPUTS = ("logits",)
"""Names of the outputs."""
SOURCES = ("digits", "folder", "images", "arrays", "arrays with truth")
DEFAULTS: Mapping[str, Mapping[str, Any]] = {}


def misfit(shapes: Sequence[tuple[int, ...]], outputs: int, config: Config) -> str:
    return "" if list(shapes) == [(1, outputs)] else f"the data has {outputs} classes: (1, {outputs}) is wanted"


def settings(config: Config, *, trains: bool = False) -> Mapping[str, Any]:
    """None: a logit is a logit."""
    return {}


def told(worth: Worth) -> dict[str, Any]:
    """Agreement and accuracy as shares, and the counts behind them; NaN and None where there are none."""
    agreement, agreed = worth.counted.get("agreement", (math.nan, None))
    paired = _paired(worth)
    return {
        "agreement": agreement,
        "agreed": None if agreed is None else asdict(agreed),
        SCORE: worth.score,
        "paired": None if paired is None else asdict(paired),
    }


def shares(worth: Worth) -> dict[str, float]:
    found = {"agreement": worth.counted["agreement"][0], SCORE: worth.score}
    return {name: share for name, share in found.items() if not math.isnan(share)}


def columns(worth: Worth) -> dict[str, str]:
    """Images that are answered as by the float model, of all; accuracy, with the images that are lost and won."""
    _, agreed = worth.counted.get("agreement", (math.nan, None))
    paired = _paired(worth)
    return {
        "as float": "" if agreed is None else f"{agreed.kept:,} of {agreed.images:,}",
        SCORE: ("–" if math.isnan(worth.score) else f"{100 * worth.score:.2f} %")
        + ("" if paired is None else f" (-{paired.lost} +{paired.won})"),
    }


def _paired(worth: Worth) -> Counts | None:
    return worth.counted["accuracy_drop"][1] if "accuracy_drop" in worth.counted else None


def size(names: Sequence[str]) -> str:
    return f"{len(names)} classes"


def labels(names: Sequence[str]) -> tuple[str, ...]:
    """All: an artifact may name the class itself."""
    return tuple(names)


DESCRIBES = ("labels",)
"""Keys of the manifest that `described` gives."""


def described(names: Sequence[str], config: Config, layout: Sequence[Output]) -> dict[str, Any]:
    return {"labels": list(names)}


def names_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(manifest.get("labels", ()))


def files(names: Sequence[str]) -> dict[str, bytes]:
    """``labels.txt``, one a line in the order of the outputs."""
    return {"labels.txt": ("\n".join(names) + "\n").encode()}


def fault(manifest: Mapping[str, Any], width: int) -> str:
    found = manifest.get("labels", [])
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        return "labels that are no list of names"
    return "" if len(found) == width else f"{len(found)} labels and logits of {width}"
