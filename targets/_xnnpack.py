"""XNNPACK's part of an ExecuTorch program: its graph read, changed and written again."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.reading import read_json

from . import _pte

_LAYERS = {
    "XNNConv2d": "convolution",
    "XNNDepthwiseConv2d": "depthwise",
    "XNNAdd": "addition",
    "XNNGlobalAvgPooling2d": "mean",
    "XNNFullyConnected": "linear",
}
_PASSED = ("XNNConvert", "XNNClamp")
"""Between a layer that is kept in float and its quantized output."""

_EXTERNAL_OUTPUT = 2
"""``XNN_VALUE_FLAG_EXTERNAL_OUTPUT`` in `xnnpack.h`."""
_ALIGNMENT = 16
MAX_GRAPH_BYTES = 128 * 2**20
"""Of the graph as JSON; that of MobileNetV2 has 0.2 MB."""
_SECONDS = 60
_LARGEST = 2**28
"""Values of one layer."""


def with_layers(path: Path) -> tuple[bytes, list[str]]:
    """A copy of an int8 program that gives the value of each layer behind its outputs, and the layers' kinds.

    Raises:
        ConversionError: the program is more than one call of XNNPACK.
    """
    from executorch.exir._serialize._program import serialize_pte_binary
    from executorch.exir.schema import DelegateCall

    file = _pte.read_program(path)
    plan = file.program.execution_plan[0]
    calls = [instruction.instr_args for instruction in plan.chains[0].instructions]
    if len(calls) != 1 or not isinstance(calls[0], DelegateCall) or plan.delegates[0].id != "XnnpackBackend":
        raise ConversionError(f"'{path}' is more than one call of XNNPACK, so its layers cannot be looked at")
    payload = file.program.backend_delegate_data[plan.delegates[0].processed.index]
    graph, constants = read_graph(bytes(payload.data))
    kinds, shapes = _give_layers(graph)
    calls[0].args = [*calls[0].args, *_add_outputs(plan, shapes)]
    payload.data = written_graph(graph, constants)
    return bytes(serialize_pte_binary(file)), kinds


def nodes(payload: bytes) -> dict[str, int]:
    """How often each node occurs in the graph of a payload: ``Conv2d``, ``Add``."""
    count: dict[str, int] = {}
    for node in read_graph(payload)[0]["xnodes"]:
        name = str(node["xnode_union_type"]).removeprefix("XNN")
        count[name] = count.get(name, 0) + 1
    return dict(sorted(count.items()))


def _give_layers(graph: Any) -> tuple[list[str], list[list[int]]]:
    """Make external outputs of the values of a graph's int8 layers; kind and shape of each, in order of execution.

    The number of an external value is its place among the arguments of the delegate's call.
    """
    values = {}
    for value in graph["xvalues"]:
        described = value["xvalue_union"]
        tensor = described.get("tensor_value", described)
        values[tensor["id_out"]] = tensor
    found = []
    in_float: dict[int, str] = {}
    for node in graph["xnodes"]:
        name, content = node["xnode_union_type"], node["xnode_union"]
        kind = _LAYERS.get(name) or (in_float.get(content.get("input_id")) if name in _PASSED else None)
        if kind is not None and values[content["output_id"]]["datatype"] == "xnn_datatype_qint8":
            found.append((kind, values[content["output_id"]]))
        elif kind is not None:
            in_float[content["output_id"]] = kind
    for number, (_, tensor) in enumerate(found, graph["num_externs"]):
        tensor["external_id"] = number
        tensor["flags"] |= _EXTERNAL_OUTPUT
    graph["output_ids"] += [tensor["id_out"] for _, tensor in found]
    graph["num_externs"] += len(found)
    return [kind for kind, _ in found], [tensor["dims"] for _, tensor in found]


def _add_outputs(plan: Any, shapes: list[list[int]]) -> list[int]:
    """Give a method int8 outputs behind its own, in memory behind all that it plans; their numbers among its values."""
    from executorch.exir.scalar_type import ScalarType
    from executorch.exir.schema import EValue

    first = len(plan.values)
    for shape in shapes:
        if min(shape, default=1) < 0 or math.prod(shape) > _LARGEST:
            raise ConversionError(f"a layer of shape {shape[:10]} is larger than {_LARGEST:,} values")
        tensor = deepcopy(plan.values[plan.outputs[0]].val)
        tensor.scalar_type, tensor.sizes, tensor.dim_order = ScalarType.CHAR, shape, list(range(len(shape)))
        memory = tensor.allocation_info.memory_id
        tensor.allocation_info.memory_offset_low = plan.non_const_buffer_sizes[memory]
        plan.non_const_buffer_sizes[memory] += math.prod(shape) + -math.prod(shape) % _ALIGNMENT
        plan.values.append(EValue(val=tensor))
    added = list(range(first, len(plan.values)))
    plan.outputs = [*plan.outputs, *added]
    return added


def drop_undone_transposes(graph: Any) -> None:
    """Take each transpose that undoes the one before it out of an ``XNNGraph``, and the first where nothing reads it.

    The values, their types and the other operations stay.
    """
    makers = {node.xnode_union.output_id: node for node in graph.xnodes if _is_transpose(node)}
    for node in [n for n in graph.xnodes if _is_transpose(n)]:
        second = node.xnode_union
        if second.input_id not in makers or second.output_id in graph.output_ids:
            continue
        first = makers[second.input_id].xnode_union
        if [first.perm[axis] for axis in second.perm] != list(range(len(first.perm))):
            continue
        for reader in graph.xnodes:
            _read_instead(reader.xnode_union, second.output_id, first.input_id)
        graph.xnodes.remove(node)
        if first.output_id not in graph.output_ids and not any(
            _reads(n.xnode_union, first.output_id) for n in graph.xnodes
        ):
            graph.xnodes.remove(makers.pop(first.output_id))


def pad_in_convolutions(graph: Any) -> None:
    """Put zeros around a map, of an operation of an ``XNNGraph`` of their own, into the convolutions that read it.

    XNNPACK's convolutions pad each side by its own number, with the zero point where they are quantized.
    """
    makers = {node.xnode_union.output_id: node for node in graph.xnodes}
    for node in graph.xnodes:
        convolution = node.xnode_union
        if type(convolution).__name__ not in ("XNNConv2d", "XNNDepthwiseConv2d"):
            continue
        maker = makers.get(convolution.input1_id)
        pad: Any = None if maker is None else maker.xnode_union
        if type(pad).__name__ != "XNNStaticConstantPad" or pad.padding_value != 0:
            continue
        (first, top, left, last), (*ends, bottom, right, end) = pad.pre_paddings, pad.post_paddings
        if any((first, last, *ends, end)):
            continue
        convolution.padding_top += top
        convolution.padding_left += left
        convolution.padding_bottom += bottom
        convolution.padding_right += right
        convolution.input1_id = pad.input_id
    for node in [n for n in graph.xnodes if type(n.xnode_union).__name__ == "XNNStaticConstantPad"]:
        value = node.xnode_union.output_id
        if value not in graph.output_ids and not any(_reads(n.xnode_union, value) for n in graph.xnodes):
            graph.xnodes.remove(node)


def _is_transpose(node: Any) -> bool:
    return type(node.xnode_union).__name__ == "XNNStaticTranspose"


def _sources(operation: Any) -> list[str]:
    """Names of the fields with the numbers of values that an operation reads."""
    return [name for name in vars(operation) if name.endswith("_id") and not name.startswith("output")]


def _reads(operation: Any, value: int) -> bool:
    return any(getattr(operation, name) == value for name in _sources(operation))


def _read_instead(operation: Any, old: int, new: int) -> None:
    for name in _sources(operation):
        if getattr(operation, name) == old:
            setattr(operation, name, new)


def read_graph(payload: bytes) -> tuple[Any, bytes]:
    """The graph of an XNNPACK payload as JSON, and the constants behind it. Floats are given as their bits."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _get_flatc_path

    try:
        header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    except ValueError as error:
        raise ConversionError(f"the payload of XNNPACK has no header: {str(error)[:300]}") from error
    end = header.flatbuffer_offset + header.flatbuffer_size
    with tempfile.TemporaryDirectory() as name:
        schema, binary = _schema(Path(name)), Path(name) / "graph.bin"
        binary.write_bytes(payload[header.flatbuffer_offset : end])
        # without --raw-binary flatc would ask for the identifier of the schema, which the payload does not have
        command = [_get_flatc_path(), "--raw-binary", "--json", "--defaults-json", "--strict-json"]
        try:
            subprocess.run(
                [*command, "-o", name, str(schema), "--", str(binary)],
                check=True,
                capture_output=True,
                timeout=_SECONDS,
                preexec_fn=_limit if os.name == "posix" else None,
            )
            graph = read_json(binary.with_suffix(".json"), MAX_GRAPH_BYTES)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ConversionError(f"the graph of XNNPACK cannot be read: {str(error)[-300:]}") from error
    return graph, payload[header.constant_data_offset :]


