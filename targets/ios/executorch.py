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

NAME = "ios/executorch"

NEEDS = {"fp32": 17, "int8": 17}
"""ExecuTorch's own package asks for it."""

__all__ = [
    "EVIDENCE", "KERNELS", "NAME", "NEEDS", "PACKAGES", "PRECISIONS", "READS", "REFERENCES", "RUNTIME", "SUFFIX", "build", "inside", "load",
    "operators", "trace",
]  # fmt: skip
