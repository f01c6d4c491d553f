"""ExecuTorch with its XNNPACK delegate; executorch 1.5 brings tensors in and out by torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import ConversionError

from . import packed

NAME = "ExecuTorch"
PACKAGES = ("executorch", "torch")
MODULES = ("torch", "executorch.runtime")
UNITS = ("CPU",)
EVIDENCE = "runtime"


def load(artifact: Path | bytes, unit: str = "CPU") -> Callable[..., NDArray[np.float32]]:
    """The program, ready to run.

    Raises:
        ConversionError: it has no method ``forward``.
    """
    execute = method(artifact)

    return lambda *inputs: packed(execute(*inputs))


def method(program: Path | bytes) -> Callable[..., list[NDArray[Any]]]:
    """The one method of a program, a file or its content: its inputs, pixels first -> all its outputs."""
    import torch
    from executorch.runtime import Runtime

    found = Runtime.get().load_program(program).load_method("forward")
    if found is None:
        raise ConversionError("the program has no method 'forward'")

    def execute(*inputs: NDArray[Any]) -> list[NDArray[Any]]:
        assert program  # the runtime reads the content where it lies, so it must live as long as the method
        return [output.clone().numpy() for output in found.execute([torch.from_numpy(one) for one in inputs])]

    return execute
