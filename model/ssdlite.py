"""SSDLite: boxes and their classes from six maps, on the backbone in the architecture's name.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016; Sandler et al., "MobileNetV2", 2018, section 6.2, for the
depthwise separable heads. Anchors as published with its weights (tensorflow/models, research/object_detection,
``ssd_anchor_generator``). Importing this module imports no torch, for decoding needs its anchors alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .ssd_heads import SSDLite

# literals: names and defaults are read from this source, without importing it
RESOLUTIONS = {
    "ssdlite_mobilenet_v1": 320,
    "ssdlite_mobilenet_v2": 320,
    "ssdlite_mobilenet_v3_large": 320,
    "ssdlite_mobilenet_v3_small": 320,
    "ssdlite_efficientnet_lite0": 320,
    "ssdlite_residual": 320,
    "ssdlite_inception": 320,
}
"""Pixels of a square input as published, by name."""

DEFAULTS = {"model": {"task": "detection", "width": 1.0}}

MAPS = 6
"""Two of the backbone, at strides 16 and 32, and four behind them, each of half the size."""

SCALES = 0.2, 0.95
"""Sides of the anchors of the first and of the last map, as shares of the image's shorter side; even steps in between."""

FIRST_RATIOS = 1.0, 2.0, 0.5
RATIOS = 1.0, 2.0, 0.5, 3.0, 1 / 3
"""Width over height of the anchors of a pixel, of the first map and of the others, which have one more: a square between
this map's scale and the next one's."""

ANCHORS = (len(FIRST_RATIOS), *[len(RATIOS) + 1] * (MAPS - 1))
"""Of a pixel of each map."""

VARIANCES = 0.1, 0.1, 0.2, 0.2
"""What encoded offsets of x, y, width and height are in: a centre moves by ``0.1 * dx`` of its anchor's width, a side grows
by the factor ``exp(0.2 * dw)``."""


def map_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of each map of an input of so many pixels: halved again and again, and rounded up."""
    return [(-(-height // step), -(-width // step)) for step in (2 ** (4 + number) for number in range(MAPS))]


def anchors(height: int, width: int, name: str = "ssdlite_mobilenet_v2") -> NDArray[np.float32]:
    """The boxes ``(A, 4)`` float32 that offsets are relative to: centre x, centre y, width, height in pixels of the input.

    Map by map from the finest, then by row, column and anchor, as the network gives them.

    Args:
        height: of the input in pixels.
        width: the same.
        name: a key of `RESOLUTIONS`; all of them have the same.
    """
    if name not in RESOLUTIONS:
        raise ValueError(f"'{name}' is none of {list(RESOLUTIONS)}")
    found = []
    for number, (rows, columns) in enumerate(map_sizes(height, width)):
        sides = np.array(_sides(number)) * min(height, width)
        y, x = np.meshgrid(
            (np.arange(rows) + 0.5) * height / rows, (np.arange(columns) + 0.5) * width / columns, indexing="ij"
        )
        centres = np.stack([x, y], -1)[:, :, None].repeat(len(sides), 2)
        found.append(np.concatenate([centres, np.broadcast_to(sides, centres.shape)], -1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def _sides(number: int) -> list[tuple[float, float]]:
    """Width and height of the anchors of a map, as shares of the image's shorter side."""
    low, high = SCALES
    scales = [low + (high - low) * step / (MAPS - 1) for step in range(MAPS)] + [1.0]
    scale = scales[number]
    if number == 0:  # the square of the finest map is smaller, for small objects
        return [
            (size * math.sqrt(ratio), size / math.sqrt(ratio))
            for size, ratio in zip((0.1, scale, scale), FIRST_RATIOS, strict=True)
        ]
    between = math.sqrt(scale * scales[number + 1])
    return [*((scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for ratio in RATIOS), (between, between)]


def create(num_classes: int, width: float, padding: str = "torch", name: str = "ssdlite_mobilenet_v2") -> SSDLite:
    """A randomly initialized model; the pipeline's way to make one by name, a key of `RESOLUTIONS`.

    Args:
        num_classes: kinds of objects, without the background.
        width: width multiplier, of the backbone and of the layers behind it.
        padding: see `blocks.convolution`.
    """
    from .backbones import backbone
    from .ssd_heads import SSDLite

    return SSDLite(backbone(name.removeprefix("ssdlite_"), width, padding), num_classes, ANCHORS, width, padding)
