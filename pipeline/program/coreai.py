"""Evaluate a graph as Core AI's kernels for processors compute it, to the last bit.

Apple publishes no source of them. What they do was found with coreai-core 1.0.0b3 on x86-64, by programs of one operation
each; `tests/program/test_coreai.py` asks them again. A map is of float32, or of float16 where the whole graph is:

- convolution: of float32, all products are summed in float64; of float16, in float32, one after the other by input channel, row and
  column of the kernel. The sum is rounded once to the map's type, and then the bias is added in that.
- linear layer, product of matrices: one product after the other in the order of the inputs, each and each sum rounded to the map's
  type, and the bias last. In float16 that costs more than all else.
- transposed convolution: the same, in the order of the input channels, where no two places of a kernel meet in a pixel.
- mean: one value after the other, row by row, in float32, divided there, then rounded to the map's type.
- softmax: in float64, then rounded.
- quantize: divided by the scale in float32, halves to even, then the zero point; dequantize: the distance to the zero point
  times the scale, in float32.
- what is computed of each value by itself: in the map's type, with constants rounded to it before.

That is an int8 graph as well: its sums are of floats, each step times its scale. An iPhone has other kernels, those of its GPU and its
Neural Engine among them, and nothing is said of them here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Interpreter, Node

from ..data import Images
from .evaluation import batches, inputs, packed

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from .evaluation import See

aten = torch.ops.aten

_PAIRS = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)


def evaluate(module: GraphModule, images: Images, see: See | None = None) -> NDArray[np.float32]:
    """Packed outputs ``(N, width)`` of a graph on images ``(N, H, W, 4)`` uint8.

    Args:
        module: a float graph, of float32 or float16, or a PT2E graph.
        see: is given what each quantizer gives, for one image at a time.
    """
    evaluator = _Evaluator(module, see)
    with torch.no_grad():
        parts = [packed(evaluator.run(*inputs(some)), len(some)).numpy() for some in batches(images, see)]
    found: NDArray[np.float32] = np.concatenate(parts)
    return found


class _Evaluator(Interpreter):
    def __init__(self, module: GraphModule, see: See | None) -> None:
        super().__init__(module)
        self._see = see

    def run_node(self, n: Node) -> Any:
        if n.op == "call_module":
            return None  # a guard on the number of images
        result = super().run_node(n)
        if self._see is not None and ".quantize_per_tensor" in str(n.target):
            self._see(n.name, result)
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = str(target)
        if "dequantize_per_channel" in name:
            steps, scales, _, axis = args[:4]
            return steps.float() * scales.float().view([-1 if one == axis else 1 for one in range(steps.ndim)])
        if "dequantize_per_tensor" in name:
            return (args[0].float() - args[2]) * _number(args[1])
        if "quantize_per_tensor" in name:
            x, scale, zero_point, low, high, dtype = args
            return (torch.round(x / _number(scale)) + zero_point).clamp(low, high).to(dtype)
        if target in _PAIRS and isinstance(args[1], float | int) and args[0].dtype == torch.float16:
            args = (args[0], torch.tensor(args[1], dtype=torch.float16), *args[2:])  # torch would keep it as it is
        known = _ARITHMETIC.get(target)
        return super().call_function(target, args, kwargs) if known is None else known(*args, **kwargs)


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32)


def _rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float64 as another type, rounded once: torch goes to float16 by way of float32, and rounds twice."""
    return torch.from_numpy(values.numpy().astype(np.float16)) if dtype == torch.float16 else values.to(dtype)


def _convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *rest: Any) -> torch.Tensor:
    if x.dtype == torch.float16:
        sums = _convolved_in_order(x.float(), weight.float(), *rest).half()
    else:
        sums = torch.conv2d(x.double(), weight.double(), None, *rest).to(x.dtype)
    return sums if bias is None else sums + bias.view(1, -1, 1, 1)


def _convolved_in_order(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """Products of float16 values are exact in float32, so that only the order of their sum counts."""
    size, stride, padding, dilation = ((*one, *one)[:2] for one in (tuple(weight.shape[2:]), stride, padding, dilation))
    height, width = (
        (x.shape[2 + n] + 2 * padding[n] - dilation[n] * (size[n] - 1) - 1) // stride[n] + 1 for n in range(2)
    )
    columns = torch.nn.functional.unfold(x, size, dilation, padding, stride)
    columns = columns.view(len(x), groups, 1, -1, height * width)
    rows = weight.reshape(1, groups, weight.shape[0] // groups, -1, 1)
    sums = torch.zeros(len(x), groups, rows.shape[2], height * width)
    for k in range(columns.shape[3]):
        sums.addcmul_(rows[..., k, :], columns[..., k, :])
    return sums.view(len(x), -1, height, width)


def _transposed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *rest: Any) -> torch.Tensor:
    sums = sum(
        aten.conv_transpose2d.input(x[:, n : n + 1], weight[n : n + 1], None, *rest) for n in range(weight.shape[0])
    )
    if len(rest) > 3 and rest[3] != 1:  # groups, whose order was not looked at
        sums = aten.conv_transpose2d.input(x, weight, None, *rest)
    return sums if bias is None else sums + bias.view(1, -1, 1, 1)  # type: ignore[no-any-return]


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    sums = _product(x, weight.t())
    return sums if bias is None else sums + bias


def _product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``(..., M, K)`` and ``(..., K, N)``."""
    found = one[..., :1] * other[..., :1, :]
    for k in range(1, one.shape[-1]):
        found = found + one[..., k : k + 1] * other[..., k : k + 1, :]
    return found


def _mean(x: torch.Tensor, dims: list[int] | None = None, keepdim: bool = False, **_: Any) -> torch.Tensor:
    axes = sorted(one % x.ndim for one in (dims or range(x.ndim)))
    kept = [one for one in range(x.ndim) if one not in axes]
    values = x.float().permute(*kept, *axes).reshape(*(x.shape[one] for one in kept), -1)
    total = values[..., 0]
    for n in range(1, values.shape[-1]):
        total = total + values[..., n]
    found = (total / values.shape[-1]).to(x.dtype)
    return found.reshape([1 if one in axes else x.shape[one] for one in range(x.ndim)]) if keepdim else found


def _softmax(x: torch.Tensor, dim: int, *_: Any) -> torch.Tensor:
    return _rounded(torch.softmax(x.double(), dim), x.dtype)


_ARITHMETIC: dict[Any, Callable[..., torch.Tensor]] = {
    aten.conv2d.default: _convolved,
    aten.conv_transpose2d.input: _transposed,
    aten.linear.default: _linear,
    aten.matmul.default: _product,
    aten.bmm.default: _product,
    aten.mean.dim: _mean,
    aten.softmax.int: _softmax,
}
