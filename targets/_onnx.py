"""ONNX, run by onnxruntime, for both platforms."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.artifact import Loaded
from twinkeel.pipeline.program import Program

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "int8")
KERNELS = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "torch")
EVIDENCE = "runtime"
REFERENCES = {"fp32": "fp32", "int8": "int8"}


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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {"pixels": pixels})[0]
        return logits

    return Loaded(run=run)


def operators(path: Path) -> dict[str, int]:
    import onnx

    count: dict[str, int] = {}
    for node in onnx.load(path).graph.node:
        count[node.op_type] = count.get(node.op_type, 0) + 1
    return dict(sorted(count.items()))


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
