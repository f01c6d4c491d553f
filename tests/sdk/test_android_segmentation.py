"""The Android kits of segmentation networks: compiled against stubs, their own tests run, masks as Python makes them, faults found."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import readmes
from twinkeel.pipeline.delivery import device
from twinkeel.targets.android import sdk

HARNESS = Path(__file__).parent / "harness" / "android" / "segmentation"
BASE = "com.example.segmentation"
KITS = {
    "cropped": ("litert", "int8", "crop"),
    "boxed": ("executorch", "int8", "letterbox"),
}
"""(runtime, precision, fit) by the last part of the package."""


@dataclasses.dataclass(frozen=True)
class Built:
    """Kits by name, which share the folders of their classes."""

    contents: dict[str, object]
    kits: dict[str, Path]
    library: Path
    tests: Path

    def module(self, name):
        return self.kits[name] / "segmenter"

    def classpath(self, name):
        return [self.library, self.tests, self.module(name) / "src" / "golden"]


@pytest.fixture(scope="module")
def built(kotlin, segmenter_contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenters")
    contents, kits, harnesses = {}, {}, []
    for name, (runtime, precision, fit) in KITS.items():
        contents[name] = segmenter_contents("android", runtime, precision, fit=fit, package=f"{BASE}.{name}")
        kits[name] = folder / name
        sdk.write(contents[name], kits[name])
        harnesses.append(folder / "harness" / name)
        harnesses[-1].mkdir(parents=True)
        for source in HARNESS.glob("*.kt"):
            text = source.read_text().replace("com.example.segmenter", f"{BASE}.{name}")
            (harnesses[-1] / source.name).write_text(text)
    modules = [kit / "segmenter" for kit in kits.values()]
    kotlin.check(kotlin.libraries(modules, folder / "library"))
    kotlin.check(kotlin.tests_of(modules, folder / "library", folder / "tests", *harnesses))
    return Built(contents, kits, folder / "library", folder / "tests")


@pytest.mark.parametrize("name", KITS)
def test_kit_passes_its_own_tests_and_makes_the_masks_of_outputs(name, kotlin, built, tmp_path):
    classes = [f"{BASE}.{name}.{test}" for test in ("PixelsTest", "MaskTest", "EndToEnd")]
    assets = built.module(name) / "src" / "main" / "assets"
    count = kotlin.passed(built.classpath(name), "fakes.TestRunner", *classes, assets=assets, files=tmp_path / "files")
    rows = len(built.contents[name].masks.rows)
    print(f"{name}: {count} tests run on the JVM, masks of {rows} outputs equal")
    assert count >= 4 + 4 + 4 and rows >= 32


@pytest.mark.parametrize("name", KITS)
def test_device_test_writes_results_of_the_outputs(name, kotlin, built, tmp_path):
    contents = built.contents[name]
    (tmp_path / "out").mkdir()
    assert kotlin.passed(built.classpath(name), f"{BASE}.{name}.DeviceKt", built.module(name), tmp_path / "out", 0) == 3
    results = device.read_results(tmp_path / "out" / "device-results.json")
    assert (results.target, results.precision) == (contents.target, contents.precision)
    run = results.runs[0]
    found = np.array([run.outputs[image] for image in contents.golden.names], np.float32)
    np.testing.assert_allclose(found, contents.golden.expected["int8"], rtol=1e-6)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("if (value > best) {", "if (value >= best) {"),
        ("one + (line[possible", "one + 1e-12 + (line[possible"),
        ("-Float.MAX_VALUE.toDouble()", "0.0"),
        ("place = (inside * points / wanted - 0.5)", "place = (inside * points / wanted)"),
        ("if (orientation.swapsAxes) x * width + y", "if (orientation.swapsAxes) y * width + x"),
    ],
    ids=["ties", "rounding", "not a number", "middles", "turned"],
)
def test_kits_tests_find_other_masks(right, wrong, kotlin, built, tmp_path):
    kit = shutil.copytree(built.kits["cropped"], tmp_path / "kit")
    (path,) = (kit / "segmenter" / "src" / "main").rglob("MaskDecoding.kt")
    text = path.read_text("utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), "utf-8")
    kotlin.check(kotlin.libraries([kit / "segmenter"], tmp_path / "library"))
    classpath = [tmp_path / "library", *built.classpath("cropped")[1:]]
    with pytest.raises(AssertionError, match="Reference"):
        kotlin.run(classpath, "fakes.TestRunner", f"{BASE}.cropped.MaskTest")


def test_samples_and_readmes_compile(kotlin, built, tmp_path):
    sources = []
    for name, kit in built.kits.items():
        readme = tmp_path / f"{name}.kt"
        code = (kit / "README.md").read_text()
        readme.write_text(readmes.kotlin(code, f"{BASE}.{name}", "Segmenter", within=f"readme.{name}"))
        sources += [readme, kit / "sample" / "src" / "main" / "kotlin"]
    docs = tmp_path / "docs.kt"
    docs.write_text(readmes.kotlin(readmes.section("Masks"), f"{BASE}.cropped", "Segmenter", within="readme.docs"))
    kotlin.check(kotlin.compile(tmp_path / "out", [*sources, docs], [kotlin.stubs, built.library]))


def test_kits_say_what_they_do(built):
    cropped, boxed = ((built.kits[name] / "README.md").read_text() for name in ("cropped", "boxed"))
    assert "3 classes" in cropped and "`Mask.UNSEEN`, 255" in cropped and "shows the classes" in cropped
    assert "The model sees the whole image." in boxed
