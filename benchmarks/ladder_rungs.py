"""Each rung of the ladder by itself and in order, and how many calibration images it takes, on networks with real weights.

    python benchmarks/ladder_rungs.py --lite0 efficientnet-lite0-57934424.pth --keras dog_breed_mobilenetv2.h5 \\
        --images debs --calibration 16 64 256

`real_weights.py` and `photographs.py` beside this file name the packages that carry weights and images. "alone" is a rung
behind the plain quantization, "in order" the ladder as a build climbs it; agreement has its exact interval of 95 %, over
images that no rung saw.

Writes ladder_rungs.json and ladder_rungs.png to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peers
import real_weights
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import verdict
from twinkeel.pipeline.stages import candidates, fold, ladder
from twinkeel.pipeline.tasks import classification


def described(rung: Any, images: int) -> dict[str, Any]:
    low, high = verdict.share_interval(images, round(rung.shares["agreement"] * images))
    return asdict(rung) | {"agreement_interval": [low, high]}


def measured(
    network: real_weights.Network, weights: Path, root: Path, counts: Sequence[int], others: int, minutes: float
) -> list[dict[str, Any]]:
    """A row for each number of calibration images; rungs by themselves are measured with the last of them."""
    model = real_weights.load(network, weights)
    contract, config = real_weights.contract_of(network), real_weights.config_of(network, minutes)
    folded = fold.fold(model, contract)
    parts = real_weights.images(root, network, max(counts), others)
    rows = []
    for count in counts:
        images = real_weights.dataset(network, parts, count)
        begun = time.perf_counter()
        climbed = ladder.climb(
            folded, images, contract, config, classification, lambda line, *_: print(line, flush=True)
        )
        seconds = time.perf_counter() - begun
        row = {
            "calibration": count,
            "others": others,
            "seconds": seconds,
            "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "in order": [described(rung, others) for rung in climbed.rungs],
        }
        if count == counts[-1]:
            row["alone"] = _alone(folded, images, contract, config, others)
        rows.append(row)
    return rows


def _alone(folded: Any, images: data.Dataset, contract: Any, config: Config, others: int) -> list[dict[str, Any]]:
    tried = candidates.Ladder(
        folded, images, contract, config, classification, lambda line, *_: print(line, flush=True)
    )
    plain = tried.measure("plain", [tried.start()], None)
    for name, when, method in ladder.methods(config.quantize):
        if when == "auto" and not ladder.is_costly(method) and (states := method(tried, plain)):
            tried.measure(name, states, plain)
    return [described(rung, others) for rung in tried.rungs]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, network in real_weights.NETWORKS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"{network.file} of the package {network.package}")
    parser.add_argument("--images", type=Path, required=True, help="folder of Debian's packages, unpacked")
    parser.add_argument("--calibration", type=int, nargs="+", default=[64], help="numbers of calibration images")
    parser.add_argument("--others", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=30.0, help="budget of each climb")
    parser.add_argument("--out", type=Path, default=Path("docs") / "benchmarks")
    asked = parser.parse_args(arguments)
    networks = {
        name: measured(network, path, asked.images, asked.calibration, asked.others, asked.minutes)
        for name, network in real_weights.NETWORKS.items()
        if (path := getattr(asked, name)) is not None
    }
    machine = f"{peers._cpu()}, {os.cpu_count()} cores"
    found = {"machine": machine, "torch": version("torch"), "others": asked.others, "networks": networks}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "ladder_rungs.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, asked.out / "ladder_rungs.png")


def draw(found: dict[str, Any], out: Path) -> None:
    """Above, what is kept of the answers with most calibration images, rung by rung; below, what is chosen by their number."""
    from matplotlib.figure import Figure

    networks = found["networks"]
    figure = Figure(figsize=(6.4 * len(networks), 6.4), layout="constrained")
    grid = figure.subplots(2, len(networks), height_ratios=[2, 1], squeeze=False)
    for column, (name, rows) in enumerate(networks.items()):
        above, below = grid[0][column], grid[1][column]
        most = rows[-1]
        names = [rung["name"] for rung in most["in order"]]
        for kind, shift, colour in (("in order", -0.15, peers.OURS), ("alone", 0.15, "#8a9099")):
            for rung in most.get(kind, []):
                place = names.index(rung["name"]) + shift
                _point(above, place, rung, colour, is_filled=rung["is_kept"], words=f"{rung['snr_db']:.1f} dB")
            above.plot([], [], "o", color=colour, label=kind)
        above.set_yticks(range(len(names)), names, fontsize=8)
        above.invert_yaxis()
        above.legend(fontsize=8, frameon=False, loc="lower left")
        above.set_title(
            f"{real_weights.TITLES[name]}: rungs, {most['calibration']} calibration images", fontsize=9, loc="left"
        )
        for place, row in enumerate(rows):
            for rung, shift, colour in (
                (row["in order"][0], 0.15, "#8a9099"),
                (row["in order"][-1], -0.15, peers.OURS),
            ):
                _point(below, place + shift, rung, colour, is_filled=True, words=f"{rung['snr_db']:.1f} dB")
        below.set_yticks(range(len(rows)), [f"{row['calibration']} images" for row in rows], fontsize=8)
        below.invert_yaxis()
        below.set_title("plain, and what is chosen", fontsize=9, loc="left")
        for axes in (above, below):
            axes.set_xlim(70, 101)
            axes.tick_params(axis="x", labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    title = f"% of {found['others']} other images that keep the float answer, interval of 95 %; hollow: not kept"
    figure.suptitle(title, fontsize=11)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def _point(axes: Any, place: float, rung: dict[str, Any], colour: str, *, is_filled: bool, words: str) -> None:
    share = 100 * rung["shares"]["agreement"]
    low, high = (100 * bound for bound in rung["agreement_interval"])
    error = [[share - low], [high - share]]
    fill = colour if is_filled else "white"
    axes.errorbar(share, place, xerr=error, fmt="o", color=colour, markerfacecolor=fill, capsize=2, linewidth=1)
    axes.annotate(
        words, (high, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7, color=colour
    )


if __name__ == "__main__":
    main()
