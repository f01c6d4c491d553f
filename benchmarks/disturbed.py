"""Builds that are disturbed: killed at random moments, run in pairs, with a store whose bits are changed.

disturbed.py [--kills N] [--pairs N] [--flips N] [--within SECONDS]

A build of given weights, some artifacts of both platforms, about twenty seconds long. What comes of every disturbed one is
compared, byte by byte, with an undisturbed build.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.files import digest
from twinkeel.pipeline.store.entries import Store

CONFIGURATION = """[data]
accept_accuracy = "random weights"
[weights]
path = "w.pth"
[targets]
"android/onnx" = ["fp32", "int8"]
"ios/onnx" = ["fp32"]
"ios/coreml" = ["fp32"]
[ios]
sdk_precision = "fp32"
"""
PLATFORMS = ("android", "ios")
TWINKEEL = [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()"]


def start(root: Path, out: Path, store: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A build of what `prepare` put into `root`; its output is to be read, or quiet by an argument."""
    command = ["build", "all", "-c", root / "twinkeel.toml", "-o", out, "--store", store, *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*TWINKEEL, *map(str, command)], **pipes, **options)


def ended(build: subprocess.Popen[str]) -> None:
    """Wait for a build, which must be good."""
    told = build.communicate()[0]
    assert build.returncode == 0, told


def folders(out: Path) -> dict[str, str]:
    """Hashes of the platforms' folders; the report beside them holds times, which differ."""
    return {platform: digest(out / platform) for platform in PLATFORMS if (out / platform).exists()}


def prepare(root: Path, configuration: str) -> float:
    """Make weights, and an undisturbed build of them into ``out`` with ``store``; its seconds."""
    torch.manual_seed(0)
    model = mobilenet_v2.create(10, 0.35)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 32, 32))
    torch.save(model.state_dict(), root / "w.pth")
    (root / "twinkeel.toml").write_text(configuration)
    began = time.monotonic()
    ended(start(root, root / "out", root / "store"))
    return time.monotonic() - began


def kill(root: Path, expected: dict[str, str], seconds: float, wanted: int) -> None:
    """Kill builds until it was done `wanted` times; each that ends by itself is compared, and the next begins anew."""
    chance = random.Random(0)
    kills = finished = torn = 0
    while kills < wanted:
        place = root / f"killed-{finished}"
        build = start(root, place / "out", place / "store", "--quiet")
        try:
            build.wait(chance.uniform(0.05, seconds))
            ended(build)
            assert folders(place / "out") == expected, f"build {finished} differs after {kills} kills"
            finished += 1
        except subprocess.TimeoutExpired:
            build.send_signal(signal.SIGKILL)
            build.wait()
            kills += 1
            for platform in folders(place / "out"):
                try:
                    manifest.verify(place / "out" / platform)
                except Exception as error:
                    torn += 1
                    print(f"torn: {platform}: {error}")
            if kills % 10 == 0:
                print(f"{kills} kills, {finished} builds finished and equal, {torn} torn folders", flush=True)
    place = root / f"killed-{finished}"
    ended(start(root, place / "out", place / "store"))
    assert folders(place / "out") == expected
    left = [p.name for p in (place / "out").iterdir() if p.name not in (*PLATFORMS, "report.html", "build.json")]
    damaged = Store(str(place / "store")).usage(is_checked=True).damaged
    print(f"kills: {kills}, builds finished: {finished + 1}, all equal; torn folders: {torn}; "
          f"left behind: {left}; damaged in the store: {len(damaged)}")  # fmt: skip


def pair(root: Path, expected: dict[str, str], wanted: int) -> None:
    """Two builds at once, into two folders and into one by turns, with one store."""
    right = 0
    for number in range(wanted):
        place = root / f"pair-{number}"
        outs = [place / "out", place / ("out" if number % 2 else "out-2")]
        builds = []
        for out in outs:
            builds.append(start(root, out, place / "store", "--quiet"))
            time.sleep(random.Random(number).uniform(0, 2))
        codes = [build.wait() for build in builds]
        right += codes == [0, 0] and all(folders(out) == expected for out in outs)
        print(f"{number + 1} pairs, {right} right", flush=True)
    print(f"pairs: {wanted}, right: {right}")


def flip(root: Path, wanted: int) -> None:
    """Change one bit of a store, and ask whether that is found."""
    store, chance, found = root / "store", random.Random(1), 0
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and path.stat().st_size]
    for _ in range(wanted):
        path = chance.choice(files)
        good = path.read_bytes()
        changed = bytearray(good)
        changed[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        found += any(path.name in name for name in Store(str(store)).usage(is_checked=True).damaged)
        path.write_bytes(good)
    print(f"flips: {wanted}, found: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 100), ("pairs", 20), ("flips", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--within", type=float, help="Kill after at most so many seconds; an undisturbed build's.")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = prepare(Path(folder), CONFIGURATION)
        expected = folders(Path(folder) / "out")
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        flip(Path(folder), wanted.flips)
        kill(Path(folder), expected, wanted.within or seconds, wanted.kills)
        pair(Path(folder), expected, wanted.pairs)


if __name__ == "__main__":
    main()
