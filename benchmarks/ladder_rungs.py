"""Each rung of the ladder by itself and in order, and how many calibration images it takes, on networks with real weights.

    python benchmarks/ladder_rungs.py --lite0 efficientnet-lite0-57934424.pth --images debs --out rungs.json
    python benchmarks/ladder_rungs.py --keras dog_breed_mobilenetv2.h5 --images debs --calibration 16 64 256

`real_weights.py` and `photographs.py` beside this file name the packages that carry weights and images. "alone" is a rung
behind the plain quantization, "in order" the ladder as a build climbs it; agreement has its exact interval of 95 %, over
images that no rung saw.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import real_weights
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import verdict
from twinkeel.pipeline.stages import fold, ladder
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
    tried = ladder.Ladder(folded, images, contract, config, classification, lambda line, *_: print(line, flush=True))
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
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    asked = parser.parse_args(arguments)
    found = {
        name: measured(network, path, asked.images, asked.calibration, asked.others, asked.minutes)
        for name, network in real_weights.NETWORKS.items()
        if (path := getattr(asked, name)) is not None
    }
    text = json.dumps(found, indent=1)
    print(text) if asked.out is None else asked.out.write_text(text)


if __name__ == "__main__":
    main()
