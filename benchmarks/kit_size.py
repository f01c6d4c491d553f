"""What a kit adds to an app, for every runtime and precision of a finished build of all.

kit_size.py [OUT]    the folder that `twinkeel build all -o OUT` wrote; `out` by default

Measured: the model's file as it lies in the app, and deflated, which is what a store sends; where TWINKEEL_KOTLINC names a compiler, as
for `nox -s sdk`, also the classes of the Kotlin library, and a jar of them. Not measured: the runtime's library, which an app's own
build fetches, and what R8 leaves of the classes. Core ML is part of iOS and adds nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from rich.table import Table
from twinkeel.pipeline.cli.common import PLATFORMS
from twinkeel.pipeline.config import Android, Ios
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.report import terminal as report


def runtimes(platform: str) -> list[str]:
    """Those that a platform's kit can have, as the configuration names them."""
    section = Android if platform == "android" else Ios
    return [name for name in section.model_fields["sdk"].annotation.__args__ if name != "none"]


def deflated(path: Path) -> int:
    """Bytes of a file, or of all files of a folder, each deflated."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return sum(len(zlib.compress(file.read_bytes(), 9)) for file in files)


def classes(kit: Path, folder: Path) -> tuple[int, int, int]:
    """How many classes a Kotlin kit's library has, their bytes, and those of a jar of them. `folder` is for what is compiled."""
    tests = Path(__file__).parents[1] / "tests"
    sys.path[:0] = [str(tests / "sdk"), str(tests)]
    from conftest import Kotlin  # type: ignore[import-not-found]

    (folder / "compiler").mkdir()
    compiler = Kotlin(Path(os.environ["TWINKEEL_KOTLINC"]), folder / "compiler")
    (module,) = (path.parent for path in kit.glob("*/consumer-rules.pro"))
    compiler.check(compiler.libraries([module], folder / "classes"))
    compiler.close()
    files = sorted(path for path in (folder / "classes").rglob("*") if path.is_file())
    with zipfile.ZipFile(folder / "classes.jar", "w", zipfile.ZIP_DEFLATED) as jar:
        for path in files:
            jar.write(path, path.relative_to(folder / "classes"))
    return len(files), sum(path.stat().st_size for path in files), (folder / "classes.jar").stat().st_size


def main(out: Path) -> None:
    table = Table(title=f"model files below {out}")
    for heading in ("kit", "precision", "bytes in the app", "bytes deflated"):
        table.add_column(heading, justify="right" if "bytes" in heading else "left")
    for platform in PLATFORMS:
        known = [f"{platform}/{runtime}" for runtime in runtimes(platform)]
        for entry in manifest.read_manifest(out / platform)["artifacts"]:
            if entry["target"] in known:
                path = out / platform / entry["path"]
                table.add_row(entry["target"], entry["precision"], f"{entry['bytes']:,}", f"{deflated(path):,}")
    report.console().print(table)
    kit = out / "android" / "sdk"
    if "TWINKEEL_KOTLINC" in os.environ and kit.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            count, size, jar = classes(kit, Path(folder))
        report.console().print(f"{kit}: {count} files of classes, {size:,} bytes, {jar:,} as a jar")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
