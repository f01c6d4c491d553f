"""The Swift package compiles without a warning, replays its vectors and calls what the frameworks have."""

from __future__ import annotations

import filecmp
import functools
import json
import os
import plistlib
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import camera_frames
import numpy as np
import pytest
import readmes
import swift_stubs
from twinkeel.pipeline.delivery import device
from twinkeel.pipeline.names import SWIFT_WORDS
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.parity.limits import Limit
from twinkeel.pipeline.tasks.classification.ranking import top
from twinkeel.targets.ios import sdk

HERE = Path(__file__).parent
STUBS = HERE / "stubs" / "ios"
STRICT = ("-Xswiftc", "-warnings-as-errors")
KITS = (("coreml", "int8"), ("coreml", "fp16"), ("executorch", "int8"))
VECTOR_TESTS = 9 + 2
"""Of the kit itself, those that need no framework."""
ON_UNITS = [
    ("CPU_ONLY", ["CPU"], {"CPU": 2}),
    ("CPU_AND_GPU", ["CPU", "GPU"], {"CPU": 2, "GPU": 1}),
    ("CPU_AND_NE", ["CPU", "NPU"], {"CPU": 2, "NPU": 1}),
    ("ALL", ["CPU", "GPU", "NPU"], {"CPU": 2, "GPU": 1, "NPU": 1}),
]
"""What the kit's test on a device asks of Core ML, what ran, and the operations of each unit in the stub's plan."""
STUB_TESTS = {"coreml": VECTOR_TESTS + 25 + 7, "executorch": VECTOR_TESTS + 19 + 7}
"""All of the kit, and those of `StubTests.swift` and `FrameStubTests.swift`."""

EVERY_METRIC = (  # the reference itself keeps to all
    Limit(metric="equal_logits", sense=">=", value=1, reason=""),
    Limit(metric="max_error", sense="<=", value=0, reason=""),
    Limit(metric="max_steps", sense="<=", value=0, reason=""),
    Limit(metric="snr_db", sense=">=", value=100, reason=""),
    Limit(metric="snr_loss_db", sense="<=", value=3, reason=""),
)

HOSTILE = (
    'a "quoted" word',
    '"""',
    '"#, print("out"), #"',
    r"\(fatalError())",
    r"\u{41} \n \\",
    "ends with a backslash \\",
    "two\nlines",
    "carriage\rreturn, tab\tand\r\nboth",
    "null\0inside",
    "a zero after it \x000",
    "*/ fatalError() /*",
    "// no comment",
    "👩‍👩‍👧‍👦 and 🇨🇭",
    "right to left: \u202egnp.exe\u202c and עברית",
    "\u0301 begins with a combining accent",
    "e\u0301 is not \u00e9",
    "\ufeffbyte order mark, \u200bzero width, \u2028line\u2029paragraph",
    "{{ sdk.labels }} {% raw %} $0 ${x} #{y} %s",
    "",
    "long " * 2000,
)


def write(contents, out):
    sdk.write(contents, out)
    return out


def kit(kit_contents, runtime="coreml", precision="int8", **settings):
    settings = {"sdk": runtime, "sdk_precision": precision, "minimum_deployment_target": "iOS17"} | settings
    return kit_contents("ios", ios=settings)


def with_labels(contents, labels):
    """The same kit of a model of other classes, whose logits are drawn."""
    logits = np.random.default_rng(0).normal(size=(len(contents.golden.names), len(labels))).astype(np.float32)
    expected = dict.fromkeys(contents.golden.expected, logits) | {"fp32": logits * np.float32(1.01)}
    golden = replace(contents.golden, expected=expected)
    categories = tuple(tuple(top(row, 5)) for row in logits)
    outputs = (replace(contents.outputs[0], shape=(len(labels),)),)
    return replace(contents, labels=tuple(labels), outputs=outputs, golden=golden, categories=categories)


def passed(output):
    """How many tests XCTest says that it ran; none of them failed."""
    found = re.findall(r"Executed (\d+) tests?, with 0 failures", output)
    return int(found[-1]) if found else 0


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# without the frameworks


@pytest.fixture(scope="module")
def kits(kit_contents, tmp_path_factory):
    """Write a kit into a folder, made once: what swift built there is not built again."""

    @functools.cache
    def make(runtime, precision):
        return write(kit(kit_contents, runtime, precision), tmp_path_factory.mktemp("kits") / "sdk")

    return make


