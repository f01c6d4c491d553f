"""Train from scratch: SGD with a one-cycle schedule and small random rotations, zooms and shifts.

An epoch depends on the seed, its number and the state before it alone, so a run that was killed and resumed ends
in the same weights as one that was not.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..config import Config, Train
from ..data import Dataset, Split
from ..errors import ConfigError
from ..program import Output, layout_of, normalized, packed
from ..rows import Lines, at_hand
from ..saying import Pace, Say
from ..tasks import Task
from .history import Epoch

_SCORED_AT_ONCE = 256


def train(
    model: nn.Module,
    data: Dataset,
    config: Config,
    task: Task,
    out: Path,
    progress: Callable[[Epoch, int], None],
    say: Say = lambda *_: None,
    frozen: Sequence[nn.Module] = (),
) -> list[Epoch]:
    """Train `model` in place; `out` gets ``state.pt``, which a run that was ended goes on from.

    Args:
        progress: is told of each epoch, and how many there are.
        say: what goes on within one.
        frozen: parts of it that stay as they are, with BatchNorm in evaluation mode.

    Raises:
        ConfigError: the loss became infinite or NaN.
    """
    settings = config.train
    device = device_of(settings.device)
    out.mkdir(parents=True, exist_ok=True)
    model.to(device)
    images = at_hand(data.train.images)
    truth = torch.from_numpy(data.train.truth).to(device)
    for part in frozen:
        part.requires_grad_(False)
    optimizer, schedule = one_cycle(model, len(images), settings)
    history = _resume(out / "state.pt", model, optimizer, schedule, device)
    held_out = _scored(data.held_out, task.meaning(config).scored_at_most)

    def answers(batch: torch.Tensor) -> tuple[Any, torch.Tensor]:
        given = prepared(images[batch.numpy()], config).to(device)
        changed, right = task.augmented(given, truth[batch.to(device)], settings)
        return model(changed), right

    for number in range(len(history), settings.epochs):
        model.train()
        for part in frozen:
            part.eval()
        epoch = f"train: epoch {number + 1}/{settings.epochs}"
        trained, scored = Pace(say, epoch, len(images)), Pace(say, f"{epoch}, held-out", len(held_out.images))
        loss = one_epoch(number, answers, len(images), task, optimizer, schedule, config, trained)
        score = _score(model, held_out, task, config, device, scored)
        history.append(Epoch(epoch=number + 1, loss=loss, score=score))
        _save(out / "state.pt", model, optimizer, schedule, history)
        progress(history[-1], settings.epochs)
    model.to("cpu").eval()
    for part in frozen:
        part.requires_grad_()
    return history


def one_cycle(
    module: nn.Module, images: int, settings: Train
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """SGD on the parameters of a module, and its schedule for all epochs over so many images."""
    steps = len(batches(images, settings.batch_size, torch.arange(images)))
    optimizer = torch.optim.SGD(
        module.parameters(),
        settings.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps + 1
    )
    return optimizer, schedule


def one_epoch(
    number: int,
    answers: Callable[[torch.Tensor], tuple[Any, torch.Tensor]],
    images: int,
    task: Task,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: Config,
    tell: Callable[[int], None] = lambda _: None,
) -> float:
    """The mean loss of the epoch of this number, from 0 on.

    Args:
        answers: gives the outputs for images of these indices, and what is right of them.
        images: how many there are.
        tell: is told how many were trained on, after each batch.

    Raises:
        ConfigError: the loss became infinite or NaN.
    """
    settings = config.train
    torch.manual_seed(settings.seed * 1_000_003 + number)  # Dropout draws from the global generator
    total, done = 0.0, 0
    order = torch.randperm(images)
    for batch in batches(images, settings.batch_size, order):
        outputs, right = answers(batch)
        loss = task.loss(outputs, right, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.item() * len(batch)
        done += len(batch)
        tell(done)
    mean = total / images
    if not math.isfinite(mean):
        raise ConfigError(
            f"training diverged: the loss of epoch {number + 1} is {mean}. "
            f"Lower train.learning_rate, which is {settings.learning_rate}."
        )
    return mean


def batches(count: int, size: int, order: torch.Tensor) -> list[torch.Tensor]:
    """Batches of at least 2: BatchNorm cannot train on one image."""
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) < 2:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def prepared(images: Lines, config: Config) -> torch.Tensor:
    """Of images ``(N, H, W, 3)`` uint8, ``(N, C, H, W)`` float32, the channels that the model takes."""
    colour = torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).float() / 255
    return normalized(colour, config.data.channels, config.data.mean, config.data.std)


def _scored(split: Split, most: int) -> Split:
    """So many images at most, evenly chosen; 0 for all."""
    count = len(split.images)
    return split.part(np.linspace(0, count - 1, most).astype(int)) if 0 < most < count else split


def _score(
    model: nn.Module, split: Split, task: Task, config: Config, device: torch.device, tell: Callable[[int], None]
) -> float:
    model.eval()
    found: list[NDArray[np.float32]] = []
    layout: Sequence[Output] = ()
    with torch.no_grad():
        for start in range(0, len(split.images), _SCORED_AT_ONCE):
            part = prepared(split.images[start : start + _SCORED_AT_ONCE], config)
            given = model(part.to(device))
            layout = layout_of(given)
            found.append(packed(given, len(part)).cpu().numpy())
            tell(start + len(part))
    return task.meaning(config).score(np.concatenate(found), split.truth, layout)


def device_of(name: str) -> torch.device:
    known = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name != "auto":
        if not known[name]:
            raise ConfigError(
                f"train.device: this torch ({torch.__version__}) sees no '{name}' here. Set 'auto' or 'cpu'."
            )
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    history: list[Epoch],
) -> None:
    """Write whole or not at all."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {k: v for k, v in schedule.state_dict().items() if isinstance(v, int | float)},
        "history": [(e.loss, e.score) for e in history],
    }
    content = io.BytesIO()
    torch.save(state, content)
    path.parent.mkdir(parents=True, exist_ok=True)  # who was faster with the same training has taken it away
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    partial.replace(path)


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
) -> list[Epoch]:
    """What was trained before; nothing where the file is not what was written."""
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return []
    state = torch.load(io.BytesIO(content[32:]), map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return [Epoch(epoch=i, loss=loss, score=score) for i, (loss, score) in enumerate(state["history"], 1)]


def curves(history: list[Epoch], score: str) -> dict[str, bytes]:
    """``curves.csv`` and ``curves.png`` of a training.

    Args:
        score: what the score is called.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "loss", f"held_out_{score}"])
    writer.writerows([e.epoch, f"{e.loss:.6f}", f"{e.score:.6f}"] for e in history)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [e.epoch for e in history]
    left.plot(epochs, [e.loss for e in history])
    left.set(xlabel="epoch", ylabel="training loss")
    right.plot(epochs, [100 * e.score for e in history])
    right.set(xlabel="epoch", ylabel=f"held-out {score}, %")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    return {"curves.csv": text.getvalue().encode(), "curves.png": picture.getvalue()}
