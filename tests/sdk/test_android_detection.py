"""The Android kits of detectors: compiled against stubs, their own tests run, 500 outputs decoded as in Python, faults found."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import box_cases
import numpy as np
import pytest
import readmes
from twinkeel.pipeline.delivery import device
from twinkeel.targets.android import sdk

HARNESS = Path(__file__).parent / "harness" / "android" / "detection"
BASE = "com.example.detection"
KITS = {
    "anchored": ("litert", "int8", "anchors"),
    "heated": ("executorch", "int8", "heat"),
    "packed": ("litert", "fp32", "packed rows with objectness"),
}
"""(runtime, precision, detector) by the last part of the package."""


BOTH = f"""\
package readme.both

import android.content.Context
import android.graphics.Bitmap
import {BASE}.anchored.Detector
import {BASE}.packed.Detector as PackedDetector
import {BASE}.packed.DetectorException as PackedException

suspend fun both(context: Context, bitmap: Bitmap) {{
    Detector.create(context).use {{ anchored ->
        PackedDetector.create(context).use {{ packed ->
            try {{
                println(anchored.detect(bitmap).size + packed.detect(bitmap).size)
            }} catch (error: PackedException.InvalidImage) {{
                println(error.message)
            }}
        }}
    }}
}}
"""
"""An app with two kits, whose classes are called alike."""


@dataclasses.dataclass(frozen=True)
class Built:
    """Kits by name, which share the folders of their classes."""

    contents: dict[str, object]
    kits: dict[str, Path]
    library: Path
    tests: Path

    def module(self, name):
        return self.kits[name] / "detector"

    def classpath(self, name):
        return [self.library, self.tests, self.module(name) / "src" / "golden"]


@pytest.fixture(scope="module")
def built(kotlin, detector_contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    contents, kits, harnesses = {}, {}, []
    for name, (runtime, precision, detector) in KITS.items():
        contents[name] = detector_contents("android", runtime, precision, detector, package=f"{BASE}.{name}")
        kits[name] = folder / name
        sdk.write(contents[name], kits[name])
        harnesses.append(folder / "harness" / name)
        harnesses[-1].mkdir(parents=True)
        for source in HARNESS.glob("*.kt"):
            text = source.read_text().replace("com.example.detector", f"{BASE}.{name}")
            (harnesses[-1] / source.name).write_text(text)
    modules = [kit / "detector" for kit in kits.values()]
    kotlin.check(kotlin.libraries(modules, folder / "library"))
    kotlin.check(kotlin.tests_of(modules, folder / "library", folder / "tests", *harnesses))
    return Built(contents, kits, folder / "library", folder / "tests")


@pytest.mark.parametrize("name", KITS)
def test_kit_passes_its_own_tests_and_gives_the_objects_of_outputs(name, kotlin, built, tmp_path):
    classes = [f"{BASE}.{name}.{test}" for test in ("PixelsTest", "DecodingTest", "EndToEnd")]
    assets = built.module(name) / "src" / "main" / "assets"
    count = kotlin.passed(built.classpath(name), "fakes.TestRunner", *classes, assets=assets, files=tmp_path / "files")
    found = built.contents[name].boxes.found
    print(f"{name}: {count} tests run on the JVM, {sum(map(len, found))} boxes in {len(found)} outputs")
    assert count >= 4 + 5 + 4


def test_500_outputs_become_the_same_bits(kotlin, built, tmp_path):
    box_cases.write(tmp_path)
    arguments = (tmp_path / "forms.txt", tmp_path / "outputs.f32", tmp_path / "found.f64")
    kotlin.run(built.classpath("anchored"), f"{BASE}.anchored.DecodedKt", *arguments)
    assert len(box_cases.expected()) == box_cases.COUNT
    assert box_cases.differences(tmp_path / "found.f64") == []
    print(f"{box_cases.COUNT} outputs, {(tmp_path / 'found.f64').stat().st_size:,} bytes of boxes equal in Kotlin")


@pytest.mark.parametrize("name", ["anchored", "heated"])
def test_device_test_writes_results_of_all_outputs(name, kotlin, built, tmp_path):
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
        ("p * r + coefficients[n]", "(p * r).toFloat() + coefficients[n]"),
        (
            "one.index != other.index -> one.index.compareTo(other.index)",
            "one.index != other.index -> other.index - one.index",
        ),
        ("if (this > end) end.toDouble()", "if (this > end + 1) end.toDouble()"),
    ],
    ids=["rounding", "order", "edge"],
)
def test_kits_tests_find_another_rounding_order_or_edge(right, wrong, kotlin, built, tmp_path):
    kit = shutil.copytree(built.kits["anchored"], tmp_path / "kit")
    (path,) = (kit / "detector" / "src" / "main").rglob("Decoding.kt")
    text = path.read_text("utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), "utf-8")
    kotlin.check(kotlin.libraries([kit / "detector"], tmp_path / "library"))
    classpath = [tmp_path / "library", *built.classpath("anchored")[1:]]
    with pytest.raises(AssertionError, match="Reference"):
        kotlin.run(classpath, "fakes.TestRunner", f"{BASE}.anchored.DecodingTest")


def test_samples_and_readmes_compile(kotlin, built, tmp_path):
    sources = []
    for name, kit in built.kits.items():
        readme = tmp_path / f"{name}.kt"
        code = (kit / "README.md").read_text()
        readme.write_text(readmes.kotlin(code, f"{BASE}.{name}", "Detector", within=f"readme.{name}"))
        sources += [readme, kit / "sample" / "src" / "main" / "kotlin"]
    both = tmp_path / "both.kt"
    both.write_text(BOTH)
    sources.append(both)
    docs = tmp_path / "docs.kt"
    docs.write_text(readmes.kotlin(readmes.section("Boxes"), f"{BASE}.anchored", "Detector", within="readme.docs"))
    kotlin.check(kotlin.compile(tmp_path / "out", [*sources, docs], [kotlin.stubs, built.library]))


def test_kits_say_what_they_do(built):
    readme = (built.kits["anchored"] / "README.md").read_text()
    assert "3 classes" in readme and "`detect(bitmap, minScore = 0.5)`" in readme and "shows the objects" in readme
    text = "".join(p.read_text() for p in built.kits["heated"].rglob("*") if p.suffix in (".kt", ".kts", ".md")).lower()
    for word in ("classif", "logit"):
        assert word not in text.replace("equal_logits", "").replace("equallogits", "")
