"""The Swift packages of features: compiled together with stubs, their own tests run, wrong values found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import identifiers
import numpy as np
import pytest
import readmes
import swift_stubs
from twinkeel.pipeline.delivery import device
from twinkeel.targets.ios import sdk

STUBS = Path(__file__).parent / "stubs" / "ios"
STRICT = ("-Xswiftc", "-warnings-as-errors")
ONE_VECTOR = {"outputs": (("embedding", (8,), 0.5),), "inputs": ()}
TEMPLATES = Path(sdk.__file__).parent / "templates"
_SOURCES = TEMPLATES / "features" / "Sources" / "__module__"
CALLS = identifiers.used(
    _SOURCES / "FeatureExtractor.swift.j2",
    TEMPLATES / "features" / "_frames.swift.j2",
    TEMPLATES / "all" / "_api.swift.j2",
)
RESULTS = identifiers.used(_SOURCES / "Features.swift.j2")
AWKWARD = {
    "outputs": (
        *(("class", (), 0.5), ("heatMap", (3,), 0.5), ("heat_map", (1, 2), 0.5), ("all_cases", (2,), 0.5)),
        *((name, (1,), 0.5) for name in RESULTS if name != "class"),
    ),
    "inputs": (
        *(("Image", (2,), 0, 1), ("orientation", (1,), 0, 1), ("in", (), 0, 1), ("model", (1,), 0, 1)),
        *((name, (1,), 0, 1) for name in CALLS if name not in ("orientation", "in", "model")),
    ),
}
"""Names that code cannot bear as they are, those that it uses itself, and shapes without an axis."""
KITS = {
    "CoreFeatures": ("coreml", "int8", {}),
    "TorchFeatures": ("executorch", "int8", {}),
    "VectorFeatures": ("coreml", "fp16", ONE_VECTOR),
    "AwkwardFeatures": ("executorch", "fp32", AWKWARD),
}
"""(runtime, precision, tensors) by module; the runtime of the stubs knows the vectors of the first two."""
TESTED = ("CoreFeatures", "TorchFeatures", "VectorFeatures")
FRAMEWORKS = {"coreml": "CoreML", "executorch": "ExecuTorch"}
STUBBED = swift_stubs.stubbed("CoreML", "ExecuTorch")
"""What each stub of a framework imports."""
VECTOR_TESTS = 6 + 6 + 2
"""Of pixels and features, and of frames of cameras."""
FRAME_TESTS = 3
"""Of Core Video's buffers."""
IMAGE_TESTS = 4
"""Of Core Graphics' images."""
DEVICE_TESTS = 2 + IMAGE_TESTS + FRAME_TESTS
"""Of the kit on a device, with those."""
STUB_TESTS = 3


def make(feature_contents, module):
    runtime, precision, tensors = KITS[module]
    settings = {"module": module, "minimum_deployment_target": "iOS17"}
    return feature_contents("ios", runtime, precision, **tensors, **settings)


@pytest.fixture(scope="module")
def package(feature_contents, tmp_path_factory):
    """(folder, contents by module) of one package that holds all kits, a sample and the stubs."""
    folder = tmp_path_factory.mktemp("features") / "all"
    contents = {module: make(feature_contents, module) for module in KITS}
    for name in STUBBED:
        (folder / "Stubs" / name).mkdir(parents=True)
        shutil.copy(STUBS / f"{name}.swift", folder / "Stubs" / name)
    for module, content in contents.items():
        sdk.write(content, folder / module)
        tests = folder / module / "Tests" / f"{module}Tests"
        stubs = ["XCTAttachment"] + ["FeatureStubTests"] * (module in list(KITS)[:2])
        for name in stubs:
            (tests / f"{name}.swift").write_text((STUBS / f"{name}.swift").read_text().replace("__module__", module))
        readme = readmes.swift(
            (folder / module / "README.md").read_text(), module, "FeatureExtractor", has_features=True
        )
        (folder / module / "Sample.swiftpm" / "Readme.swift").write_text(readme)
    docs = readmes.swift(
        readmes.section("Features"), "CoreFeatures", "FeatureExtractor", name="docs", has_features=True
    )
    (folder / "CoreFeatures" / "Sample.swiftpm" / "Docs.swift").write_text(docs)
    (folder / "Package.swift").write_text(manifest(contents))
    return folder, contents


def manifest(contents):
    targets = [f'.target(name: "{n}", dependencies: {json.dumps(d)}, path: "Stubs/{n}")' for n, d in STUBBED.items()]
    for module, content in contents.items():
        needed = json.dumps([FRAMEWORKS[content.runtime], "ImageIO", "UIKit"])
        resources = f'[.copy("Resources/{content.artifact.name}"), .copy("Resources/PrivacyInfo.xcprivacy")]'
        targets.append(
            f'.target(name: "{module}", dependencies: {needed}, path: "{module}/Sources/{module}", '
            f"resources: {resources})"
        )
    targets += [
        f'.testTarget(name: "{module}Tests", dependencies: ["{module}", "StubRuntime"], '
        f'path: "{module}/Tests/{module}Tests", resources: [.copy("Vectors")])'
        for module in TESTED
    ]
    targets.append(
        '.executableTarget(name: "Sample", dependencies: ["CoreFeatures", "AVFoundation", "ImageIO", "PhotosUI", "SwiftUI"], '
        'path: "CoreFeatures/Sample.swiftpm", exclude: ["Package.swift"])'
    )
    joined = ",\n    ".join(targets)
    return (
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "all", targets: [\n    {joined}\n])\n'
    )


