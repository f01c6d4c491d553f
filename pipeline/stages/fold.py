"""Fold: BatchNorm into the convolution before it, and the input's normalization into the stem.

The app hands over bytes. Normalizing them in the graph costs half the latency of a small int8 network, so the
stem does it. With ``p`` the pixel and ``g`` one grey level for all channels::

    (p / 255 - mean_c) / std_c  =  (p - g) / (255 std_c)  +  (g - 255 mean_c) / (255 std_c)

The first term is a scale on the weights. The second is a constant, carried by the alpha channel, which is 255 in
every opaque bitmap and so ``255 - g`` after the subtraction: a plain bias would be wrong at the borders, where
the convolution pads with zeros and the normalized image is padded too. A zero is the grey level for colour and
alpha alike, so the padding stays exact, however many zeros are on each side.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import ConversionError
from ..program import InputContract

if TYPE_CHECKING:
    from collections.abc import Sequence


class Normalized(nn.Module):
    """A model on normalized RGB, behind the explicit arithmetic of the input contract."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(N, H, W, 4)`` uint8 RGBA -> outputs."""
        colour = pixels[..., :3].permute(0, 3, 1, 2).to(torch.float32) / 255
        outputs: torch.Tensor = self.model((colour - self.mean) / self.std)
        return outputs


class Shipped(nn.Module):
    """A folded model on the bytes that the app hands over."""

    def __init__(self, model: nn.Module, grey: int) -> None:
        super().__init__()
        self.model = model
        self.grey = float(grey)  # an integer would reach Core ML as a constant of its own, with a cast outside

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(N, H, W, 4)`` uint8 RGBA -> outputs."""
        outputs: torch.Tensor = self.model((pixels.to(torch.float32) - self.grey).permute(0, 3, 1, 2))
        return outputs


def fold(model: nn.Module, contract: InputContract) -> Shipped:
    """A folded copy in evaluation mode, without BatchNorm and Dropout.

    Dropout must go before quantization: left in, litert-torch 0.10 drops one of the quantizers around it and
    keeps the next bias at the other's scale, a silently wrong artifact.

    Raises:
        ConversionError: a BatchNorm does not directly follow a convolution.
    """
    folded = fold_batch_norm(model)
    _fold_input(folded, contract)
    return Shipped(folded, contract.grey).eval().requires_grad_(False)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without BatchNorm and Dropout, still on normalized RGB.

    Raises:
        ConversionError: a BatchNorm does not directly follow a convolution.
    """
    folded = deepcopy(model).eval()
    for container in [m for m in folded.modules() if isinstance(m, nn.Sequential)]:
        _fold_sequence(container)
    left = [name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if left:
        raise ConversionError(f"BatchNorm '{left[0]}' follows no convolution of its own nn.Sequential; fold it by hand")
    return folded


def _fold_sequence(container: nn.Sequential) -> None:
    """conv -> bn  ==>  conv with the scale in its weights and the shift in its bias; Dropout goes."""
    previous: tuple[str, nn.Module] | None = None
    for name, module in list(container.named_children()):
        if isinstance(module, nn.Dropout):
            container[int(name)] = nn.Identity()
            continue
        if isinstance(module, nn.BatchNorm2d) and previous and isinstance(previous[1], nn.Conv2d):
            container[int(previous[0])] = _with_batch_norm(previous[1], module)
            container[int(name)] = nn.Identity()
        previous = name, module


def _with_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    if norm.running_mean is None or norm.running_var is None:
        raise ConversionError("a BatchNorm without running statistics cannot be folded")
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    return _convolution(conv, weight, (bias - norm.running_mean.double()) * scale + norm.bias.double())


def _fold_input(model: nn.Module, contract: InputContract) -> None:
    """Replace the first convolution, on 3 normalized channels, by one on 4 channels of bytes less grey."""
    name, stem = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if stem.in_channels != 3 or stem.bias is None:
        raise ConversionError(f"the first convolution '{name}' must take 3 channels and end in a BatchNorm")
    mean = torch.tensor(contract.mean, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(contract.std, dtype=torch.float64).view(1, 3, 1, 1)
    weight = stem.weight.double()
    shift = (weight * (contract.grey - 255 * mean) / (255 * std)).sum(1, keepdim=True) / (255 - contract.grey)
    wide = _convolution(stem, torch.cat([weight / (255 * std), shift], 1), stem.bias.double())
    model.set_submodule(name, wide)


def _convolution(like: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor) -> nn.Conv2d:
    """A copy with other values, which pads as the original does: that may be a class of its own."""
    made = deepcopy(like)
    made.in_channels = weight.shape[1] * like.groups
    made.weight = nn.Parameter(weight.detach().float())
    made.bias = nn.Parameter(bias.detach().float())
    return made
