"""`twinkeel device ios`: one error where Core ML is not, and Core ML's stand-in timed on each unit where it is."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from twinkeel.pipeline.delivery import evidence, manifest
from twinkeel.pipeline.devices import apple
from twinkeel.pipeline.errors import DeviceError
from twinkeel.targets.runtimes import coreml

A_MAC = """
import platform
platform.system = lambda: "Darwin"
platform.machine = lambda: "arm64"
"""
CORE_ML = '''
"""Looks like coremltools on a Mac: packages say how each unit does."""
import enum, json, pathlib, sys, time, types
import numpy

ComputeUnit = enum.Enum("ComputeUnit", "CPU_ONLY CPU_AND_GPU CPU_AND_NE ALL")
Named = types.SimpleNamespace

class MLModel:
    def __init__(self, path, compute_units):
        self.path, self.told = path, json.loads((pathlib.Path(path) / "told.json").read_text())[compute_units.name]
        if isinstance(self.told, str):
            raise RuntimeError(self.told)
    def get_spec(self):
        kind = Named(HasField=lambda name: name == "multiArrayType")
        return Named(description=Named(input=[Named(name="x", type=kind)], output=[Named(name="y", type=kind)]))
    def get_compiled_model_path(self):
        return self.path
    def predict(self, given):
        time.sleep(self.told["seconds"])
        return {"y": numpy.zeros((1, 10), numpy.float32)}

models = Named(MLModel=MLModel)
MLCPUComputeDevice, MLGPUComputeDevice, MLNeuralEngineComputeDevice = (
    type(name, (), {}) for name in ("MLCPUComputeDevice", "MLGPUComputeDevice", "MLNeuralEngineComputeDevice")
)

class MLComputePlan:
    @classmethod
    def load_from_path(cls, path, compute_units):
        told = json.loads((pathlib.Path(path) / "told.json").read_text())[compute_units.name]["plan"]
        if isinstance(told, str):
            raise ValueError(told)
        plan = cls()
        made = [Named(operator_name="conv", outputs=[Named(name=f"x{n}")], blocks=[], unit=unit) for n, unit in enumerate(told)]
        plan.model_structure = Named(program=Named(functions={"main": Named(block=Named(operations=made))}))
        return plan
    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        kinds = {"CPU": MLCPUComputeDevice, "GPU": MLGPUComputeDevice, "NPU": MLNeuralEngineComputeDevice}
        return Named(preferred_compute_device=kinds[operation.unit]())

sys.modules["coremltools.models"] = models
sys.modules["coremltools.models.compute_plan"] = Named(MLComputePlan=MLComputePlan)
'''
TOLD = {
    "CPU_ONLY": {"seconds": 0.004, "plan": ["CPU", "CPU"]},
    "CPU_AND_GPU": {"seconds": 0.002, "plan": ["CPU", "CPU"]},
    "CPU_AND_NE": {"seconds": 0.001, "plan": ["NPU", "CPU"]},
    "ALL": "Error compiling model",
}


@pytest.fixture
def ios(tmp_path, finish):
    folder = tmp_path / "out" / "ios"
    (folder / "coreml" / "toy-fp16.mlpackage").mkdir(parents=True)
    (folder / "coreml" / "toy-fp16.mlpackage" / "told.json").write_text(json.dumps(TOLD))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "toy-fp32.onnx").write_bytes(b"a model")
    artifacts = [
        ("ios/coreml", "coreml", "fp16", folder / "coreml" / "toy-fp16.mlpackage", "fp32", "reference executor"),
        ("ios/onnx", "onnxruntime", "fp32", folder / "onnx" / "toy-fp32.onnx", "fp32", "runtime"),
    ]
    images = np.zeros((2, 4, 4, 4), np.uint8)
    logits = np.random.default_rng(1).normal(size=(2, 10)).astype(np.float32)
    return finish(folder, artifacts, {"fp32": logits, "int8": logits}, ("one", "two"), images)


def test_on_linux_one_error_says_what_is_needed(ios, run_cli):
    before = manifest.hash_files(ios)
    result = run_cli("device", "ios", ios.parent)
    assert isinstance(result.exception, DeviceError), repr(result.exception)
    told = str(result.exception)
    assert told.count("\n") == 0 and "macOS alone has it, this is Linux" in told
    assert "pip install coremltools pillow" in told and "--device-results FILE" in told
    assert manifest.hash_files(ios) == before


def test_on_a_mac_each_unit_is_timed_with_its_plan_and_recorded(ios, run_cli, tmp_path, monkeypatch):
    (tmp_path / "mac").mkdir()
    (tmp_path / "mac" / "coremltools.py").write_text(CORE_ML)
    (tmp_path / "mac" / "sitecustomize.py").write_text(A_MAC)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'mac'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path / "mac")  # which a worker takes over
    monkeypatch.setattr(coreml, "missing", lambda: "")
    monkeypatch.setattr(
        apple, "this_mac", lambda: {"system": "macOS 15", "architecture": "arm64", "processor": "Apple M4"}
    )
    result = run_cli("device", "ios", ios.parent, "--runs", "8")
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    manifest.verify(ios)
    entry = json.loads((ios / manifest.MANIFEST).read_text())["artifacts"][0]
    rows = {row["units"]: row for row in entry["runs"] if row["evidence"] == evidence.LATENCY}
    assert list(rows) == ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"] and {row["by"] for row in rows.values()} == {"mac"}
    for unit, least in (("CPU_ONLY", 4), ("CPU_AND_GPU", 2), ("CPU_AND_NE", 1)):
        ms = rows[unit]["accelerator"]["ms"]
        assert ms["median"] >= least and ms["p90"] >= ms["median"] and ms["runs"] == 8 and ms["rounds"] == apple.ROUNDS
    assert rows["CPU_AND_GPU"]["accelerator"]["fell_back"] is True  # by the plan
    assert rows["CPU_AND_NE"]["accelerator"]["plan"] == {"CPU": 1, "NPU": 1}
    assert evidence.short(rows["CPU_AND_GPU"]).startswith("latency arm64 (Apple M4) CPU_AND_GPU, fell back to CPU, ")
    assert "not measured: ios/coreml fp16 on ALL: RuntimeError: Error compiling model" in result.output
    assert "not measured: ios/onnx fp32: a Mac would time onnxruntime of this Python" in result.output
    assert entry["parity"] == "verified" and entry["evidence"] == "reference executor"
    assert run_cli("device", "ios", ios.parent, "--unit", "GPU").exit_code == 2


def test_iphones_are_read_from_what_xcode_lists():
    one = {
        "identifier": "A1B2",
        "hardwareProperties": {"platform": "iOS", "marketingName": "iPhone 16", "udid": "00008140-1"},
        "deviceProperties": {"name": "Lab"},
        "connectionProperties": {"pairingState": "paired"},
    }
    watch = {"hardwareProperties": {"platform": "watchOS"}}
    raw = json.dumps({"info": {"outcome": "success"}, "result": {"devices": [one, watch]}}).encode()
    assert apple.listed(raw) == ["Lab (iPhone 16, 00008140-1, paired)"]
    assert apple.listed(raw[:-5]) == apple.listed(b"{}") == apple.listed(b'{"result": {"devices": [1]}}') == []
