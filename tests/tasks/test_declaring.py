"""What a user declares of a detector's outputs, and what is said of it where it does not fit."""

from __future__ import annotations

import pytest
from twinkeel.pipeline import config as settings
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.tasks.detection.form import form_of

BOXES = {"name": "b", "holds": "boxes", "format": "xyxy"}
SCORES = {"name": "s", "holds": "scores", "activation": "sigmoid"}
PACKED = {"name": "p", "holds": "packed", "format": "cxcywh", "activation": "none"}
HEAT = {"name": "h", "holds": "heat", "activation": "sigmoid"}
SIZES = {"name": "w", "holds": "sizes"}
ANCHORS = {"format": "anchors", "anchors": [[[8, 8]]], "strides": [16]}

REFUSED = {  # by what is said: [[output]]
    "format says how an output of a detector is read: give holds": [{"name": "b", "format": "xyxy"}],
    "unknown value 'box'. Known: boxes, heat": [BOXES | {"holds": "box"}],
    "background speaks of 'packed' or 'scores', and 'b' holds 'boxes'": [BOXES | {"background": "first"}],
    "'b' holds boxes in which format": [{"name": "b", "holds": "boxes"}],
    "the scores in 's' have to go through what": [{"name": "s", "holds": "scores"}],
    "strides and maps say the same": [BOXES | {"strides": [8], "maps": [[4, 4]]}],
    "format = 'anchors' and anchors belong together": [BOXES | {"format": "anchors"}],
    "anchors are given for 1 of 2 maps": [BOXES | ANCHORS | {"strides": [8, 16]}],
    "variances are two numbers (of centre and size) or four": [BOXES | ANCHORS | {"variances": [1, 1, 1]}],
    "belong to format = 'anchors'": [BOXES | {"variances": [1, 1]}],
    "unit does not apply to format = 'anchors'": [BOXES | ANCHORS | {"unit": "cells"}],
    "activation = 'softmax' does not go with heat": [HEAT | {"activation": "softmax"}],
    "activation = 'softmax' does not go with objectness": [PACKED | {"activation": "softmax", "objectness": True}],
    "Input should be greater than 0": [BOXES | {"strides": [0]}],
    "List should have at least 2 items": [BOXES | {"maps": [[4]]}],
}

UNFIT = {  # by what is said: [[output]], shapes
    "model.task = 'detection' has to know what": ([{"name": "a"}], [(4, 4)]),
    "boxes are made of boxes and scores, sizes and heat, or packed, not of boxes (1)": ([BOXES], [(9, 4)]),
    "'packed' has boxes and scores in it, and stands beside others": ([PACKED, SCORES], [(9, 6), (9, 2)]),
    "as many of each are paired in their order, not boxes (1) scores (2)": (
        [BOXES, SCORES, SCORES | {"name": "t"}],
        [(9, 4), (9, 2), (9, 2)],
    ),
    "'offsets' belong to 'sizes', and stand beside 'boxes'": (
        [BOXES, SCORES, {"name": "o", "holds": "offsets"}],
        [(9, 4), (9, 2), (9, 2)],
    ),
    "format of 'b' and 'c' differ, 'xyxy' and 'cxcywh'": (
        [BOXES, BOXES | {"name": "c", "format": "cxcywh"}, SCORES, SCORES | {"name": "t"}],
        [(9, 4), (9, 4), (9, 2), (9, 2)],
    ),
    "'s' has 8 candidates, and 'b' 9 candidates": ([BOXES, SCORES], [(9, 4), (8, 2)]),
    "'s' has a map of 3 x 3, and 'b' 9 candidates": ([BOXES, SCORES], [(9, 4), (2, 3, 3)]),
    "'b' has 5 numbers at each place, and 4 are wanted": ([BOXES, SCORES], [(9, 5), (9, 2)]),
    "'b' is (9, 2, 2, 4) of an image": ([BOXES, SCORES], [(9, 2, 2, 4), (9, 2)]),
    "'p' has 0 numbers for a candidate's classes": ([PACKED | {"layout": "rows"}], [(9, 4)]),
    "'b' is a list of boxes in cells of which grids": ([BOXES | {"format": "ltrb"}, SCORES], [(9, 4), (9, 2)]),
    "'b' has 9 candidates, and its grids 16: 4 x 4": ([BOXES | {"strides": [8]}, SCORES], [(9, 4), (9, 2)]),
    "'b' is one map of 3 x 3, and [8.0, 16.0] are declared": (
        [BOXES | {"strides": [8, 16]}, SCORES],
        [(4, 3, 3), (2, 3, 3)],
    ),
    "'s' has 1 numbers for a candidate's classes, which leaves no class": (
        [BOXES, SCORES | {"activation": "softmax", "background": "first"}],
        [(9, 4), (9, 1)],
    ),
    "scores have [2, 3] numbers for a candidate's classes": (
        [BOXES, BOXES | {"name": "c"}, SCORES, SCORES | {"name": "t"}],
        [(9, 4), (9, 4), (9, 2), (9, 3)],
    ),
    "2 are declared, and the model gives 3": ([BOXES, SCORES], [(9, 4), (9, 2), (3,)]),
}


