"""What counts on images can tell: paired counts, their interval, and one of three verdicts.

What is right of images, and what is answered alike, are estimates. A reference and a candidate answer the same images, so what differs are the few
images that one of them gets right alone. The interval of the difference is exact: it contains the truth in at least 95 %
of all draws of images, for any number of them.

- *Paired difference* (a loss): the score statistic for a difference of paired proportions (Tango, Statistics in
  Medicine 17, 1998, 891-908) orders the outcomes; the bounds invert its exact unconditional test, whose p-value is the
  largest over the unknown share of images that change in both directions. The statistic fulfils Barnard's convexity,
  so the boundary of the hypothesis is its worst point (Sidik, Statistics in Medicine 22, 2003, 265-278). The unknown
  share is searched in an interval that contains it with all but `_OUTSIDE`, which is added to the p-value (Berger and
  Boos, Journal of the American Statistical Association 89, 1994, 1012-1016). The score interval alone misses a true
  drop of half a point on 600 images in up to 4.4 % of all draws on one side, where 2.5 % are promised.
- *Share* (agreement): Clopper and Pearson, Biometrika 26, 1934, 404-413.
- *Unpaired difference* (of two builds, whose answers are not kept): the limits of both shares, squared and added (Newcombe,
  Statistics in Medicine 17, 1998, 873-890), with those of Clopper and Pearson. On the same images it is wider than a paired one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["holds", "open", "missed"]
"""The whole interval is within the limit; it is on both sides of it; it is beyond it."""

State = Literal["verified", "open", "failed"]
"""Of an artifact: all holds; nothing is missed, and some of it these images cannot tell; something is missed."""

LEVEL = 0.95
"""Of the interval; a true value within a limit is called missed in 2.5 % of all draws at most."""
FEW_CHANGED = 10
"""Images: where fewer have changed, a jackknife sees too little, and what nobody has seen is not shown to be rare."""
_SAME_FOR_ALL = 1e-9
"""Of a jackknife's interval: below it each image has changed alike, and the same holds of images that have not."""
MOST_IMAGES = 10_000_000
"""More than anyone has; a number of images beyond it is not named."""

