"""Files on disk and the modules that make them; never a live model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..files import digest, files_of

if TYPE_CHECKING:
    from .program import Program

Run = Callable[..., NDArray[np.float32]]
"""One image ``(1, H, W, 4)`` uint8 RGBA, and the further tensors ``(1, ...)`` float32 of the model's contract -> its outputs
packed, ``(1, width)`` float32: flattened, one behind the other."""


Decode = Callable[..., Any]
"""The same -> what the artifact itself makes of its outputs; how that looks is the task's."""


@dataclass(frozen=True, kw_only=True)
class LayerValue:
    """What a layer of an int8 artifact gives for one image.

    Attributes:
        kind: convolution, depthwise, addition, mean or linear.
        steps: int8, ``(1, C, H, W)`` or ``(1, C)``.
    """

    kind: str
    steps: NDArray[np.int8]


Trace = Callable[..., list[LayerValue]]
"""The same -> the value of each layer, in order of execution."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An artifact that is ready to run.

    Attributes:
        run: as it is shipped, in its own precision.
        exact: the same operations and constants without rounding of values in between; only an executor can.
        unrounded: as `exact`, and without the rounding of quantized activations.
        decode: where the artifact decodes its outputs itself.
        names: where it does not, and says what the outputs stand for: the names in it, in their order.
    """

    run: Run
    exact: Run | None = None
    unrounded: Run | None = None
    decode: Decode | None = None
    names: Sequence[str] | None = None


class Runtime(Protocol):
    """What a module below `targets/runtimes/` has. It is sent to machines where nothing of this project is: it imports
    `pipeline.errors` and numpy, and the rest in its functions. With ``missing() -> str`` it says why it cannot be on a
    machine at all. What `load` gives may have ``plan() -> list[list[str]]``: of each operation the unit that is to compute it
    (CPU, GPU or NPU), the operator, and a name."""

    __name__: str  # the module's own
    NAME: str  # for people
    PACKAGES: tuple[str, ...]  # distributions whose versions are recorded, the one to install first
    MODULES: tuple[str, ...]  # to import; it is installed where all can be
    UNITS: tuple[str, ...]  # what can compute, in the runtime's own words
    EVIDENCE: str  # "runtime", or "device" where only the phones' own system has it

    def load(self, artifact: Path | bytes, unit: str) -> Run:
        """The artifact's file or folder, or a file's content, ready to run on a unit."""


class Target(Protocol):
    """What a module below `targets/` has; see `targets/_onnx.py` for the smallest one.

    A module may also have ``NEEDS``, the lowest iOS version of each precision, or ``SINCE``, the iOS that brings its runtime: apps for
    older ones take another artifact there. ``EXTRA`` names the extra of twinkeel that brings its packages; it is built where they
    are installed. ``TWINS``, the quantized precisions that
    are checked in a float32 copy as well, with ``build_twin`` to make it; and ``READS``, which of `saved.DESCRIPTIVE`
    ``build`` reads from the program: a change of the others does not make its artifacts anew. Without it, all count.
    With ``RUNTIME``, a `Runtime`, `twinkeel replay` runs its artifacts wherever that is installed; with
    ``payload(path, folder) -> Path``, what it writes below `folder` in their place.
    With ``inside(path) -> dict[str, int]``, the manifest counts what a delegate holds beside the `operators`.
    With ``trace(path) -> Trace``, `twinkeel drift` looks at the layers of an int8 artifact: the file's own operations
    and constants on what `load` runs them on, in its exact arithmetic where it has one. Opening the file must not
    change what it computes.
    """

    __name__: str  # the module's own
    NAME: str  # platform/runtime, as in the configuration
    SUFFIX: str  # of the artifact's file name
    PRECISIONS: tuple[str, ...]
    KERNELS: str  # int8 artifacts of targets with the same kernels are compared with each other
    PACKAGES: tuple[str, ...]  # distributions whose versions the manifest records
    EVIDENCE: str  # "runtime" or "reference executor": what `load` runs the artifact on
    REFERENCES: Mapping[str, str]  # precision -> key of `program.REFERENCES`: what the artifact must equal

    def build(self, program: Program, precision: str, out: Path) -> Path:
        """Write the artifact, a file or a folder, to the path `out` and return it."""

    def load(self, path: Path) -> Loaded:
        """The artifact on what runs it here.

        Raises:
            TwinkeelError: it is damaged, or cannot run.
        """

    def operators(self, path: Path) -> dict[str, int]:
        """How often each operator occurs in the artifact, for the manifest."""


def missing(target: Target) -> str:
    """The extra of twinkeel that would bring a target's packages; empty where they are there."""
    extra: str = getattr(target, "EXTRA", "")
    for name in target.PACKAGES if extra else ():
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return extra
    return ""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One artifact: where it lies (relative to its platform's folder), what it is."""

    target: str
    precision: str
    path: str
    bytes: int
    sha256: str


def seal(path: Path, root: Path, target: str, precision: str) -> Artifact:
    """Describe a written artifact; a folder by all its files and their names."""
    return Artifact(
        target=target,
        precision=precision,
        path=path.relative_to(root).as_posix(),
        bytes=sum(file.stat().st_size for file in files_of(path)),
        sha256=digest(path),
    )
