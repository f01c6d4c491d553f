"""Core ML itself, which macOS alone has."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import packed

NAME = "Core ML"
PACKAGES = ("coremltools",)
MODULES = ("coremltools", "PIL.Image")
UNITS = ("CPU_ONLY", "ALL")
"""Names of `coremltools.ComputeUnit`: the CPU alone, and whatever it chooses among CPU, GPU and Neural Engine."""
EVIDENCE = "device"


def missing() -> str:
    """Why it cannot be here, whatever is installed; empty where it can."""
    return "" if platform.system() == "Darwin" else f"macOS alone has it, this is {platform.system()}"


def load(artifact: Path | bytes, unit: str = "CPU_ONLY") -> Callable[..., NDArray[np.float32]]:
    """A package, a folder, ready to run."""
    import coremltools
    from PIL import Image

    model = coremltools.models.MLModel(str(artifact), compute_units=coremltools.ComputeUnit[unit])
    description = model.get_spec().description
    names = [feature.name for feature in description.input]
    is_image = description.input[0].type.HasField("imageType")
    # the others are the class and its probabilities
    outputs = [feature.name for feature in description.output if feature.type.HasField("multiArrayType")]

    def run(*inputs: NDArray[Any]) -> NDArray[np.float32]:
        given = dict(zip(names, (array.astype(np.float32) for array in inputs), strict=True))
        if is_image:
            given[names[0]] = Image.fromarray(inputs[0][0, ..., :3], "RGB")
        found = model.predict(given)
        return packed([found[name] for name in outputs])

    return run
