"""The networks of `twinkeel.model` on every target, and SSDLite and DeepLabV3 beside the converters' own calls.

    python benchmarks/heads.py [--only mobilenet_v1 ssdlite_residual] [--no-latency] [--out docs/benchmarks] [--artifacts FOLDER]

Every architecture at width 0.25, random weights behind BatchNorm statistics of noise, ten classes, goes through the same stages as
a build, without training and without the ladder. A cell holds where every limit of a build that is arithmetic holds; see
`users_networks.py`, which does the same with networks in users' own style.

Then the latency of `ssdlite_mobilenet_v2` at 320 pixels with 80 classes and of `deeplab_v3_mobilenet_v2` at 257 with 21, at width 1,
in one thread of one core; peers and turns are those of `peers.py`. Boxes are not decoded, and maps not enlarged, in any of them.

Writes heads.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))

import peers
import programs
import torch
import users_networks
from torch import nn
from twinkeel.model import count
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, Program, evaluate, integer, references

WIDTH, CLASSES = 0.25, 10
SIZES = {"ssdlite": 96, "deeplab": 97}
"""Pixels of the small input, by what a name begins with."""
USUAL = 64

TIMED = {"ssdlite_mobilenet_v2": (320, 80), "deeplab_v3_mobilenet_v2": (257, 21)}
"""Pixels and classes of what is timed."""


def settled(name: str, size: int, classes: int, width: float) -> nn.Module:
    """In evaluation mode, with statistics of noise, and BatchNorms that scale and shift."""
    torch.manual_seed(0)
    source = architectures.sources()[name]
    model: nn.Module = importlib.import_module(source.module).create(classes, width, **source.options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(8):
            coarse = torch.randn(8, 3, 12, 12)
            model(nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") * 1.5)
    return model.eval().requires_grad_(False)


def pixels(number: int, size: int) -> NDArray[np.uint8]:
    """``(number, size, size, 4)`` uint8 RGBA: squares of 8 pixels of random colours."""
    side = -(-size // 8)
    coarse = np.random.default_rng(0).integers(0, 256, (number, side, side, 3), np.uint8)
    images = coarse.repeat(8, 1).repeat(8, 2)[:, :size, :size]
    return np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], -1)


def cells(name: str) -> dict[str, Any]:
    """An architecture on every target, in every precision that is more than its weights alone."""
    size = next((pixels for start, pixels in SIZES.items() if name.startswith(start)), USUAL)
    images = pixels(users_networks.IMAGES, size)
    labels = [str(number) for number in range(CLASSES)] if size == USUAL else []
    contract = InputContract.of(size, programs.MEAN, programs.STD)
    model = settled(name, size, CLASSES, WIDTH)
    made = programs.program(model, contract, images[: users_networks.CALIBRATION], name=name, labels=labels)
    wanted = [
        (target, precision)
        for target in (common.targets()[one] for one in users_networks.TARGETS)
        for precision in target.PRECISIONS
        if precision not in ("w8", "w4")
    ]
    said = {
        key: evaluate(made.original, images) if key == references.ORIGINAL else made.evaluate(key, images)
        for key in references.keys(wanted)
    }
    return {
        "fold_db": metrics.snr_db(said[references.ORIGINAL], said["fp32"], made.outputs),
        "int8_db": metrics.snr_db(said["fp32"], said["int8"], made.outputs),
        "in_float": integer.in_float(made.quantized),
        "cells": {f"{t.NAME} {p}": users_networks.cell(made, t, p, images, said) for t, p in wanted},
    }


class Head(peers.Subject):
    """A network whose outputs are no classes of an image, at width 1."""

    @classmethod
    def of(cls, name: str) -> Head:
        size, classes = TIMED[name]
        images = pixels(peers.CALIBRATION + peers.HELD_OUT, size)
        return cls(settled(name, size, classes, 1.0), images, peers.CALIBRATION, peers.MEAN, peers.STD)

    @cached_property
    def program(self) -> Program:
        contract = InputContract.of(self.size, self.mean, self.std)
        return programs.program(self.model, contract, self.pixels[: self.calibrating], name="heads")


def latency(name: str, folder: Path) -> dict[str, Any]:
    """Milliseconds of each artifact of a head, ours and the converters' own; None where a converter fails."""
    subject = Head.of(name)
    calls, failed = {}, {}
    for entry in peers.ENTRIES:
        path = peers._path(entry, subject.size, folder)
        try:
            if not path.exists():
                entry.make(subject, path)
            calls[entry.key] = peers.OPEN[entry.runtime](path, subject).call
            calls[entry.key]()
        except Exception as error:  # of many types: the converters' and the runtimes'
            calls.pop(entry.key, None)
            failed[entry.key] = " ".join(str(error).split())[:200]
    taken = peers.timed(calls)
    rows = []
    for entry in peers.ENTRIES:
        if entry.key in failed:
            rows.append({"artifact": entry.key, "failed": failed[entry.key]})
            continue
        path = peers._path(entry, subject.size, folder)
        others = [
            taken[e.key] for e in peers.ENTRIES
            if not e.is_ours and e.key in taken and (e.runtime, e.precision) == (entry.runtime, entry.precision)
        ]  # fmt: skip
        fastest = np.min(others, 0) if others else None
        ratio = None if fastest is None or not entry.is_ours else float(np.median(taken[entry.key] / fastest))
        rows.append(
            {
                "artifact": entry.key,
                "ms": round(float(np.median(taken[entry.key])), 3),
                "ratio_to_fastest_peer": ratio if ratio is None else round(ratio, 3),
                "bytes": path.stat().st_size,
            }
        )
    found = count.count(subject.model, subject.size, subject.size)
    return {
        "resolution": subject.size,
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
        "artifacts": rows,
    }


def show(found: dict[str, Any]) -> None:
    for name, row in found["networks"].items():
        states = [one["state"] for one in row["cells"].values()]
        print(name, {state: states.count(state) for state in sorted(set(states))}, flush=True)
    for name, timed in found["latency"].items():
        print(f"\n{name} at {timed['resolution']}: {timed['multiply_adds'] / 1e6:.0f} M multiply-adds")
        for row in timed["artifacts"]:
            told = row.get("failed") or f"{row['ms']:8.3f} ms, {row['bytes'] / 1e6:6.3f} MB"
            ratio = row.get("ratio_to_fastest_peer")
            print(f"  {row['artifact']:48s} {told}{f', {ratio:.3f} of the fastest peer' if ratio else ''}")


def main(arguments: Sequence[str] | None = None) -> None:
    names = list(architectures.sources())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    parser.add_argument("--artifacts", type=Path)
    given = parser.parse_args(arguments)
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if not given.no_latency:
        peers.use_one_core()
    found: dict[str, Any] = {
        "cpu": peers._cpu(),
        "packages": {name: version(name) for name in peers.PACKAGES},
        "networks": {},
        "latency": {},
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        found["networks"][name] = cells(name)
        (given.out / "heads.json").write_text(json.dumps(found, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = given.artifacts or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in () if given.no_latency else TIMED:
            found["latency"][name] = latency(name, folder)
    (given.out / "heads.json").write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
