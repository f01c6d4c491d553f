"""LiteRT (TFLite), run by its XNNPACK delegate."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.program import LayerValue, Loaded, Program, Trace, example_inputs
from twinkeel.pipeline.reading import read_bytes

from .. import _layers, _pte
from ..runtimes import litert as runtime
from ..runtimes.litert import interpreter as _interpreter
from ..runtimes.litert import invoke as _invoke
from . import _flatbuffer

if TYPE_CHECKING:
    from torch.fx import GraphModule

NAME = "android/litert"
SUFFIX = ".tflite"
PRECISIONS = ("fp32", "fp16", "int8")
KERNELS = "xnnpack"
PACKAGES = ("litert-torch", "ai-edge-litert", "ai-edge-quantizer", "torch", "torchao")
EVIDENCE = "runtime"
RUNTIME = runtime
REFERENCES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-xnnpack"}
READS: tuple[str, ...] = ()

_LAYERS = {
    "CONV_2D": "convolution",
    "DEPTHWISE_CONV_2D": "depthwise",
    "ADD": "addition",
    "MEAN": "mean",
    "SUM": "mean",
    "FULLY_CONNECTED": "linear",
}
"""Kinds of layers by operator. Over a map of one pixel, litert-torch writes a mean as a sum."""


def build(program: Program, precision: str, out: Path) -> Path:
    """int8 comes from the unfolded quantized reference: litert-torch 0.10 refuses folded int8 weights.

    Weights of fp16 are rounded before they are converted: where a first convolution without padding reads the pixels,
    litert-torch puts the grey level into its bias, as the weights make it that it sees then.
    """
    if precision == "fp16":
        with tempfile.TemporaryDirectory() as folder:
            return _to_half(_convert(program, precision, Path(folder) / "float.tflite"), out)
    if precision == "int8":
        scales = _transposed_scales(program.quantized)
        return _flatbuffer.rewrite(_convert(program, precision, out), program.contract.grey, scales)
    return _convert(program, precision, out)


def load(path: Path) -> Loaded:
    """The artifact on one thread; int8 outputs are given as float32.

    Raises:
        ConversionError: XNNPACK took none of the graph, so other kernels would be measured.
    """
    return Loaded(run=runtime.load(path))


def trace(path: Path) -> Trace:
    """The layers of an int8 artifact, by a copy of the file with their values as outputs behind its own."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = read(path)
    kinds = _layers_of(model)
    count = len(model.subgraphs[0].outputs)
    model.subgraphs[0].outputs = [*model.subgraphs[0].outputs, *kinds]
    interpreter = _interpreter(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))

    def opened(*inputs: NDArray[Any]) -> tuple[NDArray[np.float32], list[LayerValue]]:
        outputs = _invoke(interpreter, *inputs, count=count)
        found = interpreter.get_output_details()[count:]
        values = [_layers.nchw(interpreter.get_tensor(output["index"])) for output in found]
        return outputs, [LayerValue(kind=kind, steps=v) for kind, v in zip(kinds.values(), values, strict=True)]

    return _layers.checked(opened, load(path).run, path)


def operators(path: Path) -> dict[str, int]:
    """Operators between layers; a DEQUANTIZE of a constant, as fp16 weights have, is none."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    made = {int(one["index"]) for one in interpreter.get_input_details()}
    count: dict[str, int] = {}
    for op in interpreter._get_ops_details():
        if op["op_name"] == "DEQUANTIZE" and not made.intersection(map(int, op["inputs"])):
            continue
        made.update(map(int, op["outputs"]))
        count[op["op_name"]] = count.get(op["op_name"], 0) + 1
    return dict(sorted(count.items()))


def read(path: Path) -> Any:
    """The content of a file as Python objects, within limits.

    Raises:
        ConversionError: it is damaged, or unfolds into more than a file would.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    try:
        content = read_bytes(path, _pte.MAX_BYTES)
        with _pte.bounded(len(content)):
            return flatbuffer_utils.convert_bytearray_to_object(content)
    except Exception as error:  # the reader of flatbuffers raises anything on damaged bytes
        raise ConversionError(
            f"'{path}' is no readable LiteRT file: {type(error).__name__}: {str(error)[:300]}"
        ) from error


def _layers_of(model: Any) -> dict[int, str]:
    """Number of the int8 tensor that each layer writes, in order of execution, and the layer's kind."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name in _LAYERS}
    graph, found = model.subgraphs[0], {}
    in_float: dict[int, str] = {}
    for op in graph.operators:
        opcode = model.operatorCodes[op.opcodeIndex]
        code, output = max(opcode.builtinCode, opcode.deprecatedBuiltinCode), int(op.outputs[0])
        kind = _LAYERS.get(names.get(code, ""))
        if code == schema.BuiltinOperator.QUANTIZE:  # of a layer that is kept in float
            kind = in_float.get(int(op.inputs[0]))
        if kind is not None and graph.tensors[output].type == schema.TensorType.INT8:
            found[output] = kind
        elif kind is not None:
            in_float[output] = kind
    return found


def _transposed_scales(quantized: GraphModule) -> list[NDArray[np.float32]]:
    """Of the weights of quantized transposed convolutions, one or ``(out,)`` each, in order of the data."""
    from twinkeel.pipeline.program import TRANSPOSED, attribute

    found = []
    for node in quantized.graph.nodes:
        weight: Any = node.args[1] if node.target in TRANSPOSED else None
        if weight is not None and "dequantize" in str(weight.target):
            scale = weight.args[1]
            found.append(
                np.array([scale], np.float32)
                if isinstance(scale, float)
                else attribute(quantized, str(scale.target)).numpy().astype(np.float32)
            )
    return found


def _convert(program: Program, precision: str, out: Path) -> Path:
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    import litert_torch

    example = example_inputs(program.contract)
    if precision == "int8":
        from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
        from litert_torch.quantize.quant_config import QuantConfig

        # only its `is_dynamic` is read
        static = PT2EQuantizer().set_global(get_symmetric_quantization_config())
        model = litert_torch.convert(
            program.quantized_unfolded, example, quant_config=QuantConfig(pt2e_quantizer=static)
        )
    else:
        model = litert_torch.convert(program.reference(precision), example)
    model.export(str(out))
    return out


def _to_half(source: Path, out: Path) -> Path:
    """float16 weights behind a DEQUANTIZE; XNNPACK computes in float32."""
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe_manager

    recipe = recipe_manager.RecipeManager()
    recipe.add_quantization_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )
    caster = quantizer.Quantizer(str(source), recipe.get_quantization_recipe())
    caster.quantize(enable_progress_bar=False, enable_progress_report=False).export_model(str(out))
    return out
