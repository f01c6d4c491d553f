"""Compress: copies of the folded module with exactly the weights that a Core ML package can store.

Weights are float16, or steps of 8 or 4 bits with one float16 scale for each output channel or for each block of its
inputs, or 4-bit indices into palettes of 16 float16 values. The copy's weights are the decompressed ones, bit by bit, so a
package is judged against torch with the same weights.

`compress` rounds the weights as they stand. What a build ships knows the inputs as well: `stages/weight_only.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node
from torch.fx.graph import CodeGen

from .evaluation import example_inputs
from .graph import attribute

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from .contract import InputContract

PALETTE = 16
"""Entries of a palette: what 4 bits can tell apart."""

WEIGHTS_PER_PALETTE = 192
"""Output channels share a palette until it serves at least as many weights: its own 32 bytes are then 1.3 bits each."""

STEPS = {8: (-127, 127), 4: (-8, 7)}
"""Least and largest step, by bits."""

_SHARES_OF_LARGEST = tuple(np.linspace(1, 0.5, 11))
"""Of the largest weight, what may become the largest step."""

SCALE_FLOOR = 2.0**-24
"""The smallest float16 above 0; an all-zero channel needs some scale."""


@dataclass(frozen=True, kw_only=True)
class PackedWeight:
    """How one weight is stored.

    Attributes:
        dense: float16, the shape of the layer's weight; what a device computes with.
        stored: int8 steps (-8..7 with 4 bits), or uint8 palette indices 0..15, of the same shape.
        scale: float16 ``(out,)``, or ``(out, blocks)`` for blocks of successive input channels; None with palettes.
        palettes: float16 ``(groups, 16)``, one for each group of successive output channels; None with a scale.
        bits: of a stored value, 8 or 4.
    """

    dense: NDArray[np.float16]
    stored: NDArray[np.int8] | NDArray[np.uint8]
    scale: NDArray[np.float16] | None = None
    palettes: NDArray[np.float16] | None = None
    bits: int = 8

    @property
    def stored_bits(self) -> int:
        """Of all its values and what belongs to them."""
        beside = self.scale if self.palettes is None else self.palettes
        return self.bits * self.stored.size + (0 if beside is None else 8 * beside.nbytes)


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A copy of the folded module with decompressed weights and float16 biases, and its weights by layer name; layers that
    are not named have weights of float16."""

    module: nn.Module
    weights: Mapping[str, PackedWeight]

    @property
    def bits_per_weight(self) -> float:
        """Of all weights, with the scales and palettes that belong to them, without biases."""
        stored = count = 0
        for name, layer in weighted(self.module):
            packed, number = self.weights.get(name), layer.weight.numel()
            stored += 16 * number if packed is None else packed.stored_bits
            count += number
        return stored / max(count, 1)


