"""The main job on real input: the default build, its limits and what it leaves behind."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from twinkeel.pipeline import cli, compare, manifest, report
from twinkeel.pipeline.errors import VerifyError

ANDROID = {
    ("litert", "fp32"), ("litert", "fp16"), ("litert", "int8"), ("executorch", "fp32"), ("executorch", "int8"),
    ("onnx", "fp32"), ("onnx", "int8"),
}  # fmt: skip
IOS = {
    ("coreml", "fp32"), ("coreml", "fp16"), ("coreml", "int8"), ("coreml", "w8"), ("coreml", "w4"),
    ("executorch", "fp32"), ("executorch", "int8"), ("executorch_coreml", "fp16"), ("executorch_coreml", "int8"),
    ("onnx", "fp32"), ("onnx", "int8"),
}  # fmt: skip
BOTH = pytest.mark.parametrize("platform", ["android", "ios"])


def rows(result):
    return {(r.artifact.target.split("/")[1], r.artifact.precision): r for r in result.rows}


@BOTH
def test_every_artifact_is_verified(platform, default_build):
    result = default_build.results[platform]
    assert report.failures(result) == []
    assert set(rows(result)) == (ANDROID if platform == "android" else IOS)


@BOTH
def test_accuracy_is_kept_by_every_artifact(platform, default_build):
    result = default_build.results[platform]
    reference = result.reference_accuracy["float"]
    assert reference >= 0.985, f"float accuracy {reference:.4f}"
    for key, row in rows(result).items():
        if key == ("coreml", "w4"):
            continue  # four bits lose some; the build states how much
        assert abs(row.accuracy - reference) <= 0.005, f"{key}: {row.accuracy:.4f} against {reference:.4f}"


def test_litert_has_no_layout_or_type_changes_between_layers(default_build):
    result = default_build.results["android"]
    for (runtime, precision), row in rows(result).items():
        if runtime == "litert":
            found = row.operators
            assert found.get("TRANSPOSE", 0) == 0, found
            # the one pair takes the pixels in
            assert found.get("DEQUANTIZE", 0) == found.get("QUANTIZE", 0) == (precision == "int8"), found


@BOTH
def test_executorch_is_one_delegate_call_and_nothing_else(platform, default_build):
    result = default_build.results[platform]
    assert rows(result)["executorch", "int8"].operators == {"delegate": 1}
    assert rows(result)["executorch", "fp32"].operators == {"delegate": 1}


@BOTH
def test_folder_holds_what_the_manifest_says(platform, default_build):
    folder, result = default_build.folders[platform], default_build.results[platform]
    listed = json.loads((folder / "manifest.json").read_text())
    assert manifest.verify(folder) == len(listed["files"])
    assert listed["is_verified"] is True
    assert listed["input"]["resolution"] == 32
    assert {a["parity"] for a in listed["artifacts"]} == {"verified"}
    assert (folder / "labels.txt").read_text().split() == [str(n) for n in range(10)]
    assert len(result.rows) == len(listed["artifacts"])


def test_evidence_says_what_ran(default_build):
    for (runtime, _), row in rows(default_build.results["ios"]).items():
        assert row.evidence == ("reference executor" if "coreml" in runtime else "runtime")
    assert {row.evidence for row in default_build.results["android"].rows} == {"runtime"}


@BOTH
def test_parity_from_files_alone_agrees(platform, default_build):
    for name, checks in manifest.replay(default_build.folders[platform], cli._targets()):
        assert checks, name
        assert all(c.is_met for c in checks), f"{name}: {[str(c) for c in checks]}"


def test_all_integer_runtimes_and_the_float32_twins_give_equal_logits(default_build):
    found = compare.compare(list(default_build.folders.values()), cli._targets())
    assert len(found.names) == 12
    # float16 rounds the scales of the two packages that are shipped for the Neural Engine
    exact = [i for i, name in enumerate(found.names) if name not in ("ios/coreml", "ios/executorch_coreml")]
    table = {(found.names[i], found.names[j]): (found.equal[i][j], found.largest[i][j]) for i in exact for j in exact}
    assert all(largest <= 1 and equal >= 0.95 for equal, largest in table.values()), table
    shipped = found.names.index("ios/coreml")
    assert found.equal[shipped][found.names.index("ios/executorch_coreml")] == 1


def test_one_artifact_is_not_compared_with_the_references_alone(default_build, tmp_path):
    copy = shutil.copytree(default_build.folders["android"], tmp_path / "android")
    listed = json.loads((copy / "manifest.json").read_text())
    listed["artifacts"] = [a for a in listed["artifacts"] if a["target"] == "android/litert"]
    manifest.write(listed, copy / "manifest.json")
    with pytest.raises(VerifyError, match="fewer than two"):
        compare.compare([copy], cli._targets())


def test_folders_of_two_builds_are_not_compared(default_build, tmp_path):
    copy = shutil.copytree(default_build.folders["ios"], tmp_path / "ios")
    listed = json.loads((copy / "manifest.json").read_text())
    manifest.write(listed | {"output_scale": listed["output_scale"] * 2}, copy / "manifest.json")
    with pytest.raises(VerifyError, match="different models or images"):
        compare.compare([default_build.folders["android"], copy], cli._targets())


def test_a_changed_artifact_is_found(default_build, tmp_path):
    copy = shutil.copytree(default_build.folders["android"], tmp_path / "android")
    path = next((copy / "litert").glob("*-int8.tflite"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VerifyError, match=f"changed: litert/{path.name}"):
        manifest.verify(copy)


def test_an_artifact_that_computes_something_else_fails_parity(default_build, tmp_path):
    copy = shutil.copytree(default_build.folders["android"], tmp_path / "android")
    # another model's expectations, sealed again as someone who cheats would
    for expected in (copy / "golden").glob("expected-int8*.f32"):
        logits = np.frombuffer(expected.read_bytes(), "<f4").reshape(-1, 10)
        expected.write_bytes(np.roll(logits, 1, axis=1).astype("<f4").tobytes())
    listed = json.loads((copy / "manifest.json").read_text())
    listed["files"] = manifest.hash_files(copy)
    manifest.write(listed, copy / "manifest.json")
    failed = {n for n, checks in manifest.replay(copy, cli._targets()) if not all(c.is_met for c in checks)}
    assert failed == {"android/litert int8", "android/executorch int8", "android/onnx int8"}


@BOTH
def test_no_path_of_this_machine_is_in_any_file(platform, default_build):
    folder = default_build.folders[platform]
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"site-packages" not in path.read_bytes(), path
            assert str(folder.parent).encode() not in path.read_bytes(), path
