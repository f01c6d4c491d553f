"""What the training of a segmentation network lowers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config import Config
from ...data import moved
from .decoding import UNSEEN

if TYPE_CHECKING:
    import torch

    from ..task import AddUp


def augmented(images: torch.Tensor, truth: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turned, zoomed and moved a little, the masks ``(N, H, W)`` uint8 with them: the nearest pixel, for classes have no middle."""
    masks = moved(truth[:, None].float(), drawn, "nearest")[:, 0]
    return moved(images, drawn), masks.to(truth.dtype)


def loss(logits: torch.Tensor, truth: torch.Tensor, config: Config, add_up: AddUp) -> torch.Tensor:
    """Cross entropy of each counted pixel, of logits ``(N, C, h, w)`` that are brought to the size of the truth ``(N, H, W)`` as decoding brings
    them (Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 4.1)."""
    from torch import nn

    counted = (truth != UNSEEN).sum()
    share = int(counted) / max(1, int(add_up(counted)))
    if not share:
        return logits.sum() * 0  # a mean of nothing is no number
    wide = nn.functional.interpolate(logits, truth.shape[1:], mode="bilinear", align_corners=False)
    return share * nn.functional.cross_entropy(
        wide, truth.long(), ignore_index=UNSEEN, label_smoothing=config.train.label_smoothing
    )
