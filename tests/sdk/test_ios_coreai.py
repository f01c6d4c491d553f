"""The Swift packages of Core AI, which take Core ML on older systems: compiled with stubs, both run by their own tests, faults found."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import readmes
import swift_stubs
from detectors import DETECTORS
from twinkeel.pipeline.delivery import device
from twinkeel.pipeline.names import SWIFT_WORDS
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.tasks.classification.ranking import top
from twinkeel.targets.ios import sdk

STUBS = Path(__file__).parent / "stubs" / "ios"
STRICT = ("-Xswiftc", "-warnings-as-errors")
STUBBED = swift_stubs.stubbed("CoreML", "CoreAI", samples=False)
"""What each stub of a framework imports."""
ASKS = "#available(iOS 27, macOS 27, *)"
"""The question for the system, which has one answer where the tests run: the stubs give the other one, too."""


LABELS = ("ant", "bee", 'a "cat"', "dog", "eel")


@pytest.fixture(scope="module")
def contents(feature_contents, detector_contents, segmenter_contents):
    """By module: of all tasks, that of masks of Core AI alone, the others with Core ML."""
    old = {"minimum_deployment_target": "iOS17"}
    return {
        "BothClasses": classifier(feature_contents("ios", "coreai", "int8", inputs=(), module="BothClasses", **old)),
        "BothFeatures": by_unit(feature_contents("ios", "coreai", "int8", module="BothFeatures", **old)),
        "BothDetection": detector_contents(
            "ios", "coreai", "int8", next(iter(DETECTORS)), module="BothDetection", **old
        ),
        "NewMasks": segmenter_contents("ios", "coreai", "fp16", module="NewMasks", minimum_deployment_target="iOS27"),
    }


def by_unit(features):
    """The same where each runtime's accelerators have limits of their own."""
    apart = {"unit_limits": {"CPU": features.limits, "GPU": features.limits[:1], "NPU": features.limits[1:2]}}
    return replace(features, **apart, earlier=replace(features.earlier, **apart))


def classifier(features):
    """Contents of a kit of a classifier. Core AI has other logits than Core ML has, so that each is seen to be held to its own."""
    # nearer to float's than Core ML's are
    logits = np.random.default_rng(5).integers(-100, 100, (3, len(LABELS))).astype(np.float32) * np.float32(0.25)
    other = logits * np.float32(1.005)
    expected = {"fp32": logits * np.float32(1.01), "int8": logits, "int8-coreai": other}
    changed = {
        "task": "classification",
        "labels": LABELS,
        "outputs": (Output(name="logits", shape=(len(LABELS),), scale=0.25),),
        "golden": replace(features.golden, expected=expected),
        "categories": tuple(tuple(top(row, 5)) for row in other),
    }
    assert features.earlier is not None
    earlier = replace(features.earlier, **changed, sha256="3" * 64)
    return replace(features, **changed, reference="int8-coreai", earlier=earlier)


@pytest.fixture(scope="module")
def package(contents, tmp_path_factory):
    """The folder of one package that holds all kits, with their tests, and the stubs."""
    folder = tmp_path_factory.mktemp("coreai") / "all"
    for name in STUBBED:
        (folder / "Stubs" / name).mkdir(parents=True)
        shutil.copy(STUBS / f"{name}.swift", folder / "Stubs" / name)
    for module, content in contents.items():
        sdk.write(content, folder / module)
        tests = folder / module / "Tests" / f"{module}Tests"
        names = ["XCTAttachment"]
        if module == "BothClasses":
            names += ["StubTests", "CoreAIStubTests"]
            ask(folder / module / "Sources" / module / "ModelRuntime.swift", tests / "DeviceTests.swift")
        for name in names:
            (tests / f"{name}.swift").write_text((STUBS / f"{name}.swift").read_text().replace("__module__", module))
    readme = (folder / "BothClasses" / "README.md").read_text()
    (folder / "Readme").mkdir()
    (folder / "Readme" / "Readme.swift").write_text(readmes.swift(readme, "BothClasses", "Classifier"))
    (folder / "Package.swift").write_text(manifest(contents))
    return folder


def ask(*paths):
    """Let the stubs answer the question for the system."""
    for path in paths:
        text = path.read_text()
        assert text.count(ASKS) == 1, path
        text = text.replace(ASKS, "StubRuntime.hasCoreAI")
        path.write_text(text if "import StubRuntime" in text else f"import StubRuntime\n{text}")


