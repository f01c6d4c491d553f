"""The integer reference: its rounding, and the runtimes that it must equal to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import cli, integer, parity
from twinkeel.pipeline.data import rgba
from twinkeel.pipeline.errors import ConversionError


def _steps(values, scale=1.0, zero_point=0):
    return integer.Steps(torch.tensor(values, dtype=torch.float64), scale, zero_point)


def _quantized(x, *arguments, kernels="xnnpack"):
    return integer._quantize(integer.KERNELS[kernels], x, *arguments)


def test_an_addition_rounds_halves_up_and_a_convolution_to_even():
    halves = [-3.0, -1.0, 1.0, 3.0, 5.0]
    added = _quantized(integer.Addition(_steps(halves), _steps([0.0] * 5)), 2.0, 0, -128, 127)
    assert added.values.tolist() == [-1, 0, 1, 2, 3]
    sums = integer.Sums(torch.tensor(halves, dtype=torch.float64), torch.tensor(1.0))
    assert _quantized(sums, 2.0, 0, -128, 127).values.tolist() == [-2, 0, 0, 2, 2]


def test_the_clamp_of_relu6_and_the_range_of_int8_bound_the_steps():
    sums = integer.Sums(torch.tensor([-500.0, -1.0, 3.0, 9.0, 500.0], dtype=torch.float64), torch.tensor(1.0), 0.0, 6.0)
    assert _quantized(sums, 0.5, -128, -128, 127).values.tolist() == [-128, -128, -122, -116, -116]
    assert _quantized(integer.Sums(sums.values, sums.scale), 1.0, 3, -128, 127).values.tolist() == [
        -128, 2, 6, 12, 127,
    ]  # fmt: skip


def test_sums_beyond_24_bits_are_rounded_as_float32_does():
    sums = integer.Sums(torch.tensor([2.0**24 + 1], dtype=torch.float64), torch.tensor(2.0**-20))
    assert _quantized(sums, 1.0, 0, -128, 127).values.tolist() == [16]


def test_an_operation_without_known_arithmetic_is_named(small_program):
    nodes = small_program.quantized.graph.nodes
    quantize, dequantize = (
        next(n.target for n in nodes if f".{name}_per_tensor" in str(n.target)) for name in ("quantize", "dequantize")
    )
    graph = torch.fx.Graph()
    quantized = graph.call_function(quantize, (graph.placeholder("pixels"), 1.0, 0, -128, 127, torch.int8))
    real = graph.call_function(dequantize, (quantized, 1.0, 0, -128, 127, torch.int8))
    graph.output(graph.call_function(torch.ops.aten.sigmoid.default, (real,)))
    with pytest.raises(ConversionError, match=r"aten\.sigmoid"):
        integer.evaluate_integer(torch.fx.GraphModule(torch.nn.Module(), graph), np.zeros((1, 2, 2, 4), np.uint8))


def _check(program, images, folder):
    for name in ("android/litert", "android/executorch", "android/onnx"):
        target = cli._targets()[name]
        expected = program.logits(target.REFERENCES["int8"], images)
        run = target.load(target.build(program, "int8", folder / f"x{target.SUFFIX}")).run
        found = np.concatenate([run(image[None]) for image in images])
        apart = parity.steps(expected, found, program.output_scale)
        assert (apart == 0).all(), f"{name}: {(apart == 0).mean():.6f} equal, at most {apart.max():.0f} steps"


def test_litert_and_executorch_compute_it_on_noise(small_program, tmp_path):
    images = np.random.default_rng(5).integers(0, 256, (40, 32, 32, 3), np.uint8)
    _check(small_program, rgba(images), tmp_path)


def test_litert_and_executorch_compute_it_at_224_with_width_1(make_program, tmp_path):
    torch.manual_seed(1)
    program = make_program(mobilenet_v2.create(1000, 1.0), 224)
    images = np.random.default_rng(6).integers(0, 256, (3, 224, 224, 3), np.uint8)
    _check(program, rgba(images), tmp_path)


def test_every_logit_of_trained_weights_is_equal(fixed_build):
    for platform, runtimes in (("android", ("android/litert", "android/executorch")), ("ios", ("ios/executorch",))):
        rows = {r.artifact.target: r for r in fixed_build.results[platform].rows if r.artifact.precision == "int8"}
        for name in runtimes:
            measured = {check.metric: check.measured for check in rows[name].checks}
            assert measured["equal_logits"] == 1 and measured["max_steps"] == 0, (name, measured)
