"""An int8 .tflite file written anew: the same numbers, less beside the weights, and a shorter way to them.

litert-torch 0.10 gives each weight and each bias a scale and a 64-bit zero point per output channel, and all of the
zero points are 0. At width 1.0 they are 280 kB of a 4 MB file. Kernels and XNNPACK's delegate check that they are there,
one for each channel, but a flatbuffer may refer to the same bytes from many places.

It has no quantized input of bytes either: its only way to them is a cast and a subtraction, over four bytes a value. And
where more zeros are on one side of a map than on the other, it leaves them an operation of their own, between two that turn
the map around; in float32 it finds that these are TFLite's padding "SAME". Transposed convolutions it leaves in float.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import ConversionError

_FORCE_ALIGN = 16
"""Bytes, of the content of buffers. The schema asks for it; what is generated from it for Python does not."""
_NEAR = 1e-4
"""Of a whole step: what rounding to float32 leaves."""
_CLASS = re.compile(r"(?:\w+\.)+(?:[^\W_]+_)?")
"""Of a module in a name: ``torch.nn.modules.conv.Conv2d_0`` is the module ``0``."""


def rewrite(path: Path, grey: int, transposed: Sequence[NDArray[np.float32]] = ()) -> Path:
    """Write a file anew, in place, from what litert-torch wrote.

    - Bytes less the grey level are a DEQUANTIZE, where a CAST and a SUB were: 1.5 % of the latency at width 1.0.
    - What is given beside the pixels is float32, and a QUANTIZE makes int8 of it, where litert-torch asks the app for int8.
    - Zeros that TFLite's padding "SAME" would put are put by the convolution that reads them.
    - Transposed convolutions between integers have integers inside.
    - Each list of numbers is stored once, and tensors are named by their modules' paths alone: 7 % of the size.

    Args:
        transposed: scales of the weights of the transposed convolutions, one or ``(out,)`` each.

    Raises:
        ConversionError: the graph does not begin with bytes less the grey level.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(path.read_bytes())
    _take_pixels_as_quantized(model, grey)
    _take_floats(model)
    _pad_in_convolutions(model)
    _transpose_in_integers(model, transposed)
    for graph in model.subgraphs:
        _shorten_names(graph.tensors)
    path.write_bytes(_packed(model))
    return path


def _take_pixels_as_quantized(model: Any, grey: int) -> None:
    """CAST -> SUB(grey)  ==>  DEQUANTIZE of an input with scale 1 and zero point grey, the same numbers. Of a grey level of 0 the converter leaves the
    SUB out where integers follow."""
    from ai_edge_litert import schema_py_generated as schema

    graph, kinds = model.subgraphs[0], schema.BuiltinOperator
    casts = [op for op in graph.operators if list(op.inputs) == [graph.inputs[0]]]
    cast = casts[0] if len(casts) == 1 else graph.operators[0]
    readers = [op for op in graph.operators if cast.outputs[0] in op.inputs]
    subtract = readers[0] if len(readers) == 1 else graph.operators[0]
    codes = [model.operatorCodes[op.opcodeIndex].builtinCode for op in (cast, subtract)]
    is_less = codes == [kinds.CAST, kinds.SUB]
    if not is_less and (grey or codes[0] != kinds.CAST):
        raise ConversionError("the graph does not begin with a CAST and a SUB of its pixels")
    level = model.buffers[graph.tensors[subtract.inputs[1]].buffer].data if is_less else b""
    if is_less and (
        level is None or bytes(level) != np.float32(grey).tobytes() or subtract.inputs[0] != cast.outputs[0]
    ):
        raise ConversionError(f"the graph does not begin with pixels less {grey}")

    pixels = graph.tensors[graph.inputs[0]]
    pixels.quantization = schema.QuantizationParametersT(
        scale=np.ones(1, np.float32), zeroPoint=np.full(1, grey, np.int64)
    )
    cast.outputs, cast.opcodeIndex = subtract.outputs if is_less else cast.outputs, len(model.operatorCodes)
    cast.builtinOptionsType, cast.builtinOptions = schema.BuiltinOptions.NONE, None
    model.operatorCodes.append(
        schema.OperatorCodeT(builtinCode=kinds.DEQUANTIZE, deprecatedBuiltinCode=kinds.DEQUANTIZE, version=1)
    )
    if is_less:
        graph.operators.remove(subtract)
    _drop_unused_codes(model)


