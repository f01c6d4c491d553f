"""Core AI: networks of the family at 224 pixels, and our executor of Core ML's programs beside Apple's own runtime.

    python benchmarks/core_ai.py networks [--only mobilenet_v2] [--resolution 224] [--images 2]
    python benchmarks/core_ai.py operations [--seed 0] [--programs 8]

Both take the extra `coreai`, and write core_ai.json to `--out`, docs/benchmarks by default.

*networks*: random weights behind BatchNorm statistics of noise, width 1, through the same stages as a build without training and
without the ladder. Told of each precision: what it differs from the float32 reference by, how much of it equals the reference in Core
AI's own arithmetic to the last bit, megabytes, and seconds to make it, to load it and for an image.

*operations*: small programs of one operation, its numbers drawn by the seed. torch's graph goes to Core ML by coremltools and is run
by our executor, and to Core AI by Apple's converter and is run by Apple's runtime on this processor. What they differ by is told over the
largest value; beside it what each is off torch in float64, which says who of the two is nearer. Core AI is another format with kernels of its
own: where both agree, our reading of an operation is Apple's; what a phone's Neural Engine rounds is told by neither.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))

import peers

PACKAGES = ("torch", "coremltools", "coreai-core", "coreai-torch")
CHANNELS, HEIGHT, WIDTH = 8, 13, 11
NETWORKS = {
    "mobilenet_v2": (10, 224),
    "efficientnet_lite0": (1000, 224),
    "mobilenet_v3_large": (10, 224),
    "residual": (10, 224),
    "ssdlite_mobilenet_v2": (10, 224),
}
"""Classes and pixels."""
CALIBRATION = 16


# ---- small programs


class Function(nn.Module):
    """What is no module as one."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Several(nn.Module):
    """Programs of one operation side by side."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


class Half(nn.Module):
    """The same in float16, between float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.half()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(found.float() for found in self.inner(x.half()))


Draw = np.random.Generator


def _conv(draw: Draw) -> nn.Module:
    size, groups = int(draw.choice([1, 2, 3, 5])), int(draw.choice([1, 2, CHANNELS]))
    stride, dilation = (int(draw.integers(1, 3)) for _ in range(2))
    return nn.Conv2d(CHANNELS, 8, size, stride, int(draw.integers(0, 3)), dilation, groups, bool(draw.integers(2)))


def _transposed(draw: Draw) -> nn.Module:
    stride, size = int(draw.integers(1, 4)), int(draw.integers(2, 5))
    padding = int(draw.integers(0, 2))
    # without padding coremltools 9.0 refuses more at the end
    more = int(draw.integers(0, stride)) if stride > 1 and padding else 0
    return nn.ConvTranspose2d(CHANNELS, 6, size, stride, padding, more)


class _Linear(nn.Module):
    def __init__(self, out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, out)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found


