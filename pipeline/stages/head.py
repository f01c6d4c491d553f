"""Transfer learning: the last layer of a network is trained on what the layers before it give of the images.

These stay as they are, with BatchNorm in evaluation mode, so that each image goes through them once. What is left is a linear
layer on vectors: it takes seconds, and the same steps from the same seed. Heads for boxes and for pixels are more than a layer: with their body as it is
they are trained as a whole network is, by `train`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ..config import Config
from ..data import Dataset, Split
from ..errors import ConfigError
from ..program import CHANNELS
from ..rows import Lines
from ..saying import Say
from ..tasks import Task
from . import train as training
from .history import Epoch

_BATCH = 32
_LOUD = 100.0
"""Times the usual: an activation behind the last layer that lets small numbers through shows itself."""
_LENGTH = 4.0
"""Of a vector that the layer is trained on, in the root mean square: at the default learning rate a step is then a fraction of
what would overshoot, whatever the network's numbers are."""

Layer = nn.Linear | nn.Conv2d


def last_layer(model: nn.Module, config: Config) -> str:
    """The name of the linear layer, or 1x1 convolution, whose output is the model's.

    Raises:
        ConfigError: none is.
    """
    shape = (2, len(CHANNELS[config.data.channels]), *config.model.size)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    images[1] *= _LOUD
    given: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def keep(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        return lambda module, inputs, output: given.append((name, inputs[0], output))

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) or _is_pointwise(m)]
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    was_training = model.training
    try:
        with torch.no_grad():
            outputs = tree_leaves(model.eval()(images))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    for name, taken, output in reversed(given):
        is_last = len(outputs) == 1 and output.numel() == outputs[0].numel()
        is_last = is_last and torch.allclose(output.flatten(), outputs[0].flatten(), rtol=0, atol=0, equal_nan=True)
        if is_last and taken[0].numel() == taken.shape[1]:
            return name
    raise ConfigError(
        "weights.head = 'train' trains the last linear layer, or convolution of one pixel, of a model that gives its output as it "
        "is; here something stands behind the last one. Give the model without it, or train it elsewhere."
    )


def body_of(model: nn.Module) -> nn.Module | None:
    """What the head for boxes or pixels of a network of `model/` reads the maps of, with blocks called `features`; None of networks without such a head."""
    body = getattr(model, "backbone", None)
    return body if isinstance(body, nn.Module) else None


def blocks_of(body: nn.Module, left: Collection[str] = ()) -> list[nn.Module]:
    """The blocks of a body, without those that have tensors of these names."""
    return [
        block
        for number, block in enumerate(body.features)  # type: ignore[arg-type]
        if not any(name.startswith(f"features.{number}.") for name in left)
    ]


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def train(
    model: nn.Module,
    name: str,
    data: Dataset,
    config: Config,
    task: Task,
    state: Path,
    say: Say,
    progress: Callable[[Epoch, int], None],
) -> list[Epoch]:
    """Train the layer `name` of `model` in place, from zero: what it ends in does not depend on where it starts.

    Args:
        state: folder that keeps what the layers before it gave, for a run that was ended.

    Raises:
        ConfigError: the loss, or what the other layers give, became infinite or NaN.
    """
    settings = config.train
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    model.eval().to(training.device_of(settings.device))

    def through(part: str, split: Split) -> torch.Tensor:
        return _kept(state / f"{part}.npy", lambda: _vectors(model, layer, split.images, config, say, part))

    vectors, held_out = through("training", data.train), through("held-out", data.held_out)
    model.to("cpu")
    mean, scale = _spread(vectors, layer)
    small = _zero(layer)
    history: list[Epoch] = []
    truth = torch.from_numpy(data.train.truth)
    optimizer, schedule = training.one_cycle(small, len(truth), settings)
    inputs, seen = ((part - mean) / scale for part in (vectors, held_out))
    for number in range(settings.epochs):
        loss = training.one_epoch(
            number,
            lambda part: (small(inputs[part.numbers]), truth[part.numbers]),
            len(truth),
            task,
            optimizer,
            schedule,
            config,
        )
        with torch.no_grad():
            score = task.meaning(config).score(small(seen).numpy(), data.held_out.truth, ())
        history.append(Epoch(epoch=number + 1, loss=loss, score=score))
        progress(history[-1], settings.epochs)
    _put_back(small, layer, mean, scale)
    return history


def _vectors(model: nn.Module, layer: Layer, images: Lines, config: Config, say: Say, part: str) -> torch.Tensor:
    """What `layer` is given of each image ``(N, H, W, 3)``: ``(N, channels)`` float32."""
    taken: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0].flatten(1).cpu()))
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                model(training.prepared(images[start : start + _BATCH], config).to(device))
                done = min(start + _BATCH, len(images))
                if done == len(images) or (start // _BATCH) % 10 == 0:
                    say(f"head: {done} of {len(images)} {part} images through the other layers", (done, len(images)))
    finally:
        hook.remove()
    found = torch.cat(taken)
    if not torch.isfinite(found).all():
        raise ConfigError(
            "the layers before the last one give NaN or infinite values of the images, so that nothing can be trained on them. Are "
            "[data] mean and std those of the weights?"
        )
    return found


def _kept(path: Path, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What was made before, where the file is what was written."""
    content = path.read_bytes() if path.is_file() else b""
    if content and hashlib.sha256(content[32:]).digest() == content[:32]:
        return torch.from_numpy(np.load(io.BytesIO(content[32:]), allow_pickle=False))
    found, stream = make(), io.BytesIO()
    np.save(stream, found.numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(hashlib.sha256(stream.getvalue()).digest() + stream.getvalue())
    partial.replace(path)
    return found


def _spread(vectors: torch.Tensor, layer: Layer) -> tuple[torch.Tensor, float]:
    """Middle and size of what the layer is given; a layer without bias cannot take a middle off."""
    mean = vectors.mean(0) if layer.bias is not None else torch.zeros(vectors.shape[1])
    length = float((vectors - mean).square().sum(1).mean().sqrt())
    return mean, length / _LENGTH if length > 0 else 1.0


def _zero(layer: Layer) -> nn.Linear:
    """A layer on vectors as `layer` is, of zeros."""
    outputs, channels = layer.weight.shape[:2]
    small = nn.Linear(channels, outputs, bias=layer.bias is not None)
    for parameter in small.parameters():
        nn.init.zeros_(parameter)
    return small


def _put_back(small: nn.Linear, layer: Layer, mean: torch.Tensor, scale: float) -> None:
    """The same outputs from vectors as they are, neither moved nor scaled."""
    with torch.no_grad():
        weight = small.weight / scale
        layer.weight.copy_(weight.view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(small.bias - weight @ mean)
