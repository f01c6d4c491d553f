"""A program on disk: weights as safetensors, quantized graphs as torch.export archives.

The float modules follow from the weights, so only the quantized graphs are kept beside them. torch trusts its archives
when it reads them, as twinkeel trusts who may write to its store.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConversionError
from ..program import InputContract, Output, Program

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.fx import GraphModule

    from ..program import Compressed
    from . import fold

GRAPHS = ("quantized", "unfolded")
DESCRIPTIVE = ("labels", "about", "minimum_ios")
"""What a program says beside its numbers. A target's ``READS`` names what it writes into its artifacts."""


def write_graph(graph: GraphModule, examples: Sequence[torch.Tensor], path: Path) -> None:
    """One file, the same bytes from the same graph: no paths of this machine, no times.

    Args:
        examples: of each input one of the graph's shape and dtype.
    """
    import torch

    exported = torch.export.export(_bare(graph), tuple(examples), strict=False)
    for node in exported.graph.nodes:
        for key in ("stack_trace", "from_node", "custom"):
            node.meta.pop(key, None)
    content = io.BytesIO()
    torch.export.save(exported, content)
    path.write_bytes(content.getvalue())


def read_graph(content: bytes) -> GraphModule:
    """The graph in what `write_graph` wrote."""
    import torch
    import torch.ao.quantization.fx._decomposed  # the operators that the graph calls

    graph: GraphModule = torch.export.load(io.BytesIO(content)).module()  # type: ignore[assignment]
    return graph


def write_compressed(found: Compressed) -> bytes:
    """Safetensors, the same bytes from the same weights: what is stored of each weight, and biases."""
    import numpy as np
    from safetensors.numpy import save

    from ..program import compress

    content, bits = {}, {}
    for name, layer in compress.weighted(found.module):
        packed = found.weights.get(name)
        content[f"{name}.bias"] = layer.get_parameter("bias").numpy().astype(np.float16)
        if packed is None:
            content[f"{name}.dense"] = layer.weight.numpy().astype(np.float16)
            continue
        bits[name] = packed.bits
        content[f"{name}.stored"] = np.ascontiguousarray(packed.stored)
        if packed.palettes is not None:
            content[f"{name}.palettes"] = np.ascontiguousarray(packed.palettes)
        elif packed.scale is not None:
            content[f"{name}.scale"] = np.ascontiguousarray(packed.scale)
    return bytes(save(content, metadata={"bits": json.dumps(bits, sort_keys=True)}))


def read_compressed(content: bytes, folded: nn.Module) -> Compressed:
    """What `write_compressed` wrote.

    Args:
        folded: the module whose weights were compressed.
    """
    from safetensors.numpy import load

    from ..program import compress

    stored = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    weights = {
        name: compress.unpacked(
            stored[f"{name}.stored"], stored.get(f"{name}.scale"), stored.get(f"{name}.palettes"), number
        )
        for name, number in json.loads(header["__metadata__"]["bits"]).items()
    }
    names = [name for name, _ in compress.weighted(folded)]
    dense = {name: weights[name].dense if name in weights else stored[f"{name}.dense"] for name in names}
    biases = {name: stored[f"{name}.bias"] for name in names}
    return compress.Compressed(module=compress.with_weights(folded, dense, biases), weights=weights)


def _bare(graph: GraphModule) -> GraphModule:
    """A copy without the parameters that no node reads: the float weights behind the folded ones."""
    from copy import deepcopy

    bare = deepcopy(graph)
    bare.graph.eliminate_dead_code()
    read = {str(node.target) for node in bare.graph.nodes if node.op == "get_attr"}
    for name, _ in [*bare.named_parameters(), *bare.named_buffers()]:
        if name not in read:
            owner, _, leaf = name.rpartition(".")
            delattr(bare.get_submodule(owner), leaf)
    bare.recompile()
    return bare


_FOLDED: dict[str, fold.Shipped] = {}
"""The module that was folded last, by its key: tracing a network takes longer than all else that loading it does."""


class SavedProgram(Program):
    """A program whose modules are loaded when they are first asked for.

    Args:
        model: with the weights, in evaluation mode.
        names: of the outputs; the model's own where there are none.
        read: gives the content of a file of the saved program by its name.
        settings: those of `DESCRIPTIVE` that may be read.
        key: of the model, its contract and its names: programs of one key that are loaded one after the other are folded once.
    """

    def __init__(
        self,
        model: nn.Module,
        contract: InputContract,
        names: Sequence[str],
        read: Callable[[str], bytes],
        settings: Mapping[str, Any],
        key: str = "",
    ) -> None:
        self.__dict__.update(
            settings, name="model", contract=contract, _model=model, _names=names, _read=read, _key=key
        )

    @cached_property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        scales = json.loads(self._read("program.json"))["output_scales"]
        return tuple(replace(one, scale=scale) for one, scale in zip(self.folded.outputs, scales, strict=True))

    @cached_property
    def original(self) -> nn.Module:  # type: ignore[override]
        from . import fold

        return fold.Normalized(self._model, self.contract.mean, self.contract.std, self.contract.channels)

    @cached_property
    def folded(self) -> fold.Shipped:  # type: ignore[override]
        from . import fold

        if self._key and self._key in _FOLDED:
            return copy.deepcopy(_FOLDED[self._key])
        folded = fold.fold(self._model, self.contract, self._names)
        if self._key:
            _FOLDED.clear()
            _FOLDED[self._key] = copy.deepcopy(folded)  # converters change what they are given
        return folded

    @cached_property
    def w8(self) -> Compressed:
        return read_compressed(self._read("w8.safetensors"), self.folded)

    @cached_property
    def w4(self) -> Compressed:
        return read_compressed(self._read("w4.safetensors"), self.folded)

    @cached_property
    def quantized(self) -> GraphModule:  # type: ignore[override]
        return read_graph(self._read("quantized.pt2"))

    @cached_property
    def quantized_unfolded(self) -> GraphModule:  # type: ignore[override]
        return read_graph(self._read("unfolded.pt2"))

    def __getattr__(self, name: str) -> Any:
        if name in DESCRIPTIVE:
            raise ConversionError(
                f"the target reads the program's '{name}', which its READS does not name: a change of it would go "
                f"unnoticed. Add '{name}' to READS in the target's module."
            )
        raise AttributeError(name)
