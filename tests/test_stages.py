"""Folding and quantization on a small model, and training that can be killed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import data, parity
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.program import InputContract, evaluate
from twinkeel.pipeline.stages import fold, quantize, train

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small_model():
    torch.manual_seed(0)
    model = mobilenet_v2.create(10, 0.35)
    with torch.no_grad():
        for _ in range(3):  # BatchNorm statistics that are not 0 and 1
            model(torch.randn(8, 3, 32, 32))
    return model.eval().requires_grad_(False)


def contract():
    return InputContract(resolution=32, mean=MEAN, std=STD, grey=fold.grey_level(MEAN, STD))


def noise(count=8):
    return data.rgba(np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8))


def test_folding_is_exact_at_the_padded_borders_too():
    model, before = small_model(), contract()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    folded = fold.fold(model, before)
    images = noise()
    snr = parity.snr_db(evaluate(fold.Normalized(model, MEAN, STD), images), evaluate(folded, images))
    assert snr >= 110, f"{snr:.1f} dB"
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.Dropout)]


def test_quantizing_leaves_the_float_reference_alone():
    folded = fold.fold(small_model(), contract())
    state = {k: v.clone() for k, v in folded.state_dict().items()}
    quantize.quantize(folded, noise(2), contract())
    assert all(torch.equal(v, state[k]) for k, v in folded.state_dict().items())


def test_pixels_are_quantized_without_loss_and_relu6_with_its_convolution():
    quantized, _, _ = quantize.quantize(fold.fold(small_model(), contract()), noise(2), contract())
    nodes = [n for n in quantized.graph.nodes if n.op == "call_function"]
    first = next(n for n in nodes if "quantize_per_tensor" in str(n.target))
    assert first.args[1:3] == (1.0, contract().grey - 128)
    for node in nodes:
        if "hardtanh" in str(node.target):
            assert "conv2d" in str(node.args[0].target)


def test_training_resumed_after_a_kill_ends_in_the_same_weights(tmp_path):
    config = Config.model_validate({"train": {"epochs": 3, "batch_size": 16, "device": "cpu"}})
    full = data.load(config)
    few = data.Dataset(
        train=data.Split(images=full.train.images[:48], labels=full.train.labels[:48]),
        calibration=full.calibration, held_out=data.Split(images=full.held_out.images[:8], labels=full.held_out.labels[:8]),
        labels=full.labels,
    )  # fmt: skip

    class Killed(Exception):
        pass

    def kill(epoch, _):
        if epoch.epoch == 2:
            raise Killed

    def fresh():
        torch.manual_seed(0)
        return mobilenet_v2.create(10, 0.35)

    straight, resumed = fresh(), fresh()
    train.train(straight, few, config, tmp_path / "a", lambda *_: None)
    with pytest.raises(Killed):
        train.train(fresh(), few, config, tmp_path / "b", kill)
    train.train(resumed, few, config, tmp_path / "b", lambda *_: None)
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in straight.state_dict().items())
    assert (tmp_path / "a" / "curves.csv").read_bytes() == (tmp_path / "b" / "curves.csv").read_bytes()
    assert (tmp_path / "a" / "curves.png").stat().st_size > 1000
