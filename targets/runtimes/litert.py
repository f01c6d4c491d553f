"""LiteRT with its XNNPACK delegate, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import ConversionError

from . import packed

NAME = "LiteRT"
PACKAGES = ("ai-edge-litert",)
MODULES = ("ai_edge_litert.interpreter",)
UNITS = ("CPU",)
EVIDENCE = "runtime"


def load(artifact: Path | bytes, unit: str = "CPU") -> Callable[..., NDArray[np.float32]]:
    """The artifact, ready to run; int8 outputs are given as float32.

    Raises:
        ConversionError: XNNPACK took none of the graph, so other kernels would be measured.
    """
    made = interpreter(artifact)
    # asked once: the descriptions are made anew each time, which takes longer than a small network
    given = [one["index"] for one in made.get_input_details()]
    found = [(one["index"], _quantization(one)) for one in made.get_output_details()]

    def run(*inputs: NDArray[Any]) -> NDArray[np.float32]:
        for index, value in zip(given, inputs, strict=True):
            made.set_tensor(index, value)
        made.invoke()
        return packed([_real(made.get_tensor(index), steps) for index, steps in found])

    return run


def interpreter(artifact: Path | bytes) -> Any:
    """The graph of a file, or of its content, on XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    if isinstance(artifact, Path):
        made = Interpreter(str(artifact), num_threads=1)
    else:
        made = Interpreter(model_content=artifact, num_threads=1)
    made.allocate_tensors()
    if not any(op["op_name"] == "DELEGATE" for op in made._get_ops_details()):
        raise ConversionError(f"XNNPACK runs no part of '{getattr(artifact, 'name', 'the artifact')}'")
    return made


def invoke(interpreter: Any, *inputs: NDArray[Any], count: int | None = None) -> NDArray[np.float32]:
    """The outputs, packed.

    Args:
        count: how many of them, the first ones; all by default.
    """
    for given, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(given["index"], value)
    interpreter.invoke()
    found = interpreter.get_output_details()[:count]
    return packed([_real(interpreter.get_tensor(one["index"]), _quantization(one)) for one in found])


def _quantization(output: Any) -> tuple[np.float32, np.float32] | None:
    """Scale and zero point of an int8 output; None of a float one."""
    if output["dtype"] != np.int8:
        return None
    scale, zero_point = output["quantization"]
    return np.float32(scale), np.float32(zero_point)


def _real(values: NDArray[Any], quantization: tuple[np.float32, np.float32] | None) -> NDArray[np.float32]:
    if quantization is None:
        return values
    scale, zero_point = quantization
    return (values.astype(np.float32) - zero_point) * scale