@pytest.mark.parametrize(("runtime", "precision"), KITS)
def test_compiles_without_warnings_and_passes_its_own_tests(runtime, precision, kits, swift):
    result = swift(kits(runtime, precision), "test", *STRICT)
    assert result.returncode == 0, result.stdout
    print(f"{runtime} {precision}: {passed(result.stdout)} tests passed")
    assert passed(result.stdout) == VECTOR_TESTS


def test_a_kit_of_an_oblong_input_says_its_size(oblong_contents, tmp_path):
    folder = write(kit(oblong_contents), tmp_path / "sdk")
    source = (folder / "Sources/ImageClassifier/ModelInfo.swift").read_text()
    assert "static let width = 31" in source and "static let height = 45" in source
    readme = (folder / "README.md").read_text()
    assert "the whole image, resized to fit 31 x 45 on black" in readme and "square" not in readme


def test_the_tests_see_wrong_bytes_and_a_wrong_label(kits, swift):
    folder = kits("coreml", "int8")
    vectors = folder / "Tests/ImageClassifierTests/Vectors"
    expected = [vectors / "pixels/turned-6.expected.rgba", vectors / "frames/odd.expected.rgba"]
    labels = folder / "Sources/ImageClassifier/Labels.swift"
    right = {path: path.read_bytes() for path in (*expected, labels)}
    for path in expected:
        content = bytearray(right[path])
        content[100] ^= 1
        path.write_bytes(content)
    labels.write_bytes(right[labels].replace(b'"7"', b'"seven"'))
    result = swift(folder, "test", *STRICT)
    for path, content in right.items():
        path.write_bytes(content)
    failed = set(re.findall(r"Test Case '\w+Tests\.(\w+)' failed", result.stdout))
    assert failed == {
        "testImagesBecomeTheExpectedBytes",
        "testFramesOfAnyLayoutBecomeTheExpectedBytes",
        "testLabelsAreThoseOfTheModel",
    }, result.stdout


def test_hostile_labels_and_names_stay_text(kit_contents, swift, tmp_path):
    hostile = " | ".join(HOSTILE)[:900]
    contents = with_labels(kit(kit_contents, module="Labels"), HOSTILE)
    project = contents.project.model_copy(
        update={"author": hostile, "license": hostile, "version": hostile[:100], "description": hostile}
    )
    limits = tuple(replace(limit, reason=hostile) for limit in contents.limits)
    folder = write(replace(contents, project=project, limits=limits), tmp_path / "sdk")
    (folder / "Tests/LabelsTests/PrintTests.swift").write_text(
        "import XCTest\n@testable import Labels\n\nfinal class PrintTests: XCTestCase {\n"
        '    func testPrint() { for label in Labels.all { print("LABEL", Array(label.utf8)) } }\n}\n'
    )
    result = swift(folder, "test", *STRICT)
    assert result.returncode == 0, result.stdout
    found = [bytes(json.loads(line)).decode() for line in re.findall(r"^LABEL (\[.*\])$", result.stdout, re.MULTILINE)]
    assert tuple(found) == HOSTILE
    assert passed(result.stdout) == VECTOR_TESTS + 1


def test_25_000_labels_compile(kit_contents, swift, tmp_path):
    labels = [f"class number {number}, with some words" for number in range(25_000)]
    folder = write(with_labels(kit(kit_contents), labels), tmp_path / "sdk")
    start = time.monotonic()
    result = swift(folder, "build", *STRICT)
    elapsed = time.monotonic() - start
    assert result.returncode == 0, result.stdout
    print(f"25,000 labels: {elapsed:.1f} s")


