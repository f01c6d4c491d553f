"""Two small detectors as users bring them: one packs boxes and scores of two maps as YOLO's exports do, one gives CenterNet's maps.

Their weights in `tests/weights/` were trained by ``python tests/networks/detecting.py`` on drawn shapes that no build draws; it takes some
minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

SIDE = 96
WEIGHTS = Path(__file__).parents[1] / "weights"
PACKED = {"name": "found", "holds": "packed", "format": "cxcywh", "unit": "share", "activation": "none"}
MAPS = (
    {"name": "heat", "holds": "heat", "activation": "sigmoid"},
    {"name": "size", "holds": "sizes"},
    {"name": "offset", "holds": "offsets"},
)
"""What `[[output]]` says of each."""


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def _trunk(width: int) -> nn.ModuleList:
    """Strides 4, 8 and 16."""
    return nn.ModuleList(
        [
            nn.Sequential(_layer(3, width, 2), _layer(width, width, 2), _layer(width, width)),
            nn.Sequential(_layer(width, 2 * width, 2), _layer(2 * width, 2 * width)),
            nn.Sequential(_layer(2 * width, 3 * width, 2), _layer(3 * width, 3 * width)),
        ]
    )


class Packing(nn.Module):
    """``(N, 4 + classes, 180)``: centre and size as shares of the image, and a probability of each class, of 12 x 12 and 6 x 6 cells."""

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.trunk = _trunk(width)
        self.heads = nn.ModuleList(
            nn.Sequential(_layer(inputs, 2 * width), nn.Conv2d(2 * width, 4 + num_classes, 1))
            for inputs in (2 * width, 3 * width)
        )
        for head in self.heads:
            nn.init.constant_(head[-1].bias, -2)
        for number, cells in enumerate((12, 6)):
            row, column = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
            corners = (torch.stack([column, row])[None] - 0.5) / cells
            self.register_buffer(f"corners{number}", corners.float(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, x = [], self.trunk[0](x)
        for stage, head, corners in zip(self.trunk[1:], self.heads, (self.corners0, self.corners1), strict=True):
            x = stage(x)
            values = torch.sigmoid(head(x))
            centers = values[:, :2] * (2 / corners.shape[-1]) + corners
            found.append(torch.cat([centers, values[:, 2:]], 1).flatten(2))
        return torch.cat(found, 2)


class Peaking(nn.Module):
    """Logits of the classes' heat maps ``(N, classes, 24, 24)``, sizes in cells and offsets ``(N, 2, 24, 24)``."""

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.trunk = _trunk(width)
        self.up = nn.ModuleList([_layer(3 * width, 2 * width), _layer(2 * width, width)])
        self.heads = nn.ModuleList(
            nn.Sequential(_layer(width, 2 * width), nn.Conv2d(2 * width, outputs, 1)) for outputs in (num_classes, 2, 2)
        )
        nn.init.constant_(self.heads[0][-1].bias, -3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = self.trunk[0](x)
        middle = self.trunk[1](fine)
        x = F.interpolate(self.up[0](self.trunk[2](middle)), scale_factor=2.0, mode="nearest") + middle
        x = F.interpolate(self.up[1](x), scale_factor=2.0, mode="nearest") + fine
        return tuple(head(x) for head in self.heads)


def packing(num_classes: int) -> nn.Module:
    return Packing(num_classes)


def peaking(num_classes: int) -> nn.Module:
    return Peaking(num_classes)


def loss_of_packing(values: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross entropy of all classes and the overlap of the boxes, of the cells around the middle of each of ``(N, M, 5)`` boxes."""
    classes, boxes = truth[..., 0], truth[..., 1:] / SIDE
    is_large = (boxes[..., 2:] - boxes[..., :2]).amax(-1) > 0.3
    total, start = values.new_zeros(()), 0
    for cells, is_theirs in ((12, ~is_large), (6, is_large)):
        part = values[:, :, start : start + cells * cells]
        start += cells * cells
        middle = (torch.arange(cells, device=values.device) + 0.5) / cells
        y, x = (one.reshape(-1) for one in torch.meshgrid(middle, middle, indexing="ij"))
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        near = (x - center[..., :1]).abs().maximum((y - center[..., 1:]).abs()) < 1.0 / cells
        near &= (is_theirs & (classes >= 0))[..., None]  # (N, M, cells)
        is_object, owner = near.any(1), near.float().argmax(1)
        wanted = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
        target = torch.zeros_like(part[:, 4:])
        target.scatter_(1, classes.gather(1, owner).clamp(min=0).long()[:, None], 1)
        target = target * is_object[:, None]
        entropy = F.binary_cross_entropy(part[:, 4:].clamp(1e-6, 1 - 1e-6), target, reduction="none")
        weights = (target - part[:, 4:].detach()).abs() ** 2  # focal: what is wrong counts
        count = is_object.sum().clamp(min=1)
        total = total + (entropy * weights).sum() / count * 2
        given = part[:, :4].transpose(1, 2)
        given = torch.cat([given[..., :2] - given[..., 2:] / 2, given[..., :2] + given[..., 2:] / 2], -1)
        total = total + ((1 - overlap(given, wanted)) * is_object).sum() / count
    return total


def overlap(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Generalized intersection over union of boxes ``(..., 4)`` (Rezatofighi et al., 2019)."""
    shared = (one[..., 2:].minimum(other[..., 2:]) - one[..., :2].maximum(other[..., :2])).clamp(min=0).prod(-1)
    around = (one[..., 2:].maximum(other[..., 2:]) - one[..., :2].minimum(other[..., :2])).prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - shared
    return shared / union.clamp(min=1e-9) - (around - union) / around.clamp(min=1e-9)


def loss_of_peaking(values: tuple[torch.Tensor, ...], truth: torch.Tensor) -> torch.Tensor:
    """CenterNet's: focal loss of heat with gaussians around the middles, L1 of sizes and offsets there (Zhou et al., 2019)."""
    heat, sizes, offsets = values
    cells = heat.shape[-1]
    boxes = truth[..., 1:] * cells / SIDE
    is_box = truth[..., 0] >= 0
    center, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    place = center.floor().clamp(0, cells - 1)
    axis = torch.arange(cells, device=heat.device)
    sigma = (size.amin(-1) / 6).clamp(min=0.6)[..., None, None]
    square = (axis - place[..., 1, None])[..., :, None] ** 2 + (axis - place[..., 0, None])[..., None, :] ** 2
    bumps = torch.exp(-square / (2 * sigma**2)) * is_box[..., None, None]
    target = torch.zeros_like(heat)
    for number in range(heat.shape[1]):
        target[:, number] = (bumps * (truth[..., 0] == number)[..., None, None]).amax(1)
    found = torch.sigmoid(heat).clamp(1e-6, 1 - 1e-6)
    is_middle = target == 1
    right, wrong = (1 - found) ** 2 * found.log(), (1 - target) ** 4 * found**2 * (1 - found).log()
    index = (place[..., 1] * cells + place[..., 0]).long()[:, None].expand(-1, 2, -1)
    count = is_box.sum().clamp(min=1)
    total = -torch.where(is_middle, right, wrong).sum() / count
    for given, wanted, weight in ((sizes, size, 0.1), (offsets, center - place, 1.0)):
        apart = (given.flatten(2).gather(2, index).transpose(1, 2) - wanted).abs()
        total = total + weight * (apart * is_box[..., None]).sum() / count
    return total


def train(name: str, steps: int = 900) -> None:
    import numpy as np
    from safetensors.torch import save_file
    from twinkeel.pipeline.config import IMAGENET_MEAN, IMAGENET_STD
    from twinkeel.pipeline.data.shapes import SHAPES, draw

    drawn = [draw(SIDE, SIDE, 100_000 + number) for number in range(2400)]
    images = torch.from_numpy(np.stack([one.pixels for one in drawn])).permute(0, 3, 1, 2)
    truth = torch.full((len(drawn), 4, 5), -1.0)
    for number, one in enumerate(drawn):
        truth[number, : len(one.boxes)] = torch.from_numpy(one.boxes)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.manual_seed(0)
    model = {"packing": packing, "peaking": peaking}[name](len(SHAPES))
    lowered = {"packing": loss_of_packing, "peaking": loss_of_peaking}[name]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(images), (16,))
        given, right = (images[chosen].float() / 255 - mean) / std, truth[chosen]
        if step % 2:
            given = given.flip(3)
            right = torch.cat(
                [right[..., :1], SIDE - right[..., 3:4], right[..., 2:3], SIDE - right[..., 1:2], right[..., 4:]], -1
            )
        value = lowered(model(given), right)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{name}: step {step}, loss {value.item():.3f}", flush=True)
    state = {key: values.half() if values.is_floating_point() else values for key, values in model.state_dict().items()}
    save_file(state, WEIGHTS / f"{name}.safetensors")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ("packing", "peaking"):
        train(wanted)