def _take_floats(model: Any) -> None:
    """An int8 input  ==>  a float32 input -> QUANTIZE."""
    from copy import copy

    from ai_edge_litert import schema_py_generated as schema

    graph, kind = model.subgraphs[0], schema.BuiltinOperator.QUANTIZE
    inputs = list(graph.inputs)
    for place, number in enumerate(inputs):
        tensor = graph.tensors[number]
        if tensor.type != schema.TensorType.INT8:
            continue
        given = copy(tensor)
        given.type, given.quantization = schema.TensorType.FLOAT32, None
        tensor.name = bytes(tensor.name) + b"_quantized"
        graph.tensors.append(given)
        inputs[place] = len(graph.tensors) - 1
        for signature in model.signatureDefs or ():
            for named in signature.inputs:
                if named.tensorIndex == number:
                    named.tensorIndex = len(graph.tensors) - 1
        quantize = schema.OperatorT()
        quantize.opcodeIndex = len(model.operatorCodes)
        quantize.inputs = np.array([len(graph.tensors) - 1], np.int32)
        quantize.outputs = np.array([number], np.int32)
        model.operatorCodes.append(schema.OperatorCodeT(builtinCode=kind, deprecatedBuiltinCode=kind, version=1))
        graph.operators.insert(0, quantize)
    if inputs != list(graph.inputs):
        graph.inputs = np.array(inputs, np.int32)


def _pad_in_convolutions(model: Any) -> None:
    """[TRANSPOSE ->] PAD [-> TRANSPOSE] -> convolution without padding  ==>  convolution with padding SAME, where the zeros
    are those; in int8 both put the zero point."""
    from ai_edge_litert import schema_py_generated as schema

    graph, kinds = model.subgraphs[0], schema.BuiltinOperator
    makers = {int(output): op for op in graph.operators for output in op.outputs}

    def made_by(tensor: int, kind: int) -> Any:
        """The operator that makes a tensor, if it is of this kind."""
        op = makers.get(int(tensor))
        return op if op is not None and model.operatorCodes[op.opcodeIndex].builtinCode == kind else None

    def constant(tensor: int, shape: tuple[int, ...]) -> Any:
        return np.frombuffer(model.buffers[graph.tensors[tensor].buffer].data, np.int32).reshape(shape)

    for op in graph.operators:
        kind = model.operatorCodes[op.opcodeIndex].builtinCode
        if kind not in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D) or op.builtinOptions.padding != schema.Padding.VALID:
            continue
        back, source, order = made_by(op.inputs[0], kinds.TRANSPOSE), int(op.inputs[0]), [0, 1, 2, 3]
        if back is not None:
            source, order = int(back.inputs[0]), constant(back.inputs[1], (4,)).tolist()
        pad = made_by(source, kinds.PAD)
        if pad is None:
            continue
        source, zeros = int(pad.inputs[0]), constant(pad.inputs[1], (4, 2))[order]
        if back is not None:
            turn = made_by(source, kinds.TRANSPOSE)
            if turn is None or constant(turn.inputs[1], (4,))[order].tolist() != [0, 1, 2, 3]:
                continue
            source = int(turn.inputs[0])
        if zeros.tolist() == _same_padding(op, graph.tensors[source].shape, graph.tensors[op.inputs[1]].shape):
            op.inputs = np.array([source, *op.inputs[1:]], np.int32)
            op.builtinOptions.padding = schema.Padding.SAME
    _drop_unread(graph)
    _drop_unused_codes(model)


def _transpose_in_integers(model: Any, scales: Sequence[NDArray[np.float32]]) -> None:
    """DEQUANTIZE -> TRANSPOSE_CONV, weights and bias in float -> QUANTIZE  ==>  TRANSPOSE_CONV, int8 weights, int32 bias."""
    from ai_edge_litert import schema_py_generated as schema

    graph, kinds, types = model.subgraphs[0], schema.BuiltinOperator, schema.TensorType
    kind = {id(op): model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators}
    for op in [op for op in graph.operators if kind[id(op)] == kinds.TRANSPOSE_CONV]:
        before = next((o for o in graph.operators if op.inputs[2] in o.outputs), None)
        behind = [o for o in graph.operators if op.outputs[0] in o.inputs]
        ends = [kind[id(o)] for o in (before, *behind) if o is not None]
        if ends != [kinds.DEQUANTIZE, kinds.QUANTIZE] or len(op.inputs) < 4:
            continue
        assert before is not None
        step = graph.tensors[before.inputs[0]].quantization.scale[0]
        weight, bias = (graph.tensors[op.inputs[place]] for place in (1, 3))
        fitting = next((scale for scale in scales if _is_grid(model, weight, scale)), None)
        if fitting is None:
            continue
        each = np.broadcast_to(fitting, weight.shape[:1])
        one = _in_steps(model, weight, each.reshape(-1, 1, 1, 1), each, types.INT8)
        other = _in_steps(model, bias, float(step) * each.astype(np.float64), np.float32(step) * each, types.INT32)
        op.inputs, op.outputs = np.array([op.inputs[0], one, before.inputs[0], other], np.int32), behind[0].outputs
        graph.operators.remove(behind[0])
    _drop_unread(graph)
    _drop_unused_codes(model)
    _empty_unread_buffers(model)


