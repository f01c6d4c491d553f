"""The layers of the quantized reference by name, and what a finished folder keeps of the values inside it.

A layer is a quantized operation with its own output quantizer: a convolution with its ReLU6, a residual addition, a
mean, a linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images
from ..errors import VerifyError
from ..files import check_inside, read_json, write_json
from ..reading import plain_size, read_bytes, shown

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

    from .program import Program

SAMPLES = 2048
"""Values that are kept of each layer and image; all of a smaller layer."""
INDEX = "layers.json"
_LARGEST = 2**28
"""Values of one layer: the widest model at the highest resolution has 100 million."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the reference.

    Attributes:
        kind: convolution, depthwise, addition, mean or linear.
        shape: of its output, ``(1, C, H, W)`` or ``(1, C)``.
        scale: of one step of the output; the reference `int8-fp16` rounds it to float16.
        zero_point: the step that stands for 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What quantized references compute inside on some images.

    Attributes:
        layers: in order of execution.
        steps: by key of the reference, ``(images, values)`` int8; the `sampled` values of all layers side by side.
    """

    layers: tuple[Layer, ...]
    steps: Mapping[str, NDArray[np.int8]]

    def of(self, key: str) -> list[NDArray[np.int8]]:
        """``(images, values)`` of each layer."""
        ends = np.cumsum([len(sampled(layer.shape)) for layer in self.layers])
        return np.split(self.steps[key], ends[:-1], axis=1)


def sampled(shape: Sequence[int]) -> NDArray[np.int64]:
    """Which values of a flattened output ``(1, C, H, W)`` or ``(1, C)`` are kept: evenly spread over all of it.

    The stride has no factor in common with the size, so that the values come from all rows and columns. It is
    shorter than a channel, so that none is left out; a layer of more than `SAMPLES` channels keeps more values.
    """
    indices = _indices(shape)
    return np.arange(indices.start, indices.stop, indices.step)


def _indices(shape: Sequence[int]) -> range:
    size, plane = math.prod(shape), math.prod(shape[2:])
    stride = next(s for s in range(math.ceil(size / SAMPLES), size + 1) if math.gcd(s, size) == 1)
    return range(0, size, min(stride, max(plane - 1, 1)) if size > SAMPLES else 1)


def watch(program: Program, key: str, images: Images) -> tuple[NDArray[np.float32], Recording]:
    """Evaluate a quantized reference on images ``(N, H, W, 4)`` uint8: its packed outputs ``(N, width)``, and the `sampled`
    steps of each layer."""
    outputs = {
        node.name: (owner, node.args[1], node.args[2])
        for node, owner in owners(program.quantized).items()
        if ".quantize_per_tensor" in str(node.target) and owner[1] != "tensor"
    }
    shapes: dict[str, tuple[int, ...]] = {}
    kept: list[NDArray[np.int8]] = []

    def see(node: str, values: torch.Tensor) -> None:
        if node in outputs:
            shapes[node] = tuple(values.shape)
            kept.append(values.reshape(-1).numpy()[sampled(values.shape)].astype(np.int8))

    said = program.evaluate(key, images, see)
    layers = [
        Layer(name=name, kind=kind, shape=shapes[node], scale=float(scale), zero_point=int(zero_point))  # type: ignore[arg-type]
        for node, ((name, kind), scale, zero_point) in outputs.items()
        if node in shapes
    ]
    return said, Recording(layers=tuple(layers), steps={key: np.concatenate(kept).reshape(len(images), -1)})


def joined(recordings: Sequence[Recording]) -> Recording:
    """Recordings of the same program on the same images as one."""
    steps = {key: values for recording in recordings for key, values in recording.steps.items()}
    return Recording(layers=recordings[0].layers if recordings else (), steps=steps)


def write(recording: Recording, folder: Path, keys: Sequence[str]) -> None:
    """``layers.json``, and one file of raw int8 for each key of a reference."""
    for key in keys:
        (folder / f"layers-{key}.i8").write_bytes(recording.steps[key].tobytes())
    described = {"layers": [asdict(layer) for layer in recording.layers], "references": sorted(keys)}
    write_json(described, folder / INDEX)


def read(folder: Path, images: int) -> Recording:
    """The recording below the folder of the golden vectors.

    Raises:
        VerifyError: there is none, or a file has another size than ``layers.json`` says.
    """
    if not (folder / INDEX).is_file():
        raise VerifyError(f"'{folder}' keeps no layers of the reference: an older twinkeel made it. Build again.")
    described = read_json(folder / INDEX)
    try:
        layers = tuple(_layer(layer) for layer in described["layers"])
        size = images * sum(len(_indices(layer.shape)) for layer in layers)
        for key in described["references"]:
            check_inside(key)
            if (found := plain_size(folder / f"layers-{key}.i8")) != size:
                raise ValueError(f"'layers-{key}.i8' has {found:,} bytes, the layers {size:,}")
        steps = {
            key: np.frombuffer(read_bytes(folder / f"layers-{key}.i8", size), np.int8).reshape(images, -1)
            for key in described["references"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerifyError(
            f"the layers of the reference in '{folder}' are not whole: {str(error)[:300]}. Build again."
        ) from error
    return Recording(layers=layers, steps=steps)


def _layer(described: Any) -> Layer:
    """A layer as ``layers.json`` holds it; a ValueError where a value cannot be one's."""
    layer = Layer(**(described | {"shape": tuple(described["shape"])}))
    name = shown(layer.name)
    if not isinstance(layer.name, str) or not isinstance(layer.kind, str):
        raise ValueError(f"the name or the kind of layer '{name}' is no text")
    if not 1 <= len(layer.shape) <= 8 or not all(type(size) is int and size > 0 for size in layer.shape):
        raise ValueError(f"layer '{name}' has the shape {shown(layer.shape)}")
    if math.prod(layer.shape) > _LARGEST:
        raise ValueError(f"layer '{name}' has {math.prod(layer.shape):,} values; at most {_LARGEST:,} are known")
    if not isinstance(layer.scale, (int, float)) or not layer.scale > 0 or type(layer.zero_point) is not int:
        raise ValueError(f"layer '{name}' has the scale {shown(layer.scale)}, zero point {shown(layer.zero_point)}")
    return layer


