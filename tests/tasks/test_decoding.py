"""Decoding of boxes: the vectorised one is the scalar definition, to the last bit, of every format that `[[output]]` declares."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from detectors import CORNERS, DETECTORS, drawn, formed
from twinkeel.pipeline.data import Placed
from twinkeel.pipeline.exact import COEFFICIENTS, LN2_HIGH, LN2_LOW, LOG2_E, exp, softmax
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.tasks.detection.decoding import CANDIDATES, LARGEST, decode, in_photo
from twinkeel.pipeline.tasks.detection.form import Form


def plain_exp(x):
    if math.isnan(x):
        return x
    if x < -700:
        return 0.0
    x = min(x, 700.0)
    k = math.floor(x * LOG2_E + 0.5)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = COEFFICIENTS[0]
    for c in COEFFICIENTS[1:]:
        p = p * r + c
    return math.ldexp(p, k)


def divided(a, b):
    if b == 0 and not math.isnan(a):
        return math.nan if a == 0 else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def sigmoid(x):
    return 1 / (1 + plain_exp(-x))


def activated(values, activation):
    if activation == "sigmoid":
        return [sigmoid(x) for x in values]
    if activation == "none":
        return values
    largest = values[0]
    for x in values[1:]:
        if x > largest:
            largest = x
    powers = [plain_exp(x - largest) for x in values]
    total = powers[0]
    for power in powers[1:]:
        total += power
    return [divided(power, total) for power in powers]


def around(x, y, w, h):
    return x - w * 0.5, y - h * 0.5, x + w * 0.5, y + h * 0.5


def box(form, block, numbers, offsets, i):
    cell, anchor = divmod(i, max(1, len(block.sizes)))
    row, column = divmod(cell, block.columns)
    (sx, sy), (ux, uy) = block.cell, block.unit
    gx, gy = (column + form.center) * sx, (row + form.center) * sy
    if form.format == "size":
        x, y = (gx, gy) if offsets is None else ((column + offsets[0]) * sx, (row + offsets[1]) * sy)
        return around(x, y, numbers[0] * ux, numbers[1] * uy)
    a, b, c, d = numbers
    if form.format == "xyxy":
        return a * ux, b * uy, c * ux, d * uy
    if form.format == "ltrb":
        return gx - a * ux, gy - b * uy, gx + c * ux, gy + d * uy
    if form.format == "cxcywh":
        return around(a * ux, b * uy, c * ux, d * uy)
    v, (aw, ah) = form.variances, block.sizes[anchor]
    c, d = c * v[2], d * v[3]
    c, d = LARGEST if c > LARGEST else c, LARGEST if d > LARGEST else d
    return around(a * v[0] * aw + gx, b * v[1] * ah + gy, plain_exp(c) * aw, plain_exp(d) * ah)


def overlap(one, other):
    w = min(one[2], other[2]) - max(one[0], other[0])
    h = min(one[3], other[3]) - max(one[1], other[1])
    if not (w > 0 and h > 0):
        return 0.0
    area, its = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return divided(w * h, area + its - w * h)


def is_peak(flat, form, block, i, number):
    per_cell = max(1, len(block.sizes))
    cell, anchor = divmod(i, per_cell)
    row, column = divmod(cell, block.columns)

    def at(y, x):
        place = block.scores.first + ((y * block.columns + x) * per_cell + anchor) * block.scores.step
        return flat[block.scores.output][place + number * block.scores.apart]

    around_it = [
        at(y, x)
        for y in range(max(0, row - 1), min(block.rows, row + 2))
        for x in range(max(0, column - 1), min(block.columns, column + 2))
    ]
    return not any(value > at(row, column) for value in around_it)


def plain_decode(outputs, form):
    """(left, top, right, bottom, score, class) of each box."""
    flat = [one.reshape(-1).astype("float64").tolist() for one in outputs]

    def numbers(where, i, count):
        return [flat[where.output][where.first + i * where.step + j * where.apart] for j in range(count)]

    columns = form.classes + (form.background != "none")
    before = 1 if form.background == "first" else 0
    found, start = [], 0
    for block in form.blocks:
        count = block.rows * block.columns * max(1, len(block.sizes))
        for i in range(count):
            scores = activated(numbers(block.scores, i, columns), form.activation)[before : before + form.classes]
            if block.objectness is not None:
                (object_,) = numbers(block.objectness, i, 1)
                object_ = object_ if form.activation == "none" else sigmoid(object_)
                scores = [score * object_ for score in scores]
            for k, score in enumerate(scores):
                if not (math.isfinite(score) and score >= form.score_threshold):
                    continue
                if form.peaks and not is_peak(flat, form, block, i, before + k):
                    continue
                offsets = None if block.offsets is None else numbers(block.offsets, i, 2)
                four = box(form, block, numbers(block.boxes, i, 2 if form.format == "size" else 4), offsets, i)
                if all(map(math.isfinite, four)) and four[2] > four[0] and four[3] > four[1]:
                    found.append((*four, score, k, start + i))
        start += count
    found.sort(key=lambda one: (-one[4], one[5], one[6]))
    taken = []
    for one in found[:CANDIDATES]:
        if len(taken) == form.most:
            break
        rivals = [other for other in taken if not form.per_class or other[5] == one[5]]
        if form.iou_threshold >= 1 or not any(overlap(other, one) > form.iou_threshold for other in rivals):
            taken.append(one)
    return [one[:6] for one in taken]


def as_rows(found):
    return np.concatenate([found.boxes, found.scores[:, None], found.classes[:, None]], 1)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_vectorised_decoding_is_the_definition(name):
    form, boxes = formed(*DETECTORS[name], score=0.1, overlap=0.3), 0
    for seed in range(30):
        outputs = drawn(DETECTORS[name][1], seed)
        expected = np.array(plain_decode(outputs, form), np.float64).reshape(-1, 6)
        assert as_rows(decode(outputs, form)).tobytes() == expected.tobytes(), seed
        boxes += len(expected)
    assert boxes > 100


@pytest.mark.parametrize("detection", [{"per_class": False}, {"most": 3}, {"overlap": 1.0}, {"score": 0.0}])
def test_the_vectorised_decoding_keeps_the_settings(detection):
    form = formed(*DETECTORS["packed rows with objectness"], **detection)
    outputs = drawn(DETECTORS["packed rows with objectness"][1], 7)
    expected = np.array(plain_decode(outputs, form), np.float64).reshape(-1, 6)
    assert len(expected)
    assert as_rows(decode(outputs, form)).tobytes() == expected.tobytes()


def test_the_exponential_is_within_two_units_in_the_last_place():
    x = np.linspace(-700, 700, 100_001)
    assert np.max(np.abs(exp(x) - np.exp(x)) / np.spacing(np.exp(x))) <= 2
    assert [plain_exp(float(one)) for one in x[::100]] == exp(x[::100]).tolist()
    ends = exp(np.array([np.inf, -np.inf, 0.0, -701.0, 1e308, -1e308]))
    assert ends.tolist() == [exp(np.array([700.0]))[0], 0, 1, 0, exp(np.array([700.0]))[0], 0]
    assert np.isnan(exp(np.array([np.nan]))).all()
    assert softmax(np.array([[-np.inf, 0.0]])).tolist() == [[0, 1]]


def test_a_form_is_what_json_kept_of_it():
    for outputs, shapes in DETECTORS.values():
        form = formed(outputs, shapes)
        assert Form.of(json.loads(json.dumps(form.described()))) == form
    with pytest.raises(ValueError, match="blocks"):
        Form.of({"height": 3})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rows": 10**9}, "lie outside of outputs"),
        ({"rows": 0}, "lie outside of outputs"),
        ({"boxes": {"output": 2, "first": 0, "step": 4, "apart": 1}}, "lie outside of outputs"),
        ({"scores": {"output": 1, "first": -1, "step": 4, "apart": 1}}, "lie outside of outputs"),
        ({"scores": {"output": 1, "first": 0, "step": 0, "apart": 1}}, "lie outside of outputs"),
        ({"sizes": []}, "lie outside of outputs|of some of the candidates"),
    ],
)
def test_a_form_of_other_outputs_is_found(change, told):
    outputs, shapes = DETECTORS["anchors"]
    layout = [Output(name=one["name"], shape=shape) for one, shape in zip(outputs, shapes, strict=True)]
    described = json.loads(json.dumps(formed(outputs, shapes).described()))
    assert Form.of(described).fault(layout) == ""
    described["blocks"][0] |= change
    assert re.search(told, Form.of(described).fault(layout))


def test_equal_scores_are_in_the_order_of_classes_and_then_of_candidates():
    form = formed([CORNERS], [(3, 6)], overlap=1.0)
    found = decode(
        [np.array([[0, 0, 9, 9, 0.5, 0.5], [1, 1, 9, 9, 0.7, 0.5], [2, 2, 9, 9, 0.5, 0.5]], np.float32)], form
    )
    assert found.classes.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.boxes[:, 0].tolist() == [1, 0, 2, 0, 1, 2]


def test_a_box_is_left_out_where_it_overlaps_by_more_than_the_threshold_alone():
    form = formed([CORNERS], [(4, 5)], overlap=0.5)
    boxes = [[0, 0, 4, 4, 0.9], [0, 0, 4, 2, 0.8], [0, 0, 4, 2.5, 0.7], [0, 4, 4, 8, 0.6]]
    found = decode([np.array(boxes, np.float32)], form)
    assert found.boxes[:, 3].tolist() == [4, 2, 8]  # an overlap of exactly a half stays
    assert len(found[:1]) == 1


def test_boxes_without_area_and_with_sides_that_are_not_finite_are_none():
    form = formed([CORNERS], [(6, 5)])
    rows = [[0, 0, 0, 4], [0, 4, 4, 0], [np.nan, 0, 4, 4], [0, 0, np.inf, 4], [-5, -5, 99, 99], [1, 1, 2, 2]]
    scores = [0.9, 0.9, 0.9, 0.9, 0.8, np.nan]
    found = decode([np.concatenate([np.array(rows), np.array(scores)[:, None]], 1).astype(np.float32)], form)
    assert found.boxes.tolist() == [[-5, -5, 99, 99]]


def test_of_very_many_pairs_the_first_are_looked_at():
    form = formed([CORNERS], [(CANDIDATES + 2, 5)], most=1000, overlap=0.5)
    rows = np.zeros((CANDIDATES + 2, 5), np.float32)
    rows[:, 2:4], rows[:, 4] = 8, 0.9
    rows[-2:, :2] = -9
    rows[-1, 4] = 0.95
    assert decode([rows], form).boxes[:, 0].tolist() == [-9, 0]  # the last but one would be a third


def test_anchors_are_those_of_the_cells():
    form = formed(*DETECTORS["anchors"])
    assert form.anchors().shape == (form.count, 4) == (36, 4)
    assert form.anchors()[[0, 1, 2, 8, 35]].tolist() == [
        [4, 6, 8, 8],
        [4, 6, 9, 20],
        [12, 6, 8, 8],
        [4, 18, 8, 8],
        [24, 36, 20, 20],
    ]


def test_boxes_in_the_photo_end_at_its_edges():
    form = formed([CORNERS], [(4, 5)])
    rows = [[-2, 0, 4, 4, 0.9], [0, -40, 4, -20, 0.8], [28, 44, 99, 99, 0.7], [1.5, 2, 3, 4, 0.6]]
    found = decode([np.array(rows, np.float32)], form)
    placed = Placed.cropped((100, 64), (48, 32))  # 96 x 64 pixels of it, from the second row on
    boxes = in_photo(found, placed, (100, 64))
    assert boxes.boxes.tolist() == [[0, 2, 8, 10], [56, 90, 64, 100], [3, 6, 6, 10]]
    assert boxes.scores.tolist() == found.scores[[0, 2, 3]].tolist()
    assert found.boxes[0, 0] == -2
