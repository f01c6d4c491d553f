"""Our artifacts against what the converters' own calls give, and against the machine: latency and size.

peers.py [--out FOLDER] [--artifacts FOLDER]

MobileNetV2, width 1.0, 1000 classes, at 96 and 224 pixels, random weights behind BatchNorm statistics of noise. Nothing is
downloaded. A peer is the same model through the calls that a converter's own documentation shows, fed with normalized
float32, or with int8 where the converter makes its input so; the app's work to make those of pixels is not counted. Ours
take uint8 RGBA. Calibration images are the same. SNR is against the float model, on images that calibration did not see.

One thread on one core. In each turn every artifact is run once untimed, then `CALLS` times; a turn counts with its median.
Milliseconds are the median over turns; a ratio is the median over turns of the ratio within a turn, so that a machine
that slows down slows both. The peak is the largest rate of multiply-adds that a chain of 1x1 convolutions or a matrix
product reached in the same turns, whatever library it was; multiply-adds are the model's, not the wider stem's of ours.

Size is bytes of the file over parameters times the bytes of one: 4 in fp32, 1 in int8. What is stored beside the weights
(int32 biases, scales, the graph) so counts against a file.

Writes peers.json and peers.png to `--out`, docs/benchmarks by default. `--artifacts` keeps the files, and takes those that are there.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))

import programs
import torch
from numpy.typing import NDArray
from torch import nn
from twinkeel.model import count, mobilenet_v2
from twinkeel.pipeline import data
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, Program
from twinkeel.pipeline.program.evaluation import evaluate
from twinkeel.pipeline.stages import fold, quantize
from twinkeel.targets import _executorch, _onnx
from twinkeel.targets.android import litert
from twinkeel.targets.runtimes import litert as litert_runtime
from twinkeel.targets.runtimes import onnxruntime as onnx_runtime

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = (96, 224)
CALIBRATION, HELD_OUT = 8, 4
"""Images: noise, smooth over 8 pixels."""
TURNS, CALLS = 60, 5
RUNTIMES = ("LiteRT", "ExecuTorch", "ONNX")
PRECISIONS = {"fp32": 4, "int8": 1}
"""Bytes of a weight."""
PACKAGES = (
    "torch", "torchao", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "executorch", "onnx", "onnxruntime",
)  # fmt: skip

LATENCY_LIMIT, SIZE_LIMIT = 1.03, 1.10
"""Of an int8 artifact: against the fastest peer on the same runtime, and in bytes for each parameter."""

PEAK_CHANNELS = (256, 512)
PEAK_LAYERS, PEAK_SIDE = 4, 28
MATRIX = 1024


class Subject:
    """A model on square images, and its images in the forms that artifacts take.

    Args:
        model: on normalized RGB ``(N, 3, size, size)``.
        pixels: ``(N, size, size, 4)`` uint8 RGBA; the first `calibrating` are for calibration.
    """

    def __init__(
        self, model: nn.Module, pixels: NDArray[np.uint8], calibrating: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.model, self.pixels, self.calibrating = model, pixels, calibrating
        self.size = pixels.shape[1]
        self.mean, self.std = tuple(mean), tuple(std)
        self.example = (self.floats(0),)

    @classmethod
    def random(cls, size: int) -> Subject:
        """MobileNetV2 with random weights, on noise."""
        torch.manual_seed(0)
        model: nn.Module = mobilenet_v2.create(1000, 1.0)
        with torch.no_grad():
            for _ in range(10):  # BatchNorm statistics that are not 0 and 1
                model(torch.randn(8, 3, 96, 96))
        model.eval().requires_grad_(False)
        coarse = np.random.default_rng(0).integers(0, 256, (CALIBRATION + HELD_OUT, size // 8, size // 8, 3), np.uint8)
        return cls(model, data.rgba(coarse.repeat(8, 1).repeat(8, 2)), CALIBRATION, MEAN, STD)

    def floats(self, number: int) -> torch.Tensor:
        """An image, normalized, ``(1, 3, size, size)``."""
        colour = torch.from_numpy(self.pixels[number : number + 1, ..., :3]).float() / 255
        return ((colour - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(0, 3, 1, 2).contiguous()

    @cached_property
    def program(self) -> Program:
        """What our targets build from."""
        contract = InputContract.of(self.size, self.mean, self.std)
        labels = [f"class {n}" for n in range(1000)]
        return programs.program(self.model, contract, self.pixels[: self.calibrating], name="peers", labels=labels)

    @cached_property
    def expected(self) -> NDArray[np.float32]:
        """Float logits of the held-out images ``(N, classes)``."""
        return evaluate(fold.Normalized(self.model, self.mean, self.std).eval(), self.pixels[self.calibrating :])

    def given(self, number: int, dtype: Any, shape: tuple[int, ...], quantization: tuple[float, int]) -> NDArray[Any]:
        """Image `number` as an artifact's input wants it: bytes, or normalized, NCHW or NHWC."""
        if dtype == np.uint8:
            return self.pixels[number : number + 1]
        values = self.floats(number).numpy()
        values = np.ascontiguousarray(values if shape[1] == 3 else values.transpose(0, 2, 3, 1))
        if dtype == np.int8:
            scale, zero_point = quantization
            return np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)
        return values

    def calibration(self, *, channels_last: bool = False) -> Iterator[torch.Tensor]:
        """Normalized images, one at a time."""
        for number in range(self.calibrating):
            image = self.floats(number)
            yield image.permute(0, 2, 3, 1).contiguous() if channels_last else image


