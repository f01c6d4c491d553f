"""Weights alone in 8 or 4 bits, with activations in float: as few of the network's answers lost as the size allows.

- *Where bits are spent.* What a form of a layer's weights (4 bits in blocks or palettes, 8 bits, float16) does to the
  outputs is measured for each layer alone, to first order: with ``g`` the gradient of a random combination of the outputs
  (signs, drawn as in Hutchinson, "A Stochastic Estimator of the Trace of the Influence Matrix", 1990) at the layer's output
  and ``d`` the error there, the mean of ``(g . d)^2`` is the noise power that reaches the outputs. One pass back serves all
  layers and forms. The forms with the least noise within the size are then chosen by one price for a bit, which is
  optimal on the convex hull of each layer's choices (Everett, "Generalized Lagrange Multiplier Method", 1963; Shoham and
  Gersho, 1988).
- *Rounding that knows the inputs.* In the order of the data, each layer sees the inputs that the compressed layers before it
  give. Its weights are first moved so that its output comes near to the float layer's on the float inputs, then rounded
  column by column, each error made good by the columns that are not rounded yet (Frantar et al., "GPTQ", 2022), both with
  the inputs' covariance, for means are left to the bias.
- *Bias correction* (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019), in the
  same pass.

A few images show a covariance of many inputs badly, and what is fitted to it is lost on others. It is drawn to a multiple of
the identity, the more the fewer places there are for each input. How much is tried on half of the images and judged on the
other half, and rounding as it stands beside it, which wins where there are very few. Measured in 4 bits with some 60 images,
SNR on others, shares of 0.3 and 10: digits at 32 pixels 31.4 and 26.7 dB, photographs at 160 21.1 and 22.0.

Weights are equalized before where that promises less noise; with a scale for each channel that is rare.

All of this is a search, and takes as long as half a dozen passes over the images; without time for any, `rounded` takes the
weights as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import Interpreter, Node

from ..data import Images
from ..program import WEIGHTED, Compressed, PackedWeight, balanced, channel_axis, evaluate, inputs, module_path
from ..program import compress as packing
from ..saying import Say
from . import equalize

BUDGETS = {8: 8.0, 4: 4.65}
"""Bits for each weight, with scales and palettes; 4.65 and the biases in float16 are below 2.4 bytes for 4 weights of
MobileNetV2."""

ROOM = 1.025
"""Of the size that the smallest form of each layer takes together: what may be spent in any case. A network of narrow
layers has more scales than the budget foresees, and the sensitive ones of any network need some bits more."""

SHRINKAGES = (0.3, 10.0)
"""Of the covariance, for each input over the number of places that showed it: to choose from; and in any case:"""
LEAST_SHRINKAGE = 0.02

WORTH_DB = 1.0
"""What is gained on images that were not fitted to, for the weights to be other than as they stand: less is luck."""

_PROBES = 4
_PROBED_IMAGES = 32
_JUDGED_IMAGES = 32
_PROBED_ELEMENTS = 2**27
"""Of all layers' outputs and their gradients, of the images that are probed at once: 512 MB in float32."""
_ELEMENTS = 2**26
"""Of the largest tensor with all images, twice: 256 MB in float32, and some five of them at a time."""
_PLACES = 2**16
"""That a covariance is taken from, at most."""
_COLUMNS = 64
_BATCH = 32


@dataclass(frozen=True)
class Form:
    """How a layer's weights are stored: in `bits`, with a scale for each output channel, for each `block` of its inputs, or
    a palette for at least `palette` weights."""

    bits: int
    block: int = 0
    palette: int = 0

    def fits(self, weight: NDArray[np.float32]) -> bool:
        return not self.block or (self.block < weight.shape[1] and weight.shape[1] % self.block == 0)

    def pack(self, weight: NDArray[np.float32], importance: NDArray[np.float64]) -> PackedWeight | None:
        """Rounded as it stands; None for float16."""
        if self.bits == 16:
            return None
        if self.palette:
            return packing.with_palettes(weight, self.palette, importance)
        return packing.in_steps(weight, self.bits, self.block, importance)


FORMS = {
    8: (Form(8), Form(16)),
    4: (Form(4), *(Form(4, block=n) for n in (16, 32, 64, 128)), Form(4, palette=192), Form(4, palette=768), Form(8), Form(16)),
}  # fmt: skip
"""To choose from. What is called 8 bits runs on iOS 16, which knows no blocks."""


