"""Latency of the shipped byte input against the same model fed with normalized floats, interleaved.

Width 1.0 at 224, int8, random weights, one thread where the runtime can be told. Prints medians and ratios.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, evaluate
from twinkeel.pipeline.stages import fold, quantize
from twinkeel.pipeline.stages.canonical import canonical

MEAN, STD, SIZE, RUNS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, 200


class NormalizedInput(nn.Module):
    """The folded model before its input was: ``(1, H, W, 3)`` normalized float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.permute(0, 3, 1, 2))


def main() -> None:
    torch.manual_seed(0)
    model = mobilenet_v2.create(1000, 1.0)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, SIZE, SIZE))
    model.eval().requires_grad_(False)
    contract = InputContract.of(SIZE, MEAN, STD)
    shipped = fold.fold(model, contract)
    images = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 4), np.uint8)
    images[..., 3] = 255
    floats = ((torch.from_numpy(images[..., :3]).float() / 255) - torch.tensor(MEAN)) / torch.tensor(STD)

    plain = NormalizedInput(canonical(model, torch.zeros(1, 3, SIZE, SIZE)).built()).eval()
    floats_in = quantize.quantize(plain, floats[:8].numpy(), None)
    bytes_in = quantize.quantize(shipped, images[:8], contract)
    float_in, float_unfolded = floats_in.module, floats_in.unfolded
    byte_in, byte_unfolded = bytes_in.module, bytes_in.unfolded

    reference = evaluate(shipped, images[8:])
    with torch.no_grad():
        from_floats = np.concatenate([float_in(x[None]).numpy() for x in floats[8:]])
    print(f"SNR float input {metrics.snr_db(reference, from_floats):.2f} dB, "
          f"bytes {metrics.snr_db(reference, evaluate(byte_in, images[8:])):.2f} dB")  # fmt: skip
    _compare_executorch(float_in, byte_in, floats[:1], torch.from_numpy(images[:1]), contract)
    _compare_litert(float_unfolded, byte_unfolded, floats[:1], torch.from_numpy(images[:1]), contract)


def _compare_executorch(float_in, byte_in, x, pixels, contract) -> None:  # type: ignore[no-untyped-def]
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime
    from twinkeel.targets import _executorch as target

    graph = target._with_pixels_as_quantized(byte_in, contract.grey)
    methods, programs = {}, []
    with target._unsigned_pixels(), target._no_undone_transposes(), tempfile.TemporaryDirectory() as folder:
        for name, module, example in (("float", float_in, x), ("bytes", graph, pixels)):
            edge = to_edge_transform_and_lower(
                torch.export.export(module, (example,)), partitioner=[XnnpackPartitioner()]
            )
            path = Path(folder) / f"{name}.pte"
            path.write_bytes(edge.to_executorch().buffer)
            programs.append(Runtime.get().load_program(path))
            methods[name] = (programs[-1].load_method("forward"), example)
        runs = {name: partial(method.execute, [example]) for name, (method, example) in methods.items()}
        _report("ExecuTorch", runs)


def _compare_litert(float_in, byte_in, x, pixels, contract) -> None:  # type: ignore[no-untyped-def]
    """litert-torch makes the float model's input int8, so its side does not even pay for the quantization."""
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig
    from twinkeel.targets.android import _flatbuffer

    static = PT2EQuantizer().set_global(get_symmetric_quantization_config())
    runs, interpreters = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, module, example in (("float", float_in, x), ("bytes", byte_in, pixels)):
            path = f"{folder}/{name}.tflite"
            litert_torch.convert(module, (example,), quant_config=QuantConfig(pt2e_quantizer=static)).export(path)
            if name == "bytes":
                _flatbuffer.rewrite(Path(path), contract.grey)
            interpreter = Interpreter(path, num_threads=1)
            interpreter.allocate_tensors()
            source = interpreter.get_input_details()[0]
            interpreter.set_tensor(source["index"], example.numpy().astype(source["dtype"]))
            interpreters.append(interpreter)
            runs[name] = interpreter.invoke
        _report("LiteRT", runs)


def _report(runtime: str, runs: dict[str, Callable[[], object]]) -> None:
    """Median milliseconds of both, run in turn on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(RUNS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - start))
    median = {name: float(np.median(times)) for name, times in taken.items()}
    ratio = median["bytes"] / median["float"]
    print(f"{runtime} int8: float input {median['float']:.3f} ms, bytes {median['bytes']:.3f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
