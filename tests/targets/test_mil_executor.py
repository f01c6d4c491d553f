"""The executor on packages that others made, against torch; and on what it does not know."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from twinkeel.pipeline.errors import PackageError
from twinkeel.targets.ios import mil_executor

SIDE = 20


class Foreign(nn.Module):
    """What our own model does not have: other paddings, poolings, activations, norms and joins."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 16, 3, padding=(0, 1), groups=4, bias=False)
        self.dilated = nn.Conv2d(16, 16, 3, padding="same", dilation=2)
        self.prelu = nn.PReLU(16, init=0.1)
        self.instance = nn.InstanceNorm2d(16, affine=True)
        self.layer = nn.LayerNorm(16)
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        x = F.leaky_relu(self.norm(self.first(x / 255 - 0.5)), 0.2)
        x = F.max_pool2d(x, 3, 2, 1)
        x = F.elu(self.grouped(F.pad(x, (1, 2, 0, 1), value=0.25)))
        x = self.prelu(self.dilated(x)) + F.silu(x)
        x = F.avg_pool2d(x, 2, 1, 1, count_include_pad=False) * torch.sigmoid(F.avg_pool2d(x, 2, 1, 1))
        x = self.instance(F.interpolate(x, scale_factor=2, mode="nearest"))
        x = torch.cat([F.gelu(x[:, :8]), F.hardtanh(x[:, 8:], -0.5, 0.7)], 1)
        left, right = x.chunk(2, 1)
        x = torch.stack([left.tanh(), F.softplus(right)], 2).flatten(1, 2)
        x = F.hardswish(x).amax(3).mean(2) - F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.last(self.layer(x).clamp(min=-1)).softmax(-1)


def _net(module, seed=0):
    torch.manual_seed(seed)
    made = module()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for buffer in made.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.1 * torch.rand_like(buffer))
    return made.eval()


def _convert(module, folder, target="iOS17", precision="FLOAT32", inputs=None, **options):
    import coremltools

    exported = torch.export.export(module, (torch.zeros(1, 3, SIDE, SIDE),)).run_decompositions({})
    model = coremltools.convert(
        exported,
        inputs=inputs or [coremltools.TensorType("x", shape=(1, 3, SIDE, SIDE))],
        compute_precision=coremltools.precision[precision],
        minimum_deployment_target=coremltools.target[target],
        skip_model_load=True,
        **options,
    )
    model.save(str(folder / "foreign.mlpackage"))
    return folder / "foreign.mlpackage"


def _only(prediction):
    return next(iter(prediction.arrays.values()))


IMAGES = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


def _batch(image):
    return image.transpose(2, 0, 1)[None].astype(np.float32)


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize(("precision", "tolerance"), [("FLOAT32", 1e-5), ("FLOAT16", 1e-2)])
def test_a_foreign_network_gives_what_torch_gives(target, precision, tolerance, tmp_path):
    net = _net(Foreign)
    model = mil_executor.Model(_convert(net, tmp_path, target, precision))
    for image in IMAGES:
        expected = net(torch.from_numpy(_batch(image))).detach().numpy()
        error = np.abs(_only(model.predict({"x": _batch(image)})) - expected).max()
        assert error <= tolerance, f"{target} {precision}: {error:.2e}, {model.operations}"


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return F.max_pool2d(x, 3, 2, ceil_mode=True).flatten(1), F.avg_pool2d(x, 3, 2, 1, ceil_mode=True).flatten(1)


def test_ceil_mode_pools_count_only_what_there_is(tmp_path):
    net = _net(Pooled)
    package = _convert(net, tmp_path)
    model = mil_executor.Model(package)
    expected = net(torch.from_numpy(_batch(IMAGES[0])))
    found = list(model.predict({"x": _batch(IMAGES[0])}).arrays.values())
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted.detach().numpy(), rtol=1e-4, atol=1e-3)


