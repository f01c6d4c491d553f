"""What each operation of an ML Program computes, with torch.

Source: the reference of MIL operations that Apple publishes with coremltools (the pages "MIL Ops", one class per
operation, opsets iOS15 to iOS18). The parameters of each function here are the inputs of the operation of the same
name, its defaults are the documented ones, and a tensor stands for every numeric value, scalars included.

Float values arrive in the type that the executor computes in; rounding to the declared type is its work, not theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CONSTANT_OPS = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_cast", "constexpr_lut_to_dense")  # fmt: skip
"""Operations on stored values only: their result is part of the package, like a weight."""

OPS: dict[str, Callable[..., Any]] = {}
MAX_SIZES = 10_000

Operation = TypeVar("Operation", bound=Callable[..., Any])


def _op(function: Operation) -> Operation:
    OPS[function.__name__.rstrip("_")] = function
    return function


def ints(value: Tensor | None, default: int, count: int) -> list[int]:
    """Sizes, axes and the like; at most `MAX_SIZES`, for a list of all weights would take 20 times their room."""
    if value is None:
        return [default] * count
    if value.numel() > MAX_SIZES:
        raise ValueError(f"{value.numel():,} numbers where a few sizes or axes are expected")
    return [int(v) for v in value.reshape(-1).tolist()]


def window(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pad_type: str,
    pad: Tensor | None,
) -> list[tuple[int, int]]:
    """(before, after) of each spatial dimension."""
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        flat = ints(pad, 0, 2 * len(kernel))
        return list(zip(flat[::2], flat[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"unknown pad_type '{pad_type}'")
    pairs = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if pad_type == "same" else (more, less))
    return pairs


def _padded(x: Tensor, pairs: Sequence[tuple[int, int]], value: float) -> Tensor:
    flat = [side for pair in reversed(pairs) for side in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


@_op
def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, strides: Tensor | None = None, pad_type: str = "valid",
         pad: Tensor | None = None, dilations: Tensor | None = None, groups: Tensor | None = None) -> Tensor:  # fmt: skip
    rank = x.ndim - 2
    stride, dilation = ints(strides, 1, rank), ints(dilations, 1, rank)
    pairs = window(x, weight.shape[2:], stride, dilation, pad_type, pad)
    run = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    groups_ = 1 if groups is None else int(groups)
    result: Tensor = run(_padded(x, pairs, 0.0), weight, bias, stride, 0, dilation, groups_)  # type: ignore[operator]
    return result


@_op
def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None, pad: Tensor | None = None,
                   output_shape: Tensor | None = None, pad_type: str = "valid", strides: Tensor | None = None,
                   dilations: Tensor | None = None, groups: Tensor | None = None) -> Tensor:  # fmt: skip
    rank = x.ndim - 2
    stride, dilation = ints(strides, 1, rank), ints(dilations, 1, rank)
    pairs = transposed_window(rank, pad_type, pad)
    run = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    whole: Tensor = run(x, weight, None, stride, 0, 0, 1 if groups is None else int(groups), dilation)  # type: ignore[operator]
    asked = None if output_shape is None else ints(output_shape, 0, 0)[2:]
    for axis, (before, after) in enumerate(pairs):
        size = whole.shape[2 + axis] - before - after if asked is None else asked[axis]
        if not 1 <= size <= whole.shape[2 + axis] + stride[axis]:
            raise ValueError(f"an output of {size} along axis {2 + axis}")
        missing = max(0, before + size - whole.shape[2 + axis])
        whole = F.pad(whole, [0, 0] * (rank - 1 - axis) + [0, missing]) if missing else whole
        whole = whole.narrow(2 + axis, before, size)
    return whole if bias is None else whole + bias.view(-1, *[1] * rank)


def transposed_window(rank: int, pad_type: str, pad: Tensor | None) -> list[tuple[int, int]]:
    """What is cut off (before, after) of each spatial dimension."""
    if pad_type == "valid":
        return [(0, 0)] * rank
    if pad_type != "custom":
        raise ValueError(f"unknown pad_type '{pad_type}'")
    flat = ints(pad, 0, 2 * rank)
    return list(zip(flat[::2], flat[1::2], strict=True))


@_op
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight, bias)


@_op
def matmul(x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None) -> Tensor:
    x = x.mT if transpose_x is not None and bool(transpose_x) else x
    return x @ (y.mT if transpose_y is not None and bool(transpose_y) else y)


def pool_input(x: Tensor, kernel: Sequence[int], stride: Sequence[int], pad_type: str, pad: Tensor | None,
                ceil_mode: Tensor | None) -> list[tuple[int, int]]:  # fmt: skip
    """Padding on each side; in ceil mode widened at the end so that the last, partial window is whole."""
    pairs = window(x, kernel, stride, [1] * len(kernel), pad_type, pad)
    if ceil_mode is None or not bool(ceil_mode):
        return pairs
    widened = []
    for size, k, s, (before, after) in zip(x.shape[2:], kernel, stride, pairs, strict=True):
        count = math.ceil((size + before + after - k) / s) + 1
        if (count - 1) * s >= size + before:  # a window must not begin in the padding after the input
            count -= 1
        widened.append((before, max((count - 1) * s + k - size - before, after)))
    return widened


@_op
def max_pool(x: Tensor, kernel_sizes: Tensor, strides: Tensor | None = None, pad_type: str = "valid",
             pad: Tensor | None = None, ceil_mode: Tensor | None = None) -> Tensor:  # fmt: skip
    rank = x.ndim - 2
    kernel, stride = ints(kernel_sizes, 1, rank), ints(strides, 1, rank)
    pairs = pool_input(x, kernel, stride, pad_type, pad, ceil_mode)
    run = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[rank]
    result: Tensor = run(_padded(x, pairs, -math.inf), kernel, stride)
    return result


@_op
def avg_pool(x: Tensor, kernel_sizes: Tensor, strides: Tensor | None = None, pad_type: str = "valid",
             pad: Tensor | None = None, exclude_padding_from_average: Tensor | None = None,
             ceil_mode: Tensor | None = None) -> Tensor:  # fmt: skip
    rank = x.ndim - 2
    kernel, stride = ints(kernel_sizes, 1, rank), ints(strides, 1, rank)
    asked = window(x, kernel, stride, [1] * rank, pad_type, pad)
    pairs = pool_input(x, kernel, stride, pad_type, pad, ceil_mode)
    run = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[rank]
    mean: Tensor = run(_padded(x, pairs, 0.0), kernel, stride)  # type: ignore[operator]
    excluded = exclude_padding_from_average is not None and bool(exclude_padding_from_average)
    # what counts: the input, and the padding that was asked for unless it is excluded; never what ceil mode added
    counted = torch.ones_like(x[:1, :1])
    counted = _padded(counted, asked, 0.0 if excluded else 1.0)
    extra = [(0, after - wanted) for (_, after), (_, wanted) in zip(pairs, asked, strict=True)]
    share: Tensor = run(_padded(counted, extra, 0.0), kernel, stride)  # type: ignore[operator]
    return mean / share


@_op
def pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | None = None) -> Tensor:
    flat = ints(pad, 0, 0)
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if mode == "constant":
        return _padded(x, pairs, 0.0 if constant_val is None else float(constant_val))
    if mode not in ("reflect", "replicate"):
        raise ValueError(f"unknown mode '{mode}'")
    # torch wants the last dimension of two or three, the last two of three or four, and so on
    while len(pairs) > max(1, x.ndim - 2) and pairs[0] == (0, 0):
        pairs.pop(0)
    return F.pad(x, [side for pair in reversed(pairs) for side in pair], mode=mode)


@_op
def batch_norm(x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None,
               epsilon: Tensor | None = None) -> Tensor:  # fmt: skip
    return F.batch_norm(x, mean, variance, gamma, beta, eps=1e-5 if epsilon is None else float(epsilon))


@_op
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None,
                  epsilon: Tensor | None = None) -> Tensor:  # fmt: skip
    return F.instance_norm(x, weight=gamma, bias=beta, eps=1e-5 if epsilon is None else float(epsilon))


@_op
def layer_norm(x: Tensor, axes: Tensor | None = None, gamma: Tensor | None = None, beta: Tensor | None = None,
               epsilon: Tensor | None = None) -> Tensor:  # fmt: skip
    dims = sorted(a % x.ndim for a in (range(x.ndim) if axes is None else ints(axes, 0, 0)))
    if dims != list(range(x.ndim - len(dims), x.ndim)):
        raise ValueError(f"axes {dims} are not the last ones")
    return F.layer_norm(x, x.shape[-len(dims) :], gamma, beta, 1e-5 if epsilon is None else float(epsilon))


def _elementwise(**functions: Callable[..., Tensor]) -> None:
    for name, function in functions.items():
        OPS[name] = function


_elementwise(
    add=lambda x, y: x + y,
    sub=lambda x, y: x - y,
    mul=lambda x, y: x * y,
    real_div=lambda x, y: x / y,
    floor_div=lambda x, y: torch.floor_divide(x, y),
    pow=lambda x, y: torch.pow(x, y),
    maximum=lambda x, y: torch.maximum(x, y),
    minimum=lambda x, y: torch.minimum(x, y),
    identity=lambda x: x,
    abs=lambda x: x.abs(),
    ceil=lambda x: x.ceil(),
    erf=lambda x: torch.erf(x),
    exp=lambda x: x.exp(),
    floor=lambda x: x.floor(),
    relu=lambda x: F.relu(x),
    relu6=lambda x: F.relu6(x),
    sigmoid=lambda x: x.sigmoid(),
    silu=lambda x: F.silu(x),
    softplus=lambda x: F.softplus(x),
    softsign=lambda x: F.softsign(x),
    sqrt=lambda x: x.sqrt(),
    square=lambda x: x.square(),
    tanh=lambda x: x.tanh(),
    rsqrt=lambda x, epsilon=1e-12: (x + epsilon).rsqrt(),
    log=lambda x, epsilon=1e-45: (x + epsilon).log(),
    clip=lambda x, alpha, beta: x.clamp(alpha, beta),
    elu=lambda x, alpha=1.0: F.elu(x, float(alpha)),
    leaky_relu=lambda x, alpha=0.01: F.leaky_relu(x, float(alpha)),
    prelu=lambda x, alpha: F.prelu(x, alpha),
    thresholded_relu=lambda x, alpha=1.0: torch.where(x >= alpha, x, torch.zeros_like(x)),
    clamped_relu=lambda x, alpha, beta: torch.where(x < 0, x * alpha, x).clamp(max=beta),
    scaled_tanh=lambda x, alpha=1.0, beta=1.0: alpha * torch.tanh(x * beta),
    sigmoid_hard=lambda x, alpha=0.2, beta=0.5: (x * alpha + beta).clamp(0, 1),
    linear_activation=lambda x, alpha, beta=0.0: x * alpha + beta,
    softmax=lambda x, axis=-1: x.softmax(int(axis)),
    sign=lambda x: x.sign(),
    threshold=lambda x, alpha=1.0: x.clamp(min=alpha),
    equal=lambda x, y: x == y,
    not_equal=lambda x, y: x != y,
    greater=lambda x, y: x > y,
    greater_equal=lambda x, y: x >= y,
    less=lambda x, y: x < y,
    less_equal=lambda x, y: x <= y,
    logical_and=lambda x, y: x & y,
    logical_or=lambda x, y: x | y,
    logical_not=lambda x: ~x,
    select=lambda cond, a, b: torch.where(cond, a, b),
)


@_op
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha * log(1 + exp(beta * x)), a number of each for every channel."""
    sizes = [-1, *[1] * (x.ndim - 2)]
    return alpha.view(sizes) * F.softplus(beta.view(sizes) * x)


