"""Parameters and multiply-adds of a model."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

_FOLDER = Path(__file__).parent
_TABLE = "_published.csv"


@dataclass(frozen=True, kw_only=True)
class Count:
    """Parameters with BatchNorm's scale and shift, and multiply-adds of convolutions and linear layers."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a published table: parameters, millions of multiply-adds, and what was measured of the trained network.

    Those of MobileNetV2 are exact; of others as many digits as are published, as the tables themselves say.

    Attributes:
        classes: that the network was counted with.
        score: in percent, on the data set that is usual for its task; None where none is published.
        metric: what the score is.
    """

    width: float
    resolution: int
    parameters: int
    mega_multiply_adds: int
    classes: int
    score: float | None
    metric: str


def count(model: nn.Module, height: int, width: int) -> Count:
    """Count `model` on one ``(1, 3, height, width)`` image; it may live on the meta device."""
    total = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    device = next(model.parameters()).device
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, height, width, device=device))
    for hook in hooks:
        hook.remove()
    return Count(parameters=sum(p.numel() for p in model.parameters()), multiply_adds=total)


def published(architecture: str) -> list[Published]:
    """Its published rows, from the tables ``<module>_published.csv`` beside this file. A table of several architectures has a
    column ``name``; the others are called as their module. Without columns ``classes`` and ``metric`` these are ImageNet's."""
    return [row for path in sorted(_FOLDER.glob(f"*{_TABLE}")) for name, row in _rows(path) if name == architecture]


def usual_classes(module: str) -> int:
    """The number of classes that a module's table counts with; 1000 without a table."""
    path = _FOLDER / f"{module}{_TABLE}"
    return _rows(path)[0][1].classes if path.is_file() else 1000


def _rows(path: Path) -> list[tuple[str, Published]]:
    """Of a table, each behind the name of its architecture."""
    rows = csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#"))
    own = path.name.removesuffix(_TABLE)
    return [
        (
            row.get("name", own),
            Published(
                width=float(row["width"]),
                resolution=int(row["resolution"]),
                parameters=int(row["params_total"]),
                mega_multiply_adds=int(row["mmacs_published"]),
                classes=int(row.get("classes", 1000)),
                score=float(row["score_published"]) if row["score_published"] else None,
                metric=row.get("metric", "top-1"),
            ),
        )
        for row in rows
    ]