def owners(quantized: GraphModule) -> dict[Node, tuple[str, str]]:
    """(layer, kind) of each node whose quantization belongs to one: weights, biases, quantizers of outputs.

    What belongs to no layer, the pixels and the flattened mean, has the kind ``tensor``.
    """
    import torch

    from .graph import ACTIVATIONS, WEIGHTED, module_path

    aten = torch.ops.aten
    found: dict[Node, tuple[str, str]] = {}
    named: dict[Node, tuple[str, str]] = {}
    last = "input"
    for node in quantized.graph.nodes:
        if node.target in WEIGHTED:
            last = module_path(node).removeprefix("model.")
            kind = "linear" if node.target == aten.linear.default else _convolution(node)
            named[node] = (last, kind)
            if "dequantize" in str(node.args[1].target):  # a layer that is kept in float has no quantized weight
                found[node.args[1]] = found[node.args[2]] = named[node]
        elif node.target == aten.add.Tensor:
            named[node] = (f"{last} + {'a constant' if any(map(_is_constant, node.args)) else 'residual'}", "addition")
        elif node.target == aten.mean.dim:
            named[node] = ("mean", "mean")
        elif node.target in ACTIVATIONS and node.args[0] in named:
            named[node] = named[node.args[0]]
        elif ".quantize_per_tensor" in str(node.target):
            found[node] = named.get(node.args[0], ("input" if last == "input" else "flatten", "tensor"))
    return found


def _is_constant(node: Any) -> bool:
    """Whether a value is stored, behind its dequantization or not."""
    import torch.fx

    while isinstance(node, torch.fx.Node) and "dequantize" in str(node.target):
        node = node.args[0]
    return isinstance(node, torch.fx.Node) and node.op == "get_attr"


def _convolution(node: Node) -> str:
    groups = node.args[6] if len(node.args) > 6 else 1
    return "depthwise" if groups != 1 else "convolution"
