"""`twinkeel evaluate` over 20,000 images by four artifacts: its speed beside a bare loop of the interpreters, its memory, and a run that is killed.

evaluate.py --folder EMPTY_FOLDER [--count 20000] [--workers N] [--out FOLDER]

Builds the network of digits for LiteRT and onnxruntime in float32 and int8 from the weights of the tests, and draws digits with noise. Then,
shard by shard in turns, so that a machine that slows down slows all: decoding alone; a loop that sets an interpreter's input, invokes
it and takes its output, on the decoded images; and a shard of an evaluation, which decodes, runs, and keeps what it counts. What an
evaluation takes on decoded images is the last without the first. Then the whole command for a quarter of the images and for all, its memory
sampled (PSS of all processes), and once more, killed when half is there and run again.

Writes evaluate.json to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import machine, manifest
from twinkeel.pipeline.evaluating import planning, running

ROOT = Path(__file__).parents[1]
SPEED, MEMORY = 0.9, 1.2
LOADED = 2
"""Shards for which networks stay loaded."""
COMMAND = (sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()")
CONFIG = """
[model]
width = 0.2
[weights]
path = "{weights}"
[quantize]
minutes = 0
[store]
url = "{store}"
[android]
sdk = "none"
[targets]
"android/litert" = ["fp32", "int8"]
"android/onnx" = ["fp32", "int8"]
"android/executorch" = []
"""


def generate(folder: Path, count: int) -> None:
    """Digits of scikit-learn at 32 pixels, each with noise of its own."""
    from sklearn.datasets import load_digits

    known = load_digits()
    for number in range(count):
        draw = np.random.default_rng(number)
        which = int(draw.integers(len(known.images)))
        path = folder / str(known.target[which]) / f"{number:06d}.png"
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.clip(known.images[which] * (255 / 16) + draw.normal(0, 25, (8, 8)), 0, 255).astype(np.uint8)
        Image.fromarray(grey.repeat(4, 0).repeat(4, 1)).convert("RGB").save(path)


def build(folder: Path) -> Path:
    """The finished folder of Android."""
    if not (folder / "out" / "android").is_dir():
        weights = ROOT / "tests" / "weights" / "digits.safetensors"
        (folder / "twinkeel.toml").write_text(CONFIG.format(weights=weights, store=folder / "store"))
        subprocess.run([*COMMAND, "build", "android"], cwd=folder, check=True)
    return folder / "out" / "android"


def plan_of(build: Path, data: Path) -> planning.Plan:
    return planning.planned({build: manifest.read_verified(build)}, common.targets(), data)


def bare_loops(plan: planning.Plan) -> list[Callable[[Any], Any]]:
    """Of each artifact, by its runtime's own calls."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    def litert(path: Path) -> Callable[[Any], Any]:
        made = Interpreter(str(path), num_threads=1)
        made.allocate_tensors()
        given, found = made.get_input_details()[0]["index"], made.get_output_details()[0]["index"]

        def run(image: Any) -> Any:
            made.set_tensor(given, image)
            made.invoke()
            return made.get_tensor(found)

        return run

    def onnx(path: Path) -> Callable[[Any], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda image: made.run(None, {"pixels": image})

    return [litert(one.path) if "litert" in one.runtime else onnx(one.path) for one in plan.artifacts]


Seconds = dict[str, list[tuple[float, float]]]


def timed(plan: planning.Plan, numbers: Sequence[int]) -> Seconds:
    """In a process, shard by shard: seconds by the clock and of the processor, for the bare loop, decoding, and a shard of an evaluation.

    All is loaded anew after some shards, the other one first: where a network comes to lie in memory makes it some percent
    faster or slower for as long as it lies there.
    """
    taken: Seconds = {"bare": [], "decoding": [], "shards": []}

    def take(name: str, work: Callable[[], Any]) -> Any:
        wall, own = time.perf_counter(), time.process_time()
        found = work()
        taken[name].append((time.perf_counter() - wall, time.process_time() - own))
        return found

    def loop(loops: Sequence[Callable[[Any], Any]], images: Any) -> None:
        for run in loops:
            for n in range(len(images)):
                run(images[n : n + 1])

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "work").mkdir()
        writer = partial(running.writer, plan, Path(name), Path(name) / "work", 0)
        for start in range(0, len(numbers), LOADED):
            if start // LOADED % 2:
                loops, write = bare_loops(plan), writer()
            else:
                write, loops = writer(), bare_loops(plan)
            for number in numbers[start : start + LOADED]:
                images, *_ = take("decoding", partial(running._decoded, plan, number))
                orders = [("bare", partial(loop, loops, images)), ("shards", partial(write, number))]
                for kind, work in orders if number % 4 < 2 else orders[::-1]:
                    take(kind, work)
    return taken


