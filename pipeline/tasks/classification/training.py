"""What the training of a classifier lowers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config import Config, Train
from ...data import moved, turns

if TYPE_CHECKING:
    import torch


def augmented(images: torch.Tensor, labels: torch.Tensor, recipe: Train) -> tuple[torch.Tensor, torch.Tensor]:
    """Turned, zoomed and moved a little: the class stays."""
    return moved(images, turns(len(images), recipe)), labels


def loss(logits: torch.Tensor, labels: torch.Tensor, config: Config) -> torch.Tensor:
    """Cross entropy with smoothed labels (Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7)."""
    from torch import nn

    return nn.functional.cross_entropy(logits, labels, label_smoothing=config.train.label_smoothing)
