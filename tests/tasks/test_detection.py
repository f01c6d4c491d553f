"""What is counted of boxes, what training lowers, and what is found against the original."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import turns
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.stages.distributed import ALONE
from twinkeel.pipeline.tasks import detection
from twinkeel.pipeline.tasks.detection import counting, original, showing
from twinkeel.pipeline.tasks.detection.form import form_of
from twinkeel.pipeline.tasks.detection.matching import Boxes, matched, overlaps
from twinkeel.pipeline.tasks.detection.precision import RECALLS, THRESHOLDS, Curves, average

SIDE = 64
NAMES = ("cat", "dog", "eel")


def boxes(rows, images=1):
    """Boxes of rows (image, class, score, left, top, right, bottom), in an order that holds."""
    rows = np.array(rows, np.float64).reshape(-1, 7)
    rows = rows[np.lexsort((np.arange(len(rows)), -rows[:, 2], rows[:, 0]))]
    return Boxes(
        boxes=rows[:, 3:],
        classes=rows[:, 1].astype(int),
        scores=rows[:, 2],
        images=rows[:, 0].astype(int),
        count=images,
    )


def ap(found, right, images=1):
    return Curves.of(boxes(found, images), boxes(right, images)).precisions()


ONE = (0, 0, 1, 10, 10, 30, 30)


def test_what_is_found_whole_has_an_average_precision_of_1():
    assert average(ap([ONE], [ONE])) == 1
    assert average(ap([], [ONE])) == 0
    assert np.isnan(average(ap([ONE], [])))


def test_a_wrong_box_counts_by_its_score():
    wrong = (0, 0, 0.9, 40, 40, 60, 60)
    assert average(ap([(*ONE[:2], 0.8, *ONE[3:]), wrong], [ONE])) == pytest.approx(0.5)
    assert average(ap([ONE, wrong], [ONE])) == 1


def test_of_two_right_boxes_one_is_half_up_to_the_level_that_it_reaches():
    found = ap([ONE], [ONE, (0, 0, 1, 40, 40, 60, 60)])
    assert found[0, 0] == pytest.approx(51 / 101)  # of the levels 0, 0.01 ... 1, those up to 0.5


def test_a_box_counts_at_the_thresholds_that_it_reaches():
    shifted = (0, 0, 1, 10, 10, 30, 26)  # 80 % of it
    assert ap([shifted], [ONE])[0].tolist() == [1.0] * 7 + [0.0] * 3
    assert THRESHOLDS[6] == 0.8 and len(THRESHOLDS) == 10


def test_a_right_box_is_found_once_and_by_the_highest_score():
    twice = [(0, 0, 0.9, 10, 10, 30, 29), (0, 0, 0.8, 10, 10, 30, 30)]
    which = matched(boxes(twice), boxes([ONE]), (0.5,))
    assert which[:, 0].tolist() == [0, -1]
    assert matched(boxes(twice), boxes([ONE]), (0.97,))[:, 0].tolist() == [-1, 0]


def test_classes_and_images_are_apart():
    other = (0, 1, 1, 10, 10, 30, 30)
    assert matched(boxes([other]), boxes([ONE]), (0.5,))[0, 0] == -1
    assert matched(boxes([other]), boxes([ONE]), (0.5,), any_class=True)[0, 0] == 0
    assert matched(boxes([(1, *ONE[1:])], 2), boxes([ONE], 2), (0.5,))[0, 0] == -1


def random_sets(images, most, right_most, classes, seed=0):
    """Boxes found and right, many of them alike, scores with ties."""
    random = np.random.default_rng(seed)
    right, found = [], []
    for image in range(images):
        own = []
        for _ in range(random.integers(0, right_most + 1)):
            corner, sides = random.uniform(0, 40, 2), random.uniform(5, 24, 2)
            own.append((image, random.integers(classes), 1.0, *corner, *(corner + sides)))
        right += own
        for _ in range(random.integers(0, most + 1)):
            score = round(float(random.random()), 2)
            if own and random.random() < 0.8:
                one = own[random.integers(len(own))]
                label = one[1] if random.random() < 0.8 else random.integers(classes)
                corners = np.array(one[3:]) + random.normal(0, 1.5, 4)
            else:
                label, corner = random.integers(classes), random.uniform(0, 40, 2)
                corners = np.concatenate([corner, corner + random.uniform(5, 24, 2)])
            if (corners[2:] > corners[:2]).all():
                found.append((image, label, score, *corners))
    return boxes(found, images), boxes(right, images)


def plainly(found, right, images, classes):
    """The same, in loops, as COCO's own evaluation goes about it."""
    rows = []
    for label in range(classes):
        scores, hits, total = [], [], 0
        for image in range(images):
            mine = np.flatnonzero((found.images == image) & (found.classes == label))
            mine = mine[np.argsort(-found.scores[mine], kind="mergesort")]
            there = np.flatnonzero((right.images == image) & (right.classes == label))
            total += len(there)
            hit = np.zeros((len(THRESHOLDS), len(mine)), bool)
            for number, threshold in enumerate(THRESHOLDS):
                taken = set()
                for place, one in enumerate(mine):
                    best, which = min(threshold, 1 - 1e-10), -1
                    for other in there:
                        share = overlaps(found.boxes[one : one + 1], right.boxes[other : other + 1])[0]
                        if other not in taken and share >= best:
                            best, which = share, other
                    if which >= 0:
                        taken.add(which)
                        hit[number, place] = True
            scores.append(found.scores[mine])
            hits.append(hit)
        if not total:
            continue
        order = np.argsort(-np.concatenate(scores), kind="mergesort")
        all_hits, row = np.concatenate(hits, 1)[:, order], []
        for hit in all_hits:
            right_so_far, seen = np.cumsum(hit), np.arange(1, len(hit) + 1)
            precision = np.maximum.accumulate((right_so_far / np.maximum(seen, 1))[::-1])[::-1]
            at = np.searchsorted(right_so_far / total, RECALLS, side="left")
            row.append(np.mean([precision[n] if n < len(precision) else 0.0 for n in at]))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_the_plain_loops(seed):
    found, right = random_sets(12, 12, 5, 3, seed)
    assert np.abs(Curves.of(found, right).precisions() - plainly(found, right, 12, 3)).max() < 1e-12


