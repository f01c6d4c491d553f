"""What the papers behind MobileNet claim, tried on digits: each claim by one command, with seeds, spread and a picture.

    python benchmarks/claims.py [NAME ...] [--seeds 5] [--epochs 20] [--at-once 2] [--record FILE] [--out FOLDER]

Networks are small stacks (`claims_networks.py`), trained by the product's own training on 150 of scikit-learn's digits
(`claims_training.py`); what is counted is right answers on 1000 others. A claim names pairs of networks: one is to be better
than the other. It is shown where the interval of 95 % of the mean difference over seeds lies above 0; no correction is made for the
number of pairs.

Writes ``claims.json``, the named claims anew and the others as they were, and ``claims_NAME.png`` to `--out`, docs/benchmarks by
default.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))

import claims_numbers as numbers
import claims_pictures as pictures
import claims_spiral
from claims_networks import bottlenecks, convolutions
from claims_training import Result, Variant, latencies, run
from twinkeel.pipeline.delivery import machine

Outcomes = dict[str, dict[int, Result]]
"""Of each variant's key, the results by seed."""


@dataclass(frozen=True)
class Pair:
    """Two networks by label, the first of which is to have more.

    Attributes:
        way: that both are run in.
        of: what; see `numbers.compared`.
    """

    better: str
    than: str
    way: str = "float"
    of: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Networks by label, and which is to be better than which.

    Attributes:
        title: what is claimed.
        source: where.
        latency: whether each is built for LiteRT and timed.
    """

    title: str
    source: str
    networks: Mapping[str, Variant]
    pairs: Sequence[Pair]
    latency: bool = False


V2 = "Sandler et al., MobileNetV2, 2018"
PUBLISHED = Variant(make=partial(bottlenecks))
DEEP = partial(bottlenecks, repeats=4)
LOW = ("fp16", "int8", "int8 per tensor")
EXPANSIONS = (1, 2, 3, 4, 6, 8, 10)
AT_EQUAL_COST = {1: (14, 21, 28), 2: (7, 13, 14), 3: (6, 9, 12), 6: (4, 6, 8), 10: (3, 4, 6)}
"""Channels of the stages by expansion factor: the multiply-adds of `PUBLISHED`, within 2 %."""
WIDTHS, RESOLUTIONS = (0.25, 0.5, 1.0), (8, 16, 32)


def scaled(width: float, resolution: int) -> Variant:
    """The stack with twice the channels of the other claims at width 1."""
    channels = tuple(round(width * full) for full in (8, 12, 16))
    return Variant(make=partial(bottlenecks, channels=channels, last=round(96 * width)), resolution=resolution)


def named(width: float, resolution: int) -> str:
    return f"width {width:g}, {resolution} px"


def expanded(factor: int) -> Variant:
    return PUBLISHED if factor == 6 else Variant(make=partial(bottlenecks, expand_ratio=factor))


def at_equal_cost(factor: int) -> Variant:
    if factor == 6:
        return PUBLISHED
    return Variant(make=partial(bottlenecks, channels=AT_EQUAL_COST[factor], expand_ratio=factor))


CLAIMS = {
    "bottlenecks": Claim(
        title="Bottlenecks without a nonlinearity are better than with one",
        source=f"{V2}, sections 3.2 and 6.4, figure 6a",
        networks={
            "linear": PUBLISHED,
            "ReLU6": Variant(make=partial(bottlenecks, projection="relu6")),
            "ReLU": Variant(make=partial(bottlenecks, projection="relu")),
        },
        pairs=(Pair("linear", "ReLU6"), Pair("linear", "ReLU")),
    ),
    "shortcuts": Claim(
        title="Shortcuts between bottlenecks are better than between expansions, and than none",
        source=f"{V2}, sections 3.3 and 6.4, figure 6b",
        networks={name: Variant(make=partial(DEEP, shortcuts=name)) for name in ("bottlenecks", "expansions", "none")},
        pairs=(
            Pair("bottlenecks", "expansions"),
            Pair("bottlenecks", "none"),
            Pair("expansions", "none"),
        ),
    ),
    "relu6": Claim(
        title="ReLU6 bears low precision better than ReLU",
        source=f"{V2}, section 4",
        networks={
            label: Variant(make=partial(bottlenecks, activation=name), ways=LOW)
            for label, name in (("ReLU6", "relu6"), ("ReLU", "relu"))
        },
        pairs=(
            Pair("ReLU6", "ReLU"),
            *(Pair("ReLU6", "ReLU", way, "kept") for way in LOW),
            *(Pair("ReLU6", "ReLU", way, "snr_db") for way in LOW),
        ),
    ),
    "separable": Claim(
        title="Depthwise separable convolutions are better than full ones of equal cost",
        source="Howard et al., MobileNets, 2017, section 3.1; table 4 has equal channels",
        networks={
            "separable": Variant(make=partial(convolutions, channels=(12, 16, 24))),
            "full, equal cost": Variant(make=partial(convolutions, channels=(6, 7, 9), is_separable=False)),
            "full, equal channels": Variant(make=partial(convolutions, channels=(12, 16, 24), is_separable=False)),
        },
        pairs=(Pair("separable", "full, equal cost"), Pair("full, equal channels", "separable")),
    ),
    "expansion": Claim(
        title="An expansion is worth its cost; between 5 and 10 its factor makes little difference",
        source=f"{V2}, section 4",
        networks={
            **{f"factor {t}": expanded(t) for t in EXPANSIONS},
            **{f"factor {t}, equal cost": at_equal_cost(t) for t in AT_EQUAL_COST},
        },
        pairs=(
            Pair("factor 6", "factor 1"),
            Pair("factor 10", "factor 6"),
            Pair("factor 6, equal cost", "factor 1, equal cost"),
            Pair("factor 6, equal cost", "factor 3, equal cost"),
            Pair("factor 10, equal cost", "factor 6, equal cost"),
        ),
    ),
    "versions": Claim(
        title="MobileNetV2's blocks are better than MobileNetV1's at equal cost",
        source=f"{V2}, table 4",
        networks={
            "V2: bottlenecks": PUBLISHED,
            "V1: separable": Variant(make=partial(convolutions, channels=(15, 20, 30))),
        },
        pairs=(Pair("V2: bottlenecks", "V1: separable"),),
    ),
    "multipliers": Claim(
        title="Width and resolution trade accuracy for cost smoothly",
        source="Howard et al., MobileNets, 2017, sections 3.3 and 3.4",
        networks={named(w, r): scaled(w, r) for w, r in itertools.product(WIDTHS, RESOLUTIONS)},
        pairs=(
            *(Pair(named(1, r), named(0.25, r)) for r in RESOLUTIONS),
            *(Pair(named(w, more), named(w, less)) for w in (0.5, 1) for less, more in ((8, 16), (16, 32))),
        ),
        latency=True,
    ),
}


def outcomes(claim: Claim, known: Outcomes, asked: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
    """Run what `known` has not, seed by seed, so that a machine that slows down slows all networks alike."""
    jobs = {}
    for seed, (key, variant) in itertools.product(
        range(asked.seeds), {v.key: v for v in claim.networks.values()}.items()
    ):
        if seed not in known.setdefault(key, {}):
            jobs[pool.submit(run, variant, seed, asked.epochs)] = key, seed
    for job in as_completed(jobs):
        key, seed = jobs[job]
        known[key][seed] = job.result()
        if asked.record is not None:
            with asked.record.open("a") as stream:
                line = {"key": key, "seed": seed, "epochs": asked.epochs, **job.result().as_json()}
                stream.write(json.dumps(line) + "\n")


def recorded(asked: argparse.Namespace) -> Outcomes:
    """What earlier runs of so many epochs have left."""
    found: Outcomes = {}
    if asked.record is not None and asked.record.is_file():
        for line in map(json.loads, asked.record.read_text().splitlines()):
            if line["epochs"] == asked.epochs and line["seed"] < asked.seeds:
                found.setdefault(line["key"], {})[line["seed"]] = Result.of(line)
    return found


def by_seed(results: Mapping[int, Result]) -> list[Result]:
    return [results[seed] for seed in sorted(results)]


def described(claim: Claim, known: Outcomes) -> dict[str, Any]:
    """What `claims.json` has of it, without latency."""
    rows, seconds = {}, 0.0
    for label, variant in claim.networks.items():
        cost, results = variant.cost(), by_seed(known[variant.key])
        seconds += sum(one.seconds for one in results)
        rows[label] = {
            "resolution": variant.resolution,
            "multiply_adds": cost.multiply_adds,
            "parameters": cost.parameters,
            **{way: numbers.counted(results, way) for way in ("float", *variant.ways)},
        }
    pairs = []
    for pair in claim.pairs:
        better, than = (by_seed(known[claim.networks[label].key]) for label in (pair.better, pair.than))
        pairs.append(asdict(pair) | numbers.compared(better, than, pair.way, pair.of))
    return {
        "title": claim.title,
        "source": claim.source,
        "networks": rows,
        "pairs": pairs,
        "seconds_of_one_core": round(seconds),
    }


def told(found: dict[str, Any]) -> None:
    for label, row in found["networks"].items():
        ways = [f"{way} {row[way]['mean']:.1f} % ({row[way]['least']:.1f} to {row[way]['most']:.1f})"
                for way in row if isinstance(row[way], dict) and "right" in row[way]]  # fmt: skip
        print(
            f"  {label:24s} {row['multiply_adds']:>9,} multiply-adds, {row['parameters']:>6,} parameters: {', '.join(ways)}"
        )
    for pair in found["pairs"]:
        low, high = pair["interval"]
        print(f"  {pair['better']} over {pair['than']}, {pair['way']}, {pair['of']}: {pair['mean']:+.2f}, {low:+.2f} to {high:+.2f}, "
              f"{pair['seeds_in_favour']} of {len(pair['by_seed'])} seeds: {pair['says']}")  # fmt: skip


def measured(name: str, known: Outcomes, asked: argparse.Namespace, pool: ProcessPoolExecutor) -> dict[str, Any]:
    claim = CLAIMS[name]
    outcomes(claim, known, asked, pool)
    found = described(claim, known)
    if claim.latency:
        # alone, in a process whose threads and core it may set
        with _processes(1) as apart:
            times = apart.submit(latencies, list(claim.networks.values()), ("int8",)).result()
        for row, ms in zip(found["networks"].values(), times, strict=True):
            row["litert_ms_quartiles"] = ms
    told(found)
    return found


def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))


def main() -> None:
    names = ("spiral", *CLAIMS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", choices=[*names, []], metavar="NAME", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=2, help="trainings side by side")
    parser.add_argument("--record", type=Path, help="file of finished trainings, a line each, that a run goes on from")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes: there are as many as cores
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "claims.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"claims": {}}
    known = recorded(asked)
    with _processes(asked.at_once) as pool:
        for name in asked.name or names:
            began = time.monotonic()
            print(name, flush=True)
            found = claims_spiral.described() if name == "spiral" else measured(name, known, asked, pool)
            content["claims"][name] = found
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
            pictures.draw(name, found, asked.out / f"claims_{name}.png")
            content |= {
                "epochs": asked.epochs,
                "processor": machine.here()["processor"],
                "cores": os.cpu_count(),
                "torch": version("torch"),
            }
            content["claims"] = {one: content["claims"][one] for one in names if one in content["claims"]}
            file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
