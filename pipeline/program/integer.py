"""Evaluate the quantized program in the runtimes' own integer arithmetic, to the last bit.

float32 torch is a poor judge of int8: its sums depend on the memory layout. The runtimes sum in int32, which is exact,
and round once. What they do stands in their public sources. XNNPACK, for LiteRT and ExecuTorch:

- convolution and linear layer: the scale of an output channel is ``input scale * weight scale / output scale`` in
  float32, in that order (`src/operators/convolution-nhwc.c`, `fully-connected-nc.c`); the kernels multiply the sum by
  it and round halves to even (`src/qs8-qc8w-gemm`, variants ``minmax-fp32``). Biases are int32.
- addition: both scales over the output's become whole numbers of 21 bits with one common shift, and the shift back
  rounds halves up (`xnn_init_qs8_add_minmax_scalar_params` in `src/microparams-init.c`, `src/qs8-vadd`).
- multiplication: the product of the centred steps, times ``one scale * other scale / output scale`` in float32, halves to
  even (`src/subgraph/binary.c`, `src/qs8-vmul`).
- mean: the sum of the steps, times ``input scale / (count * output scale)``, and the zero point added before halves go to
  even (`src/operators/reduce-nd.c`).
- bilinear resizing: weights of 11 bits, from coordinates in float32 (`xnn_indirection_init_resize_bilinear2d_hwc_q11` in
  `src/indirection.c`), rounded once, halves up (`src/s8-ibilinear`).
- quantize: times the reciprocal of the scale in float32, halves to even (`src/f32-qs8-vcvt`).

onnxruntime, below `onnxruntime/core`; convolution and linear layer as above (`providers/cpu/quantization/qlinearconv.cc`,
`MlasRequantizeOutput` in `mlas/lib/quantize.cpp`, `contrib_ops/cpu/quantization/quant_gemm.cc`):

- addition: two fused multiply-adds in float32, upon a constant that holds all zero points, halves to even
  (`mlas/lib/intrinsics/avx2/qladd_avx2.cpp`). That is x86 with AVX2 and later. On arm64 it is fixed-point arithmetic with
  multipliers of 22 bits, halves away from zero (`mlas/lib/qladd.cpp`). Of all pairs of operands under 40 pairs of scales,
  22 of 2,621,440 results differ, by one step; the reference follows x86, `added_on_arm64` is the other.
- multiplication: as XNNPACK's, with the zero point added in float32 before the rounding (`mlas/lib/qlmul.cpp`).
- mean: as XNNPACK's but for what the sum is multiplied by, ``input scale / (output scale * count)``, and the zero point added behind the
  rounding: `QLinearGlobalAveragePool` (`mlas/lib/qlgavgpool.cpp`); the ONNX target makes a pool of it.
- transposed convolution: in float, between a dequantize and a quantize.
- bilinear resizing: in float32, four products and three additions in a fixed order (`providers/cpu/tensor/upsample.h`), then
  quantized. That is x86. On arm64 the additions are fused with the products, which puts ties on either side: of 187,584 values under
  120 pairs of sizes 346 differ, by one step; the reference follows x86, `resized_on_arm64` is the other.
- quantize: divided by the scale in float32, halves to even (`MlasQuantizeLinear` in `mlas/lib/quantize.cpp`).

What the runtimes compute in float between integers, as a sigmoid, is computed in float here; `in_float` names what of that is
sums, whose order is not known, and so not the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Interpreter, Node
from torch.fx.node import map_aggregate

from ..data import Images
from . import resizing
from .evaluation import batches, inputs, packed
from .graph import ACTIVATIONS, BILINEAR, CLAMP, MOVES, PAD, TRANSPOSED, WEIGHTED

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from .evaluation import See

aten = torch.ops.aten
_MULTIPLIER_BITS = 20
_MULTIPLIER_BITS_ARM64 = 21
_EXACT = 2**24
"""Whole numbers below it are float32."""
_LARGEST_STEP = 255
"""Of int8 less a zero point."""
_UNSIGNED = 128
"""How much higher onnxruntime stores int8 steps and their zero points, as uint8."""


@dataclass(frozen=True)
class Steps:
    """A quantized value: whole numbers in float32, of which each takes half the time of float64."""

    values: torch.Tensor
    scale: float
    zero_point: int

    @property
    def largest_sum(self) -> float:
        """Of steps of the input times these as weights."""
        return _largest_sum(self.values)

    @property
    def centred(self) -> torch.Tensor:
        return self.values - self.zero_point

    @property
    def real(self) -> torch.Tensor:
        return self.centred * torch.tensor(self.scale, dtype=torch.float32)


@dataclass(frozen=True)
class Weight:
    """int8 steps in float32, and the float32 scale of each output channel."""

    values: torch.Tensor
    scale: torch.Tensor

    @property
    def real(self) -> torch.Tensor:
        return self.values * self.scale.view(-1, *[1] * (self.values.ndim - 1))

    @cached_property
    def largest_sum(self) -> float:
        """Of steps of the input times these, in whatever order they are added up."""
        return _largest_sum(self.values)


def _largest_sum(weights: torch.Tensor) -> float:
    return _LARGEST_STEP * float(weights.abs().flatten(1).sum(1).amax())


@dataclass(frozen=True)
class Sums:
    """Exact sums, or what float32 makes of them, that wait to be put on the output's grid; their real value is
    ``values * scale / count``, then clamped.

    Attributes:
        count: of what a mean is the mean of; 0 of what is none.
    """

    values: torch.Tensor
    scale: torch.Tensor
    low: float | None = None
    high: float | None = None
    count: int = 0


@dataclass(frozen=True)
class _Pair:
    """Two operands that wait to be put on the output's grid, and bounds of their real result."""

    one: Steps
    other: Steps
    low: float | None = None
    high: float | None = None


