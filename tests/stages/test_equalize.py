"""Equalization: the same function with even ranges, and the models that int8 collapses on without it."""

from __future__ import annotations

import hard_models
import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program.evaluation import evaluate, evaluate_batched
from twinkeel.pipeline.program.program import InputContract
from twinkeel.pipeline.stages import equalize, fold, quantize
from twinkeel.pipeline.tasks import classification

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTRACT = InputContract.of(32, MEAN, STD)


@pytest.fixture(scope="module")
def digits():
    return classification.load(Config.model_validate({"data": {"held_out": 0.2}}))


def extremes(seed=0):
    """Images that no calibration set holds: black, white, stripes, noise of two levels."""
    random = np.random.default_rng(seed)
    images = [
        np.zeros((32, 32, 3)),
        np.full((32, 32, 3), 255),
        np.indices((32, 32)).sum(0)[..., None] % 2 * [[[255] * 3]],
    ]
    images += [random.integers(0, 2, (32, 32, 3)) * 255 for _ in range(13)]
    return data.rgba(np.stack(images).astype(np.uint8))  # fmt: skip


def int8_db(module, images, held_out, expected):
    made = quantize.quantize(module, images, CONTRACT)
    return metrics.snr_db(expected, evaluate_batched(made.module, held_out))


@pytest.mark.parametrize(
    ("change", "seed"), [("with_rescaled_bottlenecks", 1), ("with_relu_and_rescaled_depthwise", 2)]
)
def test_int8_of_a_rescaled_model_is_as_good_as_of_the_model(change, seed, fixed_model, digits):
    calibration, held_out = data.rgba(digits.calibration.images[::4]), data.rgba(digits.held_out.images[::3])
    unscaled = fold.fold(hard_models.with_relu(fixed_model) if "relu" in change else fixed_model, CONTRACT)
    possible = int8_db(unscaled, calibration, held_out, evaluate(unscaled, held_out, 64))
    folded = fold.fold(getattr(hard_models, change)(fixed_model, seed), CONTRACT)
    expected = evaluate(folded, held_out, 64)
    even = equalize.equalize(folded, calibration)
    error = metrics.max_error(expected, evaluate(even.module, held_out, 64))
    assert error <= 1e-5, f"seed {seed}: the float output moved by {error:.1e} of its range"
    before, after = (int8_db(m, calibration, held_out, expected) for m in (folded, even.module))
    assert before <= possible - 8, f"seed {seed}: {before:.1f} dB without it: the model is not hard"
    assert after >= possible - 2, f"seed {seed}: {after:.1f} dB with it, {before:.1f} without, {possible:.1f} unscaled"


def test_a_model_that_needs_no_equalization_loses_nothing(fixed_model, digits):
    calibration, held_out = data.rgba(digits.calibration.images[::4]), data.rgba(digits.held_out.images[::3])
    folded = fold.fold(fixed_model, CONTRACT)
    expected = evaluate(folded, held_out, 64)
    even = equalize.equalize(folded, calibration)
    before, after = (int8_db(m, calibration, held_out, expected) for m in (folded, even.module))
    assert after >= before - 1, f"{after:.2f} dB with equalization, {before:.2f} without"
    assert len(even.gains_db) < even.groups / 2, even.gains_db


def test_the_function_stays_the_same_for_images_that_calibration_did_not_show(fixed_model, digits):
    folded = fold.fold(hard_models.with_rescaled_bottlenecks(fixed_model, 3), CONTRACT)
    even = equalize.equalize(folded, data.rgba(digits.calibration.images[:32]))
    error = metrics.max_error(evaluate(folded, extremes()), evaluate(even.module, extremes()))
    assert error <= 1e-5, error


def factors(random, count):
    """Log-uniform in 1..64."""
    return torch.from_numpy(np.exp(random.uniform(0, np.log(64), count))).float()


def small(activation="relu6", scale=None):
    """Random weights, with BatchNorm statistics of its own and depthwise channels of very different size."""
    torch.manual_seed(0)
    model = mobilenet_v2.create(10, 0.35, activation)
    with torch.no_grad():
        if scale is not None:
            for block in list(model.features)[1:-1]:
                block.conv[-3][1].weight *= factors(np.random.default_rng(5), block.conv[-3][1].num_features) * scale
        for _ in range(3):
            model(torch.randn(8, 3, 32, 32))
    return fold.fold(model.eval().requires_grad_(False), CONTRACT)


def test_a_channel_that_can_reach_6_keeps_its_scale(monkeypatch):
    images = extremes(7)
    folded = small(scale=0.5)
    even = equalize.equalize(folded, images)
    behind_clamps = [name for name in even.gains_db if not name.endswith(("conv.1", "conv.2"))]
    assert behind_clamps, even.gains_db  # some can never reach it, and those are rescaled
    assert metrics.max_error(evaluate(folded, images), evaluate(even.module, images)) <= 1e-5
    # the same without the bounds: the clips move, and the function with them
    bounds = equalize._upper_bounds
    monkeypatch.setattr(equalize, "_upper_bounds", lambda *a: {n: np.zeros_like(v) for n, v in bounds(*a).items()})
    moved = equalize.equalize(folded, images)
    assert metrics.max_error(evaluate(folded, images), evaluate(moved.module, images)) > 1e-4


def test_interval_bounds_are_never_exceeded():
    folded = small()
    images = extremes(9)
    graph = equalize.export(folded, images[:1])
    layers, _ = equalize._analyse(graph)
    bounds = equalize._upper_bounds(graph, layers)
    found = equalize._measure(graph, {n.args[0] for n in bounds}, images)
    assert len(bounds) == 35
    for node, bound in bounds.items():
        assert (found[node.args[0]].high <= bound + 1e-4 * np.abs(bound)).all(), node


def test_even_ranges_are_left_alone():
    images = extremes(3)
    once = equalize.equalize(small("relu", scale=1.0), images)
    twice = equalize.equalize(once.module, images)
    assert len(once.gains_db) > 10 and len(twice.gains_db) <= 2, (once.gains_db, twice.gains_db)


def test_what_is_not_homogeneous_stays_as_it_is():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)
            self.four, self.head = nn.Conv2d(8, 8, 1, groups=2), nn.Linear(8, 3)

        def forward(self, pixels):
            x = (pixels.to(torch.float32) - 100.0).permute(0, 3, 1, 2)
            x = torch.relu(self.two(torch.sigmoid(self.one(x))))
            x = self.four(self.three(x) * 2.0)
            return self.head(x.mean((2, 3), keepdim=True).flatten(1))

    torch.manual_seed(1)
    net = Net().eval().requires_grad_(False)
    with torch.no_grad():
        net.two.weight *= factors(np.random.default_rng(0), 8).view(-1, 1, 1, 1)
        net.one.weight *= factors(np.random.default_rng(1), 8).view(-1, 1, 1, 1)
    even = equalize.equalize(net, extremes())
    assert list(even.gains_db) == ["two"], even.gains_db  # two -> relu -> three; the others meet a sigmoid or a factor
    assert torch.equal(even.module.one.weight, net.one.weight)
    assert metrics.max_error(evaluate(net, extremes()), evaluate(even.module, extremes())) <= 1e-5
