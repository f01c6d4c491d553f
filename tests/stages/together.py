"""What each of the processes of `test_together` does, and what one process does alone: `python together.py FOLDER`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from twinkeel.pipeline import data
from twinkeel.pipeline.cli import command
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.stages import distributed, train
from twinkeel.pipeline.tasks import named

DETECTION = {
    "model": {"task": "detection", "resolution": 32},
    "output": [
        {"name": "boxes", "holds": "boxes", "format": "anchors", "maps": [[4, 4]], "anchors": [[[12, 12]]]},
        {"name": "scores", "holds": "scores", "activation": "softmax", "background": "first"},
    ],
}
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "even": (32, {}),
    "uneven": (35, {}),  # the last batch has 3 images
    "parts": (34, {"train": {"accumulate": 2, "ema": 0.9}}),
    "bfloat16": (32, {"train": {"precision": "bfloat16"}}),
    "float16": (32, {"train": {"precision": "float16"}}),
    "segmentation": (18, {"model": {"task": "segmentation", "resolution": 32}}),
    "detection": (18, DETECTION),
}
"""Images and settings by name."""


class Network(nn.Module):
    """Small, with all that looks at a batch as a whole, in float64: what is left of a difference is no rounding.

    Args:
        task: what its outputs are for.
    """

    def __init__(self, task: str, *, has_norm: bool = True) -> None:
        super().__init__()
        norms = [nn.BatchNorm2d(n) if has_norm else nn.Identity() for n in (6, 8)]
        layers = [
            nn.Conv2d(3, 6, 3, 4, 1, bias=False),
            norms[0],
            nn.ReLU6(),
            nn.Conv2d(6, 8, 3, 2, 1),
            norms[1],
            nn.ReLU6(),
        ]
        self.features = nn.Sequential(*layers).double()
        self.drop, self.task = nn.Dropout(0.3 if has_norm else 0.0), task
        self.unused = nn.Parameter(torch.ones(2))
        self.head = (nn.Linear(8, 4) if task == "classification" else nn.Conv2d(8, 8, 1)).double()

    def forward(self, images: torch.Tensor) -> Any:
        maps = self.features(images.double())
        noise = (
            torch.empty(len(maps), 1, 1, 1).bernoulli_(0.9) if self.training and self.drop.p else 1.0
        )  # as stochastic depth
        maps = maps * noise
        if self.task == "classification":
            return self.head(self.drop(maps.mean((2, 3))))
        found = self.head(self.drop(maps))
        rows = found.flatten(2).transpose(1, 2)
        return (rows[..., :4], rows[..., 4:7]) if self.task == "detection" else found[:, :3]


class Ended(Exception):
    """A training that somebody ended behind its first epoch."""


def trained(
    name: str,
    world: distributed.World,
    *,
    has_norm: bool = True,
    state: Path | None = None,
    is_ended: bool = False,
    copy: Path | None = None,
    **train_settings: Any,
) -> dict[str, Any]:
    """Weights, losses and scores of a case.

    Args:
        state: folder of what it goes on from.
        copy: folder for that as it is behind the first epoch.
    """
    count, settings = CASES[name]
    recipe = {"epochs": 2, "batch_size": 16, "device": "cpu"} | settings.get("train", {}) | train_settings
    config = Config.model_validate({**settings, "train": recipe})
    random = np.random.default_rng(0)
    task = named(config.model.task)
    part = data.Split(images=random.integers(0, 256, (count, 32, 32, 3), np.uint8), truth=_truth(task.__name__, count))
    few = data.Dataset(train=part, calibration=part, held_out=part.part(slice(7)), names=tuple("abcd"))
    torch.manual_seed(0)
    model = Network(config.model.task, has_norm=has_norm)

    ran = []

    def progress(epoch: Any, _: int) -> None:
        ran.append(epoch.epoch)
        if copy is not None and not copy.exists():
            shutil.copytree(state or Path(unused), copy)
        if is_ended:
            raise Ended

    with tempfile.TemporaryDirectory() as unused:
        history = train.train(model, few, config, task, state or Path(unused), progress, world=world)
    kept = [bytes(value.numpy().tobytes()) for value in model.state_dict().values()]
    assert all(other == kept for other in world.gathered(kept)), "the processes have other weights"
    return {"weights": model.state_dict(), "history": [(e.loss, e.score) for e in history], "ran": ran}


def _truth(task: str, count: int) -> Any:
    """Not as many counted pixels, or boxes, in each image: losses are divided by their number."""
    random = np.random.default_rng(1)
    if task.endswith("classification"):
        return random.integers(0, 4, count)
    if task.endswith("segmentation"):
        masks = random.integers(0, 3, (count, 32, 32)).astype(np.uint8)
        for number, mask in enumerate(masks):
            mask[: 32 - 2 * number % 32] = 255
        return masks
    boxes = np.full((count, 3, 5), -1, np.float32)
    for number in range(0, count, 2):
        for one in range(number % 3 + 1):
            boxes[number, one] = [one % 2, 8 * one, 4, 8 * one + 12, 18]
    return boxes


def _commands(folder: Path) -> None:
    """The command in cases that end in an error; what it says goes to standard error as it does always."""
    rank = os.environ["RANK"]
    given = {
        "mismatch": f"twinkeel-{rank}.toml",
        "batch": "odd.toml",
        "store": "twinkeel.toml",
        "backend": "twinkeel.toml",
    }
    for name, config in given.items():
        available = torch.distributed.is_gloo_available
        if name == "backend":
            torch.distributed.is_gloo_available = lambda: False
        print(f"<{name}>", file=sys.stderr, flush=True)
        code = _run(folder / config, folder / "out", folder / (f"none-of-{rank}" if name == "store" else "store"))
        print(f"</{name} {code}>", file=sys.stderr, flush=True)
        torch.distributed.is_gloo_available = available
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _run(config: Path, out: Path, store: Path) -> Any:
    """The command's exit code."""
    states = str(out.parent / "states")
    sys.argv = ["twinkeel", "train", "-c", str(config), "-o", str(out), "--store", str(store), "--checkpoints", states]
    try:
        command.main()
    except SystemExit as error:
        return error.code
    return 0


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        with distributed.joined() as joined:
            found = {name: trained(name, joined) for name in CASES}
            behind, leads = place / "behind", joined.is_leader
            found["whole"] = trained("parts", joined, copy=behind if leads else None)
            found["again"] = trained("parts", joined, state=behind if leads else None)
            found["resumed"] = trained("parts", joined, state=place / "state" if joined.is_leader else None)
            if joined.is_leader:
                torch.save(found, place / "found.pt")
        _commands(place)
    # one of them is killed here, and both are started again
    sys.exit(_run(place / "killed.toml", place / "killed", place / "store"))