def test_two_thousand_images_take_seconds():
    random = np.random.default_rng(0)
    images, each = 2000, 100
    corners = random.uniform(0, 400, (images * each, 2))
    all_boxes = np.concatenate([corners, corners + random.uniform(10, 60, (images * each, 2))], 1)
    found = Boxes(
        boxes=all_boxes,
        classes=random.integers(0, 20, images * each),
        scores=np.sort(random.random((images, each)))[:, ::-1].reshape(-1),
        images=np.repeat(np.arange(images), each),
        count=images,
    )
    right = replace(found, boxes=found.boxes + random.normal(0, 2, found.boxes.shape))[random.random(len(found)) < 0.1]
    start = time.process_time()
    curves = Curves.of(found, right)
    assert 0.05 < average(curves.precisions()) < 1
    counting.same(found.above(0.3), found.above(0.4))
    assert time.process_time() - start < 20


def test_the_interval_of_a_loss_knows_how_many_images_there_are():
    for images, most in ((20, 0.4), (300, 0.05)):
        found, right = random_sets(images, 8, 4, 2, 1)
        worse = found[np.random.default_rng(1).random(len(found)) < 0.97]
        one, other = Curves.of(found, right), Curves.of(worse, right)
        drop, counts = counting.drops(one, other, counting.right_found(found, worse, right))["ap_drop"]
        assert counts.low < drop < counts.high and counts.high - counts.low < most, (drop, counts)
        assert counts.of == "boxes" and counts.draws == images and counts.kept + counts.lost <= len(right)
        none, same = counting.drops(one, one, counting.right_found(found, found, right))["ap_drop"]
        assert none == 0 and same.low < 0 < same.high and same.lost == same.won == 0
    assert "boxes in 300 images" in str(counts)


def test_a_loss_is_open_on_few_images_and_missed_on_many():
    found, right = random_sets(300, 8, 4, 2, 2)
    worse = found[np.random.default_rng(1).random(len(found)) < 0.4]
    for images, expected in ((6, "open"), (300, "missed")):
        parts = [part[part.images < images] for part in (found, worse, right)]
        one, other, truth = (replace(part, count=images) for part in parts)
        counts = counting.right_found(one, other, truth)
        drop = counting.drops(Curves.of(one, truth), Curves.of(other, truth), counts)["ap_drop"]
        (check,) = parity.judge("quantize", [counting._AP], {"ap_drop": drop})
        assert check.verdict == expected, check
        assert (check.images_needed is None) == (expected == "missed")
        if check.images_needed:
            assert check.images_needed > images