def _is_grid(model: Any, weight: Any, scale: NDArray[np.float32]) -> bool:
    """Whether float weights ``(out, H, W, in)`` are whole steps of these scales, and the largest of each is 127."""
    values = np.frombuffer(model.buffers[weight.buffer].data, np.float32).reshape(weight.shape[0], -1)
    if scale.size not in (1, len(values)):
        return False
    steps = values / scale.reshape(-1, 1)
    largest = np.abs(steps).max() if scale.size == 1 else np.abs(steps).max(1)
    return bool(np.abs(steps - np.rint(steps)).max() < _NEAR and (np.rint(largest) == 127).all())


def _in_steps(model: Any, tensor: Any, grid: NDArray[Any], scale: NDArray[np.float32], kind: int) -> int:
    """A new tensor with the whole steps of a grid that another one's floats are, of one scale for each of its first
    dimension; its number. Layers with equal weights share the other one."""
    from ai_edge_litert import schema_py_generated as schema

    values = np.frombuffer(model.buffers[tensor.buffer].data, np.float32).reshape(tensor.shape).astype(np.float64)
    steps = np.rint(values / grid).astype(np.int8 if kind == schema.TensorType.INT8 else np.int32)
    tensors, made = model.subgraphs[0].tensors, copy(tensor)
    made.buffer, made.type, made.name = len(model.buffers), kind, tensor.name + f";{len(tensors)}".encode()
    made.quantization = schema.QuantizationParametersT(
        scale=scale.astype(np.float32), zeroPoint=np.zeros(len(scale), np.int64), quantizedDimension=0
    )
    model.buffers.append(schema.BufferT(data=np.frombuffer(steps.tobytes(), np.uint8)))
    tensors.append(made)
    return len(tensors) - 1


def _empty_unread_buffers(model: Any) -> None:
    """A file has a tensor's bytes whether or not an operator reads it."""
    graph = model.subgraphs[0]
    read = {int(tensor) for op in graph.operators for tensor in (*op.inputs, *op.outputs) if tensor >= 0}
    kept = {graph.tensors[tensor].buffer for tensor in read} | {entry.buffer for entry in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in kept:
            buffer.data = None


def _same_padding(op: Any, shape: Any, kernel: Any) -> list[list[int]]:
    """Zeros before and after each dimension ``(N, H, W, C)`` that TFLite's padding SAME puts."""
    found = [[0, 0]]
    steps = (op.builtinOptions.strideH, op.builtinOptions.strideW)
    dilations = (op.builtinOptions.dilationHFactor, op.builtinOptions.dilationWFactor)
    for size, taps, stride, dilation in zip(shape[1:3], kernel[1:3], steps, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        found.append([int(total // 2), int(total - total // 2)])
    return [*found, [0, 0]]


def _drop_unread(graph: Any) -> None:
    """Operators whose results nobody reads, and in turn those that only they read."""
    while True:
        read = {int(tensor) for op in graph.operators for tensor in op.inputs} | set(map(int, graph.outputs))
        kept = [op for op in graph.operators if read.intersection(map(int, op.outputs))]
        if len(kept) == len(graph.operators):
            return
        graph.operators = kept


def _drop_unused_codes(model: Any) -> None:
    """A runtime that is built with the operators of a model alone would take those in too."""
    operators = [op for graph in model.subgraphs for op in graph.operators]
    used = sorted({op.opcodeIndex for op in operators})
    model.operatorCodes = [model.operatorCodes[number] for number in used]
    for op in operators:
        op.opcodeIndex = used.index(op.opcodeIndex)


def _shorten_names(tensors: list[Any]) -> None:
    """``torch.nn.modules.container.Sequential_features/torch.nn.modules.conv.Conv2d_0;1`` -> ``features/0;1``.

    litert-torch ends the path of each module with a semicolon. Names stay as they are where two would become one.
    """
    names = [t.name.decode() for t in tensors]
    short = [_CLASS.sub("", name) if ";" in name else name for name in names]
    if len(set(short)) == len(set(names)):
        for tensor, name in zip(tensors, short, strict=True):
            tensor.name = name.encode()


def _packed(model: Any) -> bytes:
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        """Writes equal arrays once, contents of buffers apart: those stay one for each buffer, and aligned."""

        def __init__(self) -> None:
            super().__init__(1 << 20)
            self.written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # the name is the library's
            if x.dtype == np.uint8:
                self.Prep(_FORCE_ALIGN, x.nbytes)
                return int(super().CreateNumpyVector(x))
            key = (x.dtype.str, x.tobytes())
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    builder = Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