class Addition(_Pair):
    """To be added."""


class Product(_Pair):
    """To be multiplied."""


_WAITING = (Sums, Addition, Product)
"""What an operation gives before it is rounded."""


@dataclass(frozen=True)
class Kernels:
    """Where the arithmetic of runtimes differs.

    Attributes:
        quantize: real values and the scale -> whole numbers, before the zero point.
        add: an addition, the output's scale and zero point -> steps, not clamped.
        multiply: the same of a product.
        resize: steps and the arguments behind them of a bilinear resizing -> steps of the same grid, or real values.
        mean: scales of input and output and the count -> what a sum is multiplied by, in float32: where both scales are one, ties hang on it.
        means_are_even: a mean adds the zero point before it rounds, so that ties go to even steps, and not to even distances.
    """

    quantize: Callable[[torch.Tensor, float], torch.Tensor]
    add: Callable[[Addition, float, int], torch.Tensor]
    multiply: Callable[[Product, float, int], torch.Tensor]
    resize: Callable[..., Steps | torch.Tensor]
    mean: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    means_are_even: bool


def evaluate_integer(
    module: GraphModule, images: Images, see: See | None = None, kernels: str = "xnnpack"
) -> NDArray[np.float32]:
    """Packed outputs ``(N, width)`` of a PT2E graph on images ``(N, H, W, 4)`` uint8, as a runtime's kernels compute them.

    Args:
        kernels: a key of `KERNELS`.
        see: is given what each quantizer gives, for one image at a time.
    """
    evaluator = _Evaluator(module, see, KERNELS[kernels])
    parts = []
    with torch.no_grad():
        for some in batches(images, see):
            result = evaluator.run(*inputs(some))
            tensors = result if isinstance(result, (tuple, list)) else (result,)
            parts.append(packed([_real(tensor) for tensor in tensors], len(some)).numpy())
    found: NDArray[np.float32] = np.concatenate(parts)
    return found


