"""Which artifact a kit ships, what its templates read, and which names are refused."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from twinkeel.pipeline.building import order
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config, Ios, load
from twinkeel.pipeline.data.pixels import model_input
from twinkeel.pipeline.delivery import folder as folder_module
from twinkeel.pipeline.delivery import manifest, sdk
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.tasks.classification.ranking import softmax, top
from twinkeel.targets._sdk import camel_case, constant_case, identifiers, one_line


def choice(platform, text, tmp_path):
    """(pair, lines) for a configuration."""
    (tmp_path / "twinkeel.toml").write_text(text)
    config, lines = load(tmp_path / "twinkeel.toml"), []
    pairs = order.plan(config, common.targets(), platform)
    return sdk.chosen(config, platform, common.kits()[platform], pairs, lambda line, *_: lines.append(line)), lines


def test_the_first_runtime_of_each_platform_is_the_default(tmp_path):
    assert choice("android", "", tmp_path) == (("android/litert", "int8"), [])
    assert choice("ios", "", tmp_path) == (("ios/coreml", "int8"), [])


def test_the_other_runtime_and_none_can_be_chosen(tmp_path):
    assert choice("android", '[android]\nsdk = "executorch"\nsdk_precision = "fp32"\n', tmp_path) == (
        ("android/executorch", "fp32"),
        [],
    )
    assert choice("ios", '[ios]\nsdk = "none"\n', tmp_path) == (None, [])


def test_other_artifacts_alone_are_built_without_a_kit_and_it_is_said(tmp_path):
    found, lines = choice("android", '[targets]\n"android/onnx" = ["int8"]\n', tmp_path)
    assert found is None
    assert lines == ["sdk: none for android: android/litert int8 is not among [targets]; [android] sdk chooses another"]


@pytest.mark.parametrize(
    "text",
    ['[android]\nsdk_precision = "int8"\n[targets]\n"android/onnx" = ["int8"]\n',
     '[android]\nsdk = "executorch"\nsdk_precision = "fp16"\n'],
)  # fmt: skip
def test_a_kit_that_is_asked_for_needs_its_artifact(text, tmp_path):
    with pytest.raises(ConfigError, match=r"which is not built; what is: android/"):
        choice("android", text, tmp_path)


CORE_AI, CORE_ML = "ios/coreai", "ios/coreml"


def core_ai(built, targets=(), **ios):
    """What is chosen of artifacts (target, precision) where Core AI's kit is asked for."""
    config = Config.model_validate({"ios": {"sdk": "coreai", **ios}, "targets": dict(targets)})
    wanted = [(SimpleNamespace(NAME=target), precision) for target, precision in built]
    return sdk.chosen(config, "ios", common.kits()["ios"], wanted, lambda *_: None)


def test_core_ai_takes_core_ml_of_its_precision_along():
    new = Ios(minimum_deployment_target="iOS27")
    for precision in ("fp32", "fp16", "int8"):
        pair, other = (CORE_AI, precision), (CORE_ML, precision)
        assert core_ai([pair, other], sdk_precision=precision) == pair
        assert sdk.earlier(Ios(), pair, [pair, other]) == sdk.earlier(new, pair, [pair, other]) == other
        assert core_ai([pair], sdk_precision=precision, minimum_deployment_target="iOS27") == pair
        assert sdk.earlier(new, pair, [pair]) is None and sdk.earlier(Ios(), pair, [pair]) == other
        assert sdk.earlier(Ios(), other, [pair, other]) is None


def test_the_kit_and_the_target_know_the_same_ios():
    from twinkeel.targets.ios import coreai

    assert sdk.SINCE == coreai.SINCE and coreai.NAME == CORE_AI


