"""A data set of 100,000 JPEGs: how fast it is decoded beside a bare loop of Pillow, and what memory a build takes at most.

many_images.py --folder EMPTY_FOLDER [--count 100000] [--size 640 480] [--resolution 224] [--workers N] [--rounds 4] [--out FOLDER]

Generates the images in ten class folders, where they are not there yet. Then, in turns, so that a machine that
slows down slows both: processes that open, convert and resize each file with Pillow and keep nothing, and ours, which crops,
resizes exactly, hashes and writes to disk; as many processes each. Then `twinkeel build ios` with a small network on onnx: the data
job, one epoch of training, quantization, references and parity; and the same build again.

Memory is the sum over all processes of the build, each page counted once (PSS), sampled; by the line that the build said last.
Writes many_images.json to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from twinkeel.pipeline.data import decoding, fitting
from twinkeel.pipeline.data.files import ImageFile

CLASSES, SPEED, MEMORY = 10, 0.5, 1e9
FACTORY = """
from torch import nn

def create(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))
"""
CONFIG = """
[model]
factory = "small.py:create"
resolution = {resolution}
[model.arguments]
classes = {classes}
[data]
source = "folder"
path = "images"
accept_accuracy = "a benchmark of memory and time; the network is far too small"
[train]
epochs = 1
learning_rate = 0.01
rotation_degrees = 0
zoom = 0
shift = 0
[quantize]
minutes = 0
qat = "never"
[store]
url = "store"
max_gigabytes = 100
[ios]
sdk = "none"
[targets]
"ios/onnx" = ["fp32", "int8"]
"ios/coreml" = []
"ios/executorch" = []
"ios/executorch_coreml" = []
[[limit]]
leg = "quantize"
precision = "int8"
metric = "agreement"
value = 0.0
reason = "the network is far too small"
[[limit]]
leg = "quantize"
precision = "int8"
metric = "accuracy_drop"
value = 1.0
reason = "the same"
"""


def write(folder: Path, size: tuple[int, int], numbers: Sequence[int]) -> None:
    """Pictures of soft colours, edges and some noise, about as large as photographs of the size; each another one."""
    width, height = size
    for number in numbers:
        draw = np.random.default_rng(number)
        path = folder / f"class-{number % CLASSES}" / f"{number:06d}.jpg"
        coarse = Image.fromarray(draw.integers(0, 256, (9, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        coarse.paste(
            tuple(draw.integers(0, 256, 3).tolist()),
            (width * (number % CLASSES) // 32, height // 12, width // 3, height * 5 // 8),
        )
        noise = draw.integers(-9, 10, (height // 4, width // 4, 1), np.int16).repeat(4, 0).repeat(4, 1)
        pixels = np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, "JPEG", quality=85)


def generate(folder: Path, size: tuple[int, int], count: int, workers: int) -> None:
    for number in range(CLASSES):
        (folder / f"class-{number}").mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(count) if not (folder / f"class-{n % CLASSES}" / f"{n:06d}.jpg").is_file()]
    with ProcessPoolExecutor(workers) as pool:
        list(
            pool.map(
                partial(write, folder, size), [missing[start : start + 500] for start in range(0, len(missing), 500)]
            )
        )


def bare(size: int, files: Sequence[ImageFile]) -> int:
    for file in files:
        with Image.open(file.path) as image:
            image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return len(files)


def rates(files: Sequence[ImageFile], size: int, workers: int, rounds: int, scratch: Path) -> dict[str, list[float]]:
    """Images per second of both, by round; each round has files of its own, the same for both."""
    found: dict[str, list[float]] = {"pillow": [], "twinkeel": []}
    share = len(files) // rounds
    for number in range(rounds):
        some = files[number * share : (number + 1) * share]
        for file in some:  # neither is to wait for the disk
            file.read()
        part = -(-len(some) // (8 * workers))
        began = time.perf_counter()
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(partial(bare, size), [some[n : n + part] for n in range(0, len(some), part)]))
        found["pillow"].append(len(some) / (time.perf_counter() - began))
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            place = decoding.Place(folder=Path(name), say=lambda *_: None, number=workers)
            began = time.perf_counter()
            with decoding.put_into(place):
                fitting.fitted(some, (size, size))
            found["twinkeel"].append(len(some) / (time.perf_counter() - began))
    return found


class Watched:
    """A command, its seconds and its largest memory by what it said last."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.step, self.peaks, self.seconds = "start", {}, {}  # type: ignore[var-annotated]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        assert self.process.stdout is not None
        last = began
        for line in self.process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            now = time.perf_counter()
            self.seconds[self.step] = self.seconds.get(self.step, 0.0) + now - last
            last = now
            if ":" in line and (word := line.split(":")[0].strip()).isalpha():
                self.step = word
        if self.process.wait():
            raise SystemExit(f"'{' '.join(command)}' ended with {self.process.returncode}")
        self.total = time.perf_counter() - began

    def _sample(self) -> None:
        while self.process.poll() is None:
            total = 0
            try:
                top = psutil.Process(self.process.pid)
                for one in (top, *top.children(recursive=True)):
                    total += one.memory_full_info().pss
            except psutil.Error:
                continue
            self.peaks[self.step] = max(self.peaks.get(self.step, 0), total)
            time.sleep(0.2)


def built(folder: Path, resolution: int) -> Watched:
    (folder / "small.py").write_text(FACTORY)
    (folder / "twinkeel.toml").write_text(CONFIG.format(resolution=resolution, classes=CLASSES))
    command = "import sys; from twinkeel.pipeline.cli import main; sys.exit(main())"
    return Watched([sys.executable, "-c", command, "build", "ios"], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), help="width and height of each")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sample", type=int, default=8000, help="images that the rates are taken of")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/benchmarks")
    asked = parser.parse_args()
    images = asked.folder / "images"
    generate(images, tuple(asked.size), asked.count, asked.workers)
    files = [ImageFile(images, path.relative_to(images).as_posix()) for path in sorted(images.rglob("*.jpg"))]
    spread = [files[n] for n in np.random.default_rng(0).permutation(len(files))[: asked.sample]]
    speed = rates(spread, asked.resolution, asked.workers, asked.rounds, asked.folder)
    ratio = float(np.median(speed["twinkeel"]) / np.median(speed["pillow"]))
    first, again = built(asked.folder, asked.resolution), built(asked.folder, asked.resolution)
    if "data" not in first.seconds:
        raise SystemExit("the build said nothing of data: is the store of an earlier run there?")
    said: dict[str, Any] = {
        "images": asked.count,
        "pixels of each": list(asked.size),
        "resolution": asked.resolution,
        "bytes of each, mean": int(np.mean([file.path.stat().st_size for file in spread])),
        "processes": asked.workers,
        "images per second, by round": {name: [round(rate, 1) for rate in found] for name, found in speed.items()},
        "of a bare loop": round(ratio, 3),
        "seconds": {name: round(taken, 1) for name, taken in first.seconds.items()},
        "peak of all processes, bytes": first.peaks,
        "seconds of the build": round(first.total, 1),
        "seconds of the same build again": round(again.total, 1),
        "load at the end": os.getloadavg(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "many_images.json").write_text(json.dumps(said, indent=2) + "\n")
    print(json.dumps(said, indent=2))
    faults = [] if ratio >= SPEED else [f"{ratio:.2f} of the speed of a bare loop, {SPEED} is wanted"]
    faults += [f"{name}: {peak:,} bytes" for name, peak in first.peaks.items() if name == "data" and peak > MEMORY]
    if faults:
        raise SystemExit("; ".join(faults))


if __name__ == "__main__":
    main()
