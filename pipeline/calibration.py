"""Calibration, honestly: what is wrong with a calibration set, and how much the int8 reference depends on its size."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import outputs, parity
from .data import Dataset, Split, rgba
from .judge import Say
from .program import InputContract, evaluate, evaluate_batched

if TYPE_CHECKING:
    from torch import nn

    from .stages.quantize import Settings

FEW_IMAGES = 64
"""Below it, which images were drawn decides more than how many: subsets of 100 of the digits gave 14 to 30 dB on one
weakly trained model."""

NOISE_CORRELATION = 0.3
"""Between neighbouring pixels. Photographs have 0.9 and more, digits of 8 x 8 pixels 0.8, noise 0."""

UNCOVERED_SHARE = 1e-3
"""Of the training pixels, outside what the calibration images hold."""

SUBSETS = 3
MEASURED_AT_MOST = 256
TABLE, PICTURE = "calibration.csv", "calibration.png"


@dataclass(frozen=True, kw_only=True)
class Point:
    """SNR in dB of the logits on held-out images, for several random subsets of `images` calibration images."""

    images: int
    snr_db: tuple[float, ...]

    @property
    def mean_db(self) -> float:
        return float(np.mean(self.snr_db))


def warnings(data: Dataset) -> list[str]:
    """One line for each thing that makes the ranges untrustworthy; what was found, and what to do."""
    images, found = data.calibration.images, []
    if len(images) < FEW_IMAGES:
        found.append(
            f"only {len(images)} calibration images; below {FEW_IMAGES} the int8 ranges depend on which they are. "
            "Raise data.calibration or bring more images; `twinkeel calibration` shows what that gains."
        )
    correlation = neighbour_correlation(images)
    if correlation < NOISE_CORRELATION:
        found.append(
            f"the calibration images look like noise: neighbouring pixels correlate by {correlation:.2f}, photographs "
            "by 0.9. Ranges from noise do not fit real images: use some of the images that the app will see."
        )
    missing = sorted(set(range(len(data.labels))) - set(data.calibration.labels.tolist()))
    if missing and data.calibration.labels.max(initial=-1) >= 0:
        named = ", ".join(f"'{data.labels[i]}'" for i in missing[:5]) + (" ..." if len(missing) > 5 else "")
        found.append(
            f"{len(missing)} of {len(data.labels)} classes have no calibration image ({named}). "
            "Raise data.calibration, or bring images of them."
        )
    share = uncovered_share(data.calibration, data.train)
    if share > UNCOVERED_SHARE:
        low, high = int(images.min()), int(images.max())
        found.append(
            f"{100 * share:.1f} % of the training pixels are outside {low}..{high}, all that the calibration images "
            "hold. Bring images that are as dark and as bright as those the app will see."
        )
    return found


def neighbour_correlation(images: NDArray[np.uint8]) -> float:
    """Correlation of each pixel with the one right of it, over images ``(N, H, W, 3)``; 1 where all are constant."""
    values = images.astype(np.float64) - images.mean((1, 2), keepdims=True)
    left, right = values[:, :, :-1], values[:, :, 1:]
    power = np.sqrt((left**2).sum() * (right**2).sum())
    return float((left * right).sum() / power) if power > 0 else 1.0


def uncovered_share(calibration: Split, train: Split) -> float:
    """Share of the training values below or above everything in the calibration images, channel by channel."""
    low, high = (getattr(calibration.images, end)((0, 1, 2)) for end in ("min", "max"))
    return float(((train.images < low) | (train.images > high)).mean())


def curve(
    tuned: nn.Module, floating: nn.Module, data: Dataset, contract: InputContract, settings: Settings, say: Say
) -> list[Point]:
    """SNR on held-out images for growing calibration sets, ranges by min/max.

    Args:
        tuned: module on ``(N, H, W, 4)`` uint8 that is quantized.
        floating: module whose logits are the signal.
    """
    from .stages import quantize, ranges

    images = rgba(data.calibration.images)
    chosen = np.linspace(0, len(data.held_out.images) - 1, min(MEASURED_AT_MOST, len(data.held_out.images))).astype(int)
    held_out = rgba(data.held_out.images[chosen])
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


def write(points: list[Point], folder: Path) -> None:
    """``calibration.csv`` and ``calibration.png`` in `folder`."""
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
    outputs.add(folder, {TABLE: text.getvalue(), PICTURE: picture.getvalue()})