def test_boxes_of_an_image_are_no_draws_of_their_own():
    rows = [(image, 0, 0.9, 10 * n, 0, 10 * n + 9, 9) for image in range(30) for n in range(4)]
    whole = boxes(rows, 30)
    value, counts = counting.same(whole, whole[whole.images > 2])
    assert value == pytest.approx(2 * 108 / 228) and counts.kept == 216 and counts.images == 228
    assert counts.low < parity.share_interval(228, 216)[0] - 0.05  # as of 30 images, not of 228 boxes
    nothing, none = counting.same(boxes([], 5), boxes([], 5))
    assert math.isnan(nothing) and (none.low, none.high) == (0, 1)
    (check,) = parity.judge("quantize", [counting._SAME], {"same_boxes": (nothing, none)})
    assert check.verdict == "open" and check.images_needed is None
    assert "there are no boxes in 5 images" in str(check) and " %" not in str(check)
    every = replace(counting._SAME, value=0.0)  # of none nothing holds, not even what all would
    assert parity.judge("quantize", [every], {"same_boxes": (nothing, none)})[0].verdict == "open"


def test_a_loss_that_all_images_share_has_an_interval_all_the_same():
    rows = [(image, 0, 0.9, 0, 0, 9, 9) for image in range(60)]
    right, nothing = boxes(rows, 60), boxes([], 60)
    one, other = Curves.of(right, right), Curves.of(nothing, right)
    drop, counts = counting.drops(one, other, counting.right_found(right, nothing, right))["ap_drop"]
    assert drop == pytest.approx(1) and 0.8 < counts.low < 0.97 and counts.high == 1


# a model that gives corners in pixels and a probability of each class


def plain_config(activation="none", **output):
    outputs = [
        {"name": "boxes", "holds": "boxes", "format": "xyxy", **output},
        {"name": "scores", "holds": "scores", "activation": activation},
    ]
    given = {
        "model": {"factory": "builtins:dict", "task": "detection", "resolution": SIDE},
        "weights": {"from_factory": True},
        "output": outputs,
    }
    return common.checked(Config.model_validate(given))


LAYOUT = (Output(name="boxes", shape=(6, 4)), Output(name="scores", shape=(6, 3)))


def right_and_said(images=60, seed=0):
    """A truth ``(N, 3, 5)`` of three boxes each, and packed outputs of a model that finds them all, and three times nothing."""
    random = np.random.default_rng(seed)
    truth = np.full((images, 3, 5), -1, np.float32)
    outputs = np.zeros((images, 6 * 7), np.float32)
    for number in range(images):
        corners = np.array([[2, 2], [34, 6], [10, 36]]) + random.uniform(0, 3, (3, 2))
        sides = random.uniform(8, 24, (3, 2))
        labels = random.integers(0, 3, 3)
        truth[number] = np.concatenate([labels[:, None], corners, corners + sides], 1)
        outputs[number, :12] = truth[number, :, 1:].reshape(-1)
        scores = outputs[number, 24:].reshape(6, 3)
        scores[np.arange(3), labels] = random.uniform(0.6, 1, 3)
    return truth, outputs


def told_of(truth, outputs, names=NAMES, **output):
    config = plain_config(**output)
    look = detection.look(outputs, truth, config, LAYOUT)
    return detection.trouble(look, names, is_trained=False), detection.doubt(look, names), look


def test_a_model_that_knows_the_images_is_left_alone():
    truth, outputs = right_and_said()
    trouble, doubt, look = told_of(truth, outputs)
    assert (trouble, doubt) == ("", "") and look["ap"] == 1 and look["boxes"] == 180 == look["found"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"format": "cxcywh"}, "format = 'xyxy'"),
        ({"unit": "share"}, "unit = 'pixels'"),
        ({"format": "cxcywh", "unit": "share"}, "unit = 'pixels' and format = 'xyxy'"),
    ],
    ids=["format", "unit", "both"],
)
def test_numbers_that_are_read_otherwise_are_named(wrong, said):
    trouble, _, _ = told_of(*right_and_said(), **wrong)
    assert said in trouble and "AP50 of 100.00 %" in trouble, trouble


