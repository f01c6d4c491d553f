"""ExecuTorch with the XNNPACK delegate."""

from .._executorch import EVIDENCE, KERNELS, PACKAGES, PRECISIONS, REFERENCES, SUFFIX, build, load, operators, trace

NAME = "android/executorch"

__all__ = [
    "EVIDENCE", "KERNELS", "NAME", "PACKAGES", "PRECISIONS", "REFERENCES", "SUFFIX", "build", "load", "operators", "trace",
]  # fmt: skip