class _Evaluator(Interpreter):
    """A dequantize passes the steps on; the quantize after an operation rounds, once."""

    def __init__(self, module: GraphModule, see: See | None, kernels: Kernels) -> None:
        super().__init__(module)
        self._see, self._kernels = see, kernels
        self._stored: dict[Node, Any] = {}  # weights as they are after their dequantize: the same for all images

    def run_node(self, n: Node) -> Any:
        if n.op == "call_module":
            return None  # a guard on the number of images
        if n in self._stored:
            return self._stored[n]
        result = super().run_node(n)
        if "dequantize" in str(n.target) and all(source.op == "get_attr" for source in n.all_input_nodes):
            self._stored[n] = result
        if self._see is not None and ".quantize_per_tensor" in str(n.target):
            self._see(n.name, result.values)
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = str(target)
        first: Any = args[0] if args else None
        if "dequantize_per_channel" in name:
            return Weight(args[0].float(), args[1].float())
        if "dequantize_per_tensor" in name:
            return first if isinstance(first, Steps) else Steps(args[0].float(), args[1], args[2])
        if "quantize_per_tensor" in name:
            return _quantize(self._kernels, *args[:5])
        if target in (*WEIGHTED, *TRANSPOSED) and isinstance(first, Steps) and isinstance(args[1], (Steps, Weight)):
            return _convolve(target, *args)
        if target in ACTIVATIONS and isinstance(first, (Steps, *_WAITING)):
            low, high = args[1:3] if target in CLAMP else (0.0, None)
            if not isinstance(first, Steps):
                return replace(first, low=low, high=high)
            return replace(first, values=first.values.clamp(*_bounds(first.scale, first.zero_point, low, high)))
        if target in _PAIRS and all(isinstance(one, Steps) for one in args[:2]):
            return _PAIRS[target](*args[:2])
        if target == aten.mean.dim and isinstance(first, Steps):
            return _mean(first, *args[1:], **kwargs)
        if target == aten.cat.default and _have_one_grid(first):
            return replace(
                first[0], values=super().call_function(target, ([p.values for p in first], *args[1:]), kwargs)
            )
        if target in MOVES and isinstance(first, Steps):
            return replace(first, values=super().call_function(target, (first.values, *args[1:]), kwargs))
        if target in BILINEAR and isinstance(first, Steps):
            return self._kernels.resize(first, *args[1:])
        if target == PAD and isinstance(first, Steps):
            zeros = super().call_function(target, (first.centred, *args[1:]), kwargs)
            return replace(first, values=zeros + first.zero_point)
        # in float: layers that are kept so, and what no kernel has in integers
        args, kwargs = map_aggregate((args, kwargs), _real)  # type: ignore[assignment]
        return super().call_function(target, args, kwargs)


_PAIRS = {aten.add.Tensor: Addition, aten.mul.Tensor: Product}
_EACH_BY_ITSELF = (
    aten.sigmoid.default,
    aten.tanh.default,
    aten.exp.default,
    aten.gelu.default,
    aten.leaky_relu.default,
    aten.prelu.default,
    aten.sub.Tensor,
    aten.div.Tensor,
    aten.neg.default,
    aten.sqrt.default,
    aten.rsqrt.default,
    aten.clamp_min.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten._to_copy.default,
)
"""What a runtime computes in float of each value alone: no order of sums, and so no other step but at a boundary."""


_ON_THE_GRID = (*MOVES, *ACTIVATIONS, PAD, aten.cat.default)
"""What gives steps of steps."""
_SUMMED = (*_PAIRS, *WEIGHTED, *TRANSPOSED)
"""What waits to be rounded, and each value by itself of pairs."""


def in_float(module: GraphModule) -> tuple[str, ...]:
    """Names of the operations in a PT2E graph that are sums of floats, in an order that is each runtime's own, and of the one
    that gives float outputs.

    A layer that was chosen to be kept in float is one: behind a few of them, in a deep network, a third of the outputs are on the other
    side of a rounding. What is so in one runtime alone ends in its kernels' name, `` in onnxruntime``.
    """
    waits: dict[Node, bool] = {}
    found: set[str] = set()
    for node in module.graph.nodes:
        if node.op == "output":
            found |= {_short(source) for source in node.all_input_nodes if waits.get(source)}
        is_read = node.op == "call_function" and bool(node.users)  # an assertion gives nothing
        if not is_read or all(source.op == "get_attr" for source in node.all_input_nodes):
            continue
        if "quantize_per_tensor" in str(node.target):
            waits[node] = False
            continue
        read = [source for source in node.all_input_nodes if source in waits]
        are_steps = bool(read) and not any(waits[source] for source in read)
        waits[node] = not (are_steps and node.target in (*_ON_THE_GRID, *BILINEAR))
        if node.target in (*WEIGHTED, *TRANSPOSED) and not _is_dequantized(node.args[1]):
            found.add(_short(node))
        if are_steps and node.target in (*BILINEAR, *TRANSPOSED):
            found.add(f"{_short(node)} in onnxruntime")
        if node.target not in (*_ON_THE_GRID, *_EACH_BY_ITSELF, *_SUMMED) and not (
            are_steps and (node.target in BILINEAR or _is_mean_of_pixels(node))
        ):
            found.add(_short(node))
    return tuple(sorted(found))


