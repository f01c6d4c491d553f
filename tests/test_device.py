"""The replay on a Mac: everything but Core ML's own predict call, which a stand-in answers with the executor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from twinkeel.pipeline import cli, device, manifest
from twinkeel.pipeline.errors import DeviceError, VerifyError
from twinkeel.targets.ios import _device, mil_executor

MACHINE = {"system": "macOS 15.1", "machine": "arm64"}
CORE_ML = {
    ("ios/coreml", "fp32"), ("ios/coreml", "fp16"), ("ios/coreml", "int8"), ("ios/coreml", "w8"),
    ("ios/coreml", "w4"), ("ios/executorch_coreml", "fp16"), ("ios/executorch_coreml", "int8"),
}  # fmt: skip


class StandIn:
    """Looks like `coremltools.models.MLModel` on a Mac."""

    asked: list[object] = []  # noqa: RUF012

    def __init__(self, path, compute_units):
        self._model = mil_executor.Model(Path(path))
        self.asked.append(compute_units)

    def get_spec(self):
        return self._model.spec

    def predict(self, given):
        arrays = {key: np.asarray(value) for key, value in given.items()}
        prediction = self._model.predict(arrays)
        return {**prediction.arrays, "classLabel": prediction.label}


@pytest.fixture
def folder(default_build, tmp_path):
    return shutil.copytree(default_build.folders["ios"], tmp_path / "ios")


@pytest.fixture
def on_a_mac(monkeypatch):
    import platform

    import coremltools

    monkeypatch.setattr(coremltools.models, "MLModel", StandIn)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))


def test_on_linux_it_says_what_it_needs(folder, run_cli, monkeypatch):
    import platform

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    result = run_cli("replay", folder)
    assert isinstance(result.exception, DeviceError)
    assert "macOS alone has; this is Linux" in str(result.exception)
    assert f"twinkeel parity {folder}" in str(result.exception)
    assert manifest.verify(folder)


def test_every_core_ml_artifact_is_replayed_on_both_units_and_recorded(folder, run_cli, on_a_mac):
    import coremltools

    StandIn.asked.clear()
    result = run_cli("replay", folder)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    wanted = [coremltools.ComputeUnit[unit] for unit in ("CPU_ONLY", "ALL")] * len(CORE_ML)
    assert StandIn.asked == wanted
    manifest.verify(folder)
    for name in ("parity.json", "manifest.json"):
        rows = json.loads((folder / name).read_text())["artifacts"]
        replayed = {(r["target"], r["precision"]) for r in rows if r["evidence"] == "device"}
        assert replayed == CORE_ML
        for row in rows:
            if row["evidence"] != "device":
                assert row["evidence"] == "runtime" and "device" not in row
                continue
            assert [run["units"] for run in row["device"]] == ["CPU_ONLY", "ALL"]
            assert row["device"][0]["system"] == "macOS 15.1" and row["device"][0]["machine"]
            assert all(check["is_met"] for run in row["device"] for check in run["checks"])
    assert json.loads((folder / "manifest.json").read_text())["is_verified"] is True
    assert not list(folder.glob(".*"))


def test_a_device_that_computes_something_else_fails_and_is_recorded_as_failed(folder):
    def rolled(path, images, unit):
        logits = np.concatenate([cli._targets()["ios/coreml"].load(path).run(image[None]) for image in images])
        return np.roll(logits, 1, axis=1) if unit == "ALL" else logits

    targets = {"ios/coreml": cli._targets()["ios/coreml"]}
    results = device.replay(folder, targets, rolled, MACHINE)
    failed = {name for name, checks in results if not all(check.is_met for check in checks)}
    assert failed == {f"ios/coreml {p} ALL" for p in ("fp32", "fp16", "int8", "w8", "w4")}
    assert all(check.leg == "device" for _, checks in results for check in checks)
    content = json.loads((folder / "manifest.json").read_text())
    assert content["is_verified"] is False
    assert {e["parity"] for e in content["artifacts"] if e["target"] == "ios/coreml"} == {"failed"}
    manifest.verify(folder)


def test_a_predict_call_that_raises_is_a_failed_check_with_its_message(folder):
    def refuses(path, images, unit):
        raise RuntimeError("Error compiling model: specification version 9 is not supported")

    targets = {"ios/coreml": cli._targets()["ios/coreml"]}
    results = device.replay(folder, targets, refuses, MACHINE)
    assert len(results) == 10
    assert all("specification version 9" in str(check) for _, checks in results for check in checks)


def test_a_folder_without_core_ml_has_nothing_to_replay(default_build, tmp_path):
    copy = shutil.copytree(default_build.folders["android"], tmp_path / "android")
    with pytest.raises(VerifyError, match="no Core ML artifact"):
        device.replay(copy, cli._targets(), _device.predict, MACHINE)


def test_every_core_ml_precision_has_a_device_limit():
    for target in cli._targets().values():
        if target.KERNELS == "coreml":
            assert set(target.PRECISIONS) <= set(device.DEVICE_LIMITS)