def test_400_images_and_60_frames_become_the_same_bytes_as_in_python(kit_contents, swift, resizing, tmp_path):
    sources = write(kit(kit_contents, "executorch"), tmp_path / "sdk") / "Sources/ImageClassifier"
    package = tmp_path / "harness"
    target = package / "Sources" / "harness"
    target.mkdir(parents=True)
    own = [sources / f"{name}.swift" for name in ("Pixels", "Placed", "Frame", "ClassifierError")]
    for source in (HERE / "harness/ios/main.swift", HERE / "harness/ios/Frames.swift", *own):
        shutil.copy(source, target)
    (package / "Package.swift").write_text(
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        'let package = Package(name: "harness", targets: [.executableTarget(name: "harness")])\n'
    )
    (package / "cases.txt").write_text(resizing.case_list())
    (package / "frames.txt").write_text(camera_frames.case_list())
    files = ("cases.txt", "inputs.bin", "frames.txt", "frames.bin")
    result = swift(package, "run", "-c", "release", *STRICT, "harness", *files)
    assert result.returncode == 0, result.stdout
    print(f"{len(resizing.cases())} images; {result.stdout.splitlines()[-1]}")
    assert resizing.differences(package / "inputs.bin") == []
    found = camera_frames.differences(package / "frames.bin")
    print(f"{camera_frames.COUNT - len(found)} of {camera_frames.COUNT} frames equal in Swift")
    assert found == []


# with stubs of the frameworks


