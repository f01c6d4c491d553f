"""A build of both platforms against the bare converter calls that it contains, one script each.

cold_build.py [--out FOLDER] [--width 1.0] [--resolution 224]

Given weights, ten classes, a folder of pictures. A plain script is what a user would write instead for one artifact, in a
process of its own: import, load the checkpoint, read the images where it calibrates, convert, write. Nothing is checked
there, and nothing tells whether it computes what torch does. No script looks for better int8 or for better weights in 8 and 4
bits, and so the build does not either (`[quantize] minutes = 0`). Ours is the command as it is: data, fold, equalize, quantize,
every artifact of both platforms, references, parity, drift, kits and report. Half of the plain scripts run before it and
half after it, so that a machine that slows down slows both.

Then a build with nothing to do, one after a changed tolerance, one after changed class names, and the peak memory of a
worker. Writes cold_build.json and .png to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from twinkeel.model import mobilenet_v2

sys.path.insert(0, str(Path(__file__).parent))  # where the other benchmarks lie
import peers

CLASSES, FILES = 10, 12
LIMIT = 0.6


class Given(peers.Subject):
    """A checkpoint and its images, as a plain script loads them."""

    def __init__(self, folder: Path, width: float, size: int) -> None:
        self.size = size
        self.model = mobilenet_v2.create(CLASSES, width)
        self.model.load_state_dict(torch.load(folder / "w.pth", weights_only=True))
        self.model.eval().requires_grad_(False)
        self.example = (torch.zeros(1, 3, size, size),)
        self.folder = folder

    def calibration(self, *, channels_last: bool = False) -> Any:
        """As many images as the build takes, read when they are asked for."""
        files = sorted((self.folder / "images").rglob("*.png"))[::4]
        for file in files:
            pixels = np.array(Image.open(file).convert("RGB").resize((self.size, self.size)), np.float32) / 255
            image = torch.from_numpy((pixels - peers.MEAN) / peers.STD).float()[None]
            yield image if channels_last else image.permute(0, 3, 1, 2).contiguous()


def litert_half(subject: peers.Subject, out: Path) -> None:
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe_manager

    source = out.with_suffix(".float.tflite")
    peers.litert_torch_plain(subject, source)
    recipe = recipe_manager.RecipeManager()
    recipe.add_quantization_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )
    quantizer.Quantizer(str(source), recipe.get_quantization_recipe()).quantize(enable_progress_bar=False).export_model(
        str(out)
    )


def coreml(subject: peers.Subject, out: Path, *, precision: str) -> None:
    import coremltools as ct

    model: Any = subject.model
    if precision == "int8":
        model = _xnnpack_pt2e(subject)
    program = torch.export.export(model, subject.example, strict=False).run_decompositions({})
    made = ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
    )
    if precision == "w8":
        config = ct.optimize.coreml.OptimizationConfig(ct.optimize.coreml.OpLinearQuantizerConfig())
        made = ct.optimize.coreml.linear_quantize_weights(made, config)
    if precision == "w4":
        config = ct.optimize.coreml.OptimizationConfig(
            ct.optimize.coreml.OpPalettizerConfig(nbits=4, granularity="per_grouped_channel", group_size=16)
        )
        made = ct.optimize.coreml.palettize_weights(made, config)
    made.save(str(out))


def executorch_coreml(subject: peers.Subject, out: Path, *, precision: str) -> None:
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    model = _xnnpack_pt2e(subject) if precision == "int8" else subject.model
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=ct.target.iOS18, compute_precision=ct.precision.FLOAT16
    )
    exported = torch.export.export(model, subject.example, strict=False)
    edge = to_edge_transform_and_lower(exported, partitioner=[CoreMLPartitioner(compile_specs=specs)])
    out.write_bytes(edge.to_executorch().buffer)


def _xnnpack_pt2e(subject: peers.Subject) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    return peers._pt2e(subject.model, list(subject.calibration()), quantizer)


PLAIN: dict[str, Callable[[peers.Subject, Path], None]] = {
    "litert fp32": peers.litert_torch_plain,
    "litert fp16": litert_half,
    "litert int8": peers.ai_edge_quantizer,
    "executorch fp32": partial(peers.executorch_example, is_quantized=False),
    "executorch int8": partial(peers.executorch_example, is_quantized=True),
    "onnx fp32": peers.torch_onnx,
    "onnx int8": partial(peers.quantize_static, form="QDQ", activations="QUInt8"),
    **{f"coreml {p}": partial(coreml, precision=p) for p in ("fp32", "fp16", "int8", "w8", "w4")},
    **{f"executorch_coreml {p}": partial(executorch_coreml, precision=p) for p in ("fp16", "int8")},
}
"""One for each different file of a build; XNNPACK's and ONNX's programs are the same on both platforms."""


def prepare(root: Path, width: float, size: int) -> None:
    """Pictures, weights and the configuration; no limit is meant for random weights, so those are wide."""
    random = np.random.default_rng(0)
    for number in range(CLASSES):
        (root / "images" / f"class{number}").mkdir(parents=True)
        base = Image.fromarray(random.integers(0, 256, (7, 7, 3), np.uint8)).resize((280, 240))
        for file in range(FILES):
            own = Image.fromarray(random.integers(0, 256, (5 + number, 5 + file % 3, 3), np.uint8)).resize((280, 240))
            Image.blend(base, own, 0.5).save(root / "images" / f"class{number}" / f"{file}.png")
    torch.manual_seed(0)
    model = mobilenet_v2.create(CLASSES, width)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, size, size))
    torch.save(model.state_dict(), root / "w.pth")
    configure(root, width, size)


def configure(root: Path, width: float, size: int, *, more: str = "", labels: str = "") -> None:
    wide = (("quantize", "int8", "snr_db", -99), ("quantize", "int8", "accuracy_drop", 1),
            ("quantize", "int8", "agreement", 0), ("lower", "int8", "snr_loss_db", 99),
            *(("lower", p, "accuracy_drop", 1) for p in ("fp16", "int8", "w8", "w4")),
            *(("lower", p, "agreement", 0) for p in ("w8", "w4")))  # fmt: skip
    limits = "".join(
        f'[[limit]]\nleg = "{leg}"\nprecision = "{p}"\nmetric = "{m}"\nvalue = {float(v)}\nreason = "random weights"\n'
        for leg, p, m, v in wide
    )
    (root / "twinkeel.toml").write_text(
        f'[model]\nwidth = {width}\nresolution = {size}\n[data]\nsource = "folder"\npath = "images"\nheld_out = 0.25\n'
        'accept_accuracy = "random weights"\n'
        f'calibration = 30\n{labels}[weights]\npath = "w.pth"\n[quantize]\nminutes = 0\n{limits}{more}'
    )


def build(root: Path, **environment: str) -> tuple[float, dict[str, Any]]:
    """Seconds of the command, and what it says; in another environment no answer that was kept is said again."""
    command = [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()", "build", "all", "--json"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "-c", "twinkeel.toml", "-o", "out", "--store", "store"],
        cwd=root, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    return time.monotonic() - began, json.loads(done.stdout)


def plain(root: Path, name: str, width: float, size: int) -> float:
    command = [sys.executable, str(Path(__file__).resolve()), "--plain", name]
    began = time.monotonic()
    subprocess.run(
        [*command, "--folder", str(root), "--width", str(width), "--resolution", str(size)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.monotonic() - began


def measure(root: Path, width: float, size: int) -> dict[str, Any]:
    prepare(root, width, size)
    names = list(PLAIN)
    apart = {}
    for name in names[::2]:
        apart[name] = plain(root, name, width, size)
        print(f"plain script, {name}: {apart[name]:.1f} s", flush=True)
    cold, said = build(root)
    peak = said["peak_bytes_of_a_worker"]
    print(f"cold build: {cold:.1f} s, {len(said['ran'])} jobs, a worker at most {peak / 1e6:.0f} MB", flush=True)
    for name in names[1::2]:
        apart[name] = plain(root, name, width, size)
        print(f"plain script, {name}: {apart[name]:.1f} s", flush=True)
    warm = sorted(build(root)[0] for _ in range(5))[2]
    looks = sorted(build(root, OF_THIS_RUN=str(number))[0] for number in range(5))[2]
    more = '[[limit]]\nleg = "lower"\nprecision = "fp32"\nmetric = "snr_db"\nvalue = 91.0\n'
    configure(root, width, size, more=more)
    tolerance, ran_tolerance = build(root)
    (root / "labels.txt").write_text("\n".join(f"name {n}" for n in range(CLASSES)))
    configure(root, width, size, more=more, labels='labels = "labels.txt"\n')
    labels, ran_labels = build(root)
    total = sum(apart.values())
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": peers._cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "width": width,
        "resolution": size,
        "plain_scripts_s": {name: round(apart[name], 2) for name in names},
        "plain_scripts_sum_s": round(total, 1),
        "cold_build_s": round(cold, 1),
        "cold_build_over_sum": round(cold / total, 3),
        "allowed": LIMIT,
        "peak_bytes_of_a_worker": peak,
        "warm_build_s": round(warm, 2),
        "warm_build_that_looks_s": round(looks, 2),
        "after_a_changed_tolerance": {"s": round(tolerance, 2), "ran": ran_tolerance["ran"]},
        "after_changed_class_names": {"s": round(labels, 2), "ran": ran_labels["ran"]},
    }


def draw(found: dict[str, Any], out: Path) -> None:
    """Every command's seconds: the plain scripts one behind the other, the builds of both platforms below them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    total, begin = found["plain_scripts_sum_s"], 0.0
    for name, seconds in found["plain_scripts_s"].items():
        runtime, precision = name.split()
        axes.barh(0, seconds, left=begin, color=peers.PEER, edgecolor="white", height=0.8)
        label = f"{runtime.replace('_', chr(10))}\n{precision}"
        axes.text(begin + seconds / 2, 0, label, rotation=90, ha="center", va="center", fontsize=6)
        begin += seconds
    tolerance, names = found["after_a_changed_tolerance"]["s"], found["after_changed_class_names"]["s"]
    rows = (
        (f"{len(found['plain_scripts_s'])} plain scripts, nothing checked", total, ""),
        ("twinkeel build all, from nothing", found["cold_build_s"], f"  × {found['cold_build_over_sum']:.2f}"),
        ("after changed class names", names, ""),
        ("after a changed tolerance", tolerance, ""),
        ("nothing to do, every job looked at", found["warm_build_that_looks_s"], ""),
        ("the same command again", found["warm_build_s"], ""),
    )
    for place, (_, seconds, ratio) in enumerate(rows):
        if place:
            axes.barh(place, seconds, color=peers.OURS, height=0.6)
        weight = "bold" if place else "normal"
        told = f"{seconds:.{0 if seconds >= 10 else 1 if seconds >= 1 else 2}f} s"
        axes.text(
            seconds + 0.01 * total, place, told + ratio, va="center", fontsize=9, fontweight=weight,
            bbox={"color": "white", "pad": 1},
        )  # fmt: skip
    axes.axvline(found["allowed"] * total, ymax=0.8, color="black", linestyle=":", linewidth=1)
    axes.text(found["allowed"] * total, 5.4, f" {found['allowed']:g} of the scripts", fontsize=8)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=9)
    axes.set_xlim(0, 1.12 * total)
    axes.set_xlabel("seconds", fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    size = found["resolution"]
    title = f"MobileNetV2, width {found['width']}, {size} pixels, both platforms; {found['cores']} cores of an {found['cpu']}"
    figure.suptitle(title, fontsize=10)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--plain", choices=list(PLAIN), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        suffix = ".mlpackage" if given.plain.startswith("coreml") else ".bin"
        with tempfile.TemporaryDirectory() as folder:
            PLAIN[given.plain](Given(given.folder, given.width, given.resolution), Path(folder) / f"out{suffix}")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} kB")
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.width, given.resolution)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "cold_build.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, given.out / "cold_build.png")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
