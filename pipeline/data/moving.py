"""Images turned, zoomed and moved at random for training, and what lies in them with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..config import Train

if TYPE_CHECKING:
    import torch


def turns(count: int, settings: Train) -> torch.Tensor:
    """Random turn, zoom and shift of each of so many images, in -1..1 of what the settings allow, and -1 where it is mirrored: ``(5, count)``;
    drawn on the CPU, so that every device sees the same numbers."""
    import torch

    draw = torch.rand(4, count) * 2 - 1
    factors = [math.radians(settings.rotation_degrees), settings.zoom, 2 * settings.shift, 2 * settings.shift]
    side = torch.where(torch.rand(count) < 0.5, -1.0, 1.0) if settings.mirror else torch.ones(count)
    return torch.stack([*(one * factor for one, factor in zip(draw, factors, strict=True)), side])


def grid_rows(drawn: torch.Tensor, aspect: float) -> torch.Tensor:
    """Where a point of the changed image is in the given one: ``(N, 2, 3)`` rows of an affine map of (x, y, 1), both axes from -1 to 1
    whatever the image's shape, as `torch.nn.functional.affine_grid` takes them.

    Args:
        drawn: of `turns`.
        aspect: height over width of the images.
    """
    import torch

    angle, zoom, shift_x, shift_y, side = drawn[0], 1 + drawn[1], drawn[2], drawn[3], drawn[4]
    cos, sin = zoom * angle.cos(), angle.sin()
    # a turn has to know the image's shape
    rows = [cos * side, -sin * aspect, shift_x, sin / aspect * side, cos, shift_y]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def moved(batch: torch.Tensor, drawn: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Each image ``(N, C, H, W)`` turned, zoomed and moved as drawn; the edge pixel is repeated outside.

    Args:
        mode: "bilinear", or "nearest" for maps of numbers that stand for something.
    """
    from torch import nn

    rows = grid_rows(drawn, batch.shape[2] / batch.shape[3])
    grid = nn.functional.affine_grid(rows.to(batch.device), list(batch.shape), align_corners=False)
    return nn.functional.grid_sample(batch, grid, mode=mode, padding_mode="border", align_corners=False)
