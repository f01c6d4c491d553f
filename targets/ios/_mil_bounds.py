"""What an operation of an ML Program takes, from the shapes of its inputs alone: an absurd one is refused before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from twinkeel.pipeline.errors import PackageError

from . import _mil_ops

MAX_VALUES = 2**29
"""Values that an operation may take at once, and that all constants, or all values in use, may have together: 2 GiB
of float32. The largest layer of MobileNetV2 gives 1.2 million at width 1.0 and 224 pixels, 100 million at 4.0 and 1024."""
MAX_WORK = 10**12
"""Multiply-adds of a whole program, minutes here: MobileNetV2 has 3e8 at width 1.0 and 224 pixels, ResNet-152 1.1e10."""
MAX_OPERATIONS = 100_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Values at once, and multiply-adds."""

    values: int
    work: int


class Budget:
    """What one run of a program may take in all."""

    def __init__(self) -> None:
        self.work = 0

    def add(self, cost: Cost, label: str) -> None:
        """Raise a PackageError where an operation would take more than there is."""
        if cost.values > MAX_VALUES:
            raise PackageError(f"{label} takes {cost.values:,} values at once; at most {MAX_VALUES:,} are computed")
        self.work += cost.work
        if self.work > MAX_WORK:
            raise PackageError(
                f"{label}: the program takes {self.work:,} multiply-adds up to here; at most {MAX_WORK:,} are computed"
            )


def cost(name: str, arguments: Mapping[str, Any]) -> Cost:
    """An upper bound, or nearly. It raises what the operation itself would on arguments that it does not take."""
    if name in _SPECIAL:
        values, work = _SPECIAL[name](**arguments)
    else:
        shapes = [a.shape for key, a in arguments.items() if key in ("x", "y", "alpha", "beta") and _is_tensor(a)]
        is_joined = name not in ("prelu", "batch_norm", "instance_norm", "layer_norm")
        values = _joined(shapes) if shapes and is_joined else 0
        work = values
    given = sum(t.numel() for a in arguments.values() for t in (a if isinstance(a, list) else [a]) if _is_tensor(t))
    return Cost(values=max(values, given), work=work + given)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _joined(shapes: Sequence[Sequence[int]]) -> int:
    """Values of the shapes' broadcast."""
    rank = max(map(len, shapes))
    aligned = [[1] * (rank - len(shape)) + list(shape) for shape in shapes]
    return math.prod(max(sizes) if min(sizes) else 0 for sizes in zip(*aligned, strict=True))


