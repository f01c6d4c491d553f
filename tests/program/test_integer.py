"""The integer reference: its rounding, and the runtimes that it must equal to the last bit."""

from __future__ import annotations

import platform

import numpy as np
import programs
import pytest
import torch
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.data import rgba
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, integer, steps


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


def _all_pairs():
    return (values.astype(np.uint8).ravel() for values in np.meshgrid(np.arange(256), np.arange(256)))


def _added_by_onnxruntime(scales, zero_points, pair):
    import onnx
    import onnxruntime

    constants = {name: np.float32(scale) for name, scale in zip(("sa", "sb", "sc"), scales, strict=True)}
    constants |= {name: np.uint8(point) for name, point in zip(("za", "zb", "zc"), zero_points, strict=True)}
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [65536]) for name in "abc"]
    inputs = ["a", "sa", "za", "b", "sb", "zb", "sc", "zc"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("QLinearAdd", inputs, ["c"], domain="com.microsoft")], "addition", values[:2], values[2:],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    content = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip("ab", pair, strict=True)))[0].astype(np.int16) - 128


@pytest.mark.parametrize("seed", range(8))
def test_onnxruntime_adds_every_pair_of_steps_as_one_of_its_two_additions_does(seed):
    """On x86 with AVX2 the one that the reference takes, on arm64 the other; they differ in very few values."""
    random = np.random.default_rng(seed)
    one, other = random.uniform(0.01, 0.1, 2)
    scale = max(one, other) * random.uniform(0.8, 1.6)
    points = [int(point) for point in random.integers(60, 190, 3)]
    a, b = _all_pairs()
    pair = integer.Addition(_steps(a - 128.0, one, points[0] - 128), _steps(b - 128.0, other, points[1] - 128))
    both = {
        "x86_64": _quantized(pair, scale, points[2] - 128, -128, 127, kernels="onnxruntime").values,
        "arm64": integer.added_on_arm64(pair, scale, points[2] - 128).clamp(-128, 127),
    }
    found = _added_by_onnxruntime((one, other, scale), points, (a, b))
    machine = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
    apart = {name: int((values.numpy() != found).sum()) for name, values in both.items()}
    assert apart[machine] == 0, apart
    assert max(apart.values()) <= 8, apart


def test_sums_beyond_24_bits_are_rounded_as_float32_does():
    sums = integer.Sums(torch.tensor([2.0**24 + 1], dtype=torch.float64), torch.tensor(2.0**-20))
    assert _quantized(sums, 1.0, 0, -128, 127).values.tolist() == [16]


def _between_integers(small_program, operation, *args):
    """A graph that quantizes bytes, computes with them, and quantizes the result where `operation` is not the last."""
    nodes = small_program.quantized.graph.nodes
    quantize, dequantize = (
        next(n.target for n in nodes if f".{name}_per_tensor" in str(n.target)) for name in ("quantize", "dequantize")
    )
    graph = torch.fx.Graph()
    quantized = graph.call_function(quantize, (graph.placeholder("pixels"), 1.0, 0, -128, 127, torch.int8))
    real = graph.call_function(dequantize, (quantized, 1.0, 0, -128, 127, torch.int8))
    made = graph.call_function(operation, (real, *args))
    again = graph.call_function(quantize, (made, 0.01, -128, -128, 127, torch.int8))
    graph.output(graph.call_function(dequantize, (again, 0.01, -128, -128, 127, torch.int8)))
    return torch.fx.GraphModule(torch.nn.Module(), graph)


@pytest.mark.parametrize(
    ("operation", "args", "named"),
    [
        (torch.ops.aten.softmax.int, (1,), ("softmax",)),
        (torch.ops.aten.layer_norm.default, ([4],), ("layer_norm",)),
        (torch.ops.aten.sigmoid.default, (), ()),  # each value by itself
    ],
)
def test_what_has_no_integers_is_computed_in_float_and_named_where_it_sums(small_program, operation, args, named):
    module = _between_integers(small_program, operation, *args)
    pixels = np.arange(16, dtype=np.uint8).reshape(1, 2, 2, 4)
    assert integer.in_float(module) == named
    expected = operation(torch.from_numpy(pixels).float(), *args)
    steps = (torch.round(expected / 0.01) - 128).clamp(-128, 127) + 128
    assert np.allclose(integer.evaluate_integer(module, pixels), 0.01 * steps.numpy().reshape(1, -1), atol=1e-6)


@pytest.mark.parametrize("is_read_in_float", [False, True])
def test_parts_of_a_value_that_are_quantized_have_one_grid(is_read_in_float):
    """Behind a sigmoid one part becomes the middles of boxes, on a grid of its own where nothing asks for one of them all."""

    class Parts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Conv2d(3, 7, 1)
            self.register_buffer("corners", torch.rand(1, 2, 8, 8))

        def forward(self, x):
            values = torch.sigmoid(self.head(x))
            middles = values[:, :2] * 0.2 + self.corners
            rest = values[:, 2:]
            return torch.cat([middles, torch.exp(rest) if is_read_in_float else rest], 1)

    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 4), np.uint8)
    contract = InputContract.of(8, programs.MEAN, programs.STD)
    graph = programs.program(Parts().eval(), contract, images).quantized.graph
    (sigmoid,) = (node for node in graph.nodes if node.target == torch.ops.aten.sigmoid.default)
    readers = [str(user.target) for user in sigmoid.users]
    assert all("quantize_per_tensor" in one for one in readers) != is_read_in_float, readers
    assert is_read_in_float or len(readers) == 1