def manifest(contents):
    targets = [f'.target(name: "{n}", dependencies: {json.dumps(d)}, path: "Stubs/{n}")' for n, d in STUBBED.items()]
    for module, content in contents.items():
        frameworks = ["CoreAI", "ImageIO", "StubRuntime", "UIKit"] + (["CoreML"] if content.earlier else [])
        artifacts = [content.artifact, *([content.earlier.artifact] if content.earlier else [])]
        resources = ", ".join(
            f'.copy("Resources/{name}")' for name in (*(a.name for a in artifacts), "PrivacyInfo.xcprivacy")
        )
        targets += [
            f'.target(name: "{module}", dependencies: {json.dumps(frameworks)}, path: "{module}/Sources/{module}", '
            f"resources: [{resources}])",
            f'.testTarget(name: "{module}Tests", dependencies: ["{module}", "StubRuntime"], '
            f'path: "{module}/Tests/{module}Tests", resources: [.copy("Vectors")])',
        ]
    targets.append('.target(name: "Readme", dependencies: ["BothClasses", "ImageIO"], path: "Readme")')
    joined = ",\n    ".join(targets)
    return (
        "// swift-tools-version: 6.0\nimport PackageDescription\n\n"
        f'let package = Package(name: "all", targets: [\n    {joined}\n])\n'
    )


def run(swift, folder, module, system, *options, reference="int8", of_core_ai="int8"):
    """The tests of a kit, where the runtimes compute what `reference` and `of_core_ai` say."""
    environment = {
        "STUB_VECTORS": f"{module}/Tests/{module}Tests/Vectors",
        "STUB_REFERENCE": reference,
        "STUB_REFERENCE_COREAI": of_core_ai,
        "STUB_SYSTEM": str(system),
    }
    return swift(folder, "test", *STRICT, "--filter", f"{module}Tests", *options, environment=environment)


def results(folder, module, content, golden, runtime=""):
    """What the kit's test on a device wrote; all runs gave the content's reference."""
    name = f"{module}-device-results{runtime and '-' + runtime}.json"
    found = device.read_results(folder / name)
    assert (found.target, found.precision, found.artifact_sha256) == (content.target, content.precision, content.sha256)
    for one in found.runs:
        values = np.array([one.outputs[name] for name in golden.names], np.float32)
        assert np.array_equal(values, golden.expected[content.reference])
    return [(one.asked, one.ran, one.fell_back) for one in found.runs]


UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
UNTOLD = [("CPU_ONLY", ["CPU"], False), *((name, None, False) for name in UNITS[1:])]
"""What Core AI's runs tell of integers, which may be the CPU's whatever computed them."""
COMPILED = ("TheModelIsCompiledOnce", "ModelsOfOtherVersionsOfTheAppGo")
"""Tests of what is kept of Core ML's, where the system runs that."""
TESTS = 9 + 3 + 4 + 19 + 5
"""Of vectors, devices, images, and of both files of stubs' tests; frames' come on top of them."""


@pytest.mark.parametrize("system", [26, 27])
def test_the_runtime_of_the_system_gives_its_own_answers(system, package, contents, swift):
    content, folder = contents["BothClasses"], package
    for path in folder.glob("*-device-results*.json"):
        path.unlink()
    skipped = [argument for name in COMPILED if system == 27 for argument in ("--skip", f"StubTests.test{name}")]
    result = run(swift, folder, "BothClasses", system, *skipped, of_core_ai="int8-coreai")
    assert result.returncode == 0, result.stdout
    count = int(re.findall(r"Executed (\d+) tests?, with (?:1 test skipped and )?0 failures", result.stdout)[-1])
    print(f"Core AI and Core ML, iOS {system}: {count} tests passed")
    assert count >= TESTS - len(skipped) // 2
    assert ("testLogitsOfCoreAIAreWithinTheLimits' skipped" in result.stdout) == (system == 26)
    told = results(folder, "BothClasses", content.earlier, content.golden, "coreml")
    assert [name for name, *_ in told] == list(UNITS)
    if system == 27:
        assert results(folder, "BothClasses", content, content.golden, "coreai") == UNTOLD
    assert (folder / "BothClasses-device-results-coreai.json").exists() == (system == 27)


def test_each_runtime_is_held_to_its_own_limits(package, swift):
    """Core ML's answers are none of Core AI's, though the classes are the same."""
    result = run(swift, package, "BothClasses", 27, "--skip", "StubTests", of_core_ai="int8")
    assert set(re.findall(r"Test Case '(\w+\.\w+)' failed", result.stdout)) == {
        "DeviceTests.testLogitsOfCoreAIAreWithinTheLimits"
    }, result.stdout
    assert set(re.findall(r" - (\w+): logits: \w+ is ", result.stdout)) == set(UNITS)


@pytest.mark.parametrize("module", ["BothFeatures", "BothDetection", "NewMasks"])
def test_kits_of_all_tasks_pass_their_own_tests(module, package, contents, swift):
    result = run(swift, package, module, 27)
    assert result.returncode == 0, result.stdout
    content = contents[module]
    if content.earlier:
        assert results(package, module, content, content.golden, "coreai") == UNTOLD
        assert len(results(package, module, content.earlier, content.golden, "coreml")) == len(UNITS)
    else:
        # float numbers that are the CPU's to the last bit were computed by nothing else, and the kit says so
        assert results(package, module, content, content.golden) == [
            (name, ["CPU"], name in UNITS[1:3]) for name in UNITS
        ]


