"""The Android kits of features: compiled together against stubs, their own tests run, wrong values found."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import identifiers
import numpy as np
import pytest
import readmes
from twinkeel.pipeline.delivery import device
from twinkeel.targets.android import sdk

HARNESS = Path(__file__).parent / "harness" / "android" / "features"
BASE = "com.example.features"
ONE_VECTOR = {"outputs": (("embedding", (8,), 0.5),), "inputs": ()}
TEMPLATES = Path(sdk.__file__).parent / "templates"
_SOURCES = TEMPLATES / "features" / "__library__" / "src" / "main" / "kotlin" / "__package__"
CALLS = identifiers.used(
    _SOURCES / "FeatureExtractor.kt.j2", TEMPLATES / "features" / "_frames.kt.j2", TEMPLATES / "all" / "_api.kt.j2"
)
RESULTS = identifiers.used(_SOURCES / "Features.kt.j2")
AWKWARD = {
    "outputs": (
        *(("class", (), 0.5), ("heatMap", (3,), 0.5), ("heat_map", (1, 2), 0.5), ("Companion", (2,), 0.5)),
        *((name, (1,), 0.5) for name in RESULTS if name != "class"),
    ),
    "inputs": (
        *(("bitmap", (2,), 0, 1), ("orientation", (1,), 0, 1), ("in", (), 0, 1), ("run", (1,), 0, 1)),
        *((name, (1,), 0, 1) for name in CALLS if name not in ("bitmap", "orientation", "in", "run")),
    ),
}
"""Names that code cannot bear as they are, those that it uses itself, and shapes without an axis."""
KITS = {
    "litert": ("litert", "int8", {}),
    "executorch": ("executorch", "int8", {}),
    "vector": ("litert", "fp32", ONE_VECTOR),
}
"""(runtime, precision, tensors) of those whose tests are run, by the last part of their package."""


@dataclasses.dataclass(frozen=True)
class Built:
    """Kits by name, which share the folders of their classes."""

    contents: dict[str, object]
    kits: dict[str, Path]
    library: Path
    tests: Path

    def module(self, name):
        return self.kits[name] / "extractor"

    def classpath(self, name):
        return [self.library, self.tests, self.module(name) / "src" / "golden"]


@pytest.fixture(scope="module")
def built(kotlin, feature_contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    contents, kits = {}, {}
    for name, (runtime, precision, tensors) in {**KITS, "awkward": ("executorch", "fp32", AWKWARD)}.items():
        contents[name] = feature_contents("android", runtime, precision, **tensors, package=f"{BASE}.{name}")
        kits[name] = folder / name
        sdk.write(contents[name], kits[name])
    modules = [kit / "extractor" for kit in kits.values()]
    kotlin.check(kotlin.libraries(modules, folder / "library"))
    harnesses = [harness(name, folder / "harness" / name) for name in KITS]
    kotlin.check(kotlin.tests_of(modules, folder / "library", folder / "tests", *harnesses))
    return Built(contents, kits, folder / "library", folder / "tests")


def harness(name, out):
    """The harness in the package of a kit."""
    out.mkdir(parents=True)
    inputs = HARNESS / ("without" if KITS[name][2] else "with") / "Inputs.kt"
    for source in (inputs, *HARNESS.glob("*.kt")):
        (out / source.name).write_text(source.read_text().replace("com.example.classifier", f"{BASE}.{name}"))
    return out


def on_a_device(kotlin, built, name, out, change):
    """How many tests of a kit's own have passed on the JVM where the last value of all is off by `change`."""
    out.mkdir()
    return kotlin.passed(built.classpath(name), f"{BASE}.{name}.DeviceKt", built.module(name), out, change)


@pytest.mark.parametrize("name", [*KITS, "awkward"])
def test_kit_passes_its_own_tests_and_hands_bytes_and_inputs_to_the_runtime(name, kotlin, built, tmp_path):
    tests = ["PixelsTest", "FeaturesTest", *(["EndToEnd"] if name in KITS else [])]
    classes = [f"{BASE}.{name}.{test}" for test in tests]
    assets = built.module(name) / "src" / "main" / "assets"
    count = kotlin.passed(built.classpath(name), "fakes.TestRunner", *classes, assets=assets, files=tmp_path / "files")
    print(f"{name}: {count} tests run on the JVM")
    assert count == 5 + (6 if built.contents[name].inputs else 4) + (7 if name in KITS else 0)


@pytest.mark.parametrize("name", KITS)
def test_device_test_writes_results_of_all_outputs(name, kotlin, built, tmp_path):
    contents = built.contents[name]
    assert on_a_device(kotlin, built, name, tmp_path / "out", 0) == 3
    results = device.read_results(tmp_path / "out" / "device-results.json")
    assert (results.target, results.precision) == (contents.target, contents.precision)
    run = results.runs[0]
    found = np.array([run.outputs[image] for image in contents.golden.names], np.float32)
    np.testing.assert_allclose(found, contents.golden.expected["int8"], rtol=1e-6)


@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_device_test_finds_one_wrong_value(name, kotlin, built, tmp_path):
    """In the last output alone: by its own step, which is twice that of the first."""
    last = built.contents[name].outputs[-1]
    with pytest.raises(AssertionError, match=rf"{last.name}: equal_logits is 0\.9\d*, at least 1\.0 was expected"):
        on_a_device(kotlin, built, name, tmp_path / "out", last.scale)
    assert (tmp_path / "out" / "device-results.json").is_file()


def test_samples_and_readmes_compile(kotlin, built, tmp_path):
    sources = []
    for name in ("litert", "vector", "executorch"):
        kit = built.kits[name]
        readme = tmp_path / f"{name}.kt"
        code = (kit / "README.md").read_text()
        readme.write_text(
            readmes.kotlin(code, f"{BASE}.{name}", "FeatureExtractor", within=f"readme.{name}", has_features=True)
        )
        sources += [readme, kit / "sample" / "src" / "main" / "kotlin"]
    docs = tmp_path / "docs.kt"
    docs.write_text(
        readmes.kotlin(
            readmes.section("Features"), f"{BASE}.litert", "FeatureExtractor", within="readme.docs", has_features=True
        )
    )
    kotlin.check(kotlin.compile(tmp_path / "out", [*sources, docs], [kotlin.stubs, built.library]))


def test_kits_name_their_tensors(built):
    source = (built.module("awkward") / f"src/main/kotlin/{BASE.replace('.', '/')}/awkward/Features.kt").read_text()
    constants = dict(re.findall(r'const val (\w+): String = "(\w+)"', source))
    assert {name: constants[name] for name in ("CLASS", "HEAT_MAP", "HEAT_MAP_OUTPUT", "COMPANION")} == {
        "CLASS": "class",
        "HEAT_MAP": "heatMap",
        "HEAT_MAP_OUTPUT": "heat_map",
        "COMPANION": "Companion",
    }
    readme = (built.kits["litert"] / "README.md").read_text()
    assert "| `Features.HEAT_MAP` | `(2, 3, 4)` | 24 values |" in readme
    assert "| `cameraPose` (camera_pose) | `(2, 3)` | -2.0 to 2.0 |" in readme
    for word in ("classif", "logit", "label"):
        text = "".join(p.read_text() for p in built.kits["litert"].rglob("*") if p.suffix in (".kt", ".kts", ".md"))
        assert (
            word not in text.replace("equal_logits", "").replace("equalLogits", "").replace("android:label", "").lower()
        )
