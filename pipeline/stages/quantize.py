"""Quantize: one post-training calibration that every int8 artifact is lowered from.

Weights are symmetric int8 per output channel, activations asymmetric int8 per tensor with min/max ranges, biases
on their int32 grid. The flow is torchao's PT2E with ExecuTorch's XNNPACK annotations, changed in three places:

- ReLU6 is quantized with the convolution before it, so that the eight bits cover 0..6 and not the range before
  the clip (1.5 dB better on MobileNetV2).
- The floor of the weight scales is 2**-30, not 2**-12. The stem takes raw pixels, so its weights are about 1/58 of
  usual ones, and at the usual floor most of their bits are lost (3 dB of the whole network).
- The bytes less the grey level are int8 with scale exactly 1: lossless.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import ConversionError
from ..program import InputContract

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

WEIGHT_SCALE_FLOOR = 2.0**-30
ACTIVATION_SCALE_FLOOR = 2.0**-12


def quantize(
    folded: nn.Module, calibration: NDArray[np.uint8], contract: InputContract
) -> tuple[GraphModule, GraphModule, float]:
    """(reference with int8 weights, the same with float weights behind quantizers, step of the logits).

    Args:
        folded: module on ``(N, H, W, 4)`` uint8.
        calibration: ``(N, H, W, 4)`` uint8 RGBA images that set the ranges of activations.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = torch.from_numpy(calibration[:1])
    # an exported graph shares its parameters with the module; the copy keeps bias rounding out of the float model
    graph = torch.export.export(deepcopy(folded).eval(), (example,)).module()
    with _relu6_is_fused():
        prepared = prepare_pt2e(graph, quantizer())
    with torch.no_grad():
        for image in calibration:
            prepared(torch.from_numpy(image[None]))
    _set_input_range(prepared, contract)
    quantized = convert_pt2e(deepcopy(prepared))
    unfolded = convert_pt2e(deepcopy(prepared), fold_quantize=False)
    _put_weights_on_grid(unfolded)
    for module in (quantized, unfolded):
        _round_biases(module)
    return quantized, unfolded, _output_scale(quantized)


def quantizer() -> Any:
    """ExecuTorch's XNNPACK quantizer with the changes that this module names."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY, QuantizationAnnotation

    activation = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=False,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=ACTIVATION_SCALE_FLOOR),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=WEIGHT_SCALE_FLOOR),
    )

    class Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
        """XNNPACK's annotations, with the pixels quantized before the transpose, where it costs a byte each."""

        def annotate(self, model: GraphModule) -> GraphModule:
            for node in model.graph.nodes:
                if node.target == torch.ops.aten.sub.Tensor:
                    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=activation, _annotated=True)
            annotated: GraphModule = super().annotate(model)
            return annotated

    return Quantizer().set_global(QuantizationConfig(activation, activation, weight, None, False))


@contextmanager
def _relu6_is_fused() -> Iterator[None]:
    """Let ExecuTorch's annotator see ReLU6 as a ReLU.

    executorch 1.4 matches ``conv -> relu`` only, and gives the unclipped output of the convolution a quantizer of
    its own. Can go when its `is_relu_node` knows hardtanh.
    """
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils as utils

    original = utils.is_relu_node
    clamps = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)

    def is_clamp(node: Node) -> bool:
        return bool(original(node)) or (node.op == "call_function" and node.target in clamps)

    utils.is_relu_node = is_clamp
    try:
        yield
    finally:
        utils.is_relu_node = original


def _grey_subtraction(graph: GraphModule) -> Node:
    """The first subtraction: pixels less the grey level."""
    node: Node
    for node in graph.graph.nodes:
        if node.target == torch.ops.aten.sub.Tensor:
            return node
    raise ConversionError("the folded module does not begin with pixels less a grey level")


def _set_input_range(prepared: GraphModule, contract: InputContract) -> None:
    """Scale 1 and zero point grey - 128, whatever the calibration images hold."""
    observers = [user for user in _grey_subtraction(prepared).users if user.op == "call_module"]
    for node in observers:
        observer = prepared.get_submodule(str(node.target))
        observer.min_val = torch.tensor(float(-contract.grey))
        observer.max_val = torch.tensor(float(255 - contract.grey))


def _put_weights_on_grid(unfolded: GraphModule) -> None:
    """Replace each float weight behind a quantizer by its dequantized value.

    litert-torch quantizes these weights itself, and rounds a value in the middle of two steps to the other one: 2 of
    3.5 million weights at width 1.0, and with them 1 of 8000 logits. A value on the grid leaves no choice.
    """
    for node in unfolded.graph.nodes:
        if "quantize_per_channel" not in str(node.target) or "dequantize" in str(node.target):
            continue
        weight, scale, zero_point = (attribute(unfolded, argument.target) for argument in node.args[:3])
        with torch.no_grad():
            steps = node.target(weight, scale, zero_point, *node.args[3:])
            weight.copy_(steps.float() * scale.float().view(-1, *[1] * (weight.ndim - 1)))


def _round_biases(module: GraphModule) -> None:
    """Put each bias on the grid ``input scale * weight scale``, where every runtime rounds it to anyway.

    Without this the reference keeps a bias that no runtime has: 42 % of logits equal instead of 82 %.
    """
    for node in module.graph.nodes:
        if node.target not in (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default) or len(node.args) < 3:
            continue
        source, weight, bias = node.args[:3]
        if bias is None or "dequantize" not in str(source.target) or "per_channel" not in str(weight.target):
            continue
        grid = float(source.args[1]) * attribute(module, weight.args[1].target).double()
        value = attribute(module, bias.target)
        with torch.no_grad():
            value.copy_((torch.round(value.double() / grid).clamp(-(2.0**31), 2.0**31 - 1) * grid).float())


def attribute(module: GraphModule, path: str) -> torch.Tensor:
    """The parameter or buffer that a ``get_attr`` node names."""
    owner, _, name = path.rpartition(".")
    value: torch.Tensor = getattr(module.get_submodule(owner), name)
    return value


def _output_scale(quantized: GraphModule) -> float:
    last = next(n for n in reversed(list(quantized.graph.nodes)) if "dequantize_per_tensor" in str(n.target))
    return float(last.args[1])
