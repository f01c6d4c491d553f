"""A phone of files, reached through a stand-in for adb, benchmark programs for it, and a finished folder to time on it."""

from __future__ import annotations

import numpy as np
import pytest
from phones import EXECUTORCH, LITERT, ONNXRUNTIME, elf, installed


@pytest.fixture
def phone(tmp_path, monkeypatch):
    return installed(tmp_path, monkeypatch)


@pytest.fixture
def binaries(tmp_path):
    """A folder of all three programs."""
    folder = tmp_path / "my binaries"
    folder.mkdir()
    for name, script in (
        ("benchmark_model", LITERT),
        ("executor_runner", EXECUTORCH),
        ("onnxruntime_perf_test", ONNXRUNTIME),
    ):
        (folder / name).write_bytes(elf() + b"\n--script--\n" + script.encode())
    return folder


@pytest.fixture
def android(tmp_path, finish):
    """A finished folder, below one whose name has a space, with an artifact of each runtime."""
    folder = tmp_path / "my out" / "android"
    kinds = (
        ("litert", "int8", ".tflite", "xnnpack"),
        ("executorch", "fp32", ".pte", "xnnpack"),
        ("onnx", "fp32", ".onnx", "onnxruntime"),
    )
    artifacts = []
    for name, precision, suffix, kernels in kinds:
        path = folder / name / f"toy-{precision}{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(f"{name} {precision}".encode())
        artifacts.append(
            (f"android/{name}", kernels, precision, path, precision if precision == "int8" else "fp32", "runtime")
        )
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 4), np.uint8)
    logits = np.random.default_rng(1).normal(size=(2, 10)).astype(np.float32)
    return finish(folder, artifacts, {"fp32": logits, "int8": np.round(logits, 1)}, ("one", "two"), images)
