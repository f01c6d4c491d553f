"""Compress: copies of the folded module with exactly the weights that a Core ML package can store.

Three kinds: rounded to float16; int8 with one scale per output channel; 4-bit indices into palettes of 16 values.
The copy's weights are the decompressed ones, bit by bit, so a package is judged against torch with the same weights.

Palettes were chosen over int4 with one scale per block by measurement, both with float16 side values, on the
default model: 21.6 dB at 5.34 bits a weight against 21.0 dB at 5.32 (blocks of 16); on width 1.0 at 224 with random
weights: 18.7 dB against 17.9 at the same 2.0 MB (blocks of 32).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node

from .graph import WEIGHTED, attribute

if TYPE_CHECKING:
    from torch.fx import GraphModule

PALETTE = 16
"""Entries of a palette: what 4 bits can tell apart."""

WEIGHTS_PER_PALETTE = 192
"""Output channels share a palette until it serves at least as many weights: its own 32 bytes are then 1.3 bits each."""

SCALE_FLOOR = 2.0**-24
"""The smallest float16 above 0; an all-zero channel needs some scale."""


@dataclass(frozen=True, kw_only=True)
class PackedWeight:
    """How one weight is stored.

    Attributes:
        dense: float16, the shape of the layer's weight; what a device computes with.
        stored: int8 steps, or uint8 palette indices 0..15, of the same shape.
        scale: float16 ``(out,)``; None with palettes.
        palettes: float16 ``(groups, 16)``, one for each group of successive output channels; None with a scale.
    """

    dense: NDArray[np.float16]
    stored: NDArray[np.int8] | NDArray[np.uint8]
    scale: NDArray[np.float16] | None = None
    palettes: NDArray[np.float16] | None = None


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A copy of the folded module with decompressed weights and float16 biases, and its weights by layer name."""

    module: nn.Module
    weights: Mapping[str, PackedWeight]


def compress(folded: nn.Module, bits: int) -> Compressed:
    """Weights in 8 or 4 bits.

    With 4 bits, depthwise convolutions and the stem stay at 8: they hold 2 % of the weights of MobileNetV2, and most
    of the error.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits must be 4 or 8, not {bits}")
    module = half(folded, biases=True)
    packed = {}
    for name, layer in folded.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        weight = layer.weight.detach().numpy()
        is_small = isinstance(layer, nn.Conv2d) and (layer.groups > 1 or layer.in_channels <= 4)
        packed[name] = per_channel(weight) if bits == 8 or is_small else with_palettes(weight)
        module.get_submodule(name).weight = nn.Parameter(  # type: ignore[assignment]
            torch.from_numpy(packed[name].dense.astype(np.float32)), requires_grad=False
        )
    return Compressed(module=module, weights=packed)


def half(module: nn.Module, *, biases: bool) -> nn.Module:
    """A copy with weights, and if asked biases, rounded to float16 and kept as float32."""
    rounded = deepcopy(module)
    with torch.no_grad():
        for parameter in rounded.parameters():
            if biases or parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    return rounded


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
            step = attribute(rounded, str(node.args[1].target)) if isinstance(node.args[1], Node) else node.args[1]
            scale = torch.as_tensor(step).half().float().view(-1, *[1] * (steps.ndim - 1))
            dense = (steps.float() * scale).half().float()
            rounded.register_buffer(f"{node.name}_half", dense)
            with rounded.graph.inserting_before(node):
                node.replace_all_uses_with(rounded.graph.get_attr(f"{node.name}_half"))
            rounded.graph.erase_node(node)
        if node.target in WEIGHTED and len(node.args) > 2:
            # a layer that is kept in float has its weight beside its bias
            for value in [a for a in node.args[1:3] if a.op == "get_attr"]:
                stored = attribute(rounded, value.target)
                with torch.no_grad():
                    stored.copy_(stored.half().float())
    rounded.recompile()
    return rounded


def per_channel(weight: NDArray[np.float32]) -> PackedWeight:
    """Symmetric int8, one scale for each output channel (the first dimension)."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    scale = np.maximum(np.abs(flat).max(1) / 127, SCALE_FLOOR).astype(np.float16)
    steps = np.clip(np.rint(flat / scale.astype(np.float64)[:, None]), -127, 127)
    dense = (steps.astype(np.float32) * scale.astype(np.float32)[:, None]).astype(np.float16)
    return PackedWeight(
        dense=dense.reshape(weight.shape), stored=steps.astype(np.int8).reshape(weight.shape), scale=scale
    )


def with_palettes(weight: NDArray[np.float32]) -> PackedWeight:
    """4-bit indices; the palettes by Lloyd's algorithm, a k-means in one dimension, without random choices."""
    channels, row = len(weight), weight[0].size
    together = next(n for n in range(1, channels + 1) if channels % n == 0 and (n * row >= WEIGHTS_PER_PALETTE or n == channels))  # fmt: skip
    groups = weight.reshape(channels // together, -1).astype(np.float64)
    palettes = _lloyd(groups).astype(np.float16)
    palettes.sort(axis=1)
    indices = _nearest(groups, palettes.astype(np.float64)).astype(np.uint8)
    dense = np.take_along_axis(palettes, indices.astype(np.int64), 1)
    return PackedWeight(dense=dense.reshape(weight.shape), stored=indices.reshape(weight.shape), palettes=palettes)


def _lloyd(groups: NDArray[np.float64], rounds: int = 40) -> NDArray[np.float64]:
    """``(G, N)`` values -> ``(G, 16)`` centres that make the squared error small.

    It starts between the quantiles, which follow the density, and an even grid, which covers the range.
    """
    share = np.linspace(0, 1, PALETTE)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    centres: NDArray[np.float64] = (np.quantile(groups, share, axis=1).T + low + (high - low) * share) / 2
    count = len(groups)
    for _ in range(rounds):
        slot = (_nearest(groups, centres) + PALETTE * np.arange(count)[:, None]).ravel()
        sums = np.bincount(slot, groups.ravel(), count * PALETTE).reshape(count, PALETTE)
        members = np.bincount(slot, minlength=count * PALETTE).reshape(count, PALETTE)
        centres = np.sort(np.where(members > 0, sums / np.maximum(members, 1), centres), axis=1)
    return centres


def _nearest(groups: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the nearest of the sorted centres, for each value."""
    middles = (centres[:, 1:] + centres[:, :-1]) / 2
    found: NDArray[np.int64] = torch.searchsorted(torch.from_numpy(middles), torch.from_numpy(groups)).numpy()
    return found
