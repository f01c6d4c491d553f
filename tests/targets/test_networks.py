"""Networks of users' own on every runtime: int8 to the last bit, and one delegate."""

from __future__ import annotations

import functools

import networks
import numpy as np
import programs
import pytest
import torch
from twinkeel.pipeline import parity
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, integer, layers, steps

CONTRACT = InputContract.of(networks.RESOLUTION, programs.MEAN, programs.STD)
TARGETS = ("android/executorch", "android/litert", "android/onnx")


@pytest.fixture(scope="module")
def pixels():
    coarse = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    images = coarse.repeat(networks.RESOLUTION // 8, 1).repeat(networks.RESOLUTION // 8, 2)
    return np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], -1)


def make(name, pixels):
    torch.manual_seed(0)
    model = networks.settled(networks.NETWORKS[name]())
    labels = map(str, range(networks.OUTPUTS)) if name != "unet" else ()
    return programs.program(model, CONTRACT, pixels[:16], labels=tuple(labels))


@pytest.fixture(scope="module")
def made(pixels):
    """The program of a network by name, made once."""
    return functools.cache(lambda name: make(name, pixels))


@pytest.fixture(
    scope="module",
    params=["resnet", "squeezenet", "mobilenet_v3", "efficientnet", "shufflenet", "densenet", "odd"],
)
def program(request, made):
    return made(request.param)


@pytest.mark.parametrize("name", TARGETS)
def test_int8_equals_the_reference_in_the_runtimes_arithmetic(program, pixels, name, tmp_path):
    target = common.targets()[name]
    path = target.build(program, "int8", tmp_path / f"network{target.SUFFIX}")
    run = target.load(path).run
    found = np.concatenate([run(image[None]) for image in pixels])
    expected = program.evaluate(target.REFERENCES["int8"], pixels)
    equal = float((found == expected).mean())
    apart = metrics.steps(expected, found, steps(program.outputs)).max()
    assert equal == 1, f"{100 * equal:.1f} % equal, {apart:g} steps apart"
    if name == "android/executorch":
        assert target.operators(path) == {"delegate": 1}


def test_no_integers_are_wanting_in_these_networks(program):
    assert integer.in_float(program.quantized) == ()


@pytest.mark.parametrize(
    ("name", "in_float"),
    [("vit", ("layer_norm", "matmul", "softmax")), ("convnext", ("layer_norm",))],
)
def test_sums_of_floats_between_integers_are_named_and_no_noise_of_their_own(name, in_float, made, pixels, tmp_path):
    program = made(name)
    assert integer.in_float(program.quantized) == in_float
    target = common.targets()["android/executorch"]
    run = target.load(target.build(program, "int8", tmp_path / "network.pte")).run
    found = np.concatenate([run(image[None]) for image in pixels])
    assert metrics.snr_db(program.evaluate("int8-xnnpack", pixels), found) >= 30


@pytest.fixture(scope="module")
def unet(made):
    return made("unet")


@pytest.mark.parametrize("name", TARGETS)
def test_maps_are_resized_in_integers_and_onnxruntime_does_it_in_float(unet, pixels, name, tmp_path):
    in_float = integer.in_float(unet.quantized)
    assert in_float == ("conv_transpose2d in onnxruntime", "upsample_bilinear2d in onnxruntime")
    target = common.targets()[name]
    path = target.build(unet, "int8", tmp_path / f"network{target.SUFFIX}")
    run = target.load(path).run
    found = np.concatenate([run(image[None]) for image in pixels])
    expected = unet.evaluate(target.REFERENCES["int8"], pixels)
    if parity.arithmetic(target.KERNELS, in_float):
        assert (found == expected).all(), f"{100 * (found == expected).mean():.2f} % equal"
        assert name != "android/executorch" or target.operators(path) == {"delegate": 1}
    assert bool(parity.arithmetic(target.KERNELS, in_float)) == (name != "android/onnx")
    assert metrics.snr_db(expected, found) >= 30


@pytest.mark.parametrize("name", ["mobilenet_v3", "vit", "unet"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_core_ml_packages_hold_the_same_numbers(name, precision, made, pixels, tmp_path):
    program, target = made(name), common.targets()["ios/coreml"]
    loaded = target.load(target.build(program, precision, tmp_path / "network.mlpackage"))
    expected = program.evaluate(target.REFERENCES[precision], pixels[:4])
    found = np.concatenate([loaded.exact(image[None]) for image in pixels[:4]])
    assert metrics.max_error(expected, found) <= 1e-5


def test_fp16_weights_and_what_litert_makes_of_them_are_those_of_the_reference(made, pixels, tmp_path):
    """Pixels are normalized by a convolution without padding, whose bias takes the grey level."""
    program, target = made("preactivated"), common.targets()["android/litert"]
    run = target.load(target.build(program, "fp16", tmp_path / "network.tflite")).run
    found = np.concatenate([run(image[None]) for image in pixels])
    assert metrics.snr_db(program.evaluate("fp16", pixels), found) >= 110


def test_an_added_constant_is_no_residual(program, pixels):
    _, recording = layers.watch(program, "int8-xnnpack", pixels[:1])
    additions = [layer.name for layer in recording.layers if layer.kind == "addition"]
    hardswishes = sum(name.endswith("+ a constant") for name in additions)
    constants = sum(
        node.target == torch.ops.aten.add.Tensor and any(source.op == "get_attr" for source in node.all_input_nodes)
        for node in program.folded.model.graph.nodes
    )
    assert hardswishes == constants


class Up(torch.nn.Module):
    """Transposed convolutions of several kinds, two of them with the same weights, behind activations and without."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(3, 8, 3, 4, 1)
        self.even = torch.nn.ConvTranspose2d(8, 8, 2, 2)
        self.wide = torch.nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.same = torch.nn.ConvTranspose2d(6, 6, 2, 2)
        self.last = torch.nn.Conv2d(6, 3, 1)

    def forward(self, x):
        x = torch.relu(self.even(torch.relu(self.down(x))))
        x = torch.relu(self.wide(x))
        return self.last(self.same(x) + self.same(torch.max_pool2d(x, 3, 1, 1)))


@pytest.mark.parametrize("name", TARGETS[:2])
def test_transposed_convolutions_are_integers(pixels, name, tmp_path):
    program = programs.program(networks.settled(Up()), CONTRACT, pixels[:16])
    target = common.targets()[name]
    path = target.build(program, "int8", tmp_path / f"network{target.SUFFIX}")
    run = target.load(path).run
    found = np.concatenate([run(image[None]) for image in pixels])
    expected = program.evaluate("int8-xnnpack", pixels)
    assert (found == expected).all(), f"{100 * (found == expected).mean():.2f} % equal: {target.operators(path)}"