def rounded(folded: nn.Module, bits: int, say: Say) -> Compressed:
    """Weights in `bits` as they stand; no images are looked at, and nothing is searched for."""
    plain = packing.compress(folded, bits)
    say(f"compress: w{bits}, {plain.bits_per_weight:.2f} bits a weight, as they stand: minutes = 0")
    return plain


def compressed(folded: nn.Module, calibration: Images, bits: int, say: Say) -> Compressed:
    """Weights in `bits`, 8 or 4, those of sensitive layers in more.

    Args:
        folded: module on ``(N, H, W, 4)`` uint8 whose convolutions and linear layers have biases.
        calibration: ``(N, H, W, 4)`` uint8 RGBA images.
    """
    even = equalize.equalize(folded, calibration)
    bases = [_Graph(one, calibration) for one in ((folded, even.module) if even.gains_db else (folded,))]
    plans = [_plan(base, calibration, bits) for base in bases]
    (choice, _), base = min(zip(plans, bases, strict=True), key=lambda one: one[0][1])
    plain = packing.compress(folded, bits)
    some = _spread(calibration, 2 * _JUDGED_IMAGES)
    fitted, others = some[::2], some[1::2]
    expected = evaluate(folded, others, _BATCH) if len(others) else np.zeros((0, 1), np.float32)

    def noise(one: Compressed) -> float:
        found = float(np.square(evaluate(one.module, others, _BATCH) - expected, dtype=np.float64).sum())
        return found if np.isfinite(found) else np.inf

    def told(noise: float) -> str:
        signal = float(np.square(expected, dtype=np.float64).sum())
        return f"{10 * np.log10(signal / noise):.1f} dB" if signal and noise else "exact"

    if not len(others):
        say(f"compress: w{bits}, {plain.bits_per_weight:.2f} bits a weight, as they stand: one image can teach nothing")
        return plain
    tried = {share: noise(_rounded(base, fitted, choice, share)) for share in SHRINKAGES}
    best, as_it_stands = min(tried, key=lambda share: tried[share]), noise(plain)
    if tried[best] * 10 ** (WORTH_DB / 10) >= as_it_stands:
        say(
            f"compress: w{bits}, {plain.bits_per_weight:.2f} bits a weight, as they stand: {told(as_it_stands)} against float on "
            f"calibration images, {told(tried[best])} where rounding was fitted to others of them"
        )
        return plain
    found = _rounded(base, calibration, choice, best)
    wider = {n: sum(form.bits == n for form in choice.values()) for n in (8, 16) if n > bits}
    say(
        f"compress: w{bits}, {found.bits_per_weight:.2f} bits a weight, "
        + ", ".join(f"{number} of {len(choice)} layers in {n}" for n, number in wider.items())
        + f"; {told(tried[best])} against float on calibration images that it was not fitted to, "
        + f"{told(as_it_stands)} rounded as they stand"
        + (", equalized" if base.source is not folded else "")
    )
    return found


def _plan(graph: _Graph, calibration: Images, bits: int) -> tuple[dict[str, Form], float]:
    """A form for each layer by name, and the noise that they promise."""
    noise, cost = _noises(graph, _spread(calibration, _PROBED_IMAGES), FORMS[bits])
    smallest = sum(min(sizes.values()) for sizes in cost.values())
    count = sum(layer.weight.numel() for _, layer in packing.weighted(graph.source))
    choice = allocate(noise, cost, max(BUDGETS[bits] * count, ROOM * smallest))
    return choice, sum(noise[name][form] for name, form in choice.items())


def allocate(
    noise: Mapping[str, Mapping[Form, float]], cost: Mapping[str, Mapping[Form, float]], budget: float
) -> dict[str, Form]:
    """The form of each layer with little noise together, within `budget` or at its smallest.

    Args:
        noise: power, by layer and form.
        cost: bits, the same.
    """

    def chosen(price: float) -> dict[str, Form]:
        return {
            name: min(forms, key=lambda form: (forms[form] + price * cost[name][form], cost[name][form]))
            for name, forms in noise.items()
        }

    def size(choice: Mapping[str, Form]) -> float:
        return sum(cost[name][form] for name, form in choice.items())

    low, high = -200.0, 200.0  # of the logarithm of the price
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if size(chosen(np.exp(middle))) > budget else (low, middle)
    return _filled(chosen(np.exp(high)), noise, cost, budget)


