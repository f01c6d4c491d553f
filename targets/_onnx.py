"""ONNX, run by onnxruntime, for both platforms."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.program import LayerValue, Loaded, Program, Trace, example_inputs

from . import _layers
from .runtimes import onnxruntime as runtime
from .runtimes import packed
from .runtimes.onnxruntime import session as _session

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "int8")
KERNELS = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "torch")
EVIDENCE = "runtime"
RUNTIME = runtime
REFERENCES = {"fp32": "fp32", "int8": "int8-onnxruntime"}
READS: tuple[str, ...] = ()

_LAYERS = {
    "Conv": "convolution",
    "FusedConv": "convolution",
    "Add": "addition",
    "GlobalAveragePool": "mean",
    "Gemm": "linear",
    "QGemm": "linear",
}
"""Kinds of layers by operator, with or without ``QLinear`` in front."""
_PASSED = ("QuantizeLinear", "Clip", "Relu", "Transpose", "ReorderOutput")
"""What may stand between a layer and the value that it gives."""


def build(program: Program, precision: str, out: Path) -> Path:
    """Export with torch's dynamo exporter; int8 becomes QuantizeLinear / DequantizeLinear pairs, uint8 between layers."""
    import onnx
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    _describe_operators_once()
    exported = torch.onnx.export(
        program.reference(precision),
        example_inputs(program.contract),
        dynamo=True,
        verbose=False,
        input_names=["pixels", *(tensor.name for tensor in program.contract.tensors)],
        output_names=list(program.names),
    )
    model = exported.model_proto  # type: ignore[union-attr]
    _drop_debug_metadata(model)
    if precision == "int8":
        _make_means_pools(model.graph)
        _make_activations_unsigned(model.graph)
        _make_weights_unsigned(model.graph)
    onnx.checker.check_model(model)
    out.write_bytes(model.SerializeToString(deterministic=True))
    return out


def _describe_operators_once() -> None:
    """torch 2.13 has onnxscript describe its five hundred operators at every export, which takes most of a second; they do not change."""
    from torch.onnx._internal.exporter import _registration

    known: Any = getattr(_registration, "onnxscript_apis", None)
    described = getattr(known, "get_torchlib_ops", None)
    if described is not None and not hasattr(described, "cache_info"):
        known.get_torchlib_ops = functools.cache(described)


def _make_means_pools(graph: Any) -> None:
    """A mean over all pixels becomes GlobalAveragePool, which is the same.

    onnxruntime 1.32 has integers for that alone (QLinearGlobalAveragePool). A ReduceMean stays a float sum between quantizers,
    whose order, and with it which way a tie goes, is the processor's: of a network with 16 pixels at its end one logit in
    forty differed from the next machine's.
    """
    import onnx

    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or not _attribute(node, "keepdims", 1):
            continue
        if sorted(int(axis) % 4 for axis in stored[node.input[1]]) == [2, 3]:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]
    read = {name for node in graph.node for name in node.input}
    for name in stored.keys() - read:
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))


def _make_activations_unsigned(graph: Any) -> None:
    """Store activations as uint8, each value and its zero point 128 higher: the same numbers.

    onnxruntime 1.32 fuses every convolution and addition between uint8 values. Between int8 ones it leaves those
    without an activation behind them in float: at width 1.0 and 224 pixels 15 of 52 convolutions and all additions,
    which takes 1.6 times as long. Constants that are added or multiplied are stored as the maps beside them: fused is what has
    one type.
    """
    import onnx

    stored = {tensor.name: tensor for tensor in graph.initializer}
    unsigned: dict[str, str] = {}

    def moved(name: str) -> str:
        if name not in unsigned:
            values = onnx.numpy_helper.to_array(stored[name]).astype(np.int16) + 128
            unsigned[name] = f"{name}_unsigned"
            graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.uint8), unsigned[name]))
        return unsigned[name]

    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    activations = {node.output[0] for node in quantizers}
    readers = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in activations]
    for node in (*quantizers, *readers):
        node.input[2] = moved(node.input[2])
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]:
        users = {user.op_type for user in graph.node if node.output[0] in user.input}
        if users <= {"Add", "Mul"} and stored[node.input[0]].data_type == onnx.TensorProto.INT8:
            node.input[0], node.input[2] = moved(node.input[0]), moved(node.input[2])
    for value in graph.value_info:
        if value.name in activations:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    read = {name for node in graph.node for name in node.input}
    for name in unsigned.keys() - read:
        graph.initializer.remove(stored[name])


