"""Zeros that are more on one side than on the other, from folding to int8: exact everywhere, the zero point in int8."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
from twinkeel.pipeline import data
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.parity import metrics, sensitivity
from twinkeel.pipeline.program.evaluation import evaluate, evaluate_quantized
from twinkeel.pipeline.program.graph import PAD, WEIGHTED, module_path, unpadded
from twinkeel.pipeline.program.layers import owners, watch
from twinkeel.pipeline.stages import blocks, equalize, layerwise, quantize, simulation

PADDED = ("features.0.0", "features.2.conv.1.0", "features.4.conv.1.0")
"""Of the fixture: a stem, a depthwise convolution of three taps, one of five."""
INT8 = ("android/litert", "android/executorch", "android/onnx", "ios/coreml", "ios/executorch_coreml")


def noise(count, resolution=40, seed=1):
    return data.rgba(np.random.default_rng(seed).integers(0, 256, (count, resolution, resolution, 3), np.uint8))


@pytest.fixture(scope="module")
def images():
    """Noise, and images with bright and dark borders, where a wrong padding shows most."""
    found = noise(6)
    found[1, :, -3:, :3], found[2, -3:, :, :3], found[3, :2, :, :3], found[4, ..., :3] = 255, 0, 255, 255
    return found


def test_the_fixture_pads_unevenly(padded_program):
    nodes = [n for n in padded_program.quantized.graph.nodes if n.target == PAD]
    zeros = [tuple(n.args[1]) for n in nodes]
    assert zeros == [(0, 1, 0, 1), (0, 1, 0, 1), (1, 2, 1, 2)]
    readers = [module_path(next(iter(n.users))).removeprefix("model.") for n in nodes]
    assert tuple(readers) == PADDED


def test_the_folded_stem_is_exact_at_every_border(padded_program, images):
    program = padded_program
    wanted, found = evaluate(program.original, images), evaluate(program.folded, images)
    assert metrics.snr_db(wanted, found) > 100
    values = {}

    def keep(name):
        return lambda _, __, output: values.__setitem__(name, output)

    first = program.original.get_submodule("model.features.0.1"), program.folded.get_submodule("model.features.0.0")
    hooks = [module.register_forward_hook(keep(name)) for name, module in zip("ab", first, strict=True)]
    evaluate(program.original, images[:5], 5), evaluate(program.folded, images[:5], 5)
    for hook in hooks:
        hook.remove()
    apart = (values["a"].clamp(0, 6) - values["b"].clamp(0, 6)).abs()  # the ReLU6 behind one of them writes into it
    for place in (apart[..., 0], apart[..., -1], apart[..., 0, :], apart[..., -1, :]):
        assert place.max() < 1e-4, place.max()


def test_equalization_changes_no_answer(padded_program, images):
    made = equalize.equalize(padded_program.folded, images)
    assert made.gains_db
    assert metrics.snr_db(evaluate(padded_program.folded, images), evaluate(made.module, images)) > 100


def test_zeros_are_bounded_as_values_that_a_channel_can_have(padded_program):
    """Interval arithmetic must let a tap read a zero where the channel itself never is one."""
    graph = equalize.export(padded_program.folded, noise(1))
    layers, _ = equalize._analyse(graph)
    assert {layer.name.removeprefix("model.") for layer in layers.values() if layer.pads} >= set(PADDED)


def test_a_map_is_quantized_once_and_before_its_zeros(padded_program):
    graph = padded_program.quantized.graph
    for node in [n for n in graph.nodes if n.target == PAD]:
        (reader,) = node.users
        assert reader.target in WEIGHTED and "dequantize" in str(reader.args[1].target)
        assert ".dequantize_per_tensor" in str(unpadded(reader).target)
    # the pixels are quantized before and after the transpose; each other layer's output once
    kinds = [kind for _, kind in owners(padded_program.quantized).values()]
    assert kinds.count("tensor") == 3


def test_biases_behind_zeros_are_on_their_grid(padded_program):
    module = padded_program.quantized
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    for node in [n for n in module.graph.nodes if n.target in WEIGHTED]:
        scale = unpadded(node).args[1] * state[str(node.args[1].args[1].target)].double()
        steps = state[str(node.args[2].target)].double() / scale
        assert (steps - steps.round()).abs().max() < 1e-2, module_path(node)


@pytest.mark.parametrize("key", ["int8-xnnpack", "int8-onnxruntime"])
def test_integer_arithmetic_puts_the_zero_point(key, padded_program, images):
    wanted = evaluate_quantized(padded_program.quantized, images)
    apart = metrics.steps(wanted, padded_program.evaluate(key, images), padded_program.outputs[0].scale)
    assert apart.max() <= 2 and (apart == 0).mean() > 0.8, f"{(apart == 0).mean():.3f} equal, {apart.max()} steps"


def test_each_layer_is_recorded_once(padded_program, images):
    _, recording = watch(padded_program, "int8-xnnpack", images[:1])
    assert [layer.name for layer in recording.layers if layer.name in PADDED] == list(PADDED)
    assert len(recording.layers) == 16


def test_least_squares_see_the_inputs_with_their_zeros(padded_program, images):
    """Inputs times weights, as reconstruction has them, are what the convolution gives."""
    seen, settings = {}, quantize.Settings()
    made = simulation.Simulation(padded_program.folded, images[:1], padded_program.contract, settings)
    found = made.ranges(made.statistics(padded_program.folded, images), "minmax")
    walk = simulation.Walk(made, made.floats(padded_program.folded), found, images)
    for node in walk.stops():
        path = module_path(node) if node.target in WEIGHTED else ""
        if node.target not in WEIGHTED:
            walk.go(node)
        elif (name := path.removeprefix("model.")) in PADDED:
            weight, bias = walk.layers[path]
            inputs = layerwise._inputs(node, walk.value(node.args[0], 0), weight, 500)
            rows = weight.double().reshape(len(inputs), -1, inputs.shape[2])
            product = (inputs @ rows.transpose(1, 2)).permute(1, 0, 2).reshape(inputs.shape[1], -1)
            wanted = layerwise._sampled(node, walk.value(node, 0), 500) - bias
            seen[name] = float((product - wanted).abs().max() / wanted.abs().max())
    assert seen.keys() == set(PADDED)
    assert max(seen.values()) < 1e-4, seen


@pytest.mark.parametrize("method", ["corrected", "solved", "learnt"])
def test_methods_of_the_ladder_behind_zeros_lose_nothing(padded_program, method):
    calibration, other, settings = noise(16), noise(16, seed=2), quantize.Settings()
    folded = padded_program.folded
    wanted = evaluate(folded, other)
    made = simulation.Simulation(folded, calibration[:1], padded_program.contract, settings)
    statistics = made.statistics(folded, calibration)
    found = made.ranges(statistics, "minmax")
    layers = made.rounded(folded, settings, found)
    plain = metrics.snr_db(wanted, evaluate_quantized(made.converted(folded, settings, found).module, other))
    if method == "corrected":
        layers = layerwise.correct_biases(made, layers, statistics, found, calibration)
    else:
        given = made, folded, folded, settings, found
        if method == "solved":
            rounded = layerwise.reconstruct(*given, calibration)
        else:
            rounded = blocks.learn(*given, statistics, calibration, lambda *_: None)
        layers, settings = rounded.layers, quantize.Settings(weight_scales=rounded.weight_scales)
    again = made.converted(layerwise.with_layers(folded, layers), settings, found)
    better = metrics.snr_db(wanted, evaluate_quantized(again.module, other))
    assert better > plain - 1, f"{plain:.1f} dB, {method} {better:.1f} dB"


def test_sensitivity_knows_layers_behind_zeros(padded_program, images):
    found = sensitivity.measure(padded_program, images, lambda *_: None)
    assert set(PADDED) <= {layer.name for layer in found.layers}


@pytest.fixture(scope="module")
def keeping(padded_program):
    """The program with some layers kept in float, made once."""

    @functools.cache
    def make(kept):
        if not kept:
            return padded_program
        settings = quantize.Settings(float_layers=frozenset(kept))
        made = quantize.quantize(padded_program.folded, noise(4), padded_program.contract, settings)
        return dataclasses.replace(
            padded_program,
            quantized=made.module,
            quantized_unfolded=made.unfolded,
            outputs=made.with_steps(padded_program.folded.outputs),
        )

    return make


@pytest.mark.parametrize("name", INT8)
@pytest.mark.parametrize(
    "kept", [(), ("model.features.0.0",), ("model.features.2.conv.1.0", "model.features.2.conv.0.0")]
)
def test_every_runtime_computes_the_int8_reference(name, kept, keeping, images, tmp_path):
    target, program = common.targets()[name], keeping(kept)
    path = target.build(program, "int8", tmp_path / f"x{target.SUFFIX}")
    loaded, operators = target.load(path), target.operators(path)
    found = np.concatenate([(loaded.exact or loaded.run)(image[None]) for image in images])
    apart = metrics.steps(program.evaluate(target.REFERENCES["int8"], images), found, program.outputs[0].scale)
    least = 0.7 if kept or name == "android/onnx" else 1.0  # sums of layers in float, and means in float, are rounded
    assert (apart == 0).mean() >= least and apart.max() <= 2, f"{(apart == 0).mean():.3f} equal, {apart.max()} steps"
    assert not [op for op in operators if "pad" in op.lower()], operators
    assert operators.get("delegate", 1) == 1 and operators.get("TRANSPOSE", 0) == 0, operators
    assert len(target.trace(path)(images[:1])) == 16


@pytest.mark.parametrize("name", INT8)
def test_every_runtime_computes_the_float_reference(name, padded_program, images, tmp_path):
    target, program = common.targets()[name], padded_program
    precision = target.PRECISIONS[0]
    path = target.build(program, precision, tmp_path / f"x{target.SUFFIX}")
    operators = target.operators(path)
    found = np.concatenate([target.load(path).run(image[None]) for image in images])
    snr = metrics.snr_db(program.evaluate(target.REFERENCES[precision], images), found)
    assert snr > (60 if precision == "fp16" else 100), snr
    assert not [op for op in operators if "pad" in op.lower()], operators
    assert operators.get("delegate", 1) == 1, operators


@pytest.mark.parametrize("resolution", [44, 36])
def test_odd_maps_are_padded_evenly_by_the_convolution_itself(resolution, padded_model, make_program, tmp_path):
    program, images = make_program(padded_model(), resolution), noise(4, resolution)
    zeros = [tuple(n.args[1]) for n in program.quantized.graph.nodes if n.target == PAD]
    assert len(zeros) < 3
    assert metrics.snr_db(evaluate(program.original, images), evaluate(program.folded, images)) > 100
    for name in ("android/litert", "android/executorch"):
        target = common.targets()[name]
        run = target.load(target.build(program, "int8", tmp_path / f"x{target.SUFFIX}")).run
        found = np.concatenate([run(image[None]) for image in images])
        assert np.array_equal(program.evaluate("int8-xnnpack", images), found), name


def test_training_under_quantization_keeps_the_zeros(padded_program):
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    batch = torch.export.Dim("batch", min=2)
    example = torch.from_numpy(noise(2))
    graph = torch.export.export(padded_program.folded, (example,), dynamic_shapes=({0: batch},)).module()
    with quantize.relu6_is_fused():
        prepared = prepare_qat_pt2e(graph, quantize.quantizer(quantize.Settings(), is_qat=True))
    pads = [n for n in prepared.graph.nodes if n.target == PAD]
    assert len(pads) == 3
    for node in pads:
        assert "activation_post_process" in str(node.args[0].target)
        assert next(iter(node.users)).target in WEIGHTED
