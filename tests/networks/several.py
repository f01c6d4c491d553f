"""Networks with more than one output, and with more than one input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

OUTPUTS = 10
NUMBERS = 6


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def settled(model: nn.Module, *more: torch.Tensor) -> nn.Module:
    """In evaluation mode, with statistics of noise, and BatchNorms that scale and shift."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(F.interpolate(torch.randn(8, 3, 8, 8), size=(64, 64), mode="bilinear") * 1.5, *more)
    return model.eval().requires_grad_(False)


def heads() -> nn.Module:
    torch.manual_seed(0)
    return settled(Heads())


def paired() -> nn.Module:
    torch.manual_seed(0)
    return settled(Paired(), torch.randn(8, NUMBERS))


def averaged() -> nn.Module:
    torch.manual_seed(0)
    return settled(Averaged())


class Averaged(nn.Module):
    """Means of every kind: of channels, rows, tokens and scores, and an output that is always 0."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(_stage(3, 12), _stage(12, 24))
        self.score = nn.Linear(24, OUTPUTS)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.trunk(x)
        pooled = x.mean((2, 3))
        tokens = x.flatten(2).transpose(1, 2)
        scores = self.score(pooled)
        return scores, scores.mean(1), x.mean(1), x.mean(3, keepdim=True), tokens.mean(1), x.mean((1, -1)), pooled * 0


class Heads(nn.Module):
    """A vector and a map from one trunk, in a dictionary, as networks for faces and for poses give them."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(_stage(3, 12), _stage(12, 24))
        self.deep = _stage(24, 32)
        self.embed = nn.Linear(32, 16)
        self.heat = nn.Conv2d(24, 5, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.trunk(x)
        heat = self.heat(x)
        return {"embedding": self.embed(self.deep(x).mean((2, 3))), "heat map": 8 * torch.sigmoid(heat)}


class Paired(nn.Module):
    """An image and some numbers, as where and when a photograph was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(_stage(3, 12), _stage(12, 24), _stage(24, 32))
        self.numbers = nn.Sequential(nn.Linear(NUMBERS, 16), nn.ReLU())
        self.head = nn.Linear(32 + 16, OUTPUTS)

    def forward(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        pooled = torch.flatten(F.adaptive_avg_pool2d(self.image(x), 1), 1)
        return self.head(torch.cat([pooled, self.numbers(numbers)], dim=1))
