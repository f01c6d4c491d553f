"""Train from scratch: SGD with a one-cycle schedule and small random rotations, zooms and shifts.

An epoch depends on the seed, its number and the state before it alone, so a run that was killed and resumed ends
in the same weights as one that was not. Order, augmentation and Dropout are drawn for whole batches, whoever goes through which part of
one: several processes take the steps that one takes.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_map

from ..config import Config, Train
from ..data import Dataset, Split, turns
from ..errors import ConfigError
from ..program import Output, layout_of, normalized, packed
from ..rows import Lines, at_hand
from ..saying import Pace, Say
from ..tasks import Task
from .averaging import Average
from .distributed import ALONE, World
from .history import Epoch
from .synchronized import AsOne

_SCORED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images that go through a network together, as far as they are this process's.

    Attributes:
        numbers: of these images, ``(n,)``.
        drawn: of `turns`, for them.
        count: how many there are in all processes.
        own: which of these are here.
    """

    numbers: torch.Tensor
    drawn: torch.Tensor
    count: int
    own: slice


Answers = Callable[[Part], tuple[Any, torch.Tensor]]
"""Gives a network's outputs for images, and what is right of them."""


@dataclass(kw_only=True)
class Mechanics:
    """How steps are taken, beside the recipe.

    Attributes:
        world: the processes that take them together.
        scaler: of gradients in half precision; one that does nothing by default.
        average: of the weights, where one is kept.
    """

    world: World = ALONE
    scaler: Any = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    average: Average | None = None

    def state(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict(), "average": None if self.average is None else self.average.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load(state["average"])


def train(
    model: nn.Module,
    data: Dataset,
    config: Config,
    task: Task,
    out: Path,
    progress: Callable[[Epoch, int], None],
    say: Say = lambda *_: None,
    frozen: Sequence[nn.Module] = (),
    world: World = ALONE,
) -> list[Epoch]:
    """Train `model` in place; process 0 writes ``state.pt`` into `out`, which a run that was ended goes on from, with any number of processes.

    Args:
        progress: is told of each epoch, and how many there are.
        say: what goes on within one.
        frozen: parts of it that stay as they are, with BatchNorm in evaluation mode.
        world: the processes that do so together, each with the same data; they begin with the weights of process 0.

    Raises:
        ConfigError: the loss became infinite or NaN.
    """
    settings = config.train
    device = device_of(settings.device)
    _check_precision(device, settings.precision)
    out.mkdir(parents=True, exist_ok=True)
    model.to(device)
    images = at_hand(data.train.images)
    truth = torch.from_numpy(data.train.truth).to(device)
    for part in frozen:
        part.requires_grad_(False)
    optimizer, schedule = one_cycle(model, len(images), settings)
    if world.size > 1:
        model.load_state_dict(_unpacked(world.share(_packed(model.state_dict()) if world.is_leader else b""), device))
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
    average = Average(model, settings.ema)
    mechanics = Mechanics(world=world, scaler=scaler, average=average)
    history = _resume(out / "state.pt", model, optimizer, schedule, mechanics, device, say)
    held_out = _scored(data.held_out, task.meaning(config).scored_at_most)

    def answers(part: Part) -> tuple[Any, torch.Tensor]:
        given = prepared(images[part.numbers.numpy()], config).to(device)
        changed, right = task.augmented(given, truth[part.numbers.to(device)], part.drawn)
        with _as_one(world, part), _precision(device, settings.precision):
            found = model(changed)
        return found if settings.precision == "float32" else _float32(found), right

    for number in range(len(history), settings.epochs):
        model.train()
        for part in frozen:
            part.eval()
        epoch = f"train: epoch {number + 1}/{settings.epochs}"
        trained, scored = Pace(say, epoch, len(images)), Pace(say, f"{epoch}, held-out", len(held_out.images))
        try:
            loss = one_epoch(number, answers, len(images), task, optimizer, schedule, config, trained, mechanics)
        except ConfigError as error:  # in all processes
            world.agree(error)
            raise
        with average.in_place():
            score = _score(model, held_out, task, config, device, scored, world)
        history.append(Epoch(epoch=number + 1, loss=loss, score=score))
        if world.is_leader:
            _save(out / "state.pt", model, optimizer, schedule, mechanics, history)
        progress(history[-1], settings.epochs)
    average.take()
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
    answers: Answers,
    images: int,
    task: Task,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: Config,
    tell: Callable[[int], None] = lambda _: None,
    mechanics: Mechanics | None = None,
) -> float:
    """The mean loss of the epoch of this number, from 0 on.

    Args:
        images: how many there are.
        tell: is told how many were trained on, after each batch.

    Raises:
        ConfigError: the loss became infinite or NaN.
    """
    settings = config.train
    how = Mechanics() if mechanics is None else mechanics
    torch.manual_seed(settings.seed * 1_000_003 + number)  # Dropout draws from the global generator
    total, done = 0.0, 0
    order = torch.randperm(images)
    for batch in batches(images, settings.batch_size, order):
        optimizer.zero_grad()
        total += _backward(batch, answers, task, config, how) * len(batch)
        how.world.sum_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
        with _quiet(how.scaler):
            how.scaler.step(optimizer)
            how.scaler.update()
            schedule.step()
        if how.average is not None:
            how.average.update()
        done += len(batch)
        tell(done)
    mean = float(how.world.add_up(torch.tensor(total, dtype=torch.float64))) / images
    if not math.isfinite(mean):
        raise ConfigError(
            f"training diverged: the loss of epoch {number + 1} is {mean}. "
            f"Lower train.learning_rate, which is {settings.learning_rate}."
        )
    return mean


