"""onnxruntime on its CPU kernels, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import packed

NAME = "onnxruntime"
PACKAGES = ("onnxruntime",)
MODULES = ("onnxruntime",)
UNITS = ("CPU",)
EVIDENCE = "runtime"


def load(artifact: Path | bytes, unit: str = "CPU") -> Callable[..., NDArray[np.float32]]:
    """The artifact, ready to run."""
    made = session(artifact.read_bytes() if isinstance(artifact, Path) else artifact)

    names = [one.name for one in made.get_inputs()]
    return lambda *inputs: packed(made.run(None, dict(zip(names, inputs, strict=True))))


def session(content: bytes, *, is_optimized: bool = False, save: Path | None = None) -> Any:
    """The model on one thread.

    Args:
        is_optimized: it is what onnxruntime has made of a model, and is run as it is.
        save: where to write what it makes of the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if is_optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save is not None:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
