"""What manifests say, in words that can be held against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..reading import shown
from . import manifest


def contract(content: Mapping[str, Any], golden: manifest.Golden) -> dict[str, str]:
    """What apps rely on, in words; lists whole, so that any difference shows."""
    task, given = manifest.task_of(content), content.get("input", {})
    given = given if isinstance(given, dict) else {}
    _, height, width, _ = golden.inputs.shape
    outputs = manifest.outputs_of(content, golden.expected["fp32"].shape[1])
    found = {
        "task": task.__name__.rpartition(".")[2],
        "input size": f"{height} x {width}",
        "channels": given.get("model_channels", "rgb"),
        "mean": _numbers(given.get("mean")),
        "std": _numbers(given.get("std")),
        "outputs": ", ".join(f"{one.name} {list(one.shape)}" for one in outputs),
        "inputs beside the image": ", ".join(
            f"{one.name} {list(one.shape)} {one.low:g} to {one.high:g}" for one in manifest.tensors_of(content)
        )
        or "none",
    }
    own = {key: content[key] for key in task.DESCRIBES if key in content}
    return {what: str(value) for what, value in (found | own).items()}


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        shown(what, 60): _apart(old.get(what, ""), new.get(what, ""))
        for what in sorted(old.keys() | new.keys())
        if old.get(what) != new.get(what)
    }


def _apart(old: str, new: str, most: int = 60) -> tuple[str, str]:
    """Both, from a little before where they part where they are long."""
    if max(len(old), len(new)) <= most:
        return shown(old), shown(new)
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - 15)
    front = "... " if start else ""
    return tuple(  # type: ignore[return-value]
        shown(front + text[start : start + most] + ("..." if len(text) > start + most else "")) for text in (old, new)
    )


def sources(content: Mapping[str, Any]) -> dict[str, str]:
    model = content.get("model", {})
    found = {f"model {key}": value for key, value in model.items()} if isinstance(model, dict) else {}
    found |= {key: content[key] for key in ("calibration_images", "calibration_sha256") if key in content}
    return {key: str(value)[:12] if "sha256" in key else str(value) for key, value in found.items()}


def words(found: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _numbers(found: object) -> str:
    values = found if isinstance(found, (list, tuple)) else [found] if found is not None else []
    return ", ".join(f"{number(value):g}" for value in values) or "not said"


def number(found: object) -> float:
    """NaN where it is none; manifests have infinities as text."""
    if isinstance(found, str) and found in ("inf", "-inf"):
        return float(found)
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else math.nan
