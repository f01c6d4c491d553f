"""Training in two processes against one: loss of each epoch, weights, accuracy and seconds, on digits with the default network, in a short
training: 20 steps an epoch, at half the default rate.

processes.py [--epochs N] [--seeds N] [--out FOLDER]

Each run is `twinkeel train --store none` in processes of its own, with one thread each: alone, under `torchrun --nproc-per-node 2`, and alone
with two threads, which sums in another order too: what becomes of a difference in the last bit is seen there as well. Writes
processes.json to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
MAIN = [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()", "train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
WAYS = {"one process": (MAIN, 1), "two processes": (TORCHRUN + MAIN, 1), "one process, two threads": (MAIN, 2)}


def run(way: str, seed: int, epochs: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and weights."""
    command, threads = WAYS[way]
    folder.mkdir(parents=True)
    recipe = f'[train]\nseed = {seed}\nepochs = {epochs}\ndevice = "cpu"\nbatch_size = 32\nlearning_rate = 0.05\n'
    (folder / "twinkeel.toml").write_text(recipe, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    options = ["--store", "none", "--checkpoints", "states"]
    subprocess.run([*command, *options], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE)
    seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = list(csv.DictReader((folder / "out" / "curves.csv").read_text(encoding="utf-8").splitlines()))
    figures = {
        "seconds": round(seconds, 1),
        "processor seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1),
        "loss": [float(row["loss"]) for row in rows],
        "accuracy": float(rows[-1]["held_out_accuracy"]),
    }
    return figures, load_file(folder / "out" / "mobilenet_v2.safetensors")


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest of a weight; running statistics of BatchNorm are none."""
    names = [name for name in one if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    return max(float((one[name] - other[name]).abs().max()) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        weights: dict[str, dict[str, Any]] = {}
        row: dict[str, Any] = {"seed": seed}
        with tempfile.TemporaryDirectory() as name:
            for way in WAYS:
                row[way], weights[way] = run(way, seed, asked.epochs, Path(name) / way.replace(" ", "-"))
                row[way]["largest difference of a weight"] = difference(weights["one process"], weights[way])
                print(seed, way, json.dumps(row[way]), flush=True)
        found.append(row)
    path = asked.out / "processes.json"
    path.write_text(json.dumps({"epochs": asked.epochs, "runs": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
