"""A sweep that takes seconds, and what makes its jobs in this process."""

from __future__ import annotations

import contextlib

import pytest

NETWORK = """
from torch import nn


def create(num_classes, channels=4):
    return nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * channels, num_classes))
"""
CONFIGURATION = """[model]
factory = "net.py:create"
resolution = 16
[data]
calibration = 16
held_out = 0.3
[train]
epochs = 1
[quantize]
minutes = 0
equalize = "never"
[parity]
images = 60
[sweep]
model.arguments.channels = [4, 6]
target = ["android/onnx"]
precision = ["fp32"]
"""


@pytest.fixture
def tiny(tmp_path):
    """The path of a configuration of two variants, its text changed as wanted."""
    (tmp_path / "net.py").write_text(NETWORK)

    def write(*replaced):
        text = CONFIGURATION
        for before, after in replaced:
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "twinkeel.toml").write_text(text)
        return tmp_path / "twinkeel.toml"

    return write


@pytest.fixture
def in_this_process(monkeypatch):
    """Jobs run here, where torch is imported already."""
    from twinkeel.pipeline.building import runner
    from twinkeel.pipeline.store import Here
    from twinkeel.pipeline.sweeping import crews

    @contextlib.contextmanager
    def local(jobs):
        yield crews.Crew(number=2, here=Here())

    monkeypatch.setattr(crews, "local", local)
    monkeypatch.setattr(runner, "Workers", lambda *_: Here())