@pytest.mark.parametrize("told", REFUSED)
def test_a_setting_that_does_not_fit_is_one_clear_error(told):
    with pytest.raises(ConfigError) as error:
        settings.of({"output": REFUSED[told]}, "here")
    assert told in str(error.value), error.value
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("told", UNFIT)
def test_shapes_that_do_not_fit_are_one_clear_error(told):
    outputs, shapes = UNFIT[told]
    found = Config.model_validate({"model": {"resolution": 32}, "output": outputs})
    with pytest.raises(ConfigError) as error:
        form_of(found, [Output(name=str(n), shape=shape) for n, shape in enumerate(shapes)])
    assert told in str(error.value), error.value
    assert len(str(error.value).splitlines()) == 1


def test_what_is_not_said_is_told_by_the_shapes():
    def form(outputs, *shapes):
        found = Config.model_validate({"model": {"resolution": [64, 32]}, "output": outputs})
        return form_of(found, [Output(name=str(n), shape=shape) for n, shape in enumerate(shapes)])

    (block,) = form([PACKED], (7, 50)).blocks  # the longer side is that of the candidates
    assert (block.count, block.boxes.step, block.boxes.apart, block.scores.first) == (50, 1, 50, 200)
    (block,) = form([PACKED], (50, 7)).blocks
    assert (block.count, block.boxes.step, block.boxes.apart, block.scores.first) == (50, 7, 1, 4)
    found = form([HEAT, SIZES], (3, 16, 8), (2, 16, 8))
    assert (found.format, found.peaks, found.iou_threshold, found.classes) == ("size", True, 0.5, 3)
    assert found.blocks[0].cell == found.blocks[0].unit == (4, 4)
    found = form([BOXES | {"format": "ltrb", "maps": [[4, 2], [2, 1]]}, SCORES], (10, 4), (10, 3))
    assert [(block.rows, block.columns, block.cell, block.unit) for block in found.blocks] == [
        (4, 2, (16, 16), (16, 16)),
        (2, 1, (32, 32), (32, 32)),
    ]
    assert found.iou_threshold == 0.5 and found.variances == (1, 1, 1, 1)


def test_what_a_network_of_ours_gives_is_known():
    model = {"name": "ssdlite_mobilenet_v2", "resolution": [96, 128]}
    found = common.checked(settings.of({"model": model}, "here"))
    assert found.model.task == "detection"
    assert [(one.name, one.holds) for one in found.output] == [("boxes", "boxes"), ("scores", "scores")]
    named = common.checked(settings.of({"model": model, "output": [{"name": "where"}, {"name": "what"}]}, "here"))
    assert [one.name for one in named.output] == ["where", "what"]
    assert named.output[0].anchors == found.output[0].anchors
    for outputs, told in (
        ([BOXES, SCORES], "what 'ssdlite_mobilenet_v2' gives is known"),
        ([{"name": "where"}], "gives boxes, scores: name each"),
    ):
        with pytest.raises(ConfigError, match=told):
            common.checked(settings.of({"model": model, "output": outputs}, "here"))


def test_anchors_are_those_that_the_network_was_made_for():
    from twinkeel.model.ssdlite import anchors

    found = common.checked(settings.of({"model": {"name": "ssdlite_mobilenet_v2", "resolution": [96, 128]}}, "here"))
    wanted = anchors(96, 128)
    shapes = [(len(wanted), 4), (len(wanted), 21)]
    form = form_of(found, [Output(name=str(n), shape=shape) for n, shape in enumerate(shapes)])
    assert abs(form.anchors() - wanted).max() < 1e-5
    assert (form.classes, form.background, form.variances) == (20, "first", (0.1, 0.1, 0.2, 0.2))


def test_a_task_that_reads_no_boxes_is_not_told_of_them():
    with pytest.raises(
        ConfigError, match=r"'b' holds 'boxes', which model.task = 'detection' reads, not 'classification'"
    ):
        common.checked(settings.of({"output": [BOXES, SCORES]}, "here"))
