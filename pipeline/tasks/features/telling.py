"""What there is to tell of outputs whose meaning is the app's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...config import Config
from ...errors import ConfigError
from ...parity import Truth, Values, Worth
from ...program import Output

if TYPE_CHECKING:
    import torch

    from ..task import AddUp

SCORE = "alike"
OUTPUTS: tuple[str, ...] = ()
"""Names of the outputs: the model's own."""
SOURCES = ("digits", "shapes", "folder", "images", "arrays", "arrays with truth")
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "android": {"package": "com.example.extractor"},
    "ios": {"module": "ImageFeatures"},
}


def misfit(shapes: Sequence[tuple[int, ...]], outputs: int, config: Config) -> str:
    """Nothing: any outputs fit."""
    return ""


def settings(config: Config, *, trains: bool = False) -> Mapping[str, Any]:
    return {}


def augmented(images: torch.Tensor, truth: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return images, truth


def loss(outputs: torch.Tensor, truth: torch.Tensor, config: Config, add_up: AddUp) -> torch.Tensor:
    raise ConfigError("model.task = 'features' knows no loss to train with")


def look(outputs: Values, truth: Truth, config: Config | None = None, layout: Sequence[Output] = ()) -> dict[str, Any]:
    values = outputs.astype(np.float64)
    spread = float(np.abs(values - values.mean(0)).max()) if np.isfinite(values).all() else 0.0
    return {
        "images": len(values),
        "is_finite": bool(np.isfinite(values).all()),
        "spread": spread,
        "largest": float(np.abs(values).max()) if np.isfinite(values).all() else 0.0,
    }


def trouble(look: Mapping[str, Any], names: Sequence[str], *, is_trained: bool) -> str:
    if not look["is_finite"]:
        return "the float model gives numbers that are not finite: are these weights its own?"
    if look["images"] > 1 and look["spread"] <= 1e-6 * look["largest"]:
        return (
            f"the float model gives the same outputs for all of {look['images']:,} images: are these weights its own, and the "
            "images what it knows?"
        )
    return ""


def doubt(look: Mapping[str, Any], names: Sequence[str]) -> str:
    return ""


def told(worth: Worth) -> dict[str, Any]:
    """Shares of images, and the counts behind them; None where nothing ran."""
    return worth.told(("alike", "in_range"))


def shares(worth: Worth) -> dict[str, float]:
    return {name: share for name, (share, _) in worth.counted.items()}


def columns(worth: Worth) -> dict[str, str]:
    """Images whose outputs point where the float model's do, and that stay in its range, of all."""
    cells = {}
    for heading, name in (("as float", "alike"), ("in range", "in_range")):
        _, counts = worth.counted.get(name, (float("nan"), None))
        cells[heading] = "" if counts is None else f"{counts.kept:,} of {counts.images:,}"
    return cells


def size(names: Sequence[str]) -> str:
    return f"{len(names)} features" if names else "features"


def labels(names: Sequence[str]) -> tuple[str, ...]:
    return ()


DESCRIBES: tuple[str, ...] = ()
"""Keys of the manifest that `described` gives."""


def described(names: Sequence[str], config: Config, layout: Sequence[Output]) -> dict[str, Any]:
    return {}


def names_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    return ()


def files(names: Sequence[str]) -> dict[str, bytes]:
    return {}


def fault(manifest: Mapping[str, Any], width: int) -> str:
    return ""