def test_a_wrong_method_name_in_core_ais_part_does_not_compile(package, swift):
    path = package / "BothClasses/Sources/BothClasses/CoreAIModel.swift"
    right = path.read_text()
    assert "function.run(" in right
    path.write_text(right.replace("function.run(", "function.predict("))
    result = swift(package, "build", *STRICT, "--target", "BothClasses")
    path.write_text(right)
    assert result.returncode != 0
    said = rf"{path.name}:\d+:\d+: error: value of type 'InferenceFunction' has no member 'predict'"
    assert re.search(said, result.stdout), result.stdout


# what is written


def test_only_a_kit_for_older_systems_asks_and_has_core_ml(contents, tmp_path):
    for module in ("BothFeatures", "NewMasks"):
        sdk.write(contents[module], tmp_path / module)
    both, new = (
        {p.relative_to(tmp_path / module).as_posix(): p.read_text() for p in (tmp_path / module).rglob("*.swift")}
        for module in ("BothFeatures", "NewMasks")
    )
    model = "Sources/BothFeatures/CoreAIModel.swift"
    assert [path for path, text in both.items() if "import CoreAI\n" in text] == [model]
    # all that is declared beside the function that waits, which needs no system
    assert both[model].count("\n@available(iOS 27, macOS 27, *)\n") == both[model].count("NDArray(shape:") + 1 == 2
    assert sum(text.count(ASKS) for text in both.values()) == 2
    assert not any("(iOS 27" in text or "CoreML" in text for text in new.values())
    assert not any("Core ML" in path.read_text() for path in (tmp_path / "NewMasks").rglob("*.md"))
    assert {path.name for path in (tmp_path / "BothFeatures/Sources/BothFeatures/Resources").iterdir()} == {
        "toy-int8.aimodel",
        "toy-int8.mlpackage",
        "PrivacyInfo.xcprivacy",
    }
    described = json.loads((tmp_path / "BothFeatures/contract.json").read_text())["contract"]
    assert (described["runtime"], described["oldest system"]) == ("coreai, coreml on older systems", "iOS17")


def test_readme_and_documentation_say_what_runs(contents, tmp_path):
    folder = tmp_path / "sdk"
    sdk.write(contents["BothClasses"], folder)
    readme = (folder / "README.md").read_text()
    assert "run by Core AI on iOS 27 and later, Core ML before" in readme and len(readme.splitlines()) <= 55
    assert "coreai-core 1.0.0b3 and coremltools" in readme and "needs iOS 17 and Xcode 16 or later" in readme
    sources = folder / "Sources/BothClasses"
    text = "\n".join(path.read_text() for path in sources.glob("*.swift"))
    types = set(re.findall(r"^public (?:struct|enum|actor|(?:final )?class) (\w+)", text, re.MULTILINE))
    page = (sources / "Documentation.docc/BothClasses.md").read_text()
    assert "ModelRuntime" in types == set(re.findall(r"^- ``(\w+)``$", page, re.MULTILINE))
    assert types <= SWIFT_WORDS


def test_core_ml_of_a_kit_for_ios_27_is_said_to_be_for_simulators(contents, tmp_path):
    plain = contents["BothClasses"]
    new = plain.settings.model_copy(update={"minimum_deployment_target": "iOS27"})
    both = replace(plain, settings=new, earlier=replace(plain.earlier, settings=new))
    sdk.write(both, tmp_path / "sdk")
    readme = (tmp_path / "sdk" / "README.md").read_text()
    assert "run by Core AI, and by Core ML in simulators." in readme and "needs iOS 27 and Xcode 27 or later;" in readme
    assert "Core AI, and Core ML in simulators alone, whose SDK has none." in readme
    assert "Xcode 16" not in readme and "before" not in readme.split("**Processors**")[0]
    described = json.loads((tmp_path / "sdk" / "contract.json").read_text())["contract"]
    assert described["runtime"] == "coreai, coreml in simulators"


def test_readme_says_whose_kernels_ran(contents, tmp_path):
    for module in ("BothClasses", "NewMasks"):
        sdk.write(contents[module], tmp_path / module)
        readme = (tmp_path / module / "README.md").read_text()
        assert "run by Apple's runtime for processors, the Python package coreai-core" in readme
        assert "its kernels are not those of iOS" in readme
        assert ("by twinkeel's own executor" in readme) == (module == "BothClasses")


def test_sources_are_formatted(contents, swift, tmp_path):
    for module in ("BothFeatures", "NewMasks"):
        sdk.write(contents[module], tmp_path / module)
    style = {"version": 1, "lineLength": 120, "indentation": {"spaces": 4}, "indentConditionalCompilationBlocks": False}
    (tmp_path / "style.json").write_text(json.dumps(style))
    sources = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.swift"))
    result = swift(tmp_path, "format", "lint", "--strict", "--configuration", "style.json", *sources)
    assert result.returncode == 0, result.stdout
