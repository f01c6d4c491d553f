"""Networks as users write them: attributes, calls of functions, nested modules; none in the style of `twinkeel.model`.

Each is a function without arguments that gives an untrained network on ``(N, 3, 64, 64)`` with ten outputs; `settled` gives
it BatchNorm statistics and biases that are not those of a fresh one.
"""

from __future__ import annotations

import attending
import branched
import gated
import odd
import torch
import torch.nn.functional as F
from torch import nn

RESOLUTION = 64
OUTPUTS = 10


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with statistics of noise, and BatchNorms that scale and shift."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(8):
            coarse = torch.randn(8, 3, RESOLUTION // 8, RESOLUTION // 8)
            model(F.interpolate(coarse, size=(RESOLUTION, RESOLUTION), mode="bilinear") * 1.5)
    return model.eval().requires_grad_(False)


class Plain(nn.Module):
    """As VGG: convolutions with biases, no BatchNorm, calls of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.fc = nn.Linear(24, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Separable(nn.Module):
    """As MobileNetV1: names of its own, BatchNorm as attributes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.dw_bn = nn.BatchNorm2d(inputs)
        self.pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pw_bn = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.dw_bn(self.dw(x)))
        return self.act(self.pw_bn(self.pw(x)))  # type: ignore[no-any-return]


class MobileNetV1(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.layers = nn.ModuleList([Separable(8, 16, 1), Separable(16, 24, 2), Separable(24, 32, 2)])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(32, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_bn(self.stem(x)))
        for layer in self.layers:
            x = layer(x)
        return self.fc(self.drop(torch.flatten(self.pool(x), 1)))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """As timm writes MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv_dw = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = F.relu6(self.bn1(self.conv_pw(x)))
        x = F.relu6(self.bn2(self.conv_dw(x)))
        x = self.bn3(self.conv_pwl(x))
        return x + shortcut if self.has_skip else x


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Inverted(8, 12, 2), Inverted(12, 12, 1), Inverted(12, 16, 2))
        self.conv_head = nn.Conv2d(16, 48, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.classifier = nn.Linear(48, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.bn1(self.conv_stem(x)))
        x = F.relu6(self.bn2(self.conv_head(self.blocks(x))))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier(F.dropout(x, 0.2, self.training) if self.training else x)  # type: ignore[no-any-return]


class Basic(nn.Module):
    """As ResNet's block, downsampling in parallel."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Without a pooled stem where `pool` is false."""

    def __init__(self, *, pool: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        self.layer1 = nn.Sequential(Basic(8, 8, 1), Basic(8, 16, 2))
        self.layer2 = Basic(16, 24, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(24, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


class Branches(nn.Module):
    """As RepVGG while it is trained: three branches with BatchNorm, one of them nothing else."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.dense_bn = nn.BatchNorm2d(channels)
        self.one = nn.Conv2d(channels, channels, 1, bias=False)
        self.one_bn = nn.BatchNorm2d(channels)
        self.identity = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.dense_bn(self.dense(x)) + self.one_bn(self.one(x)) + self.identity(x))


class RepVGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU())
        self.stage = nn.Sequential(Branches(12), Branches(12))
        self.down = nn.Conv2d(12, 20, 3, 2, 1)
        self.head = nn.Linear(20, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.down(self.stage(self.stem(x))))
        return self.head(x.mean(dim=(-2, -1)))  # type: ignore[no-any-return]


class Grouped(nn.Module):
    """As RegNet without attention: grouped convolutions, strides in a group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.a = nn.Conv2d(16, 16, 1, bias=False)
        self.a_norm = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, 2, 1, groups=4, bias=False)
        self.b_norm = nn.BatchNorm2d(16)
        self.c = nn.Conv2d(16, 24, 1, bias=False)
        self.c_norm = nn.BatchNorm2d(24)
        self.side = nn.Conv2d(16, 24, 1, 2, bias=False)
        self.side_norm = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, OUTPUTS, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        y = F.relu(self.a_norm(self.a(x)))
        y = F.relu(self.b_norm(self.b(y)))
        x = F.relu(self.c_norm(self.c(y)) + self.side_norm(self.side(x)))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Preactivated(nn.Module):
    """As ResNet's second form: BatchNorm before the convolution, and before the network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm0 = nn.BatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, 12, 3, 2, 1)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv1 = nn.Conv2d(12, 12, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 12, 3, 1, 1, bias=False)
        self.last = nn.BatchNorm2d(12, affine=False)
        self.fc = nn.Linear(12, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv0(self.norm0(x))
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return self.fc(F.relu(self.last(x + y)).mean((2, 3)))  # type: ignore[no-any-return]


class Fire(nn.Module):
    """As SqueezeNet's block: two convolutions beside each other, concatenated."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, outputs // 2, 1)
        self.expand3x3 = nn.Conv2d(squeezed, outputs // 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 2, 1)
        self.fire1 = Fire(16, 8, 24)
        self.fire2 = Fire(24, 8, 32)
        self.final = nn.Conv2d(32, OUTPUTS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.fire1(x), 3, 2)
        return F.relu(self.final(self.fire2(x))).mean((2, 3))


NETWORKS = {
    "plain": Plain,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "resnet without pool": lambda: ResNet(pool=False),
    "resnet": ResNet,
    "repvgg": RepVGG,
    "regnet": Grouped,
    "preactivated": Preactivated,
    "squeezenet": SqueezeNet,
    "mobilenet_v3": gated.MobileNetV3,
    "efficientnet": gated.EfficientNet,
    "ghostnet": gated.GhostNet,
    "shufflenet": branched.ShuffleNet,
    "densenet": branched.DenseNet,
    "mobileone": branched.MobileOne,
    "mnasnet": branched.MNASNet,
    "efficientnet_lite": branched.EfficientNetLite,
    "convnext": attending.ConvNeXt,
    "vit": attending.ViT,
    "mobilevit": attending.MobileViT,
    "unet": attending.UNet,
    "embedding": attending.Embedding,
    "odd": odd.Odd,
}
