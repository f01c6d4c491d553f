"""One spelling for what users and torch write in several ways.

before   relu6(x), clamp(x, 0, 6), x.clamp_min(0)
after    hardtanh(x, 0, 6), relu(x)

before   conv2d(x, w, b, padding="same")
after    conv2d(x, w, b, padding=1), behind zeros where one side needs more of them

before   add(x, y, alpha=2), sub(x, y, alpha=2), rsub(x, 1, 2)
after    add(x, mul(y, 2)), sub(x, mul(y, 2)), add(mul(x, -2), 1)

The last one because coremltools 9.0 and coreai-torch 0.4.3 leave the factor out without a word
(`tests/targets/test_upstream.py`).
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from .network import Network, aten

_DEFAULTS: tuple[Any, ...] = (None, None, None, [1, 1], "valid", [1, 1], 1)
"""Of conv2d's arguments."""


def rewrite(network: Network) -> None:
    for node in network.calls(aten.relu6.default):
        node.target, node.args = aten.hardtanh.default, (node.args[0], 0.0, 6.0)
    for node in network.calls(aten.clamp.default, aten.clamp_min.default, aten.hardtanh.default):
        low, high = _bounds(node)
        if low == 0 and high is None:
            node.target, node.args, node.kwargs = aten.relu.default, (node.args[0],), {}
        elif low is not None and high is not None:
            node.target, node.args, node.kwargs = aten.hardtanh.default, (node.args[0], float(low), float(high)), {}
    for node in network.calls(aten.conv2d.padding):
        network.put(node, _with_numbers(network, node))
    for node in network.calls(aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar, aten.rsub.Tensor):
        _without_factor(network, node)


def _bounds(node: Node) -> tuple[Any, Any]:
    default = (-1.0, 1.0) if node.target == aten.hardtanh.default else (None, None)
    names = ("min_val", "max_val") if node.target == aten.hardtanh.default else ("min", "max")
    given = [node.args[n + 1] if len(node.args) > n + 1 else node.kwargs.get(names[n], default[n]) for n in range(2)]
    return given[0], given[1]


def _with_numbers(network: Network, node: Node) -> Node:
    given: tuple[Any, ...] = (*node.args, *_DEFAULTS[len(node.args) :])
    source, weight, bias, stride, padding, dilation, groups = given
    if padding == "valid":
        return network.insert(node, aten.conv2d.default, source, weight, bias, stride, [0, 0], dilation, groups)
    kernel = weight.meta["val"].shape[2:]
    vertical, horizontal = (step * (size - 1) for step, size in zip(dilation, kernel, strict=True))
    if vertical % 2 or horizontal % 2:
        source = network.insert(node, aten.pad.default, source, [0, horizontal % 2, 0, vertical % 2])
    even = [vertical // 2, horizontal // 2]
    return network.insert(node, aten.conv2d.default, source, weight, bias, stride, even, dilation, groups)


def _without_factor(network: Network, node: Node) -> None:
    """A sum or difference whose second term has a factor of its own: that is multiplied first."""
    one, other = node.args[:2]
    factor: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("alpha", 1)
    if factor == 1:
        return
    if node.target in (aten.add.Tensor, aten.sub.Tensor):
        scaled = network.insert(node, aten.mul.Tensor, other, factor) if isinstance(other, Node) else other * factor  # type: ignore[operator]
        network.put(node, network.insert(node, node.target, one, scaled))
    else:
        negative = network.insert(node, aten.mul.Tensor, one, -factor)
        network.put(node, network.insert(node, aten.add.Tensor, negative, other))
