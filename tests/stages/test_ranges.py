"""Ranges of activations against exact quantiles and exact least squared errors, on tensors of every width."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from twinkeel.pipeline.stages import ranges

KINDS = ("normal", "relu6", "sparse", "padded", "outliers", "constant", "pooled", "laplace")
TENSORS = 200


def tensor(number):
    """``(N, C, width, width)`` float32 of 5 to 57 columns; channels differ in size."""
    draw = np.random.default_rng(number)
    width, kind = 5 + number % 53, KINDS[number % len(KINDS)]
    shape = int(draw.integers(2, 5)), int(draw.integers(2, 17)), width, width
    values = draw.normal(draw.normal() / 2, np.exp(draw.normal()), shape) * np.exp(
        draw.normal(0, 0.7, (1, shape[1], 1, 1))
    )
    if kind == "relu6":
        values = values.clip(0, 6)
    if kind == "sparse":
        values *= draw.random(shape) < 0.03
    if kind == "padded":
        values = np.pad(values.clip(0), ((0, 0), (0, 0), (1, 1), (1, 1)))
    if kind == "outliers":
        values.flat[draw.integers(0, values.size, 3)] = values.std() * draw.uniform(30, 1000) * draw.choice([-1, 1], 3)
    if kind == "constant":
        values = np.full(shape, draw.normal())
    if kind == "pooled":
        values = values.clip(0).mean((2, 3), keepdims=True)
    if kind == "laplace":
        values = draw.laplace(size=shape)
    return values.astype(np.float32)


def seen(values, parts=2):
    found = ranges.Seen()
    for part in np.array_split(values, parts):
        found.add(torch.from_numpy(part))
    return found


def error(values, low, high):
    step = max((high - low) / 255, 1e-12)
    zero = round(-low / step)
    steps = np.clip(np.rint(values / step) + zero, 0, 255)
    return float(np.square((steps - zero) * step - values, dtype=np.float64).mean())


def least_error(values):
    """Over a grid of both ends, refined around its best."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    shares = np.unique(np.concatenate([np.geomspace(1, 2**-10, 40), np.linspace(1, 0.1, 40)]))
    few = values.reshape(-1)[:: max(1, values.size // 2000)]
    below, above = (shares if end else np.ones(1) for end in (low, high))
    rough = sorted((error(few, low * a, high * b), a, b) for a in below[::2] for b in above[::2])[:3]
    near = np.linspace(0.93, 1.07, 8)
    pairs = {(a * f if low else 1.0, b * g if high else 1.0) for _, a, b in rough for f in near for g in near}
    if not (low and high):  # one end alone: all of them
        pairs |= {(a, b) for a in below for b in above}
    return min(error(values, low * min(a, 1), high * min(b, 1)) for a, b in pairs)


@pytest.mark.parametrize("first", range(0, TENSORS, 20))
def test_percentiles_and_least_errors_are_within_a_hundredth_of_the_exact_ones(first):
    for number in range(first, first + 20):
        values = tensor(number)
        found, about = seen(values), f"tensor {number}, {KINDS[number % len(KINDS)]}, {values.shape}"
        for share in (ranges.OUTSIDE / 2, 1 - ranges.OUTSIDE / 2):
            exact = float(np.quantile(values.astype(np.float64), share))
            assert found.quantile(share) == pytest.approx(exact, rel=0.01, abs=1e-9), f"{about}, quantile {share}"
        low, high = found.range("percentile")
        assert low == pytest.approx(min(np.quantile(values, ranges.OUTSIDE / 2), 0), rel=0.01, abs=1e-6), about
        assert high == pytest.approx(max(np.quantile(values, 1 - ranges.OUTSIDE / 2), 0), rel=0.01, abs=1e-6), about
        assert found.range("minmax") == (min(values.min(), 0), max(values.max(), 0)), about
        mine, best = error(values, *found.range("mse")), least_error(values)
        assert mine <= 1.01 * best + 1e-15, f"{about}: {mine:.4e}, {best:.4e} is possible"


@pytest.mark.parametrize("estimator", ["percentile", "mse"])
@pytest.mark.parametrize("width", [15, 17, 19, 57])
def test_no_width_hides_columns(estimator, width):
    """A column of zeros, and samples that are taken at a distance that its width divides, gave a range of 0."""
    values = np.zeros((64, 8, width, width), np.float32)
    values[..., 1:] = np.random.default_rng(0).normal(size=(64, 8, width, width - 1))
    low, high = seen(values).range(estimator)
    assert -5 < low < -2.5 and 2.5 < high < 5, (low, high)


def test_estimators_give_up_an_outlier():
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    values[0] = 1000
    assert seen(values).range("percentile")[1] < 5
    values[0] = 12
    low, high = seen(values).range("mse")
    assert 3.5 < high < 12 and -6 < low < -3.5, (low, high)
    assert error(values[1:], low, high) < error(values[1:], float(values.min()), 12.0)


def test_nothing_but_zeros_is_a_range_of_nothing():
    for estimator in ("minmax", "percentile", "mse"):
        assert seen(np.zeros((2, 3), np.float32)).range(estimator) == (0, 0)


def test_a_range_is_looked_for_once_and_anew_behind_more_values(monkeypatch):
    found, looked = seen(np.linspace(-1, 1, 100, dtype=np.float32)), []
    errors = found._least_error
    monkeypatch.setattr(found, "_least_error", lambda: looked.append(1) or errors())
    first = found.range("mse")
    assert found.range("mse") == first and len(looked) == 1
    found.add(torch.linspace(-3, 3, 100))
    assert found.range("mse")[1] > 2 and len(looked) == 2