def _filled(
    choice: dict[str, Form],
    noise: Mapping[str, Mapping[Form, float]],
    cost: Mapping[str, Mapping[Form, float]],
    budget: float,
) -> dict[str, Form]:
    """With what is left of the budget spent where a bit helps most: one price leaves a gap between two hulls' corners."""
    left = budget - sum(cost[name][form] for name, form in choice.items())
    while True:
        steps = [
            ((noise[name][now] - forms[form]) / more, name, form)
            for name, now in choice.items()
            for forms in (noise[name],)
            for form in forms
            if 0 < (more := cost[name][form] - cost[name][now]) <= left and forms[form] < noise[name][now]
        ]
        if not steps:
            return choice
        _, name, form = max(steps, key=lambda step: step[0])
        left -= cost[name][form] - cost[name][choice[name]]
        choice[name] = form


class _Graph(Interpreter):
    """The graph of a module on any number of images; `layer` computes its convolutions and linear layers."""

    def __init__(self, source: nn.Module, images: Images) -> None:
        super().__init__(equalize.export(source, images[:1]))
        self.source = source
        self.layer: Callable[[Node, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = _apply

    def on(self, images: Images) -> torch.Tensor:
        return balanced(self.run(*inputs(images)), len(images))

    def run_node(self, n: Node) -> Any:
        if n.op == "call_module":  # a guard on the number of images
            return None
        if n.target not in WEIGHTED:
            return super().run_node(n)
        (x, weight, bias, *_), _ = self.fetch_args_kwargs_from_env(n)
        return self.layer(n, x, weight.detach(), bias.detach())  # type: ignore[union-attr, arg-type]

    def sizes(self) -> list[int]:
        """Values of each tensor of an image."""
        values = (node.meta.get("val") for node in self.module.graph.nodes)  # type: ignore[union-attr]
        return [value.numel() for value in values if isinstance(value, torch.Tensor)]


def _apply(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    result: torch.Tensor = node.target(x, weight, bias, *node.args[3:])  # type: ignore[operator]
    return result


def _spread(images: Images, count: int) -> Images:
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def _noises(
    graph: _Graph, images: Images, forms: Sequence[Form]
) -> tuple[dict[str, dict[Form, float]], dict[str, dict[Form, float]]]:
    """By layer and form: the noise power that reaches the outputs, and bits."""
    noise: dict[str, dict[Form, float]] = {}
    cost: dict[str, dict[Form, float]] = {}
    errors: dict[str, dict[Form, torch.Tensor]] = {}
    seen: list[tuple[Node, torch.Tensor, torch.Tensor]] = []

    def layer(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        output = _apply(node, x, weight, bias).requires_grad_()
        seen.append((node, x.detach(), output))
        name = module_path(node)
        if name not in errors:
            errors[name], cost[name] = _errors(node, x.detach(), weight, forms)
            noise[name] = dict.fromkeys(errors[name], 0.0)
        return output

    graph.layer = layer
    signs = torch.Generator().manual_seed(0)
    at_once = max(1, _PROBED_ELEMENTS // ((2 + _PROBES) * sum(graph.sizes())))
    for start in range(0, len(images), at_once):
        seen.clear()
        said = graph.on(images[start : start + at_once])
        outputs = [output for _, _, output in seen]
        probes = []
        for _ in range(_PROBES):
            sign = torch.randint(0, 2, said.shape, generator=signs) * 2.0 - 1
            probes.append(torch.autograd.grad((said * sign).sum(), outputs, retain_graph=True))
        for number, (node, x, _) in enumerate(seen):
            of_layer = errors[module_path(node)]
            reached = _reached(node, x, [probe[number] for probe in probes], list(of_layer.values()))
            for form, power in zip(of_layer, reached.double().square().sum(1).tolist(), strict=True):
                noise[module_path(node)][form] += power
    return noise, cost


def _reached(node: Node, x: torch.Tensor, probes: list[torch.Tensor], errors: list[torch.Tensor]) -> torch.Tensor:
    """What errors of the weights do to the probed outputs, to first order, without what a bias would make good.

    A layer is linear in its weights: the gradient of a probe at the weights, once for each image, serves all errors.

    Args:
        probes: gradients at the layer's output ``(N, ...)``.
        errors: of the weights.

    Returns:
        ``(errors, probes * N)``.
    """
    mean = torch.stack(_slopes(node, x, _shares(node, x, errors[0]), errors[0])).sum(0)
    slopes = []
    for probe in probes:
        others = [axis for axis in range(1, probe.ndim) if axis != channel_axis(node) % probe.ndim]
        total = probe.sum(others) if others else probe
        for slope, of_image in zip(_slopes(node, x, probe, errors[0]), total, strict=True):
            slopes.append((slope - of_image.view(-1, *[1] * (slope.ndim - 1)) * mean).flatten())
    return torch.stack([error.flatten() for error in errors]) @ torch.stack(slopes).T


def _shares(node: Node, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A probe that takes the mean of each output channel."""
    with torch.no_grad():
        output = _apply(node, x, weight, None)
    return torch.full_like(output, output.shape[channel_axis(node)] / output.numel())


def _slopes(node: Node, x: torch.Tensor, probe: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Of a probe at a layer's weights, for each image, from its gradients at the layer's output."""
    if _is_linear(node):
        return list(probe.reshape(len(x), -1, probe.shape[-1]).transpose(1, 2) @ x.reshape(len(x), -1, x.shape[-1]))
    stride, padding, dilation, groups = _geometry(node)
    sides = (None, stride, padding, dilation, False, [0, 0], groups, (False, True, False))
    backward = torch.ops.aten.convolution_backward
    return [backward(probe[one : one + 1], x[one : one + 1], weight, *sides)[1].contiguous() for one in range(len(x))]


def _errors(
    node: Node, x: torch.Tensor, weight: torch.Tensor, forms: Sequence[Form]
) -> tuple[dict[Form, torch.Tensor], dict[Form, float]]:
    """What rounding as they stand does to the weights, and how many bits they then take, by form."""
    values = weight.numpy()
    power = torch.stack(_slopes(node, x.square(), _shares(node, x, weight), weight)).sum(0).flatten(1).double().numpy()
    importance = power + 1e-12 * max(float(power.mean()), 1e-30)
    errors: dict[Form, torch.Tensor] = {}
    cost: dict[Form, float] = {}
    for form in forms:
        if not form.fits(values):
            continue
        packed = form.pack(values, importance)
        dense = values.astype(np.float16) if packed is None else packed.dense
        errors[form] = torch.from_numpy(dense.astype(np.float32)) - weight
        cost[form] = float(16 * values.size if packed is None else packed.stored_bits)
    return errors, cost


def _rounded(graph: _Graph, calibration: Images, choice: Mapping[str, Form], shrinkage: float) -> Compressed:
    """One pass with all images, twice: the first half follows the float layers, the second the compressed ones."""
    images = _spread(calibration, max(1, _ELEMENTS // (2 * max(graph.sizes()))))
    weights: dict[str, PackedWeight] = {}
    dense: dict[str, NDArray[np.float16]] = {}
    biases: dict[str, NDArray[np.float16]] = {}

    def layer(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        name = module_path(node)
        floating, compressed = x.chunk(2)
        wanted = _apply(node, floating, weight, bias)
        packed = _round(node, floating, compressed, weight, choice[name], shrinkage)
        if packed is not None:
            weights[name] = packed
        dense[name] = weight.numpy().astype(np.float16) if packed is None else packed.dense
        changed = torch.from_numpy(dense[name].astype(np.float32))
        shift = _channel_means(node, wanted) - _channel_means(node, _apply(node, compressed, changed, None))
        biases[name] = shift.numpy().astype(np.float16)
        corrected = torch.from_numpy(biases[name].astype(np.float32))
        return torch.cat([wanted, _apply(node, compressed, changed, corrected)])

    graph.layer = layer
    with torch.no_grad():
        graph.on(images[np.tile(np.arange(len(images)), 2)])
    return Compressed(module=packing.with_weights(graph.source, dense, biases), weights=weights)


def _channel_means(layer: Node, x: torch.Tensor) -> torch.Tensor:
    return x.mean([axis for axis in range(x.ndim) if axis != channel_axis(layer) % x.ndim], dtype=torch.float64)


def _round(
    node: Node, floating: torch.Tensor, compressed: torch.Tensor, weight: torch.Tensor, form: Form, shrinkage: float
) -> PackedWeight | None:
    """The weights that give, on the compressed layers' values, what the float ones give on theirs; None for float16."""
    if form.bits == 16:
        return None
    power, cross, places = _covariances(node, floating, compressed, weight)
    groups, taps = len(power), power.shape[1]
    variance = power.diagonal(dim1=1, dim2=2).mean(1)
    share = LEAST_SHRINKAGE + shrinkage * taps / places
    damped = power + (share * variance + 1e-20)[:, None, None] * torch.eye(taps, dtype=power.dtype)
    rows = weight.double().reshape(groups, -1, taps)
    moved = rows + torch.linalg.solve(damped, (rows @ (cross - power)).transpose(1, 2)).transpose(1, 2)
    importance = damped.diagonal(dim1=1, dim2=2).repeat_interleave(rows.shape[1], 0).numpy()
    packed = form.pack(moved.float().reshape(weight.shape).numpy(), importance)
    assert packed is not None
    stored = _round_in_turn(moved, damped, packed)
    return packing.unpacked(stored.reshape(weight.shape), packed.scale, packed.palettes, packed.bits)


def _covariances(
    node: Node, floating: torch.Tensor, compressed: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Of the compressed inputs, ``(groups, taps, taps)``; of the float ones (rows) with them; and the number of places.

    It reads up to `_PLACES` of them, drawn at random: any regular choice would fall in step with some width.
    """
    images, groups = len(floating), 1 if _is_linear(node) else _geometry(node)[3]
    taps = weight[0].numel()
    chunk = max(1, 2**23 // (floating[0].numel() * weight[0, 0].numel()))
    draw = torch.Generator().manual_seed(0)
    power, cross = (torch.zeros(groups, taps, taps, dtype=torch.float64) for _ in range(2))
    mean, other = (torch.zeros(groups, taps, dtype=torch.float64) for _ in range(2))
    shift: list[torch.Tensor] = []
    seen = 0
    for start in range(0, images, chunk):
        some = max(1, _PLACES // images), draw.get_state()
        parts = [_inputs(node, x[start : start + chunk], weight, some) for x in (floating, compressed)]
        torch.randperm(2, generator=draw)  # other places for the next
        # near the mean: the squares of what is left lose no digits
        shift = shift or [part.mean(2, keepdim=True) for part in parts]
        a, b = (part - near for part, near in zip(parts, shift, strict=True))
        power += (b @ b.mT).double()
        cross += (a @ b.mT).double()
        mean += b.sum(2).double()
        other += a.sum(2).double()
        seen += b.shape[2]
    power, cross, mean, other = (total / seen for total in (power, cross, mean, other))
    power -= mean[:, :, None] * mean[:, None]
    cross -= other[:, :, None] * mean[:, None]
    return power, cross, _places(node, floating, weight)


def _geometry(node: Node) -> tuple[list[int], list[int], list[int], int]:
    defaults: list[Any] = [[1, 1], [0, 0], [1, 1], 1]
    given = list(node.args[3:])
    stride, padding, dilation, groups = given + defaults[len(given) :]
    return stride, padding, dilation, groups  # type: ignore[return-value]


def _is_linear(node: Node) -> bool:
    return channel_axis(node) == -1


def _places(node: Node, x: torch.Tensor, weight: torch.Tensor) -> int:
    """How many values each output channel has, on all images."""
    if _is_linear(node):
        return x[..., 0].numel()
    stride, padding, dilation, _ = _geometry(node)
    sides = [
        (size + 2 * p - d * (kernel - 1) - 1) // s + 1
        for size, kernel, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    return len(x) * int(np.prod(sides))


def _inputs(
    node: Node, x: torch.Tensor, weight: torch.Tensor, some: tuple[int, torch.Tensor] | None = None
) -> torch.Tensor:
    """What output values are computed from: ``(groups, taps, places)``.

    Args:
        some: how many places of each image at most, and the state of the generator that draws them; all where None.
    """
    if x.ndim == 2:
        return x.T[None]
    stride, padding, dilation, groups = _geometry(node)
    drawn = None if some is None else _drawn(_places(node, x[:1], weight), some)
    if _is_linear(node):
        columns, groups = x.flatten(1, -2).transpose(1, 2), 1
        columns = columns if drawn is None else columns[..., drawn]
    elif weight.shape[2:] == (1, 1) and stride == [1, 1] and padding == [0, 0]:
        columns = x.flatten(2) if drawn is None else x.flatten(2)[..., drawn]
    elif drawn is None:
        columns = nn.functional.unfold(x, weight.shape[2:], dilation, padding, stride)  # type: ignore[arg-type]
    else:
        columns = _unfolded_at(x, weight.shape[2:], stride, padding, dilation, drawn)
    images, _, places = columns.shape
    return columns.reshape(images, groups, -1, places).permute(1, 2, 0, 3).reshape(groups, -1, images * places)


def _drawn(places: int, some: tuple[int, torch.Tensor]) -> torch.Tensor | None:
    """Numbers of the places that are read, of the state's next draw; None for all of them."""
    count, state = some
    if places <= count:
        return None
    draw = torch.Generator()
    draw.set_state(state)
    return torch.randperm(places, generator=draw)[:count]


def _unfolded_at(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    places: torch.Tensor,
) -> torch.Tensor:
    """These columns of what `unfold` gives, ``(N, channels * taps, places)``, without the others."""
    (top, left), (height, width) = padding, kernel
    padded = nn.functional.pad(x, (left, left, top, top))
    wide = (padded.shape[3] - dilation[1] * (width - 1) - 1) // stride[1] + 1
    down = places // wide * stride[0] + torch.arange(height)[:, None] * dilation[0]
    across = places % wide * stride[1] + torch.arange(width)[:, None] * dilation[1]
    taps = (down[:, None] * padded.shape[3] + across).flatten()
    return padded.flatten(2)[..., taps].reshape(len(x), -1, len(places))


def _round_in_turn(weight: torch.Tensor, power: torch.Tensor, grid: PackedWeight) -> NDArray[Any]:
    """What is stored of ``(groups, out, taps)``, rounded to the scales or palettes of `grid`: ``(groups * out, taps)``.

    Inputs of much power come first where all outputs read the same ones. Errors reach the columns of later blocks at
    the end of a block, in one product.
    """
    groups, out, taps = weight.shape
    order = power[0].diagonal().argsort(descending=True, stable=True) if groups == 1 else torch.arange(taps)
    inverse = torch.linalg.cholesky(torch.linalg.inv(power[:, order][:, :, order]), upper=True)
    left = weight[..., order].clone()
    stored = torch.zeros(groups * out, taps, dtype=torch.int64)
    nearest = _nearest(grid)
    for start in range(0, taps, _COLUMNS):
        end = min(start + _COLUMNS, taps)
        errors = torch.empty(groups, out, end - start, dtype=left.dtype)
        for column in range(start, end):
            place = int(order[column])
            stored[:, place], value = nearest(left[..., column].reshape(-1), place)
            error = (left[..., column] - value.reshape(groups, out)) / inverse[:, column, column, None]
            left[..., column + 1 : end] -= error[..., None] * inverse[:, None, column, column + 1 : end]
            errors[..., column - start] = error
        left[..., end:] -= errors @ inverse[:, start:end, end:]
    found: NDArray[Any] = stored.numpy().astype(grid.stored.dtype)
    return found


def _nearest(grid: PackedWeight) -> Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]:
    """Values ``(out,)`` of a column and its place among the taps -> what is stored for them, and what that stands for."""
    out, taps = len(grid.stored), grid.stored[0].size
    if grid.palettes is not None:
        entries = torch.from_numpy(grid.palettes.astype(np.float64)).repeat_interleave(out // len(grid.palettes), 0)

        def of_palette(values: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
            index = (values[:, None] - entries).abs().argmin(1)
            return index, entries.gather(1, index[:, None])[:, 0]

        return of_palette
    assert grid.scale is not None
    scale = torch.from_numpy(grid.scale.reshape(out, -1).astype(np.float64))
    block, (low, high) = taps // scale.shape[1], packing.STEPS[grid.bits]

    def of_steps(values: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        step = scale[:, place // block]
        steps = (values / step).round().clamp(low, high)
        return steps.long(), (steps * step).half().double()

    return of_steps
