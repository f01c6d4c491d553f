"""The default build from many seeds, and held to several instruction sets: does it hold everywhere, and with how much room?

seeds.py [--seeds N] [--at-once N] [--out FOLDER] [--record FILE] [--add]

The seed is that of the training and of the split. A model differs from seed to seed about as it does from processor to
processor; the settings of `SETTINGS` hold torch to other instruction sets and numbers of threads. Writes ``seeds.json``:
each build, and the worst value of every limit over all of them. With ``--add`` the builds that the file has already,
from this processor or from another, are kept and not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twinkeel.pipeline.delivery import machine

SETTINGS: dict[str, dict[str, str]] = {
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "ATEN_CPU_CAPABILITY=avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "ATEN_CPU_CAPABILITY=avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
TWINKEEL = [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()"]


def build(name: str, seed: int, setting: dict[str, str], jobs: int) -> dict[str, Any]:
    """What one build of both platforms gave, from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "twinkeel.toml").write_text(f"[train]\nseed = {seed}\n[data]\nseed = {seed}\n")
        began = time.monotonic()
        done = subprocess.run(
            [*TWINKEEL, "build", "all", "--json", "-c", "twinkeel.toml", "--jobs", str(jobs)],
            cwd=root,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "XDG_CACHE_HOME": folder, **setting},
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - began
    found = {"name": name, "seed": seed, "exit code": done.returncode, "seconds": round(seconds)}
    if not done.stdout:
        return {**found, "error": done.stderr[-2000:], "platforms": []}
    told = json.loads(done.stdout)
    return {**found, "is_verified": told["is_verified"], "platforms": told["platforms"]}


def checks(built: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """(leg, precision, metric and limit as one name; check) of all checks of a build."""
    for platform in built["platforms"]:
        for check in platform["program_checks"]:
            yield _named(check, ""), check
        for artifact in platform["artifacts"]:
            runtime = artifact["artifact"]["target"].split("/")[1]
            for check in artifact["checks"]:
                yield _named(check, f" {runtime} {artifact['artifact']['precision']}"), check


def _named(check: dict[str, Any], where: str) -> str:
    return f"{check['leg']}{where} {check['metric']} {check['sense']} {check['limit']:g}"


def worst(built: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of each limit, the value that comes nearest to it or is furthest beyond it, and how often which verdict came."""
    found: dict[str, Any] = {}
    for one in built:
        for name, check in checks(one):
            sign = 1 if check["sense"] == ">=" else -1
            value = float("inf") * sign if check["measured"] is None else check["measured"]
            row = {"worst": value, "build": one["name"], "holds": 0, "open": 0, "missed": 0} | {check["verdict"]: 1}
            if check["counts"]:  # the bound that must not leave the limit
                row["furthest bound"] = check["counts"]["high" if sign > 0 else "low"]
            found[name] = _both(name, found[name], row) if name in found else row
    return dict(sorted(found.items()))


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The limits' rows of two runs as those of one run."""
    found = one | {name: _both(name, one[name], row) if name in one else row for name, row in other.items()}
    return dict(sorted(found.items()))


def _both(name: str, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two rows of a limit as one."""
    sign = 1 if ">=" in name else -1
    both = dict(min((first, second), key=lambda row: sign * row["worst"]))
    both |= {verdict: first[verdict] + second[verdict] for verdict in ("holds", "open", "missed")}
    bounds = [row["furthest bound"] for row in (first, second) if "furthest bound" in row]
    return both | ({"furthest bound": max(bounds, key=lambda bound: -sign * bound)} if bounds else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=2, help="builds side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--record", type=Path, help="file of finished builds, a line each, that a run goes on from")
    parser.add_argument("--add", action="store_true", help="to the builds in seeds.json")
    asked = parser.parse_args()
    before = asked.out / "seeds.json"
    earlier = json.loads(before.read_text()) if asked.add and before.is_file() else {"builds": [], "limits": {}}
    wanted = [(name, 0, setting) for name, setting in SETTINGS.items()]
    wanted += [(f"seed {seed}", seed, dict[str, str]()) for seed in range(asked.seeds)]
    done = [json.loads(line) for line in asked.record.read_text().splitlines()] if _is_there(asked.record) else []
    known = {one["name"] for one in [*earlier["builds"], *done]}

    def run(item: tuple[str, int, dict[str, str]]) -> dict[str, Any]:
        found = build(*item, jobs=max(1, 2 // asked.at_once))
        accuracy = [p["reference_accuracy"]["float"] for p in found["platforms"][:1]]
        print(f"{item[0]}: exit code {found['exit code']}, {found['seconds']} s, float {accuracy}", flush=True)
        if asked.record is not None:
            with asked.record.open("a") as stream:
                stream.write(json.dumps(found) + "\n")
        return found

    with ThreadPoolExecutor(asked.at_once) as pool:
        done += pool.map(run, [item for item in wanted if item[0] not in known])
    table = merged(earlier["limits"], worst(done))
    here = machine.here()
    builds = [{key: one.get(key) for key in ("name", "exit code", "is_verified", "seconds", "error")} for one in done]
    for one, source in zip(builds, done, strict=True):
        one["accuracy"] = source["platforms"][0]["reference_accuracy"] if source["platforms"] else None
        one["processor"] = f"{here['processor']}, {here['instruction_set']}"
    builds = earlier["builds"] + builds
    verified = sum(bool(one["is_verified"]) for one in builds)
    asked.out.mkdir(parents=True, exist_ok=True)
    content = {"verified": verified, "of": len(builds), "builds": builds, "limits": table}
    (asked.out / "seeds.json").write_text(json.dumps(content, indent=2) + "\n")
    for name, row in table.items():
        print(
            f"{name}: worst {row['worst']:.6g} ({row['build']}); {row['holds']} hold, {row['open']} open, {row['missed']} missed"
        )
    print(f"{verified} of {len(builds)} verified")


def _is_there(path: Path | None) -> bool:
    return path is not None and path.is_file()


if __name__ == "__main__":
    main()