@pytest.mark.parametrize(
    ("built", "targets", "ios", "words"),
    [
        (
            [(CORE_AI, "int8"), (CORE_ML, "fp16")],
            {},
            {"minimum_deployment_target": "iOS17"},
            r"has nothing for iOS 17 to 26: ios/coreml int8, which .* is not built; what is: ios/coreai int8, ios/coreml fp16. "
            r"Add it, \[targets\] \"ios/coreml\" = \['int8'\], or set ios.minimum_deployment_target = 'iOS27'",
        ),
        (
            [(CORE_ML, "int8")],
            {},
            {},
            r"ios/coreai int8, which is not built; what is: ios/coreml int8. Its packages are not installed: "
            r"pip install 'twinkeel\[coreai\]'; or set ios.sdk",
        ),
        (
            [(CORE_ML, "int8")],
            {CORE_ML: ["int8"]},
            {},
            r"ios/coreai int8, which is not built; what is: ios/coreml int8. Set ios.sdk",
        ),
        (
            [(CORE_AI, "int8"), (CORE_ML, "w8")],
            {},
            {"sdk_precision": "w8"},
            r"ios/coreai w8, which is not built; what is: ios/coreai int8, ios/coreml w8. Set ios.sdk",
        ),
    ],
    ids=["without Core ML", "without the extra", "without the target", "of a precision that is not made"],
)
def test_a_kit_of_core_ai_that_cannot_be_is_one_error(built, targets, ios, words):
    with pytest.raises(ConfigError, match=words):
        core_ai(built, targets, **ios)


@pytest.mark.parametrize("state", ["failed", "absent"])
def test_no_kit_of_core_ai_goes_without_what_older_systems_run(state, tmp_path):
    entries = [{"target": CORE_AI, "precision": "int8", "parity": "verified"}]
    entries += [{"target": CORE_ML, "precision": "int8", "parity": state}] if state == "failed" else []
    lines = []
    kit = SimpleNamespace(write=None)
    folder_module._write_kit(Config(), {"artifacts": entries}, None, tmp_path, (CORE_AI, "int8"), kit, lines.append)
    assert lines == ["sdk: none, since ios/coreml int8 is not verified"]


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("android", "package", "classifier", "two or more names"),
        ("android", "package", "com.example.int", "'int' is a word of Java"),
        ("android", "package", 'com.example";evil', "two or more names"),
        ("android", "package", "kotlin.classifier", "packages below 'kotlin'"),
        ("android", "min_sdk", 21, "greater than or equal to 24"),
        ("ios", "module", "class", "'class' is a word of Swift"),
        ("ios", "module", "CoreML", "or a type that the package has itself"),
        ("ios", "module", "1st", "start with a letter"),
        ("ios", "module", "a.b", "letters, digits or _"),
    ],
)
def test_names_that_code_cannot_bear_are_refused(section, key, value, message, tmp_path):
    (tmp_path / "twinkeel.toml").write_text(f"[{section}]\n{key} = {json.dumps(value)}\n")
    with pytest.raises(ConfigError, match=f":2: {section}.{key}: .*{message}"):
        load(tmp_path / "twinkeel.toml")


def test_vectors_hold_every_orientation_and_what_becomes_of_them():
    cases = sdk.pixel_cases(64, 48)
    assert {case.orientation for case in cases} == set(range(1, 9))
    assert any((case.source[..., 3] < 255).any() for case in cases)
    for case in cases:
        assert np.array_equal(case.expected, model_input(case.source, case.orientation, 64, 48))


def test_categories_are_ordered_by_logit_and_equal_ones_by_class():
    logits = np.array([0.5, 2.0, 2.0, -1.0], np.float32)
    ranked = top(logits, 3)
    assert [index for index, _ in ranked] == [1, 2, 0]
    assert [probability for _, probability in ranked] == [softmax(logits)[index] for index in (1, 2, 0)]


def test_comments_cannot_be_left():
    assert one_line("a\n */ evil() /* \u202eb\0") == "a * / evil() / * b"


def test_names_are_spelled_as_the_languages_do():
    names = ("heat_map", "HeatMap", "p3", "stage_3_4", "RGB", "aBC", "trailing_")
    assert [camel_case(name) for name in names] == ["heatMap", "heatMap", "p3", "stage34", "rgb", "aBc", "trailing"]
    assert [constant_case(name) for name in names] == [
        "HEAT_MAP", "HEAT_MAP", "P3", "STAGE_3_4", "RGB", "A_BC", "TRAILING",
    ]  # fmt: skip


