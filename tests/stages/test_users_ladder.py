"""What quantization does to networks of users' own: slices, shuffles, concatenations, tokens, depthwise layers without padding."""

from __future__ import annotations

import networks
import numpy as np
import programs
import pytest
import torch
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, evaluate
from twinkeel.pipeline.stages import blocks, candidates, equalize, fold, ladder, weight_only
from twinkeel.pipeline.tasks import named

CONTRACT = InputContract.of(networks.RESOLUTION, programs.MEAN, programs.STD)
CONFIG = Config.model_validate(
    {
        "model": {"task": "features", "factory": "model.py:create"},
        "weights": {"from_factory": True},
        "data": {"source": "images", "path": "in"},
    }
)


def split(images):
    return data.Split(images=images, truth=np.full(len(images), -1, np.int64))


@pytest.fixture(scope="module", params=["shufflenet", "densenet", "preactivated", "vit", "convnext"])
def case(request):
    """A folded network, and a data set."""
    coarse = np.random.default_rng(0).integers(0, 256, (28, 8, 8, 3), np.uint8)
    images = coarse.repeat(8, 1).repeat(8, 2)
    torch.manual_seed(0)
    folded = fold.fold(networks.settled(networks.NETWORKS[request.param]()), CONTRACT)
    return folded, data.Dataset(train=split(images[:0]), calibration=split(images[:16]), held_out=split(images[16:]), names=())  # fmt: skip


def test_every_method_that_costs_nothing_is_done_and_some_is_worth_it(case, monkeypatch):
    monkeypatch.setattr(blocks, "STEPS", 20)  # that it learns is asked in `test_ladder.py`
    folded, found = case
    climbing = candidates.Ladder(folded, found, CONTRACT, CONFIG, named("features"), lambda *_: None)
    plain = climbing.measure("plain", [climbing.start()], None)
    best = plain.rung.calibration_db
    for name, _, method in ladder.methods(CONFIG.quantize):
        if ladder.is_costly(method):
            continue
        for state in method(climbing, plain):
            best = max(best, climbing.measure(name, [state], None).rung.calibration_db)
    assert best > plain.rung.calibration_db, f"{best:.1f} dB, plain {plain.rung.calibration_db:.1f} dB"


def test_equalized_it_is_the_same_function(case):
    folded, found = case
    images = found.calibration.inputs
    even = equalize.equalize(folded, images)
    snr = metrics.snr_db(evaluate(folded, images), evaluate(even.module, images))
    assert snr >= 90, f"{snr:.1f} dB, {len(even.gains_db)} of {even.groups} groups"


def test_weights_in_few_bits_know_their_inputs(case):
    folded, found = case
    images = found.calibration.inputs
    kept = weight_only.compressed(folded, images, 8, lambda *_: None)
    snr = metrics.snr_db(evaluate(folded, images), evaluate(kept.module, images))
    assert snr >= 30, f"{snr:.1f} dB"
