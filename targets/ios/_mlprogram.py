"""From a torch module to an ML Program in a ``.mlpackage``, equal to the byte whenever it is made again."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.program import InputContract, Program, example_inputs

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule
    from twinkeel.pipeline.program import PackedWeight

IMAGE, PROBABILITIES, CLASS_LABEL = "image", "probabilities", "classLabel"
LEFT_OUT = ("common::int_op_canonicalization", "common::distributive_quantized_binary_op_scale_normalization")
"""See `pass_pipeline`."""

_LATEST = 26
_SOFTMAX = "softmax_of_logits"
_NAMESPACE = uuid.UUID("6b1f3f3e-6a0b-5f0c-9a53-0d8f3c1b7a10")
_PACK_PASS = "twinkeel::pack_weights"
_PAD_PASS = "twinkeel::pad_in_convolutions"


def pass_pipeline() -> Any:
    """coremltools' default passes without two, and one that lets convolutions pad each side by themselves.

    `common::int_op_canonicalization` of coremltools 9.0 turns ``dequantize(s1) -> reshape -> quantize(s2)`` into a
    bare reshape without comparing the scales, and so multiplies the values by s1 / s2. Can be taken in again when it
    compares them; `tests/test_upstream.py` tells.

    `common::distributive_quantized_binary_op_scale_normalization` divides the scales around a residual addition by
    one of them. In float16 the quotients are rounded anew, and the package no longer holds the scales that all other
    runtimes have.
    """
    import coremltools

    pipeline = coremltools.PassPipeline.DEFAULT
    pipeline.remove_passes(LEFT_OUT)
    _register_pad_pass()
    pipeline.insert_pass(0, _PAD_PASS)
    return pipeline


@contextlib.contextmanager
def validated_once() -> Iterator[None]:
    """A program is validated in front of all its passes and behind them, not behind each of some ninety: a fifth of a conversion.

    coremltools 9.0 does that to say which pass was wrong. What a wrong one made is found in the end all the same.
    """
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager

    usual = PassPipelineManager.__dict__["apply_pipeline"]

    def apply_pipeline(prog: Any, pass_pipeline: Any) -> None:
        prog.validate()
        vars(prog)["validate"] = lambda *_, **__: None  # of this program alone
        try:
            usual.__func__(prog, pass_pipeline)
        finally:
            vars(prog).pop("validate", None)
        prog.validate()

    PassPipelineManager.apply_pipeline = staticmethod(apply_pipeline)
    try:
        yield
    finally:
        PassPipelineManager.apply_pipeline = usual


def image_graph(module: nn.Module, contract: InputContract, *, has_classes: bool) -> GraphModule:
    """The module on an image: ``(1, 3, H, W)`` float32 RGB in 0..255, and its further inputs -> its outputs, and of logits the
    probabilities.

    Core ML hands the image over as floats in that layout, so the cast and the transpose of the bytes go, and the
    alpha channel, which carries the constant part of the normalization, is joined to it.
    """
    import torch
    from torch.fx import GraphModule
    from torch.fx.graph import CodeGen

    aten = torch.ops.aten
    exported = torch.export.export(module, example_inputs(contract), strict=False).module()
    owner = deepcopy(exported)
    graph: Any = owner.graph
    image = _first(graph, lambda n: n.op == "placeholder", "input")
    cast = _first(graph, lambda n: n.target == aten.to.dtype, "cast of the pixels")
    transpose = _first(graph, lambda n: n.target == aten.permute.default, "transpose of the pixels")
    with graph.inserting_before(cast):
        # no pixel is above 255, so this is a plane of 255 that takes no room in the file (0.1 MB at 224)
        red = graph.call_function(aten.slice.Tensor, (image, 1, 0, 1))
        opaque = graph.call_function(aten.clamp.default, (red, 255.0, 256.0))
        joined = graph.call_function(aten.cat.default, ([image, opaque], 1))
    cast.replace_all_uses_with(joined)
    transpose.replace_all_uses_with(transpose.args[0])
    for node in list(graph.nodes):
        if node.op == "call_module" or "assert" in str(node.target):  # guards on the shape of the bytes
            graph.erase_node(node)
        elif node.target == aten.gelu.default and node.kwargs.get("approximate") == "tanh":
            _spell_out(graph, node)
    output = _first(graph, lambda n: n.op == "output", "output")
    found = tuple(output.args[0]) if isinstance(output.args[0], (tuple, list)) else (output.args[0],)
    output.args = (found,)
    if has_classes:
        with graph.inserting_before(output):
            output.args = ((*found, graph.call_function(aten.softmax.int, (found[0], -1))),)
    graph.eliminate_dead_code()
    graph.set_codegen(CodeGen())
    return GraphModule(owner, graph)


def _spell_out(graph: Any, node: Any) -> None:
    """``gelu(x, approximate="tanh")`` as ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.

    coremltools 9.0 leaves out what an operation is called with by name, and makes the exact one of it, up to 4.7e-4 apart;
    `tests/targets/test_upstream.py` tells when this can go. Its own pass finds the operation in these again.
    """
    import math

    import torch

    aten = torch.ops.aten
    x = node.args[0]
    with graph.inserting_before(node):
        cubed = graph.call_function(aten.mul.Tensor, (graph.call_function(aten.mul.Tensor, (x, x)), x))
        bent = graph.call_function(aten.add.Tensor, (x, graph.call_function(aten.mul.Tensor, (cubed, 0.044715))))
        curve = graph.call_function(
            aten.tanh.default, (graph.call_function(aten.mul.Tensor, (bent, math.sqrt(2 / math.pi))),)
        )
        half = graph.call_function(aten.mul.Tensor, (x, 0.5))
        found = graph.call_function(aten.mul.Tensor, (half, graph.call_function(aten.add.Tensor, (curve, 1.0))))
    node.replace_all_uses_with(found)
    graph.erase_node(node)


def package(
    program: Program, module: nn.Module, out: Path, *, is_half: bool, weights: Mapping[str, PackedWeight] | None = None
) -> Path:
    """Convert `module` and write the package to the folder `out`: of an image classifier where the program has labels.

    Args:
        is_half: compute in float16; float32 otherwise.
        weights: how the layers' weights are stored; as the module has them where None.

    Raises:
        ConversionError: coremltools refuses the module, or a weight cannot be packed.
    """
    import coremltools
    import torch

    contract = program.contract
    shape = (1, 3, contract.height, contract.width)
    examples = torch.zeros(shape), *example_inputs(contract)[1:]
    graph = image_graph(module, contract, has_classes=bool(program.labels))
    exported = torch.export.export(graph, examples).run_decompositions({})
    signature = exported.graph_signature
    for name, given in zip(program.names, signature.user_outputs, strict=False):
        if given in signature.user_inputs:
            raise ConversionError(
                f"Core ML gives no input back, and '{name}' is one as it stands: let the model give it in no output"
            )
    pipeline = pass_pipeline()
    if weights is not None:
        _register_pack_pass()
        pipeline.append_pass(_PACK_PASS)
        pipeline.set_options(_PACK_PASS, {"weights": weights, "minimum_ios": program.minimum_ios})
    with validated_once():
        model = coremltools.convert(
            exported,
            inputs=[
                coremltools.ImageType(IMAGE, shape=shape, color_layout=coremltools.colorlayout.RGB),
                *(coremltools.TensorType(t.name, shape=(1, *t.shape), dtype=np.float32) for t in contract.tensors),
            ],
            outputs=[
                coremltools.TensorType(name, dtype=np.float32)
                for name in (*program.names, *([_SOFTMAX] if program.labels else []))
            ],
            compute_precision=coremltools.precision.FLOAT16 if is_half else coremltools.precision.FLOAT32,
            minimum_deployment_target=deployment_target(program.minimum_ios),
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
    spec = model.get_spec()
    if program.labels:
        _add_classifier(spec, program.names[0], program.labels)
    _describe(spec, program)
    return write_package(spec, Path(model.weights_dir) / "weight.bin", out)


def deployment_target(version: int) -> Any:
    """coremltools' name of an iOS version; the latest that coremltools 9.0 knows for those after it."""
    import coremltools

    return coremltools.target[f"iOS{min(version, _LATEST)}"]


