"""The Android kit: compiled against stubs, its own tests run on the JVM, and the same bytes as the reference."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import camera_frames
import numpy as np
import pytest
import readmes

HARNESS = Path(__file__).parent / "harness" / "android"
PACKAGE = "com.example.classifier"  # of the harness

ANDROID, TOOLS = (f"http://schemas.android.com/{what}" for what in ("apk/res/android", "tools"))

BACKENDS = {
    "litert-int8": {},
    "litert-fp32": {"sdk_precision": "fp32"},
    "executorch-int8": {"sdk": "executorch"},
}
OBLONG = "oblong-litert-int8"
"""The first of these for an input that is neither square nor even."""
HOSTILE = (
    'double "quotes"',
    "a single ' quote",
    '"""',
    '""")\nfun injected() = Unit //',
    "$dollar and ${template} and ${'$'}",
    "ends in a dollar $",
    "back\\slash \\u0041 \\n \\",
    "two\nlines\r\nand a return\r",
    "tab\tbell\a vertical\v",
    "null \0 character",
    "family 👩‍👩‍👧‍👦 of joiners",
    "right \u202eto left\u202c, isolates \u2066\u2069",
    "line \u2028 and paragraph \u2029 separators",
    "byte order mark \ufeff, soft hyphen \u00ad",
    "a lone surrogate \ud800",
    "*/ end of a comment /* and another",
    "`in` {{ braces }} {% statement %} {# comment #}",
    "<tag attribute='&amp;'>",
    "",
    "long " * 20_000,
    "Ж 漢字 العربية e\u0301",
    "fun",
)


@dataclasses.dataclass(frozen=True)
class Built:
    contents: object
    kit: Path
    library: Path
    tests: Path

    @property
    def module(self):
        return self.kit / "classifier"

    @property
    def classpath(self):
        return [self.library, self.tests, self.module / "src" / "golden"]


@pytest.fixture(scope="module")
def build(kotlin, kit_contents, oblong_contents, tmp_path_factory):
    """A backend's kit with its library, its tests and the harness compiled, made once."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            contents = oblong_contents("android") if name == OBLONG else kit_contents("android", android=BACKENDS[name])
            built = Built(contents, folder / "kit", folder / "library", folder / "tests")
            write(contents, built.kit)
            kotlin.check(kotlin.library(built.kit, built.library))
            harnesses = [*HARNESS.glob("*.kt"), *(HARNESS / contents.runtime).glob("*.kt")]
            kotlin.check(kotlin.tests(built.kit, built.library, built.tests, *sorted(harnesses)))
            made[name] = built
        return made[name]

    return make


def write(contents, out):
    from twinkeel.targets.android import sdk

    sdk.write(contents, out)


def steps_of(contents):
    """Scale and zero point of each output in int8, None of the others."""
    from twinkeel.targets.android.sdk._tflite import output_steps

    count = len(contents.outputs)
    return output_steps(contents.artifact, count) if contents.runtime == "litert" else [None] * count


def with_labels(contents, labels):
    """The contents of a model with other classes: the logits are repeated."""
    from twinkeel.pipeline.tasks.classification.ranking import top

    repeats = -(-len(labels) // len(contents.labels))
    expected = {
        key: np.tile(logits, (1, repeats))[:, : len(labels)] for key, logits in contents.golden.expected.items()
    }
    return dataclasses.replace(
        contents,
        labels=tuple(labels),
        outputs=(dataclasses.replace(contents.outputs[0], shape=(len(labels),)),),
        golden=dataclasses.replace(contents.golden, expected=expected),
        categories=tuple(tuple(top(logits, 5)) for logits in expected[contents.reference]),
    )


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [*BACKENDS, OBLONG])
def test_kit_passes_its_own_tests(name, kotlin, build):
    built = build(name)
    classes = [f"{PACKAGE}.{test}" for test in ("PixelsTest", "CameraFrameTest", "RankingTest")]
    count = kotlin.passed(built.classpath, "fakes.TestRunner", *classes)
    print(f"{name}: compiled without warnings, {count} tests run on the JVM")
    assert count == 14


def test_sample_compiles_and_is_the_same_for_all(kotlin, build, tmp_path):
    built = build("litert-int8")
    kotlin.check(kotlin.sample(built.kit, built.library, tmp_path))
    manifest = "src/main/AndroidManifest.xml"  # of a runtime that asks for permissions
    for name in BACKENDS:
        one, other = files(build(name).kit / "sample"), files(built.kit / "sample")
        assert {path: one[path] for path in one if path != manifest} == {
            path: other[path] for path in other if path != manifest
        }


def test_readme_classifies_in_five_lines(build):
    built = build("litert-int8")
    code = re.findall(r"```kotlin\n(.*?)```", (built.kit / "README.md").read_text(), re.DOTALL)[0]
    imported, lines = code.split("\n\n")
    assert len(lines.strip().splitlines()) == 5
    assert imported == f"import {PACKAGE}.Classifier"


def test_code_of_readmes_and_of_the_documentation_compiles(kotlin, build, tmp_path):
    for name in ("litert-int8", "executorch-int8"):
        built, cameras = build(name), readmes.section("Cameras")
        for place, code in (("kit", (built.kit / "README.md").read_text()), ("docs", cameras)):
            source = tmp_path / f"{name}-{place}.kt"
            source.write_text(readmes.kotlin(code, PACKAGE, "Classifier", within=f"readme.{place}"))
            assert len(readmes.blocks(code, "kotlin")) >= (3 if place == "kit" else 1)
        out, sources = tmp_path / name, [tmp_path / f"{name}-{place}.kt" for place in ("kit", "docs")]
        kotlin.check(kotlin.compile(out, sources, [kotlin.stubs, built.library]))


@pytest.mark.parametrize("name", [*BACKENDS, OBLONG])
def test_classifier_hands_the_references_bytes_to_the_runtime(name, kotlin, build, tmp_path):
    built = build(name)
    (steps,) = steps_of(built.contents)
    output = "int8" if steps else "float32"
    engines = [f"{PACKAGE}.Engines"] if built.contents.runtime == "litert" else []
    count = kotlin.passed(
        built.classpath,
        "fakes.TestRunner",
        f"{PACKAGE}.EndToEnd",
        f"{PACKAGE}.FramesEndToEnd",
        *engines,
        assets=built.module / "src" / "main" / "assets",
        files=tmp_path / "files",
        output=output,
        **({"steps": "{} {}".format(*steps)} if steps else {}),
    )
    print(f"{name}: {count} tests of the classifier run with a runtime that is a stub")


@pytest.mark.parametrize("level", [24, 32])
def test_classifier_runs_on_the_lowest_levels(level, kotlin, build, tmp_path):
    """24 knows no profiles of colours, 32 not what a camera's image says of its own; what came later fails there."""
    built = build("litert-fp32")
    count = kotlin.passed(
        built.classpath,
        "fakes.TestRunner",
        *(f"{PACKAGE}.{test}" for test in ("EndToEnd", "FramesEndToEnd", "Engines")),
        assets=built.module / "src" / "main" / "assets",
        files=tmp_path / "files",
        output="float32",
        sdk=level,
    )
    print(f"API level {level}: {count} tests of the classifier run")


