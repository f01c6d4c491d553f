"""Finished folders: what they hold, what their artifacts are made of, and what they say when they run again."""

from __future__ import annotations

import json
import shutil
from itertools import combinations

import numpy as np
import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import finished, manifest
from twinkeel.pipeline.errors import VerifyError
from twinkeel.pipeline.parity import comparison
from twinkeel.pipeline.program import Output, missing
from twinkeel.pipeline.report import terminal as report

BOTH = pytest.mark.parametrize("platform", common.PLATFORMS)


def rows(result):
    return {(r.artifact.target.split("/")[1], r.artifact.precision): r for r in result.rows}


@BOTH
def test_every_artifact_is_verified(platform, fixed_build):
    assert report.failures(fixed_build.results[platform]) == []


def test_litert_has_no_layout_or_type_changes_between_layers(fixed_build):
    result = fixed_build.results["android"]
    for (runtime, precision), row in rows(result).items():
        if runtime == "litert":
            found = row.operators
            assert found.get("TRANSPOSE", 0) == 0, found
            # the one pair takes the pixels in
            assert found.get("DEQUANTIZE", 0) == found.get("QUANTIZE", 0) == (precision == "int8"), found


@BOTH
def test_executorch_is_one_delegate_call_and_nothing_else(platform, fixed_build):
    result = fixed_build.results[platform]
    for precision in ("int8", "fp32"):
        operators = rows(result)["executorch", precision].operators
        assert {name: count for name, count in operators.items() if ":" not in name} == {"delegate": 1}
        # ten additions, and one of a first block that has as many channels behind it as before it at this width
        assert operators["xnnpack:DepthwiseConv2d"] == 17 and operators["xnnpack:Add"] == 11


@BOTH
def test_folder_holds_what_the_manifest_says(platform, fixed_build):
    folder, result = fixed_build.folders[platform], fixed_build.results[platform]
    listed = json.loads((folder / "manifest.json").read_text())
    assert manifest.verify(folder) == len(listed["files"])
    assert listed["is_verified"] is True
    assert (listed["input"]["height"], listed["input"]["width"]) == (32, 32)
    assert {a["parity"] for a in listed["artifacts"]} <= {"verified", "open"}
    assert (folder / "labels.txt").read_text().split() == [str(n) for n in range(10)]
    assert len(result.rows) == len(listed["artifacts"])


def test_evidence_says_what_ran(fixed_build):
    for (runtime, _), row in rows(fixed_build.results["ios"]).items():
        assert row.evidence == ("reference executor" if "coreml" in runtime else "runtime")
    assert {row.evidence for row in fixed_build.results["android"].rows} == {"runtime"}


@BOTH
def test_parity_from_files_alone_agrees(platform, fixed_build):
    for name, checks in manifest.replay(fixed_build.folders[platform], common.targets()):
        assert checks, name
        assert all(c.is_met for c in checks), f"{name}: {[str(c) for c in checks]}"


def test_what_computes_with_the_same_kernels_gives_equal_logits(fixed_build):
    """How near runtimes with other kernels come is a limit of each, which the build has judged."""
    targets = common.targets()
    found = finished.compare(list(fixed_build.folders.values()), targets)
    equal = {(a, b): found.equal[i][j] for i, a in enumerate(found.names) for j, b in enumerate(found.names)}
    assert {name for name in found.names if name in targets} == {
        n for n, t in targets.items() if "int8" in t.PRECISIONS and not missing(t)
    }
    for a, b in combinations([name for name in found.names if name in targets], 2):
        if targets[a].KERNELS == targets[b].KERNELS:
            assert equal[a, b] == 1, f"{a} and {b}: {equal[a, b]:.4f}"
    twins = [name for name in found.names if name.endswith("twin")]
    # a synthetic image can have a tie in a layer, which exact arithmetic and that of the kernels may break in different ways
    references = [name for name in found.names if name.startswith(comparison.REFERENCE)]
    nearest = {twin: max(equal[twin, one] for one in references) for twin in twins}
    assert len(twins) == 2 and set(nearest.values()) == {1}, nearest
    assert all(equal[twin, comparison.REFERENCE] >= 0.9 for twin in twins), equal


