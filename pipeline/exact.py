"""exp and what is made of it, defined to the last bit: ``libm`` differs from platform to platform, and scores that differ by a
bit are ranked differently.

`exp` of a float64 ``x``, every operation rounded to float64, none fused:

1. NaN stays; below -700 it is 0; what is above 700 counts as 700.
2. ``k = floor(x * 1.4426950408889634 + 0.5)``, ``r = (x - k * LN2_HIGH) - k * LN2_LOW``.
3. ``p = c13``, and then ``p = p * r + c`` for ``c`` in ``c12 ... c0``, with ``cn`` the float64 nearest to 1 / n!.
4. ``p * 2^k``, which is exact.

It is within two units in the last place of the true value. The apps' kits do the same in Kotlin and Swift.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.6931471803691238
"""The upper bits of ln 2: its product with a whole number of four digits is exact."""
LN2_LOW = 1.9082149292705877e-10
LARGEST = 700.0
COEFFICIENTS = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
"""From that of the 13th power on."""


def exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each value, as the module says."""
    x = np.where(values > LARGEST, LARGEST, values)
    k = np.where(x >= -LARGEST, np.floor(x * LOG2_E + 0.5), 0.0)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = np.full_like(x, COEFFICIENTS[0])
    with np.errstate(over="ignore", invalid="ignore"):  # below -700, where what comes out is not taken
        for coefficient in COEFFICIENTS[1:]:
            p *= r
            p += coefficient
    return np.where(x < -LARGEST, 0.0, np.ldexp(p, k.astype(np.int32)))


def sigmoid(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """``1 / (1 + exp(-x))`` in float64."""
    found: NDArray[np.float64] = 1.0 / (1.0 + exp(-np.asarray(values, np.float64)))
    return found


def softmax(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Of the last axis: ``exp(x - max)`` over their sum, added from the first on in float64. NaN for all where one is NaN, or the
    largest infinite."""
    given = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        powers = exp(given - given.max(-1, keepdims=True))
    total = powers[..., 0].copy()
    for index in range(1, powers.shape[-1]):  # one after another: `sum` has an order of its own
        total += powers[..., index]
    found: NDArray[np.float64] = powers / total[..., None]
    return found
