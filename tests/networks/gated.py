"""Networks that multiply maps: squeeze and excitation, Hardswish, SiLU; written as their authors' code writes them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

OUTPUTS = 10


class SqueezeExcite(nn.Module):
    """As torchvision writes it."""

    def __init__(self, channels: int, squeezed: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(scale)) * x  # type: ignore[no-any-return]


class Gated(nn.Module):
    """An inverted residual with squeeze and excitation between its convolutions."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, act: type[nn.Module], gate: type[nn.Module] | None
    ) -> None:
        super().__init__()
        wide = 4 * inputs
        self.block = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide, eps=1e-3),
            act(),
            nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide, eps=1e-3),
            act(),
            nn.Identity() if gate is None else SqueezeExcite(wide, 8, gate),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3),
        )
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.block(x)
        if self.use_res_connect:
            result += x
        return result  # type: ignore[no-any-return]


class MobileNetV3(nn.Module):
    """Hardswish, and Hardsigmoid as the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()),
            Gated(8, 12, 2, nn.ReLU, nn.Hardsigmoid),
            Gated(12, 12, 1, nn.Hardswish, nn.Hardsigmoid),
            Gated(12, 16, 2, nn.Hardswish, None),
            nn.Sequential(nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.Hardswish()),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(48, 32), nn.Hardswish(inplace=True), nn.Dropout(0.2, inplace=True), nn.Linear(32, OUTPUTS)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)  # type: ignore[no-any-return]


class EfficientNet(nn.Module):
    """SiLU, and a sigmoid as the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act1 = nn.SiLU(inplace=True)
        self.blocks = nn.ModuleList(
            [
                Gated(8, 12, 2, nn.SiLU, nn.Sigmoid),
                Gated(12, 12, 1, nn.SiLU, nn.Sigmoid),
                Gated(12, 16, 2, nn.SiLU, nn.Sigmoid),
            ]
        )
        self.conv_head = nn.Conv2d(16, 48, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.classifier = nn.Linear(48, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.bn1(self.conv_stem(x)))
        for block in self.blocks:
            x = block(x)
        x = F.silu(self.bn2(self.conv_head(x)))
        return self.classifier(x.mean([2, 3]))  # type: ignore[no-any-return]


class Ghost(nn.Module):
    """Half of the channels by a convolution, the others from them by a cheap one; more than wanted are cut off."""

    def __init__(self, inputs: int, outputs: int, relu: bool) -> None:
        super().__init__()
        self.outputs = outputs
        half = (outputs + 1) // 2
        self.primary = nn.Sequential(nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half))
        self.cheap = nn.Sequential(nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half))
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.primary(x)
        one = F.relu(one) if self.relu else one
        other = self.cheap(one)
        other = F.relu(other) if self.relu else other
        return torch.cat([one, other], dim=1)[:, : self.outputs, :, :]


class GhostBlock(nn.Module):
    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.ghost1 = Ghost(inputs, middle, relu=True)
        self.conv_dw = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False) if stride > 1 else None
        self.bn_dw = nn.BatchNorm2d(middle)
        self.se_reduce = nn.Conv2d(middle, 4, 1)
        self.se_expand = nn.Conv2d(4, middle, 1)
        self.ghost2 = Ghost(middle, outputs, relu=False)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = x
        x = self.ghost1(x)
        if self.conv_dw is not None:
            x = self.bn_dw(self.conv_dw(x))
        gate = F.relu(self.se_reduce(x.mean((2, 3), keepdim=True)))
        x = x * F.hardsigmoid(self.se_expand(gate))
        return self.ghost2(x) + self.shortcut(residual)  # type: ignore[no-any-return]


class GhostNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(GhostBlock(8, 17, 12, 2), GhostBlock(12, 24, 12, 1), GhostBlock(12, 32, 16, 2))
        self.conv_head = nn.Conv2d(16, 48, 1)
        self.classifier = nn.Linear(48, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.bn1(self.conv_stem(x))))
        x = F.relu(self.conv_head(F.adaptive_avg_pool2d(x, 1)))
        return self.classifier(x.view(x.size(0), -1))  # type: ignore[no-any-return]
