"""What `claims.py` counts: networks trained with the product's own training on a few digits, right answers on a thousand others.

A seed decides which digits are which, the initial weights, and order and changes of the images; two networks of one seed share all
but the weights. Each run is a process's own, on one thread.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from twinkeel.model import count
from twinkeel.model.blocks import MobileClassifier
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, evaluation
from twinkeel.pipeline.stages import fold, quantize, train
from twinkeel.pipeline.tasks import classification

MEAN, STD = (0.5,) * 3, (0.5,) * 3
TRAINED, CALIBRATION, HELD_OUT = 150, 64, 1000
"""Digits of 1797; so few are learned from that networks differ."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A network of a claim, and what it is run in beside float.

    Attributes:
        make: gives it, with random weights.
        resolution: pixels of each side.
        ways: keys of `WAYS`.
    """

    make: functools.partial[MobileClassifier]
    resolution: int = 16
    ways: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for the same network, whichever claim it is in."""
        return f"{self.make.func.__name__} {sorted(self.make.keywords.items())} {self.make.args} {self.resolution} {self.ways}"

    def cost(self) -> count.Count:
        return count.count(self.make(), self.resolution, self.resolution)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one variant and seed.

    Attributes:
        right: whether each held-out digit is, ``(HELD_OUT,)``, by "float" and by each other way.
        snr_db: of each other way against float, the mean over images.
        seconds: of the processor, for training and counting.
    """

    right: dict[str, NDArray[np.bool_]]
    snr_db: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For a record that a run goes on from."""
        return asdict(self) | {"right": {way: one.astype(int).tolist() for way, one in self.right.items()}}

    @classmethod
    def of(cls, said: dict[str, Any]) -> Result:
        right = {way: np.array(one, bool) for way, one in said["right"].items()}
        return cls(right=right, snr_db=said["snr_db"], seconds=said["seconds"])


def run(variant: Variant, seed: int, epochs: int) -> Result:
    """Train it and count."""
    began = time.process_time()
    torch.set_num_threads(1)
    config = recipe(seed, epochs)
    order = np.random.default_rng(seed).permutation(1797)
    images, labels = _digits(variant.resolution)
    torch.manual_seed(seed)
    model = variant.make()
    fit(model, images[order[:TRAINED]], labels[order[:TRAINED]], config)
    tested, truth = images[order[-HELD_OUT:]], labels[order[-HELD_OUT:]]
    with torch.no_grad():
        found = {"float": model.eval()(train.prepared(tested, config)).numpy()}
    if variant.ways:
        contract = InputContract.of(variant.resolution, MEAN, STD)
        folded = fold.fold(model, contract)
        calibration = data.rgba(images[order[TRAINED : TRAINED + CALIBRATION]])
        found |= {way: WAYS[way](folded, calibration, contract, data.rgba(tested)) for way in variant.ways}
    return Result(
        right={way: logits.argmax(1) == truth for way, logits in found.items()},
        snr_db={way: metrics.image_snr_db(found["float"], found[way]) for way in variant.ways},
        seconds=time.process_time() - began,
    )


def recipe(seed: int, epochs: int) -> Config:
    """The product's, in smaller batches: an epoch of 150 images would be 3 steps."""
    return Config.model_validate(
        {
            "train": {"epochs": epochs, "batch_size": 32, "seed": seed, "device": "cpu"},
            "data": {"mean": list(MEAN), "std": list(STD)},
        }
    )


def fit(model: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], config: Config) -> None:
    """`stages/train.py` without a score after each epoch."""
    truth = torch.from_numpy(labels)
    optimizer, schedule = train.one_cycle(model, len(images), config.train)

    def answers(part: train.Part) -> tuple[Any, torch.Tensor]:
        given = train.prepared(images[part.numbers.numpy()], config)
        changed, right = classification.augmented(given, truth[part.numbers], part.drawn)
        return model(changed), right

    model.train()
    for number in range(config.train.epochs):
        train.one_epoch(number, answers, len(images), classification, optimizer, schedule, config)


@functools.cache
def _digits(resolution: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels, _ = data.digits(resolution, resolution)
    return images, labels


# ---- ways to compute a trained network


def in_half(
    folded: fold.Shipped, _: NDArray[np.uint8], contract: InputContract, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Weights, biases and the values between layers in float16, as Core ML computes."""
    folded = deepcopy(folded)
    half = folded.model.half()
    pixels = (torch.from_numpy(images).float() - contract.grey).permute(0, 3, 1, 2).half()
    with torch.no_grad():
        logits = half(pixels if folded.normalize is None else folded.normalize.half()(pixels))
        found: NDArray[np.float32] = logits.float().numpy()
    return found


def in_int8(
    folded: fold.Shipped,
    calibration: NDArray[np.uint8],
    contract: InputContract,
    images: NDArray[np.uint8],
    weights: Any = "per-channel",
) -> NDArray[np.float32]:
    """As a build quantizes before the ladder."""
    made = quantize.quantize(folded, calibration, contract, quantize.Settings(weights=weights))
    return evaluation.evaluate_batched(made.module, images, batch=250)


Way = Callable[[fold.Shipped, NDArray[np.uint8], InputContract, NDArray[np.uint8]], NDArray[np.float32]]
WAYS: dict[str, Way] = {
    "fp16": in_half,
    "int8": in_int8,
    "int8 per tensor": functools.partial(in_int8, weights="per-tensor"),
}


# ---- latency


def latencies(variants: Sequence[Variant], precisions: Sequence[str]) -> list[dict[str, list[float]]]:
    """Milliseconds of each variant in LiteRT by precision, lower quartile, median and upper quartile over turns, on one thread.

    Every artifact runs in each turn, see `peers.timed`; the weights are random, for the time does not depend on them.
    """
    import tempfile
    from pathlib import Path

    import peers
    import programs
    from twinkeel.targets.android import litert
    from twinkeel.targets.runtimes.litert import interpreter as opened

    peers.use_one_core()
    calls = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, variant in enumerate(variants):
            images = data.rgba(_digits(variant.resolution)[0][:CALIBRATION])
            model = variant.make()
            with torch.no_grad():  # statistics that are not 0 and 1
                model(torch.randn(32, 3, variant.resolution, variant.resolution))
            made = programs.program(model.eval(), InputContract.of(variant.resolution, MEAN, STD), images)
            for precision in precisions:
                path = litert.build(made, precision, Path(folder) / f"{number}-{precision}{litert.SUFFIX}")
                interpreter = opened(path)
                interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images[:1])
                calls[f"{precision} {number}"] = interpreter.invoke
        times = peers.timed(calls)
    return [
        {p: [round(float(q), 4) for q in np.percentile(times[f"{p} {number}"], (25, 50, 75))] for p in precisions}
        for number in range(len(variants))
    ]
