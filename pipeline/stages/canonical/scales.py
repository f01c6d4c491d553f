"""Constants that multiply, or are added, go into the weights of a layer.

before   layer -> x * c          c a number, or one for each of the layer's outputs
after    layer with weights and bias times c

before   layer -> x + c
after    layer with c in its bias

before   x * c -> layers         c a number, also behind means, changes of shape and products with other maps
after    x -> layers with weights times c

before   x * 3, x - c, x / c     of what is left
after    x * c, x + c            c a constant with as many dimensions as x

A product in int8 costs an operation, and a rounding. A constant without dimensions is wrong in Core ML, where coremltools 9.0
dequantizes it in int8 and it overflows, and litert-torch 0.10 turns each map that it is added to around and back.
"""

from __future__ import annotations

import operator

import torch
from torch.fx import Node

from ...program import PAD, WEIGHTED
from .network import Network, aten

_PRODUCTS = (aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar)
_SUMS = (aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar)
_INVERSE = (aten.div.Tensor, aten.div.Scalar, aten.sub.Tensor, aten.sub.Scalar)
_HOMOGENEOUS = (
    aten.mean.dim,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.squeeze.dim,
    aten.unsqueeze.default,
    aten.slice.Tensor,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
)
"""A factor before them is one behind them."""


def rewrite(network: Network) -> None:
    for node in network.calls(*_PRODUCTS, *_SUMS):
        found = _constant(network, node)
        if found is None or _into_layer_before(network, node, *found) or _into_layers_behind(network, node, *found):
            continue
        _spell(network, node, *found)


def _constant(network: Network, node: Node) -> tuple[Node, torch.Tensor] | None:
    """What an operation reads beside a constant, and that; None of any other operation."""
    if node.kwargs:
        return None
    (one, other), is_swapped = node.args[:2], False
    if not isinstance(one, Node) or network.value(one) is not None:
        (one, other), is_swapped = (other, one), True
    if not isinstance(one, Node) or (is_swapped and node.target not in (aten.mul.Tensor, aten.add.Tensor)):
        return None
    value = network.value(other) if isinstance(other, Node) else torch.tensor(other, dtype=torch.float64)
    if value is None or one.meta["val"].shape != node.meta["val"].shape or not value.is_floating_point():
        return None
    return one, value.double()


def _into_layer_before(network: Network, node: Node, source: Node, value: torch.Tensor) -> bool:
    if source.target not in WEIGHTED or len(source.users) != 1:
        return False
    layer, each = network.layer(source), _each_output(source, value)
    if layer is None or each is None:
        return False
    weight, bias = layer
    factor, shift = torch.ones_like(bias), torch.zeros_like(bias)
    if node.target in _PRODUCTS:
        factor = 1 / each if node.target in _INVERSE else each
    else:
        shift = -each if node.target in _INVERSE else each
    path = str(source.args[1].target)  # type: ignore[union-attr]
    scaled = weight * factor.view(-1, *[1] * (weight.ndim - 1))
    network.set_layer(source, path, scaled, bias * factor + shift)
    network.put(node, source)
    return True


def _each_output(layer: Node, value: torch.Tensor) -> torch.Tensor | None:
    """One number for each output of a layer ``(out,)``; None where it differs from pixel to pixel."""
    shape = layer.meta["val"].shape
    channel = len(shape) - 1 if layer.target == aten.linear.default else 1
    spread = value.view([1] * (len(shape) - value.ndim) + list(value.shape))
    if any(size != 1 for axis, size in enumerate(spread.shape) if axis != channel):
        return None
    return spread.reshape(-1).expand(shape[channel])


def _spell(network: Network, node: Node, source: Node, value: torch.Tensor) -> None:
    is_product, is_inverse = node.target in _PRODUCTS, node.target in _INVERSE
    spread = value.view([1] * (source.meta["val"].ndim - value.ndim) + list(value.shape))
    if is_inverse:
        spread = 1 / spread if is_product else -spread
    constant = next((a for a in node.args[:2] if a is not source and isinstance(a, Node)), None)
    if is_inverse or constant is None or constant.meta["val"].ndim != spread.ndim:
        constant = network.constant(node, node.name, spread.float())
    node.target = aten.mul.Tensor if is_product else aten.add.Tensor
    node.args = (source, constant)


def _into_layers_behind(network: Network, node: Node, source: Node, value: torch.Tensor) -> bool:
    if node.target not in _PRODUCTS or value.numel() != 1:
        return False
    layers = _layers_behind(network, node)
    if layers is None:
        return False
    factor = float(value) if node.target in (aten.mul.Tensor, aten.mul.Scalar) else 1 / float(value)
    network.put(node, source)
    for layer in layers:
        found = network.layer(layer)
        assert found is not None
        weight, bias = found
        network.set_layer(layer, str(layer.args[1].target), weight * factor, bias)  # type: ignore[union-attr]
    return True


def _layers_behind(network: Network, node: Node) -> list[Node] | None:
    """The layers that all that reads a map ends in, each reached once; None where something else reads it too."""
    found: list[Node] = []
    for user in node.users:
        if user.target in WEIGHTED and user.args[0] is node and network.layer(user) is not None:
            found.append(user)
        elif user.target in _HOMOGENEOUS or (user.target == PAD and len(user.args) < 4) or _is_product(user, node):
            behind = _layers_behind(network, user)
            if behind is None:
                return None
            found += behind
        else:
            return None
    return found if found and len(set(found)) == len(found) else None


def _is_product(user: Node, node: Node) -> bool:
    """Whether it multiplies a map with another one, and not with itself."""
    return user.target in (aten.mul.Tensor, operator.mul) and [user.args[0], user.args[1]].count(node) == 1
