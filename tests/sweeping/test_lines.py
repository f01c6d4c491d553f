"""The table of a sweep: its front, its forms, and which line a wish picks."""

from __future__ import annotations

import csv
import io
import json
import math
import operator
import random

import pytest
from PIL import Image
from twinkeel.pipeline.errors import ConfigError, SweepError
from twinkeel.pipeline.sweeping import lines, picking
from twinkeel.pipeline.sweeping.lines import Line, with_front
from twinkeel.pipeline.sweeping.pareto import front

AXES = {"model.width": [0.2, 0.35], "target": ["android/onnx"], "precision": ["fp32", "int8"]}


def line(number, score, size, latency, state="verified", width=0.2, precision="fp32", reason=""):
    varied = {"model.width": width, "target": "android/onnx", "precision": precision}
    return Line(number=number, varied=varied, state=state, reason=reason, score=score, bytes=size, latency_ms=latency)


@pytest.fixture
def found():
    return with_front(
        [
            line(1, 0.90, 9_000, 1.0),
            line(2, 0.95, 20_000, 2.0, width=0.35),
            line(3, 0.95, 21_000, 2.0, width=0.35),  # beaten in size alone
            line(4, 0.94, 6_000, 0.5, state="open", precision="int8"),
            line(5, 0.99, 1_000, 0.1, state="failed", reason="lower leg:\nsnr_db 3 (>= 90)"),
            line(6, math.nan, 0, math.nan, state="cannot be", reason="no such width"),
        ]
    )


def test_the_front_is_what_nothing_beats(found):
    assert [one.number for one in found if one.is_on_front] == [2, 4]
    same = with_front([line(1, 0.9, 10, 1.0), line(2, 0.9, 10, 1.0)])
    assert all(one.is_on_front for one in same)  # the same file of two targets


def test_the_front_of_many_is_that_of_comparing_all_with_all():
    draw = random.Random(0)
    for _ in range(300):
        values = draw.choice([2, 4, 50])
        points = [tuple(draw.randrange(values) for _ in range(3)) for _ in range(draw.randrange(12))]
        beaten = [any(all(map(operator.le, other, one)) and other != one for other in points) for one in points]
        assert front(points) == [not is_one for is_one in beaten], points


def test_every_form_tells_all_of_it(found):
    told = json.loads(lines.as_json(found, "accuracy", AXES, {"wish": "min size", "variant": 4, "kits": "out"}))
    assert told["front"] == [2, 4] and told["picked"]["variant"] == 4 and told["axes"] == AXES
    assert told["variants"][5]["score"] is None and told["variants"][5]["bytes"] is None
    rows = list(csv.DictReader(io.StringIO(lines.as_csv(found, "accuracy").decode())))
    assert [row["state"] for row in rows] == ["verified"] * 3 + ["open", "failed", "cannot be"]
    assert (
        rows[1]["front"] == "yes" and rows[4]["reason"] == "lower leg: snr_db 3 (>= 90)" and rows[5]["accuracy"] == ""
    )
    axes = lines.axes_of(found)
    assert axes == ["model.width", "precision"]
    heads, cells = lines.headings(found, "accuracy"), lines.cells(found, axes)
    assert all(len(row) == len(heads) for row in cells) and cells[3][-2:] == ["*", "open"]
    for picked in (4, None):
        picture = Image.open(io.BytesIO(lines.picture(found, "accuracy", picked)))
        assert picture.size[0] > 1000
    assert lines.picture(found[4:], "accuracy", None)  # nothing passed, and it says so