def test_shares_that_are_read_as_pixels_are_named():
    truth, outputs = right_and_said()
    outputs[:, :24] /= SIDE
    trouble, _, _ = told_of(truth, outputs)
    assert "unit = 'share'" in trouble, trouble


def test_y_before_x_is_named():
    truth, outputs = right_and_said()
    outputs[:, :24] = outputs[:, :24].reshape(-1, 6, 2, 2)[..., ::-1].reshape(-1, 24)
    trouble, _, _ = told_of(truth, outputs)
    assert "y before x" in trouble, trouble


def test_classes_in_another_order_are_named():
    truth, outputs = right_and_said()
    moved = truth.copy()
    moved[..., 0] = (truth[..., 0] + 1) % 3
    trouble, _, _ = told_of(moved, outputs)
    assert "another order" in trouble and "'cat' is called 'eel'" in trouble and "as a background" in trouble, trouble


def test_what_finds_nothing_is_an_error():
    truth, outputs = right_and_said()
    outputs[:, :24] = np.roll(outputs[:, :24], 30, 0) * 0 + np.tile(np.float32([60, 60, 63, 63]), 6)
    trouble, _, _ = told_of(truth, outputs)
    assert "AP50 0.00 %" in trouble and "weights of another model" in trouble, trouble
    outputs[0, 0] = np.nan
    assert "infinite or NaN" in told_of(truth, outputs)[0]


def test_a_model_that_shows_no_box_where_there_are_some_is_an_error():
    truth, outputs = right_and_said()
    outputs[:, 24:] *= 0.2
    trouble, _, _ = told_of(truth, outputs)
    assert "shows 0 boxes in 60 held-out images, which have 180: AP 100.00 %" in trouble, trouble
    assert "its highest score is 0.198. Lower [detection] score" in trouble and "weights" not in trouble, trouble


def test_which_boxes_apps_are_shown_is_nothing_to_train_anew_for():
    def trained(**shown):
        return detection.settings(Config.model_validate({"detection": shown}), trains=True)

    assert trained() == trained(score=0.7) == trained(most=20) != trained(most=500)
    assert trained() != trained(overlap=0.3)  # the average precision of each epoch depends on it


def test_other_numbers_of_classes_and_logits_are_told():
    truth, outputs = right_and_said()
    assert "tell 3 classes apart, and the data name 2" in told_of(truth, outputs, ("cat", "dog"))[0]
    outputs[:, 24:] *= 7
    assert "activation = 'sigmoid'" in told_of(truth, outputs)[1]
    assert "shows no box" in told_of(truth[:, :0], outputs * 0)[1]


def test_what_is_worth_something_is_told():
    truth, outputs = right_and_said()
    config = plain_config()
    meaning = detection.meaning(config)
    worse = outputs.copy()
    worse[:9, 24:] = 0  # nothing in nine images
    worth = meaning.worth(outputs, outputs, worse, truth, LAYOUT)
    assert 0.8 < worth.score < 0.9 and not worth.is_unchanged
    assert worth.counted["ap_drop"][0] == pytest.approx(1 - worth.score)
    assert worth.counted["same_boxes"][1].kept == 2 * 153
    cells = detection.columns(worth)
    assert cells["as float"] == "306 of 333 boxes" and cells["AP"].startswith(f"{100 * worth.score:.2f} % (-")
    assert set(detection.columns(parity.Worth())) == set(cells)
    assert set(detection.told(worth)) == set(detection.told(parity.Worth()))
    unlabelled = meaning.worth(outputs, outputs, worse, truth[:, :0], LAYOUT)
    assert set(unlabelled.counted) == {"same_boxes"} and np.isnan(unlabelled.score)


def test_what_the_report_keeps_is_what_was_found():
    truth, outputs = right_and_said()
    (answered,) = detection.answers([outputs], truth, plain_config(), LAYOUT)
    kept = showing.kept_in(answered)
    assert len(kept) == 180 and np.array_equal(np.bincount(kept.images), np.full(60, 3))
    assert (showing.errors(kept, Boxes.right(truth)) == 0).all()
    assert [one.ap50 for one in showing.by_class(answered, truth)] == [
        1,
        1,
        1,
    ]