def test_one_artifact_is_not_compared_with_the_references_alone(fixed_build, tmp_path):
    copy = shutil.copytree(fixed_build.folders["android"], tmp_path / "android")
    listed = json.loads((copy / "manifest.json").read_text())
    listed["artifacts"] = [a for a in listed["artifacts"] if a["target"] == "android/litert"]
    manifest.write(listed, copy / "manifest.json")
    with pytest.raises(VerifyError, match="fewer than two"):
        finished.compare([copy], common.targets())


def test_folders_of_two_builds_are_not_compared(fixed_build, tmp_path):
    copy = shutil.copytree(fixed_build.folders["ios"], tmp_path / "ios")
    listed = json.loads((copy / "manifest.json").read_text())
    manifest.write(
        listed | {"outputs": [one | {"scale": 2 * one["scale"]} for one in listed["outputs"]]}, copy / "manifest.json"
    )
    with pytest.raises(VerifyError, match="different models or images"):
        finished.compare([fixed_build.folders["android"], copy], common.targets())


def test_a_changed_artifact_is_found(fixed_build, tmp_path):
    copy = shutil.copytree(fixed_build.folders["android"], tmp_path / "android")
    path = next((copy / "litert").glob("*-int8.tflite"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VerifyError, match=f"changed: litert/{path.name}"):
        manifest.verify(copy)


@pytest.mark.parametrize("references", ["*", "int8*"])
def test_an_artifact_that_computes_something_else_fails_parity(references, fixed_build, tmp_path):
    copy = shutil.copytree(fixed_build.folders["android"], tmp_path / "android")
    # another model's expectations, sealed again as someone who cheats would
    for expected in (copy / "golden").glob(f"expected-{references}.f32"):
        logits = np.frombuffer(expected.read_bytes(), "<f4").reshape(-1, 10)
        expected.write_bytes(np.roll(logits, 1, axis=1).astype("<f4").tobytes())
    listed = json.loads((copy / "manifest.json").read_text())
    listed["files"] = manifest.hash_files(copy)
    manifest.write(listed, copy / "manifest.json")
    failed = {n for n, checks in manifest.replay(copy, common.targets()) if not all(c.is_met for c in checks)}
    if references == "*":
        assert failed == {f"{entry['target']} {entry['precision']}" for entry in listed["artifacts"]}
    else:  # of those whose arithmetic the reference has to the last bit
        assert failed >= {"android/litert int8", "android/executorch int8"}


@BOTH
def test_a_folder_of_the_manifest_before_is_read(platform, fixed_build, tmp_path):
    """Version 2 had one output, version 1 square inputs of RGB alone."""
    copy = shutil.copytree(fixed_build.folders[platform], tmp_path / platform)
    listed = json.loads((copy / "manifest.json").read_text())
    assert listed["schema_version"] == 3 and listed.pop("tensors") == []
    (output,) = listed.pop("outputs")
    assert (output["name"], output["shape"]) == ("logits", [10])
    listed |= {"schema_version": 2, "output_scale": output["scale"]}
    manifest.write(listed, copy / "manifest.json")
    assert all(check.is_met for _, checks in manifest.replay(copy, common.targets()) for check in checks)
    side = listed["input"].pop("height")
    assert listed["input"].pop("width") == side
    assert listed["input"].pop("model_channels") == "rgb"
    listed |= {"schema_version": 1, "input": {**listed["input"], "resolution": side}}
    manifest.write(listed, copy / "manifest.json")
    assert manifest.verify(copy) == len(listed["files"])
    assert manifest.outputs_of(listed, 10) == (Output(name="logits", shape=(10,), scale=output["scale"]),)
    manifest.write(listed | {"schema_version": 4}, copy / "manifest.json")
    with pytest.raises(VerifyError, match="schema version 4; 1, 2, 3 can be read"):
        manifest.verify(copy)


@BOTH
def test_no_path_of_this_machine_is_in_any_file(platform, fixed_build, fixed_weights):
    folder = fixed_build.folders[platform]
    for path in folder.rglob("*"):
        if path.is_file():
            for text in ("site-packages", str(folder.parent), str(fixed_weights.parent)):
                assert text.encode() not in path.read_bytes(), f"{text} in {path}"