def weighted(module: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    """The convolutions and linear layers by name, in the order of the module."""
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def with_weights(
    folded: nn.Module, weights: Mapping[str, NDArray[np.float16]], biases: Mapping[str, NDArray[np.float16]]
) -> nn.Module:
    """A copy of `folded` with float16 weights and biases by layer name, kept as float32."""
    changed = deepcopy(folded)
    with torch.no_grad():
        for key, values in (("weight", weights), ("bias", biases)):
            for name, value in values.items():
                getattr(changed.get_submodule(name), key).copy_(torch.from_numpy(value.astype(np.float32)))
    return changed


def compress(folded: nn.Module, bits: int) -> Compressed:
    """Weights in 8 or 4 bits.

    With 4 bits, depthwise convolutions and the stem stay at 8: they hold 2 % of the weights of MobileNetV2, and most
    of the error.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits must be 4 or 8, not {bits}")
    packed = {}
    for name, layer in weighted(folded):
        weight = layer.weight.detach().numpy()
        is_small = isinstance(layer, nn.Conv2d) and (layer.groups > 1 or layer.in_channels <= 4)
        packed[name] = per_channel(weight) if bits == 8 or is_small else with_palettes(weight)
    dense = {name: weight.dense for name, weight in packed.items()}
    return Compressed(module=with_weights(half(folded, biases=True), dense, {}), weights=packed)


def half(module: nn.Module, *, biases: bool) -> nn.Module:
    """A copy with weights, and if asked biases and constants, rounded to float16 and kept as float32."""
    rounded = deepcopy(module)
    with torch.no_grad():
        constants = [buffer for buffer in rounded.buffers() if buffer.is_floating_point()] if biases else []
        for parameter in (*rounded.parameters(), *constants):
            if biases or parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    return rounded


def graph_of(module: nn.Module, contract: InputContract) -> GraphModule:
    """A module as a graph without guards on shapes and types, which gives a tuple."""
    graph: Any = deepcopy(torch.export.export(module, example_inputs(contract), strict=False).module())
    for node in list(graph.graph.nodes):
        if node.op == "call_module" or "assert" in str(node.target):
            graph.graph.erase_node(node)
        elif node.op == "output" and not isinstance(node.args[0], (tuple, list)):
            node.args = ((node.args[0],),)
    graph.graph.eliminate_dead_code()
    graph.graph.set_codegen(CodeGen())
    graph.recompile()
    return graph  # type: ignore[no-any-return]


def in_half(module: nn.Module, contract: InputContract) -> GraphModule:
    """The graph of a module with weights, constants and all maps in float16; its inputs and outputs are as they were.

    ::

        pixels -> to float32 -> layers -> outputs   ==>   pixels -> to float16 -> layers -> to float32 -> outputs
    """
    to = torch.ops.aten.to.dtype
    owner: Any = graph_of(module, contract)
    graph = owner.graph
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.meta["val"].dtype == torch.float32:
            readers = list(node.users)
            with graph.inserting_after(node):
                cast = graph.call_function(to, (node, torch.float16))
            for reader in readers:
                reader.replace_input_with(node, cast)
        elif node.target == torch.ops.aten.linear.default and node.args[0].meta["val"].ndim == 2:
            with graph.inserting_before(node):
                node.replace_all_uses_with(_as_convolution(graph, node))
        elif torch.float32 in node.args:
            node.args = tuple(torch.float16 if one == torch.float32 else one for one in node.args)
        elif node.op == "output":
            with graph.inserting_before(node):
                node.args = (tuple(graph.call_function(to, (one, torch.float32)) for one in node.args[0]),)
    graph.eliminate_dead_code()
    owner.half().recompile()
    return owner  # type: ignore[no-any-return]


def _as_convolution(graph: Any, linear: Node) -> Node:
    """A linear layer as one of 1x1: in float16 Core AI sums it up in float32, and a product of matrices in float16."""
    aten = torch.ops.aten
    x, weight, *bias = linear.args
    width = x.meta["val"].shape[1]  # type: ignore[union-attr]
    image = graph.call_function(aten.view.default, (x, [-1, width, 1, 1]))
    kernel = graph.call_function(aten.view.default, (weight, [-1, width, 1, 1]))
    found = graph.call_function(aten.conv2d.default, (image, kernel, *bias))
    return graph.call_function(aten.flatten.using_ints, (found, 1))  # type: ignore[no-any-return]


def half_quantized(quantized: GraphModule) -> GraphModule:
    """A copy of the int8 reference as a float16 package can hold it: scales, dequantized weights, biases in float16."""
    rounded = deepcopy(quantized)
    for node in list(rounded.graph.nodes):
        name = str(node.target)
        if node.op != "call_function":
            continue
        if "quantize_per_tensor" in name and node.args[0].op != "get_attr":
            node.update_arg(1, float(np.float16(node.args[1])))
        elif "dequantize_per_" in name:
            steps = attribute(rounded, node.args[0].target)
            if isinstance(node.args[1], Node):  # one scale for each channel, along an axis
                shape = [-1 if axis == node.args[3] else 1 for axis in range(steps.ndim)]
                dense = steps.float() * attribute(rounded, str(node.args[1].target)).half().float().view(shape)
            else:
                dense = (steps.float() - node.args[2]) * float(np.float16(node.args[1]))
            dense = dense.half().float()
            rounded.register_buffer(f"{node.name}_half", dense)
            with rounded.graph.inserting_before(node):
                node.replace_all_uses_with(rounded.graph.get_attr(f"{node.name}_half"))
            rounded.graph.erase_node(node)
        if "quantize" not in name:
            # biases, weights of layers that are kept in float, constants
            for value in [a for a in node.all_input_nodes if a.op == "get_attr"]:
                stored = attribute(rounded, str(value.target))
                if stored.is_floating_point():
                    with torch.no_grad():
                        stored.copy_(stored.half().float())
    rounded.recompile()
    return rounded


def per_channel(weight: NDArray[np.float32]) -> PackedWeight:
    """Symmetric int8, one scale for each output channel (the first dimension)."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    scale = np.maximum(np.abs(flat).max(1) / 127, SCALE_FLOOR).astype(np.float16)
    steps = np.clip(np.rint(flat / scale.astype(np.float64)[:, None]), -127, 127)
    return unpacked(steps.astype(np.int8).reshape(weight.shape), scale=scale)


def in_steps(
    weight: NDArray[np.float32], bits: int, block: int = 0, importance: NDArray[np.float64] | None = None
) -> PackedWeight:
    """Symmetric steps, each scale the one of a few that makes the squared error small: a large weight may be clipped.

    Args:
        weight: ``(out, in, ...)``.
        bits: 8 or 4.
        block: input channels that have a scale in common, a divisor of their number; 0 for all of them.
        importance: of the error of each weight, ``(out or 1, in * ...)``; the mean square of its input is usual.
    """
    out = len(weight)
    blocks = weight.shape[1] // block if block else 1
    low, high = STEPS[bits]
    values = weight.reshape(out, blocks, -1).astype(np.float64)
    weights = np.ones((1, 1, 1)) if importance is None else importance.reshape(len(importance), blocks, -1)
    largest = np.abs(values).max(2)
    least = np.full(largest.shape, np.inf)
    scale = np.zeros(largest.shape, np.float16)
    for share in _SHARES_OF_LARGEST:
        tried = np.maximum(largest * share / high, SCALE_FLOOR).astype(np.float16)
        step = tried.astype(np.float64)[..., None]
        error = (np.square(np.clip(np.rint(values / step), low, high) * step - values) * weights).sum(2)
        scale, least = np.where(error < least, tried, scale), np.minimum(error, least)
    steps = np.clip(np.rint(values / scale.astype(np.float64)[..., None]), low, high).astype(np.int8)
    return unpacked(steps.reshape(weight.shape), scale=scale if block else scale[:, 0], bits=bits)


def with_palettes(
    weight: NDArray[np.float32], at_least: int = WEIGHTS_PER_PALETTE, importance: NDArray[np.float64] | None = None
) -> PackedWeight:
    """4-bit indices; the palettes by Lloyd's algorithm, a k-means in one dimension, without random choices.

    Args:
        at_least: weights that a palette serves, where there are so many.
        importance: as of `in_steps`.
    """
    channels, row = len(weight), weight[0].size
    together = next(n for n in range(1, channels + 1) if channels % n == 0 and (n * row >= at_least or n == channels))
    groups = weight.reshape(channels // together, -1).astype(np.float64)
    weights = np.ones((1, row)) if importance is None else importance
    palettes = _lloyd(groups, np.broadcast_to(weights, (channels, row)).reshape(groups.shape)).astype(np.float16)
    palettes.sort(axis=1)
    indices = _nearest(groups, palettes.astype(np.float64)).astype(np.uint8)
    return unpacked(indices.reshape(weight.shape), palettes=palettes, bits=4)


def unpacked(
    stored: NDArray[Any],
    scale: NDArray[np.float16] | None = None,
    palettes: NDArray[np.float16] | None = None,
    bits: int = 8,
) -> PackedWeight:
    """With the dense weight that a device makes of what is stored."""
    if palettes is not None:
        indices = stored.reshape(len(palettes), -1).astype(np.int64)
        dense = np.take_along_axis(palettes, indices, 1)
    else:
        assert scale is not None
        steps = stored.reshape(len(stored), scale[0].size, -1).astype(np.float32)
        dense = (steps * scale.reshape(len(stored), -1, 1).astype(np.float32)).astype(np.float16)
    return PackedWeight(dense=dense.reshape(stored.shape), stored=stored, scale=scale, palettes=palettes, bits=bits)


def _lloyd(groups: NDArray[np.float64], weights: NDArray[np.float64], rounds: int = 40) -> NDArray[np.float64]:
    """``(G, N)`` values and their weights -> ``(G, 16)`` centres that make the squared error small.

    It starts between the quantiles, which follow the density, and an even grid, which covers the range.
    """
    share = np.linspace(0, 1, PALETTE)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    centres: NDArray[np.float64] = (np.quantile(groups, share, axis=1).T + low + (high - low) * share) / 2
    moving = np.arange(len(groups))
    for _ in range(rounds):
        before, count = centres[moving], len(moving)
        slot = (_nearest(groups[moving], before) + PALETTE * np.arange(count)[:, None]).ravel()
        sums = np.bincount(slot, (groups[moving] * weights[moving]).ravel(), count * PALETTE).reshape(count, PALETTE)
        members = np.bincount(slot, weights[moving].ravel(), count * PALETTE).reshape(count, PALETTE)
        after = np.sort(np.where(members > 0, sums / np.where(members > 0, members, 1), before), axis=1)
        centres[moving] = after
        moving = moving[(after != before).any(1)]  # the others have arrived
        if not len(moving):
            break
    return centres


def _nearest(groups: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the nearest of the sorted centres, for each value."""
    middles = (centres[:, 1:] + centres[:, :-1]) / 2
    found: NDArray[np.int64] = torch.searchsorted(torch.from_numpy(middles), torch.from_numpy(groups)).numpy()
    return found
