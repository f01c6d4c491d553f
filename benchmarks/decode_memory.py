"""What the way from a photo to the model's input takes of memory at most, for 12, 48 and 200 megapixels, in Kotlin and in Swift.

decode_memory.py [--out FOLDER]      TWINKEEL_KOTLINC and TWINKEEL_SWIFT as for `nox -s sdk`; on Linux

The kits' own code runs, with its own choice of the subsampling; the decoders are the stubs of tests/sdk, which make a bitmap of the size that
they are asked for and nothing beside it. So a real decoder's working memory is not in these figures, and what the kit asks of it is.

- Kotlin, on the JVM: the decoded bitmap's bytes, `4 width height`, and all that the conversion allocates, counted by the thread,
  also what it lets go of meanwhile.
- Swift: the growth of the process's largest resident size over one photo, the decoded image and the bitmap that its visible part is drawn
  into included. Optimised as a release is.

An input of 224 pixels. Writes decode_memory.json to `--out`, docs/benchmarks by default.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SDK = ROOT / "tests" / "sdk"
PHOTOS = ((4000, 3000), (8000, 6000), (16320, 12240))
INPUT = 224
STUBS = {"CoreGraphics": [], "ImageIO": ["CoreGraphics"]}
"""Stubs of frameworks that the Swift code reads, and what they read."""
OWN = ("DecodedPhoto", "CGImage+Pixels", "Pixels", "Placed", "Showable", "ModelInfo", "ClassifierError")
"""Files of the kit on the way from a photo to the input."""


def contents(platform: str, artifact: Path) -> Any:
    """Of a classifier's kit, whose artifact is never loaded."""
    from twinkeel.pipeline.config import Android, Ios, Project
    from twinkeel.pipeline.delivery import sdk
    from twinkeel.pipeline.delivery.manifest import Golden
    from twinkeel.pipeline.program import Output
    from twinkeel.pipeline.tasks.classification.ranking import top

    logits = np.arange(10, dtype=np.float32)[None]
    settings = Android(sdk="executorch") if platform == "android" else Ios(sdk="executorch", sdk_precision="int8")
    return sdk.Contents(
        task="classification",
        project=Project(name="memory"),
        settings=settings,
        labels=tuple("abcdefghij"),
        outputs=(Output(name="logits", shape=(10,), scale=1.0),),
        inputs=(),
        height=INPUT,
        width=INPUT,
        fit="crop",
        target=f"{platform}/executorch",
        precision="int8",
        artifact=artifact,
        sha256="0" * 64,
        bytes=1,
        reference="int8",
        limits=(),
        state="verified",
        counted=(),
        counted_before=(),
        doubts=(),
        golden=Golden(
            names=("one",),
            inputs=np.full((1, INPUT, INPUT, 4), 255, np.uint8),
            expected={"fp32": logits, "int8": logits},
            tensors={},
        ),
        categories=(tuple(top(logits[0], 5)),),
        pixels=sdk.pixel_cases(INPUT, INPUT),
    )


def kotlin(folder: Path) -> list[dict[str, int | str]]:
    """Of each photo, and of a frame of a camera."""
    from conftest import Kotlin  # type: ignore[import-not-found]
    from twinkeel.targets.android import sdk

    (folder / "compiler").mkdir(parents=True)
    artifact = folder / "memory-int8.pte"
    artifact.write_text("never loaded")
    sdk.write(contents("android", artifact), folder / "kit")
    compiler = Kotlin(Path(os.environ["TWINKEEL_KOTLINC"]), folder / "compiler")
    library, harness = folder / "library", folder / "harness"
    compiler.check(compiler.library(folder / "kit", library))
    options = ("-no-stdlib", "-no-reflect", "-jvm-target", "17", "-module-name", "library", f"-Xfriend-paths={library}")
    path = os.pathsep.join(map(str, [compiler.stdlib, compiler.coroutines, compiler.stubs, library]))
    source = SDK / "harness" / "android" / "memory" / "DecodeMemory.kt"
    command = [os.environ["TWINKEEL_KOTLINC"], *options, "-cp", path, "-d", str(harness), str(source)]
    subprocess.run(command, check=True)
    sizes = [number for photo in PHOTOS for number in photo]
    printed = compiler.run([library, harness], "com.example.classifier.DecodeMemoryKt", *sizes)
    compiler.close()
    rows: list[dict[str, int | str]] = []
    for kind, *numbers in (line.split() for line in printed.splitlines()):
        width, height, factor, columns, lines, converting = map(int, numbers)
        bitmap = 4 * columns * lines
        rows.append(
            {
                "what": kind,
                "width": width,
                "height": height,
                "subsampling": factor,
                "bitmap_bytes": bitmap,
                "converting_bytes": converting,
                "peak_bytes": bitmap + converting,
            }
        )
    return rows


def swift(folder: Path) -> list[dict[str, int | str]]:
    """Of each photo."""
    from twinkeel.targets.ios import sdk

    folder.mkdir()
    artifact = folder / "memory-int8.pte"
    artifact.write_text("never loaded")
    given, package = contents("ios", artifact), folder / "package"
    sdk.write(given, folder / "kit")
    for name in STUBS:
        (package / "Stubs" / name).mkdir(parents=True)
        shutil.copy(SDK / "stubs" / "ios" / f"{name}.swift", package / "Stubs" / name)
    target = package / "Sources" / "Memory"
    target.mkdir(parents=True)
    shutil.copy(SDK / "harness" / "ios" / "memory" / "main.swift", target)
    for name in OWN:
        shutil.copy(folder / "kit" / "Sources" / given.settings.module / f"{name}.swift", target)
    targets = [f'.target(name: "{n}", dependencies: {json.dumps(d)}, path: "Stubs/{n}")' for n, d in STUBS.items()]
    targets.append(f'.executableTarget(name: "Memory", dependencies: {json.dumps([*STUBS])})')
    (package / "Package.swift").write_text(
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "Memory", targets: [{", ".join(targets)}])\n'
    )
    program = [os.environ["TWINKEEL_SWIFT"], "run", "-c", "release", "Memory"]
    rows: list[dict[str, int | str]] = []
    for width, height in PHOTOS:
        command = [*program, str(width), str(height)]
        finished = subprocess.run(command, cwd=package, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        printed = finished.stdout
        if finished.returncode:
            sys.exit(printed)
        line = next(line for line in printed.splitlines() if line.startswith("photo "))
        _, _, _, columns, lines, peak = line.split()
        rows.append(
            {
                "what": "photo",
                "width": width,
                "height": height,
                "subsampling": -(-width // int(columns)),
                "bitmap_bytes": 4 * int(columns) * int(lines),
                "peak_bytes": int(peak),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(SDK), str(ROOT / "tests")]
    folder = Path(tempfile.mkdtemp())
    try:
        found: dict[str, Any] = {"input": INPUT, "kotlin": kotlin(folder / "kotlin"), "swift": swift(folder / "swift")}
    finally:
        shutil.rmtree(folder)
    (out / "decode_memory.json").write_text(json.dumps(found, indent=1) + "\n")
    for language in ("kotlin", "swift"):
        for row in found[language]:
            print(language, *(f"{key} {value:,}" if isinstance(value, int) else value for key, value in row.items()))


if __name__ == "__main__":
    main()
