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
    """A row of a published table: parameters, millions of multiply-adds, ImageNet top-1 in percent.

    Those of MobileNetV2 are exact; of EfficientNet-Lite two digits of the parameters and three of the multiply-adds.
    """

    width: float
    resolution: int
    parameters: int
    mega_multiply_adds: int
    top1: float


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
    """Its published rows, for 1000 classes, from the tables ``<module>_published.csv`` beside this file. A table of several
    architectures has a column ``name``; the others are called as their module."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*_published.csv")):
        rows = csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#"))
        own = path.name.removesuffix("_published.csv")
        found += [
            Published(
                width=float(row["width"]),
                resolution=int(row["resolution"]),
                parameters=int(row["params_total"]),
                mega_multiply_adds=int(row["mmacs_published"]),
                top1=float(row["top1_published"]),
            )
            for row in rows
            if row.get("name", own) == architecture
        ]
    return found