@pytest.mark.parametrize("name", [*BACKENDS, OBLONG])
def test_device_test_writes_results_that_parity_reads(name, kotlin, build, tmp_path):
    from twinkeel.pipeline.delivery import device

    built = build(name)
    contents = built.contents
    (steps,) = steps_of(contents)
    assert kotlin.passed(built.classpath, f"{PACKAGE}.DeviceKt", built.module, tmp_path, *(steps or ())) == 3
    results = device.read_results(tmp_path / "device-results.json")
    assert (results.target, results.precision) == (contents.target, contents.precision)
    assert results.artifact_sha256 == contents.sha256
    run, *others = results.runs
    assert (run.asked, run.ran, run.fell_back, run.ms.runs) == ("CPU", ["CPU"], False, 50)
    assert [(other.asked, other.ran) for other in others] == [("GPU", []), ("NPU", [])] * (contents.runtime == "litert")
    assert all("LiteRT finds no such accelerator, but CPU" in other.reason for other in others)
    logits = np.array([run.outputs[image] for image in contents.golden.names], np.float32)
    np.testing.assert_allclose(logits, contents.golden.expected[contents.reference], rtol=0, atol=1e-5)


def test_device_test_tells_which_accelerators_ran(kotlin, build, tmp_path):
    """A GPU that takes the model and computes something else; an NPU that takes a part of it, or all: that is not told."""
    from twinkeel.pipeline.delivery import device

    built = build("litert-fp32")
    assert kotlin.passed(built.classpath, f"{PACKAGE}.DeviceKt", built.module, tmp_path, "accelerators") == 3
    cpu, gpu, npu = device.read_results(tmp_path / "device-results.json").runs
    assert (gpu.asked, gpu.ran, gpu.fell_back) == ("GPU", ["GPU"], False) and gpu.outputs.keys() == cpu.outputs.keys()
    assert (npu.asked, npu.ran, npu.fell_back) == ("NPU", ["CPU", "NPU"], True) and "does not tell" in npu.reason


