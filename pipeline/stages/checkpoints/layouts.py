"""Layouts of checkpoints: how projects name the same layers, and their names turned into ours.

Ours are torchvision's: ``features``, one flat list of blocks, and ``classifier``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

_EXPANDED = ("0.0", "0.1", "1.0", "1.1", "2", "3")
"""Places in a block of expansion, depthwise convolution and projection, each with its BatchNorm behind it."""
_PLAIN = ("0.0", "0.1", "1", "2")
"""The same without the expansion."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of one project.

    Attributes:
        project: whose they are.
        stem: of the first convolution, by which the layout is known.
        stem_norm: of its BatchNorm.
        head: of the last convolution.
        head_norm: of its BatchNorm.
        classifier: of the linear layer.
        block: pattern of what stands before the names in a block; the numbers in it give the order of the blocks.
        expanded: names in a block, in the order of `_EXPANDED`.
        plain: names in a block without an expansion, in the order of `_PLAIN`.
        padding: of the only networks that have this layout; None where there are several.
    """

    project: str
    stem: str
    stem_norm: str
    head: str
    head_norm: str
    classifier: str
    block: str
    expanded: tuple[str, ...]
    plain: tuple[str, ...]
    padding: str | None = None


LAYOUTS = (
    # timm's MobileNetV2 and EfficientNet-Lite
    Layout(
        project="timm",
        stem="conv_stem",
        stem_norm="bn1",
        head="conv_head",
        head_norm="bn2",
        classifier="classifier",
        block=r"blocks\.(\d+)\.(\d+)\.",
        expanded=("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"),
        plain=("conv_dw", "bn1", "conv_pw", "bn2"),
    ),
    # efficientnet-lite-pytorch, with weights from TensorFlow; it pads as TensorFlow does
    Layout(
        project="efficientnet-lite-pytorch",
        stem="_conv_stem",
        stem_norm="_bn0",
        head="_conv_head",
        head_norm="_bn1",
        classifier="_fc",
        block=r"_blocks\.(\d+)\.",
        expanded=("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
        plain=("_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
        padding="tensorflow",
    ),
)


def layout_of(state: Mapping[str, torch.Tensor]) -> Layout | None:
    """The layout of a state dict that is not ours."""
    return next((layout for layout in LAYOUTS if f"{layout.stem}.weight" in state), None)


def layers_of(state: Mapping[str, torch.Tensor], layout: Layout) -> dict[str, str]:
    """Our names of the layout's layers, by its own."""
    found = {key: match for key in state if (match := re.match(layout.block, key)) is not None}
    order = sorted({tuple(map(int, match.groups())) for match in found.values()})
    last = f"features.{len(order) + 1}"
    ends = {layout.stem: "features.0.0", layout.stem_norm: "features.0.1", layout.head: f"{last}.0",
            layout.head_norm: f"{last}.1", layout.classifier: "classifier.1"}  # fmt: skip
    parts: dict[str, str] = {}
    only_expanded = set(layout.expanded) - set(layout.plain)
    for match in found.values():
        is_expanded = any(f"{match.group()}{name}.weight" in state for name in only_expanded)
        names = zip(layout.expanded, _EXPANDED, strict=True) if is_expanded else zip(layout.plain, _PLAIN, strict=True)
        number = order.index(tuple(map(int, match.groups()))) + 1
        parts |= {match.group() + name: f"features.{number}.conv.{place}" for name, place in names}
    return ends | parts


def renamed(key: str, layers: Mapping[str, str]) -> str:
    """A tensor's name with that of its layer in the place of the one that it has; as it is, where the layer is none of these."""
    layer, _, rest = key.rpartition(".")
    return f"{layers[layer]}.{rest}" if layer in layers else key