_TAIL = (1 - LEVEL) / 2
_OUTSIDE = 1e-4
_SHARES = 33
_SPREAD = 7.0
_STEPS = 22
_BELOW = 0.7
"""Of the images that the score intervals take: from there the fewest are looked for by the exact ones, and below:"""
_FEW = 200


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A reference and a candidate on the same images.

    Attributes:
        images: all of them; or of what else is counted in images, see `of`.
        kept: right by both; of an agreement, answered alike.
        lost: right by the reference alone; of an agreement, answered otherwise.
        won: right by the candidate alone; of an agreement 0.
        low: lower bound of the measured value, a share of the images.
        high: upper bound.
        of: what is counted, in a word: several of an image, then.
        draws: images that these were drawn with, where it is something else: by their number goes how certain it is.
    """

    images: int
    kept: int
    lost: int
    won: int
    low: float
    high: float
    of: str = "images"
    draws: int = 0

    def __str__(self) -> str:
        if not self.images:
            return f"there are no {self.of}" + (f" in {self.draws:,} images" if self.draws else "")
        changed = f"{self.lost} lost, {self.won} won" if self.won else f"{self.lost} lost"
        what = "" if self.of == "images" else f" {self.of} in {self.draws:,} images"
        return f"{changed} of {self.images:,}{what}, {100 * LEVEL:.0f} % interval {percent(self.low)} to {percent(self.high)}"


def percent(share: float) -> str:
    """With two decimals, or as many as keep what is not all, or not none, from being written as such."""
    for decimals in range(2, 9):
        text = f"{100 * share:.{decimals}f}"
        if float(text) == 100 * share or float(text) not in (-100.0, 0.0, 100.0):
            break
    return f"{text} %"


def drop_of(images: int, *, kept: int, lost: int, won: int) -> tuple[float, Counts]:
    """How much of what a reference gets right is lost, ``(lost - won) / images`` in -1..1, and the counts behind it."""
    low, high = paired_interval(images, lost, won)
    return (lost - won) / images, Counts(images=images, kept=kept, lost=lost, won=won, low=low, high=high)


def share_of(images: int, kept: int) -> tuple[float, Counts]:
    """Share of images that are kept, and the counts behind it."""
    low, high = share_interval(images, kept)
    return kept / images, Counts(images=images, kept=kept, lost=images - kept, won=0, low=low, high=high)


def verdict(counts: Counts, sense: str, limit: float) -> Verdict:
    """Of a value that must be at most (``<=``) or at least (``>=``) `limit`; open where nothing was counted, whatever the limit is."""
    if not counts.images:
        return "open"
    if sense == "<=":
        return within(counts.low, counts.high, limit)
    return within(-counts.high, -counts.low, -limit)


def within(low: float, high: float, limit: float) -> Verdict:
    """Of a value that lies in an interval, and must be at most `limit`."""
    return "holds" if high <= limit else "missed" if low > limit else "open"


def tested(images: int, lost: int, won: int, limit: float) -> Verdict:
    """The verdict on a paired difference that must be at most `limit`, by the two tests that its interval inverts: the
    same, and many times faster where the interval is not wanted."""
    if _p_value(images, lost, won, limit) <= _TAIL:
        return "missed"
    return "holds" if _p_value(images, won, lost, -limit) <= _TAIL else "open"


def state(verdicts: Iterable[Verdict | None], *, is_met: bool) -> State:
    """Of an artifact.

    Args:
        verdicts: on each of its checks.
        is_met: nothing is missed, where it was built or anywhere that it ran since.
    """
    if not is_met:
        return "failed"
    return "open" if "open" in verdicts else "verified"


@functools.cache
def images_needed(counts: Counts, sense: str, limit: float) -> int | None:
    """About how many images could tell, if these are typical; None where more than `MOST_IMAGES` would be needed.

    The fewest of which the same share, in whole images, has the verdict; of more than a hundred in two digits. The score intervals (Tango; Wilson)
    say where to look for it: they are near, narrower for few images, and quick. Of what is not images itself the interval narrows with the root
    of their number.
    """
    if not counts.images:
        return None
    if counts.draws:
        return _draws_needed(counts, limit)
    near = _near(counts, sense, limit)
    found = None if near is None else max(counts.images + 1, int(_BELOW * near) if near > _FEW else 0)
    while found is not None and not _tells(_in_proportion(counts, found), sense, limit):
        found = _rounded_up(found + 1)
        if found > MOST_IMAGES:
            return None
    return None if found is None else _rounded_up(found)


def _in_proportion(counts: Counts, images: int) -> tuple[int, int, int]:
    """So many images, and how many of them would be lost and won."""
    return images, round(counts.lost * images / counts.images), round(counts.won * images / counts.images)


def _tells(counted: tuple[int, int, int], sense: str, limit: float) -> bool:
    """Whether the verdict on images, lost and won ones, is not open."""
    images, lost, won = counted
    if sense == "<=":
        return tested(images, lost, won, limit) != "open"
    low, high = share_interval(images, images - lost)
    return within(-high, -low, -limit) != "open"


def _near(counts: Counts, sense: str, limit: float) -> int | None:
    """How many images the score intervals take, on counts that grow in proportion."""

    def tells(images: int) -> bool:
        lost, won = (count * images / counts.images for count in (counts.lost, counts.won))
        if sense == "<=":
            low, high = _score_bound(images, lost, won), -_score_bound(images, won, lost)
            return high <= limit or low > limit
        low, high = _wilson(images, images - lost)
        return low >= limit or high < limit

    least, most = counts.images, 2 * counts.images
    while not tells(most):
        least, most = most, 2 * most
        if most > MOST_IMAGES:
            return None
    while most - least > max(1, most // 100):
        middle = (least + most) // 2
        least, most = (least, middle) if tells(middle) else (middle, most)
    return most


def _draws_needed(counts: Counts, limit: float) -> int | None:
    middle, half = (counts.low + counts.high) / 2, (counts.high - counts.low) / 2
    if middle == limit:
        return None
    needed = counts.draws * (half / abs(limit - middle)) ** 2
    return None if needed > MOST_IMAGES else max(_rounded_up(needed), counts.draws + 1)


def _rounded_up(count: float) -> int:
    """To two digits."""
    unit = int(10 ** max(0, len(str(math.ceil(count))) - 2))
    return -(-math.ceil(count) // unit) * unit


@functools.cache
def fewest_images(sense: str, limit: float) -> int | None:
    """The smallest number of images, none of them lost or won, that shows a limit; None for more than anyone has."""

    def shows(images: int) -> bool:
        if sense == "<=":
            return paired_interval(images, 0, 0)[1] <= limit
        return share_interval(images, images)[0] >= limit

    if not shows(MOST_IMAGES):
        return None
    least, most = 0, MOST_IMAGES
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if shows(middle) else (middle, most)
    return most


@functools.cache
def share_interval(images: int, count: int) -> tuple[float, float]:
    """Clopper-Pearson bounds of a share, of `count` in `images`."""
    from scipy.special import betaincinv

    low = 0.0 if count == 0 else float(betaincinv(count, images - count + 1, _TAIL))
    high = 1.0 if count == images else float(betaincinv(count + 1, images - count, 1 - _TAIL))
    return low, high


def unpaired_interval(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """Bounds of the difference of two shares, ``one - other``, each ``(images, count)``."""
    (low, high), (low_other, high_other) = share_interval(*one), share_interval(*other)
    first, second = one[1] / one[0], other[1] / other[0]
    difference = first - second
    below, above = math.hypot(first - low, high_other - second), math.hypot(high - first, second - low_other)
    return max(-1.0, difference - below), min(1.0, difference + above)


def jackknife(without: NDArray[np.float64]) -> float:
    """Half the interval of a value, from what it is without each image, or each group of images, in turn; infinite where that cannot be told.

    Source: Efron and Stein, "The Jackknife Estimate of Variance", Annals of Statistics 9, 1981, with Student's quantile.
    """
    from scipy.special import stdtrit

    count = len(without)
    if count < 2 or not np.isfinite(without).all():
        return math.inf
    error = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    return float(stdtrit(count - 1, 1 - _TAIL)) * error


def jackknife_interval(value: float, without: NDArray[np.float64], images: int, changed: int) -> tuple[float, float]:
    """Bounds of a difference of two shares, within -1..1, by `jackknife`. Where fewer than `FEW_CHANGED` images have changed, or all of them alike, as
    wide at least as the exact interval of as many images none of which has.

    Args:
        value: of all images.
        without: what it is without each image, or each group of images.
    """
    half = jackknife(without)
    if math.isinf(half):
        return -1.0, 1.0
    if changed < FEW_CHANGED or half < _SAME_FOR_ALL:
        half = max(half, paired_interval(images, 0, 0)[1])
    return max(value - half, -1.0), min(value + half, 1.0)


@functools.cache
def paired_interval(images: int, lost: int, won: int) -> tuple[float, float]:
    """Exact bounds of the difference of two paired shares, ``(lost - won) / images``."""
    return _lower_bound(images, lost, won), -_lower_bound(images, won, lost)


def _lower_bound(images: int, lost: int, won: int) -> float:
    """The largest difference that is rejected as too small, by bisection between -1 and what was measured."""
    low, high = -1.0, (lost - won) / images
    start = _score_bound(images, lost, won)
    for guess in (start - abs(high - start), start):  # near it; narrows the search
        if low < guess < high:
            low, high = (guess, high) if _p_value(images, lost, won, guess) <= _TAIL else (low, guess)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _p_value(images, lost, won, middle) <= _TAIL else (low, middle)
        if high - low < 1e-6:
            break
    return low


def _p_value(images: int, lost: int, won: int, difference: float) -> float:
    """Largest probability, under a true `difference`, of an outcome that speaks at least as much for a larger one."""
    from scipy.special import betainc

    observed = _score(images, lost, won, difference)
    shares = _possible_shares(images, won, difference)
    mean, spread = images * shares, _SPREAD * np.sqrt(images * shares * (1 - shares)) + _SPREAD
    first, last = int(max(0, (mean - spread).min())), int(min(images, (mean + spread).max()))
    wons = np.arange(first, last + 1)
    needed = _fewest_lost(images, wons, difference, observed)
    chance = np.exp(_log_binomial(images, wons) + _log_power(shares[:, None], wons, images - wons))
    # of the images that are not won, each is lost with the probability `rate`
    rate = np.clip((shares + difference) / np.maximum(1 - shares, 1e-12), 0, 1)[:, None]
    rest = images - wons
    is_open = (needed > 0) & (needed <= rest)
    beyond = np.where(needed <= 0, 1.0, 0.0) * np.ones_like(rate)
    beyond[:, is_open] = betainc(needed[is_open], rest[is_open] - needed[is_open] + 1, rate)
    return float((chance * beyond).sum(1).max()) + _OUTSIDE


def _possible_shares(images: int, won: int, difference: float) -> NDArray[np.float64]:
    """Candidates for the true share of won images, denser where it is small."""
    from scipy.special import betaincinv

    tail = _OUTSIDE / 2
    low = 0.0 if won == 0 else float(betaincinv(won, images - won + 1, tail))
    high = 1.0 if won == images else float(betaincinv(won + 1, images - won, 1 - tail))
    bottom, top = max(0.0, -difference), (1 - difference) / 2
    low, high = min(max(low, bottom), top), max(min(high, top), bottom)
    shares: NDArray[np.float64] = np.linspace(math.sqrt(low), math.sqrt(high), _SHARES) ** 2
    return shares.clip(bottom, top)


def _fewest_lost(images: int, wons: NDArray[Any], difference: float, observed: float) -> NDArray[np.int64]:
    """For each number of won images, the fewest lost ones whose score reaches `observed`; more than fit where none does."""
    low, high = np.full(len(wons), -1, np.int64), (images - wons + 1).astype(np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        reaches = _score(images, middle, wons, difference) >= observed - 1e-9
        low, high = np.where(reaches, low, middle), np.where(reaches, middle, high)
    return high


def _score(images: int, lost: Any, won: Any, difference: float) -> Any:
    """Tango's statistic: the measured difference less the assumed one, over its standard error under that one."""
    # the share of won images that fits best, where the difference is as assumed
    b = (2 * images - lost + won) * difference - lost - won
    c = -won * difference * (1 - difference)
    share = (np.sqrt(np.maximum(b * b - 8 * images * c, 0)) - b) / (4 * images)
    variance = images * (2 * np.maximum(share, 0) + difference * (1 - difference))
    return (lost - won - images * difference) / np.sqrt(np.maximum(variance, 1e-12))


def _log_binomial(images: int, counts: NDArray[Any]) -> Any:
    from scipy.special import gammaln

    return gammaln(images + 1) - gammaln(counts + 1) - gammaln(images - counts + 1)


def _log_power(shares: NDArray[np.float64], counts: NDArray[Any], others: NDArray[Any]) -> Any:
    from scipy.special import xlog1py, xlogy

    return xlogy(counts, shares) + xlog1py(others, -shares)


def _score_bound(images: float, lost: float, won: float) -> float:
    """Lower bound of the difference by the score statistic, on counts that need not be whole."""
    low, high, limit = -1.0, (lost - won) / images, _quantile()
    for _ in range(40):
        middle = (low + high) / 2
        score = _score(images, lost, won, middle)  # type: ignore[arg-type]
        low, high = (middle, high) if score >= limit else (low, middle)
    return low


def _wilson(images: float, count: float) -> tuple[float, float]:
    z = _quantile()
    share, weight = count / images, z * z / images
    half = z * math.sqrt(share * (1 - share) / images + weight / (4 * images))
    middle = share + weight / 2
    return (middle - half) / (1 + weight), (middle + half) / (1 + weight)


@functools.cache
def _quantile() -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - _TAIL)