def test_device_test_fails_on_other_logits(kotlin, build, tmp_path):
    built = build("litert-int8")
    ((scale, zero_point),) = steps_of(built.contents)
    with pytest.raises(AssertionError, match="equal_logits is 0"):
        kotlin.run(built.classpath, f"{PACKAGE}.DeviceKt", built.module, tmp_path, 2 * scale, zero_point)


@pytest.mark.parametrize(
    ("name", "file", "right", "wrong"),
    [
        ("litert-int8", "CompiledLiteRtModel.kt", "createOutputBuffers(", "createOutputBuffer5("),
        ("executorch-int8", "ExecuTorchModel.kt", "module.forward(", "module.forwards("),
        ("litert-fp32", "BitmapInput.kt", "getPixels(", "getPixel5("),
    ],
)
def test_wrong_method_name_is_caught(name, file, right, wrong, kotlin, build, tmp_path):
    kit = shutil.copytree(build(name).kit, tmp_path / "kit")
    (path,) = (kit / "classifier" / "src" / "main").rglob(file)
    text = path.read_text("utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), "utf-8")
    finished = kotlin.library(kit, tmp_path / "out")
    assert finished.returncode != 0
    assert f"unresolved reference '{wrong.split('.')[-1].rstrip('(')}'" in finished.stderr


def test_hostile_names_stay_as_they_are(kotlin, kit_contents, tmp_path):
    everything = "".join(text for text in HOSTILE if "\ud800" not in text)[:900]
    contents = with_labels(
        kit_contents(
            "android",
            android={"package": "com.example.in.fun.when"},
            project={
                "version": everything[:100],
                "author": everything,
                "license": everything,
                "description": everything,
            },
        ),
        HOSTILE,
    )
    kit, library, tests = tmp_path / "kit", tmp_path / "library", tmp_path / "tests"
    write(contents, kit)
    assert no_errors(kit) >= 15
    kotlin.check(kotlin.library(kit, library))
    printer = tmp_path / "Printer.kt"
    lines = ["package com.example.`in`.`fun`.`when`", "fun main() = Classifier.labels.forEach { label ->"]
    printer.write_text(
        "\n".join([*lines, '    println(label.map { "%04x".format(it.code) }.joinToString(""))', "}", ""])
    )
    kotlin.check(kotlin.tests(kit, library, tests, printer))
    kotlin.check(kotlin.sample(kit, library, tmp_path / "sample"))
    classpath = [library, tests, kit / "classifier" / "src" / "golden"]
    printed = kotlin.run(classpath, "com.example.in.fun.when.PrinterKt").splitlines()
    assert [bytes.fromhex(line).decode("utf-16-be", "surrogatepass") for line in printed] == list(HOSTILE)
    assert kotlin.passed(classpath, "fakes.TestRunner", "com.example.in.fun.when.RankingTest") == 5


def no_errors(kit):
    """Parse every Kotlin file and Gradle script of a kit; how many there were."""
    parsed = {path: parse(path.read_bytes()) for path in kit.rglob("*") if path.suffix in (".kt", ".kts")}
    assert not [str(path) for path, tree in parsed.items() if tree.root_node.has_error]
    return len(parsed)


def parse(source):
    load = importlib.import_module if os.environ.get("CI") else pytest.importorskip
    tree_sitter, grammar = load("tree_sitter"), load("tree_sitter_kotlin")
    return tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(source)


def test_unescaped_quote_in_a_gradle_script_is_caught(kit_contents, tmp_path):
    write(kit_contents("android", project={"author": 'one " quote'}), tmp_path / "kit")
    script = (tmp_path / "kit" / "classifier" / "build.gradle.kts").read_bytes()
    assert not parse(script).root_node.has_error
    assert parse(script.replace(b'one \\" quote', b'one " quote')).root_node.has_error


def test_many_labels_compile(kotlin, kit_contents, tmp_path):
    labels = [f"class number {number} of a great many" for number in range(25_000)]
    contents = with_labels(kit_contents("android"), labels)
    kit, library, tests = tmp_path / "kit", tmp_path / "library", tmp_path / "tests"
    write(contents, kit)
    kotlin.check(kotlin.library(kit, library))
    kotlin.check(kotlin.tests(kit, library, tests))
    classpath = [library, tests, kit / "classifier" / "src" / "golden"]
    assert kotlin.passed(classpath, "fakes.TestRunner", f"{PACKAGE}.RankingTest") == 5


def test_kits_tests_find_another_rounding(kotlin, build, tmp_path):
    built = build("litert-int8")
    kit = shutil.copytree(built.kit, tmp_path / "kit")
    (path,) = (kit / "classifier" / "src" / "main").rglob("Pixels.kt")
    text = path.read_text("utf-8")
    assert "+ total) / (2 * total)" in text
    path.write_text(text.replace("+ total) / (2 * total)", ") / (2 * total)"), "utf-8")
    kotlin.check(kotlin.library(kit, tmp_path / "library"))
    classpath = [tmp_path / "library", *built.classpath[1:]]
    with pytest.raises(AssertionError, match="imagesOfAnyShapeBecomeTheReferencesBytes"):
        kotlin.run(classpath, "fakes.TestRunner", f"{PACKAGE}.PixelsTest")


def test_kits_tests_find_a_wrong_byte_of_a_frame(kotlin, build, tmp_path):
    built = build("litert-int8")
    golden = shutil.copytree(built.module / "src" / "golden", tmp_path / "golden")
    expected = golden / "frames" / "odd.expected.rgba"
    content = bytearray(expected.read_bytes())
    content[5] ^= 1
    expected.write_bytes(content)
    with pytest.raises(AssertionError, match="framesOfAnyLayoutBecomeTheReferencesBytes") as caught:
        kotlin.run([*built.classpath[:-1], golden], "fakes.TestRunner", f"{PACKAGE}.CameraFrameTest")
    assert "4 tests run, 1 failed" in str(caught.value)


def test_60_frames_of_cameras_become_the_same_bytes(kotlin, build, tmp_path):
    (tmp_path / "cases.txt").write_text(camera_frames.case_list())
    kotlin.run(build("litert-int8").classpath, f"{PACKAGE}.CameraFramesKt", tmp_path / "cases.txt", tmp_path / "inputs")
    found = camera_frames.differences(tmp_path / "inputs")
    print(f"{camera_frames.COUNT - len(found)} of {camera_frames.COUNT} frames equal in Kotlin")
    assert not found


def test_400_images_become_the_same_bytes(kotlin, build, resizing, tmp_path):
    (tmp_path / "cases.txt").write_text(resizing.case_list())
    kotlin.run(build("litert-int8").classpath, f"{PACKAGE}.ResizingKt", tmp_path / "cases.txt", tmp_path / "inputs")
    found = resizing.differences(tmp_path / "inputs")
    size = (tmp_path / "inputs").stat().st_size
    print(f"{len(resizing.cases()) - len(found)} of {len(resizing.cases())} images equal in Kotlin, {size:,} bytes")
    assert not found


def test_two_kits_are_the_same_bytes(kit_contents, tmp_path):
    for name in BACKENDS:
        write(kit_contents("android", android=BACKENDS[name]), tmp_path / name / "one")
        write(kit_contents("android", android=BACKENDS[name]), tmp_path / name / "two")
        assert files(tmp_path / name / "one") == files(tmp_path / name / "two")


def test_kits_of_two_models_differ_in_the_model_alone(kit_contents, tmp_path):
    first = kit_contents("android")
    artifact = tmp_path / "other-int8.tflite"
    artifact.write_bytes(first.artifact.read_bytes() + b"other")
    second = dataclasses.replace(
        with_labels(first, [f"class {number}" for number in range(12)]),
        project=first.project.model_copy(update={"name": "other", "version": "2"}),
        artifact=artifact,
        sha256="0" * 64,
        outputs=(dataclasses.replace(first.outputs[0], shape=(12,), scale=0.5),),
    )
    write(first, tmp_path / "first")
    write(second, tmp_path / "second")
    one, two = files(tmp_path / "first"), files(tmp_path / "second")
    apart = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    print("\n".join(apart))
    source = "classifier/src/{}/kotlin/com/example/classifier/{}.kt"
    assert apart == sorted(
        [
            "README.md",
            "contract.json",
            "settings.gradle.kts",
            "sample/src/main/AndroidManifest.xml",
            "classifier/build.gradle.kts",
            *(source.format("main", name) for name in ("Labels", "ModelInfo")),
            source.format("sharedTest", "Vectors"),
            *(f"classifier/src/main/assets/{PACKAGE}/{path.name}" for path in (first.artifact, artifact)),
            *(f"classifier/src/golden/golden/{key}.f32" for key in ("fp32", "int8", "int8-xnnpack")),
        ]
    )


@pytest.mark.parametrize("name", BACKENDS)
def test_kit_holds_the_chosen_runtime_alone(name, kit_contents, tmp_path):
    write(kit_contents("android", android=BACKENDS[name]), tmp_path / "kit")
    text = b"".join(content for path, content in files(tmp_path / "kit").items() if "/assets/" not in path).lower()
    other = b"litert" if name.startswith("executorch") else b"executorch"
    assert other not in text


def test_kit_of_an_oblong_input_says_its_size(oblong_contents, tmp_path):
    write(oblong_contents("android"), tmp_path / "kit")
    source = (tmp_path / "kit/classifier/src/main/kotlin/com/example/classifier/ModelInfo.kt").read_text()
    assert "const val HEIGHT: Int = 45" in source and "const val WIDTH: Int = 31" in source
    readme = (tmp_path / "kit/README.md").read_text()
    assert (
        "takes the whole image and resizes that to fit 31 x 45 on black" in readme
        and "`(1, 45, 31, 4)`" in readme
        and "square" not in readme
    )


def test_kits_ask_for_the_runtimes_that_ran_their_artifacts():
    from twinkeel.pipeline import verified
    from twinkeel.targets.android.sdk.runtimes import RUNTIMES

    for runtime in RUNTIMES.values():
        assert verified.REQUIRED[runtime.package] == f"=={runtime.version}"


@pytest.mark.parametrize("runtime", ["litert", "executorch"])
def test_no_permission_of_a_runtime_reaches_the_app(runtime, feature_contents, tmp_path):
    write(feature_contents("android", runtime, "int8", package=PACKAGE), tmp_path / "kit")
    removed = []
    for module in ("extractor", "sample"):
        manifest = ElementTree.parse(tmp_path / "kit" / module / "src" / "main" / "AndroidManifest.xml").getroot()
        asked = {
            one.get(f"{{{ANDROID}}}name"): one.get(f"{{{TOOLS}}}node") for one in manifest.findall("uses-permission")
        }
        kept = {name for name, node in asked.items() if node != "remove"}
        assert kept <= ({"android.permission.CAMERA"} if module == "sample" else set())
        removed.append(asked.keys() - kept)
    names = {f"android.permission.FOREGROUND_SERVICE{more}" for more in ("", "_DATA_SYNC")}
    assert removed == [names if runtime == "litert" else set()] * 2


def test_kits_are_published_under_a_semantic_version(feature_contents, tmp_path):
    contents = feature_contents("android", "litert", "int8", package=PACKAGE)
    write(contents, tmp_path / "kit")
    kept = json.loads((tmp_path / "kit" / "contract.json").read_text())
    assert re.fullmatch(r"1\.0\.0\+[0-9a-f]{8}", contents.version) and kept["version"] == contents.version
    assert kept["contract"]["outputs"] == "embedding [6], heat_map [2, 3, 4]"
    script = (tmp_path / "kit" / "extractor" / "build.gradle.kts").read_text()
    assert f'version = "{contents.version}"' in script
    readme = (tmp_path / "kit" / "README.md").read_text()
    # the module is taken into another project as it is: nothing in it is the catalogue's of this one
    assert "libs." not in script and f'archivesName = "{PACKAGE}"' in script
    assert (
        f'implementation("{PACKAGE}:toy:{contents.version}")' in readme
        and "`com.google.ai.edge.litert:litert:2.3.0`" in readme
    )


def test_a_file_without_the_models_outputs_is_refused(feature_contents, tmp_path):
    from twinkeel.pipeline.errors import ConversionError

    contents = feature_contents("android", "litert", "int8", package=PACKAGE)
    with pytest.raises(ConversionError, match=r"has 2 outputs of types .*; 1 of float32 or int8"):
        write(dataclasses.replace(contents, outputs=contents.outputs[:1]), tmp_path / "kit")
    contents.artifact.write_text("no model")
    with pytest.raises(ConversionError, match="no readable LiteRT file"):
        write(contents, tmp_path / "other")


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_compiled_models_compute_what_the_interpreter_does(precision, kit_contents):
    """The kit's default engine is not the one that judged the artifact, but for these very files it gives the same values."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.interpreter import Interpreter

    contents = kit_contents("android", android={"sdk_precision": precision})
    interpreter = Interpreter(str(contents.artifact), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    compiled = CompiledModel.from_file(str(contents.artifact))
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    for image in contents.golden.inputs:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        expected = interpreter.get_tensor(output["index"]).reshape(-1)
        inputs[0].write(image.reshape(-1).view(np.int8))  # bytes as the kit writes them
        compiled.run_by_index(0, inputs, outputs)
        np.testing.assert_array_equal(outputs[0].read(expected.size, output["dtype"]), expected)
    (steps,) = steps_of(contents)
    scale, zero_point = output["quantization"]
    assert steps == ((pytest.approx(scale), zero_point) if precision == "int8" else None)
