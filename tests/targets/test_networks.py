"""Networks of users' own on every runtime: int8 to the last bit, and one delegate."""

from __future__ import annotations

import functools

import networks
import numpy as np
import pytest
import torch
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import About, InputContract, integer, layers
from twinkeel.pipeline.program.program import Program
from twinkeel.pipeline.stages import fold, quantize

CONTRACT = InputContract.of(networks.RESOLUTION, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TARGETS = ("android/executorch", "android/litert", "android/onnx")


@pytest.fixture(scope="module")
def pixels():
    coarse = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    images = coarse.repeat(networks.RESOLUTION // 8, 1).repeat(networks.RESOLUTION // 8, 2)
    return np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], -1)


def make(name, pixels):
    torch.manual_seed(0)
    model = networks.settled(networks.NETWORKS[name]())
    folded = fold.fold(model, CONTRACT)
    made = quantize.quantize(folded, pixels[:16], CONTRACT)
    return Program(
        name="network",
        contract=CONTRACT,
        labels=tuple(str(n) for n in range(networks.OUTPUTS)) if name != "unet" else (),
        original=fold.Normalized(model, CONTRACT.mean, CONTRACT.std).eval(),
        folded=folded,
        tuned=folded,
        quantized=made.module,
        quantized_unfolded=made.unfolded,
        output_scale=made.output_scale,
        about=About(author="", license="", version="1", description=""),
        minimum_ios=18,
    )


@pytest.fixture(scope="module")
def made(pixels):
    """The program of a network by name, made once."""
    return functools.cache(lambda name: make(name, pixels))


@pytest.fixture(
    scope="module",
    params=["resnet", "squeezenet", "mobilenet_v3", "efficientnet", "shufflenet", "densenet"],
)
def program(request, made):
    return made(request.param)


@pytest.mark.parametrize("name", TARGETS)
def test_int8_equals_the_reference_in_the_runtimes_arithmetic(program, pixels, name, tmp_path):
    target = common.targets()[name]
    path = target.build(program, "int8", tmp_path / f"network{target.SUFFIX}")
    run = target.load(path).run
    found = np.concatenate([run(image[None]) for image in pixels])
    expected = program.outputs(target.REFERENCES["int8"], pixels)
    equal = float((found == expected).mean())
    steps = metrics.steps(expected, found, program.output_scale).max()
    assert equal == 1, f"{100 * equal:.1f} % equal, {steps:g} steps apart"
    if name == "android/executorch":
        assert target.operators(path) == {"delegate": 1}


def test_no_integers_are_wanting_in_these_networks(program):
    assert integer.in_float(program.quantized) == ()


@pytest.mark.parametrize(
    ("name", "in_float"),
    [("unet", ("upsample_bilinear2d",)), ("vit", ("layer_norm", "matmul", "softmax")), ("convnext", ("layer_norm",))],
)
def test_sums_of_floats_between_integers_are_named_and_no_noise_of_their_own(name, in_float, made, pixels, tmp_path):
    program = made(name)
    assert integer.in_float(program.quantized) == in_float
    target = common.targets()["android/executorch"]
    run = target.load(target.build(program, "int8", tmp_path / "network.pte")).run
    found = np.concatenate([run(image[None]) for image in pixels])
    assert metrics.snr_db(program.outputs("int8-xnnpack", pixels), found) >= 30


@pytest.mark.parametrize("name", ["mobilenet_v3", "vit", "unet"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_core_ml_packages_hold_the_same_numbers(name, precision, made, pixels, tmp_path):
    program, target = made(name), common.targets()["ios/coreml"]
    loaded = target.load(target.build(program, precision, tmp_path / "network.mlpackage"))
    expected = program.outputs(target.REFERENCES[precision], pixels[:4])
    found = np.concatenate([loaded.exact(image[None]) for image in pixels[:4]])
    assert metrics.max_error(expected, found) <= 1e-5


def test_an_added_constant_is_no_residual(program, pixels):
    _, recording = layers.watch(program, "int8-xnnpack", pixels[:1])
    additions = [layer.name for layer in recording.layers if layer.kind == "addition"]
    hardswishes = sum(name.endswith("+ a constant") for name in additions)
    constants = sum(
        node.target == torch.ops.aten.add.Tensor and any(source.op == "get_attr" for source in node.all_input_nodes)
        for node in program.folded.model.graph.nodes
    )
    assert hardswishes == constants
