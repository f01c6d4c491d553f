"""The smallest reproducers of what converters get wrong, and we work around. A test here that passes unexpectedly says
that a workaround can go; its name is in the message."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import subprocess
import sys
import weakref
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.pipeline import data
from twinkeel.pipeline.parity import measuring as measure
from twinkeel.pipeline.stages import quantize
from twinkeel.pipeline.tasks import classification
from twinkeel.targets.android import litert
from twinkeel.targets.ios import _mlprogram, coreml, mil_executor


@pytest.mark.xfail(
    raises=AssertionError,
    reason="litert-torch 0.10 quantizes a float layer between two quantizers: keep pairs in rungs/float_layers.py",
)
def test_litert_torch_keeps_a_single_layer_in_float(shallow_program, tmp_path):
    images = data.rgba(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
    settings = quantize.Settings(float_layers=frozenset({"model.features.5.0"}))
    made = quantize.quantize(shallow_program.folded, images, shallow_program.contract, settings)
    program = replace(shallow_program, quantized=made.module, quantized_unfolded=made.unfolded)
    found = litert.operators(litert.build(program, "int8", tmp_path / "x.tflite"))
    assert found.get("DEQUANTIZE", 0) == 1 + 1, "one takes the pixels in"


@pytest.mark.xfail(
    raises=AssertionError,
    reason="torchao 0.18 and torch 2.13 keep each module that they convert: keep `letting_go` in stages/quantize.py",
)
def test_torchao_lets_go_of_modules_that_it_converted(shallow_program, monkeypatch):
    monkeypatch.setattr(quantize, "letting_go", contextlib.nullcontext)
    images = data.rgba(np.zeros((2, 32, 32, 3), np.uint8))
    made = quantize.quantize(shallow_program.folded, images, shallow_program.contract)
    known = weakref.ref(made.module)
    del made
    gc.collect()
    assert known() is None


STEPS = np.array([[-8.0, -3.0, 0.5, 2.0, 5.0, 7.5]], np.float32)


def _requantized(folder: Path, pipeline):
    """Values on a grid of 0.5, reshaped, and put on a grid of 0.25."""
    import coremltools
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 6))], opset_version=coremltools.target.iOS17)
    def program(x):
        x = Builder.quantize(input=x, scale=np.float32(0.5), output_dtype="int8")
        x = Builder.dequantize(input=x, scale=np.float32(0.5))
        x = Builder.reshape(x=x, shape=(2, 3))
        x = Builder.quantize(input=x, scale=np.float32(0.25), output_dtype="int8")
        return Builder.dequantize(input=x, scale=np.float32(0.25))

    model = coremltools.convert(
        program,
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS17,
        pass_pipeline=pipeline,
        skip_model_load=True,
    )
    model.save(str(folder / "x.mlpackage"))
    return next(iter(mil_executor.Model(folder / "x.mlpackage").predict({"x": STEPS}).arrays.values()))


@pytest.mark.xfail(
    raises=AssertionError,
    reason="coremltools 9.0 drops the change of scale: keep LEFT_OUT in targets/ios/_mlprogram.py",
)
def test_coremltools_default_passes_keep_a_change_of_scale(tmp_path):
    import coremltools

    np.testing.assert_array_equal(_requantized(tmp_path, coremltools.PassPipeline.DEFAULT), STEPS.reshape(2, 3))


def _as_core_ml_has_it(function, x, folder):
    """A function of a tensor by coremltools, on our executor."""
    import coremltools

    class Called(nn.Module):
        def forward(self, x):
            return function(x)

    exported = torch.export.export(Called(), (x,)).run_decompositions({})
    model = coremltools.convert(
        exported,
        inputs=[coremltools.TensorType("x", shape=x.shape)],
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS17,
        skip_model_load=True,
    )
    model.save(str(folder / "x.mlpackage"))
    return next(iter(mil_executor.Model(folder / "x.mlpackage").predict({"x": x.numpy()}).arrays.values()))


@pytest.mark.xfail(
    raises=AssertionError,
    reason="coremltools 9.0 leaves out what is given by name: keep _without_factor in stages/canonical/spelling.py",
)
@pytest.mark.parametrize("call", [torch.add, torch.sub])
def test_coremltools_keeps_the_factor_of_a_sum(call, tmp_path):
    x = torch.tensor(STEPS)
    found = _as_core_ml_has_it(lambda x: call(x, x, alpha=3.0), x, tmp_path)
    np.testing.assert_allclose(found, call(x, x, alpha=3.0).numpy())


@pytest.mark.xfail(
    raises=AssertionError,
    reason="coremltools 9.0 leaves out what is given by name: keep _spell_out in targets/ios/_mlprogram.py",
)
def test_coremltools_keeps_the_approximation_of_gelu(tmp_path):
    x = torch.linspace(-4, 4, 81)[None]
    found = _as_core_ml_has_it(lambda x: nn.functional.gelu(x, approximate="tanh"), x, tmp_path)
    np.testing.assert_allclose(found, nn.functional.gelu(x, approximate="tanh").numpy(), atol=1e-5)


def test_our_passes_keep_a_change_of_scale(tmp_path):
    np.testing.assert_array_equal(_requantized(tmp_path, _mlprogram.pass_pipeline()), STEPS.reshape(2, 3))


def _with_two_scales(program):
    """The program with other scales after the flatten than before it: as right as the first, and what a network with
    a reshape in its middle has."""
    quantized = deepcopy(program.quantized)
    flatten = next(n for n in quantized.graph.nodes if n.target == torch.ops.aten.flatten.using_ints)
    again = next(iter(flatten.users))
    for node in (again, *again.users):
        node.update_arg(1, float(np.float16(node.args[1] * 1.5)))
    quantized.recompile()
    return replace(program, quantized=quantized)


def _checked(program, folder):
    """Metrics of the int8 package and of its float32 twin."""
    package = coreml.build(program, "int8", folder / "x.mlpackage")
    twin = coreml.build_twin(program, "int8", folder / "twin.mlpackage")
    images = data.rgba(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
    expected = measure.Expected(
        reference=program.evaluate("int8-fp16", images),
        floating=program.evaluate("fp32", images),
        quantized=program.evaluate("int8", images),
        unrounded=program.evaluate("int8-fp16-unrounded", images),
        outputs=program.outputs,
        names=program.labels,
    )
    return measure.measure(coreml, package, "int8", images, expected, classification.MEANING, twin=twin).metrics


def test_parity_sees_the_change_of_scale_that_an_unguarded_build_drops(shallow_program, tmp_path, monkeypatch):
    program = _with_two_scales(shallow_program)
    guarded = _checked(program, tmp_path / "guarded")
    assert guarded["twin_error"] <= 1e-5 and guarded["exact_error"] <= 1e-5, guarded
    monkeypatch.setattr(_mlprogram, "LEFT_OUT", _mlprogram.LEFT_OUT[1:])
    open_ = _checked(program, tmp_path / "open")
    assert open_["twin_error"] > 1e-2 and open_["exact_error"] > 1e-2 and open_["unrounded_error"] > 1e-2, open_


class _TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        logits = self.conv(x).mean((2, 3))
        return logits, logits.softmax(-1)


@pytest.mark.xfail(raises=IndexError, reason="coremltools 9.0: keep `_add_classifier` in targets/ios/_mlprogram.py")
def test_coremltools_makes_a_classifier_with_an_output_of_logits():
    import coremltools

    exported = torch.export.export(_TwoOutputs().eval(), (torch.zeros(1, 3, 8, 8),)).run_decompositions({})
    coremltools.convert(
        exported,
        inputs=[coremltools.ImageType("image", shape=(1, 3, 8, 8))],
        outputs=[coremltools.TensorType("logits", dtype=np.float32), coremltools.TensorType("p", dtype=np.float32)],
        classifier_config=coremltools.ClassifierConfig(list("abcd"), predicted_probabilities_output="p"),
        compute_precision=coremltools.precision.FLOAT16,
        minimum_deployment_target=coremltools.target.iOS17,
        skip_model_load=True,
    )


def _delegated():
    """What ExecuTorch's own Core ML backend writes."""
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), (torch.zeros(1, 3, 8, 8),))
    return to_edge_transform_and_lower(exported, partitioner=[CoreMLPartitioner()]).to_executorch().buffer


