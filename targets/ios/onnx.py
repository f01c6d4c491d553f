"""ONNX, run by onnxruntime."""

from .._onnx import (
    EVIDENCE,
    KERNELS,
    PACKAGES,
    PRECISIONS,
    READS,
    REFERENCES,
    RUNTIME,
    SUFFIX,
    build,
    load,
    operators,
    trace,
)  # fmt: skip

NAME = "ios/onnx"

__all__ = [
    "EVIDENCE", "KERNELS", "NAME", "PACKAGES", "PRECISIONS", "READS", "REFERENCES", "RUNTIME", "SUFFIX", "build", "load", "operators",
    "trace",
]  # fmt: skip
