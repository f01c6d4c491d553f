"""What a newcomer adds is one file: an architecture, a target and a rung of the ladder, dropped into their folders."""

from __future__ import annotations

import importlib

import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config

ARCHITECTURE = """
from torch import nn

NAME, OUTPUT_STRIDE = "tiny", 32

def create(num_classes, width, activation="relu6"):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""
TARGET = """
NAME, SUFFIX, KERNELS, EVIDENCE = "android/toy", ".toy", "toy", "runtime"
PRECISIONS, PACKAGES, REFERENCES = ("fp32",), (), {"fp32": "fp32"}

def build(program, precision, out): ...
def load(path): ...
def operators(path): return {}
"""
RUNG = """
COST = 0.05

def rungs(wanted):
    return [("a new method", "auto", lambda ladder, best: [])]
"""


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """Put a file into a package of the project, as far as imports can tell."""

    def drop(package, name, text):
        (tmp_path / f"{name}.py").write_text(text)
        module = importlib.import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path)])

    return drop


def test_an_architecture(dropped, run_cli, tmp_path):
    dropped("twinkeel.model", "tiny", ARCHITECTURE)
    assert set(common.architectures()) >= {"tiny", "mobilenet_v2"}
    listed = run_cli("models", "--width", "1").output
    assert "tiny, 1000 classes" in listed and "9,224" in listed, listed
    (tmp_path / "twinkeel.toml").write_text('[model]\nname = "tinny"\n')
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out").exception)
    assert "unknown architecture 'tinny'" in told and "Did you mean 'tiny'" in told, told
    config = Config.model_validate({"model": {"name": "tiny"}})
    assert len(list(common.architecture(config)(10, 1.0).parameters())) == 4


def test_helpers_are_no_architectures():
    assert common.architectures() == ("mobilenet_v2",)


def test_a_target(dropped, run_cli):
    dropped("twinkeel.targets.android", "toy", TARGET)
    assert "android/toy: fp32" in run_cli("targets").output


def test_a_rung_of_the_ladder(dropped):
    from twinkeel.pipeline.stages import ladder, rungs

    before = [name for name, _, _ in ladder.methods(Config().quantize)]
    dropped("twinkeel.pipeline.stages.rungs", "new", RUNG)
    assert f"{rungs.__name__}.new" in rungs.names()
    after = [name for name, _, _ in ladder.methods(Config().quantize)]
    at = before.index("layer-wise reconstruction")
    assert after == [*before[:at], "a new method", *before[at:]]
