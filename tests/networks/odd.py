"""What users do with layers beside calling each once: sharing, freezing, parametrizing, and BatchNorms of every kind."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations


class Frozen(nn.Module):
    """As detection networks have it: buffers, and plain arithmetic."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(channels)
        for name, least, most in (
            ("weight", 0.5, 1.5),
            ("bias", -1, 1),
            ("running_mean", -1, 1),
            ("running_var", 0.5, 2),
        ):
            self.register_buffer(name, torch.rand(channels, generator=draw) * (most - least) + least)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        variance, mean = self.running_var.reshape(1, -1, 1, 1), self.running_mean.reshape(1, -1, 1, 1)
        scale = weight * (variance + 1e-5).rsqrt()
        return x * scale + (bias - mean * scale)


class Active(nn.BatchNorm2d):
    """A BatchNorm that ends in a ReLU, as timm's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(super().forward(x))


class Shared(nn.Module):
    """A convolution that is called twice, and a BatchNorm behind two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.left, self.right = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(self.conv(x)))
        x = F.relu(self.second(self.conv(x)))
        return F.relu(self.norm(self.left(x))) + self.norm(self.right(x))


class Odd(nn.Module):
    """All of it in a row, and a BatchNorm of a vector before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = parametrizations.weight_norm(nn.Conv2d(3, 8, 3, 2, 1))
        self.shared = Shared(8)
        self.frozen = Frozen(8)
        self.down = parametrizations.spectral_norm(nn.Conv2d(8, 12, 3, 2, 1, bias=False))
        self.active = Active(12)
        self.last = nn.Conv2d(12, 16, 1)
        self.sync = nn.SyncBatchNorm(16)
        self.plain = nn.BatchNorm2d(16, affine=False)
        self.neck = nn.BatchNorm1d(16)
        self.fc = parametrizations.weight_norm(nn.Linear(16, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.shared(F.relu(self.stem(x))))
        x = self.active(self.down(x))
        x = F.relu(self.sync(self.last(x)))
        return self.fc(self.neck(self.plain(x).mean((2, 3))))  # type: ignore[no-any-return]