def _max_pool(draw: Draw) -> nn.Module:
    size = int(draw.integers(2, 4))
    return nn.MaxPool2d(
        size, int(draw.integers(1, 3)), int(draw.integers(0, size // 2 + 1)), ceil_mode=bool(draw.integers(2))
    )


def _avg_pool(draw: Draw) -> nn.Module:
    size = int(draw.integers(2, 4))
    padding, is_counted = int(draw.integers(0, size // 2 + 1)), bool(draw.integers(2))
    return nn.AvgPool2d(size, int(draw.integers(1, 3)), padding, count_include_pad=is_counted)


def _reduced(draw: Draw) -> nn.Module:
    dims = [(2, 3), (1,), (1, 2, 3), (3,)][int(draw.integers(4))]
    keeps, kind = bool(draw.integers(2)), int(draw.integers(4))
    calls = (torch.mean, torch.sum, torch.amax, torch.amin)
    return Function(lambda x: calls[kind](x, dims, keepdim=keeps))


def _pair(draw: Draw) -> nn.Module:
    kind, shape = (
        int(draw.integers(4)),
        [(1, CHANNELS, 1, 1), (1, CHANNELS, HEIGHT, WIDTH), (WIDTH,)][int(draw.integers(3))],
    )
    other = torch.from_numpy((draw.normal(size=shape) + 3 * draw.choice([-1, 1])).astype(np.float32))

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("other", other)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = (torch.add, torch.sub, torch.mul, torch.div)[kind](x, self.other)
            return found

    return Pair()


def _bounded(draw: Draw) -> nn.Module:
    low, slope = float(draw.uniform(-2, 0)), float(draw.uniform(0.01, 0.5))
    parts = nn.ReLU(), nn.ReLU6(), nn.Hardtanh(low, low + 2), nn.LeakyReLU(slope), nn.PReLU(CHANNELS)
    return parts[int(draw.integers(len(parts)))]


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "elu": F.elu,
    "exp": torch.exp,
    "erf": torch.erf,
    "log": lambda x: torch.log(x.abs() + 0.1),
    "sqrt": lambda x: torch.sqrt(x.abs()),
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 0.1),
    "square": torch.square,
}


def _softmax(draw: Draw) -> nn.Module:
    axis = int(draw.integers(1, 4))
    return Function(lambda x: torch.softmax(x, axis))


def _normalized(draw: Draw) -> nn.Module:
    kind = int(draw.integers(3))
    norm: Any = (nn.BatchNorm2d(CHANNELS), nn.LayerNorm(WIDTH), nn.GroupNorm(2, CHANNELS))[kind]
    with torch.no_grad():
        norm.weight.copy_(torch.from_numpy(draw.uniform(0.5, 2, norm.weight.shape)))
        norm.bias.copy_(torch.from_numpy(draw.normal(size=norm.bias.shape)))
        if kind == 0:
            norm.running_mean.copy_(torch.from_numpy(draw.normal(size=CHANNELS)))
            norm.running_var.copy_(torch.from_numpy(draw.uniform(0.3, 3, CHANNELS)))
    return norm  # type: ignore[no-any-return]


def _moved(draw: Draw) -> nn.Module:
    first = int(draw.integers(1, 4))
    calls: Sequence[Callable[[Tensor], Tensor]] = (
        lambda x: torch.cat([x[:, first:], x[:, :first]], 1),
        lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
        lambda x: x.permute(0, 2, 3, 1).reshape(1, HEIGHT * WIDTH, CHANNELS),
        lambda x: x.view(1, 2, 4, HEIGHT, WIDTH).transpose(1, 2).reshape(1, CHANNELS, HEIGHT, WIDTH),
        lambda x: x[:, :, first::2, 1:-first],
        lambda x: x.flatten(1),
        lambda x: torch.stack([x, -x], 2).flatten(1, 2),
    )
    return Function(calls[int(draw.integers(len(calls)))])


def _padded(draw: Draw) -> nn.Module:
    sides, mode = [int(n) for n in draw.integers(0, 4, 4)], ("constant", "reflect", "replicate")[int(draw.integers(3))]
    return Function(lambda x: F.pad(x, sides, mode, **({"value": 1.5} if mode == "constant" else {})))


def _resized(draw: Draw) -> nn.Module:
    factor, is_aligned = int(draw.integers(2, 4)), bool(draw.integers(2))
    size = HEIGHT * factor, WIDTH * factor
    if draw.integers(3) == 0:
        return Function(lambda x: F.interpolate(x, size=size, mode="nearest"))
    return Function(lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=is_aligned))


def _steps(x: Tensor, scale: float, zero_point: int) -> Tensor:
    known = torch.ops.quantized_decomposed
    steps = known.quantize_per_tensor.default(x, scale, zero_point, -128, 127, torch.int8)
    return known.dequantize_per_tensor.default(steps, scale, zero_point, -128, 127, torch.int8)  # type: ignore[no-any-return]


def _quantized(draw: Draw) -> nn.Module:
    # powers of two: the inputs, multiples of an eighth, fall on ties
    scale = float(2.0 ** -int(draw.integers(1, 4)) * draw.choice([1.0, 1.0, 1.01, 0.37]))
    zero_point = int(draw.integers(-128, 128))
    return Function(lambda x: _steps(x, scale, zero_point))


class _QuantizedConv(nn.Module):
    """As a build has it: int8 inputs and weights, a bias on its grid, clamped, int8 outputs."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        groups, size = int(draw.choice([1, CHANNELS])), int(draw.choice([1, 3]))
        self.groups, self.padding, self.stride = groups, size // 2, int(draw.integers(1, 3))
        self.input = float(draw.uniform(0.02, 0.06)), int(draw.integers(-30, 30))
        self.output = float(draw.uniform(0.05, 0.2)), int(draw.integers(-60, 60))
        shape = CHANNELS, CHANNELS // groups, size, size
        self.register_buffer("weight", torch.from_numpy(draw.integers(-127, 128, shape).astype(np.int8)))
        self.register_buffer("scale", torch.from_numpy(draw.uniform(0.002, 0.01, CHANNELS).astype(np.float32)))
        self.register_buffer("zero", torch.zeros(CHANNELS, dtype=torch.int64))
        steps = torch.from_numpy(draw.integers(-2000, 2000, CHANNELS).astype(np.float32))
        self.register_buffer("bias", steps * self.input[0] * self.scale)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.ops.quantized_decomposed.dequantize_per_channel.default(
            self.weight, self.scale, self.zero, 0, -127, 127, torch.int8
        )
        x = _steps(x, *self.input)
        x = F.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)  # type: ignore[arg-type]
        return _steps(F.hardtanh(x, 0.0, 6.0), *self.output)


def _quantized_sum(draw: Draw) -> nn.Module:
    scales = [float(one) for one in draw.uniform(0.02, 0.1, 3)]
    points = [int(one) for one in draw.integers(-60, 60, 3)]
    return Function(
        lambda x: _steps(
            _steps(x, scales[0], points[0]) + _steps(x.flip(3), scales[1], points[1]), scales[2], points[2]
        )
    )


OPERATIONS: dict[str, Callable[[Draw], nn.Module]] = {
    "convolution": _conv,
    "transposed convolution": _transposed,
    "linear layer": lambda draw: _Linear(int(draw.integers(2, 40))),
    "product of matrices": lambda draw: Function(lambda x: x @ x.transpose(2, 3) / 8),
    "maximum of a window": _max_pool,
    "mean of a window": _avg_pool,
    "mean, sum, maximum, minimum": _reduced,
    "add, subtract, multiply, divide": _pair,
    "ReLU and its kin": _bounded,
    **{name: (lambda draw, call=call: Function(call)) for name, call in CURVES.items()},  # type: ignore[misc]
    "softmax": _softmax,
    "normalization": _normalized,
    "slice, join, shuffle, transpose": _moved,
    "padding": _padded,
    "resizing": _resized,
}
QUANTIZED: dict[str, Callable[[Draw], nn.Module]] = {
    "quantize, dequantize": _quantized,
    "int8 convolution": _QuantizedConv,
    "int8 addition": _quantized_sum,
}
FIXED = {"product of matrices", *CURVES}
"""Without numbers to draw: one program is all."""


def programs_of(name: str, seed: int, number: int) -> Several:
    draw = np.random.default_rng([seed, *name.encode()])
    torch.manual_seed(int(draw.integers(2**31)))
    make = (OPERATIONS | QUANTIZED)[name]
    return Several([make(draw) for _ in range(1 if name in FIXED else number)]).eval().requires_grad_(False)


def example(seed: int) -> NDArray[np.float32]:
    """Multiples of an eighth, so that a quantizer meets ties; of float16 all exact."""
    draw = np.random.default_rng(seed)
    return (np.rint(draw.normal(0, 2, (1, CHANNELS, HEIGHT, WIDTH)) * 8) / 8).astype(np.float32)


def by_our_executor(
    module: nn.Module, x: NDArray[np.float32], folder: Path, *, is_half: bool
) -> list[NDArray[np.float32]]:
    import coremltools
    from twinkeel.targets.ios import _mlprogram, mil_executor

    exported = torch.export.export(module, (torch.from_numpy(x),)).run_decompositions({})
    names = [f"y{number}" for number in range(len(module(torch.from_numpy(x))))]
    made = coremltools.convert(
        exported,
        inputs=[coremltools.TensorType("x", shape=x.shape)],
        outputs=[coremltools.TensorType(name, dtype=np.float32) for name in names],
        compute_precision=coremltools.precision.FLOAT16 if is_half else coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS18,
        pass_pipeline=_mlprogram.pass_pipeline(),
        skip_model_load=True,
    )
    made.save(str(folder / "x.mlpackage"))
    found = mil_executor.Model(folder / "x.mlpackage").predict({"x": x}).arrays
    return [found[name] for name in names]


def by_apple(module: nn.Module, x: NDArray[np.float32], folder: Path) -> list[NDArray[np.float32]]:
    from coreai_torch import TorchConverter, get_decomp_table
    from twinkeel.targets.ios import _aimodel
    from twinkeel.targets.runtimes import coreai

    graph = _aimodel.quantized(torch.export.export(module, (torch.from_numpy(x),)).module())
    exported = torch.export.export(graph, (torch.from_numpy(x),)).run_decompositions(get_decomp_table())
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    names = [f"y{number}" for number in range(len(module(torch.from_numpy(x))))]
    converter.add_exported_program(exported, input_names=["x"], output_names=names)
    converter.to_coreai().save_asset(folder / "x.aimodel")
    return coreai.function(folder / "x.aimodel")(x)


def exactly(module: nn.Module, x: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """By torch in float64."""
    with torch.no_grad():
        return [found.numpy() for found in deepcopy(module).double()(torch.from_numpy(x).double())]


def compared(name: str, precision: str, seed: int, number: int) -> dict[str, Any]:
    """One operation: programs, largest differences over the largest value of each, share of equal values."""
    module = programs_of(name, seed, number)
    x = example(seed)
    row: dict[str, Any] = {"operation": name, "precision": precision, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        try:
            ours = by_our_executor(module, x, Path(folder), is_half=precision == "float16")
            theirs = by_apple(Half(deepcopy(module)) if precision == "float16" else module, x, Path(folder))
        except Exception as error:  # of many types: the converters'
            return row | {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    wanted = exactly(module, x) if name not in QUANTIZED else [one.astype(np.float64) for one in theirs]
    apart, equal, off = 0.0, [], [0.0, 0.0]
    for one, other, exact in zip(ours, theirs, wanted, strict=True):
        assert one.shape == other.shape == exact.shape, (name, one.shape, other.shape, exact.shape)
        largest = max(float(np.abs(exact).max()), 1e-12)
        apart = max(apart, float(np.abs(one.astype(np.float64) - other).max()) / largest)
        equal.append(one == other)
        off = [max(o, float(np.abs(f - exact).max()) / largest) for o, f in zip(off, (one, other), strict=True)]
    share = float(np.mean(np.concatenate([one.ravel() for one in equal])))
    return row | {
        "programs": len(ours),
        "values": sum(one.size for one in ours),
        "largest_difference": apart,
        "equal": share,
        "ours_off_float64": off[0],
        "apples_off_float64": off[1],
    }


def operations(seed: int, number: int) -> list[dict[str, Any]]:
    wanted = [(name, precision) for name in OPERATIONS for precision in ("float32", "float16")]
    rows = []
    for name, precision in [*wanted, *((name, "int8") for name in QUANTIZED)]:
        rows.append(row := compared(name, precision, seed, number))
        told = row.get("failed") or (
            f"{row['programs']} programs, {row['values']:,} values: {row['largest_difference']:.1e} of the largest, "
            f"{100 * row['equal']:.1f} % equal; off float64 {row['ours_off_float64']:.1e} and {row['apples_off_float64']:.1e}"
        )
        print(f"{name}, {precision}: {told}", flush=True)
    return rows


# ---- networks


def network(name: str, resolution: int, number: int) -> dict[str, Any]:
    """A network in each precision."""
    import heads
    import programs
    from twinkeel.pipeline.parity import metrics
    from twinkeel.pipeline.program import InputContract
    from twinkeel.targets.ios import coreai as target

    classes, pixels = NETWORKS[name][0], resolution
    images = heads.pixels(CALIBRATION + number, pixels)
    contract = InputContract.of(pixels, programs.MEAN, programs.STD)
    model = heads.settled(name, pixels, classes, 1.0)
    made = programs.program(model, contract, images[:CALIBRATION], name=name)
    judged = images[CALIBRATION:]
    floating = made.evaluate("fp32", judged)
    rows = []
    for precision in target.PRECISIONS:
        row: dict[str, Any] = {"precision": precision}
        rows.append(row)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            path = target.build(made, precision, Path(folder) / f"{name}.aimodel")
            row["make_seconds"] = round(time.perf_counter() - begun, 1)
            row["bytes"] = sum(file.stat().st_size for file in path.iterdir())
            begun = time.perf_counter()
            run = target.load(path).run
            row["load_seconds"] = round(time.perf_counter() - begun, 1)
            begun = time.perf_counter()
            found = np.concatenate([run(image[None]) for image in judged])
            row["image_seconds"] = round((time.perf_counter() - begun) / number, 2)
        reference = made.evaluate(target.REFERENCES[precision], judged)
        row["equal"] = float((reference == found).mean())
        row["error"] = float(np.abs(floating - found).max() / np.ptp(floating))
        row["snr_db"] = metrics.snr_db(floating, found, made.outputs)
        print(name, row, flush=True)
    return {"resolution": pixels, "images": number, "artifacts": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["networks", "operations"])
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    given = parser.parse_args(arguments)
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "core_ai.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found |= {"cpu": peers._cpu(), "packages": {name: version(name) for name in PACKAGES}}
    if given.what == "operations":
        found["operations"] = operations(given.seed, given.programs)
    else:
        for name in given.only:
            found.setdefault("networks", {})[name] = network(name, given.resolution, given.images)
            path.write_text(json.dumps(found, indent=1) + "\n")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
