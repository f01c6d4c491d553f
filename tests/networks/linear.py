"""ONNX networks that multiply their pixels, and nothing else: made at once, run by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def linear(weights: NDArray[np.float32], idle: int = 0) -> Any:
    """The file of a network ``(1, S, S, 4)`` uint8 -> ``(1, classes)``.

    Args:
        weights: ``(4 S S, classes)``.
        idle: how often the pixels are multiplied with a matrix of ones on its diagonal before, which takes time.
    """
    count, classes = weights.shape
    side = int((count // 4) ** 0.5)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["real", "shape"], ["step 0"]),
        *(helper.make_node("MatMul", [f"step {n}", "same"], [f"step {n + 1}"]) for n in range(idle)),
        helper.make_node("MatMul", [f"step {idle}", "weights"], ["logits"]),
    ]
    stored = [
        numpy_helper.from_array(np.array([1, -1], np.int64), "shape"),
        numpy_helper.from_array(weights, "weights"),
        *([numpy_helper.from_array(np.eye(count, dtype=np.float32), "same")] if idle else []),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, side, side, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        stored,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made.SerializeToString()