# ---- peers: what the converters' own documentation does


def litert_torch_plain(subject: Subject, out: Path) -> None:
    import litert_torch

    litert_torch.convert(subject.model, subject.example).export(str(out))


def litert_torch_channels_last(subject: Subject, out: Path) -> None:
    import litert_torch

    model = litert_torch.to_channel_last_io(subject.model, args=[0]).eval()
    litert_torch.convert(model, (next(subject.calibration(channels_last=True)),)).export(str(out))


def ai_edge_quantizer(subject: Subject, out: Path) -> None:
    """The static recipe with its default calibration, on the channels-last file."""
    from ai_edge_quantizer import quantizer, recipe

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.tflite"
        litert_torch_channels_last(subject, source)
        made = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        images = [{"args_0": image.numpy()} for image in subject.calibration(channels_last=True)]
        ranges = made.calibrate({"serving_default": images})
        made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).export_model(str(out))


def litert_torch_pt2e(subject: Subject, out: Path) -> None:
    import litert_torch
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig

    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    model = litert_torch.to_channel_last_io(subject.model, args=[0]).eval()
    images = list(subject.calibration(channels_last=True))
    converted = _pt2e(model, images, quantizer, fold_quantize=False)
    made = litert_torch.convert(converted, (images[0],), quant_config=QuantConfig(pt2e_quantizer=quantizer))
    made.export(str(out))


def executorch_example(subject: Subject, out: Path, *, is_quantized: bool) -> None:
    """As in executorch's examples/xnnpack/aot_compiler.py, which quantizes MobileNetV2 per channel."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    model = subject.model
    if is_quantized:
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        model = _pt2e(model, list(subject.calibration()), quantizer)
    edge = to_edge_transform_and_lower(
        torch.export.export(model, subject.example, strict=False),
        partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=not is_quantized, _skip_dim_order=True),
    )
    out.write_bytes(edge.to_executorch().buffer)


def _pt2e(model: nn.Module, images: list[torch.Tensor], quantizer: Any, **options: Any) -> nn.Module:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(model, (images[0],), strict=False).module(), quantizer)
    for image in images:
        prepared(image)
    return convert_pt2e(prepared, **options)  # type: ignore[no-any-return]


def torch_onnx(subject: Subject, out: Path) -> None:
    exported = torch.onnx.export(subject.model, subject.example, dynamo=True, verbose=False, input_names=["image"])
    out.write_bytes(exported.model_proto.SerializeToString())  # type: ignore[union-attr]


def quantize_static(subject: Subject, out: Path, *, form: str, activations: str) -> None:
    """onnxruntime's, per channel, behind its own preparation; the calibration is its default, min/max."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = subject.calibration()

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        source, prepared = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        torch_onnx(subject, source)
        quant_pre_process(str(source), str(prepared))
        quantization.quantize_static(
            str(prepared),
            str(out),
            Reader(),
            quant_format=quantization.QuantFormat[form],
            activation_type=quantization.QuantType[activations],
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )


def ours(subject: Subject, out: Path, *, target: Any, precision: str) -> None:
    target.build(subject.program, precision, out)


