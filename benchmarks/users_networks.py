"""Networks in users' own style through every target.

    python benchmarks/users_networks.py [--only mobilenet_v3 unet] [--out docs/benchmarks]

The networks stand in tests/networks: none in the style of `twinkeel.model`, with BatchNorm statistics and weights that are random, on
64 x 64 pixels. Each goes through the same stages as a build, without training and without the ladder: fold, quantization by the
ranges of 16 images, conversion, and each artifact's own runtime on 24 images. A cell holds where every limit of a build that is
arithmetic holds (`pipeline/parity/limits.py`); what is counted on images needs a network that was trained.

Writes users_networks.json and users_networks.png.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))

import networks
import programs
import several
from twinkeel.pipeline import parity
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.data import Images, with_tensors
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, Program, Target, Tensor, evaluate, integer, references
from twinkeel.pipeline.stages import fold
from twinkeel.pipeline.tasks import named

CALIBRATION, IMAGES = 16, 24
PAIRED = "two inputs"
SEVERAL = {"two outputs": several.heads, PAIRED: several.paired}
NAMES = [*networks.NETWORKS, *SEVERAL]
NUMBERS = Tensor(name="numbers", shape=(several.NUMBERS,), low=-1, high=1)
MEANINGS = named("features").MEANING, named("classification").MEANING
TARGETS = ("android/litert", "android/executorch", "android/onnx", "ios/coreml", "ios/executorch_coreml")
STRAY = ("DEQUANTIZE", "QUANTIZE", "TRANSPOSE", "RESHAPE", "PAD")


def pixels(count: int, seed: int) -> NDArray[np.uint8]:
    """``(count, 64, 64, 4)`` uint8 RGBA: squares of 8 pixels of random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    side = networks.RESOLUTION // 8
    images = coarse.repeat(side, 1).repeat(side, 2)
    return np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], -1)


def program(name: str, images: Images, seed: int) -> Program:
    import torch

    torch.manual_seed(seed)
    tensors = [NUMBERS] if name == PAIRED else []
    contract = InputContract.of(networks.RESOLUTION, programs.MEAN, programs.STD, "rgb", tensors)
    if name in SEVERAL:
        model, labels = SEVERAL[name](), []
    else:
        model = networks.settled(networks.NETWORKS[name](), seed)
        width = evaluate(fold.Normalized(model, contract.mean, contract.std), images[:1]).shape[1:]
        labels = list(map(str, range(networks.OUTPUTS))) if width == (networks.OUTPUTS,) else []
    return programs.program(model, contract, images[:CALIBRATION], name=name.replace(" ", "_"), labels=labels)


def cell(made: Program, target: Target, precision: str, images: Images, said: dict[str, Any]) -> dict[str, Any]:
    """One artifact: whether every limit holds, what was measured, and what it is made of."""
    began = time.perf_counter()
    key, meaning = target.REFERENCES[precision], MEANINGS[bool(made.labels)]
    in_float = integer.in_float(made.quantized) if precision == "int8" else ()
    try:
        with tempfile.TemporaryDirectory() as name:
            path = target.build(made, precision, Path(name) / f"artifact{target.SUFFIX}")
            twin = None
            if precision in getattr(target, "TWINS", ()):
                twin = target.build_twin(made, precision, Path(name) / f"twin{target.SUFFIX}")  # type: ignore[attr-defined]
            expected = parity.Expected(
                reference=said[key],
                floating=said["fp32"],
                quantized=said["int8"],
                unrounded=said.get(key + "-unrounded"),
                outputs=made.outputs,
                names=made.labels,
            )
            found = parity.measure(target, path, precision, images, expected, meaning, closely=range(6), twin=twin)
            operators = target.operators(path)
    except Exception as error:  # of many types: the converters' and the runtimes'
        return {"state": "not built", "why": parity.described(error)}
    allowed = parity.limits_for(
        meaning, "lower", precision, (), target.EVIDENCE, parity.arithmetic(target.KERNELS, in_float)
    )
    counted = {meaning.decoding, *meaning.counted}
    checks = parity.judge("lower", [row for row in allowed if row.metric not in counted], found.metrics)
    missed = [str(check) for check in checks if not check.is_met]
    return {
        "state": "missed"
        if missed
        else "verified"
        if parity.arithmetic(target.KERNELS, in_float)
        else "judged by noise",
        "why": "; ".join(missed) or ", ".join(in_float),
        "equal": float((found.outputs == said[key]).mean()),
        "snr_db": metrics.snr_db(said[key], found.outputs, made.outputs),
        "delegates": operators.get("delegate"),
        "stray": {name: operators[name] for name in STRAY if name in operators} if "litert" in target.NAME else {},
        "seconds": round(time.perf_counter() - began, 1),
    }