def _make_weights_unsigned(graph: Any) -> None:
    """Store the weights of convolutions and linear layers as uint8 with the zero point 128: the same numbers.

    On x86 without VNNI, onnxruntime 1.32.0 (as before; its issues 5849 and 6004) multiplies uint8 by int8 with
    `vpmaddubsw`, which adds two products in 16 bits and saturates: a digits model has 18 % of its outputs equal, at 5 dB.
    uint8 by uint8 is widened first and right everywhere, with the same fused operators (`GemmU8U8Dispatch` in
    `mlas/lib/platform.cpp`). On arm64 with dot products both go to the same kernels. The price is paid on x86 with VNNI,
    whose instructions only take uint8 by int8: with one thread, at width 1.0 and 224 pixels, 3.6 ms instead of 1.8.

    What else was measured: int8 activations lose the fusion and saturate as well; weights of 7 bits are as fast as
    before, but other numbers than the other runtimes have (1.6 dB less on the digits model); no layer is free of sums
    that can saturate. Depthwise convolutions stay int8: their kernels widen, and with uint8 the whole takes 2.4 times as
    long. The session option ``session.x64quantprecision`` asks for the same where int8 weights are opened: a file cannot
    set it, and 1.32.0 does not open these files under it, with or without unsigned weights.
    """
    import onnx

    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    unsigned: set[str] = set()
    for layer in graph.node:
        source = makers.get(layer.input[1]) if layer.op_type in ("Conv", "Gemm", "MatMul") else None
        while source is not None and source.op_type == "Transpose":
            source = makers.get(source.input[0])
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] not in stored:
            continue
        weight = stored[source.input[0]]
        is_depthwise = layer.op_type == "Conv" and _attribute(layer, "group", 1) == weight.dims[0]
        if weight.data_type != onnx.TensorProto.INT8 or is_depthwise:
            continue
        if weight.name not in unsigned:  # layers that share weights share the steps, whatever their scales are
            values = onnx.numpy_helper.to_array(weight).astype(np.int16) + 128
            zero_points = np.full(list(stored[source.input[1]].dims), 128, np.uint8)
            unsigned.add(weight.name)
            for name, made in (("", values.astype(np.uint8)), ("_zero_point", zero_points)):
                graph.initializer.append(onnx.numpy_helper.from_array(made, f"{weight.name}{name}_unsigned"))
        source.input[0] = f"{weight.name}_unsigned"
        source.input[2:] = [f"{weight.name}_zero_point_unsigned"]
    read = {name for node in graph.node for name in node.input}
    for name in stored.keys() - read:
        graph.initializer.remove(stored[name])


def load(path: Path) -> Loaded:
    return Loaded(run=runtime.load(path))


def trace(path: Path) -> Trace:
    """The layers of an int8 artifact, by a copy of the graph that onnxruntime makes of it, with more outputs.

    The artifact itself with more outputs is another graph: onnxruntime 1.32 turns the map around for each of them, 25 times
    instead of once in a small MobileNetV3.
    """
    import onnx

    graph = _optimized(path)
    # onnxruntime puts branches that do not wait for each other into an order of its own
    written = {
        name: place for place, node in enumerate(onnx.load(path).graph.node) for name in (node.name, *node.output)
    }
    found = _layers_of(graph.graph)
    layers = dict(sorted(found.items(), key=lambda item: written[item[0]])) if found.keys() <= written.keys() else found
    count = len(graph.graph.output)
    names = [one.name for one in graph.graph.input]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in layers)
    session = _session(graph.SerializeToString(), is_optimized=True)

    def opened(*inputs: NDArray[Any]) -> tuple[NDArray[np.float32], list[LayerValue]]:
        given = session.run(None, dict(zip(names, inputs, strict=True)))
        outputs, values = packed(given[:count]), given[count:]
        return outputs, [_value(*layer, value) for layer, value in zip(layers.values(), values, strict=True)]

    return _layers.checked(opened, load(path).run, path)


def operators(path: Path) -> dict[str, int]:
    import onnx

    count: dict[str, int] = {}
    for node in onnx.load(path).graph.node:
        count[node.op_type] = count.get(node.op_type, 0) + 1
    return dict(sorted(count.items()))


def _optimized(path: Path) -> Any:
    """The graph that onnxruntime runs in a model's place."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / path.name
        _session(path.read_bytes(), save=saved)
        return onnx.load(saved)


def _layers_of(graph: Any) -> dict[str, tuple[str, bool]]:
    """Name of each layer's quantized output, in order of execution: the layer's kind, and whether it is NHWC."""
    makers = {name: node for node in graph.node for name in node.output}
    found = {}
    for node in graph.node:
        layer = node if node.op_type.startswith("Q") else None
        while layer is not None and layer.op_type in _PASSED:
            layer = makers.get(layer.input[0])
        if layer is not None and layer.op_type.removeprefix("QLinear") in _LAYERS:
            kind = _LAYERS[layer.op_type.removeprefix("QLinear")]
            kind = "depthwise" if kind == "convolution" and _attribute(layer, "group", 1) > 1 else kind
            found[node.output[0]] = (kind, _is_channels_last(node.output[0], makers))
    return found


def _is_channels_last(name: str, makers: Mapping[str, Any]) -> bool:
    """Whether a value behind a convolution is NHWC, which onnxruntime turns it to where its kernels want that."""
    node = makers.get(name)
    if node is None or "Conv" in node.op_type:
        return node is not None and bool(_attribute(node, "channels_last", 0))
    if node.op_type == "Transpose":
        return bool(_attribute(node, "perm", None) == [0, 2, 3, 1])
    return _is_channels_last(node.input[0], makers)


def _attribute(node: Any, name: str, default: Any) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _value(kind: str, is_channels_last: bool, steps: NDArray[Any]) -> LayerValue:
    """onnxruntime makes uint8 of int8 where that is faster."""
    signed = _layers.signed(steps)
    return LayerValue(kind=kind, steps=_layers.nchw(signed) if is_channels_last else signed)


def _drop_debug_metadata(model: object) -> None:
    """The exporter writes stack traces, with paths of the building machine, into every node."""
    graph = model.graph  # type: ignore[attr-defined]
    for item in (
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        del item.metadata_props[:]  # type: ignore[attr-defined]
    for node in graph.node:
        node.doc_string = ""
