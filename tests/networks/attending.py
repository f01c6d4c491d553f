"""Networks with LayerNorm, attention, upsampling, and answers that are no classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

OUTPUTS = 10


class LayerNorm2d(nn.LayerNorm):
    """As torchvision writes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(0.5 * torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 4, 4), LayerNorm2d(12, eps=1e-6))
        self.stage1 = ConvNeXtBlock(12)
        self.down = nn.Sequential(LayerNorm2d(12, eps=1e-6), nn.Conv2d(12, 24, 2, 2))
        self.stage2 = ConvNeXtBlock(24)
        self.norm = nn.LayerNorm(24, eps=1e-6)
        self.head = nn.Linear(24, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage2(self.down(self.stage1(self.stem(x))))
        return self.head(self.norm(x.mean([-2, -1])))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """As timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self, width: int, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), act(), nn.Dropout(0.1), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 24, 16, 16)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, 24))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, 24))
        self.blocks = nn.Sequential(Encoder(24), Encoder(24))
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


class MobileViT(nn.Module):
    """Convolutions, and attention over patches of 2x2 pixels that are unfolded and folded again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU())
        self.local = nn.Sequential(nn.Conv2d(12, 16, 1), nn.SiLU())
        self.transformer = Encoder(16, nn.SiLU)
        self.norm = nn.LayerNorm(16)
        self.proj = nn.Conv2d(16, 12, 1)
        self.fusion = nn.Sequential(nn.Conv2d(24, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.fc = nn.Linear(16, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.conv_stem(x))
        y = self.local(x)
        batch, width, height, length = y.shape
        rows, columns = height // 2, length // 2
        y = y.reshape(batch * width * rows, 2, columns, 2).transpose(1, 2)
        y = y.reshape(batch, width, rows * columns, 4).transpose(1, 3).reshape(batch * 4, rows * columns, width)
        y = self.norm(self.transformer(y))
        y = y.contiguous().view(batch, 4, rows * columns, width).transpose(1, 3)
        y = y.reshape(batch * width * rows, columns, 2, 2).transpose(1, 2).reshape(batch, width, height, length)
        x = self.fusion(torch.cat((x, self.proj(y)), dim=1))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Double(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """A map of three classes; upsampling by a transposed convolution, and by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = Double(3, 8)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), Double(8, 16))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), Double(16, 24))
        self.up1 = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.conv1 = Double(32, 16)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.conv2 = Double(24, 8)
        self.outc = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)  # type: ignore[no-any-return]


class Embedding(nn.Module):
    """A vector of length one, as networks of faces give it; PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.prelu1 = nn.PReLU(12)
        self.conv2 = nn.Conv2d(12, 24, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.prelu2 = nn.PReLU(24)
        self.embed = nn.Linear(24, 16, bias=False)
        self.bn = nn.BatchNorm1d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu1(self.bn1(self.conv1(x)))
        x = self.prelu2(self.bn2(self.conv2(x)))
        x = self.bn(self.embed(x.mean((2, 3))))
        return F.normalize(x, dim=1)
