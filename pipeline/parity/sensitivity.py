"""Sensitivity: where the bits are lost, layer by layer.

Each layer of the quantized reference is measured twice on the output's SNR against the float model: with this layer
alone quantized, and with everything but this layer quantized. The first says what the layer costs by itself, the
second what keeping it in float would give back.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Interpreter, Node

from ..data import Images
from ..errors import VerifyError
from ..program import Output, Program, inputs, module_path, packed
from ..program import layers as layers_module
from ..saying import Say
from . import metrics

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule

PICTURE, TABLE = "sensitivity.png", "sensitivity.csv"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer, its kind, and SNR in dB of the outputs against the float model.

    Attributes:
        alone_db: with this layer quantized and all others in float.
        without_db: with this layer in float and all others quantized.
    """

    name: str
    kind: str
    alone_db: float
    without_db: float


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """All layers in the order of the data, and SNR in dB of the model with all of them quantized."""

    layers: tuple[Layer, ...]
    all_db: float
    images: int


@dataclass(frozen=True)
class _Unquantized:
    """What a quantizer that is switched off gives to its dequantize."""

    values: torch.Tensor


def measure(program: Program, images: Images, say: Say) -> Sensitivity:
    """Measure every layer on images ``(N, H, W, 4)`` uint8 RGBA."""
    return measure_layers(program.quantized, program.tuned, program.outputs, images, say)


def measure_layers(
    quantized: GraphModule, tuned: nn.Module, outputs: Sequence[Output], images: Images, say: Say
) -> Sensitivity:
    """The same for a quantized graph and the float module that it was made from; of several outputs the worst counts.

    A layer is an operation with what is quantized of it: its weight, and its output.
    """
    owners = layers_module.owners(quantized)
    kinds = dict(owners.values())
    names = list(kinds)
    evaluate = _Switched(quantized, tuned, {node: name for node, (name, _) in owners.items()})
    reference = evaluate.outputs(images, ())
    layers = []
    for number, name in enumerate(names, 1):
        alone = metrics.snr_db(reference, evaluate.outputs(images, (name,)), outputs)
        without = metrics.snr_db(
            reference, evaluate.outputs(images, [other for other in names if other != name]), outputs
        )
        layers.append(Layer(name=name, kind=kinds[name], alone_db=alone, without_db=without))
        say(f"sensitivity: {name}  alone {alone:.1f} dB, without {without:.1f} dB", (number, len(names)))
    return Sensitivity(
        layers=tuple(layers),
        all_db=metrics.snr_db(reference, evaluate.outputs(images, names), outputs),
        images=len(images),
    )


def files(found: Sensitivity) -> dict[str, str | bytes]:
    """``sensitivity.csv`` and ``sensitivity.png``, by name."""
    from matplotlib.figure import Figure

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "kind", "alone_db", "without_db"])
    writer.writerows([x.name, x.kind, f"{x.alone_db:.2f}", f"{x.without_db:.2f}"] for x in found.layers)

    figure = Figure(figsize=(9, 2 + 0.19 * len(found.layers)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(found.layers))
    left.barh(rows, [min(x.alone_db, 100.0) for x in found.layers], color="tab:blue")
    left.set(xlabel="this layer alone quantized: SNR in dB", yticks=rows, ylim=(-1, len(rows)))
    left.set_yticklabels([x.name for x in found.layers], fontsize=6)
    right.barh(rows, [x.without_db - found.all_db for x in found.layers], color="tab:orange")
    right.set(xlabel=f"only this layer in float: gain over {found.all_db:.1f} dB")
    left.invert_yaxis()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    return {TABLE: text.getvalue(), PICTURE: picture.getvalue()}


def read(table: Path) -> tuple[Layer, ...]:
    """The layers of a ``sensitivity.csv``, in its order.

    Raises:
        VerifyError: it is no such table.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
        return tuple(
            Layer(name=r["layer"], kind=r["kind"], alone_db=float(r["alone_db"]), without_db=float(r["without_db"]))
            for r in rows
        )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise VerifyError(f"cannot read '{table}': {error}. `twinkeel sensitivity` makes it.") from error


class _Switched(Interpreter):
    """The quantized graph with quantizers on for chosen layers, and the float model's weights for all others."""

    def __init__(self, module: GraphModule, tuned: nn.Module, owners: dict[Node, str]) -> None:
        super().__init__(module)
        self._float = dict(tuned.named_parameters())
        self._owners = owners
        self._active: Collection[str] = ()

    def outputs(self, images: Images, active: Collection[str]) -> NDArray[np.float32]:
        self._active = active
        with torch.no_grad():
            outputs: NDArray[np.float32] = packed(self.run(*inputs(images)), len(images)).numpy()
        return outputs

    def run_node(self, n: Node) -> Any:
        name = str(n.target)
        if n.op == "call_module":  # a guard on the batch size of the export
            return None
        is_off = n in self._owners and self._owners[n] not in self._active
        if is_off and n.op == "get_attr":
            return self._float[name]
        if is_off and "dequantize_per_" in name and n.args[0].op == "get_attr":  # type: ignore[union-attr]
            return self._float[f"{module_path(next(iter(n.users)))}.weight"]
        if is_off and "quantize_per_tensor" in name:
            return _Unquantized(self.fetch_args_kwargs_from_env(n)[0][0])  # type: ignore[arg-type]
        if "dequantize_per_tensor" in name:
            args, _ = self.fetch_args_kwargs_from_env(n)
            if isinstance(args[0], _Unquantized):
                return args[0].values
        return super().run_node(n)
