"""Inputs that are neither square nor RGB, from the configuration to finished folders; and whose keys they change."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from twinkeel.pipeline.building.jobs import data, original, program, weights
from twinkeel.pipeline.building.site import Architecture, contract_of
from twinkeel.pipeline.config import Config, Quantize
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import ConfigError

GREY = """
import torch
from torch import nn


def create(num_classes, channels=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    ).eval()
"""
TOML = """
[model]
factory = "grey.py:create"
resolution = [45, 34]
[data]
channels = "grayscale"
mean = [0.1307]
std = [0.3081]
accept_accuracy = "untrained"
[weights]
from_factory = true
[quantize]
minutes = 0
[android]
sdk_precision = "fp32"
[targets]
"android/litert" = ["fp32"]
"""


@pytest.fixture
def grey(tmp_path):
    """Write the configuration of a model on grey images of 34 x 45 pixels, with something (before, after) replaced."""
    (tmp_path / "grey.py").write_text(GREY)

    def write(*replaced):
        text = TOML
        for before, after in replaced:
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "twinkeel.toml").write_text(text)
        return tmp_path / "twinkeel.toml"

    return write


@pytest.mark.usefixtures("here")
def test_a_model_of_grey_oblong_images_is_built(run_cli, grey, tmp_path):
    result = run_cli("build", "android", "-c", grey(), "-o", tmp_path / "out", "--store", "none")
    assert result.exit_code == 0, result.output
    # the pool reads the image before any convolution does
    assert f"a 1x1 convolution does, {4 * 45 * 34:,} multiply-adds" in result.output, result.output
    content, golden = manifest.read_verified(tmp_path / "out" / "android")
    given = content["input"]
    assert (given["height"], given["width"], given["model_channels"]) == (45, 34, "grayscale")
    assert (given["mean"], given["std"]) == ([0.1307], [0.3081]) and given["channels"].startswith("RGBA")
    assert golden.inputs.shape[1:] == (45, 34, 4)
    source = tmp_path / "out/android/sdk/classifier/src/main/kotlin/com/example/classifier/ModelInfo.kt"
    assert "HEIGHT: Int = 45" in source.read_text()
    assert "34 × 45" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ([("[weights]", "[model.arguments]\nchannels = 3\n[weights]")], "takes 3 channels, and data.channels = 'grayscale' gives 1: set 'rgb' or 'bgr'"),
        ([("[weights]", "[model.arguments]\nchannels = 4\n[weights]")], "takes 4 channels, and data.channels = 'grayscale' gives 1: give a model of 3"),
        ([('"grayscale"\nmean = [0.1307]\nstd = [0.3081]', '"bgr"\nmean = [0.1, 0.2, 0.3]\nstd = [0.5, 0.5, 0.5]')],
         "takes 1 channel, and data.channels = 'bgr' gives 3: set 'grayscale'"),
        ([("[weights]", '[[input]]\nname = "p"\nshape = [2]\nrange = [0.0, 1.0]\n[weights]')], "with the image and 1 of [[input]]: write [[input]] once for each"),
        ([('factory = "grey.py:create"', "width = 0.2"), ("from_factory = true\n", "")], "model.name: the model fails on an input of shape (1, 1, 45, 34)"),
    ],
    ids=["three for one", "four for one", "one for three", "one too many", "own architecture"],
)  # fmt: skip
def test_a_first_layer_of_other_channels_is_one_clear_error(run_cli, grey, tmp_path, replaced, words):
    result = run_cli("build", "android", "-c", grey(*replaced), "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, ConfigError) and words in str(result.exception), result.exception
    assert not (tmp_path / "out").exists()


class Kept:
    """A result that is there."""

    def digest(self, name=""):
        return name

    def has(self, name):
        return False


def keys(is_given=False, model=None, **of_data):
    """Key by step of a build from the digits."""
    settings = {"model": model or {}, "data": of_data, "weights": {"path": __file__} if is_given else {}}
    config = Config.model_validate(settings)
    create, kept = Architecture(module="twinkeel.model.mobilenet_v2", options={}), Kept()
    jobs = {
        "data": data.data_job(config),
        "weights": weights.weights_job(config, create, kept, 10),
        "original": original.original_job(config, create, kept, kept, 10),
        "program": program.program_job(config, create, kept, kept, is_gated=True),
    }
    return {name: job.key for name, job in jobs.items()}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_what_the_input_is_changes_the_keys_of_what_it_changes():
    normalized = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    before = keys(**normalized)
    assert changed(before, keys(model={"resolution": [32, 32]}, **normalized)) == set()
    assert changed(before, keys(model={"resolution": [32, 33]}, **normalized)) == set(before)
    # the data have the contact sheet with them, which shows what enters
    assert changed(before, keys(channels="bgr", **normalized)) == {"data", "weights", "original", "program"}
    given = keys(is_given=True, **normalized)  # weights that are given know nothing of the order of their channels
    assert changed(given, keys(is_given=True, channels="bgr", **normalized)) == {"data", "original", "program"}
    grey = keys(is_given=True, channels="grayscale", mean=[0.5], std=[0.5])  # but the model may not take one alone
    assert changed(given, grey) == {"data", "weights", "original", "program"}


def test_how_to_train_is_no_ingredient_where_nothing_is_trained_on(tmp_path):
    def key(source, epochs):
        asked = {
            "data": {"source": source, "path": str(tmp_path)},
            "weights": {"path": __file__},
            "train": {"epochs": epochs},
        }
        create = Architecture(module="twinkeel.model.mobilenet_v2", options={})
        return program.program_job(Config.model_validate(asked), create, Kept(), Kept(), is_gated=True).key

    assert key("images", 1) == key("images", 2)
    assert key("folder", 1) != key("folder", 2)


def test_the_contract_is_what_was_asked_for():
    contract = contract_of(
        Config.model_validate(
            {"model": {"resolution": [20, 300]}, "data": {"channels": "grayscale", "mean": [0.0], "std": [1.0]}}
        )
    )
    assert contract.shape == (1, 20, 300, 4) and contract.grey == 0
    assert json.loads(json.dumps(contract.mean)) == [0.0]
    assert np.prod(contract.shape) == 24_000


def test_how_to_quantize_is_asked_of_nothing_where_no_artifact_is_int8(monkeypatch):
    """No rung is tried, whatever [quantize] says, and variants of it are one program."""
    given, said = [], []

    def made(config, data, model, say, folder, *, is_gated):
        given.append((config.quantize, is_gated))

    monkeypatch.setattr(program, "make_program", made)
    monkeypatch.setattr(program.data_step, "load_data", lambda *_: None)
    monkeypatch.setattr(program, "load_model", lambda *_: None)

    def key(has_int8, **quantize):
        config = Config.model_validate({"quantize": quantize})
        create = Architecture(module="twinkeel.model.mobilenet_v2", options={})
        results = dict.fromkeys(("data", "weights", "original"), Kept())
        site = SimpleNamespace(config=config, create=create, results=results, data=Kept(), weights=Kept(), names=())
        order = SimpleNamespace(has_int8=has_int8)
        (job,) = program.jobs(order, None, site).values()
        shop = SimpleNamespace(make=lambda job, write: write(None))
        program.make(SimpleNamespace(shop=shop, order=order, say=said.append, number=1), site, {"quantize": job})
        return job.key

    assert key(False, qat="always") == key(False, minutes=60) == key(False, weights="per-tensor")
    assert {quantize for quantize, _ in [(str(one), n) for one, n in given]} == {str(Quantize(qat="never"))}
    assert said == ["quantize: without the ladder, for no artifact is int8"] * 3 and not any(gate for _, gate in given)
    assert key(True, qat="always") != key(True, minutes=60) and [one.qat for one, _ in given[3:]] == ["always", "auto"]
