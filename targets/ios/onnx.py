"""ONNX, run by onnxruntime."""

from .._onnx import EVIDENCE, KERNELS, PACKAGES, PRECISIONS, REFERENCES, SUFFIX, build, load, operators, trace

NAME = "ios/onnx"

__all__ = [
    "EVIDENCE", "KERNELS", "NAME", "PACKAGES", "PRECISIONS", "REFERENCES", "SUFFIX", "build", "load", "operators", "trace",
]  # fmt: skip
