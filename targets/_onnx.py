"""ONNX, run by onnxruntime, for both platforms."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.artifact import LayerValue, Loaded, Trace
from twinkeel.pipeline.program import Program

from . import _layers

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "int8")
KERNELS = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "torch")
EVIDENCE = "runtime"
REFERENCES = {"fp32": "fp32", "int8": "int8"}

_LAYERS = {"Conv": "convolution", "Add": "addition", "ReduceMean": "mean", "Gemm": "linear"}


def build(program: Program, precision: str, out: Path) -> Path:
    """Export with torch's dynamo exporter; int8 becomes QuantizeLinear / DequantizeLinear pairs."""
    import onnx
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    example = torch.zeros(program.contract.shape, dtype=torch.uint8)
    exported = torch.onnx.export(
        program.reference(precision),
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=["logits"],
    )
    model = exported.model_proto  # type: ignore[union-attr]
    _drop_debug_metadata(model)
    onnx.checker.check_model(model)
    out.write_bytes(model.SerializeToString(deterministic=True))
    return out


def load(path: Path) -> Loaded:
    session = _session(path.read_bytes())

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {"pixels": pixels})[0]
        return logits

    return Loaded(run=run)


def trace(path: Path) -> Trace:
    """The layers of an int8 artifact, by a copy of the model with what their QuantizeLinear gives as outputs."""
    import onnx

    model = onnx.load(path)
    kinds = _layers_of(model.graph)
    for name in kinds:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None))
    session = _session(model.SerializeToString())

    def opened(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[LayerValue]]:
        logits, *values = session.run(None, {"pixels": pixels})
        return logits, [LayerValue(kind=kind, steps=v) for kind, v in zip(kinds.values(), values, strict=True)]

    return _layers.checked(opened, load(path).run, path)


def operators(path: Path) -> dict[str, int]:
    import onnx

    count: dict[str, int] = {}
    for node in onnx.load(path).graph.node:
        count[node.op_type] = count.get(node.op_type, 0) + 1
    return dict(sorted(count.items()))


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _layers_of(graph: Any) -> dict[str, str]:
    """Name of what quantizes each layer's output, in order of execution, and the layer's kind."""
    makers = {name: node for node in graph.node for name in node.output}
    found = {}
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if maker is not None and maker.op_type in ("Clip", "Relu"):
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type in _LAYERS:
            groups = [attribute.i for attribute in maker.attribute if attribute.name == "group"]
            is_depthwise = maker.op_type == "Conv" and groups not in ([], [1])
            found[node.output[0]] = "depthwise" if is_depthwise else _LAYERS[maker.op_type]
    return found


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
