"""The Swift packages of segmentation networks: compiled with stubs, their own tests run, masks as Python makes them, faults found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import readmes
import swift_stubs
from twinkeel.pipeline.delivery import device
from twinkeel.targets.ios import sdk

STUBS = Path(__file__).parent / "stubs" / "ios"
STRICT = ("-Xswiftc", "-warnings-as-errors")
KITS = {
    "CoreMasks": ("coreml", "int8", "crop"),
    "TorchMasks": ("executorch", "int8", "letterbox"),
}
"""(runtime, precision, fit) by module; the runtime of the stubs knows the vectors of the first."""
FRAMEWORKS = {"coreml": "CoreML", "executorch": "ExecuTorch"}
STUBBED = swift_stubs.stubbed("CoreML", "ExecuTorch")
"""What each stub of a framework imports."""


def make(segmenter_contents, module):
    runtime, precision, fit = KITS[module]
    return segmenter_contents("ios", runtime, precision, fit=fit, module=module, minimum_deployment_target="iOS17")


@pytest.fixture(scope="module")
def package(segmenter_contents, tmp_path_factory):
    """(folder, contents by module) of one package that holds all kits, a sample and the stubs."""
    folder = tmp_path_factory.mktemp("segmenters") / "all"
    contents = {module: make(segmenter_contents, module) for module in KITS}
    for name in STUBBED:
        (folder / "Stubs" / name).mkdir(parents=True)
        shutil.copy(STUBS / f"{name}.swift", folder / "Stubs" / name)
    for module, content in contents.items():
        sdk.write(content, folder / module)
        tests = folder / module / "Tests" / f"{module}Tests"
        for name in ("XCTAttachment", *(["SegmenterStubTests"] if module == "CoreMasks" else [])):
            (tests / f"{name}.swift").write_text((STUBS / f"{name}.swift").read_text().replace("__module__", module))
        readme = readmes.swift((folder / module / "README.md").read_text(), module, "Segmenter")
        (folder / module / "Sample.swiftpm" / "Readme.swift").write_text(readme)
    docs = readmes.swift(readmes.section("Masks"), "CoreMasks", "Segmenter", name="docs")
    (folder / "CoreMasks" / "Sample.swiftpm" / "Docs.swift").write_text(docs)
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
        targets.append(
            f'.testTarget(name: "{module}Tests", dependencies: ["{module}", "StubRuntime"], '
            f'path: "{module}/Tests/{module}Tests", resources: [.copy("Vectors")])'
        )
    targets.append(
        '.executableTarget(name: "Sample", dependencies: ["CoreMasks", "AVFoundation", "ImageIO", "PhotosUI", "SwiftUI"], '
        'path: "CoreMasks/Sample.swiftpm", exclude: ["Package.swift"])'
    )
    joined = ",\n    ".join(targets)
    return (
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "all", targets: [\n    {joined}\n])\n'
    )


def run(swift, folder, **environment):
    """All tests, but on a device those of kits whose vectors the stubs do not know."""
    known = {"STUB_VECTORS": "CoreMasks/Tests/CoreMasksTests/Vectors", "STUB_REFERENCE": "int8"}
    skipped = ("--skip", r"TorchMasksTests\.DeviceTests")
    return swift(folder, "test", *STRICT, *skipped, environment={**known, **environment})


def test_kits_pass_their_own_tests_on_stubs(package, swift):
    folder, contents = package
    result = run(swift, folder)
    assert result.returncode == 0, result.stdout
    count = int(re.findall(r"Executed (\d+) tests?, with 0 failures", result.stdout)[-1])
    print(f"segmenters on stubs: {count} tests passed")
    for test in ("LogitsBecomeTheExpectedMasks", "MasksLieOnPhotosWhereTheReferenceHasThem"):
        assert result.stdout.count(f"VectorTests.test{test}' passed") == len(KITS)
    assert "DeviceTests.testSegmenterGivesTheMasksOfItsOutputs' passed" in result.stdout
    results = device.read_results(folder / "CoreMasks-device-results.json")
    golden = contents["CoreMasks"].golden
    for found in results.runs:
        values = np.array([found.outputs[name] for name in golden.names], np.float32)
        assert np.array_equal(values, golden.expected["int8"])


FAULTS = (
    ("if value > best {", "if value >= best {", "testLogitsBecomeTheExpectedMasks"),
    ("let value = one + (", "let value = one + 1e-12 + (", "testLogitsBecomeTheExpectedMasks"),
    ("$0.isNaN ? -largest", "$0.isNaN ? 0", "testLogitsBecomeTheExpectedMasks"),
    (
        "orientation.reversesRows ? height",
        "!orientation.reversesRows ? height",
        "testMasksLieOnPhotosWhereTheReferenceHasThem",
    ),
)


@pytest.mark.parametrize(("right", "wrong", "failed"), FAULTS, ids=["ties", "rounding", "not a number", "turned"])
def test_kits_tests_find_other_masks(right, wrong, failed, package, swift):
    folder, _ = package
    path = folder / "CoreMasks/Sources/CoreMasks/MaskDecoding.swift"
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    result = swift(folder, "test", *STRICT, "--filter", r"CoreMasksTests\.VectorTests")
    path.write_text(text)
    assert result.returncode != 0
    assert failed in set(re.findall(r"Test Case 'VectorTests.(\w+)' failed", result.stdout)), result.stdout


def test_sources_are_formatted(segmenter_contents, swift, tmp_path):
    for module in KITS:
        sdk.write(make(segmenter_contents, module), tmp_path / module)
    style = {"version": 1, "lineLength": 120, "indentation": {"spaces": 4}, "indentConditionalCompilationBlocks": False}
    (tmp_path / "style.json").write_text(json.dumps(style))
    sources = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.swift"))
    result = swift(tmp_path, "format", "lint", "--strict", "--configuration", "style.json", *sources)
    assert result.returncode == 0, result.stdout
