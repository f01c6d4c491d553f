"""What the training of a classifier lowers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config import Config
from ...data import moved

if TYPE_CHECKING:
    import torch

    from ..task import AddUp


def augmented(images: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turned, zoomed and moved a little: the class stays."""
    return moved(images, drawn), labels


def loss(logits: torch.Tensor, labels: torch.Tensor, config: Config, add_up: AddUp) -> torch.Tensor:
    """Cross entropy with smoothed labels (Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7)."""
    import torch
    from torch import nn

    share = len(labels) / int(add_up(torch.tensor(len(labels), device=logits.device)))
    return share * nn.functional.cross_entropy(logits, labels, label_smoothing=config.train.label_smoothing)
