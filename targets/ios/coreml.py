"""Core ML packages, checked by the reference executor: Core ML itself predicts on Apple's systems only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.program import LayerValue, Loaded, Program, Trace

from .. import _layers
from ..runtimes import coreml as runtime
from ..runtimes import packed
from . import _mlprogram, mil_executor

NAME = "ios/coreml"
SUFFIX = ".mlpackage"
PRECISIONS = ("fp32", "fp16", "int8", "w8", "w4")
KERNELS = "coreml"
PACKAGES = ("coremltools", "torch", "torchao")
EVIDENCE = "reference executor"
RUNTIME = runtime
REFERENCES = {"fp32": "fp32", "fp16": "fp16-all", "int8": "int8-fp16", "w8": "w8", "w4": "w4"}
READS: tuple[str, ...] = ("labels", "about", "minimum_ios")
NEEDS = {"fp32": 15, "fp16": 15, "int8": 17, "w8": 16, "w4": 18}
TWINS = ("int8",)
"""int8 packages compute in float16 and round their scales to it; what the quantization itself became is seen in a
package that differs in its compute precision only, against the unrounded reference."""


def build(program: Program, precision: str, out: Path) -> Path:
    """Activations are float32 in fp32 packages and float16 in all others."""
    if precision == "w8":
        return _mlprogram.package(program, program.w8.module, out, is_half=True, weights=program.w8.weights)
    if precision == "w4":
        return _mlprogram.package(program, program.w4.module, out, is_half=True, weights=program.w4.weights)
    module = program.quantized if precision == "int8" else program.folded
    return _mlprogram.package(program, module, out, is_half=precision != "fp32")


def build_twin(program: Program, precision: str, out: Path) -> Path:
    """The same program in float32, for the check of `TWINS`; it is not shipped."""
    return _mlprogram.package(program, program.quantized, out, is_half=False)


def load(path: Path) -> Loaded:
    """The package on the reference executor."""
    model = mil_executor.Model(path)

    def run(*inputs: NDArray[Any], arithmetic: mil_executor.Arithmetic = "declared") -> NDArray[np.float32]:
        arrays = model.predict(_named(model, inputs), arithmetic).arrays
        return packed([arrays[name] for name in model.array_outputs])

    def classify(*inputs: NDArray[Any]) -> tuple[str, dict[str, float]]:
        prediction = model.predict(_named(model, inputs))
        return str(prediction.label), dict(prediction.probabilities)

    return Loaded(
        run=run,
        exact=partial(run, arithmetic="exact"),
        unrounded=partial(run, arithmetic="unrounded"),
        decode=classify,  # asked where the task has classes: a package that lost its labels shall show
    )


def _named(model: mil_executor.Model, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The inputs by the package's names, the pixels as it takes them."""
    return dict(zip(model.inputs, (inputs[0][0, ..., :3], *inputs[1:]), strict=True))


def trace(path: Path) -> Trace:
    """The layers of an int8 package in exact arithmetic."""
    model = mil_executor.Model(path)
    kinds = model.quantized_layers

    def traced(*inputs: NDArray[Any]) -> list[LayerValue]:
        arrays = model.predict(_named(model, inputs), "exact", kinds).arrays
        return [LayerValue(kind=kind, steps=_layers.signed(arrays[name])) for name, kind in kinds.items()]

    return traced


def operators(path: Path) -> dict[str, int]:
    """Operations of the ML Program; weights are none."""
    return mil_executor.Model(path).operations
