"""The Swift packages of detectors: compiled together with stubs, their own tests run, 500 outputs decoded as in Python."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import box_cases
import numpy as np
import pytest
import readmes
import swift_stubs
from twinkeel.pipeline.delivery import device
from twinkeel.targets.ios import sdk

HERE = Path(__file__).parent
STUBS = HERE / "stubs" / "ios"
STRICT = ("-Xswiftc", "-warnings-as-errors")
KITS = {
    "CoreDetection": ("coreml", "int8", "anchors"),
    "TorchDetection": ("executorch", "int8", "heat"),
    "PackedDetection": ("coreml", "fp16", "packed rows with objectness"),
}
"""(runtime, precision, detector) by module; the runtime of the stubs knows the vectors of the first."""
FRAMEWORKS = {"coreml": "CoreML", "executorch": "ExecuTorch"}
STUBBED = swift_stubs.stubbed("CoreML", "ExecuTorch")
"""What each stub of a framework imports."""


BOTH = """\
import CoreDetection
import ImageIO
import PackedDetection

func both(cgImage: CGImage) async throws {
    let (core, packed) = (try await CoreDetection.Detector(), try await PackedDetection.Detector())
    let found: [CoreDetection.Detection] = try await core.detect(cgImage)
    let others: [PackedDetection.Detection] = try await packed.detect(cgImage)
    do {
        print(try await core.detect(cgImage, minScore: 2), found.count, others.count)
    } catch CoreDetection.DetectorError.invalidMinScore(let score) {
        print(score)
    }
}
"""
"""An app with two kits, whose types are called alike."""


def make(detector_contents, module):
    runtime, precision, detector = KITS[module]
    return detector_contents("ios", runtime, precision, detector, module=module, minimum_deployment_target="iOS17")


@pytest.fixture(scope="module")
def package(detector_contents, tmp_path_factory):
    """(folder, contents by module) of one package that holds all kits, a sample and the stubs."""
    folder = tmp_path_factory.mktemp("detectors") / "all"
    contents = {module: make(detector_contents, module) for module in KITS}
    for name in STUBBED:
        (folder / "Stubs" / name).mkdir(parents=True)
        shutil.copy(STUBS / f"{name}.swift", folder / "Stubs" / name)
    for module, content in contents.items():
        sdk.write(content, folder / module)
        tests = folder / module / "Tests" / f"{module}Tests"
        for name in ("XCTAttachment", *(["DetectorStubTests"] if module == "CoreDetection" else [])):
            (tests / f"{name}.swift").write_text((STUBS / f"{name}.swift").read_text().replace("__module__", module))
        readme = readmes.swift((folder / module / "README.md").read_text(), module, "Detector")
        (folder / module / "Sample.swiftpm" / "Readme.swift").write_text(readme)
    docs = readmes.swift(readmes.section("Boxes"), "CoreDetection", "Detector", name="docs")
    (folder / "CoreDetection" / "Sample.swiftpm" / "Docs.swift").write_text(docs)
    (folder / "CoreDetection" / "Sample.swiftpm" / "Both.swift").write_text(BOTH)
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
        '.executableTarget(name: "Sample", dependencies: ["CoreDetection", "PackedDetection", "AVFoundation", "ImageIO", "PhotosUI", "SwiftUI"], '
        'path: "CoreDetection/Sample.swiftpm", exclude: ["Package.swift"])'
    )
    joined = ",\n    ".join(targets)
    return (
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "all", targets: [\n    {joined}\n])\n'
    )


def run(swift, folder, **environment):
    """All tests, but on a device those of kits whose vectors the stubs do not know."""
    known = {"STUB_VECTORS": "CoreDetection/Tests/CoreDetectionTests/Vectors", "STUB_REFERENCE": "int8"}
    skipped = ("--skip", r"(Torch|Packed)DetectionTests\.DeviceTests")
    return swift(folder, "test", *STRICT, *skipped, environment={**known, **environment})


def test_kits_pass_their_own_tests_on_stubs(package, swift):
    folder, contents = package
    result = run(swift, folder)
    assert result.returncode == 0, result.stdout
    count = int(re.findall(r"Executed (\d+) tests?, with 0 failures", result.stdout)[-1])
    print(f"detectors on stubs: {count} tests passed")
    for test in ("OutputsBecomeTheExpectedBoxes", "BoxesLieInPhotosWhereTheReferenceHasThem"):
        assert result.stdout.count(f"VectorTests.test{test}' passed") == len(KITS)
    assert "DeviceTests.testDetectorGivesTheObjectsOfItsOutputs' passed" in result.stdout
    results = device.read_results(folder / "CoreDetection-device-results.json")
    golden = contents["CoreDetection"].golden
    for found in results.runs:
        values = np.array([found.outputs[name] for name in golden.names], np.float32)
        assert np.array_equal(values, golden.expected["int8"])


@pytest.mark.parametrize(
    ("right", "wrong", "failed"),
    [
        ("p = p * r + coefficient", "p = coefficient.addingProduct(p, r)", "testOutputsBecomeTheExpectedBoxes"),
        ("(one.index, one.number) <", "(-one.index, one.number) <", "testOutputsBecomeTheExpectedBoxes"),
        ("side > end ? end", "side > end + 1 ? end", "testBoxesLieInPhotosWhereTheReferenceHasThem"),
    ],
    ids=["rounding", "order", "edge"],
)
def test_kits_tests_find_another_rounding_order_or_edge(right, wrong, failed, package, swift):
    folder, _ = package
    path = folder / "CoreDetection/Sources/CoreDetection/Decoding.swift"
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    result = run(swift, folder)
    path.write_text(text)
    assert result.returncode != 0
    assert failed in set(re.findall(r"Test Case 'VectorTests.(\w+)' failed", result.stdout)), result.stdout


def test_500_outputs_become_the_same_bits(detector_contents, swift, tmp_path):
    sdk.write(make(detector_contents, "CoreDetection"), tmp_path / "sdk")
    sources, package = tmp_path / "sdk/Sources/CoreDetection", tmp_path / "harness"
    target = package / "Sources" / "harness"
    target.mkdir(parents=True)
    names = ("BoxForm", "ComputeUnits", "Decoding", "Detection", "DetectorError", "Pixels", "Placed")
    for source in (HERE / "harness/ios/detection/main.swift", *(sources / f"{name}.swift" for name in names)):
        shutil.copy(source, target)
    (package / "Package.swift").write_text(
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        'let package = Package(name: "harness", targets: [.executableTarget(name: "harness")])\n'
    )
    box_cases.write(package)
    result = swift(package, "run", "-c", "release", *STRICT, "harness", "forms.txt", "outputs.f32", "found.f64")
    assert result.returncode == 0, result.stdout
    assert len(box_cases.expected()) == box_cases.COUNT
    assert box_cases.differences(package / "found.f64") == []
    print(f"{box_cases.COUNT} outputs, {(package / 'found.f64').stat().st_size:,} bytes of boxes equal in Swift")


def test_sources_are_formatted(detector_contents, swift, tmp_path):
    for module in KITS:
        sdk.write(make(detector_contents, module), tmp_path / module)
    style = {"version": 1, "lineLength": 120, "indentation": {"spaces": 4}, "indentConditionalCompilationBlocks": False}
    (tmp_path / "style.json").write_text(json.dumps(style))
    sources = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.swift"))
    result = swift(tmp_path, "format", "lint", "--strict", "--configuration", "style.json", *sources)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "folders", [("CoreDetection", "PackedDetection"), ("one/sdk", "other/sdk")], ids=["named", "alike"]
)
def test_an_app_takes_kits_by_the_names_of_their_folders(folders, detector_contents, swift, tmp_path):
    """As their READMEs say; two that lie in folders of one name are one package to Swift."""
    modules = ("CoreDetection", "PackedDetection")
    for module, folder in zip(modules, folders, strict=True):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        sdk.write(make(detector_contents, module), tmp_path / folder)
        readme = (tmp_path / folder / "README.md").read_text()
        assert f'`.package(path: "../{module}")`' in readme and f'the dependency `"{module}"`' in readme
    (tmp_path / "Sources" / "App").mkdir(parents=True)
    (tmp_path / "Sources" / "App" / "main.swift").write_text("import CoreDetection\nimport PackedDetection\n")
    packages = ", ".join(f'.package(path: "{folder}")' for folder in folders)
    (tmp_path / "Package.swift").write_text(
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "App", dependencies: [{packages}], targets: [.executableTarget(name: "App", '
        f"dependencies: {json.dumps(modules)})])\n"
    )
    result = swift(tmp_path, "package", "show-dependencies")
    assert ("onflicting identity" in result.stdout or "error" in result.stdout) == ("sdk" in folders[0]), result.stdout
    assert "PackedDetection" in result.stdout or "sdk" in folders[0], result.stdout
