"""What a module or a graph says of images, in torch's arithmetic and in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, arrays
from . import depthwise
from .contract import Output

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.fx import GraphModule

    from .contract import InputContract

_KEPT_VALUES = 2**25
"""Of weights in float64 that are kept from image to image: 256 MB."""
See = Callable[[str, "torch.Tensor"], None]
"""Is given the name of each quantizer in a graph, in order of execution, and the steps that it gave for an image."""

_PIXELS_AT_ONCE = 32 * 32 * 32
"""Small images are faster together; of large ones the work itself takes the time."""


def inputs(images: Images) -> tuple[torch.Tensor, ...]:
    """What a module is called with."""
    import torch

    return tuple(torch.from_numpy(array) for array in arrays(images))


def example_inputs(contract: InputContract) -> tuple[torch.Tensor, ...]:
    """Zeros of the shapes and types that a program is exported with."""
    import torch

    tensors = (torch.zeros(1, *tensor.shape) for tensor in contract.tensors)
    return torch.zeros(contract.shape, dtype=torch.uint8), *tensors


def packed(result: Any, count: int) -> torch.Tensor:
    """What a module gives for so many images, one tensor or several, as ``(count, width)``: flattened, one behind the other."""
    import torch

    tensors = result if isinstance(result, (tuple, list)) else (result,)
    flat = [tensor.reshape(count, -1) for tensor in tensors]
    return flat[0] if len(flat) == 1 else torch.cat(flat, 1)


def layout_of(result: Any) -> tuple[Output, ...]:
    """What stands where in `packed` of it; names are none."""
    tensors = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(Output(name=f"output{number}", shape=tuple(one.shape[1:])) for number, one in enumerate(tensors))


def balanced(result: Any, count: int) -> torch.Tensor:
    """The same with each of several outputs divided by its root mean square, for sums that all of them are to share in."""
    tensors = result if isinstance(result, (tuple, list)) else (result,)
    if len(tensors) == 1:
        return packed(result, count)
    return packed([t / t.detach().square().mean().sqrt().clamp_min(1e-12) for t in tensors], count)


def layout(module: nn.Module, images: Images) -> tuple[Output, ...]:
    """What stands where in a module's packed outputs; names are none."""
    import torch

    with torch.no_grad():
        return layout_of(module(*inputs(images[:1])))


def evaluate_quantized(
    module: GraphModule, images: Images, *, is_rounded: bool = True, see: See | None = None
) -> NDArray[np.float32]:
    """Packed outputs ``(N, width)`` of a PT2E graph with all sums in float64.

    Products of int8 values and their sums are exact in float64, as they are in the runtimes' int32. In float32 the
    sums depend on the memory layout, and a value near a rounding boundary falls to either side.

    Args:
        is_rounded: False leaves the rounding of activations out, not their clipping. The outputs then follow each
            weight, and a copy of the program with one weight a step off differs.
        see: is given what each quantizer gives, for one image at a time.
    """
    import torch
    from torch.fx import Interpreter, Node

    class Exact(Interpreter):
        """Weights are brought into float64 once, for all images, where that takes no more than `_KEPT_VALUES`."""

        def __init__(self, graph: GraphModule) -> None:
            super().__init__(graph)
            self.weights: dict[Node, object] = {}
            self.values = 0

        def run_node(self, n: Node) -> object:
            if n.op == "call_module":
                return None  # a guard on the number of images
            name = str(n.target)
            if n.op == "call_function" and "quantize_per_tensor" in name:
                args, _ = self.fetch_args_kwargs_from_env(n)
                x, scale, zero_point, low, high, dtype = args  # type: ignore[misc]
                if ".dequantize" in name:
                    return (x.double() - zero_point) * scale
                if not is_rounded:
                    return (x.double() / scale + zero_point).clamp(low, high)
                steps = (torch.round(x / scale) + zero_point).clamp(low, high).to(dtype)
                if see is not None:
                    see(n.name, steps)
                return steps
            if n.target is torch.ops.aten.conv2d.default:
                args, _ = self.fetch_args_kwargs_from_env(n)
                if depthwise.is_one(*args):
                    return depthwise.convolve(*args)
            value = super().run_node(n)
            is_float = isinstance(value, torch.Tensor) and value.dtype == torch.float32
            found = value.double() if is_float else value  # type: ignore[union-attr]
            if ".dequantize" in name and n.args[0].op == "get_attr":  # type: ignore[union-attr]
                self.values += found.numel()  # type: ignore[attr-defined]
                if self.values <= _KEPT_VALUES:
                    self.weights[n] = found
            return found

    exact = Exact(module)
    with torch.no_grad():
        parts = [
            packed(exact.run(*inputs(some), initial_env={**exact.weights}), len(some)).float().numpy()
            for some in batches(images, see)
        ]
    outputs: NDArray[np.float32] = np.concatenate(parts)
    return outputs


def batches(images: Images, see: See | None) -> list[Images]:
    """Images in parts for a graph whose sums are exact, so that their number changes no output; one at
    a time where each is to be seen."""
    size = 1 if see is not None else max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    return [images[start : start + size] for start in range(0, len(images), size)]


def evaluate_batched(module: GraphModule, images: Images, batch: int = 32) -> NDArray[np.float32]:
    """Packed outputs ``(N, width)`` of a graph that was exported with one image, in torch's float32.

    Many times faster than `evaluate_quantized`, and good enough for SNR and scores; not for the last bit.
    """
    import torch
    from torch.fx import Interpreter, Node

    class Unguarded(Interpreter):
        def run_node(self, n: Node) -> object:
            return None if n.op == "call_module" else super().run_node(n)  # a guard on the number of images

    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            parts.append(packed(Unguarded(module).run(*inputs(some)), len(some)).numpy())
    outputs: NDArray[np.float32] = np.concatenate(parts)
    return outputs


def evaluate(module: nn.Module, images: Images, batch: int = 1) -> NDArray[np.float32]:
    """Packed outputs ``(N, width)`` of images ``(N, H, W, 4)`` uint8 RGBA and what belongs to them."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            parts.append(packed(module(*inputs(some)), len(some)).numpy())
    outputs: NDArray[np.float32] = np.concatenate(parts)
    return outputs
