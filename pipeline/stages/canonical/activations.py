"""Activations become what every runtime has in integers: additions, clamps, multiplications and a sigmoid.

before   hardsigmoid(x)
after    hardtanh(x + 3, 0, 6) * (1 / 6)

before   hardswish(x)
after    x * hardtanh(x + 3, 0, 6) * (1 / 6)

before   silu(x)
after    x * sigmoid(x)

Left as they are, ExecuTorch 1.5 copies the maps of a hardsigmoid out of its delegate and back, and computes the others in float, for no
quantizer knows them.
"""

from __future__ import annotations

from torch.fx import Node

from .network import Network, aten

_SIXTH = 1 / 6


def rewrite(network: Network) -> None:
    for node in network.calls(aten.hardsigmoid.default):
        network.put(node, network.insert(node, aten.mul.Tensor, _ramp(network, node), _SIXTH))
    for node in network.calls(aten.hardswish.default):
        gated = network.insert(node, aten.mul.Tensor, node.args[0], _ramp(network, node))
        network.put(node, network.insert(node, aten.mul.Tensor, gated, _SIXTH))
    for node in network.calls(aten.silu.default):
        gate = network.insert(node, aten.sigmoid.default, node.args[0])
        network.put(node, network.insert(node, aten.mul.Tensor, node.args[0], gate))


def _ramp(network: Network, node: Node) -> Node:
    raised = network.insert(node, aten.add.Tensor, node.args[0], 3.0)
    return network.insert(node, aten.hardtanh.default, raised, 0.0, 6.0)