def test_float_outputs_are_named_too(small_program):
    graph = _between_integers(small_program, torch.ops.aten.sigmoid.default).graph
    output = next(n for n in graph.nodes if n.op == "output")
    output.args = (next(n for n in graph.nodes if n.target == torch.ops.aten.sigmoid.default),)
    assert integer.in_float(torch.fx.GraphModule(torch.nn.Module(), graph)) == ("sigmoid",)


def test_a_product_is_rounded_as_each_runtime_does(small_program):
    one, other = (torch.tensor([[127.0, -3.0, 5.0]], dtype=torch.float64) for _ in range(2))
    pair = integer.Product(integer.Steps(one, 0.5, 0), integer.Steps(other, 0.5, 2))
    exact = one * (other - 2) * 0.25 / 10
    for kernels in integer.KERNELS.values():
        assert torch.equal(kernels.multiply(pair, 10.0, 7), torch.round(exact) + 7)


@pytest.mark.parametrize(
    ("kernels", "steps"), [("xnnpack", [-58.0, -82.0, -44.0]), ("onnxruntime", [-59.0, -81.0, -43.0])]
)
def test_a_tie_of_a_mean_goes_to_even_steps_in_xnnpack_and_to_even_distances_in_onnxruntime(kernels, steps):
    # 8.5, -14.5 and 23.5 steps from the zero point -67
    sums = integer.Sums(torch.tensor([544.0, -928.0, 1504.0], dtype=torch.float64), torch.tensor(0.5), count=64)
    assert integer._quantize(integer.KERNELS[kernels], sums, 0.5, -67, -128, 127).values.tolist() == steps


def test_a_mean_that_keeps_its_grid_is_one_over_its_count_in_xnnpack():
    # by another order of the divisions it would be a last bit less, and 918 / 36 = 25.5 no tie any more: LiteRT and ExecuTorch give 26
    sums = integer.Sums(torch.tensor([918.0], dtype=torch.float64), torch.tensor(0.007912866771221161), count=36)
    assert integer._quantize(integer.KERNELS["xnnpack"], sums, 0.007912866771221161, 2, -128, 127).values.tolist() == [
        28
    ]


def _check(program, images, folder):
    for name in ("android/litert", "android/executorch", "android/onnx"):
        target = common.targets()[name]
        expected = program.evaluate(target.REFERENCES["int8"], images)
        run = target.load(target.build(program, "int8", folder / f"x{target.SUFFIX}")).run
        found = np.concatenate([run(image[None]) for image in images])
        apart = metrics.steps(expected, found, steps(program.outputs))
        assert (apart == 0).all(), f"{name}: {(apart == 0).mean():.6f} equal, at most {apart.max():.0f} steps"


def test_the_runtimes_compute_it_on_noise(shallow_program, tmp_path):
    """All layers of the whole network compute it on digits: `test_every_logit_of_trained_weights_is_equal`."""
    images = np.random.default_rng(5).integers(0, 256, (40, 32, 32, 3), np.uint8)
    _check(shallow_program, rgba(images), tmp_path)


def test_the_runtimes_compute_it_at_112_with_width_1(make_program, tmp_path, monkeypatch):
    """Maps of 56 to 7 pixels, as at 224, and then 4x4: more than the 7 that XNNPACK sums at a time, and no multiple. A third
    block of a stage is the second again."""
    torch.manual_seed(1)
    stages = tuple(stage._replace(repeats=min(stage.repeats, 2)) for stage in mobilenet_v2.STAGES)
    monkeypatch.setattr(mobilenet_v2, "STAGES", stages)
    program = make_program(mobilenet_v2.create(1000, 1.0), 112)
    images = np.random.default_rng(6).integers(0, 256, (3, 112, 112, 3), np.uint8)
    _check(program, rgba(images), tmp_path)


def test_every_logit_of_trained_weights_is_equal(fixed_build):
    for folder, runtimes in (
        ("android", ("android/litert", "android/executorch", "android/onnx")),
        ("ios", ("ios/executorch", "ios/onnx")),
    ):
        rows = {r.artifact.target: r for r in fixed_build.results[folder].rows if r.artifact.precision == "int8"}
        for name in runtimes:
            measured = {check.metric: check.measured for check in rows[name].checks}
            # onnxruntime adds with another rounding on arm64
            least, most = (0.999, 1) if name.endswith("onnx") else (1, 0)
            assert measured["equal_logits"] >= least and measured["max_steps"] <= most, (name, measured)
