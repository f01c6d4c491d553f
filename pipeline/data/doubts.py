"""What is wrong with a calibration set, as far as its images tell."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ..config import IMAGENET_MEAN, IMAGENET_STD, Config
from ..reading import quoted
from ..rows import AT_ONCE, Lines, hashes_of, parts
from ..saying import counted
from .splits import Dataset, Split

FEW_IMAGES = 64
"""Below it, which images were drawn decides more than how many: subsets of 100 of the digits gave 14 to 30 dB on one
weakly trained model."""

NOISE_CORRELATION = 0.3
"""Between neighbouring pixels. Photographs have 0.9 and more, digits of 8 x 8 pixels 0.8, noise 0."""

UNCOVERED_SHARE = 1e-3
"""Of the other pixels, outside what the calibration images hold."""

LOOKED_AT = 4096
"""Of the other images: all of 100,000 would be read once more, for minutes, to tell the same."""


def warnings(data: Dataset, wanted: int = 0) -> list[str]:
    """One line for each thing that makes the ranges untrustworthy; what was found, and what to do.

    Args:
        wanted: number of calibration images that was asked for; where there are fewer, more are not there.
    """
    images, found = data.calibration.images, []
    different = len(set(hashes_of(images)))
    if different < FEW_IMAGES:
        copies = f", of {len(images)} that are given: the others are the same" if different < len(images) else ""
        found.append(
            f"only {counted(different, 'calibration image')}{copies}; below {FEW_IMAGES} the int8 ranges depend on which they are. "
            f"{'Raise data.calibration or bring' if len(images) >= wanted else 'Bring'} more images; `twinkeel calibration` shows what that gains."
        )
    correlation = neighbour_correlation(images)
    if correlation < NOISE_CORRELATION:
        found.append(
            f"the calibration images look like noise: neighbouring pixels correlate by {correlation:.2f}, photographs "
            "by 0.9. Ranges from noise do not fit real images: use some of the images that the app will see."
        )
    # nothing is trained where the weights are given
    others = data.train if len(data.train.images) else data.held_out
    share = uncovered_share(data.calibration, others)
    if share > UNCOVERED_SHARE:
        found.append(
            f"{100 * share:.1f} % of the {'training' if others is data.train else 'held-out'} pixels are outside {_held(images)}, all that the calibration images "
            "hold. Bring images that are as dark and as bright as those the app will see."
        )
    return found


def missing_classes(what: str, missing: Collection[int], trained: Collection[int], names: Sequence[str]) -> list[str]:
    """One line of classes that calibration images do not show; none where it is none.

    Args:
        what: is said of them.
        trained: classes that training images show, from which calibration images are drawn.
    """
    if not missing:
        return []
    are_there = set(missing) & set(trained)
    advice = (
        "Raise data.calibration, or bring images of them."
        if are_there
        else "Bring images of them: training images show none either."
    )
    return [
        f"{len(missing)} of {len(names)} classes {what} ({quoted([names[n] for n in sorted(missing)], 5)}). {advice}"
    ]


def _held(images: Lines) -> str:
    """The least and the largest value, of each channel where these differ."""
    pairs = [f"{low}..{high}" for low, high in zip(*(ends.tolist() for ends in _ends(images)), strict=True)]
    return (
        pairs[0]
        if len(set(pairs)) == 1
        else ", ".join(f"{name} {pair}" for name, pair in zip("RGB", pairs, strict=True))
    )


def of_order(config: Config) -> list[str]:
    """Numbers of ImageNet that stand in the order of R, G, B though the channels do not; one line for both."""
    known = {"mean": (config.data.mean, IMAGENET_MEAN), "std": (config.data.std, IMAGENET_STD)}
    found = {name: list(rgb) for name, (given, rgb) in known.items() if tuple(given) == rgb}
    if config.data.channels != "bgr" or not found:
        return []
    given = " and ".join(f"{name} = {numbers}" for name, numbers in found.items())
    turned = ", ".join(f"{name} = {numbers[::-1]}" for name, numbers in found.items())
    return [
        f"[data] {given} {'are' if len(found) > 1 else 'is'} ImageNet's in the order of R, G, B, and channels = 'bgr' reads them as B, G, R. If "
        f"the model was trained with ImageNet's numbers: {turned}."
    ]


def of_tensors(data: Dataset, config: Config) -> list[str]:
    """What is to be said of tensors with values outside of the range that is given for them, a line each."""
    lines = []
    for number, one in enumerate(config.input):
        low, high = one.range
        tensors = [part.tensors[number] for part in (data.calibration, data.held_out) if part.tensors]
        rows = np.concatenate([tensor.reshape(len(tensor), -1) for tensor in tensors]) if tensors else np.zeros((0, 1))
        count = int(((rows < low) | (rows > high)).any(1).sum())
        if count:
            lines.append(
                f"'{one.name}' of {count:,} of {len(rows):,} images leaves its range, {low:g} to {high:g}: there are {rows.min():g} to {rows.max():g}. "
                "Set the range under [[input]] to what apps give."
            )
    return lines


def neighbour_correlation(images: Lines) -> float:
    """Correlation of each pixel with the one right of it, over images ``(N, H, W, 3)``; 1 where all are constant."""
    product = left_power = right_power = 0.0
    for part in parts(images, AT_ONCE // 16):
        values = part.astype(np.float64) - part.mean((1, 2), keepdims=True)
        left, right = values[:, :, :-1], values[:, :, 1:]
        product += float((left * right).sum())
        left_power += float((left**2).sum())
        right_power += float((right**2).sum())
    power = np.sqrt(left_power * right_power)
    return float(product / power) if power > 0 else 1.0


def uncovered_share(calibration: Split, others: Split) -> float:
    """Share of the other values below or above everything in the calibration images, channel by channel; of `LOOKED_AT` images
    where there are more, evenly chosen."""
    low, high = _ends(calibration.images)
    images = others.images
    if len(images) > LOOKED_AT:
        images = images[np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)]
    outside = sum(int(((part < low) | (part > high)).sum()) for part in parts(images))
    return outside / max(1, math.prod(images.shape))


def _ends(images: Lines) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The least and the largest value of each channel."""
    found = [(part.min((0, 1, 2)), part.max((0, 1, 2))) for part in parts(images)]
    return np.min([low for low, _ in found], axis=0), np.max([high for _, high in found], axis=0)
