"""What is shipped, before any runtime knows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ..data import Images
from .contract import InputContract, Output
from .evaluation import See, evaluate, evaluate_quantized

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule

    from .compress import Compressed

REFERENCES = {
    "fp32": "float, folded",
    "fp32-coreai": "the same in Core AI's arithmetic on a processor",
    "fp16": "the same with float16 weights",
    "fp16-all": "the same with float16 weights and biases",
    "fp16-coreai": "all in float16, in Core AI's arithmetic on a processor",
    "int8": "quantized, in exact arithmetic",
    "int8-xnnpack": "quantized, in XNNPACK's integer arithmetic",
    "int8-onnxruntime": "quantized, in onnxruntime's integer arithmetic",
    "int8-coreai": "quantized, in Core AI's arithmetic on a processor",
    "int8-fp16": "quantized, with its scales, dequantized weights and biases in float16",
    "w8": "float with weights in 8 bits, sensitive layers in 16",
    "w4": "float with weights in 4 bits, sensitive layers in 8 or 16",
    "w8-coreai": "weights in 8 bits and all else in float16, in Core AI's arithmetic on a processor",
    "w4-coreai": "weights in 4 bits and all else in float16, in Core AI's arithmetic on a processor",
}
"""What an artifact can be compared with, by key."""

COMPRESSED = {"w8": 8, "w4": 4}
"""Bits of the weights, by the key of the references whose weights alone are compressed."""

CORE_AI = "-coreai"
"""What the keys of references end in that compute as Core AI does on a processor."""

UNROUNDED = "-unrounded"
"""After the key of a quantized reference: without the rounding of activations."""


def compressed_in(key: str) -> str:
    """Which of `COMPRESSED` the weights of a reference are; empty where they are none."""
    found = key.removesuffix(CORE_AI)
    return found if found in COMPRESSED else ""


def is_quantized(key: str) -> bool:
    """Whether a reference has int8 values inside, rounded."""
    return key.startswith("int8") and not key.endswith(UNROUNDED)


def describe_reference(key: str) -> str:
    """What a key stands for, in words."""
    return REFERENCES[key.removesuffix(UNROUNDED)] + (
        ", without the rounding of activations" if key.endswith(UNROUNDED) else ""
    )


@dataclass(frozen=True, kw_only=True)
class About:
    """What a package says of itself."""

    author: str
    license: str
    version: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Program:
    """The float and the quantized reference of one model.

    Attributes:
        name: stem of the artifacts' file names.
        original: the model as trained, behind an explicit normalization; for the fold leg only.
        folded: float reference; BatchNorm and normalization are inside the convolutions.
        tuned: the float module that was quantized: folded, then equalized, and what else the ladder did to it.
        quantized: int8 reference with int8 weights, for ExecuTorch and ONNX.
        quantized_unfolded: the same with float weights behind quantizers, for LiteRT.
        outputs: what it gives, in order, with their steps in int8.
        labels: what artifacts that decode their outputs themselves name them; empty where the task has no such names.
        about: what packages say of themselves.
        minimum_ios: lowest version of iOS that the packages must run on.

    All modules map ``(N, H, W, 4)`` uint8, and the contract's further tensors, to float32 outputs ``(N, ...)``, one or a tuple; the
    quantized ones take N = 1.
    """

    name: str
    contract: InputContract
    labels: tuple[str, ...]
    original: nn.Module
    folded: nn.Module
    tuned: nn.Module
    quantized: GraphModule
    quantized_unfolded: GraphModule
    outputs: tuple[Output, ...]
    about: About
    minimum_ios: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs, whether they are quantized or not."""
        return tuple(one.name for one in cast("Sequence[Output]", self.folded.outputs))

    @cached_property
    def w8(self) -> Compressed:
        """Weights in int8 per output channel, rounded as they stand where no calibration was asked; see `SavedProgram`."""
        from . import compress

        return compress.compress(self.folded, 8)

    @cached_property
    def w4(self) -> Compressed:
        """Weights in 4-bit palettes, small layers in int8; the same."""
        from . import compress

        return compress.compress(self.folded, 4)

    def reference(self, key: str) -> nn.Module:
        """The module that an artifact must equal; see `REFERENCES` for the keys."""
        from . import compress

        makers: dict[str, Callable[[], nn.Module]] = {
            "fp32": lambda: self.folded,
            "fp32-coreai": lambda: compress.graph_of(self.folded, self.contract),
            "fp16": lambda: compress.half(self.folded, biases=False),
            "fp16-all": lambda: compress.half(self.folded, biases=True),
            "fp16-coreai": lambda: compress.in_half(self.folded, self.contract),
            "int8": lambda: self.quantized,
            "int8-xnnpack": lambda: self.quantized,
            "int8-onnxruntime": lambda: self.quantized,
            "int8-coreai": lambda: self.quantized,
            "int8-fp16": lambda: compress.half_quantized(self.quantized),
            "w8": lambda: self.w8.module,
            "w4": lambda: self.w4.module,
            "w8-coreai": lambda: compress.in_half(self.w8.module, self.contract),
            "w4-coreai": lambda: compress.in_half(self.w4.module, self.contract),
        }
        return makers[key]()

    def evaluate(self, key: str, images: Images, see: See | None = None) -> NDArray[np.float32]:
        """What the reference says of images, packed: ``(N, width)`` float32.

        Args:
            see: is given the values inside a quantized reference.
        """
        module = self.reference(key.removesuffix(UNROUNDED))
        if key in ("int8-xnnpack", "int8-onnxruntime"):
            from .integer import evaluate_integer

            return evaluate_integer(module, images, see, key.removeprefix("int8-"))  # type: ignore[arg-type]
        if key.endswith(CORE_AI):
            from . import coreai

            return coreai.evaluate(module, images, see)  # type: ignore[arg-type]
        if key.startswith("int8"):
            is_rounded = not key.endswith(UNROUNDED)
            return evaluate_quantized(module, images, is_rounded=is_rounded, see=see)  # type: ignore[arg-type]
        return evaluate(module, images)
