"""Fold: the network in its canonical form, and the input's normalization in its stem.

The app hands over bytes. Normalizing them in the graph costs half the latency of a small int8 network, so the
stem does it. With ``p`` the pixel and ``g`` one grey level for all channels::

    (p / 255 - mean_c) / std_c  =  (p - g) / (255 std_c)  +  (g - 255 mean_c) / (255 std_c)

The first term is a scale on the weights; where the model takes B, G, R or grey, so is the mixture of R, G and B that each
of its channels is. The second is a constant, carried by the alpha channel, which is 255 in
every opaque bitmap and so ``255 - g`` after the subtraction: a plain bias would be wrong at the borders, where
the convolution pads with zeros and the normalized image is padded too. A zero is the grey level for colour and
alpha alike, so the padding stays exact, however many zeros are on each side.

Where the network does not begin with one convolution that pads with zeros, a 1x1 convolution from 4 channels to those of
the model does the same before it, in the graph.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from ..errors import ConversionError
from ..program import CHANNELS, PAD, InputContract, Output, normalized
from .canonical import canonical
from .canonical.network import convolution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .canonical.network import Network


Result = torch.Tensor | tuple[torch.Tensor, ...]
"""What a model gives: one output, or several."""


class Normalized(nn.Module):
    """A model on normalized channels, behind the explicit arithmetic of the input contract.

    Args:
        channels: a key of `CHANNELS`.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], channels: str = "rgb") -> None:
        super().__init__()
        self.model, self.mean, self.std, self.channels = model, tuple(mean), tuple(std), channels

    def forward(self, pixels: torch.Tensor, *tensors: torch.Tensor) -> Result:
        """``(N, H, W, 4)`` uint8 RGBA, and what else the model takes -> its outputs."""
        colour = pixels[..., :3].permute(0, 3, 1, 2).to(torch.float32) / 255
        found = tree_leaves(self.model(normalized(colour, self.channels, self.mean, self.std), *tensors))
        other = [type(one).__name__ for one in found if not isinstance(one, torch.Tensor)]
        if other or not found:
            raise ConversionError(
                f"the model gives {', '.join(other) or 'nothing'}{' beside tensors' if other and len(other) < len(found) else ''}: "
                "a tensor, or several in a tuple or a dictionary, are wanted"
            )
        return found[0] if len(found) == 1 else tuple(found)


class Shipped(nn.Module):
    """A folded model on the bytes that the app hands over.

    Attributes:
        outputs: what it gives, without steps.
        normalize: from bytes less grey to normalized channels, where the model's first layer does not do that itself.
    """

    def __init__(
        self, model: nn.Module, grey: int, outputs: tuple[Output, ...], normalize: nn.Conv2d | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs
        self.normalize = normalize
        self.grey = float(grey)  # an integer would reach Core ML as a constant of its own, with a cast outside

    def forward(self, pixels: torch.Tensor, *tensors: torch.Tensor) -> Result:
        """``(N, H, W, 4)`` uint8 RGBA, and what else the model takes -> its outputs."""
        given = (pixels.to(torch.float32) - self.grey).permute(0, 3, 1, 2)
        outputs: Result = self.model(given if self.normalize is None else self.normalize(given), *tensors)
        return outputs


def fold(model: nn.Module, contract: InputContract, names: Sequence[str] = ()) -> Shipped:
    """A folded copy in evaluation mode, in canonical form.

    Args:
        names: of the outputs, in order; the model's own where there are none.

    Raises:
        ConversionError: a part of the network is written in a way that no rewrite knows, or the names are not as many as the outputs.
    """
    count = len(CHANNELS[contract.channels])
    examples = [torch.zeros(1, count, contract.height, contract.width)]
    examples += [torch.zeros(1, *tensor.shape) for tensor in contract.tensors]
    network = canonical(deepcopy(model).eval() if model.training else model, *examples)
    stem, normalize = _stem(network), None
    if stem is not None:
        path = str(stem.args[1].target)  # type: ignore[union-attr]
        network.values[path] = _on_bytes(network.values[path], contract).float()
    else:
        normalize = nn.Conv2d(4, count, 1)
        normalize.weight = nn.Parameter(_on_bytes(torch.eye(count).view(count, count, 1, 1), contract).float())
        nn.init.zeros_(normalize.bias)  # type: ignore[arg-type]
    outputs = _renamed(network.outputs, names)
    return Shipped(network.built(), contract.grey, outputs, normalize).eval().requires_grad_(False)


def _renamed(outputs: tuple[Output, ...], names: Sequence[str]) -> tuple[Output, ...]:
    if names and len(names) != len(outputs):
        found = ", ".join(f"'{one.name}' {one.shape}" for one in outputs)
        raise ConversionError(
            f"{len(names)} outputs are named ({', '.join(names)}), and the model gives {len(outputs)}: {found}. One [[output]] "
            "names each, in this order"
        )
    return tuple(replace(one, name=name) for one, name in zip(outputs, names, strict=True)) if names else outputs


def _stem(network: Network) -> Node | None:
    """The one convolution that reads the image, perhaps behind zeros around it; None where there is no such."""
    node = network.input
    while len(node.users) == 1:
        (user,) = node.users
        if user.target == torch.ops.aten.conv2d.default and user.args[0] is node:
            is_alone = len(user.args[1].users) == 1  # type: ignore[union-attr]
            return user if is_alone and convolution(user)[3] == 1 else None
        if not _is_zeros(user):
            return None
        node = user
    return None


def _is_zeros(node: Node) -> bool:
    """Whether a node puts zeros around a map."""
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value", None)
    return node.target == PAD and mode == "constant" and not value


def _on_bytes(weight: torch.Tensor, contract: InputContract) -> torch.Tensor:
    """A weight ``(out, C, h, w)`` that reads normalized channels -> ``(out, 4, h, w)`` float64, which reads bytes less
    grey."""
    mean = torch.tensor(contract.mean, dtype=torch.float64).view(1, -1, 1, 1)
    std = torch.tensor(contract.std, dtype=torch.float64).view(1, -1, 1, 1)
    scaled = weight.double() / (255 * std)
    shares = torch.tensor(CHANNELS[contract.channels], dtype=torch.float64)
    colour = torch.einsum("ochw,ck->okhw", scaled, shares)
    shift = (scaled * (contract.grey - 255 * mean)).sum(1, keepdim=True) / (255 - contract.grey)
    return torch.cat([colour, shift], 1)
