"""Core ML itself, which macOS alone has."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAME = "Core ML"
PACKAGES = ("coremltools",)
MODULES = ("coremltools", "PIL.Image")
UNITS = ("CPU_ONLY", "ALL")
"""Names of `coremltools.ComputeUnit`: the CPU alone, and whatever it chooses among CPU, GPU and Neural Engine."""
EVIDENCE = "device"
LOGITS, OUTPUTS = "logits", "outputs"
"""Output of the packages that take an image, beside the probabilities."""


def missing() -> str:
    """Why it cannot be here, whatever is installed; empty where it can."""
    return "" if platform.system() == "Darwin" else f"macOS alone has it, this is {platform.system()}"


def load(artifact: Path | bytes, unit: str = "CPU_ONLY") -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A package, a folder, ready to run."""
    import coremltools
    from PIL import Image

    model = coremltools.models.MLModel(str(artifact), compute_units=coremltools.ComputeUnit[unit])
    description = model.get_spec().description
    name = description.input[0].name
    is_image = description.input[0].type.HasField("imageType")
    names = [feature.name for feature in description.output]
    output = next((name for name in (LOGITS, OUTPUTS) if name in names), names[0]) if is_image else names[0]

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = Image.fromarray(pixels[0, ..., :3], "RGB") if is_image else pixels.astype(np.float32)
        return np.asarray(model.predict({name: given})[output], np.float32).reshape(1, -1)

    return run
