"""What the targets share for looking at the layers of an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.program import LayerValue, Run, Trace

Opened = Callable[..., tuple[NDArray[np.float32], list[LayerValue]]]
"""What a `Run` takes -> packed outputs ``(1, width)`` and the value of each layer."""


def checked(opened: Opened, run: Run, path: Path) -> Trace:
    """`opened` as a `Trace` that refuses outputs which are not those of `run`, the artifact as it is shipped.

    More outputs could keep a runtime from fusing operations, or from giving all of them to its fast kernels.
    """

    def trace(*inputs: NDArray[Any]) -> list[LayerValue]:
        outputs, values = opened(*inputs)
        if not np.array_equal(outputs, run(*inputs)):
            raise ConversionError(
                f"'{path}' gives other outputs when its layers are looked at, so what they show is not what it computes"
            )
        return values

    return trace


def signed(steps: NDArray[Any]) -> NDArray[np.int8]:
    """Steps as int8; some runtimes make uint8 of them, with the zero point 128 higher."""
    return (steps.astype(np.int16) - 128).astype(np.int8) if steps.dtype == np.uint8 else steps


def nchw(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """``(1, H, W, C)`` -> ``(1, C, H, W)``; other shapes as they are."""
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values