OPERATIONS = {
    "crop": nn.ConvTranspose2d(3, 4, 3, 2, 1, 1),
    "reverse": lambda x: x.flip(3),
    "gather": lambda x: x.roll(3, 2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :8, :8], 2),
    "sign": lambda x: torch.sign(x - 100),
    "threshold": lambda x: F.threshold(x - 100, 0.5, 0.5),
    "softplus_parametric": lambda x: F.softplus(x / 100, 2.0),
    "cumsum": lambda x: x.cumsum(2) / 100,
    "reduce_l2_norm": lambda x: x.norm(dim=1),
    "reduce_argmax": lambda x: x.argmax(1).float(),
    "select": lambda x: torch.where(x > 100, x, 0.1 * x),
    "pad": lambda x: F.pad(x, (0, 0, 2, 1), "reflect"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_what_torch_gives(name, tmp_path):
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = OPERATIONS[name] if isinstance(OPERATIONS[name], nn.Module) else None

        def forward(self, x):
            return OPERATIONS[name](x) if self.inner is None else self.inner(x)

    net = Called().eval()
    model = mil_executor.Model(_convert(net, tmp_path))
    assert name in model.operations, model.operations
    expected = net(torch.from_numpy(_batch(IMAGES[0]))).detach().numpy()
    np.testing.assert_allclose(_only(model.predict({"x": _batch(IMAGES[0])})), expected, rtol=1e-5, atol=1e-4)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 32, 3, stride=3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU6())
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        return self.last(self.body(x / 255).mean((2, 3))).softmax(-1)


def test_coremltools_own_classifier_names_the_class(tmp_path):
    import coremltools

    net = _net(Small)
    package = _convert(
        net,
        tmp_path,
        inputs=[coremltools.ImageType("photo", shape=(1, 3, SIDE, SIDE))],
        classifier_config=coremltools.ClassifierConfig(["ant", "bee", "cat"]),
    )
    prediction = mil_executor.Model(package).classify(IMAGES[0])
    expected = net(torch.from_numpy(_batch(IMAGES[0])))[0].detach().numpy()
    assert list(prediction.probabilities) == ["ant", "bee", "cat"]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-6)
    assert prediction.label == ["ant", "bee", "cat"][expected.argmax()]


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_an_image_arrives_in_the_packages_own_colour_order(layout, tmp_path):
    import coremltools

    net = _net(Small)
    image = coremltools.ImageType(
        "photo", shape=(1, 3, SIDE, SIDE), scale=0.5, bias=[1.0, 2.0, 3.0], color_layout=coremltools.colorlayout[layout]
    )
    found = _only(mil_executor.Model(_convert(net, tmp_path, inputs=[image])).classify(IMAGES[0]))
    pixels = _batch(IMAGES[0] if layout == "RGB" else IMAGES[0][..., ::-1])
    scaled = pixels * 0.5 + np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(found, net(torch.from_numpy(scaled)).detach().numpy(), atol=1e-6)


def _palettes(model):
    import coremltools.optimize.coreml as cto

    return cto.palettize_weights(model, cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4, weight_threshold=0)))


def _grouped_palettes(model):
    import coremltools.optimize.coreml as cto

    config = cto.OpPalettizerConfig(nbits=2, granularity="per_grouped_channel", group_size=4, weight_threshold=0)
    return cto.palettize_weights(model, cto.OptimizationConfig(config))


def _int8(model):
    import coremltools.optimize.coreml as cto

    config = cto.OpLinearQuantizerConfig(mode="linear", weight_threshold=0)
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(config))


def _int4_blocks(model):
    import coremltools.optimize.coreml as cto

    config = cto.OpLinearQuantizerConfig(dtype="int4", granularity="per_block", block_size=16, weight_threshold=0)
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(config))


@pytest.mark.parametrize(
    ("compress", "target"),
    [(_palettes, "iOS16"), (_palettes, "iOS18"), (_grouped_palettes, "iOS18"), (_int8, "iOS16"), (_int8, "iOS18"), (_int4_blocks, "iOS18")],
)  # fmt: skip
def test_compressed_weights_are_those_that_coremltools_decompresses(compress, target, tmp_path):
    import coremltools
    import coremltools.optimize.coreml as cto

    package = _convert(_net(Small), tmp_path, target, "FLOAT16")
    compressed = compress(coremltools.models.MLModel(str(package), skip_model_load=True))
    compressed.save(str(tmp_path / "small.mlpackage"))
    cto.decompress_weights(compressed).save(str(tmp_path / "dense.mlpackage"))
    small, dense = (mil_executor.Model(tmp_path / f"{name}.mlpackage") for name in ("small", "dense"))
    for image in IMAGES:
        np.testing.assert_array_equal(
            _only(small.predict({"x": _batch(image)})), _only(dense.predict({"x": _batch(image)}))
        )