def write_package(spec: Any, weights: Path, out: Path) -> Path:
    """Write a package whose bytes depend on its content alone: no date, no random identifier, no debug file."""
    for key in [k for k in spec.description.metadata.userDefined if k.endswith("conversion_date")]:
        del spec.description.metadata.userDefined[key]
    content = spec.SerializeToString(deterministic=True)
    folder = out / "Data" / "com.apple.CoreML"
    (folder / "weights").mkdir(parents=True)
    (folder / "model.mlmodel").write_bytes(content)
    (folder / "weights" / "weight.bin").write_bytes(weights.read_bytes())
    items = {
        identifier(content): ("model.mlmodel", "CoreML Model Specification"),
        identifier(weights.read_bytes()): ("weights", "CoreML Model Weights"),
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            key: {"author": "com.apple.CoreML", "description": text, "name": name, "path": f"com.apple.CoreML/{name}"}
            for key, (name, text) in items.items()
        },
        "rootModelIdentifier": identifier(content),
    }
    (out / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True), encoding="utf-8")
    return out


def identifier(content: bytes) -> str:
    """A UUID that follows from the content."""
    from hashlib import sha256

    return str(uuid.uuid5(_NAMESPACE, sha256(content).hexdigest()))


def _first(graph: Any, fits: Any, what: str) -> Any:
    node = next((n for n in graph.nodes if fits(n)), None)
    if node is None:
        raise ConversionError(f"the model's graph has no {what}: it must begin with bytes -> float32 -> NCHW")
    return node


