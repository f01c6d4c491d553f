"""Block by block: which way each weight is rounded is learnt, so that a block's output stays where it was.

A weight may go to the whole step below or above it, and the better one is not always the nearer: what counts is the sum
that it is in (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020). The layers of a block
are learnt together, with the block's own output as the target, because errors of layers in a row make up for each other
(Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", 2021). As there, an error
counts by what the network makes of it: here each channel by the mean square of the logits' gradient, which is the
diagonal of the Gauss-Newton matrix for the loss that is measured in the end, squared errors of logits.

Each block reads what the quantized blocks before it give, so that it makes their errors good as well. All of it is
regularized: a weight moves by less than one step, and the fraction that is still between two steps is driven to one of
them. And of the images that it learns from a share is kept aside, on which each block has to be better than it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node

from ..program import ACTIVATIONS, WEIGHTED, module_path
from . import quantize
from .simulation import Grid, Layers, Ranges, Simulation, Walk, weight_scale

STEPS = 160
_RATE = 0.04
_BIAS_RATE = 0.002
_POSITIONS = 4096
_IMAGES = 32
_WARM = 0.2
_LAYERS_AT_MOST = 4


@dataclass(frozen=True)
class Block:
    """What lies between two quantizers where nothing else passes by."""

    start: Node
    end: Node
    nodes: tuple[Node, ...]

    @property
    def layers(self) -> list[Node]:
        return [node for node in self.nodes if node.target in WEIGHTED]


def blocks(simulation: Simulation) -> list[Block]:
    """In order of the data; each ends behind a layer without activation if it can, and has four layers at most."""
    nodes = [n for n in simulation.graph.graph.nodes if n.op != "get_attr" and not _is_of_weight(n)]
    order = {node: number for number, node in enumerate(nodes)}
    cuts = []
    furthest = -1
    for number, node in enumerate(nodes):
        if furthest <= number and node in simulation.activations:
            cuts.append(node)
        furthest = max([furthest, *(order[user] for user in node.users if user in order)])
        if node.op == "output":
            cuts.append(node)
    found = []
    start = cuts[0]
    for number, cut in enumerate(cuts[1:], 1):
        inside = tuple(nodes[order[start] + 1 : order[cut]])
        count = sum(node.target in WEIGHTED for node in inside)
        after = cuts[number + 1] if number + 1 < len(cuts) else None
        more = count + (sum(n.target in WEIGHTED for n in nodes[order[cut] : order[after]]) if after is not None else 0)
        is_linear = cut.op != "output" and cut.args[0].target not in ACTIVATIONS
        if count and (after is None or (count > 1 and is_linear) or more > _LAYERS_AT_MOST):
            found.append(Block(start, cut, inside))
            start = cut
    return found


def _is_of_weight(node: Node) -> bool:
    return node.op == "call_module" and bool(node.args) and getattr(node.args[0], "op", "") == "get_attr"


class _Rounding(nn.Module):
    """Of one weight: steps below, and by how much of one more each is above; 0 and 1 in the end."""

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.scale = scale
        steps = weight / scale
        self.below = steps.floor().clamp_(-127, 127)
        part = (steps - self.below).clamp(0.01, 0.99)
        self.v = nn.Parameter(torch.logit((part + 0.1) / 1.2))

    def part(self) -> torch.Tensor:
        """A sigmoid stretched from -0.1 to 1.1 and cut, as in the paper: it reaches both ends."""
        return (torch.sigmoid(self.v) * 1.2 - 0.1).clamp(0, 1)

    def soft(self) -> torch.Tensor:
        return (self.below + self.part()).clamp(-127, 127) * self.scale

    def hard(self) -> torch.Tensor:
        return (self.below + (self.part() >= 0.5)).clamp(-127, 127) * self.scale


def learn(simulation, floating, tuned, settings, found: Ranges, images, seed=0, steps=STEPS, rate=_RATE, reg=1.0, bias_rate=_BIAS_RATE, say=lambda *_: None, mode="ada", gn=True, qinput=True, drop=0.0):
    grids = {node: Grid.of(*found[number]) for node, number in simulation.activations.items()}
    layers: Layers = simulation.rounded(tuned, settings, found)
    real: Layers = {path: (floating.get_parameter(f"{path}.weight").detach(), floating.get_parameter(f"{path}.bias").detach()) for path in layers}
    walk = Walk(simulation, layers, found, images)
    parts = blocks(simulation)
    generator = torch.Generator().manual_seed(seed)
    importance = importances(simulation, floating, parts, images[:: max(1, len(images) // 16)], generator) if gn else {}
    scales = {}
    outside: Any = None
    for number, block in enumerate(parts):
        import time
        t0 = time.time()
        for node in [n for n in simulation.graph.graph.nodes if n in grids]:
            if walk._order[node] <= walk._order[block.start] and node not in walk._kept and (number == 0):
                walk.go(node)
        stored = torch.cat(walk._kept[block.start])
        if outside is None:
            outside = grids[block.start].unpacked(stored) if number == 0 else None
        batch = simulation.batch
        with torch.no_grad():
            target = torch.cat([_run(block, outside[i : i + batch], real, None) for i in range(0, len(outside), batch)])
        weight = importance.get(block.end, torch.ones(1))
        weight = weight.reshape(1, -1, *[1] * (target.ndim - 2))
        roundings, biases, sizes = {}, {}, {}
        for node in block.layers:
            path = module_path(node)
            if simulation.is_quantized[path]:
                source = tuned.get_parameter(f"{path}.weight").detach()
                scale = weight_scale(source, settings.weights, settings.weight_scales.get(path))
                roundings[path] = _Rounding(source, scale)
                scales[path] = scale.reshape(-1).double().numpy().copy()
            biases[path] = nn.Parameter(torch.zeros_like(layers[path][1]))
            sizes[path] = weight_scale(layers[path][0], "per-channel").reshape(-1) * 127
        def soft(hard=False):
            return {
                path: (
                    layers[path][0] if path not in roundings else roundings[path].hard() if hard else roundings[path].soft(),
                    layers[path][1] + biases[path] * sizes[path],
                )
                for path in biases
            }
        positions = max([n.meta["val"].numel() // n.meta["val"].shape[1] for n in block.nodes if isinstance(n.meta.get("val"), torch.Tensor) and n.meta["val"].ndim > 1])
        size = max(1, min(_IMAGES, len(images), _POSITIONS // positions))
        optimizer = torch.optim.Adam([
            {"params": [r.v for r in roundings.values()], "lr": rate},
            {"params": list(biases.values()), "lr": bias_rate},
        ])
        def loss_of(chosen, hard=False):
            x = grids[block.start].unpacked(stored[chosen])
            y = _run(block, x, soft(hard), grids)
            return ((y - target[chosen]).square() * weight).mean()
        scale_of = None
        picks = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(1 + steps * size // len(images))])
        def total(hard):
            with torch.no_grad():
                return float(np.mean([loss_of(torch.arange(i, min(i + batch, len(images))), hard).item() for i in range(0, len(images), batch)]))
        for r in roundings.values():
            nearest = None
        with torch.no_grad():
            before = float(np.mean([((_run(block, grids[block.start].unpacked(stored[i:i+batch]), layers, grids) - target[i:i+batch]).square() * weight).mean().item() for i in range(0, len(images), batch)]))
        for step in range(steps):
            chosen = picks[step * size : (step + 1) * size]
            loss = loss_of(chosen) / max(before, 1e-30)
            share = (step / steps - _WARM) / (1 - _WARM)
            if share > 0:
                beta = 2 + 18 * 0.5 * (1 + math.cos(math.pi * share)) if False else 20 - 18 * share
                count = sum(r.v.numel() for r in roundings.values())
                loss = loss + reg * sum((1 - (2 * r.part() - 1).abs().pow(beta)).sum() for r in roundings.values()) / count
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after = total(True)
        if after < before:
            with torch.no_grad():
                layers.update({path: (w.detach(), b.detach()) for path, (w, b) in soft(True).items()})
        say(f"block {number} {[module_path(n) for n in block.layers]} {before:.3e} -> {after:.3e} {10*np.log10(before/max(after,1e-30)):.2f} dB {time.time()-t0:.1f} s")
        if block.end.op != "output":
            for node in [n for n in block.nodes if n in grids] + [block.end]:
                walk.go(node)
        outside = target
    return layers, scales


def importances(simulation, floating, parts, images, generator):
    """Mean square of the gradient of a random projection of the logits."""
    float_layers = {module_path(n): (floating.get_parameter(f"{module_path(n)}.weight").detach(), floating.get_parameter(f"{module_path(n)}.bias").detach()) for n in simulation.layers}
    found = {}
    for batch in simulation.batches(images):
        x = batch
        with torch.no_grad():
            x = _run(Block(parts[0].start, parts[0].start, tuple(n for n in simulation.graph.graph.nodes if _before(simulation, n, parts[0].start))), x, float_layers, None, placeholder=True)
        kept = []
        x = x.requires_grad_(True)
        for block in parts:
            x = _run(block, x, float_layers, None)
            kept.append((block.end, x))
            x.retain_grad()
        v = torch.randn(x.shape, generator=generator)
        (x * v).sum().backward()
        for end, y in kept:
            g = y.grad.square().mean([d for d in range(y.ndim) if d != 1])
            found[end] = found.get(end, 0) + g
    return {end: g / g.mean().clamp_min(1e-30) for end, g in found.items()}


def _before(simulation, node, end):
    order = list(simulation.graph.graph.nodes)
    return order.index(node) <= order.index(end) and node.op != "get_attr" and not _is_of_weight(node)


def _run(block, x, layers, grids, placeholder=False):
    """The block's output, before it is quantized."""
    values = {block.start: x}
    result = x
    for node in block.nodes:
        if node.op == "placeholder":
            values[node] = x
        elif node.target in WEIGHTED:
            weight, bias = layers[module_path(node)]
            values[node] = node.target(values[node.args[0]], weight, bias, *node.args[3:])
        elif node.op == "call_module":
            if not node.args or node.args[0] not in values:
                continue
            values[node] = values[node.args[0]] if grids is None or node not in grids else grids[node].trained(values[node.args[0]])
        else:
            if not any(isinstance(a, Node) for a in node.args): continue
            values[node] = node.target(*[values[a] if isinstance(a, Node) else a for a in node.args], **node.kwargs)
        result = values.get(node, result)
    return result