@pytest.mark.xfail(
    raises=AssertionError, reason="executorch 1.5: keep `_reproducible_payload` in targets/ios/executorch_coreml.py"
)
def test_executorch_writes_the_same_core_ml_payload_twice():
    """Ours is the same: `test_two_builds_give_equal_bytes`."""
    assert _delegated() == _delegated()


@pytest.mark.xfail(
    raises=AssertionError, reason="executorch 1.5: keep `_no_undone_transposes` in targets/_executorch.py"
)
def test_executorch_runs_no_transpose_that_undoes_the_one_before_it():
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x.permute(0, 3, 1, 2)).relu()

    written = []
    serialize = xnnpack_preprocess.serialize_xnnpack_binary
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            xnnpack_preprocess, "serialize_xnnpack_binary", lambda *a: (written.append(a[0]), serialize(*a))[1]
        )
        exported = torch.export.export(Model().eval(), (torch.zeros(1, 8, 8, 3),))
        to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    before = [type(node.xnode_union).__name__ for node in written[0].xnodes]
    assert before.index("XNNConv2d") == 0, before


class Uneven(nn.Module):
    """A convolution behind zeros that are more on one side than on the other."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x):
        return self.conv(nn.functional.pad(x, (0, 1, 0, 1))).relu()


@pytest.mark.xfail(
    raises=AssertionError, reason="executorch 1.5: keep `_zeros_in_convolutions` in targets/_executorch.py"
)
def test_executorch_puts_zeros_into_convolutions():
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    written = []
    serialize = xnnpack_preprocess.serialize_xnnpack_binary
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            xnnpack_preprocess, "serialize_xnnpack_binary", lambda *a: (written.append(a[0]), serialize(*a))[1]
        )
        exported = torch.export.export(Uneven().eval(), (torch.zeros(1, 3, 8, 8),))
        to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    assert "XNNStaticConstantPad" not in [type(node.xnode_union).__name__ for node in written[0].xnodes]


@pytest.mark.xfail(
    raises=RuntimeError, reason="executorch 1.5: keep `_zeros_of_float_layers` in targets/_executorch.py"
)
def test_executorch_leaves_zeros_before_float_layers_in_float(padded_program, tmp_path, monkeypatch):
    from contextlib import nullcontext

    from twinkeel.targets import _executorch

    images = data.rgba(np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8))
    settings = quantize.Settings(float_layers=frozenset({"model.features.2.conv.1.0"}))
    made = quantize.quantize(padded_program.folded, images, padded_program.contract, settings)
    monkeypatch.setattr(_executorch, "_zeros_of_float_layers", nullcontext)
    _executorch.build(replace(padded_program, quantized=made.module), "int8", tmp_path / "x.pte")


def _operations_of_xnnpack(graph, example, monkeypatch):
    """Of each delegate that ExecuTorch makes of a graph, the names of its operations."""
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    written = []
    serialize = xnnpack_preprocess.serialize_xnnpack_binary
    monkeypatch.setattr(
        xnnpack_preprocess, "serialize_xnnpack_binary", lambda *a: (written.append(a[0]), serialize(*a))[1]
    )
    to_edge_transform_and_lower(torch.export.export(graph, (example,)), partitioner=[XnnpackPartitioner()])
    return [[type(node.xnode_union).__name__ for node in one.xnodes] for one in written]


@pytest.mark.xfail(raises=AssertionError, reason="executorch 1.5: keep `relu6_is_fused` in stages/quantize.py")
def test_executorch_quantizes_a_convolution_behind_its_relu6():
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    model, example = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()).eval(), torch.rand(1, 3, 8, 8)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model, (example,)).module(), quantizer)
    prepared(example)
    made = convert_pt2e(prepared)
    (convolution,) = [node for node in made.graph.nodes if "conv2d" in str(node.target)]
    assert not [user for user in convolution.users if "quantize" in str(user.target)]


@pytest.mark.xfail(raises=AssertionError, reason="executorch 1.5: keep `_unsigned_pixels` in targets/_executorch.py")
def test_executorch_takes_quantized_bytes_into_its_delegate(monkeypatch):
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer  # noqa: F401  registers the operator

    class Model(nn.Module):
        def forward(self, x):
            x = torch.ops.quantized_decomposed.dequantize_per_tensor(x, 1.0, 113, 0, 255, torch.uint8)
            return x.permute(0, 3, 1, 2) * 2

    ((first, *_),) = _operations_of_xnnpack(Model().eval(), torch.zeros(1, 4, 4, 2, dtype=torch.uint8), monkeypatch)
    assert first == "XNNConvert"


@pytest.mark.xfail(
    raises=AssertionError, reason="executorch 1.5: keep `_resizing_in_integers` in targets/_executorch.py"
)
def test_executorch_resizes_quantized_maps_as_they_are(monkeypatch):
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer  # noqa: F401  registers the operators

    steps = torch.ops.quantized_decomposed

    class Resized(nn.Module):
        def forward(self, x):
            x = steps.dequantize_per_tensor(x, 0.5, 0, -128, 127, torch.int8)
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            return steps.quantize_per_tensor(x, 0.5, 0, -128, 127, torch.int8)

    (operations,) = _operations_of_xnnpack(Resized().eval(), torch.zeros(1, 4, 4, 4, dtype=torch.int8), monkeypatch)
    assert "XNNConvert" not in operations, operations


@pytest.mark.xfail(
    raises=AssertionError, reason="coremltools 9.0: keep `_register_pad_pass` in targets/ios/_mlprogram.py"
)
def test_coremltools_puts_zeros_into_convolutions():
    import coremltools

    exported = torch.export.export(Uneven().eval(), (torch.zeros(1, 3, 8, 8),)).run_decompositions({})
    model = coremltools.convert(exported, minimum_deployment_target=coremltools.target.iOS17, skip_model_load=True)
    block = model.get_spec().mlProgram.functions["main"].block_specializations["CoreML7"]
    assert "pad" not in [operation.type for operation in block.operations]


@pytest.mark.xfail(
    raises=AssertionError, reason="litert-torch 0.10: keep `_pad_in_convolutions` in targets/android/_flatbuffer.py"
)
def test_litert_torch_knows_the_padding_same_in_int8(padded_program, tmp_path):
    assert "PAD" not in litert.operators(litert._convert(padded_program, "int8", tmp_path / "x.tflite"))


@pytest.mark.xfail(raises=AssertionError, reason="litert-torch 0.10: keep `_packed` in targets/android/_flatbuffer.py")
def test_litert_torch_writes_equal_numbers_once(shallow_program, tmp_path):
    from ai_edge_litert.tools import flatbuffer_utils
    from twinkeel.targets.android import _flatbuffer

    written = litert._convert(shallow_program, "int8", tmp_path / "x.tflite").read_bytes()
    model = flatbuffer_utils.convert_bytearray_to_object(written)
    assert len(written) <= 1.01 * len(_flatbuffer._packed(model))


@pytest.mark.xfail(raises=ValueError, reason="litert-torch 0.10: keep `_take_pixels_as_quantized` beside it")
def test_litert_torch_takes_quantized_bytes():
    import litert_torch
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer  # noqa: F401  registers the operator

    class Model(nn.Module):
        def forward(self, x):
            return torch.ops.quantized_decomposed.dequantize_per_tensor(x, 1.0, 113, 0, 255, torch.uint8) * 2

    litert_torch.convert(Model().eval(), (torch.zeros(1, 4, dtype=torch.uint8),))


HAS_VNNI = "vnni" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else False
QEMU = os.environ.get("TWINKEEL_QEMU_X86_64", "")
"""A `qemu-x86_64` of QEMU's user mode: it hides what this processor has more than AVX2."""