@_op
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


def _reduction(run: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | None = None) -> Tensor:
        return run(x, list(range(x.ndim)) if axes is None else ints(axes, 0, 0), bool(keep_dims))

    return reduce


_elementwise(
    reduce_mean=_reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    reduce_sum=_reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    reduce_max=_reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    reduce_min=_reduction(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    reduce_l1_norm=_reduction(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    reduce_l2_norm=_reduction(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt()),
    reduce_sum_square=_reduction(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
    reduce_log_sum_exp=_reduction(lambda x, axes, keep: x.logsumexp(axes, keepdim=keep)),
)


def _chosen(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def choose(
        x: Tensor, axis: Tensor | None = None, keep_dims: Tensor | None = None, output_dtype: str = "int32"
    ) -> Tensor:
        return cast(run(x, -1 if axis is None else int(axis), keepdim=bool(keep_dims)), output_dtype)

    return choose


_elementwise(reduce_argmax=_chosen(torch.argmax), reduce_argmin=_chosen(torch.argmin))


@_op
def cumsum(x: Tensor, axis: Tensor | None = None, exclusive: Tensor | None = None, reverse: Tensor | None = None) -> Tensor:  # fmt: skip
    along = 0 if axis is None else int(axis)
    turned = x.flip(along) if reverse is not None and bool(reverse) else x
    total = turned.cumsum(along)
    total = total - turned if exclusive is not None and bool(exclusive) else total
    return total.flip(along) if turned is not x else total


@_op
def reshape(x: Tensor, shape: Tensor) -> Tensor:
    sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(ints(shape, 0, 0))]
    return x.reshape(sizes)


@_op
def transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(ints(perm, 0, 0))


@_op
def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(a % rank for a in ints(axes, 0, 0)):
        x = x.unsqueeze(axis)
    return x


@_op
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(ints(axes, 0, 0))


@_op
def concat(values: list[Tensor], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    along = int(axis) % values[0].ndim
    if interleave is None or not bool(interleave):
        return torch.cat(values, along)
    # a0 b0 a1 b1 ...: coremltools makes it of a channel shuffle
    return torch.stack(values, along + 1).flatten(along, along + 1)


@_op
def stack(values: list[Tensor], axis: Tensor) -> Tensor:
    return torch.stack(values, int(axis))


@_op
def split(x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None) -> list[Tensor]:
    if split_sizes is not None:
        return list(torch.split(x, ints(split_sizes, 0, 0), int(axis)))
    count = 1 if num_splits is None else int(num_splits)
    if not 1 <= count <= MAX_SIZES:
        raise ValueError(f"{count} parts")
    return list(torch.split(x, x.shape[int(axis)] // count, int(axis)))


@_op
def slice_by_index(x: Tensor, begin: Tensor, end: Tensor, stride: Tensor | None = None, begin_mask: Tensor | None = None,
                   end_mask: Tensor | None = None, squeeze_mask: Tensor | None = None) -> Tensor:  # fmt: skip
    first, last, step = ints(begin, 0, 0), ints(end, 0, 0), ints(stride, 1, x.ndim)
    open_first, open_last, single = (ints(m, 0, x.ndim) for m in (begin_mask, end_mask, squeeze_mask))
    if any(s < 1 for s in step):
        raise ValueError(f"stride {step}: only steps forward are known")
    index: list[slice | int] = [
        first[i]
        if single[i]
        else slice(None if open_first[i] else first[i], None if open_last[i] else last[i], step[i])
        for i in range(x.ndim)
    ]
    return x[tuple(index)]


@_op
def crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    """Without so many rows before and after, and so many columns."""
    for axis, cut in ((x.ndim - 2, crop_height), (x.ndim - 1, crop_width)):
        before, after = ints(cut, 0, 2)
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


@_op
def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(list(range(x.ndim)) if axes is None else ints(axes, 0, 0))


@_op
def gather(x: Tensor, indices: Tensor, axis: Tensor | None = None, batch_dims: Tensor | None = None,
           validate_indices: Tensor | None = None) -> Tensor:  # fmt: skip
    if batch_dims is not None and int(batch_dims):
        raise ValueError(f"{int(batch_dims)} batch dimensions: none are known")
    along = (0 if axis is None else int(axis)) % x.ndim
    found = x.index_select(along, indices.reshape(-1).long() % x.shape[along])
    return found.reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])


@_op
def pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    return F.pixel_shuffle(x, int(upscale_factor))


@_op
def pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, int(downscale_factor))


@_op
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    factors = (float(scale_factor_height), float(scale_factor_width))
    if any(f != int(f) for f in factors):
        raise ValueError(f"factors {factors}: only whole ones are known")
    return x.repeat_interleave(int(factors[0]), -2).repeat_interleave(int(factors[1]), -1)


@_op
def upsample_bilinear(x: Tensor, scale_factor_height: Tensor | None = None, scale_factor_width: Tensor | None = None,
                      align_corners: Tensor | None = None, half_pixel_centers: Tensor | None = None) -> Tensor:  # fmt: skip
    is_aligned = align_corners is None or bool(align_corners)
    are_halves = not is_aligned if half_pixel_centers is None else bool(half_pixel_centers)
    if is_aligned == are_halves:
        raise ValueError(f"align_corners {is_aligned} with half_pixel_centers {are_halves} is not known")
    factors = [1.0 if f is None else float(f) for f in (scale_factor_height, scale_factor_width)]
    if not all(0 < f <= MAX_SIZES for f in factors):
        raise ValueError(f"factors {factors}")
    return F.interpolate(x, scale_factor=factors, mode="bilinear", align_corners=is_aligned)


def _along(value: Tensor, x: Tensor, axis: Tensor | None) -> Tensor:
    """A vector shaped so that it broadcasts along `axis`."""
    if value.ndim == 0 or axis is None:
        return value
    shape = [1] * x.ndim
    shape[int(axis)] = -1
    return value.reshape(shape)


@_op
def quantize(input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None,
             axis: Tensor | None = None) -> Tensor:  # fmt: skip
    """clip(round(input / scale) + zero_point), halves to even."""
    return _quantized(torch.round(input / _along(scale, input, axis)), output_dtype, zero_point, axis)


def quantize_unrounded(input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None,
                       axis: Tensor | None = None) -> Tensor:  # fmt: skip
    """The same without the rounding, so that whatever changes its input changes its output."""
    return _quantized(input / _along(scale, input, axis), output_dtype, zero_point, axis)


def _quantized(steps: Tensor, output_dtype: str, zero_point: Tensor | None, axis: Tensor | None) -> Tensor:
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}[output_dtype]
    if zero_point is not None:
        steps = steps + _along(zero_point, steps, axis).to(steps.dtype)
    return steps.clamp(low, high)


@_op
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    """(input - zero_point) * scale"""
    steps = input.to(scale.dtype)
    if zero_point is not None:
        steps = steps - _along(zero_point, input, axis).to(scale.dtype)
    return steps * _along(scale, input, axis)


@_op
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    return dequantize(quantized_data, scale, zero_point, axis)


def _blocks(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat along each dimension up to `shape`; one entry serves a block."""
    if value.ndim != len(shape):
        raise ValueError(f"blocks of shape {tuple(value.shape)} for values of shape {tuple(shape)}")
    for axis, size in enumerate(shape):
        if size % value.shape[axis]:
            raise ValueError(f"{value.shape[axis]} blocks do not divide {size} along axis {axis}")
        if value.shape[axis] != size:
            value = value.repeat_interleave(size // value.shape[axis], axis)
    return value


@_op
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale * (data - offset), one scale and offset for each block."""
    steps = data.to(scale.dtype)
    if offset is not None:
        steps = steps - _blocks(offset, data.shape).to(scale.dtype)
    return steps * _blocks(scale, data.shape)


@_op
def constexpr_lut_to_dense(indices: Tensor, lut: Tensor, shape: Tensor | None = None,
                           vector_axis: Tensor | None = None) -> Tensor:  # fmt: skip
    """A palette for each block of indices. The iOS16 form has one palette and indices packed into bytes."""
    if shape is not None:
        bits = (lut.numel() - 1).bit_length()
        sizes = ints(shape, 0, 0)
        return lut.reshape(-1)[unpack_bits(indices, bits)[: math.prod(sizes)].long()].reshape(sizes)
    if lut.ndim != indices.ndim + 2 or lut.shape[-1] != 1:
        raise ValueError(f"palettes of shape {tuple(lut.shape)}: only scalar entries are known")
    place: list[Tensor] = []
    for axis, size in enumerate(indices.shape):
        count = lut.shape[axis]
        if size % count:
            raise ValueError(f"{count} palettes do not divide {size} along axis {axis}")
        # the palette of each index along this axis
        place.append(
            (torch.arange(size) // (size // count)).reshape([-1 if i == axis else 1 for i in range(indices.ndim)])
        )
    return lut.squeeze(-1)[(*place, indices.long())]


@_op
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    return cast(source_val, output_dtype)


@_op
def cast(x: Tensor, dtype: str) -> Tensor:
    """Rounding to fp16 and fp32 is left to the declared type; to integers the fraction is cut off."""
    integers = {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16, "int32": torch.int32}
    if dtype in integers:
        return x.trunc().to(integers[dtype]) if x.is_floating_point() else x.to(integers[dtype])
    if dtype == "bool":
        return x != 0
    if dtype not in ("fp16", "fp32"):
        raise ValueError(f"unknown dtype '{dtype}'")
    return x if x.is_floating_point() else x.to(torch.float32)


@_op
def classify(probabilities: Tensor, classes: list[Any]) -> list[Any]:
    """The class of the largest probability, and the probability of each class."""
    if probabilities.numel() != len(classes):
        raise ValueError(f"{probabilities.numel():,} probabilities for {len(classes):,} classes")
    values = [float(p) for p in probabilities.reshape(-1)]
    return [classes[values.index(max(values))], dict(zip(classes, values, strict=True))]


def unpack_bits(packed: Tensor, bits: int) -> Tensor:
    """Unsigned values of `bits` bits each, packed from the least significant bit of each byte on: uint8 (N,)."""
    if not 1 <= bits <= 8:
        raise ValueError(f"values of {bits} bits")
    each = np.unpackbits(packed.reshape(-1).numpy(), bitorder="little")
    whole = each[: each.size // bits * bits].reshape(-1, bits)
    return torch.from_numpy(np.packbits(whole, axis=1, bitorder="little").reshape(-1))