def test_no_two_tensors_have_one_identifier():
    names = ("in", "heat_map", "heatMap", "HeatMap", "HEAT_MAP", "heat_map_output", "in_output")
    found = identifiers(names, camel_case, {"in"}, "output")
    assert list(found) == list(names)
    assert len(set(found.values())) == len(names) and "in" not in found.values()
    assert (found["in"], found["heat_map"], found["heatMap"]) == ("inOutput", "heatMap", "heatMapOutput")


def test_tensors_of_a_kit_are_those_of_the_manifest(fixed_build):
    folder = fixed_build.folders["android"]
    content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
    pair = ("android/litert", "int8")
    plain = sdk.contents(Config(), content, golden, folder, pair)
    width = golden.expected["fp32"].shape[1]
    assert plain.task == "classification" and plain.inputs == () and len(plain.categories) == len(golden.names)
    assert [(output.size, output.scale) for output in plain.outputs] == [(width, content["outputs"][0]["scale"])]
    told = {
        "task": "features",
        "labels": [],
        "outputs": [
            {"name": "vector", "shape": [width - 4], "scale": 0.5},
            {"name": "map", "shape": [1, 2, 2], "scale": 0.25},
        ],
        "tensors": [{"name": "pose", "shape": [2, 3], "low": -1.0, "high": 1.0}],
    }
    features = sdk.contents(Config(), {**content, **told}, golden, folder, pair)
    assert features.categories == () and features.labels == ()
    assert [(o.name, o.shape, o.size, o.scale) for o in features.outputs] == [
        ("vector", (width - 4,), width - 4, 0.5),
        ("map", (1, 2, 2), 4, 0.25),
    ]
    (pose,) = features.inputs
    assert (pose.name, pose.shape, pose.low, pose.high) == ("pose", (2, 3), -1.0, 1.0)


def test_a_build_has_kits_that_its_manifest_knows(fixed_build):
    for platform, name in (("android", "mobilenet_v2-int8.tflite"), ("ios", "mobilenet_v2-int8.mlpackage")):
        folder = fixed_build.folders[platform]
        files = manifest.read_manifest(folder)["files"]
        assert any(file.startswith("sdk/") and name in file for file in files), list(files)
        assert "sdk/README.md" in files
        assert f"sdk: {'android/litert' if platform == 'android' else 'ios/coreml'} int8" in fixed_build.messages


@pytest.mark.parametrize(("platform", "pair"), [("android", "litert"), ("ios", "coreml")])
def test_a_kit_tells_what_is_open_and_what_there_is_to_say_against_the_float_model(
    platform, pair, fixed_build, tmp_path
):
    folder = shutil.copytree(fixed_build.folders[platform], tmp_path / platform, ignore=shutil.ignore_patterns("sdk"))
    content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
    content["doubts"] = ["accepted (a reason): the float model answers 3 of 8"]
    for entry in content["artifacts"]:
        entry["parity"] = "open"
    pair = (f"{platform}/{pair}", "int8")
    folder_module._write_kit(Config(), content, golden, folder, pair, common.kits()[platform], lambda _: None)
    told = (folder / "sdk/README.md").read_text()
    assert "When it was built, the artifact was verified as far as the images of its build can tell" in told
    assert "Of the float model itself: accepted (a reason): the float model answers 3 of 8" in told
    (agreement,) = [c for c in content["program_checks"] if c["metric"] == "agreement"]
    assert f"agreement >= 0.9 holds: {agreement['counts']['lost']} lost" in told, told


def test_an_artifact_that_is_not_verified_gets_no_kit(fixed_build, tmp_path):
    folder = fixed_build.folders["android"]
    content, golden, lines = manifest.read_manifest(folder), manifest.read_golden(folder / "golden"), []
    for entry in content["artifacts"]:
        entry["parity"] = "failed"
    pair = ("android/litert", "int8")
    folder_module._write_kit(Config(), content, golden, tmp_path, pair, common.kits()["android"], lines.append)
    assert lines == ["sdk: none, since android/litert int8 is not verified"]
    assert not list(tmp_path.iterdir())
