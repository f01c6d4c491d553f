"""A change of shape leaves the number of images open; one that flattens a map is a flatten.

before   view(x, [1, 24])        as torch.export writes x.view(x.size(0), -1)
after    flatten(x, 1)           also where it takes several steps

before   view(x, [1, 4, 6, 8, 8]), reshape(x, [1 * 32, 2, 4, 2])
after    view(x, [-1, 4, 6, 8, 8]), reshape(x, [-1, 2, 4, 2])     the number of images is a factor of the first dimension

before   view(contiguous(transpose(x, 1, 2)), [1, 24, 8, 8])
after    reshape(transpose(x, 1, 2), [-1, 24, 8, 8])
"""

from __future__ import annotations

from typing import Any

from .network import Network, aten

_SHAPED = (
    aten.view.default,
    aten.reshape.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten.flatten.using_ints,
)


_TURNED = (aten.transpose.int, aten.permute.default, aten.slice.Tensor, aten.select.int, aten.expand.default)


def rewrite(network: Network) -> None:
    for node in network.calls(aten.view.default):
        turned: Any = node.args[0]
        if turned.target in _TURNED:
            node.target = aten.reshape.default
    for node in network.calls(*_SHAPED):
        source: Any = node.args[0]
        before, after = source.meta["val"].shape, node.meta["val"].shape
        if len(after) < 2 or source.op == "get_attr":
            continue
        if before[0] == after[0] == 1 and len(after) == 2 and len(before) > 2:
            while source.target in _SHAPED and len(source.users) == 1 and source.args[0].meta["val"].ndim > 2:
                source = source.args[0]
            network.put(node, network.insert(node, aten.flatten.using_ints, source, 1))
        elif node.target in (aten.view.default, aten.reshape.default):
            node.args = (source, [-1, *after[1:]])