@pytest.mark.parametrize(
    ("wish", "number"),
    [
        ("accuracy >= 0.94, size <= 20.5kB, min latency", 4),
        ("min size", 4),
        ("accuracy>=95%", 2),
        ("max accuracy, size <= 10kB", 4),
        ("precision = fp32, latency < 1500us", 1),
        ("model.width >= 0.3, min size", 2),
        ("precision != int8, size < 10 KiB", 1),
    ],
)
def test_a_wish_picks_the_line_that_meets_it(wish, number, found):
    assert picking.picked(picking.parsed(wish, "accuracy", AXES), found).number == number


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("", "says nothing"),
        ("accuray >= 0.9", "Did you mean 'accuracy'"),
        ("size <= 1XB", "'XB' is no unit"),
        ("size <= much", "no number"),
        ("accuracy >= 1.5", "is never met: accuracy is 0 to 1, or 0 to 100 %"),
        ("accuracy > 100%", "is never met"),
        ("accuracy = 0.95", "accuracy is measured, and no number is met exactly"),
        ("size != 1kB", "size is measured"),
        ("model.width = 0.36", "never '0.36'"),
        ("latency <= -5ms", "is never met: latency is more than 0"),
        ("size <= 0", "is never met: size is more than 0"),
        ("fastest", "no condition"),
        ("min speed", "no 'speed'"),
        ("max", "nothing is named that is to be least or most"),
        ("min size, max accuracy", "cannot both be"),
        ("precision = int4", "never 'int4'.*Did you mean 'int8'"),
        ("precision >= 8", "compares what are no numbers"),
        ("size >= nan", "no number"),
        ("model.width >= 1kB", "'kB' is no unit"),
    ],
)
def test_a_wish_that_cannot_be_read_says_why(wish, words):
    with pytest.raises(ConfigError, match=words):
        picking.parsed(wish, "accuracy", AXES)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("accuracy >= .9, accuracy <= .5", r"'accuracy >= \.9' and 'accuracy <= \.5' cannot be met by one variant"),
        ("size > 1MB, min latency, bytes <= 1000kB", "'size > 1MB' and 'bytes <= 1000kB' cannot"),
        ("latency < 2ms, size < 1MB, latency >= 2000us", "'latency < 2ms' and 'latency >= 2000us' cannot"),
        ("precision = int8, precision = fp32", "'precision = int8' and 'precision = fp32' cannot"),
        ("model.width < 0.3, model.width > 0.2", "'model.width < 0.3' and 'model.width > 0.2' cannot"),
        ("precision != int8, precision != fp32", "cannot be met by one variant"),
    ],
)
def test_a_wish_that_contradicts_itself_names_the_conditions(wish, words):
    with pytest.raises(ConfigError, match=words):
        picking.parsed(wish, "accuracy", AXES)


def test_bounds_that_touch_are_no_contradiction(found):
    wish = "accuracy >= 0.95, accuracy <= 95%, size > 20kB, size < 20.001e3, model.width >= 0.35, model.width != 0.2"
    with pytest.raises(SweepError, match="no variant meets"):
        picking.picked(picking.parsed(wish, "accuracy", AXES), found)
    assert picking.picked(picking.parsed("accuracy >= 0.95, accuracy <= 95%", "accuracy", AXES), found).number == 2


def test_a_wish_that_none_meets_says_where_the_bounds_are(found):
    with pytest.raises(SweepError, match=r"'size <= 1kB' of the 4 .*score 0.9500; size 6,000 bytes; latency 0.500 ms"):
        picking.picked(picking.parsed("accuracy >= 0.5, size <= 1kB", "accuracy", AXES), found)
    with pytest.raises(SweepError, match="none of 1 variants has a score, for nothing says what is right"):
        picking.picked(picking.parsed("min size", "accuracy", AXES), [line(1, math.nan, 6000, 0.5)])
    with pytest.raises(SweepError, match="none of 1 variants passed"):
        picking.picked(picking.parsed("min size", "accuracy", AXES), found[4:5])


def test_a_sweep_whose_time_was_over_says_so():
    over = [line(0, 0.9, 1, 1, state="failed"), line(1, 0.9, 1, 1, state="not reached")]
    with pytest.raises(SweepError, match=r"1 of 2 variants were not reached.*with more --hours"):
        picking.picked(picking.parsed("min size", "accuracy", AXES), over)
    # and where nothing is to be picked
    assert picking.none_passed(over, "t.csv") == (
        "1 of 2 variants were not reached in their time, and none of the others passed its checks; the table says why: t.csv. "
        "Run the same command again with more --hours: what was made is kept."
    )
    assert picking.none_passed(over[1:], "t.csv").startswith("1 of 1 variants were not reached in their time. Run")
    assert picking.none_passed(over[:1], "t.csv") == "none of 1 variants passed its checks; the table says why: t.csv"
