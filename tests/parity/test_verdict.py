"""Verdicts from counts: an exact interval, three verdicts, and how many images would be needed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.building.order import Order
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.parity import verdict
from twinkeel.pipeline.tasks import classification
from twinkeel.pipeline.tasks.classification import counting


def counts(images, lost, won=0):
    return verdict.drop_of(images, kept=images - lost - won, lost=lost, won=won)[1]


def chance_of(images, lost_share, won_share, is_wrong):
    """Exact probability of outcomes (lost, won) that `is_wrong` picks, with 2 shares that are small."""
    total = 0.0
    rest = 1 - lost_share - won_share
    for lost in range(images + 1):
        for won in range(images - lost + 1):
            log = math.lgamma(images + 1) - math.lgamma(lost + 1) - math.lgamma(won + 1)
            log -= math.lgamma(images - lost - won + 1)
            for share, count in ((lost_share, lost), (won_share, won), (rest, images - lost - won)):
                log += count * math.log(share) if share else (-math.inf if count else 0.0)
            if log > -30 and is_wrong(lost, won):
                total += math.exp(log)
    return total


@pytest.mark.parametrize("images", [12, 35, 60], ids=str)
@pytest.mark.parametrize("won_share", [0.0, 0.004, 0.05], ids="won {}".format)
def test_a_true_drop_at_the_limit_is_called_missed_in_one_of_forty_draws_at_most(images, won_share):
    limit = 0.005
    found = chance_of(
        images,
        won_share + limit,
        won_share,
        lambda lost, won: verdict.verdict(counts(images, lost, won), "<=", limit) == "missed",
    )
    assert found <= 0.025, found


@pytest.mark.parametrize("images", [12, 60], ids=str)
@pytest.mark.parametrize("won_share", [0.01, 0.1], ids="won {}".format)
def test_a_drop_just_beyond_the_limit_is_called_holding_in_one_of_forty_draws_at_most(images, won_share):
    limit = 0.1
    found = chance_of(
        images,
        won_share + limit + 1e-6,
        won_share,
        lambda lost, won: verdict.verdict(counts(images, lost, won), "<=", limit) == "holds",
    )
    assert found <= 0.025, found


def test_with_nothing_lost_the_bound_is_that_of_a_share_without_events():
    # (1 - p)^n = 2.5 %, the exact bound of 0 in n; a difference of two shares is at most as far
    for images in (50, 359, 2000):
        bound = 1 - 0.025 ** (1 / images)
        low, high = verdict.paired_interval(images, 0, 0)
        assert -low == high == pytest.approx(bound, rel=0.02), images


def test_the_interval_changes_sides_with_the_counts():
    for images, lost, won in ((50, 12, 2), (359, 2, 0), (2000, 60, 45)):
        low, high = verdict.paired_interval(images, lost, won)
        assert (low, high) == tuple(-bound for bound in reversed(verdict.paired_interval(images, won, lost)))
        assert low < (lost - won) / images < high


def test_for_many_images_the_exact_interval_is_the_score_interval():
    for lost, won in ((250, 10), (900, 800)):
        exact = verdict.paired_interval(50_000, lost, won)
        score = verdict._score_bound(50_000, lost, won), -verdict._score_bound(50_000, won, lost)
        assert exact == pytest.approx(score, abs=3e-5), (exact, score)


@pytest.mark.parametrize(
    ("images", "lost", "won", "expected"),
    [(359, 0, 0, "open"), (359, 2, 0, "open"), (359, 12, 0, "missed"), (2000, 0, 0, "holds"), (2000, 60, 0, "missed"),
     (50_000, 100, 90, "holds"), (50_000, 400, 0, "missed"), (50, 0, 20, "holds")],
)  # fmt: skip
def test_verdicts_on_half_a_point(images, lost, won, expected):
    found = counts(images, lost, won)
    assert verdict.verdict(found, "<=", 0.005) == expected, str(found)


def test_an_agreement_is_a_share_with_clopper_and_pearsons_bounds():
    # their example: 3 of 10
    assert verdict.share_interval(10, 3) == pytest.approx((0.0667, 0.6525), abs=1e-4)
    assert verdict.share_interval(10, 0)[0] == 0 and verdict.share_interval(10, 10)[1] == 1
    one, other = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]], np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    share, found = counting.agreement(one, other)
    assert (share, found.kept, found.lost, found.won) == (0.75, 3, 1, 0)
    assert verdict.verdict(found, ">=", 0.9) == "open"
    assert verdict.verdict(found, ">=", 0.999) == "missed" or found.high >= 0.999


def test_images_are_counted_in_pairs():
    labels = np.array([0, 0, 1, 1, 2])
    one, other = np.eye(3, dtype=np.float32)[[0, 0, 1, 0, 0]], np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 1]]
    drop, found = counting.accuracy_drop(one, other, labels)
    assert (drop, found.images, found.kept, found.lost, found.won) == (0, 5, 2, 1, 1)


def test_an_open_verdict_names_images_that_would_decide_it():
    found = counts(359, 1)
    needed = verdict.images_needed(found, "<=", 0.005)
    assert needed is not None and needed > 359
    scaled = counts(needed, round(needed / 359))
    assert verdict.verdict(scaled, "<=", 0.005) != "open", (needed, str(scaled))
    # a drop that is the limit itself is decided by no number
    assert verdict.images_needed(counts(1000, 5), "<=", 0.005) is None


@pytest.mark.parametrize(
    ("images", "lost", "won", "sense", "limit"),
    [(8, 2, 0, ">=", 0.9), (8, 1, 0, ">=", 0.95), (16, 2, 0, ">=", 0.9), (32, 4, 0, ">=", 0.9), (32, 8, 0, ">=", 0.8),
     (100, 2, 0, ">=", 0.95), (359, 0, 0, ">=", 0.99), (2000, 20, 0, ">=", 0.988), (8, 2, 1, "<=", 0.005), (32, 1, 0, "<=", 0.005),
     (32, 0, 0, "<=", 0.02), (359, 2, 0, "<=", 0.02), (359, 3, 2, "<=", 0.005)],
)  # fmt: skip
def test_the_images_that_could_tell_are_the_fewest_by_the_interval_of_the_verdict(images, lost, won, sense, limit):
    def counted(number):
        gone, more = round(lost * number / images), round(won * number / images)
        return counts(number, gone, more) if sense == "<=" else verdict.share_of(number, number - gone)[1]

    needed = verdict.images_needed(counted(images), sense, limit)
    assert needed is not None and needed > images
    assert verdict.verdict(counted(needed), sense, limit) != "open", needed
    assert verdict.verdict(counted(int(0.9 * needed)), sense, limit) == "open", needed


def test_a_few_images_are_not_told_that_too_few_more_could_tell():
    # 12 of 16 has an exact interval up to 92.7 %: still open
    assert verdict.images_needed(verdict.share_of(8, 6)[1], ">=", 0.9) == 22


def test_the_tests_that_an_interval_inverts_give_its_verdict():
    random = np.random.default_rng(1)
    for _ in range(60):
        images = int(random.integers(20, 3000))
        lost, won = (int(random.binomial(images, share)) for share in random.uniform(0, 0.03, 2))
        found = counts(images, lost, won)
        if min(abs(found.low - 0.005), abs(found.high - 0.005)) > 1e-5:
            assert verdict.tested(images, lost, won, 0.005) == verdict.verdict(found, "<=", 0.005), str(found)


def test_the_fewest_images_that_can_show_a_limit():
    for sense, limit in (("<=", 0.005), (">=", 0.99)):
        fewest = verdict.fewest_images(sense, limit)
        for images, expected in ((fewest, "holds"), (fewest - 1, "open")):
            low, high = verdict.share_interval(images, images)
            alike = counts(images, 0) if sense == "<=" else verdict.Counts(
                images=images, kept=images, lost=0, won=0, low=low, high=high
            )  # fmt: skip
            assert verdict.verdict(alike, sense, limit) == expected, (sense, images)
    assert verdict.fewest_images("<=", 0.0) is None


def _check(lost, *, must_show=False):
    (found,) = parity.judge(
        "lower",
        [parity.Limit(metric="accuracy_drop", sense="<=", value=0.005, reason="r", needs_all=True)],
        {"accuracy_drop": verdict.drop_of(359, kept=359 - lost, lost=lost, won=0)},
        must_show=must_show,
    )
    return found


def test_only_what_is_missed_fails_unless_all_has_to_be_shown():
    assert [(_check(n).verdict, _check(n).is_met) for n in (0, 2, 12)] == [
        ("open", True), ("open", True), ("missed", False)]  # fmt: skip
    assert not _check(2, must_show=True).is_met
    assert "359 images cannot tell, about" in str(_check(2)) and "2 lost of 359" in str(_check(2))


def test_the_worst_verdict_is_that_of_all():
    assert parity.worst([_check(0), _check(12)]) == "missed"
    assert parity.worst([_check(0)]) == "open"
    assert parity.worst([]) == "missed"


def test_a_check_survives_json():
    import json
    from dataclasses import asdict

    for check in (
        _check(2),
        parity.judge("fold", parity.limits_for(classification.MEANING, "fold", "float", []), {"snr_db": 100.0})[0],
    ):
        assert parity.Check.of(json.loads(json.dumps(asdict(check)))) == check


def test_what_has_to_be_shown_is_refused_before_any_work_where_so_few_images_cannot():
    asked = Order(config=Config.model_validate({"parity": {"require": "shown"}}), targets={}, kits={}, create=None,
                  plans={"android": [(None, "int8")]}, shipped={}, render=None, out=None)  # fmt: skip

    class Target:
        EVIDENCE, KERNELS = "runtime", "xnnpack"

    asked.plans["android"][0] = (Target, "int8")
    with pytest.raises(ConfigError, match=r"accuracy_drop <= 0.005 takes at least \d+ images.*; 359 are held out"):
        asked.check_certainty(359)
    asked.check_certainty(5000)
    limits = [{"leg": "quantize", "precision": "int8", "metric": "agreement", "value": 1.0}]
    always = replace(asked, config=Config.model_validate({"parity": {"require": "shown"}, "limit": limits}))
    with pytest.raises(ConfigError, match=r"agreement >= 1 can be shown by no number of images.*\. Write a \[\[limit"):
        always.check_certainty(5000)


@pytest.mark.parametrize(
    ("share", "told"),
    [(1, "100.00 %"), (0, "0.00 %"), (0.99999, "99.999 %"), (-1e-6, "-0.0001 %"), (0.12345, "12.35 %")],
)
def test_what_is_not_all_is_not_written_as_all(share, told):
    assert verdict.percent(share) == told


def test_what_one_simulates_is_what_is_promised():
    """Draws of 359 images with a true drop of 0 and 0.5 points: false alarms; of 3 points at 2,000: always missed."""
    random = np.random.default_rng(0)
    for images, drop, least, most in ((359, 0.0, 0.0, 0.05), (359, 0.005, 0.0, 0.05), (2000, 0.03, 0.99, 1.0)):
        draws = random.multinomial(images, [drop + 0.003, 0.003, 1 - drop - 0.006], 400)
        missed = np.mean([verdict.tested(images, int(a), int(b), 0.005) == "missed" for a, b, _ in draws])
        assert least <= missed <= most, (images, drop, missed)
