"""Depthwise convolution in float64 against torch's own, which takes a call for each channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from twinkeel.pipeline.data import rgba
from twinkeel.pipeline.program import depthwise, evaluation

CASES = {
    "3x3": (1, 7, (9, 9), (3, 3), {"padding": 1}),
    "stride 2": (1, 40, (28, 28), (5, 5), {"stride": 2, "padding": 2}),
    "stride 2, even map, one side padded before": (1, 96, (57, 57), (3, 3), {"stride": [2, 2], "padding": [0, 0]}),
    "dilated": (2, 5, (16, 11), (3, 3), {"padding": [2, 4], "dilation": [2, 4]}),
    "an oblong filter and stride": (3, 8, (12, 20), (1, 7), {"stride": [1, 3], "padding": [0, 3]}),
    "larger than a part": (2, 3, (200, 210), (3, 3), {"padding": 1}),
    "one pixel": (1, 1280, (1, 1), (1, 1), {}),
    "the whole map": (4, 6, (7, 7), (7, 7), {}),
}


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_it_is_torchs_to_the_order_of_the_sums(name, has_bias):
    count, channels, size, kernel, options = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(count, channels, *size, dtype=torch.float64)
    weight = torch.randn(channels, 1, *kernel, dtype=torch.float64)
    bias = torch.randn(channels, dtype=torch.float64) if has_bias else None
    wanted = functional.conv2d(x, weight, bias, groups=channels, **options)
    arguments = [options.get("stride", 1), options.get("padding", 0), options.get("dilation", 1), channels]
    assert depthwise.is_one(x, weight, bias, *arguments)
    found = depthwise.convolve(x, weight, bias, *arguments)
    assert found.shape == wanted.shape and found.dtype == torch.float64
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-15 * kernel[0] * kernel[1], f"{error:.1e}"


def test_whole_numbers_are_summed_exactly():
    x = torch.randint(-255, 256, (2, 30, 14, 14)).double()
    weight = torch.randint(-127, 128, (30, 1, 5, 5)).double()
    wanted = functional.conv2d(x, weight, None, 1, 2, 1, 30)
    assert torch.equal(depthwise.convolve(x, weight, None, 1, 2, 1, 30), wanted)


def test_what_is_something_else_is_left_to_torch():
    x, weight = torch.zeros(1, 4, 5, 5, dtype=torch.float64), torch.zeros(4, 1, 3, 3, dtype=torch.float64)
    assert depthwise.is_one(x, weight, None, 1, 1, 1, 4)
    assert not depthwise.is_one(x.float(), weight.float(), None, 1, 1, 1, 4)
    assert not depthwise.is_one(x, weight[:, :, :, :], None, 1, "same", 1, 4)
    assert not depthwise.is_one(x, torch.zeros(8, 1, 3, 3, dtype=torch.float64), None, 1, 1, 1, 4)  # two for each
    assert not depthwise.is_one(x, torch.zeros(4, 4, 3, 3, dtype=torch.float64))
    assert not depthwise.is_one(x, torch.zeros(4, 2, 3, 3, dtype=torch.float64), None, 1, 1, 1, 2)


@pytest.mark.parametrize("key", ["int8", "int8-fp16", "int8-fp16-unrounded"])
@pytest.mark.parametrize("name", ["shallow_program", "padded_program"])
def test_references_are_what_torchs_own_convolution_gives(name, key, request, monkeypatch):
    """Every step is the same; what is not rounded is, to float32. Weights are brought into float64 once, or for each image."""
    program = request.getfixturevalue(name)
    images = rgba(np.random.default_rng(0).integers(0, 256, (6, *program.contract.shape[1:3], 3), np.uint8))
    steps = {True: [], False: []}
    see = None if key.endswith("unrounded") else lambda _, given: steps[is_own].append(given.clone())
    outputs = {}
    for is_own in (True, False):
        outputs[is_own] = program.evaluate(key, images, see)
        monkeypatch.setattr(depthwise, "is_one", lambda *_: False)
        monkeypatch.setattr(evaluation, "_KEPT_VALUES", 0)
    np.testing.assert_allclose(outputs[True], outputs[False], rtol=1e-6 if see is None else 0)
    assert len(steps[True]) == len(steps[False]) and (see is None or steps[True])
    assert all(torch.equal(own, others) for own, others in zip(steps[True], steps[False], strict=True))
