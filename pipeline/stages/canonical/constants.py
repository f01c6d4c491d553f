"""What does not depend on the image is computed once.

before   conv(x, weight * mask, bias), x + arange(8)
after    conv(x, c, bias), x + c
"""

from __future__ import annotations

import re

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from .network import Network


def rewrite(network: Network) -> None:
    for node in list(network.graph.nodes):
        if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            continue
        if any(network.value(source) is None for source in node.all_input_nodes):
            continue
        args, kwargs = (map_arg(part, lambda n: network.values[str(n.target)]) for part in (node.args, node.kwargs))
        with torch.no_grad():
            value = node.target(*args, **kwargs)  # type: ignore[operator]
        if isinstance(value, torch.Tensor):
            network.put(node, network.constant(node, _path(node), value.detach().clone()))


_PARAMETRIZED = re.compile(r"\.parametrizations\.(\w+)\.\w+$|\.(weight)_(?:orig|g|v)$")
"""Where torch keeps what a weight is computed from: by parametrizations, as `weight_norm` and `spectral_norm` are, and before."""


def _path(node: Node) -> str:
    """Beside the first value that it is computed from; of a weight that is parametrized, the weight's own."""
    path = str(node.all_input_nodes[0].target) if node.all_input_nodes else node.name
    return _PARAMETRIZED.sub(lambda found: f".{found[1] or found[2]}", path)
