"""Networks that split, join and shuffle channels; written as their authors' code writes them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

OUTPUTS = 10


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


class Shuffled(nn.Module):
    """As torchvision writes ShuffleNetV2's block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = outputs // 2
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            nn.Conv2d(inputs if stride > 1 else half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2 = nn.Sequential(Shuffled(8, 16, 2), Shuffled(16, 16, 1))
        self.conv5 = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.fc = nn.Linear(32, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv5(self.stage2(self.maxpool(self.conv1(x))))
        return self.fc(x.mean([2, 3]))  # type: ignore[no-any-return]


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 16, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 8, 3, 1, 1, bias=False)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1)), inplace=True))
        return self.conv2(F.relu(self.norm2(x), inplace=True))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(8)
        self.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        self.block1 = nn.ModuleList([DenseLayer(8), DenseLayer(16)])
        self.transition = nn.Sequential(
            nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 12, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.block2 = nn.ModuleList([DenseLayer(12), DenseLayer(20)])
        self.norm5 = nn.BatchNorm2d(28)
        self.classifier = nn.Linear(28, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool0(F.relu(self.norm0(self.conv0(x))))
        features = [x]
        for layer in self.block1:
            features.append(layer(features))
        features = [self.transition(torch.cat(features, 1))]
        for layer in self.block2:
            features.append(layer(features))
        x = F.relu(self.norm5(torch.cat(features, 1)), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))  # type: ignore[no-any-return]


class MobileOneBlock(nn.Module):
    """While it is trained: several equal branches, a 1x1 branch and one of BatchNorm alone."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.rbr_conv = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                nn.BatchNorm2d(outputs),
            )
            for _ in range(2)
        )
        self.rbr_scale = None
        if kernel > 1:
            self.rbr_scale = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False), nn.BatchNorm2d(outputs)
            )
        self.rbr_skip = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = 0 if self.rbr_skip is None else self.rbr_skip(x)
        out = out + (0 if self.rbr_scale is None else self.rbr_scale(x))
        for branch in self.rbr_conv:
            out = out + branch(x)
        return F.relu(out)


class MobileOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage0 = MobileOneBlock(3, 8, 3, 2, 1)
        self.stage1 = nn.Sequential(MobileOneBlock(8, 8, 3, 2, 8), MobileOneBlock(8, 16, 1, 1, 1))
        self.stage2 = nn.Sequential(MobileOneBlock(16, 16, 3, 1, 16), MobileOneBlock(16, 16, 1, 1, 1))
        self.gap = nn.AdaptiveAvgPool2d(output_size=1)
        self.linear = nn.Linear(16, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.gap(self.stage2(self.stage1(self.stage0(x))))
        return self.linear(x.view(x.size(0), -1))  # type: ignore[no-any-return]


class MNASNet(nn.Module):
    """As torchvision writes it: kernels of 3 and 5, a momentum of its own, the mean without its dimensions."""

    def __init__(self) -> None:
        super().__init__()

        def inverted(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
            wide = 3 * inputs
            return nn.Sequential(
                nn.Conv2d(inputs, wide, 1, bias=False),
                nn.BatchNorm2d(wide, momentum=3e-4),
                nn.ReLU(inplace=True),
                nn.Conv2d(wide, wide, kernel, padding=kernel // 2, stride=stride, groups=wide, bias=False),
                nn.BatchNorm2d(wide, momentum=3e-4),
                nn.ReLU(inplace=True),
                nn.Conv2d(wide, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs, momentum=3e-4),
            )

        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(8, momentum=3e-4),
            nn.ReLU(inplace=True),
            inverted(8, 12, 3, 2),
            inverted(12, 16, 5, 2),
            nn.Conv2d(16, 40, 1, bias=False),
            nn.BatchNorm2d(40, momentum=3e-4),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True), nn.Linear(40, OUTPUTS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.layers(x).mean([2, 3]))  # type: ignore[no-any-return]


class EfficientNetLite(nn.Module):
    """TensorFlow's padding as PyTorch ports write it: zeros of their own before convolutions with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.stem = nn.Conv2d(3, 8, 3, 2, bias=False)
        self.bn0 = nn.BatchNorm2d(8, eps=1e-3)
        self.expand = nn.Conv2d(8, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24, eps=1e-3)
        self.pad2 = nn.ZeroPad2d((1, 2, 1, 2))
        self.depthwise = nn.Conv2d(24, 24, 5, 2, groups=24, bias=False)
        self.bn2 = nn.BatchNorm2d(24, eps=1e-3)
        self.project = nn.Conv2d(24, 16, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(16, eps=1e-3)
        self.head = nn.Conv2d(16, 48, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(48, eps=1e-3)
        self.fc = nn.Linear(48, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.bn0(self.stem(self.pad(x))))
        x = F.relu6(self.bn1(self.expand(x)))
        x = F.relu6(self.bn2(self.depthwise(self.pad2(x))))
        x = F.relu6(self.bn4(self.head(self.bn3(self.project(x)))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))  # type: ignore[no-any-return]
