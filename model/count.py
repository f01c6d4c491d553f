"""Parameters and multiply-adds of a model."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Count:
    """Parameters with BatchNorm's scale and shift, and multiply-adds of convolutions and linear layers."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the published table: exact parameters, millions of multiply-adds, ImageNet top-1 in percent."""

    width: float
    resolution: int
    parameters: int
    mega_multiply_adds: int
    top1: float


def count(model: nn.Module, resolution: int) -> Count:
    """Count `model` on one ``(1, 3, resolution, resolution)`` image; it may live on the meta device."""
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
        model.eval()(torch.zeros(1, 3, resolution, resolution, device=device))
    for hook in hooks:
        hook.remove()
    return Count(parameters=sum(p.numel() for p in model.parameters()), multiply_adds=total)


def published(architecture: str) -> list[Published]:
    """Its published rows, for 1000 classes, from ``<architecture>_published.csv`` beside it; none without that file."""
    path = Path(__file__).parent / f"{architecture}_published.csv"
    text = path.read_text() if path.is_file() else ""
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [
        Published(
            width=float(row["width"]),
            resolution=int(row["resolution"]),
            parameters=int(row["params_total"]),
            mega_multiply_adds=int(row["mmacs_published"]),
            top1=float(row["top1_published"]),
        )
        for row in rows
    ]
