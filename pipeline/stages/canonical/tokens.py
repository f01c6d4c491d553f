"""Constants beside maps are added to zeros, so that they are there once for each image of several.

before   cat([c, x], 1)               c a token (1, 1, width), x (1, 16, width)
after    pad(x, zeros before) + c'    c' (1, 17, width), the token and zeros

before   cat([x, c, y], 1)
after    cat([pad(x, zeros behind), y], 1) + c'
"""

from __future__ import annotations

from typing import Any

import torch

from .network import Network, aten


def rewrite(network: Network) -> None:
    for node in network.calls(aten.cat.default):
        parts: Any = node.args[0]
        values = [network.value(part) for part in parts]
        maps = [number for number, value in enumerate(values) if value is None]
        if len(maps) in (0, len(parts)):
            continue
        dim = int(node.args[1] if len(node.args) > 1 else 0) % node.meta["val"].ndim  # type: ignore[arg-type]
        sizes = [part.meta["val"].shape[dim] for part in parts]
        padded = []
        for place, following in zip(maps, [*maps[1:], len(parts)], strict=True):
            around = [0, 0] * (node.meta["val"].ndim - dim)
            around[-2:] = [sum(sizes[:place]) if place == maps[0] else 0, sum(sizes[place + 1 : following])]
            part = parts[place]
            padded.append(network.insert(node, aten.pad.default, part, around) if any(around) else part)
        joined = padded[0] if len(padded) == 1 else network.insert(node, aten.cat.default, padded, dim)
        pieces = [
            torch.zeros(part.meta["val"].shape) if value is None else value.float()
            for part, value in zip(parts, values, strict=True)
        ]
        first = next(part for number, part in enumerate(parts) if number not in maps)
        constant = network.constant(node, str(first.target), torch.cat(pieces, dim))
        network.put(node, network.insert(node, aten.add.Tensor, joined, constant))
