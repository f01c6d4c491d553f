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


@pytest.fixture
def android(default_build, tmp_path):
    return shutil.copytree(default_build.folders["android"], tmp_path / "android")


def results_of(folder, target="android/litert", precision="int8", units=("CPU",)):
    """What a kit's test on a device would write, from the artifact on this machine."""
    content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
    entry = next(e for e in content["artifacts"] if (e["target"], e["precision"]) == (target, precision))
    run = cli._targets()[target].load(folder / entry["path"]).run
    logits = {n: run(i[None])[0].tolist() for n, i in zip(golden.names, golden.inputs, strict=True)}
    return {
        "schema_version": 1,
        "target": target,
        "precision": precision,
        "artifact_sha256": entry["sha256"],
        "device": {"system": "Android 15", "machine": "Google Pixel 9"},
        "runs": [{"units": unit, "logits": dict(logits)} for unit in units],
    }


def take_in(run_cli, folder, content):
    file = folder.parent / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return run_cli("parity", folder, "--device-results", file)


def test_results_of_a_device_become_evidence(android, run_cli):
    result = take_in(run_cli, android, results_of(android))
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "ok     android/litert int8 CPU: device: equal_logits is 1" in result.output
    manifest.verify(android)
    for name in ("parity.json", "manifest.json"):
        rows = {(r["target"], r["precision"]): r for r in json.loads((android / name).read_text())["artifacts"]}
        row = rows.pop(("android/litert", "int8"))
        assert row["evidence"] == "device" and row["device"][0]["machine"] == "Google Pixel 9"
        assert [check["metric"] for check in row["device"][0]["checks"]]
        assert all(other["evidence"] == "runtime" for other in rows.values())
    assert json.loads((android / "manifest.json").read_text())["is_verified"] is True


def test_core_ml_on_a_device_is_judged_on_each_unit(folder, run_cli):
    result = take_in(run_cli, folder, results_of(folder, "ios/coreml", "int8", ("CPU_ONLY", "ALL")))
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert [line.split(": device")[0] for line in result.output.splitlines()] == [
        "ok     ios/coreml int8 CPU_ONLY",
        "ok     ios/coreml int8 ALL",
    ]


@pytest.mark.parametrize("spoil", ["one logit", "not finite"])
def test_a_device_that_computes_something_else_fails_the_folder(android, run_cli, spoil):
    content = results_of(android)
    first = content["runs"][0]["logits"]["held-out-00"]
    first[0] = None if spoil == "not finite" else first[0] + 1
    result = take_in(run_cli, android, content)
    assert result.exit_code != 0 and "FAILED android/litert int8 CPU: device: max_steps" in result.output
    assert json.loads((android / "manifest.json").read_text())["is_verified"] is False
    manifest.verify(android)


def change(**changes):
    return lambda content: {**content, **changes}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: "{", "holds no device results"),
        (lambda _: "[" * 100_000, "holds no device results"),
        (lambda _: "\0", "holds no device results"),
        (change(artifact_sha256="0" * 64), "is of another android/litert int8"),
        (change(target="android/tvm"), "which this folder does not hold"),
        (change(schema_version=2), "schema version 2"),
        (change(verdict="verified"), "verdict: Extra inputs"),
        (change(runs=[]), "runs: "),
        (change(runs=[{"units": "CPU", "logits": {}}]), "are not the golden ones"),
        (lambda c: {**c, "runs": c["runs"] * 2}, "two runs of CPU"),
        (lambda c: {**c, "runs": [{"units": "CPU", "logits": {k: v[:-1] for k, v in c["runs"][0]["logits"].items()}}]},
         "has 9 logits, the model 10"),
        (lambda c: {**c, "runs": [{"units": "CPU", "logits": {k: ["1"] * 10 for k in c["runs"][0]["logits"]}}]},
         "valid number"),
    ],
)  # fmt: skip
def test_results_that_are_none_change_nothing(android, run_cli, spoil, message):
    before = manifest.hash_files(android)
    result = take_in(run_cli, android, spoil(results_of(android)))
    assert isinstance(result.exception, VerifyError) and message in str(result.exception), repr(result.exception)
    assert len(str(result.exception)) < 1000
    assert manifest.hash_files(android) == before


def test_a_missing_file_of_results_is_named(android, run_cli):
    result = run_cli("parity", android, "--device-results", android / "none.json")
    assert isinstance(result.exception, VerifyError) and "none.json" in str(result.exception)