def _is_dequantized(weight: Any) -> bool:
    return isinstance(weight, Node) and "dequantize" in str(weight.target)


def _is_mean_of_pixels(node: Node) -> bool:
    """The mean that all kernels have in integers; the canonical form has no other."""
    return node.target == aten.mean.dim and list(node.args[1]) == [2, 3]  # type: ignore[arg-type]


def _short(node: Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0]


def _bounds(scale: float, zero_point: int, low: float | None, high: float | None) -> tuple[int | None, int | None]:
    """Of real values, as steps."""
    one, other = (None if real is None else round(real / scale) + zero_point for real in (low, high))
    return one, other


def _real(value: Any) -> Any:
    """In float32, as a runtime gives it to an operation without integers."""
    if isinstance(value, (Steps, Weight)):
        return value.real
    if not isinstance(value, _WAITING):
        return value
    if isinstance(value, Sums):
        real = value.values.float() * (value.scale / max(value.count, 1))
    elif isinstance(value, Addition):
        real = value.one.real + value.other.real
    else:
        real = value.one.real * value.other.real
    return real if value.low is value.high is None else real.clamp(value.low, value.high)


def _quantize(kernels: Kernels, x: Any, scale: float, zero_point: int, low: int, high: int) -> Steps:
    step = torch.tensor(scale, dtype=torch.float32)
    if isinstance(x, _WAITING):
        # the kernels put the result on the grid first, and then within the bounds
        low, high = (
            bound if found is None else min(max(found, low), high)
            for bound, found in zip((low, high), _bounds(scale, zero_point, x.low, x.high), strict=True)
        )
    if isinstance(x, Addition):
        values = kernels.add(x, scale, zero_point)
    elif isinstance(x, Product):
        values = kernels.multiply(x, scale, zero_point)
    elif isinstance(x, Sums):
        exact = x.values.float() * (kernels.mean(x.scale, step, x.count) if x.count else x.scale / step)
        shift = zero_point if x.count and kernels.means_are_even else 0
        values = torch.round(exact + shift) + (zero_point - shift)
    elif isinstance(x, Steps) and (x.scale, x.zero_point) == (scale, zero_point):
        values = x.values
    else:
        values = kernels.quantize(_real(x), scale) + zero_point
    return Steps(values.clamp(low, high), scale, zero_point)


def _have_one_grid(parts: list[Any]) -> bool:
    """Whether a concatenation only moves steps."""
    return all(isinstance(part, Steps) for part in parts) and len({(p.scale, p.zero_point) for p in parts}) == 1


def _convolve(target: Any, x: Steps, weight: Weight | Steps, bias: torch.Tensor | None = None, *rest: Any) -> Sums:
    each = weight.scale if isinstance(weight, Weight) else torch.tensor([weight.scale], dtype=torch.float32)
    whole = None if bias is None else torch.round(bias.double() / (x.scale * each.double()))
    values = _summed(target, x.centred, weight, whole, *rest)
    scale = torch.tensor(x.scale, dtype=torch.float32) * each
    return Sums(values, scale if target == aten.linear.default else scale.view(1, -1, *[1] * (values.ndim - 2)))


def _summed(
    target: Any, x: torch.Tensor, weight: Weight | Steps, bias: torch.Tensor | None, *rest: Any
) -> torch.Tensor:
    """Sums of whole numbers of at most 255 by weights, exact in float64; in float32 where that gives what is nearest to them.

    float32 is three times as fast, and exact where each product and each sum of them is below 2^24, in whatever order. A bias
    that it holds may bring them above: that is the rounding which a kernel does in its place. An algorithm that is no sum
    of products, Winograd's for example, shows by fractions.
    """
    if target in WEIGHTED and weight.largest_sum < _EXACT:
        sums: torch.Tensor = target(x, weight.values, None, *rest)
        if bool((sums == sums.round()).all()):
            if bias is None:
                return sums
            each = bias if target == aten.linear.default else bias.view(1, -1, *[1] * (sums.ndim - 2))
            return sums.add_(each.float()) if float(bias.abs().max()) < _EXACT else sums.double().add_(each)
    found: torch.Tensor = target(x.double(), weight.values.double(), bias, *rest)
    return found


