"""What the training of a detector lowers: SSD's loss, of networks whose boxes are offsets from anchors.

Each right box takes the anchor that overlaps it most, and each other anchor the right box that it overlaps most, where that is half or
more (Liu et al., "SSD: Single Shot MultiBox Detector", 2016, section 2.2). The loss is smooth L1 of the offsets of these anchors (Girshick,
"Fast R-CNN", 2015), and cross entropy of their scores and of those of the others that are wrong most, three for each; over their number.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...config import Config
from ...data import grid_rows, moved
from ...errors import ConfigError
from ...program import layout_of
from .form import Form, form_of
from .matching import VISIBLE

if TYPE_CHECKING:
    import torch

    from ..task import AddUp

OVERLAP = 0.5
NEGATIVES = 3
"""Anchors of the background that count, for each of a right box."""


def augmented(images: torch.Tensor, truth: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Moved as `turns` has drawn it, and the boxes with them: around what became of their four corners, cut at the edge, and none where less
    than `VISIBLE` is left."""
    import torch

    height, width = images.shape[2:]
    changed = _boxes_moved(truth[..., 1:], drawn.to(truth.device), height, width)
    is_kept = (truth[..., 0] >= 0) & _is_visible(changed, height, width)
    changed = torch.stack([changed[..., 0::2].clamp(0, width), changed[..., 1::2].clamp(0, height)], -1).flatten(-2)
    found = torch.cat([truth[..., :1], changed], -1)
    return moved(images, drawn), torch.where(is_kept[..., None], found, torch.full_like(found, -1))


def _boxes_moved(boxes: torch.Tensor, drawn: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Boxes ``(N, M, 4)`` in pixels of images that are moved as drawn."""
    import torch

    rows = grid_rows(drawn, height / width)  # from the changed image to the given one
    inverse = torch.linalg.inv(rows[:, :, :2])
    scale = torch.tensor([width / 2, height / 2], device=boxes.device)
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2 / scale - 1
    halves = (boxes[..., 2:] - boxes[..., :2]) / 2 / scale
    centers = (centers - rows[:, None, :, 2]) @ inverse.transpose(1, 2)
    halves = halves @ inverse.abs().transpose(1, 2)
    return torch.cat([(centers - halves + 1) * scale, (centers + halves + 1) * scale], -1)


def _is_visible(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    limits = boxes.new_tensor([width, height])
    seen = boxes[..., 2:].minimum(limits) - boxes[..., :2].clamp(min=0)
    is_there: torch.Tensor = (seen.clamp(min=0).prod(-1) >= VISIBLE * sides.prod(-1)) & (seen >= 1).all(-1)
    return is_there


def loss(outputs: Any, truth: torch.Tensor, config: Config, add_up: AddUp) -> torch.Tensor:
    """SSD's, of offsets and scores.

    Args:
        outputs: as the network gives them, those of `form_of`.
        truth: ``(N, M, 5)``.

    Raises:
        ConfigError: the boxes are no offsets from anchors, or stand otherwise than one candidate behind the other.
    """
    import torch
    from torch import nn

    given = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    form = form_of(config, layout_of(given))
    offsets, scores = _standing(given, form)
    anchors = _anchors(form).to(offsets.device)
    matches = [_matched(anchors, one[one[:, 0] >= 0], form) for one in truth]
    labels = torch.stack([label for label, _ in matches])
    wanted = torch.stack([encoded for _, encoded in matches])
    is_right = labels > 0
    count = add_up(is_right.sum()).clamp(min=1)
    boxes = nn.functional.smooth_l1_loss(offsets[is_right], wanted[is_right], reduction="sum")
    return (boxes + _of_scores(scores, labels, is_right)) / count


def _of_scores(scores: torch.Tensor, labels: torch.Tensor, is_right: torch.Tensor) -> torch.Tensor:
    """Of the anchors of right boxes, and of the hardest others."""
    from torch import nn

    each = nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    others = each.detach().masked_fill(is_right, 0.0)
    rank = others.argsort(stable=True, dim=1, descending=True).argsort(stable=True, dim=1)
    most = (NEGATIVES * is_right.sum(1, keepdim=True)).clamp(min=NEGATIVES)
    total: torch.Tensor = each[is_right | ((rank < most) & ~is_right)].sum()
    return total


def _standing(outputs: Any, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets ``(N, A, 4)`` and scores ``(N, A, columns)`` of all candidates."""
    first = form.blocks[0]
    offsets, scores = outputs[first.boxes.output], outputs[first.scores.output]
    is_standing = (
        form.format == "anchors"
        and form.activation == "softmax"
        and form.background == "first"
        and tuple(offsets.shape[1:]) == (form.count, 4)
        and tuple(scores.shape[1:]) == (form.count, form.columns)
    )
    if not is_standing:
        raise ConfigError(
            f"boxes of format '{form.format}' with scores of '{form.activation}' are not trained here, offsets from anchors (candidates, 4) "
            "are, with a softmax over classes whose first is the background: give [weights] path, or from_factory = true."
        )
    return offsets, scores


@lru_cache(maxsize=4)
def _anchors(form: Form) -> torch.Tensor:
    """``(A, 4)`` float32: centre and size in pixels."""
    import torch

    return torch.from_numpy(form.anchors()).float()


def _matched(anchors: torch.Tensor, right: torch.Tensor, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each anchor the number of its class, 0 for the background, and the offsets ``(A, 4)`` of its right box."""
    import torch

    labels = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    if not len(right):
        return labels, torch.zeros_like(anchors)
    overlap = _overlaps(anchors, right[:, 1:])
    best, which = overlap.max(1)
    own = overlap.argmax(0)
    best[own] = 2.0
    which[own] = torch.arange(len(right), device=anchors.device)
    chosen = right[which]
    labels = torch.where(best >= OVERLAP, chosen[:, 0].long() + 1, labels)
    return labels, encoded(chosen[:, 1:], anchors, form)


def encoded(boxes: torch.Tensor, anchors: torch.Tensor, form: Form) -> torch.Tensor:
    """What a network has to say for boxes ``(A, 4)`` of left, top, right, bottom, each from its own anchor."""
    import torch

    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=math.ulp(1.0))
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    variances = anchors.new_tensor(form.variances)
    apart = (centers - anchors[:, :2]) / anchors[:, 2:]
    return torch.cat([apart, (sizes / anchors[:, 2:]).log()], 1) / variances


def _overlaps(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union ``(A, M)`` of centres and sizes, and of corners."""
    corners = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    first = corners[0][:, None].maximum(boxes[None, :, :2])
    last = corners[1][:, None].minimum(boxes[None, :, 2:])
    shared = (last - first).clamp(min=0).prod(-1)
    areas = anchors[:, 2:].prod(-1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(-1)[None]
    found: torch.Tensor = shared / (areas - shared)
    return found
