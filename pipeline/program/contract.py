"""What goes into a model and what comes out of it, as apps see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Output:
    """One of the tensors that a model gives.

    Attributes:
        name: letters, digits and _, a letter first.
        shape: of one image, without the batch.
        scale: step of it in int8; 1 where nothing is quantized.
    """

    name: str
    shape: tuple[int, ...]
    scale: float = 1.0

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


def parts(outputs: Sequence[Output]) -> list[slice]:
    """Where each output stands in packed values ``(N, width)``: all of them flattened, one behind the other."""
    ends = np.cumsum([0, *(one.size for one in outputs)]).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]


def steps(outputs: Sequence[Output]) -> NDArray[np.float64]:
    """The step in int8 of each packed value, ``(width,)``."""
    return np.concatenate([np.full(one.size, one.scale) for one in outputs])


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What a model is given beside the image: float32 ``(1, *shape)``.

    Attributes:
        name: as of an output.
        shape: without the batch.
        low: least value that it is made for.
        high: largest.
    """

    name: str
    shape: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """Pixels as a phone's bitmap holds them: ``uint8 (1, height, width, 4)``, RGBA, alpha always 255.

    Attributes:
        height: in pixels.
        width: in pixels.
        channels: that the model's first layer takes, a key of `CHANNELS`; the artifact mixes them from RGB.
        mean: subtracted from each of these channels in 0..1, inside the artifact.
        std: divides each after the mean, inside the artifact.
        grey: level subtracted from all four channels first; see `stages/fold.py`.
        tensors: what is given beside the image, in the order of the model's arguments.
    """

    height: int
    width: int
    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grey: int
    tensors: tuple[Tensor, ...] = ()

    @classmethod
    def of(
        cls,
        resolution: int | Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        channels: str = "rgb",
        tensors: Sequence[Tensor] = (),
    ) -> InputContract:
        """With the grey level whose remaining shift puts the smallest weights on the alpha channel.

        Args:
            resolution: pixels of each side, or height and width.
        """

        def alpha_weight(grey: int) -> float:
            return max(abs(grey - 255 * m) / (255 * s) for m, s in zip(mean, std, strict=True)) / (255 - grey)

        height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
        return cls(
            height=height,
            width=width,
            channels=channels,
            mean=tuple(mean),
            std=tuple(std),
            grey=min(range(255), key=alpha_weight),
            tensors=tuple(tensors),
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pixels."""
        return (1, self.height, self.width, 4)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all inputs, the pixels first."""
        return self.shape, *((1, *tensor.shape) for tensor in self.tensors)