def test_the_manifest_says_how_boxes_are_read():
    config = plain_config()
    described = detection.described(NAMES, config, LAYOUT)
    outputs = [{"name": one.name, "shape": list(one.shape), "scale": 1.0} for one in LAYOUT]
    manifest = {**described, "outputs": outputs}
    assert detection.fault(manifest, 42) == "" and detection.names_of(manifest) == NAMES
    assert "3 labels" not in detection.fault(manifest, 42)
    assert "2 labels and boxes of 3 classes" in detection.fault({**manifest, "labels": ["cat", "dog"]}, 42)
    assert "how boxes are read" in detection.fault({**manifest, "boxes": {"format": "xyxy"}}, 42)
    assert "outside" in detection.fault({**manifest, "outputs": [{**outputs[0], "shape": [2, 4]}, outputs[1]]}, 42)


# training


def ours(**train):
    given = {"model": {"name": "ssdlite_mobilenet_v2", "resolution": 64, "width": 0.35}, "train": train}
    return common.checked(Config.model_validate(given))


def given_outputs(config, count):
    import torch

    form = form_of(config, _layout(config))
    return torch.zeros(count, form.count, 4), torch.zeros(count, form.count, form.columns), form


def _layout(config):
    anchors = sum(h * w * len(a) for (h, w), a in zip(config.output[0].maps, config.output[0].anchors, strict=True))
    return (Output(name="boxes", shape=(anchors, 4)), Output(name="scores", shape=(anchors, 4)))


def test_offsets_that_are_learnt_are_those_that_are_decoded():
    import torch
    from twinkeel.pipeline.tasks.detection import training
    from twinkeel.pipeline.tasks.detection.decoding import decode

    config = ours()
    _, scores, form = given_outputs(config, 1)
    truth = torch.tensor([[[2.0, 10, 12, 40, 50], [0, 30, 4, 60, 20], [-1, -1, -1, -1, -1]]])
    anchors = torch.from_numpy(form.anchors()).float()
    labels, wanted = training._matched(anchors, truth[0, :2], form)
    assert set(labels.tolist()) == {0, 1, 3} and 2 <= int((labels > 0).sum()) < 30
    scores[0, torch.arange(form.count), labels] = 12.0
    found = decode([wanted.numpy(), scores[0].numpy()], form)
    assert found.classes.tolist() in ([0, 2], [2, 0])
    order = np.argsort(found.classes)
    assert np.abs(found.boxes[order] - truth[0, [1, 0], 1:].numpy()).max() < 1e-3
    assert float(detection.loss((wanted[None], scores), truth, config, ALONE.add_up)) < 1e-3


def test_the_loss_falls_where_right_boxes_are_said():
    import torch

    config = ours()
    offsets, scores, _ = given_outputs(config, 2)
    truth = torch.full((2, 2, 5), -1.0)
    truth[0, 0] = torch.tensor([1.0, 8, 8, 40, 40])  # and nothing in the second image
    before = float(detection.loss((offsets, scores), truth, config, ALONE.add_up))
    better = scores.clone()
    better[..., 0] = 4.0
    assert float(detection.loss((offsets, better), truth, config, ALONE.add_up)) < before
    offsets.requires_grad_()
    detection.loss((offsets, scores), truth, config, ALONE.add_up).backward()
    moved = offsets.grad.abs().sum(-1) > 0
    assert moved[0].any() and not moved[1].any()
    nothing = torch.full((2, 2, 5), -1.0)
    assert np.isfinite(float(detection.loss((offsets, scores), nothing, config, ALONE.add_up)))


def test_what_has_no_anchors_is_not_trained():
    import torch

    with pytest.raises(ConfigError, match=r"format 'xyxy' .* are not trained here"):
        detection.loss((torch.zeros(1, 6, 4), torch.zeros(1, 6, 3)), torch.zeros(1, 1, 5), plain_config(), ALONE.add_up)


