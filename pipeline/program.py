"""What is shipped, before any runtime knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """Pixels as a phone's bitmap holds them: ``uint8 (1, resolution, resolution, 4)``, RGBA, alpha always 255.

    Attributes:
        resolution: height and width in pixels.
        mean: subtracted from RGB in 0..1, inside the artifact.
        std: divides RGB after the mean, inside the artifact.
        grey: level subtracted from all four channels first; see `stages/fold.py`.
    """

    resolution: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    grey: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (1, self.resolution, self.resolution, 4)


@dataclass(frozen=True, kw_only=True)
class Program:
    """The float and the quantized reference of one model.

    Attributes:
        name: stem of the artifacts' file names.
        original: the model as trained, behind an explicit normalization; for the fold leg only.
        folded: float reference; BatchNorm and normalization are inside the convolutions.
        quantized: int8 reference with int8 weights, for ExecuTorch and ONNX.
        quantized_unfolded: the same with float weights behind quantizers, for LiteRT.
        output_scale: step of the int8 logits.

    All modules map ``(N, H, W, 4)`` uint8 to ``(N, classes)`` float32 logits; the quantized ones take N = 1.
    """

    name: str
    contract: InputContract
    labels: tuple[str, ...]
    original: nn.Module
    folded: nn.Module
    quantized: GraphModule
    quantized_unfolded: GraphModule
    output_scale: float

    def reference(self, precision: str) -> nn.Module:
        """The module that an artifact of this precision must equal."""
        if precision == "int8":
            return self.quantized
        return half_weights(self.folded) if precision == "fp16" else self.folded


def half_weights(module: nn.Module) -> nn.Module:
    """A copy with the weights of every layer rounded to float16 and kept as float32; biases stay as they are."""
    from copy import deepcopy

    import torch

    rounded = deepcopy(module)
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    return rounded


def evaluate_quantized(module: GraphModule, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits ``(N, classes)`` of a PT2E graph with all sums in float64.

    Products of int8 values and their sums are exact in float64, as they are in the runtimes' int32. In float32 the
    sums depend on the memory layout, and a value near a rounding boundary falls to either side.
    """
    import torch
    from torch.fx import Interpreter, Node

    class Exact(Interpreter):
        def run_node(self, n: Node) -> object:
            name = str(n.target)
            if n.op == "call_function" and "quantize_per_tensor" in name:
                args, _ = self.fetch_args_kwargs_from_env(n)
                x, scale, zero_point, low, high, dtype = args  # type: ignore[misc]
                if ".dequantize" in name:
                    return (x.double() - zero_point) * scale
                return (torch.round(x / scale) + zero_point).clamp(low, high).to(dtype)
            value = super().run_node(n)
            is_float = isinstance(value, torch.Tensor) and value.dtype == torch.float32
            return value.double() if is_float else value  # type: ignore[union-attr]

    exact = Exact(module)
    with torch.no_grad():
        parts = [exact.run(torch.from_numpy(image[None])).float().numpy() for image in images]
    logits: NDArray[np.float32] = np.concatenate(parts)
    return logits


def evaluate(module: nn.Module, images: NDArray[np.uint8], batch: int = 1) -> NDArray[np.float32]:
    """Logits ``(N, classes)`` of RGBA images ``(N, H, W, 4)``."""
    import torch

    with torch.no_grad():
        parts = [module(torch.from_numpy(images[i : i + batch])).numpy() for i in range(0, len(images), batch)]
    logits: NDArray[np.float32] = np.concatenate(parts)
    return logits