def _times_reciprocal(x: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.round(x * (1 / torch.tensor(scale, dtype=torch.float32)))


def _divided(x: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.round(x / torch.tensor(scale, dtype=torch.float32))


def _mean(x: Steps, dims: list[int], keepdim: bool = False) -> Sums:
    count = int(np.prod([x.values.shape[dim] for dim in dims]))
    sums = x.centred.sum(dims, keepdim=keepdim, dtype=torch.float64)
    return Sums(sums, torch.tensor(x.scale, dtype=torch.float32), count=count)


def _by_step_and_count(scale: torch.Tensor, step: torch.Tensor, count: int) -> torch.Tensor:
    return scale / step / count


def _by_count_and_step(scale: torch.Tensor, step: torch.Tensor, count: int) -> torch.Tensor:
    return scale / (step * count)


def _resized_by_xnnpack(x: Steps, *arguments: Any) -> Steps:
    return replace(x, values=resizing.of_steps(x.values.double(), *arguments).float())


def _resized_on_x86(x: Steps, *arguments: Any) -> torch.Tensor:
    return resizing.of_floats(x.real, *arguments)


def resized_on_arm64(x: Steps, *arguments: Any) -> torch.Tensor:
    """onnxruntime's bilinear resizing on arm64: real values in float32, as the operation's arguments behind the map ask."""
    return resizing.of_floats(x.real, *arguments, is_fused=True)


def _fixed_point(pair: Addition, scale: float, bits: int) -> tuple[torch.Tensor, float]:
    """The sum in whole numbers, and how many of them are one step of the output."""
    ratios = [np.float32(operand.scale) / np.float32(scale) for operand in (pair.one, pair.other)]
    shift = bits - (int(np.frexp(max(ratios))[1]) - 1)
    one, other = (float(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios)
    return pair.one.centred.double() * one + pair.other.centred.double() * other, 2.0**shift


def _added_by_xnnpack(pair: Addition, scale: float, zero_point: int) -> torch.Tensor:
    total, step = _fixed_point(pair, scale, _MULTIPLIER_BITS)
    return torch.floor((total + step / 2) / step).float() + zero_point


def added_on_arm64(pair: Addition, scale: float, zero_point: int) -> torch.Tensor:
    """onnxruntime's addition on arm64: steps in float64, not clamped."""
    total, step = _fixed_point(pair, scale, _MULTIPLIER_BITS_ARM64)
    return torch.sign(total) * torch.floor((total.abs() + step / 2) / step) + zero_point


def _added_on_x86(pair: Addition, scale: float, zero_point: int) -> torch.Tensor:
    """A product of 8 and 24 bits is exact in float64, and so are the sums here: one rounding to float32 fuses them."""
    one, other = (float(np.float32(operand.scale) / np.float32(scale)) for operand in (pair.one, pair.other))
    zero_points = [operand.zero_point + _UNSIGNED for operand in (pair.one, pair.other)]
    centre = np.float32(one * zero_points[0] + float(np.float32(other * zero_points[1])))
    constant = float(np.float32(zero_point + _UNSIGNED) - centre)
    partial = ((pair.other.values.double() + _UNSIGNED) * other + constant).float()
    total = ((pair.one.values.double() + _UNSIGNED) * one + partial.double()).float()
    return torch.round(total) - _UNSIGNED


def _ratio(pair: Product, scale: float) -> torch.Tensor:
    one, other, step = (torch.tensor(s, dtype=torch.float32) for s in (pair.one.scale, pair.other.scale, scale))
    return one * other / step


def _multiplied_by_xnnpack(pair: Product, scale: float, zero_point: int) -> torch.Tensor:
    product = pair.one.centred * pair.other.centred
    return torch.round(product * _ratio(pair, scale)) + zero_point


def _multiplied_by_onnxruntime(pair: Product, scale: float, zero_point: int) -> torch.Tensor:
    product = pair.one.centred * pair.other.centred
    return torch.round(product * _ratio(pair, scale) + (zero_point + _UNSIGNED)) - _UNSIGNED


KERNELS = {
    "xnnpack": Kernels(
        _times_reciprocal,
        _added_by_xnnpack,
        _multiplied_by_xnnpack,
        _resized_by_xnnpack,
        _by_step_and_count,
        means_are_even=True,
    ),
    "onnxruntime": Kernels(
        _divided, _added_on_x86, _multiplied_by_onnxruntime, _resized_on_x86, _by_count_and_step, means_are_even=False
    ),
}
"""Whose arithmetic is known, by the `KERNELS` of a target."""