def run(swift, folder, **environment):
    """All tests, but on a device those of kits whose vectors the stubs do not know."""
    known = {"STUB_VECTORS": "CoreFeatures/Tests/CoreFeaturesTests/Vectors", "STUB_REFERENCE": "int8"}
    skipped = ("--skip", r"VectorFeaturesTests\.DeviceTests")
    return swift(folder, "test", *STRICT, *skipped, environment={**known, **environment})


def test_kits_pass_their_own_tests_on_stubs(package, swift):
    folder, contents = package
    result = run(swift, folder)
    assert result.returncode == 0, result.stdout
    count = int(re.findall(r"Executed (\d+) tests?, with 0 failures", result.stdout)[-1])
    print(f"features on stubs: {count} tests passed")
    assert count == 2 * (VECTOR_TESTS + DEVICE_TESTS + STUB_TESTS) + (VECTOR_TESTS - 2 + IMAGE_TESTS + FRAME_TESTS)
    for module, runs in (
        ("CoreFeatures", ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"]),
        ("TorchFeatures", ["CPU"]),
    ):
        results = device.read_results(folder / f"{module}-device-results.json")
        assert (results.target, results.precision) == (contents[module].target, "int8")
        assert [run.asked for run in results.runs] == runs
        golden = contents[module].golden
        for found in results.runs:
            values = np.array([found.outputs[name] for name in golden.names], np.float32)
            assert np.array_equal(values, golden.expected["int8"])


def test_one_wrong_value_is_found_in_its_output(package, swift):
    folder, contents = package
    last = contents["CoreFeatures"].outputs[-1]
    result = run(swift, folder, STUB_ADDED=str(last.scale))
    assert result.returncode != 0
    assert set(re.findall(r"Test Case '(\w+\.\w+)' failed", result.stdout)) == {
        "DeviceTests.testOutputsAreWithinTheLimits",
        "DeviceTests.testExtractorGivesTheModelsOutputs",
        "FeatureStubTests.testSeveralTasksMayExtract",
    }
    broken = re.findall(r" - (\w+): (\w+): (\w+) is (\S+)$", result.stdout, re.MULTILINE)
    units = {"CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"}
    assert {source for source, *_ in broken} == units | {"CPU", "extractor"}
    assert {output for _, output, *_ in broken} == {last.name}
    assert {float(value) for *_, metric, value in broken if metric == "max_steps"} == {1}
    shares = {float(value) for *_, metric, value in broken if metric == "equal_logits"}
    assert shares == {1 - 1 / (3 * last.size)}


def test_kit_passes_its_own_tests_without_the_frameworks(feature_contents, swift, tmp_path):
    sdk.write(make(feature_contents, "CoreFeatures"), tmp_path / "sdk")
    result = swift(tmp_path / "sdk", "test", *STRICT)
    assert result.returncode == 0, result.stdout
    assert f"Executed {VECTOR_TESTS} tests, with 0 failures" in result.stdout, result.stdout


def test_sources_are_formatted(feature_contents, swift, tmp_path):
    for module in KITS:
        sdk.write(make(feature_contents, module), tmp_path / module)
    style = {"version": 1, "lineLength": 120, "indentation": {"spaces": 4}, "indentConditionalCompilationBlocks": False}
    (tmp_path / "style.json").write_text(json.dumps(style))
    sources = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.swift"))
    result = swift(tmp_path, "format", "lint", "--strict", "--configuration", "style.json", *sources)
    assert result.returncode == 0, result.stdout


def test_kits_name_their_tensors(feature_contents, tmp_path):
    for module in ("AwkwardFeatures", "CoreFeatures"):
        sdk.write(make(feature_contents, module), tmp_path / module)
    sources = tmp_path / "AwkwardFeatures/Sources/AwkwardFeatures"
    cases = re.findall(r"^    case (\w+)(?: = (\"\w+\"))?$", (sources / "Features.swift").read_text(), re.MULTILINE)
    assert cases[:4] == [
        ("classOutput", '"class"'),
        ("heatMap", ""),
        ("heatMapOutput", '"heat_map"'),
        ("allCasesOutput", '"all_cases"'),
    ]
    functions = re.findall(
        r"public func (\w+)\(\n(.*?)\n    \)", (sources / "FeatureExtractor.swift").read_text(), re.DOTALL
    )
    # of an image, a file, data and a frame; and of several photos, asked for by the number of each
    assert [name for name, _ in functions] == 4 * ["extract"] + ["extractAll"]
    for name, parameters in functions:
        kind = re.escape("[Float]" if name == "extract" else "(Int) -> [Float]")
        found = re.findall(rf"^        (\w+): {kind},?$", parameters, re.MULTILINE)
        assert found[:4] == ["imageInput", "orientationInput", "inInput", "modelInput"]
        assert len(found) == len(AWKWARD["inputs"]) > 50
    readme = (tmp_path / "CoreFeatures/README.md").read_text()
    assert "`.heatMap` `(2, 3, 4)`" in readme and "`cameraPose` `(2, 3)`, calibrated for -2.0 to 2.0" in readme
    assert len(readme.splitlines()) <= 55
    for path in (tmp_path / "CoreFeatures").rglob("*"):
        if path.suffix in (".swift", ".md"):
            text = path.read_text().replace("equal_logits", "").replace("label", "", 0).lower()
            assert "classif" not in text.replace("imageclassifier", "") and "logit" not in text, path
