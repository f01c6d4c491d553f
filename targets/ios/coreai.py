"""Core AI packages, for iOS 27 and later, run by Apple's own runtime on this machine's processor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.program import LayerValue, Loaded, Program, Trace

from .. import _layers
from ..runtimes import coreai as runtime
from ..runtimes import packed
from . import _aimodel

NAME = "ios/coreai"
SUFFIX = ".aimodel"
PRECISIONS = ("fp32", "fp16", "int8", "w8", "w4")
KERNELS = "coreai"
PACKAGES = ("coreai-core", "coreai-torch", "torch", "torchao")
EVIDENCE = "runtime"
RUNTIME = runtime
REFERENCES = {precision: f"{precision}-coreai" for precision in PRECISIONS}
READS: tuple[str, ...] = ("labels", "about")
SINCE = 27
EXTRA = "coreai"


def build(program: Program, precision: str, out: Path) -> Path:
    """All maps are float32 in fp32 packages, in int8 ones between a dequantize and a quantize, and float16 in the others."""
    graph: Any = program.reference(REFERENCES[precision])
    if precision == "int8":
        graph = _aimodel.quantized(graph)
    elif precision in ("w8", "w4"):
        graph = _aimodel.stored(graph, getattr(program, precision).weights)
    return _aimodel.package(program, graph, out)


def load(path: Path) -> Loaded:
    names = _aimodel.labels_of(_aimodel.checked(path))
    return Loaded(run=runtime.load(path), names=names)


def trace(path: Path) -> Trace:
    """The layers of an int8 package, by a copy of it that gives their values as outputs too."""
    run = load(path).run  # what reads the program here would end this process with it, were it damaged
    with tempfile.TemporaryDirectory() as folder:
        opened, kinds = _aimodel.opened(path, Path(folder) / f"opened{SUFFIX}")
        call = runtime.function(opened)
    count = -len(kinds)

    def layered(*inputs: NDArray[Any]) -> tuple[NDArray[np.float32], list[LayerValue]]:
        found = call(*inputs)
        values = zip(kinds, found[count:], strict=True)
        return packed(found[:count]), [LayerValue(kind=kind, steps=_layers.signed(steps)) for kind, steps in values]

    return _layers.checked(layered, run, path)


def operators(path: Path) -> dict[str, int]:
    """Operations of the program; those in which Core AI takes a broadcast apart begin with ``decomposable.``"""
    return _aimodel.operators(path)
