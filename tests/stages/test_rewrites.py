"""Each rewrite of the canonical graph alone: over random graphs that contain its pattern, and over such that nearly do."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.stages.canonical import (
    REWRITES,
    activations,
    attention,
    batch_norm,
    biases,
    constants,
    functional,
    means,
    no_ops,
    norms,
    parts,
    pools,
    scales,
    spelling,
    spread,
    tokens,
    views,
)
from twinkeel.pipeline.stages.canonical.network import Network, aten

GRAPHS = int(os.environ.get("TWINKEEL_GRAPHS", "12"))
"""Of each kind; 50 take half a minute."""
LEAST_DB = 110.0
SIDE = 8


class Made(nn.Module):
    """A function of a map, between two layers that read and give one."""

    def __init__(self, draw: np.random.Generator, inside: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.wide = int(draw.choice([4, 6, 8]))
        self.first = nn.Conv2d(3, self.wide, int(draw.choice([1, 3])), bias=bool(draw.random() < 0.5))
        self.last = nn.Conv2d(self.wide, 5, 1)
        self.norm = nn.BatchNorm2d(self.wide)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        self.each = nn.Parameter(torch.rand(1, self.wide, 1, 1) + 0.5)
        self.even = nn.Parameter(torch.randn(4, self.wide, 3, 4))
        self.odd = nn.Parameter(torch.randn(4, self.wide, 5, 3))
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(self, self.first(x))


def one_of(draw, *choices):
    """A choice; one that has to be computed first is a function, so that the others leave nothing in the graph."""
    chosen = choices[int(draw.integers(len(choices)))]
    return chosen() if callable(chosen) else chosen


def normed(net, x):
    """Of a vector or of rows, as BatchNorm1d takes them."""
    return F.batch_norm(x, net.norm.running_mean, net.norm.running_var, net.norm.weight, net.norm.bias)


def number(draw):
    return float(draw.uniform(0.2, 3))


def split(net, x, draw):
    half = net.wide // 2
    a, b = one_of(
        draw,
        lambda: x.chunk(2, 1),
        lambda: x.split(half, 1),
        lambda: torch.tensor_split(x, 2, 1),
        lambda: x.split([half, half], -3),
    )
    return net.last(torch.cat([b, a * a], 1))


def unbound(net, x, draw):
    dim = one_of(draw, 2, 3, -1)
    return net.last(torch.stack(x.unbind(dim), dim))


def multiplied_before(net, x, draw):
    c = one_of(draw, lambda: number(draw), lambda: net.each)
    return net.last(torch.relu(one_of(draw, lambda: x * c, lambda: c * x, lambda: x / c, lambda: x + c, lambda: x - c)))


def multiplied_behind(net, x, draw):
    x = torch.sigmoid(x) * number(draw)
    return net.last(one_of(draw, lambda: x, lambda: x.mean((2, 3), keepdim=True), lambda: F.pad(x, (1, 2, 0, 1))))


def spread_over(x, pixel, draw):
    """A map of one pixel over those of x."""
    size = x.shape[2:]
    return one_of(
        draw,
        lambda: pixel.expand(-1, -1, *size),
        lambda: F.interpolate(pixel, size=size, mode="bilinear", align_corners=one_of(draw, True, False)),
        lambda: F.interpolate(pixel, size=size),
    )


def pooled_beside(net, x, draw):
    half = net.wide // 2
    a, b = x[:, :half], spread_over(x, x[:, half:].mean((2, 3), keepdim=True), draw)
    parts = one_of(draw, lambda: [a, b], lambda: [b, a], lambda: [a[:, :1], b, a[:, 1:]])
    y = net.last(torch.cat(parts, 1))
    return one_of(draw, lambda: torch.relu(y), lambda: y * y)


# what is in the graph, the rewrite that it is for, and the operations that are not there any more
CONTAINING = {
    functional: [
        (lambda net, x, draw: net.last(F.relu(x, inplace=True).add_(number(draw))), (aten.relu_.default, aten.add_.Tensor)),
        (lambda net, x, draw: net.last(x.sigmoid_().mul_(number(draw))), (aten.sigmoid_.default, aten.mul_.Tensor)),
    ],
    constants: [
        (
            lambda net, x, draw: F.conv2d(x, net.last.weight * number(draw), net.last.bias),
            (aten.mul.Tensor,),
        ),
        (lambda net, x, draw: x * (net.each.exp() + net.norm.bias.view(1, -1, 1, 1)), (aten.exp.default, aten.add.Tensor)),
    ],
    no_ops: [
        (
            lambda net, x, draw: net.last(F.dropout(x, 0.3, training=False)[:, :, : x.shape[2]] + 0),
            (aten.dropout.default, aten.slice.Tensor, aten.add.Tensor),
        ),
        (
            lambda net, x, draw: net.last(one_of(draw, x.contiguous, x.clone, x.float) * 1).view(1, 5, x.shape[2], -1),
            (aten.contiguous.default, aten.clone.default, aten.to.dtype, aten.mul.Tensor, aten.view.default),
        ),
    ],
    parts: [(split, (aten.chunk.default, aten.split.Tensor, aten.tensor_split.sections, aten.split_with_sizes.default)), (unbound, (aten.unbind.int,))],
    spelling: [
        (
            lambda net, x, draw: net.last(one_of(draw, lambda: F.relu6(x), lambda: x.clamp(0, 6), lambda: x.clamp(0, number(draw)))),
            (aten.relu6.default, aten.clamp.default),
        ),
        (lambda net, x, draw: net.last(one_of(draw, lambda: x.clamp(min=0), lambda: x.clamp_min(0))), (aten.clamp.default, aten.clamp_min.default)),
        (
            lambda net, x, draw: F.conv2d(x, one_of(draw, net.even, net.odd), padding="same"),
            (aten.conv2d.padding,),
        ),
    ],
    activations: [
        (lambda net, x, draw: net.last(F.hardswish(x * number(draw))), (aten.hardswish.default,)),
        (lambda net, x, draw: net.last(F.silu(x) + F.hardsigmoid(x)), (aten.silu.default, aten.hardsigmoid.default)),
    ],
    batch_norm: [
        (lambda net, x, draw: net.last(net.norm(x)), (aten.batch_norm.default,)),
        (lambda net, x, draw: net.last(net.norm(torch.relu(x)) + one_of(draw, x, 0)), (aten.batch_norm.default,)),
        (lambda net, x, draw: net.last(net.norm(x) + x), (aten.batch_norm.default,)),
        (lambda net, x, draw: normed(net, one_of(draw, lambda: x.flatten(2), lambda: x.mean((2, 3)), lambda: x.mean((2, 3), keepdim=True).flatten(1))), (aten.batch_norm.default,)),
    ],
    scales: [
        (multiplied_before, (aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.sub.Tensor)),
        (multiplied_behind, (aten.mul.Tensor,)),
        (lambda net, x, draw: net.last(x * (torch.relu(x) * number(draw))), ()),
        (lambda net, x, draw: net.last(x * (x.mean() * number(draw))), ()),
    ],
    attention: [
        (
            lambda net, x, draw: F.scaled_dot_product_attention(
                x, x.sigmoid(), x + 1, scale=one_of(draw, None, lambda: number(draw))
            ),
            (aten.scaled_dot_product_attention.default,),
        )
    ],
    pools: [
        (
            lambda net, x, draw: F.avg_pool2d(
                x, one_of(draw, 2, 3, (2, 3)), one_of(draw, None, 2, (1, 2)), one_of(draw, 0, 1)
            ),
            (aten.avg_pool2d.default,),
        ),
        (
            lambda net, x, draw: F.adaptive_avg_pool2d(x[:, :, :6, :6], one_of(draw, 2, (3, 2), (1, 3))),
            (aten.adaptive_avg_pool2d.default,),
        ),
    ],
    norms: [
        (
            lambda net, x, draw: F.normalize(x.flatten(1), dim=one_of(draw, 1, -1)),
            (aten.linalg_vector_norm.default,),
        ),
        (
            lambda net, x, draw: x.mean((2, 3)) * torch.linalg.vector_norm(x.mean((2, 3)), dim=1, keepdim=True),
            (aten.linalg_vector_norm.default,),
        ),
    ],
    tokens: [
        (lambda net, x, draw: net.last(torch.cat([x[:, 1:], net.each[:, :1].expand(1, 1, *x.shape[2:])], 1)), (aten.cat.default,)),
        (lambda net, x, draw: torch.cat([net.norm.bias.view(1, -1, 1), x.flatten(2), net.each.flatten(2)], 2), (aten.cat.default,)),
        (lambda net, x, draw: torch.cat([net.each.flatten(2), x.flatten(2), net.each.flatten(2), x.flatten(2).sigmoid(), net.each.flatten(2)], 2), ()),
    ],
    spread: [(pooled_beside, (aten.expand.default, aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec))],
    biases: [(lambda net, x, draw: F.conv2d(x, net.last.weight) + F.conv2d(x, net.last.weight, None, 1), ())],
    means: [
        (lambda net, x, draw: x.mean(one_of(draw, (2, 3), (-1, -2), [3, 2])), ()),
        (lambda net, x, draw: F.adaptive_avg_pool2d(x, one_of(draw, 1, (1, 1))), (aten.adaptive_avg_pool2d.default,)),
        (lambda net, x, draw: F.avg_pool2d(x, x.shape[2]), (aten.avg_pool2d.default,)),
        (lambda net, x, draw: x.mean(one_of(draw, 1, -1, (1, 2), (1, -1), (1, 2, 3)), keepdim=one_of(draw, True, False)), ()),
        (lambda net, x, draw: x.flatten(2).mean(one_of(draw, 1, 2)), ()),
    ],
    views: [
        (lambda net, x, draw: one_of(draw, lambda: x.view(1, -1), lambda: x.reshape(x.size(0), -1)), (aten.view.default, aten.reshape.default)),
        (lambda net, x, draw: net.last(x.view(1, 2, net.wide // 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)), ()),
    ],
}  # fmt: skip

NEARLY = {
    functional: lambda net, x, draw: net.last(F.relu(x).add(number(draw))),
    constants: lambda net, x, draw: net.last(x * x.mean(1, keepdim=True)),
    no_ops: lambda net, x, draw: net.last(one_of(draw, lambda: x[:, :, 1:], lambda: x + 1, lambda: x * -1, lambda: x.transpose(2, 3))),
    parts: lambda net, x, draw: net.last(torch.cat([x[:, 2:], x[:, :2]], 1)),
    spelling: lambda net, x, draw: net.last(one_of(draw, lambda: x.clamp(max=6), lambda: x.clamp(min=1), lambda: F.leaky_relu(x))),
    activations: lambda net, x, draw: net.last(x * F.hardtanh(x + 2, 0, 6)),
    batch_norm: lambda net, x, draw: net.last(one_of(draw, lambda: F.instance_norm(x), lambda: F.group_norm(x, 2), lambda: F.layer_norm(x, x.shape[1:]))),
    scales: lambda net, x, draw: one_of(
        draw,
        lambda: x * x,
        lambda: x + x.sigmoid(),
        lambda: net.last(x * x.mean((2, 3), keepdim=True)),
    ),
    biases: lambda net, x, draw: net.last(x),
    means: lambda net, x, draw: one_of(draw, lambda: x.amax((2, 3)), lambda: x.sum((2, 3)), lambda: x.mean((2, 3), keepdim=True), lambda: x.mean(0, keepdim=True), lambda: F.avg_pool2d(x, 2), lambda: F.adaptive_avg_pool2d(x, 2)),
    attention: lambda net, x, draw: F.scaled_dot_product_attention(x, x, x, one_of(draw, lambda: x[0, 0] @ x[0, 0].mT)),
    pools: lambda net, x, draw: one_of(
        draw,
        lambda: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda: F.avg_pool2d(x, 3, 2, ceil_mode=True),
        lambda: F.adaptive_avg_pool2d(x, 5),
        lambda: F.max_pool2d(x, 2),
    ),
    norms: lambda net, x, draw: one_of(
        draw, lambda: F.normalize(x, dim=1), lambda: F.normalize(x.flatten(1), p=1, dim=1), lambda: x.flatten(1).norm(dim=0)
    ),
    tokens: lambda net, x, draw: torch.cat([x, x.sigmoid()], 1),
    spread: lambda net, x, draw: one_of(
        draw,
        lambda: net.last(x.mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])),
        lambda: F.conv2d(torch.cat([x[:, 1:], x[:, :1].mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])], 1), net.last.weight, None, 2),
        lambda: net.last(torch.cat([x[:, 1:], x[:, :1, :1].expand(-1, -1, *x.shape[2:])], 1)),
        lambda: net.last(torch.cat([x[:, :, 1:], x[:, :, :1, :1].expand(-1, -1, 1, x.shape[3])], 2)),
        lambda: torch.cat([x, x.mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])], 1),
    ),
    views: lambda net, x, draw: x.permute(0, 2, 3, 1),
}  # fmt: skip


def network(inside, draw):
    torch.manual_seed(int(draw.integers(2**31)))
    state = draw.bit_generator.state
    model = Made(draw, lambda net, x: inside(net, x, draw)).eval().requires_grad_(False)
    example = torch.randn(1, 3, SIDE, SIDE)
    middle = draw.bit_generator.state

    def again() -> torch.Tensor:
        torch.manual_seed(0)
        draw.bit_generator.state = middle
        return model(example)

    torch.manual_seed(0)
    made = Network(model, [example])
    expected = again()
    del state
    return made, example, expected


def said(made, example):
    return made.built()(example)


def calls(made):
    return [(node.target, node.args[1:]) for node in made.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("rewrite", CONTAINING, ids=lambda m: m.__name__.rpartition(".")[2])
def test_what_contains_the_pattern_keeps_its_function_and_loses_the_pattern(rewrite):
    worst = np.inf
    for seed in range(GRAPHS):
        draw = np.random.default_rng(seed)
        inside, gone = CONTAINING[rewrite][seed % len(CONTAINING[rewrite])]
        made, example, expected = network(inside, draw)
        before = calls(made)
        for other in REWRITES[: REWRITES.index(rewrite)]:
            if other in (functional, constants):  # what a rewrite may rely on
                other.rewrite(made)
        rewrite.rewrite(made)
        assert not made.calls(*gone), f"graph {seed}: {made.graph}"
        assert calls(made) != before or rewrite is biases, f"graph {seed} has nothing of it: {made.graph}"
        biases.rewrite(made)
        worst = min(worst, metrics.snr_db(expected.numpy(), said(made, example).numpy()))
        assert worst >= LEAST_DB, f"graph {seed}: {worst:.1f} dB: {made.graph}"


SUMS = (aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar, aten.rsub.Tensor)
FACTORS = {
    "add": lambda x, c: torch.add(x, x.sigmoid(), alpha=c),
    "add a number": lambda x, c: torch.add(x, 1.5, alpha=c),
    "sub": lambda x, c: torch.sub(x, x.sigmoid(), alpha=c),
    "rsub": lambda x, c: torch.rsub(x, x.sigmoid(), alpha=c),
    "rsub a number": lambda x, c: torch.rsub(x, 1.5, alpha=c),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_term_of_a_sum_has_no_factor_of_its_own(name):
    """Two converters leave it out."""
    made, example, expected = network(
        lambda net, x, draw: net.last(FACTORS[name](x, number(draw))), np.random.default_rng(7)
    )
    assert any(len(node.args) > 2 or "alpha" in node.kwargs for node in made.calls(*SUMS))
    spelling.rewrite(made)
    assert all(len(node.args) == 2 and not node.kwargs for node in made.calls(*SUMS))
    biases.rewrite(made)
    assert metrics.snr_db(expected.numpy(), said(made, example).numpy()) >= LEAST_DB


@pytest.mark.parametrize("rewrite", NEARLY, ids=lambda m: m.__name__.rpartition(".")[2])
def test_what_nearly_contains_it_is_not_touched(rewrite):
    for seed in range(GRAPHS):
        made, _, _ = network(NEARLY[rewrite], np.random.default_rng(1000 + seed))
        if rewrite is biases:  # the first layer may have none
            biases.rewrite(made)
        before = str(made.graph)
        rewrite.rewrite(made)
        assert str(made.graph) == before, f"graph {seed}"


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_a_constant_that_no_layer_takes_stays_with_as_many_dimensions_as_the_map(seed):
    draw = np.random.default_rng(seed)

    def inside(net, x, draw):
        c = number(draw)
        return one_of(
            draw,
            lambda: net.last(torch.relu(x)).sigmoid() * c,  # the network's output reads it
            lambda: x.sigmoid() / torch.arange(1.0, x.shape[-1] + 1),  # another one for each pixel
            lambda: net.last(torch.sigmoid(x) * c + x),  # an addition reads it
            lambda: net.last(torch.sigmoid(x) - c),
        )

    made, example, expected = network(inside, draw)
    for other in REWRITES[: REWRITES.index(scales)]:
        other.rewrite(made)
    scales.rewrite(made)
    biases.rewrite(made)
    for node in made.calls(aten.mul.Tensor, aten.add.Tensor, aten.div.Tensor, aten.sub.Tensor):
        assert node.target not in (aten.div.Tensor, aten.sub.Tensor)
        assert {source.meta["val"].ndim for source in node.args} == {4}
    assert metrics.snr_db(expected.numpy(), said(made, example).numpy()) >= LEAST_DB