def _limit() -> None:
    """For flatc, which checks nothing that it reads: what it may write, and the memory it may take."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_GRAPH_BYTES, MAX_GRAPH_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (8 * MAX_GRAPH_BYTES, 8 * MAX_GRAPH_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def written_graph(graph: Any, constants: bytes) -> bytes:
    """The payload of a graph that `read_graph` gave."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_compile

    with tempfile.TemporaryDirectory() as name:
        schema, text = _schema(Path(name)), Path(name) / "graph.json"
        text.write_text(json.dumps(graph))
        _flatc_compile(name, str(schema), str(text))
        binary = text.with_suffix(".bin").read_bytes()
    start = XNNHeader.EXPECTED_LENGTH + -XNNHeader.EXPECTED_LENGTH % _ALIGNMENT
    padded = binary.ljust(len(binary) + -len(binary) % _ALIGNMENT, b"\0")
    header = XNNHeader(
        flatbuffer_offset=start,
        flatbuffer_size=len(binary),
        constant_data_offset=start + len(padded),
        constant_data_size=len(constants),
    )
    payload: bytes = header.to_bytes().ljust(start, b"\0") + padded + constants
    return payload


def _schema(folder: Path) -> Path:
    """The schema of XNNPACK payloads with whole numbers of 32 bits in place of floats: flatc writes those with six digits."""
    from importlib.resources import files

    text = files("executorch.backends.xnnpack.serialization").joinpath("schema.fbs").read_text()
    path = folder / "schema.fbs"
    path.write_text(re.sub(r"\bfloat\b", "uint", text))
    return path
