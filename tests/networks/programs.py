"""A program as a build makes it, without the ladder: for tests and benchmarks that begin with a model in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn
from twinkeel.pipeline.program import About, InputContract, Program
from twinkeel.pipeline.stages import fold, quantize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ABOUT = About(author="", license="", version="1", description="")


def program(
    model: nn.Module,
    contract: InputContract,
    calibration: NDArray[np.uint8],
    *,
    name: str = "network",
    labels: Sequence[str] = (),
    about: About = ABOUT,
) -> Program:
    """Folded, and quantized by the ranges of the images.

    Args:
        model: in evaluation mode.
        calibration: ``(N, H, W, 4)`` uint8 RGBA.
        labels: names of the outputs, where these are classes.
    """
    folded = fold.fold(model, contract, ("logits",) if labels else ())
    made = quantize.quantize(folded, calibration, contract)
    return Program(
        name=name,
        contract=contract,
        labels=tuple(labels),
        original=fold.Normalized(model, contract.mean, contract.std, contract.channels).eval(),
        folded=folded,
        tuned=folded,
        quantized=made.module,
        quantized_unfolded=made.unfolded,
        outputs=made.with_steps(folded.outputs),
        about=about,
        minimum_ios=18,
    )