def _padded(x: Tensor, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The shape of an input whose last dimensions are padded."""
    first = x.ndim - len(pairs)
    return [*x.shape[:first], *(size + sum(pair) for size, pair in zip(x.shape[first:], pairs, strict=True))]


def _conv(x: Tensor, weight: Tensor, strides: Tensor | None = None, pad_type: str = "valid", pad: Tensor | None = None,
          dilations: Tensor | None = None, **_: Any) -> tuple[int, int]:  # fmt: skip
    rank = x.ndim - 2
    stride, dilation = _mil_ops.ints(strides, 1, rank), _mil_ops.ints(dilations, 1, rank)
    pairs = _mil_ops.window(x, weight.shape[2:], stride, dilation, pad_type, pad)
    padded = _padded(x, pairs)
    sizes = [
        max(0, (size - (k - 1) * d - 1) // s + 1)
        for size, k, d, s in zip(padded[2:], weight.shape[2:], dilation, stride, strict=True)
    ]
    places = x.shape[0] * math.prod(sizes)
    window = math.prod(weight.shape[1:])
    # float64 has no fast kernels: torch writes the windows of one group out
    return max(math.prod(padded), places * max(weight.shape[0], window)), places * weight.shape[0] * window


def _conv_transpose(x: Tensor, weight: Tensor, strides: Tensor | None = None, dilations: Tensor | None = None,
                    groups: Tensor | None = None, **_: Any) -> tuple[int, int]:  # fmt: skip
    rank = x.ndim - 2
    stride, dilation = _mil_ops.ints(strides, 1, rank), _mil_ops.ints(dilations, 1, rank)
    sizes = [
        (size - 1) * s + (k - 1) * d + 1 + s
        for size, k, d, s in zip(x.shape[2:], weight.shape[2:], dilation, stride, strict=True)
    ]
    outputs = weight.shape[1] * (1 if groups is None else int(groups))
    places, window = x.shape[0] * math.prod(x.shape[2:]), math.prod(weight.shape[1:])
    return max(x.shape[0] * outputs * math.prod(sizes), places * window), places * weight.shape[0] * window


def _pool(x: Tensor, kernel_sizes: Tensor, strides: Tensor | None = None, pad_type: str = "valid",
          pad: Tensor | None = None, ceil_mode: Tensor | None = None, **_: Any) -> tuple[int, int]:  # fmt: skip
    rank = x.ndim - 2
    kernel, stride = _mil_ops.ints(kernel_sizes, 1, rank), _mil_ops.ints(strides, 1, rank)
    padded = _padded(x, _mil_ops.pool_input(x, kernel, stride, pad_type, pad, ceil_mode))
    sizes = [max(0, (size - k) // s + 1) for size, k, s in zip(padded[2:], kernel, stride, strict=True)]
    return math.prod(padded), math.prod(x.shape[:2]) * math.prod(sizes) * math.prod(kernel)


def _pad(x: Tensor, pad: Tensor, **_: Any) -> tuple[int, int]:
    flat = _mil_ops.ints(pad, 0, 0)
    values = math.prod(_padded(x, list(zip(flat[::2], flat[1::2], strict=True))))
    return values, values


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None,
            **_: Any) -> tuple[int, int]:  # fmt: skip
    one, other = [1, *x.shape][-2:], [*y.shape, 1][-2:] if y.ndim < 2 else list(y.shape[-2:])
    one = one[::-1] if transpose_x is not None and bool(transpose_x) else one
    other = other[::-1] if transpose_y is not None and bool(transpose_y) else other
    values = _joined([x.shape[:-2], y.shape[:-2]]) * one[0] * other[1]
    return values, values * one[1]


def _linear(x: Tensor, weight: Tensor, **_: Any) -> tuple[int, int]:
    values = math.prod(x.shape[:-1]) * weight.shape[0]
    return values, values * weight.shape[-1]


def _upsample(x: Tensor, scale_factor_height: Tensor | None = None, scale_factor_width: Tensor | None = None,
              **_: Any) -> tuple[int, int]:  # fmt: skip
    height, width = (1.0 if f is None else float(f) for f in (scale_factor_height, scale_factor_width))
    values = x.numel() * math.ceil(height) * math.ceil(width)
    return values, values


def _per_axis(data: Tensor, *parameters: Tensor | None, axis: Tensor | None) -> tuple[int, int]:
    shapes = [list(data.shape)]
    for value in parameters:
        if value is not None and (value.ndim == 0 or axis is None):
            shapes.append(list(value.shape))
        elif value is not None:
            shape = [1] * data.ndim
            shape[int(axis)] = value.numel()  # type: ignore[arg-type]  # a tensor of one value
            shapes.append(shape)
    values = _joined(shapes)
    return values, values


def _quantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None,
              **_: Any) -> tuple[int, int]:  # fmt: skip
    return _per_axis(input, scale, zero_point, axis=axis)


def _affine(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> tuple[int, int]:
    return _per_axis(quantized_data, scale, zero_point, axis=axis)


def _select(cond: Tensor, a: Tensor, b: Tensor) -> tuple[int, int]:
    values = _joined([cond.shape, a.shape, b.shape])
    return values, values


def _gather(x: Tensor, indices: Tensor, axis: Tensor | None = None, **_: Any) -> tuple[int, int]:
    values = indices.numel() * (x.numel() // max(x.shape[0 if axis is None else int(axis)], 1))
    return values, values


def _palette(indices: Tensor, shape: Tensor | None = None, **_: Any) -> tuple[int, int]:
    values = indices.numel() if shape is None else math.prod(_mil_ops.ints(shape, 0, 0))
    return values, values


_SPECIAL: Mapping[str, Callable[..., tuple[int, int]]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _pool,
    "avg_pool": _pool,
    "pad": _pad,
    "matmul": _matmul,
    "linear": _linear,
    "upsample_nearest_neighbor": _upsample,
    "upsample_bilinear": _upsample,
    "select": _select,
    "gather": _gather,
    "quantize": _quantize,
    "dequantize": _quantize,
    "constexpr_affine_dequantize": _affine,
    "constexpr_lut_to_dense": _palette,
}
