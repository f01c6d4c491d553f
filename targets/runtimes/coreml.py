"""Core ML itself, which macOS alone has."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import packed

NAME = "Core ML"
PACKAGES = ("coremltools",)
MODULES = ("coremltools", "PIL.Image")
UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
"""Names of `coremltools.ComputeUnit`: the CPU alone, with the GPU, with the Neural Engine, and whatever it chooses among the three."""
EVIDENCE = "device"

_DEVICES = {"MLCPUComputeDevice": "CPU", "MLGPUComputeDevice": "GPU", "MLNeuralEngineComputeDevice": "NPU"}


def missing() -> str:
    """Why it cannot be here, whatever is installed; empty where it can."""
    return "" if platform.system() == "Darwin" else f"macOS alone has it, this is {platform.system()}"


class _Model:
    """A package, ready to run on a unit."""

    def __init__(self, artifact: Path | bytes, unit: str) -> None:
        import coremltools

        self._unit = coremltools.ComputeUnit[unit]
        self._model = coremltools.models.MLModel(str(artifact), compute_units=self._unit)
        description = self._model.get_spec().description
        self._names = [feature.name for feature in description.input]
        self._is_image = description.input[0].type.HasField("imageType")
        # the others are the class and its probabilities
        self._outputs = [feature.name for feature in description.output if feature.type.HasField("multiArrayType")]

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        from PIL import Image

        given = dict(zip(self._names, (array.astype(np.float32) for array in inputs), strict=True))
        if self._is_image:
            given[self._names[0]] = Image.fromarray(inputs[0][0, ..., :3], "RGB")
        found = self._model.predict(given)
        return packed([found[name] for name in self._outputs])

    def plan(self) -> list[list[str]]:
        """Core ML's compute plan: of each operation the unit that it prefers for it, the operator, and its output's name.
        Constants have no unit, and are left out.

        Raises:
            Exception: coremltools is older than 8.1, or macOS than 14.4, or Core ML has no plan.
        """
        from coremltools.models.compute_plan import MLComputePlan

        made = MLComputePlan.load_from_path(self._model.get_compiled_model_path(), compute_units=self._unit)
        found = []
        for function in made.model_structure.program.functions.values():
            for operation in _operations(function.block):
                usage = made.get_compute_device_usage_for_mlprogram_operation(operation)
                if usage is not None:
                    device = _DEVICES[type(usage.preferred_compute_device).__name__]
                    name = operation.outputs[0].name if operation.outputs else ""
                    found.append([device, operation.operator_name, name])
        return found


def _operations(block: Any) -> Iterator[Any]:
    """With those of the blocks inside, in their order."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def load(artifact: Path | bytes, unit: str = "CPU_ONLY") -> _Model:
    """A package, a folder, ready to run."""
    return _Model(artifact, unit)
