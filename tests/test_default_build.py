"""The main job on real input: the default build, its limits and what it leaves behind."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from twinkeel.pipeline import cli, manifest, report
from twinkeel.pipeline.errors import VerifyError


def rows(result):
    return {(r.artifact.target.split("/")[1], r.artifact.precision): r for r in result.rows}


def test_every_artifact_is_verified(default_build):
    _, result, _ = default_build
    assert report.failures(result) == []
    assert set(rows(result)) == {
        ("litert", "fp32"), ("litert", "fp16"), ("litert", "int8"), ("executorch", "fp32"),
        ("executorch", "int8"), ("onnx", "fp32"), ("onnx", "int8"),
    }  # fmt: skip


def test_accuracy_is_kept_by_every_artifact(default_build):
    _, result, _ = default_build
    reference = result.reference_accuracy["float"]
    assert reference >= 0.985, f"float accuracy {reference:.4f}"
    for key, row in rows(result).items():
        assert abs(row.accuracy - reference) <= 0.005, f"{key}: {row.accuracy:.4f} against {reference:.4f}"


def test_litert_has_no_layout_or_type_changes_between_layers(default_build):
    _, result, _ = default_build
    for (runtime, precision), row in rows(result).items():
        if runtime == "litert":
            found = row.operators
            assert found.get("TRANSPOSE", 0) == 0, found
            assert found.get("DEQUANTIZE", 0) == 0, found
            # the one QUANTIZE takes the pixels in
            assert found.get("QUANTIZE", 0) == (1 if precision == "int8" else 0), found


def test_executorch_is_one_delegate_call_and_nothing_else(default_build):
    _, result, _ = default_build
    assert rows(result)["executorch", "int8"].operators == {"delegate": 1}
    assert rows(result)["executorch", "fp32"].operators == {"delegate": 1}


def test_folder_holds_what_the_manifest_says(default_build):
    out, result, _ = default_build
    listed = json.loads((out / "android" / "manifest.json").read_text())
    assert manifest.verify(out / "android") == len(listed["files"])
    assert listed["is_verified"] is True
    assert listed["input"]["resolution"] == 32
    assert {a["parity"] for a in listed["artifacts"]} == {"verified"}
    assert (out / "android" / "labels.txt").read_text().split() == [str(n) for n in range(10)]
    assert len(result.rows) == len(listed["artifacts"])


def test_parity_from_files_alone_agrees(default_build):
    out, _, _ = default_build
    for name, checks in manifest.replay(out / "android", cli._targets()):
        assert checks, name
        assert all(c.is_met for c in checks), f"{name}: {[str(c) for c in checks]}"


def test_a_changed_artifact_is_found(default_build, tmp_path):
    out, _, _ = default_build
    copy = shutil.copytree(out / "android", tmp_path / "android")
    path = next((copy / "litert").glob("*-int8.tflite"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VerifyError, match=f"changed: litert/{path.name}"):
        manifest.verify(copy)


def test_an_artifact_that_computes_something_else_fails_parity(default_build, tmp_path):
    out, _, _ = default_build
    copy = shutil.copytree(out / "android", tmp_path / "android")
    # another model's expectations, sealed again as someone who cheats would
    expected = copy / "golden" / "expected-int8.f32"
    logits = np.frombuffer(expected.read_bytes(), "<f4").reshape(-1, 10)
    expected.write_bytes(np.roll(logits, 1, axis=1).astype("<f4").tobytes())
    listed = json.loads((copy / "manifest.json").read_text())
    listed["files"] = manifest.hash_files(copy)
    manifest.write_json(listed, copy / "manifest.json")
    failed = {n for n, checks in manifest.replay(copy, cli._targets()) if not all(c.is_met for c in checks)}
    assert failed == {"android/litert int8", "android/executorch int8", "android/onnx int8"}


def test_no_path_of_this_machine_is_in_any_file(default_build):
    out, _, _ = default_build
    for path in (out / "android").rglob("*"):
        if path.is_file():
            assert b"site-packages" not in path.read_bytes(), path
            assert str(out).encode() not in path.read_bytes(), path