def _add_classifier(spec: Any, logits: str, labels: tuple[str, ...]) -> None:
    """Append the operation `classify` and describe its outputs.

    coremltools 9.0 does it itself with `classifier_config`, but not beside an output of logits, nor with float16
    inside: it looks the outputs up by names that its own casts have replaced, an IndexError. Can go when it converts
    the graph of `image_graph` with a `ClassifierConfig`.
    """
    from coremltools.proto import MIL_pb2

    types = MIL_pb2.DataType
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    op = block.operations.add(type="classify")
    op.inputs["probabilities"].arguments.add(name=_SOFTMAX)
    classes = op.inputs["classes"].arguments.add().value
    classes.type.listType.type.tensorType.dataType = types.STRING
    classes.type.listType.length.constant.size = len(labels)
    for label in labels:
        value = classes.immediateValue.list.values.add()
        value.type.tensorType.dataType = types.STRING
        value.immediateValue.tensor.strings.values.append(label)
    op.outputs.add(name=CLASS_LABEL).type.tensorType.dataType = types.STRING
    kind = op.outputs.add(name=PROBABILITIES).type.dictionaryType
    kind.keyType.tensorType.dataType = types.STRING
    kind.valueType.tensorType.dataType = types.FLOAT64
    name = op.attributes["name"]
    name.type.tensorType.dataType = types.STRING
    name.immediateValue.tensor.strings.values.append("classify")
    block.outputs[:] = [logits, CLASS_LABEL, PROBABILITIES]

    description = spec.description
    softmax = next(feature for feature in description.output if feature.name == _SOFTMAX)
    description.output.remove(softmax)
    description.output.add(name=CLASS_LABEL).type.stringType.SetInParent()
    description.output.add(name=PROBABILITIES).type.dictionaryType.stringKeyType.SetInParent()
    description.predictedFeatureName = CLASS_LABEL
    description.predictedProbabilitiesName = PROBABILITIES


def _describe(spec: Any, program: Program) -> None:
    about, contract, metadata = program.about, program.contract, spec.description.metadata
    metadata.author, metadata.license = about.author, about.license
    metadata.versionString, metadata.shortDescription = about.version, about.description
    texts = {
        IMAGE: f"Image of {contract.width} x {contract.height} pixels, RGB. The normalization is inside; do not apply it before.",
        CLASS_LABEL: "The most probable class.",
        PROBABILITIES: "Probability of each class, 0 to 1; their sum is 1.",
    }
    texts |= {t.name: f"{_sizes(t.shape)} numbers, {t.low:g} to {t.high:g}." for t in contract.tensors}
    if program.labels:
        texts[program.names[0]] = (
            f"Scores of the {len(program.labels)} classes before the softmax, in the order of the labels."
        )
    for feature in (*spec.description.input, *spec.description.output):
        feature.shortDescription = texts.get(feature.name, "")


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _register_pack_pass() -> None:
    """Make coremltools know the pass that replaces dense weights by stored ones; once a process."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if _PACK_PASS in PASS_REGISTRY:
        return

    @register_pass(namespace="twinkeel")
    class pack_weights(AbstractGraphPass):  # type: ignore[misc]  # the class's name is the pass's
        # both are set as options of the pass
        weights: Mapping[str, PackedWeight] = {}
        minimum_ios = 0

        def apply(self, prog: Any) -> None:
            _pack(prog.functions["main"], self.weights, self.minimum_ios)


def _register_pad_pass() -> None:
    """Make coremltools know the pass that puts zeros into the convolutions that read them; once a process."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if _PAD_PASS in PASS_REGISTRY:
        return

    @register_pass(namespace="twinkeel")
    class pad_in_convolutions(AbstractGraphPass):  # type: ignore[misc]  # the class's name is the pass's
        def apply(self, prog: Any) -> None:
            for op in list(prog.functions["main"].operations):
                if op.op_type == "conv" and op.x.op is not None and op.x.op.op_type == "pad":
                    _pad_in(op, op.x.op)