@dataclass(frozen=True)
class Entry:
    """An artifact to be made: ``make(subject, path)`` writes it."""

    runtime: str
    precision: str
    name: str
    make: Callable[[Subject, Path], None]

    @property
    def is_ours(self) -> bool:
        return self.name == "twinkeel"

    @property
    def key(self) -> str:
        return f"{self.runtime} {self.precision}, {self.name}"


TARGETS = {"LiteRT": litert, "ExecuTorch": _executorch, "ONNX": _onnx}
ENTRIES = (
    *(
        Entry(runtime, precision, "twinkeel", partial(ours, target=target, precision=precision))
        for runtime, target in TARGETS.items()
        for precision in PRECISIONS
    ),
    Entry("LiteRT", "fp32", "litert_torch.convert", litert_torch_plain),
    Entry("LiteRT", "fp32", "litert_torch.convert, NHWC", litert_torch_channels_last),
    Entry("LiteRT", "int8", "ai-edge-quantizer, static", ai_edge_quantizer),
    Entry("LiteRT", "int8", "litert_torch, PT2E", litert_torch_pt2e),
    Entry("ExecuTorch", "fp32", "example", partial(executorch_example, is_quantized=False)),
    Entry("ExecuTorch", "int8", "example, PT2E", partial(executorch_example, is_quantized=True)),
    Entry("ONNX", "fp32", "torch.onnx.export", torch_onnx),
    *(
        Entry("ONNX", "int8", f"quantize_static, {form}, {name}", partial(quantize_static, form=form, activations=kind))
        for form, name, kind in (("QOperator", "uint8", "QUInt8"), ("QDQ", "uint8", "QUInt8"), ("QDQ", "int8", "QInt8"))
    ),
)


# ---- running


@dataclass(frozen=True)
class Opened:
    """An artifact that is ready to run.

    Attributes:
        call: one inference on an image that has been handed over; this is what is timed.
        logits: of a held-out image, by its number, float32.
        input: type and shape of the input, in words.
    """

    call: Callable[[], object]
    logits: Callable[[int], NDArray[np.float32]]
    input: str


def open_litert(path: Path, subject: Subject) -> Opened:
    interpreter = litert_runtime.interpreter(path)
    source = interpreter.get_input_details()[0]
    described = source["dtype"], tuple(map(int, source["shape"])), source["quantization"]
    interpreter.set_tensor(source["index"], subject.given(0, *described))

    def logits(number: int) -> NDArray[np.float32]:
        return litert_runtime.invoke(interpreter, subject.given(number, *described))

    return Opened(interpreter.invoke, logits, _described(*described[:2]))


def open_executorch(path: Path, subject: Subject) -> Opened:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    assert method is not None
    sizes = tuple(method.metadata.input_tensor_meta(0).sizes())
    described = (np.uint8 if sizes[3] == 4 else np.float32), sizes, (1.0, 0)

    def execute(number: int) -> list[Any]:
        assert program  # it must live as long as its method
        return list(method.execute([torch.from_numpy(subject.given(number, *described))]))

    given = torch.from_numpy(subject.given(0, *described))
    return Opened(lambda: method.execute([given]), lambda n: execute(n)[0].clone().numpy(), _described(*described[:2]))


def open_onnx(path: Path, subject: Subject) -> Opened:
    session = onnx_runtime.session(path.read_bytes())
    source = session.get_inputs()[0]
    described = (np.uint8 if "uint8" in source.type else np.float32), tuple(source.shape), (1.0, 0)

    def execute(number: int) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {source.name: subject.given(number, *described)})[0]
        return found

    given = {source.name: subject.given(0, *described)}
    return Opened(lambda: session.run(None, given), execute, _described(*described[:2]))


OPEN = {"LiteRT": open_litert, "ExecuTorch": open_executorch, "ONNX": open_onnx}


def _described(dtype: Any, shape: tuple[int, ...]) -> str:
    return f"{np.dtype(dtype).name} {'x'.join(map(str, shape))}"


