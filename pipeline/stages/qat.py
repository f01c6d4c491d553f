"""Quantization-aware training: a few epochs in which the network feels the rounding, and learns to live with it.

torchao's PT2E puts a fake quantizer where the int8 reference will have a quantizer; gradients pass through as if it
were not there (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018). The target is the float model's own outputs (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015): what is shipped shall compute what was trained, and what is right of the images is not needed again.

BatchNorm is folded before, so there are no statistics to freeze. What comes out is a float module and the ranges of its
activations; the ordinary quantization takes both, so that all runtimes still get one and the same.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_leaves

from ..config import Config
from ..data import Split, moved, rgba, turns
from ..rows import at_hand
from . import quantize, ranges
from .train import batches

STEPS_AT_LEAST = 1000
"""Small sets are passed over more often than `quantize.qat_epochs` says, until this many steps are done."""


def train_quantized(
    tuned: nn.Module,
    floating: nn.Module,
    split: Split,
    config: Config,
    settings: quantize.Settings,
    progress: Callable[[int, int, float], None],
) -> tuple[nn.Module, tuple[tuple[float, float], ...]]:
    """A copy of `tuned` whose weights are trained under fake quantization, and the ranges that it is trained for.

    Args:
        tuned: module on ``(N, H, W, 4)`` uint8 to start from.
        floating: its outputs are the target.
        split: training images; what is right of them is not read.
        progress: called after each epoch with its number, the number of epochs, and the loss.
    """
    from torchao.quantization.pt2e import move_exported_model_to_eval

    images = at_hand(split.images)
    size, steps, epochs = _plan(config, len(images))
    prepared = _prepared(tuned, np.asarray(images[:2]), settings)
    sizes = {p: _size(p.detach()) for p in prepared.parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(list(sizes), config.quantize.qat_learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    torch.manual_seed(config.train.seed)
    for number in range(epochs):
        total = 0.0
        for batch in batches(len(images), size, torch.randperm(len(images))):
            pixels = _augmented(torch.from_numpy(np.asarray(images[batch.numpy()])), config)
            with torch.no_grad():
                wanted = floating(pixels)
            loss = _loss(prepared(pixels), wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            _step(optimizer, sizes)
            schedule.step()
            total += loss.item() * len(batch)
        progress(number + 1, epochs, total / len(images))
    with quantize.letting_go():
        move_exported_model_to_eval(prepared)
    return _copied(prepared, tuned), ranges.trained(prepared)


def _loss(outputs: Any, wanted: Any) -> torch.Tensor:
    """Mean squared error over the variance of what is wanted; of several outputs the mean."""
    pairs = zip(tree_leaves(outputs), tree_leaves(wanted), strict=True)
    return torch.stack([nn.functional.mse_loss(a, b) / b.var().clamp_min(1e-12) for a, b in pairs]).mean()


def _plan(config: Config, count: int) -> tuple[int, int, int]:
    """Images of a step, steps of an epoch, and epochs, of so many images."""
    size = min(config.train.batch_size, count)
    steps = len(batches(count, size, torch.arange(count)))
    return size, steps, max(config.quantize.qat_epochs, -(-STEPS_AT_LEAST // steps))


def images(config: Config, count: int) -> int:
    """How many images the training sees of a set of so many, each as often as it comes."""
    size, steps, epochs = _plan(config, count)
    return size * steps * epochs


def _size(parameter: torch.Tensor) -> torch.Tensor:
    """The usual size of each element, from its row and its column; of the shape that they broadcast to."""
    if parameter.ndim == 1:
        return parameter.abs().clamp_min(float(parameter.abs().median()) + 1e-12)
    squares = parameter.square().flatten(2) if parameter.ndim > 2 else parameter.square()[..., None]
    row, column, whole = squares.mean((1, 2)).sqrt(), squares.mean((0, 2)).sqrt(), squares.mean().sqrt()
    size = row[:, None] * column[None, :] / whole.clamp_min(1e-12)
    return size.reshape(*size.shape, *[1] * (parameter.ndim - 2))


def _step(optimizer: torch.optim.Optimizer, sizes: dict[nn.Parameter, torch.Tensor]) -> None:
    """Adam moves every element by about its rate; here by that share of its size.

    The weights of the stem are a hundredth of the others', and channels of one layer differ by more.
    """
    before = {p: p.detach().clone() for p in sizes}
    optimizer.step()
    with torch.no_grad():
        for parameter, size in sizes.items():
            parameter.copy_(before[parameter] + (parameter - before[parameter]) * size)


def _prepared(tuned: nn.Module, example: NDArray[np.uint8], settings: quantize.Settings) -> Any:
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    module = deepcopy(tuned).requires_grad_(True)
    batch = torch.export.Dim("batch", min=2)
    graph = torch.export.export(module, (torch.from_numpy(rgba(example)),), dynamic_shapes=({0: batch},)).module()
    with quantize.relu6_is_fused(), quantize.letting_go():
        return prepare_qat_pt2e(graph, quantize.quantizer(settings, is_qat=True))


def _augmented(images: torch.Tensor, config: Config) -> torch.Tensor:
    """``(N, H, W, 3)`` uint8 -> ``(N, H, W, 4)`` uint8, changed at random as in training."""
    drawn = turns(len(images), config.train)
    changed = moved(images.permute(0, 3, 1, 2).float(), drawn).round().clamp(0, 255).to(torch.uint8)
    return torch.cat([changed.permute(0, 2, 3, 1), torch.full((*images.shape[:3], 1), 255, dtype=torch.uint8)], 3)


def _copied(prepared: nn.Module, tuned: nn.Module) -> nn.Module:
    changed = deepcopy(tuned)
    trained = dict(prepared.named_parameters())
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            parameter.copy_(trained[name])
    return changed