def _sum_of_four_products(folder: Path, dtype: type[np.integer[Any]]) -> int:
    """4 times 255 * 127 by onnxruntime with AVX2 alone, the weight of 127 stored as `dtype`."""
    import onnx

    zero_point = 128 if dtype is np.uint8 else 0
    constants = {"b": np.full((4, 16), 127 + zero_point, dtype), "a0": np.uint8(0), "b0": dtype(zero_point)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["a", "b", "a0", "b0"], ["c"])],
        "four products",
        [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, [1, 4])],
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.INT32, [1, 16])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "x.onnx")
    code = (
        "import sys, numpy, onnxruntime; "
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']); "
        "print(session.run(None, {'a': numpy.full((1, 4), 255, numpy.uint8)})[0][0, 0])"
    )
    held = [QEMU, "-cpu", "Haswell"] if QEMU else []
    command = [*held, sys.executable, "-c", code, str(folder / "x.onnx")]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


needs_avx2_alone = pytest.mark.skipif(
    platform.machine() != "x86_64" or (HAS_VNNI and not QEMU),
    reason="this processor has VNNI, or is not x86-64: TWINKEEL_QEMU_X86_64=/path/to/qemu-x86_64 holds it to AVX2",
)


@needs_avx2_alone
@pytest.mark.xfail(reason="onnxruntime 1.32 saturates in 16 bits: keep `_make_weights_unsigned` in targets/_onnx.py")
def test_onnxruntime_sums_products_of_uint8_and_int8_without_saturating(tmp_path):
    assert _sum_of_four_products(tmp_path, np.int8) == 4 * 255 * 127


@needs_avx2_alone
def test_onnxruntime_sums_products_of_uint8_and_uint8_without_saturating(tmp_path):
    assert _sum_of_four_products(tmp_path, np.uint8) == 4 * 255 * 127
