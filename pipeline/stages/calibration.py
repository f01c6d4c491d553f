"""Calibration, honestly: how much the int8 reference depends on the number of images."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import parity
from ..data import Dataset
from ..program import InputContract, evaluate, evaluate_batched
from ..saying import Say

if TYPE_CHECKING:
    from torch import nn

    from .quantize import Settings

SUBSETS = 3
MEASURED_AT_MOST = 256
TABLE, PICTURE = "calibration.csv", "calibration.png"


@dataclass(frozen=True, kw_only=True)
class Point:
    """SNR in dB of the outputs on held-out images, for several random subsets of `images` calibration images."""

    images: int
    snr_db: tuple[float, ...]

    @property
    def mean_db(self) -> float:
        return float(np.mean(self.snr_db))


def curve(
    tuned: nn.Module, floating: nn.Module, data: Dataset, contract: InputContract, settings: Settings, say: Say
) -> list[Point]:
    """SNR on held-out images for growing calibration sets, ranges by min/max.

    Args:
        tuned: module on ``(N, H, W, 4)`` uint8 that is quantized.
        floating: module whose outputs are the signal.
    """
    from . import quantize, ranges

    images = data.calibration.inputs
    chosen = np.linspace(0, len(data.held_out.images) - 1, min(MEASURED_AT_MOST, len(data.held_out.images))).astype(int)
    held_out = data.held_out.inputs[chosen]
    expected = evaluate(floating, held_out, 32)
    prepared = quantize.prepare(tuned, images, settings)
    say("calibration: ranges of each image")
    per_image = ranges.of_each_image(prepared, images)
    random = np.random.default_rng(0)
    # powers of two, but none so near the whole set that it says nothing more
    sizes = [2**n for n in range(len(images).bit_length()) if 3 * 2**n <= 2 * len(images)] + [len(images)]
    points = []
    for number, size in enumerate(sizes, 1):
        found = []
        for _ in range(SUBSETS if size < len(images) else 1):
            ranges.set_from(per_image, random.permutation(len(images))[:size])
            made = quantize.convert(prepared, contract, settings)
            found.append(parity.snr_db(expected, evaluate_batched(made.module, held_out)))
        points.append(Point(images=size, snr_db=tuple(found)))
        say(f"calibration: {size} images  {min(found):.1f} to {max(found):.1f} dB", (number, len(sizes)))
    return points


def files(points: list[Point]) -> dict[str, str | bytes]:
    """``calibration.csv`` and ``calibration.png``, by name."""
    from matplotlib.figure import Figure

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["images", "subset", "snr_db"])
    writer.writerows([p.images, i, f"{db:.2f}"] for p in points for i, db in enumerate(p.snr_db))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    sizes = [p.images for p in points]
    axes.fill_between(sizes, [min(p.snr_db) for p in points], [max(p.snr_db) for p in points], alpha=0.25)
    axes.plot(sizes, [p.mean_db for p in points], marker="o")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set(xlabel="calibration images", ylabel="SNR of int8 on held-out images, dB")
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    return {TABLE: text.getvalue(), PICTURE: picture.getvalue()}
