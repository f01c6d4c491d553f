"""Resizing is exact integer arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from twinkeel.pipeline.resize import fit, resize


def exact(image, height, width):
    """The definition, pixel by pixel, in rational numbers."""

    def weights(n, m, i):
        raw = [max(0, 2 * max(n, m) - abs((2 * j + 1) * m - (2 * i + 1) * n)) for j in range(n)]
        return [Fraction(w, sum(raw)) for w in raw]

    out = np.zeros((height, width), np.uint8)
    for y in range(height):
        rows = weights(image.shape[0], height, y)
        for x in range(width):
            columns = weights(image.shape[1], width, x)
            value = sum(rows[j] * columns[k] * int(image[j, k]) for j in range(len(rows)) for k in range(len(columns)))
            out[y, x] = int(value + Fraction(1, 2))
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (8, 8), (13, 3)], ids=str)
@pytest.mark.parametrize("out", [(1, 1), (4, 6), (8, 8), (11, 5)], ids=str)
def test_equals_the_rational_definition(size, out):
    image = np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8)
    assert np.array_equal(resize(image, *out)[..., 0], exact(image[..., 0], *out))


def test_a_constant_image_stays_constant():
    image = np.full((37, 91, 3), 201, np.uint8)
    assert (fit(image, 32) == 201).all()


def test_extreme_sizes_take_the_integer_path():
    image = np.random.default_rng(0).integers(0, 256, (1, 4000, 1), np.uint8)
    assert resize(image, 3, 1).shape == (3, 1, 1)
