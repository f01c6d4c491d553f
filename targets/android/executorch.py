"""ExecuTorch with the XNNPACK delegate."""

from .._executorch import (
    EVIDENCE,
    KERNELS,
    PACKAGES,
    PRECISIONS,
    READS,
    REFERENCES,
    RUNTIME,
    SUFFIX,
    build,
    inside,
    load,
    operators,
    trace,
)  # fmt: skip

NAME = "android/executorch"

__all__ = [
    "EVIDENCE", "KERNELS", "NAME", "PACKAGES", "PRECISIONS", "READS", "REFERENCES", "RUNTIME", "SUFFIX", "build", "inside", "load",
    "operators", "trace",
]  # fmt: skip