def speed(plan: planning.Plan, workers: int) -> dict[str, Any]:
    count, context = len(plan.keys), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        found = list(pool.map(partial(timed, plan), [range(n, count, workers) for n in range(workers)]))
    told: dict[str, Any] = {}
    for which, kind in enumerate(("by the clock", "of the processor")):
        seconds = {name: sum(one[which] for part in found for one in part[name]) for name in found[0]}
        bare, decoding, shards = seconds["bare"], seconds["decoding"], seconds["shards"]
        told[kind] = {
            "microseconds an image": {name: round(1e6 * value / len(plan.files), 1) for name, value in seconds.items()},
            "on decoded images, of the bare loop": round(bare / (shards - decoding), 3),
            "with decoding, of the bare loop": round(bare / shards, 3),
            "with decoding, of decoding and the bare loop": round((bare + decoding) / shards, 3),
        }
    return told


def command(build: Path, data: Path, into: Path, workers: int) -> subprocess.Popen[bytes]:
    given = ["evaluate", str(build), "--data", str(data), "--into", str(into), "--jobs", str(workers)]
    return subprocess.Popen([*COMMAND, *given], stdout=subprocess.DEVNULL)


def whole(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Seconds, and the most memory of all processes together."""
    began, most = time.perf_counter(), 0
    while process.poll() is None:
        try:
            own = psutil.Process(process.pid)
            most = max(most, sum(one.memory_full_info().pss for one in (own, *own.children(recursive=True))))
        except psutil.Error:
            pass
        time.sleep(0.1)
    if process.returncode not in (0, 6):  # a limit may be missed on these images
        raise SystemExit(f"evaluate ended with {process.returncode}")
    return {"seconds": round(time.perf_counter() - began, 2), "megabytes": round(most / 1e6, 1)}


def killed(build: Path, data: Path, into: Path, workers: int, count: int) -> dict[str, int]:
    """Shards that were there when it was killed, and how many of these were written again."""
    process, folder = command(build, data, into, workers), into / "shards"
    while not folder.is_dir() or len(list(folder.iterdir())) < count // 2:
        if process.poll() is not None:
            raise SystemExit("it ended before it could be killed")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    whole(command(build, data, into, workers))
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = sum(after.get(name) != when for name, when in before.items())
    return {"shards": len(after), "there when killed": len(before), "written again": again}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    built, data, few = build(folder), folder / "images", folder / "few"
    generate(data, given.count)
    generate(few, given.count // 4)
    plan = plan_of(built, data)
    found = {
        "machine": dict(machine.here()),
        "processes": given.workers,
        "load before": round(os.getloadavg()[0], 2),
        "images": len(plan.files),
        "artifacts": [one.name for one in plan.artifacts],
        "speed": speed(plan, given.workers),
        "a quarter": whole(command(built, few, folder / "found few", given.workers)),
        "all": whole(command(built, data, folder / "found", given.workers)),
        "nothing to do": whole(command(built, data, folder / "found", given.workers)),
        "killed": killed(built, data, folder / "found killed", given.workers, len(plan.keys)),
    }
    same = [(folder / name / "evaluation.json").read_bytes() for name in ("found", "found killed")]
    found["killed"]["result is that of one run"] = same[0] == same[1]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "evaluate.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    is_fast = found["speed"]["of the processor"]["on decoded images, of the bare loop"] >= SPEED
    is_flat = found["all"]["megabytes"] <= MEMORY * found["a quarter"]["megabytes"]
    if not (is_fast and is_flat and found["killed"]["written again"] == 0 and same[0] == same[1]):
        raise SystemExit("a claim does not hold")


if __name__ == "__main__":
    main()