def use_one_core() -> None:
    """One core where the system can be told, one thread where a runtime can.

    Before any program is loaded: ExecuTorch's keep their threads.
    """
    from executorch.extension.pybindings import _C  # type: ignore[attr-defined]

    torch.set_num_threads(1)
    _C._unsafe_reset_threadpool(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def timed(calls: dict[str, Callable[[], object]]) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each call ``(TURNS,)``: its median in each turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            call()
            marks = [time.perf_counter()]
            for _ in range(CALLS):
                call()
                marks.append(time.perf_counter())
            taken[name].append(1e3 * float(np.median(np.diff(marks))))
    return {name: np.array(times) for name, times in taken.items()}


# ---- the machine's peak


@dataclass(frozen=True)
class Product:
    """Something that does nothing but multiply and add."""

    precision: str
    name: str
    multiply_adds: int
    call: Callable[[], object]


def products(folder: Path) -> list[Product]:
    """Chains of 1x1 convolutions in LiteRT with XNNPACK, and a matrix product in onnxruntime, in both precisions."""
    found = []
    for channels in PEAK_CHANNELS:
        for precision in PRECISIONS:
            call = _convolutions(channels, precision, folder / f"peak-{channels}-{precision}.tflite")
            work = PEAK_LAYERS * PEAK_SIDE**2 * channels**2
            found.append(Product(precision, f"LiteRT, 1x1 convolutions of {channels} channels", work, call))
    for precision in PRECISIONS:
        name = f"onnxruntime, {MATRIX} x {MATRIX} matrices"
        found.append(Product(precision, name, MATRIX**3, _matrices(precision)))
    return found


class _Chain(nn.Sequential):
    """On ``(1, PEAK_SIDE, PEAK_SIDE, channels)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(*(nn.Conv2d(channels, channels, 1) for _ in range(PEAK_LAYERS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = super().forward(x.permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1)


def _convolutions(channels: int, precision: str, path: Path) -> Callable[[], object]:
    import litert_torch
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig

    torch.manual_seed(0)
    chain = _Chain(channels).eval().requires_grad_(False)
    x = torch.randn(1, PEAK_SIDE, PEAK_SIDE, channels)
    if not path.exists():
        if precision == "int8":
            unfolded = quantize.quantize(chain, x.numpy(), None).unfolded
            static = PT2EQuantizer().set_global(get_symmetric_quantization_config())
            made = litert_torch.convert(unfolded, (x,), quant_config=QuantConfig(pt2e_quantizer=static))
        else:
            made = litert_torch.convert(chain, (x,))
        made.export(str(path))
    interpreter = litert_runtime.interpreter(path)
    source = interpreter.get_input_details()[0]
    interpreter.set_tensor(source["index"], x.numpy().astype(source["dtype"]))
    invoke: Callable[[], object] = interpreter.invoke
    return invoke


def _matrices(precision: str) -> Callable[[], object]:
    """Of float32, or uint8 by int8 into int32; the second one is a constant, as weights are."""
    import onnx

    random = np.random.default_rng(0)
    types = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT
    pair = [random.standard_normal((MATRIX, MATRIX), np.float32) for _ in range(2)]
    if precision == "int8":
        types = onnx.TensorProto.UINT8, onnx.TensorProto.INT32
        pair = [(20 * pair[0] + 128).clip(0, 255).astype(np.uint8), (20 * pair[1]).clip(-127, 127).astype(np.int8)]
    operator = "MatMulInteger" if precision == "int8" else "MatMul"
    shape = [MATRIX, MATRIX]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [onnx.helper.make_tensor_value_info("a", types[0], shape)],
        [onnx.helper.make_tensor_value_info("c", types[1], shape)],
        [onnx.numpy_helper.from_array(pair[1], "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnx_runtime.session(model.SerializeToString())
    return lambda: session.run(None, {"a": pair[0]})


# ---- the report


def measure(folder: Path) -> dict[str, Any]:
    """All figures, as they are written to peers.json."""
    use_one_core()
    subjects = {size: Subject.random(size) for size in SIZES}
    opened = {size: _opened(subject, folder) for size, subject in subjects.items()}
    chains = products(folder)
    parameters = count.count(subjects[SIZES[0]].model, SIZES[0], SIZES[0]).parameters
    rates: dict[str, dict[str, float]] = {precision: {} for precision in PRECISIONS}
    resolutions = {}
    for size, artifacts in opened.items():
        calls = {entry.key: one.call for entry, one in artifacts.items()}
        times = timed(calls | {f"{p.precision} {p.name}": p.call for p in chains})
        for product in chains:
            rate = product.multiply_adds / 1e6 / float(np.median(times[f"{product.precision} {product.name}"]))
            rates[product.precision][product.name] = max(rate, rates[product.precision].get(product.name, 0.0))
        subject = subjects[size]
        resolutions[size] = (
            count.count(subject.model, size, size).multiply_adds,
            [_row(entry, one, times, artifacts, folder, subject, parameters) for entry, one in artifacts.items()],
        )
    peak = {precision: max(found.values()) for precision, found in rates.items()}
    for work, rows in resolutions.values():
        for row in rows:
            row["share_of_peak"] = round(work / 1e6 / row["ms"] / peak[row["precision"]], 3)
    found = {
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "turns": TURNS,
        "calls_in_a_turn": CALLS,
        "parameters": parameters,
        "peak_gmacs_per_s": {p: {n: round(r, 1) for n, r in of.items()} for p, of in rates.items()},
        "resolutions": {
            str(size): {"multiply_adds": work, "artifacts": rows} for size, (work, rows) in resolutions.items()
        },
    }
    return found | {"limits": _limits(found)}


def _opened(subject: Subject, folder: Path) -> dict[Entry, Opened]:
    found = {}
    for entry in ENTRIES:
        path = _path(entry, subject.size, folder)
        if not path.exists():
            start = time.perf_counter()
            entry.make(subject, path)
            print(f"{subject.size} {entry.key}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        found[entry] = OPEN[entry.runtime](path, subject)
    return found


def _path(entry: Entry, size: int, folder: Path) -> Path:
    name = "-".join("".join(c if c.isalnum() else " " for c in f"{size} {entry.key}").split())
    return folder / f"{name}{TARGETS[entry.runtime].SUFFIX}"


def _row(
    entry: Entry,
    one: Opened,
    times: dict[str, NDArray[np.float64]],
    artifacts: dict[Entry, Opened],
    folder: Path,
    subject: Subject,
    parameters: int,
) -> dict[str, Any]:
    peers = [e for e in artifacts if e.runtime == entry.runtime and e.precision == entry.precision and not e.is_ours]
    fastest = min(peers, key=lambda e: float(np.median(times[e.key])))
    size = _path(entry, subject.size, folder).stat().st_size
    logits = np.concatenate([one.logits(n) for n in range(subject.calibrating, len(subject.pixels))])
    return {
        "runtime": entry.runtime,
        "precision": entry.precision,
        "name": entry.name,
        "is_ours": entry.is_ours,
        "input": one.input,
        "ms": round(float(np.median(times[entry.key])), 4),
        "ms_quartiles": [round(float(q), 4) for q in np.percentile(times[entry.key], (25, 75))],
        "ratio_to_fastest_peer": round(float(np.median(times[entry.key] / times[fastest.key])), 4),
        "bytes": size,
        "size_ratio": round(size / (parameters * PRECISIONS[entry.precision]), 4),
        "snr_db": round(float(metrics.snr_db(subject.expected, logits)), 1),
    }


def _limits(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Our int8 artifacts against the limits."""
    lines = []
    for size, resolution in found["resolutions"].items():
        for row in resolution["artifacts"]:
            if row["is_ours"] and row["precision"] == "int8":
                for what, limit, measured in (
                    ("latency, to the fastest peer", LATENCY_LIMIT, row["ratio_to_fastest_peer"]),
                    ("bytes, to parameters", SIZE_LIMIT, row["size_ratio"]),
                ):
                    line = {"runtime": row["runtime"], "resolution": int(size), "what": what, "limit": limit}
                    lines.append(line | {"measured": measured, "is_kept": measured <= limit})
    return lines


def _cpu() -> str:
    """The processor as it names itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.processor()
    return f"{fields['model name']}, family {fields.get('cpu family')}, model {fields.get('model')}"


def show(found: dict[str, Any]) -> None:
    for size, resolution in found["resolutions"].items():
        print(f"\n{size} pixels, {resolution['multiply_adds'] / 1e6:.0f} million multiply-adds")
        for row in sorted(resolution["artifacts"], key=lambda r: (r["runtime"], r["precision"], not r["is_ours"])):
            print(f"  {row['runtime']:10s} {row['precision']} {row['name']:34s} {row['ms']:7.3f} ms, "
                  f"{row['ratio_to_fastest_peer']:6.3f} of the fastest peer, {100 * row['share_of_peak']:3.0f} % of peak, "
                  f"{row['bytes'] / 1e6:6.3f} MB = {row['size_ratio']:.3f}, SNR {row['snr_db']:5.1f} dB")  # fmt: skip
    print("\npeak, GMAC/s:", json.dumps(found["peak_gmacs_per_s"]))
    for line in found["limits"]:
        print(f"{'ok    ' if line['is_kept'] else 'MISSED'} {line['runtime']} {line['resolution']}: {line['what']} "
              f"{line['measured']:.3f}, at most {line['limit']:.2f}")  # fmt: skip


OURS, PEER = "#1f77b4", "#c3c8cf"


def draw(found: dict[str, Any], out: Path) -> None:
    """Latency at each resolution and size, fp32 above int8; ours and the peers of a runtime stand together."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tables = [resolution["artifacts"] for resolution in found["resolutions"].values()]
    counts = [sum(row["precision"] == precision for row in tables[0]) for precision in PRECISIONS]
    figure = Figure(figsize=(13, 2 + 0.36 * (sum(counts) + 4)), layout="constrained")
    grid = figure.subplots(len(PRECISIONS), len(tables) + 1, height_ratios=counts, squeeze=False)
    for precision, line in zip(PRECISIONS, grid, strict=True):
        peak = max(found["peak_gmacs_per_s"][precision].values())
        for (size, resolution), axes in zip(found["resolutions"].items(), line, strict=False):
            rows = _in_order(resolution["artifacts"], precision)
            _bars(axes, rows, "ms", mark=resolution["multiply_adds"] / 1e6 / peak)
            axes.set_title(f"{precision}, {size} pixels: ms", fontsize=9, loc="left")
        _bars(
            line[-1], _in_order(tables[-1], precision), "size_ratio", mark=SIZE_LIMIT if precision == "int8" else None
        )
        line[-1].set_title(f"{precision}: bytes of the file over those of the parameters", fontsize=9, loc="left")
        for axes in line[1:]:
            axes.set_yticklabels([])
    dotted = Line2D(
        [], [], color="black", linestyle=":", label="ms: all multiply-adds at the peak rate; bytes: the limit"
    )
    figure.legend(
        handles=[
            Patch(color=OURS, label="twinkeel, uint8 RGBA in; × fastest peer"),
            Patch(color=PEER, label="peers: the converters' own calls, normalized input"),
            dotted,
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    figure.suptitle(f"MobileNetV2, width 1.0, 1000 classes, one thread of an {found['cpu']}", fontsize=11)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def _in_order(rows: list[dict[str, Any]], precision: str) -> list[dict[str, Any]]:
    """Those of a precision, by runtime, ours first."""
    of = [row for row in rows if row["precision"] == precision]
    return sorted(of, key=lambda row: (RUNTIMES.index(row["runtime"]), not row["is_ours"]))


def _bars(axes: Any, rows: list[dict[str, Any]], field: str, mark: float | None) -> None:
    """Horizontal bars, their values behind or in them, a gap between runtimes, and a dotted line at `mark`."""
    places = [n + 0.6 * RUNTIMES.index(row["runtime"]) for n, row in enumerate(rows)]
    longest = max(row[field] for row in rows)
    axes.barh(
        places, [row[field] for row in rows], color=[OURS if row["is_ours"] else PEER for row in rows], height=0.8
    )
    for place, row in zip(places, rows, strict=True):
        style: dict[str, Any] = {"va": "center", "fontsize": 8, "fontweight": "bold" if row["is_ours"] else "normal"}
        if field == "ms":
            ratio = f"  × {row['ratio_to_fastest_peer']:.2f}" if row["is_ours"] else ""
            digits = 2 if longest >= 1 else 3
            axes.text(row["ms"] + 0.015 * longest, place, f"{row['ms']:.{digits}f}{ratio}", **style)
        else:
            colour = "white" if row["is_ours"] else "black"
            axes.text(0.02 * longest, place, f"{row[field]:.3f}", color=colour, **style)
    if mark is not None:
        axes.axvline(mark, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(places, [f"{row['runtime']}, {row['name']}" for row in rows], fontsize=8)
    axes.set_xlim(0, (1.35 if field == "ms" else 1.1) * longest)
    axes.tick_params(axis="x", labelsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs") / "benchmarks")
    parser.add_argument("--artifacts", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.artifacts or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder)
    show(found)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "peers.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, options.out / "peers.png")


if __name__ == "__main__":
    main()
