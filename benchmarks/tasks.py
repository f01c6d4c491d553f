"""Detection and segmentation on the drawn shapes, built whole for both platforms: scores of every artifact, with intervals and verdicts.

    python benchmarks/tasks.py [--only detection-seed-0 ...] [--out docs/benchmarks] [--keep FOLDER]

Each build is `BUILDS`' network at width 0.35 and 96 pixels, everything else by default; the seed is that of the training and of the
split, and the instruction set what torch is held to. Writes tasks.json, and leaves rows of builds that were not asked for as they are. With
``--keep`` a build's folder stays, and one that is finished there is read and not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinkeel.pipeline.delivery import machine

TWINKEEL = [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()"]
NETWORKS = {"detection": "ssdlite_mobilenet_v2", "segmentation": "deeplab_v3_mobilenet_v2"}
BUILDS: dict[str, tuple[str, int, dict[str, str]]] = {
    f"{task}-{name}": (task, seed, setting)
    for task in NETWORKS
    for name, seed, setting in (
        ("seed-0", 0, {}),
        ("seed-1-avx2", 1, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
    )
}
"""By name: task, seed and instruction set."""

SCORES = {"detection": "AP", "segmentation": "mIoU"}
COUNTED = {"detection": ("ap_drop", "ap50_drop", "same_boxes"), "segmentation": ("miou_drop", "agreement")}
TOLD = "told.json"
"""Beside a kept build, how it ended and how long it took."""


def build(name: str, root: Path) -> dict[str, Any]:
    """How a build in `root` ended: exit code, seconds of wall time and of all cores."""
    task, seed, setting = BUILDS[name]
    settings = f'[model]\nname = "{NETWORKS[task]}"\nwidth = 0.35\nresolution = 96\n'
    root.mkdir(parents=True, exist_ok=True)
    (root / "twinkeel.toml").write_text(f"{settings}[train]\nseed = {seed}\n[data]\nseed = {seed}\n")
    began, before = time.monotonic(), _core_seconds()
    with (root / "log").open("w") as log:
        code = subprocess.run(
            [*TWINKEEL, "build", "all", "-c", "twinkeel.toml", "--store", "store"],
            cwd=root,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "XDG_CACHE_HOME": str(root / "cache"), **setting},
            stdout=log,
            stderr=subprocess.STDOUT,
        ).returncode
    told = {
        "exit_code": code,
        "seconds": round(time.monotonic() - began),
        "core_seconds": round(_core_seconds() - before),
        "where": {**machine.here(), **setting},
    }
    (root / TOLD).write_text(json.dumps(told))
    return told


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(name: str, root: Path) -> dict[str, Any]:
    """The figures of a build that is finished in `root`."""
    task = BUILDS[name][0]
    told = json.loads((root / TOLD).read_text())
    found: dict[str, Any] = {**told, "is_verified": True, "artifacts": {}}
    for platform in ("android", "ios"):
        folder = root / "out" / platform
        if not (folder / "manifest.json").is_file():
            return {**found, "is_verified": False, "error": (root / "log").read_text()[-1000:]}
        manifest = json.loads((folder / "manifest.json").read_text())
        parity = json.loads((folder / "parity.json").read_text())
        found["is_verified"] &= manifest["is_verified"]
        found[f"reference_{SCORES[task]}"] = parity[f"reference_{SCORES[task]}"]
        found["program_checks"] = [_check(check) for check in manifest["program_checks"]]
        for entry in manifest["artifacts"]:
            found["artifacts"][f"{entry['target']} {entry['precision']}"] = {
                "parity": entry["parity"],
                SCORES[task]: entry[SCORES[task]],
                **{metric: [entry[metric], *_bounds(entry[f"{metric}_counts"])] for metric in COUNTED[task]},
                "checks": [_check(check) for check in entry["checks"]],
            }
    return found


def _bounds(counts: dict[str, Any] | None) -> list[float]:
    return [] if counts is None else [counts["low"], counts["high"]]


def _check(check: dict[str, Any]) -> str:
    return f"{check['metric']} {check['measured']:.6g} {check['sense']} {check['limit']:g}: {check['verdict']}"


def show(found: dict[str, Any]) -> None:
    """A table for reading; `docs/tasks.md` has its like."""
    for name, one in found.items():
        score = SCORES[BUILDS[name][0]]
        print(f"\n{name}: exit code {one['exit_code']}, {one['seconds']} s, {one['core_seconds']} s of cores")
        for artifact, values in one["artifacts"].items():
            counted = [
                f"{metric} {100 * value:.2f} ({', '.join(f'{100 * bound:.2f}' for bound in bounds)})"
                for metric in COUNTED[BUILDS[name][0]]
                for value, *bounds in [values[metric]]
            ]
            print(f"  {artifact:32s} {values['parity']:9s} {score} {100 * values[score]:.2f}  {'  '.join(counted)}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(BUILDS), choices=list(BUILDS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args(arguments)
    path = given.out / "tasks.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for name in given.only:
        with tempfile.TemporaryDirectory() as temporary:
            root = (given.keep or Path(temporary)).resolve() / name
            if not (root / TOLD).is_file():
                build(name, root)
            found[name] = row(name, root)
        path.write_text(json.dumps({key: found[key] for key in BUILDS if key in found}, indent=1) + "\n")
    show({name: found[name] for name in given.only})


if __name__ == "__main__":
    main()
