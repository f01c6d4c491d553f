"""What the references say of all images, each a job of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import data as data_module
from ..rows import Lines, joined
from .artifact import Target
from .evaluation import evaluate
from .layers import Recording, watch
from .program import CORE_AI, UNROUNDED, Program, is_quantized

GOLDEN_IMAGES = 8
PIXELS_OF_SLOW = 32 * 224 * 224
"""Of all images on which what is as slow as Core AI's kernels for processors is run, an image of 224 pixels in a second."""
ORIGINAL = "original"
"""Key of the model as it was trained, behind an explicit normalization."""


def images_of(held_out: Lines, tensors: Sequence[NDArray[np.float32]] = ()) -> tuple[data_module.Images, list[int]]:
    """All images ``(N, H, W, 3)`` uint8 RGB, held-out ones first and those at the edges after them; and the indices
    of the golden ones: a few held-out images, spread over the set, and all edge images.

    Args:
        held_out: ``(N, H, W, 3)`` uint8 RGB.
        tensors: what belongs to them, ``(N, ...)`` each. An edge image has the least or the largest value all over, in turn.
    """
    edges, _ = data_module.edge_images(np.asarray(held_out[:1]))
    images = joined(held_out, edges)
    whole = tuple(np.concatenate([tensor, _edges(tensor, len(edges))]) for tensor in tensors)
    return data_module.Samples(images, whole), golden_of(len(held_out), len(edges))


def spread(outputs: NDArray[np.float32], some: Sequence[int], count: int) -> NDArray[np.float32]:
    """Rows of some of so many images in their places, and NaN in the others'."""
    found = np.full((count, *outputs.shape[1:]), np.nan, np.float32)
    found[list(some)] = outputs
    return found


def _edges(tensor: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    bounds = [tensor.min(), tensor.max()]
    return np.stack([np.full(tensor.shape[1:], bounds[number % 2], np.float32) for number in range(count)])


def golden_of(held_out: int, edges: int) -> list[int]:
    """Indices of the golden images among so many held-out ones and those at the edges behind them."""
    spread = np.linspace(0, held_out - 1, min(GOLDEN_IMAGES, held_out)).astype(int)
    return [*spread.tolist(), *range(held_out, held_out + edges)]


def looked_at(key: str, images: data_module.Images, golden: Sequence[int]) -> list[int] | None:
    """Indices of the images that a reference, and what is compared with it, is run on: the golden ones and some of the others,
    evenly chosen, of one that is slow; None for all."""
    most = max(1, PIXELS_OF_SLOW // (images.shape[1] * images.shape[2]))
    if not key.endswith(CORE_AI) or len(images) <= most:
        return None
    return sorted({*golden, *np.linspace(0, len(images) - 1, most).astype(int).tolist()})


def keys(wanted: Sequence[tuple[Target, str]]) -> list[str]:
    """The references that artifacts are compared with; the original, the float and the int8 one always."""
    found = {target.REFERENCES[precision] for target, precision in wanted} | {ORIGINAL, "fp32", "int8"}
    found |= {
        target.REFERENCES[precision] + UNROUNDED
        for target, precision in wanted
        if precision == "int8" and target.EVIDENCE == "reference executor"
    }
    return sorted(found)


def cost(key: str) -> float:
    """What a reference takes, as a multiple of the float one: sums in float64 take longest, an image of 224 pixels a quarter of a second."""
    if not is_quantized(key.removesuffix(UNROUNDED)):
        return 1
    return 3 if key in ("int8-xnnpack", "int8-onnxruntime") else 15


def run(
    program: Program, key: str, images: data_module.Images, golden: Sequence[int]
) -> tuple[NDArray[np.float32], Recording | None]:
    """Packed outputs ``(N, width)`` of one reference, and of a quantized one what it computes inside on the golden images.

    The rows of images that are not `looked_at` are NaN.
    """
    if key == ORIGINAL:
        return evaluate(program.original, images), None
    some = looked_at(key, images, golden)
    if some is None:
        return _run(program, key, images, golden)
    found, recording = _run(program, key, images[some], [some.index(number) for number in golden])
    return spread(found, some, len(images)), recording


def _run(
    program: Program, key: str, images: data_module.Images, golden: Sequence[int]
) -> tuple[NDArray[np.float32], Recording | None]:
    if not is_quantized(key):
        return program.evaluate(key, images), None
    others = np.setdiff1d(np.arange(len(images)), golden)
    seen, recording = watch(program, key, images[list(golden)])
    outputs = np.empty((len(images), *seen.shape[1:]), np.float32)
    outputs[list(golden)] = seen
    if len(others):
        outputs[others] = program.evaluate(key, images[others])
    return outputs, recording
