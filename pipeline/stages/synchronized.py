"""A network that sees its own images of a batch, and computes as if it saw all of them.

Two things in a network look at a batch as a whole: BatchNorm at its statistics (Ioffe and Szegedy, "Batch Normalization", 2015), and Dropout, and
what else draws a number for each image, at the generator. Both are caught where any module calls them, `torch.nn.functional.batch_norm`,
`dropout` and `bernoulli_`, so that a user's own network need not be rewritten. `torch.nn.SyncBatchNorm` is for GPUs alone, and for
`torch.nn.BatchNorm2d` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from .distributed import World


class AsOne(TorchFunctionMode):
    """While it is entered, what goes through a network counts as a part of a batch.

    Args:
        count: images of the batch.
        own: which of them this process has.
    """

    def __init__(self, world: World, count: int, own: slice) -> None:
        super().__init__()
        self._world, self._count, self._own = world, count, own
        self._here = own.stop - own.start

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func is nn.functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is torch.Tensor.bernoulli_ and self._is_for_images(args[0]):
            return args[0].copy_(self._drawn(args[0]).bernoulli_(*args[1:], **kwargs)[self._own])
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        given: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return nn.functional.batch_norm(given, running_mean, running_var, weight, bias, training, momentum, eps)
        found, mean, variance, count = _Normalized.apply(given, weight, bias, eps, self._world)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            if running_var is not None:
                unbiased = variance * (count / (count - 1).clamp(min=1))
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        return found  # type: ignore[no-any-return]

    def _dropout(
        self, given: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or not 0 < p < 1 or not self._is_for_images(given):
            return nn.functional.dropout(given, p, training, inplace)
        noise = self._drawn(given).bernoulli_(1 - p).div_(1 - p)[self._own]
        return given.mul_(noise) if inplace else given * noise

    def _is_for_images(self, tensor: torch.Tensor) -> bool:
        return tensor.ndim > 0 and tensor.shape[0] == self._here

    def _drawn(self, like: torch.Tensor) -> torch.Tensor:
        """Room for the numbers of the whole batch."""
        return like.new_empty((self._count, *like.shape[1:]))


class _Normalized(torch.autograd.Function):
    """BatchNorm with the statistics of all processes: output, mean, variance (biased) and number of values of a channel."""

    @staticmethod
    def forward(
        ctx: Any,
        given: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
        world: World,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        axes = [0, *range(2, given.ndim)]
        wide = given.float() if given.dtype.itemsize < 4 else given
        here = wide.numel() // wide.shape[1]
        variance, mean = (one.double() for one in torch.var_mean(wide, axes, correction=0))
        # of each process mean, variance around it, and count: sums of bare squares would lose digits
        told = world.all_of(torch.cat([mean, variance, mean.new_tensor([here])]))
        means, variances, counts = torch.split(told, [len(mean), len(mean), 1], 1)
        count = counts.sum()
        common = (means * counts).sum(0) / count
        spread = ((variances + (means - common).square()) * counts).sum(0) / count
        mean, variance = common.to(wide.dtype), spread.to(wide.dtype)
        inverse = (spread + eps).rsqrt().to(wide.dtype)
        found = torch.batch_norm(given, weight, bias, mean, variance, False, 0.0, eps, False)
        ctx.save_for_backward(given, weight, mean, inverse, count)
        ctx.eps, ctx.world, ctx.here = eps, world, here
        ctx.mark_non_differentiable(mean, variance, count)
        return found, mean, variance, count

    @staticmethod
    @once_differentiable  # type: ignore[misc, untyped-decorator]
    def backward(
        ctx: Any, gradient: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, None, None]:
        given, weight, mean, inverse, count = ctx.saved_tensors
        weighted = torch.ones_like(mean) if weight is None else weight
        # as if the own images were all, then what the others' sums change: an affine function of each channel
        of_given, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, given, weighted, None, None, mean, inverse, True, ctx.eps, [True, True, True]
        )
        own = torch.stack([of_bias, of_weight]).double()
        missing = own / ctx.here - ctx.world.add_up(own) / count
        shape = [1, -1, *[1] * (given.ndim - 2)]
        slope = (missing[1] * inverse * inverse * weighted).to(mean.dtype)
        offset = (missing[0] * inverse * weighted).to(mean.dtype) - slope * mean
        of_given = of_given + (given * slope.view(shape) + offset.view(shape)).to(of_given.dtype)
        _, has_weight, has_bias, *_ = ctx.needs_input_grad
        return of_given, of_weight if has_weight else None, of_bias if has_bias else None, None, None
