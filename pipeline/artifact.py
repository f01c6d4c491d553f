"""Files on disk and the modules that make them; never a live model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .program import Program

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""One image ``(1, H, W, 4)`` uint8 RGBA -> logits ``(1, classes)`` float32."""


class Target(Protocol):
    """What a module below `targets/` has; see `targets/android/onnx.py` for the smallest one."""

    NAME: str  # platform/runtime, as in the configuration
    SUFFIX: str  # of the artifact's file name
    PRECISIONS: tuple[str, ...]
    KERNELS: str  # int8 artifacts of targets with the same kernels are compared with each other
    PACKAGES: tuple[str, ...]  # distributions whose versions the manifest records

    def build(self, program: Program, precision: str, out: Path) -> Path:
        """Write the artifact to the path `out` and return it."""

    def load(self, path: Path) -> Run:
        """The artifact on the shipped runtime."""

    def operators(self, path: Path) -> dict[str, int]:
        """How often each operator occurs in the artifact, for the manifest."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One artifact: where it lies (relative to its platform's folder), what it is."""

    target: str
    precision: str
    path: str
    bytes: int
    sha256: str


def seal(path: Path, root: Path, target: str, precision: str) -> Artifact:
    """Describe a written artifact."""
    content = path.read_bytes()
    return Artifact(
        target=target,
        precision=precision,
        path=path.relative_to(root).as_posix(),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