def with_stubs(contents, folder, is_compiled=False):
    """The kit, its sample app and its README's code in one package with stubs of the frameworks that they import.

    Args:
        is_compiled: the model lies there as Xcode compiles it. Where it does not, `swift build` takes it apart.
    """
    write(contents, folder)
    module, artifact = contents.settings.module, f"Resources/{contents.artifact.name}"
    rule = "process" if contents.runtime == "coreml" else "copy"
    if is_compiled:
        package = folder / "Sources" / module / artifact
        rule, artifact = "copy", artifact.replace(".mlpackage", ".mlmodelc")
        package.rename(package.with_suffix(".mlmodelc"))
    framework = {"coreml": "CoreML", "executorch": "ExecuTorch"}[contents.runtime]
    stubs = swift_stubs.stubbed(framework)
    for name in stubs:
        (folder / "Stubs" / name).mkdir(parents=True)
        shutil.copy(STUBS / f"{name}.swift", folder / "Stubs" / name)
    code = {"Readme": (folder / "README.md").read_text(), "Docs": readmes.section("Cameras")}
    for name, text in code.items():
        source = readmes.swift(text, module, "Classifier", name=name.lower())
        (folder / "Sample.swiftpm" / f"{name}.swift").write_text(source)
    tests = folder / "Tests" / f"{module}Tests"
    for name in ("StubTests", "FrameStubTests", "XCTAttachment"):
        (tests / f"{name}.swift").write_text((STUBS / f"{name}.swift").read_text().replace("__module__", module))
    targets = [f'.target(name: "{n}", dependencies: {json.dumps(d)}, path: "Stubs/{n}")' for n, d in stubs.items()]
    targets += [
        f'.target(name: "{module}", dependencies: {json.dumps([framework, "ImageIO", "UIKit"])}, resources: ['
        f'.{rule}("{artifact}"), .copy("Resources/PrivacyInfo.xcprivacy")])',
        f'.testTarget(name: "{module}Tests", dependencies: ["{module}", "StubRuntime"], resources: [.copy("Vectors")])',
        f'.executableTarget(name: "Sample", dependencies: ["{module}", "AVFoundation", "ImageIO", "PhotosUI", "SwiftUI"], '
        'path: "Sample.swiftpm", exclude: ["Package.swift"])',
    ]
    (folder / "Package.swift").write_text(
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "{module}", targets: [\n    ' + ",\n    ".join(targets) + "\n])\n"
    )
    return folder


@pytest.fixture(scope="module", params=["coreml", "executorch", "coreml oblong"])
def stubbed(request, kit_contents, oblong_contents, tmp_path_factory):
    """(contents, folder) of a kit with stubs; its tests share what is built."""
    runtime, _, shape = request.param.partition(" ")
    contents = replace(kit(oblong_contents if shape else kit_contents, runtime), limits=EVERY_METRIC)
    return contents, with_stubs(contents, tmp_path_factory.mktemp("stubbed") / "sdk", bool(shape))


def run_on_stubs(swift, stubbed, reference):
    """The kit's tests, where the runtime computes the logits of the `reference`."""
    environment = {"STUB_VECTORS": "Tests/ImageClassifierTests/Vectors", "STUB_REFERENCE": reference}
    return swift(stubbed[1], "test", *STRICT, environment=environment)


def test_framework_bound_code_runs_on_stubs(stubbed, swift):
    contents, folder = stubbed
    result = run_on_stubs(swift, stubbed, contents.reference)
    assert result.returncode == 0, result.stdout
    print(f"{contents.runtime} on stubs: {passed(result.stdout)} tests passed")
    assert passed(result.stdout) == STUB_TESTS[contents.runtime]

    results = device.read_results(folder / "ImageClassifier-device-results.json")
    assert (results.target, results.precision) == (contents.target, contents.precision)
    assert results.artifact_sha256 == contents.sha256
    found = [(run.asked, run.ran, run.plan) for run in results.runs]
    assert found == (ON_UNITS if contents.runtime == "coreml" else [("CPU", ["CPU"], {})])
    assert all(run.ms.runs == 50 and not run.fell_back for run in results.runs)
    for run in results.runs:
        logits = np.array([run.outputs[name] for name in contents.golden.names], np.float32)
        assert np.array_equal(logits, contents.golden.expected[contents.reference])


def test_other_logits_fail_on_a_device_and_are_written_all_the_same(stubbed, swift):
    contents, folder = stubbed
    (folder / "ImageClassifier-device-results.json").unlink(missing_ok=True)
    result = run_on_stubs(swift, stubbed, "reversed")
    failed = set(re.findall(r"Test Case 'DeviceTests.(\w+)' failed", result.stdout))
    assert failed == {"testLogitsAreWithinTheLimits", "testClassifierGivesTheExpectedClass"}, result.stdout
    expected = contents.golden.expected
    reference, logits = expected[contents.reference], expected["fp32"][:, ::-1]
    wanted = {
        "snr_db": metrics.snr_db(reference, logits),
        "snr_loss_db": metrics.snr_loss_db(expected["fp32"], expected["int8"], logits),
        "max_error": metrics.max_error(reference, logits),
        **metrics.step_metrics(reference, logits, contents.outputs[0].scale),
    }
    found = {
        name: float(value)
        for name, value in re.findall(r" - \w+: logits: (\w+) is (\S+)$", result.stdout, re.MULTILINE)
    }
    assert found == pytest.approx(wanted, rel=1e-7)
    assert len(device.read_results(folder / "ImageClassifier-device-results.json").runs) == (
        1 if contents.runtime == "executorch" else len(ON_UNITS)
    )


@pytest.mark.parametrize("stubbed", ["coreml", "executorch"], indirect=True)
def test_a_wrong_method_name_does_not_compile(stubbed, swift):
    contents, folder = stubbed
    calls = {
        "coreml": ("Sources/ImageClassifier/CoreMLModel.swift", "model.prediction("),
        "executorch": ("Sources/ImageClassifier/ExecuTorchModel.swift", "module.forward("),
    }
    for name, call in (calls[contents.runtime], ("Sample.swiftpm/SampleApp.swift", "item.loadTransferable(")):
        right = (folder / name).read_text()
        assert call in right
        (folder / name).write_text(right.replace(call, call.replace("(", "Wrong(")))
        result = swift(folder, "build", *STRICT)
        (folder / name).write_text(right)
        assert result.returncode != 0
        member = call.strip("(").split(".")[1] + "Wrong"
        assert re.search(rf"{name}:\d+:\d+: error: .* has no member '{member}'", result.stdout), result.stdout


def test_sample_finds_the_package(kit_contents, swift, tmp_path):
    """Its manifest without the product that only Xcode knows."""
    folder = write(kit(kit_contents), tmp_path / "sdk")
    manifest = folder / "Sample.swiftpm" / "Package.swift"
    text = manifest.read_text().replace("import AppleProductTypes\n", "")
    manifest.write_text(re.sub(r"\n        \.iOSApplication\(.*?\n        \)\n    \]", "]", text, flags=re.DOTALL))
    result = swift(folder, "package", "--package-path", "Sample.swiftpm", "show-dependencies", "--format", "json")
    assert result.returncode == 0, result.stdout
    assert '"ImageClassifier"' in result.stdout
    assert "warning" not in result.stdout


# what is written


@pytest.mark.parametrize(("runtime", "precision"), KITS)
def test_two_kits_are_equal_to_the_byte(runtime, precision, kit_contents, tmp_path):
    contents = kit(kit_contents, runtime, precision)
    first = write(contents, tmp_path / "first")
    umask = os.umask(0o077)
    try:
        second = write(contents, tmp_path / "second")
    finally:
        os.umask(umask)
    assert files(first) == files(second)
    assert filecmp.cmpfiles(first, second, files(first), shallow=False)[1:] == ([], [])
    for folder in (first, second):
        assert {p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_file()} == {0o644}


def test_kits_of_two_models_differ_only_where_the_models_do(kit_contents, tmp_path):
    first = write(kit(kit_contents, precision="int8"), tmp_path / "first")
    second = write(kit(kit_contents, precision="fp16"), tmp_path / "second")
    different = filecmp.cmpfiles(first, second, set(files(first)) & set(files(second)), shallow=False)[1]
    assert {name for name in different if "Vectors/" not in name} == {
        "Package.swift",
        "README.md",
        "Sources/ImageClassifier/ModelInfo.swift",
        "Tests/ImageClassifierTests/DeviceTests.swift",
        "Tests/ImageClassifierTests/Limits.swift",
        "Tests/ImageClassifierTests/VectorTests.swift",
    }
    assert {name for name in set(files(first)) ^ set(files(second)) if ".mlpackage/" not in name} == {
        f"Tests/ImageClassifierTests/Vectors/golden/{key}.f32" for key in ("int8-fp16", "fp16-all")
    }


def test_only_the_chosen_runtime_is_in_a_kit(kit_contents, tmp_path):
    for runtime, other in (("coreml", "executorch"), ("executorch", "coreml")):
        folder = write(kit(kit_contents, runtime), tmp_path / runtime)
        text = "".join(p.read_text() for p in folder.rglob("*") if p.suffix in (".swift", ".md")).lower()
        assert other not in text.replace(" ", "").replace("coregraphics", "")


@pytest.mark.parametrize("runtime", ["coreml", "executorch"])
def test_documentation_and_reserved_names_know_all_public_types(runtime, kit_contents, tmp_path):
    sources = write(kit(kit_contents, runtime), tmp_path / "sdk") / "Sources/ImageClassifier"
    text = "\n".join(path.read_text() for path in sources.glob("*.swift"))
    types = set(re.findall(r"^public (?:struct|enum|actor|(?:final )?class) (\w+)", text, re.MULTILINE))
    assert {"Classifier", "ClassifierError", "DecodedPhoto"} < types
    page = (sources / "Documentation.docc/ImageClassifier.md").read_text()
    assert types == set(re.findall(r"^- ``(\w+)``$", page, re.MULTILINE))
    assert types <= SWIFT_WORDS


@pytest.mark.parametrize("runtime", ["coreml", "executorch"])
def test_privacy_manifest_says_that_nothing_is_collected(runtime, kit_contents, tmp_path):
    folder = write(kit(kit_contents, runtime), tmp_path / "sdk")
    privacy = plistlib.loads((folder / "Sources/ImageClassifier/Resources/PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    assert privacy["NSPrivacyCollectedDataTypes"] == privacy["NSPrivacyTrackingDomains"] == []
    assert len(privacy["NSPrivacyAccessedAPITypes"]) == (runtime == "executorch")


@pytest.mark.parametrize("runtime", ["coreml", "executorch"])
def test_manifests_parse(runtime, kit_contents, tmp_path):
    tree_sitter, swift_grammar = pytest.importorskip("tree_sitter"), pytest.importorskip("tree_sitter_swift")
    parser = tree_sitter.Parser(tree_sitter.Language(swift_grammar.language()))
    folder = write(kit(kit_contents, runtime), tmp_path / "sdk")
    for manifest in (folder / "Package.swift", folder / "Sample.swiftpm" / "Package.swift"):
        assert not parser.parse(manifest.read_bytes()).root_node.has_error, manifest


def test_executorch_is_of_the_release_that_the_program_was_built_with(kit_contents, swift, tmp_path):
    """Its manifest as a Mac reads it. A patch of a release may have no Swift package."""
    built = re.search(r'"executorch==(([\d]+\.[\d]+)\.\d+)"', (HERE.parents[1] / "pyproject.toml").read_text())
    assert built
    branch = sdk.BRANCHES["executorch"]
    assert re.fullmatch(rf"swiftpm-{re.escape(built[2])}\.\d+", branch)
    folder = write(kit(kit_contents, "executorch"), tmp_path / "sdk")
    manifest = folder / "Package.swift"
    manifest.write_text(manifest.read_text().replace("#if os(macOS)", "#if true"))
    result = swift(folder, "package", "dump-package")
    assert result.returncode == 0, result.stdout
    package = json.loads(result.stdout[result.stdout.index("{") :])
    (dependency,) = package["dependencies"]
    assert dependency["sourceControl"][0]["requirement"] == {"branch": [branch]}
    told = " ".join((folder / "README.md").read_text().split())
    nearest = "" if branch == f"swiftpm-{built[1]}" else ", the nearest that is published"
    assert (
        f"verified with ExecuTorch {built[1]}, of whose Swift packages it asks for `{branch}`{nearest}, and its code"
        in told
    )
    targets = {target["type"]: target for target in package["targets"]}
    products = [dependency["product"][0] for dependency in targets["regular"]["dependencies"]]
    assert products == ["executorch", "backend_xnnpack", "kernels_optimized"]
    # an app sets it: a library that did could be no dependency of a package with versions
    assert "unsafeFlags" not in json.dumps(targets["regular"]["settings"])
    assert "-all_load" in json.dumps(targets["test"]["settings"])
    assert "-all_load" in (folder / "Sample.swiftpm/Package.swift").read_text()
    frameworks = re.findall(r'linkedFramework.*?"_0": "(\w+)"', json.dumps(targets["regular"]["settings"]))
    assert frameworks == ["Accelerate", "CoreGraphics", "CoreImage", "CoreVideo", "Foundation"]


def test_another_package_may_depend_on_a_kit_by_its_tag(kit_contents, swift, tmp_path):
    """And not where its target sets a flag that Swift calls unsafe."""
    contents = kit(kit_contents)
    repository = write(contents, tmp_path / "kit")
    manifest = repository / "Package.swift"
    text = manifest.read_text()
    unsafe = text.replace(
        'PrivacyInfo.xcprivacy"),\n            ]',
        'PrivacyInfo.xcprivacy"),\n            ],\n            linkerSettings: [.unsafeFlags(["-O1"])]',
    )
    assert unsafe != text
    git = ("git", "-C", repository, "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
    subprocess.run([*git, "init", "--quiet"], check=True)
    version = contents.version
    for content, tag in ((text, version), (unsafe, version.replace("1.0.0", "2.0.0"))):
        manifest.write_text(content)
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", tag], check=True)
        subprocess.run([*git, "tag", tag], check=True)
    (tmp_path / "Sources/App").mkdir(parents=True)
    (tmp_path / "Sources/App/main.swift").write_text("import ImageClassifier\n")
    for major, fails in ((1, False), (2, True)):
        (tmp_path / "Package.swift").write_text(
            "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
            'let package = Package(name: "App", dependencies: [.package(url: "file://\\(Context.packageDirectory)/kit", '
            f'from: "{major}.0.0")], targets: [.executableTarget(name: "App", dependencies: '
            '[.product(name: "ImageClassifier", package: "kit")])])\n'
        )
        result = swift(tmp_path, "package", "--cache-path", ".cache", "show-dependencies")
        assert (f"kit@{major}.0.0" in result.stdout) or fails, result.stdout
        assert ("unsafe build flags" in result.stdout) == fails, result.stdout


@pytest.mark.parametrize("runtime", ["coreml", "executorch"])
def test_sources_are_formatted(runtime, kit_contents, swift, tmp_path):
    folder = write(kit(kit_contents, runtime), tmp_path / "sdk")
    style = {"version": 1, "lineLength": 120, "indentation": {"spaces": 4}, "indentConditionalCompilationBlocks": False}
    (folder / "style.json").write_text(json.dumps(style))
    sources = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.swift"))
    result = swift(folder, "format", "lint", "--strict", "--configuration", "style.json", *sources)
    assert result.returncode == 0, result.stdout


def test_readme_classifies_in_five_lines(kit_contents, tmp_path):
    readme = (write(kit(kit_contents), tmp_path / "sdk") / "README.md").read_text()
    code = re.search(r"```swift\n(.*?)```", readme, re.DOTALL)
    assert code
    lines = [line for line in code[1].splitlines() if line.strip()]
    assert len(lines) == 5
    assert "try await Classifier()" in code[1]
    assert "try await classifier.classify(cgImage, topK: 5)" in code[1]
    assert len(readme.splitlines()) <= 50
