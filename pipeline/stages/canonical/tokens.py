"""A constant beside a map is added to zeros, so that it is there once for each image of several.

before   cat([c, x], 1)               c a token (1, 1, width), x (1, 16, width)
after    pad(x, zeros before) + c'    c' (1, 17, width), the token and zeros
"""

from __future__ import annotations

from typing import Any

import torch

from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.cat.default):
        parts: Any = node.args[0]
        values = [network.value(part) for part in parts]
        others = [number for number, value in enumerate(values) if value is None]
        if len(others) != 1 or len(parts) == 1:
            continue
        (place,) = others
        source, dim = parts[place], int(node.args[1] if len(node.args) > 1 else 0) % node.meta["val"].ndim  # type: ignore[arg-type]
        pieces = [torch.zeros(source.meta["val"].shape) if value is None else value.float() for value in values]
        sizes = [piece.shape[dim] for piece in pieces]
        around = [0, 0] * (node.meta["val"].ndim - dim)
        around[-2:] = [sum(sizes[:place]), sum(sizes[place + 1 :])]
        padded = network.insert(node, aten.pad.default, source, around)
        constant = network.constant(node, str(parts[1 if place == 0 else 0].target), torch.cat(pieces, dim))
        network.put(node, network.insert(node, aten.add.Tensor, padded, constant))