def _pad_in(convolution: Any, pad: Any) -> None:
    """pad -> conv  ==>  conv with padding for each side, where zeros are put around the map and nowhere else."""
    from coremltools.converters.mil.mil import Builder

    amounts = pad.pad.val.tolist()
    is_zero = pad.mode.val == "constant" and float(pad.constant_val.val) == 0.0
    if not is_zero or any(amounts[:-4]) or convolution.pad_type.val not in ("valid", "custom"):
        return
    own = convolution.pad.val.tolist() if convolution.pad_type.val == "custom" else [0] * 4
    given = {name: value for name, value in convolution.inputs.items() if value is not None}
    sides = [zeros + more for zeros, more in zip(amounts[-4:], own, strict=True)]
    block, result = convolution.enclosing_block, convolution.outputs[0]
    with block:
        made = Builder.conv(
            **{**given, "x": pad.x, "pad_type": "custom", "pad": sides},
            before_op=convolution,
            name=f"{result.name}_padded",
        )
    block.replace_uses_of_var_after_op(anchor_op=convolution, old_var=result, new_var=made)
    block.remove_ops([convolution, *([pad] if len(pad.outputs[0].child_ops) == 1 else [])])


def _pack(block: Any, weights: Mapping[str, PackedWeight], minimum_ios: int) -> None:
    """Find each dense float16 weight by its bytes and store it as its `PackedWeight` says."""
    wanted = {(w.dense.shape, w.dense.tobytes()): w for w in weights.values()}
    found = set()
    for op in list(block.operations):
        value = op.outputs[0].val if op.op_type == "const" else None
        if not isinstance(value, np.ndarray) or value.dtype != np.float16:
            continue
        key = (value.shape, value.tobytes())
        if key not in wanted:
            continue
        found.add(key)
        with block:
            packed = _stored(wanted[key], op, minimum_ios)
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=packed, force_replace=True)
        block.remove_ops([op])
    missing = [n for n, w in weights.items() if (w.dense.shape, w.dense.tobytes()) not in found]
    if missing:
        raise ConversionError(f"the weights of {missing} are not in the converted program as they were")


def _stored(weight: PackedWeight, op: Any, minimum_ios: int) -> Any:
    """The operation that decompresses a weight, in front of the constant `op` that it replaces."""
    from coremltools.converters.mil.mil import Builder, types

    place = {"before_op": op, "name": f"{op.outputs[0].name}_packed"}
    ones = [1] * (weight.stored.ndim - 1)
    if weight.palettes is not None:
        indices = weight.stored.astype(types.nptype_from_builtin(types.uint4))
        lut = weight.palettes.reshape(len(weight.palettes), *ones, weight.palettes.shape[1], 1)
        return Builder.constexpr_lut_to_dense(indices=indices, lut=lut, **place)
    assert weight.scale is not None
    if minimum_ios >= 18 or weight.bits == 4 or weight.scale.ndim > 1:  # the form that took the other's place
        kind = types.int4 if weight.bits == 4 else types.int8
        data = weight.stored.astype(types.nptype_from_builtin(kind))
        scale = weight.scale.reshape(len(weight.scale), -1, *ones[1:])
        return Builder.constexpr_blockwise_shift_scale(data=data, scale=scale, **place)
    return Builder.constexpr_affine_dequantize(
        quantized_data=weight.stored, scale=weight.scale, zero_point=np.int8(0), axis=np.int32(0), **place
    )