@pytest.mark.parametrize(
    "train",
    [
        {"rotation_degrees": 0.0, "zoom": 0.0, "shift": 0.0},
        {"rotation_degrees": 0.0, "zoom": 0.2, "shift": 0.1},
        {"rotation_degrees": 0.0, "zoom": 0.0, "shift": 0.3},
    ],
    ids=["mirrored", "zoomed", "shifted"],
)
def test_boxes_move_as_their_pixels_do(train):
    import torch

    config = ours(**train)
    height, width = 48, 64
    truth = torch.tensor([[[1.0, 12, 8, 44, 30]]]).repeat(24, 1, 1)
    images = torch.zeros(24, 3, height, width)
    images[:, :, 8:30, 12:44] = 1
    torch.manual_seed(3)
    changed, moved = detection.augmented(images, truth, turns(len(images), config.train))
    for image, row in zip(changed, moved[:, 0], strict=True):
        rows, columns = torch.where(image[0] > 0.5)
        if row[0] < 0:
            assert len(rows) < 0.4 * 22 * 32
            continue
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array([float(one) for one in seen]) - row[1:].numpy()).max() <= 1.01, (seen, row)
    lefts = {float(row[1]) for row in moved[:, 0]}
    assert len(lefts) > 1


def test_turned_boxes_hold_what_they_held():
    import torch

    config = ours(rotation_degrees=30.0, zoom=0.0, shift=0.0)
    truth = torch.tensor([[[0.0, 20, 20, 44, 40]]]).repeat(16, 1, 1)
    images = torch.zeros(16, 3, 64, 64)
    images[:, :, 20:40, 20:44] = 1
    changed, moved = detection.augmented(images, truth, turns(len(images), config.train))
    for image, row in zip(changed, moved[:, 0], strict=True):
        rows, columns = torch.where(image[0] > 0.5)
        assert row[1] - 1 <= columns.min() and columns.max() + 1 <= row[3] + 1
        assert row[2] - 1 <= rows.min() and rows.max() + 1 <= row[4] + 1


@pytest.mark.parametrize(("least", "advice"), [(0.51, "activation = 'none'"), (0.02, r"Raise \[detection\] score")])
def test_a_model_that_shows_all_the_boxes_there_may_be_is_doubted(least, advice):
    """A sigmoid of probabilities keeps their order, which is all that average precision sees."""
    look = {
        "images": 20,
        "boxes": 24,
        "found": 2000,
        "is_finite": True,
        "classes": 2,
        "largest": 0.73,
        "least": least,
        "full": 20,
        "ap50": 1.0,
    }
    told = original.doubt({**look, "moved": []}, ("a", "b"))
    assert "in 20 of 20 held-out images" in told and re.search(advice, told), told
    assert "2,000 boxes in 20 held-out images, which have 24" in told, told
    # so are more than ten for each that is there, of a model that has no more candidates
    told = original.doubt({**look, "full": 0, "found": 241, "moved": []}, ("a", "b"))
    assert "241 boxes in 20 held-out images, which have 24." in told and re.search(advice, told), told
    assert original.doubt({**look, "full": 3, "found": 240, "moved": []}, ("a", "b")) == ""
    # a box an image, and no more are asked for
    assert original.doubt({**look, "full": 20, "found": 20, "moved": []}, ("a", "b")) == ""


def test_an_activation_that_is_applied_twice_is_doubted():
    """A box in each of 20 images, and 48 candidates beside one another: fewer than apps are shown at most."""
    layout = (Output(name="boxes", shape=(48, 4)), Output(name="scores", shape=(48, 1)))
    rows, columns = np.indices((6, 8)).reshape(2, -1) * 8.0
    places = np.stack([columns, rows, columns + 6, rows + 6], 1)
    truth, outputs = np.zeros((20, 1, 5), np.float32), np.zeros((20, 48 * 5), np.float32)
    for number, (right, row) in enumerate(zip(truth, outputs, strict=True)):
        right[0, 1:], row[: 48 * 4], row[48 * 4 :] = places[number], places.reshape(-1), -4
        row[48 * 4 + number] = 4
    config = plain_config("sigmoid")
    right = original.look(outputs, truth, config, layout)
    assert right["ap50"] == 1 and right["found"] == 20 and original.doubt(right, ("cat",)) == ""
    twice = outputs.copy()
    twice[:, 48 * 4 :] = 1 / (1 + np.exp(-outputs[:, 48 * 4 :]))
    found = original.look(twice, truth, config, layout)
    assert found["ap50"] == 1 and found["full"] == 0
    told = original.doubt(found, ("cat",))
    assert told.startswith(
        "the float model shows 960 boxes in 20 held-out images, which have 20. No score is below 0.50"
    ), told
    assert "activation = 'none'" in told, told