def _backward(batch: torch.Tensor, answers: Answers, task: Task, config: Config, how: Mechanics) -> float:
    """Put this process's part of the gradients of a batch's loss into the parameters, and tell its part of the loss."""
    world, total = how.world, 0.0
    drawn, start = turns(len(batch), config.train), 0
    for numbers in parts(batch, config.train.accumulate):
        count, is_divided = len(numbers), world.divides(len(numbers))
        own = world.own(count)
        mine = slice(start + own.start, start + own.stop)
        outputs, right = answers(Part(numbers=batch[mine], drawn=drawn[:, mine], count=count, own=own))
        start += count
        loss = task.loss(outputs, right, config, world.add_up if is_divided else ALONE.add_up)
        # parts too small to be divided are gone through by every process
        share = count / len(batch) / (1 if is_divided else world.size)
        if share != 1:
            loss = loss * share
        how.scaler.scale(loss).backward()
        total += loss.item()
    return total


@contextlib.contextmanager
def _quiet(scaler: Any) -> Iterator[None]:
    """A step that the scaler leaves out, as it does while it looks for its factor, is none that was forgotten."""
    with warnings.catch_warnings():
        if scaler.is_enabled():
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step")
        yield


def _as_one(world: World, part: Part) -> contextlib.AbstractContextManager[Any]:
    return AsOne(world, part.count, part.own) if world.divides(part.count) else contextlib.nullcontext()


def _precision(device: torch.device, name: str) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if name == "float32" else torch.autocast(device.type, dtype=getattr(torch, name))


def _check_precision(device: torch.device, name: str) -> None:
    """Raise a ConfigError where a device does not compute in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns of some, and computes in float32 then
            with _precision(device, name):
                pass
    except (RuntimeError, UserWarning) as error:
        raise ConfigError(
            f"train.precision: '{name}' is nothing that '{device.type}' computes in here: {str(error)[:200]}. Set 'float32'."
        ) from error


def _float32(outputs: Any) -> Any:
    """Losses are taken of it."""
    return tree_map(
        lambda one: one.float() if isinstance(one, torch.Tensor) and one.is_floating_point() else one, outputs
    )


def parts(batch: torch.Tensor, count: int) -> list[torch.Tensor]:
    """A batch in so many parts that differ by one image at most; in fewer, where a part would be a single image, which BatchNorm cannot train on."""
    return list(torch.tensor_split(batch, max(1, min(count, len(batch) // 2))))


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
    model: nn.Module,
    split: Split,
    task: Task,
    config: Config,
    device: torch.device,
    tell: Callable[[int], None],
    world: World,
) -> float:
    """Of all images; each process goes through its own, and process 0 counts."""
    model.eval()
    found: list[NDArray[np.float32]] = []
    layout: Sequence[Output] = ()
    own = world.own(len(split.images)) if world.divides(len(split.images)) else slice(0, len(split.images))
    with torch.no_grad():
        for start in range(own.start, own.stop, _SCORED_AT_ONCE):
            end = min(start + _SCORED_AT_ONCE, own.stop)
            part = prepared(split.images[start:end], config)
            given = model(part.to(device))
            layout = layout_of(given)
            found.append(packed(given, len(part)).cpu().numpy())
            tell(min((end - own.start) * world.size, len(split.images)))
    whole = [np.concatenate(found)]
    if world.divides(len(split.images)):
        whole = world.collected(whole[0])
    score = task.meaning(config).score(np.concatenate(whole), split.truth, layout) if world.is_leader else 0.0
    return world.share(score)


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
    mechanics: Mechanics,
    history: list[Epoch],
) -> None:
    """Write whole or not at all. The generator is seeded at the beginning of each epoch, and needs no state."""
    content = _packed(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": {k: v for k, v in schedule.state_dict().items() if isinstance(v, int | float)},
            "mechanics": mechanics.state(),
            "history": [(e.loss, e.score) for e in history],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)  # who was faster with the same training has taken it away
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.write_bytes(hashlib.sha256(content).digest() + content)
    partial.replace(path)


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    mechanics: Mechanics,
    device: torch.device,
    say: Say,
) -> list[Epoch]:
    """What was trained before, as process 0 finds it; nothing where the file is not what was written, which is said."""
    is_there = mechanics.world.is_leader and path.is_file()
    content = path.read_bytes() if is_there else b""
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        if is_there:
            say(f"train: '{path}' is damaged, so what was trained before is not gone on from")
        content = b""
    content = mechanics.world.share(content)
    if not content:
        return []
    state = _unpacked(content[32:], device)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    mechanics.load(state["mechanics"])
    return [Epoch(epoch=i, loss=loss, score=score) for i, (loss, score) in enumerate(state["history"], 1)]


def _packed(state: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def _unpacked(content: bytes, device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return found


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