def measured(name: str, seed: int) -> dict[str, Any]:
    images: Images = pixels(IMAGES, seed)
    if name == PAIRED:
        numbers = np.random.default_rng(seed).uniform(-1, 1, (IMAGES, *NUMBERS.shape)).astype(np.float32)
        images = with_tensors(images, (numbers,))
    made = program(name, images, seed)
    targets = [common.targets()[target] for target in TARGETS]
    wanted = [
        (target, precision) for target in targets for precision in target.PRECISIONS if precision not in ("w8", "w4")
    ]
    said = {
        key: evaluate(made.original, images) if key == references.ORIGINAL else made.evaluate(key, images)
        for key in references.keys(wanted)
    }
    return {
        "fold_db": metrics.snr_db(said[references.ORIGINAL], said["fp32"], made.outputs),
        "int8_db": metrics.snr_db(said["fp32"], said["int8"], made.outputs),
        "pixels": "in a 1x1 convolution" if made.folded.normalize is not None else "in the first convolution",
        "in_float": integer.in_float(made.quantized),
        "cells": {f"{t.NAME} {p}": cell(made, t, p, images, said) for t, p in wanted},
    }


COLOURS = {"verified": "#2a9d5c", "judged by noise": "#a3d9b1", "missed": "#d1495b", "not built": "#8d8d8d"}


def draw(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names, cells = list(found), list(next(iter(found.values()))["cells"])
    figure, axes = plt.subplots(figsize=(11, 0.34 * len(names) + 2.2), layout="constrained")
    for row, name in enumerate(names):
        for column, one in enumerate(cells):
            made = found[name]["cells"][one]
            axes.add_patch(plt.Rectangle((column, row), 0.96, 0.92, color=COLOURS[made["state"]]))
            told = (
                ""
                if "equal" not in made
                else f"{100 * made['equal']:.0f} %"
                if "int8" in one
                else f"{made['snr_db']:.0f} dB"
            )
            more = "" if (made.get("delegates") or 1) == 1 else f"\n{made['delegates']} delegates"
            axes.text(column + 0.48, row + 0.46, told + more, ha="center", va="center", fontsize=7)
    axes.set(xlim=(0, len(cells)), ylim=(len(names), 0))
    axes.set_xticks(
        [c + 0.48 for c in range(len(cells))],
        [c.partition("/")[2].replace("_", "\n").replace(" ", "\n") for c in cells],
        fontsize=8,
    )
    axes.set_yticks([r + 0.46 for r in range(len(names))], names, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=8)
    figure.suptitle("int8: share of outputs equal to the reference; float: SNR against it", fontsize=9)
    figure.savefig(path, dpi=130)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    given = parser.parse_args(arguments)
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    found = {}
    for name in given.only:
        found[name] = measured(name, given.seed)
        states = [one["state"] for one in found[name]["cells"].values()]
        print(name, {state: states.count(state) for state in COLOURS if state in states}, flush=True)
        for key, one in found[name]["cells"].items():
            if one["state"] in ("missed", "not built"):
                print("   ", key, one["why"], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "users_networks.json").write_text(json.dumps({"seed": given.seed, "networks": found}, indent=1) + "\n")
    draw(found, given.out / "users_networks.png")


if __name__ == "__main__":
    main()