class Tangent(nn.Module):
    def forward(self, x):
        return torch.tan(x)


def test_an_unknown_operation_is_named(tmp_path):
    model = mil_executor.Model(_convert(Tangent(), tmp_path))
    with pytest.raises(PackageError, match=r"operation 'tan' \(\w+\) is not known"):
        model.predict({"x": _batch(IMAGES[0])})


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return _convert(_net(Small), tmp_path_factory.mktemp("package"))


def _cut_weights(folder):
    path = folder / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    path.write_bytes(path.read_bytes()[:100])


def _cut_model(folder):
    path = folder / "Data" / "com.apple.CoreML" / "model.mlmodel"
    path.write_bytes(path.read_bytes()[:-7])


def _other_model(folder):
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.neuralNetwork.SetInParent()
    (folder / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())


def _no_weights(folder):
    shutil.rmtree(folder / "Data" / "com.apple.CoreML" / "weights")


def _outside(folder):
    manifest = json.loads((folder / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../../etc/passwd"
    (folder / "Manifest.json").write_text(json.dumps(manifest))


DAMAGE = {
    "no-manifest": (lambda f: (f / "Manifest.json").unlink(), "is no .mlpackage"),
    "manifest-text": (lambda f: (f / "Manifest.json").write_text("hello"), "is no .mlpackage"),
    "manifest-empty": (lambda f: (f / "Manifest.json").write_text("{}"), "is no .mlpackage"),
    "manifest-deep": (lambda f: (f / "Manifest.json").write_text("[" * 9999), "is no .mlpackage"),
    "path-outside": (_outside, "outside of it"),
    "model-cut": (_cut_model, "cannot read"),
    "other-model": (_other_model, "no ML Program"),
    "weights-cut": (_cut_weights, "is it cut off"),
    "weights-missing": (_no_weights, "does not hold"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_package_is_one_clear_error(name, package, tmp_path):
    damage, message = DAMAGE[name]
    copy = shutil.copytree(package, tmp_path / "copy.mlpackage")
    damage(copy)
    with pytest.raises(PackageError, match=message):
        mil_executor.open_model(copy)


@pytest.mark.parametrize("place", ["constants", "inputs"])
def test_no_memory_for_values_is_an_error_of_the_operation(place, package, monkeypatch):
    """torch then raises a RuntimeError; what is constant is converted once, the rest for each image."""
    in_float = mil_executor._in_float

    def convert(value, kind):
        is_input = isinstance(value, torch.Tensor) and tuple(value.shape) == (1, 3, SIDE, SIDE)
        is_weight = isinstance(value, torch.Tensor) and value.ndim == 4 and not is_input
        if {"constants": is_weight, "inputs": is_input}[place]:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return in_float(value, kind)

    model = mil_executor.Model(package)
    monkeypatch.setattr(mil_executor, "_in_float", convert)
    with pytest.raises(PackageError, match=r"operation '\w+' \(.*\): .*can't allocate memory"):
        model.predict({"x": _batch(IMAGES[0])})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "were not given"),
        ({"x": np.zeros((1, 3, 8, 8), np.float32)}, "the package declares"),
        ({"x": np.zeros((SIDE, SIDE), np.float32)}, "the package declares"),
    ],
    ids=["none", "size", "rank"],
)
def test_an_input_that_does_not_fit_is_one_clear_error(inputs, message, package):
    with pytest.raises(PackageError, match=message):
        mil_executor.Model(package).predict(inputs)


def test_neither_package_nor_program(tmp_path):
    (tmp_path / "x.pte").write_bytes(b"no program")
    (tmp_path / "x.txt").write_text("text")
    for path, message in ((tmp_path / "y", "does not exist"), (tmp_path / "x.txt", "is no .mlpackage folder"), (tmp_path / "x.pte", "no readable")):  # fmt: skip
        with pytest.raises(PackageError, match=message):
            mil_executor.open_model(path)
