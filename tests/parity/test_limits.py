"""Limits: one row for each target and precision, and failures that show."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Limit
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.parity import limits, metrics
from twinkeel.pipeline.tasks import classification


def test_every_precision_of_every_target_has_limits_with_reasons():
    for target in common.targets().values():
        for precision in target.PRECISIONS:
            rows = parity.limits_for(classification.MEANING, "lower", precision, [], target.EVIDENCE, target.KERNELS)
            assert rows and all(row.reason for row in rows), (target.NAME, precision)


def test_a_precision_without_limits_is_an_error():
    with pytest.raises(ConfigError, match="no parity limit"):
        parity.limits_for(classification.MEANING, "lower", "int2", [])


def test_a_limit_can_be_tightened_and_with_a_reason_loosened():
    def override(value, reason=""):
        return Limit(leg="lower", precision="fp32", metric="snr_db", value=value, reason=reason)

    def bound(limit):
        return {r.metric: r for r in parity.limits_for(classification.MEANING, "lower", "fp32", [limit])}["snr_db"]

    assert bound(override(100.0)).value == 100
    assert bound(override(50.0, "an experiment")).reason == "an experiment"
    with pytest.raises(ConfigError, match="give a reason"):
        bound(override(50.0))


def test_what_every_artifact_has_can_be_limited_where_no_row_does():
    """int8 of XNNPACK has no row of accuracy, for it is equal to its reference; who writes one means it all the same."""
    wanted = Limit(leg="lower", precision="int8", metric="accuracy_drop", value=0.001)
    rows = {
        row.metric: row
        for row in parity.limits_for(classification.MEANING, "lower", "int8", [wanted], "runtime", "xnnpack")
    }
    assert "accuracy_drop" not in {row.metric for row in limits.XNNPACK_LIMITS["int8"]}
    row = rows["accuracy_drop"]
    assert (row.sense, row.value, row.needs_all, bool(row.reason)) == ("<=", 0.001, True, True)
    assert len(rows) == 1 + len(limits.XNNPACK_LIMITS["int8"])
    parity.check_overrides(classification.MEANING, [wanted], [("lower", "int8", "runtime", "xnnpack")])
    with pytest.raises(ConfigError, match="would change nothing"):
        parity.check_overrides(classification.MEANING, [wanted], [("lower", "fp32", "runtime", "xnnpack")])


LEGS = [("lower", "fp32", "runtime", "xnnpack"), ("lower", "int8", "runtime", "xnnpack")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "int8", "unit": "GPU", "metric": "snr_loss_db", "value": 2.5}, ""),
        ({"precision": "int8", "unit": "GPU", "metric": "snr_db", "value": 30}, ""),
        ({"precision": "int8", "unit": "CPU", "metric": "max_steps", "value": 0}, ""),
        ({"precision": "fp32", "metric": "snr_db", "value": 100}, ""),
        ({"precision": "int8", "unit": "GPU", "metric": "snr_loss_db", "value": 4}, "looser than 3; give a reason"),
        ({"precision": "int8", "unit": "GPU", "metric": "snr_loss_db", "value": 4, "reason": "measured on a Pixel 9"}, ""),
        ({"precision": "int8", "metric": "snr_loss_db", "value": 2}, "looser than 1; give a reason"),  # the CPU's
        ({"precision": "w8", "metric": "snr_db", "value": 40}, "no artifact of this configuration is 'w8'"),
        ({"precision": "fp32", "metric": "equal_logits", "value": 1}, "device, fp32 has no 'equal_logits'"),
        ({"precision": "int8", "metric": "accuracy_drop", "value": 0.01}, "device, int8 has no 'accuracy_drop'"),
        ({"precision": "int8", "metric": "equal_logits", "value": 99}, "lies between 0 and 1, not at 99"),
        ({"leg": "lower", "precision": "int8", "unit": "GPU", "metric": "max_steps", "value": 0}, "of the leg lower"),
    ],
)  # fmt: skip
def test_limits_of_devices_are_checked_before_any_work(given, message):
    limit = Limit.model_validate({"leg": "device", **given})
    if not message:
        return parity.check_overrides(classification.MEANING, [limit], LEGS)
    with pytest.raises(ConfigError, match=message):
        parity.check_overrides(classification.MEANING, [limit], LEGS)


def test_limits_of_devices_hold_for_the_unit_that_they_name():
    rows = parity.device_limits("xnnpack", "int8", ("GPU",))
    given = [
        Limit(leg="device", precision="int8", unit="GPU", metric="snr_loss_db", value=2.5),
        Limit(leg="device", precision="int8", metric="snr_db", value=30, reason="enough"),
        Limit(leg="device", precision="fp16", metric="snr_db", value=50),
    ]
    found = {unit: parity.device_limits_for(rows, "int8", unit, given) for unit in ("GPU", "NPU")}
    assert [(row.metric, row.sense, row.value) for row in found["GPU"]] == [
        ("snr_loss_db", "<=", 2.5),
        ("snr_db", ">=", 30),
    ]
    assert (
        found["GPU"][0].reason.startswith("tightened by the configuration; 3 by default")
        and found["GPU"][1].reason == "enough"
    )
    assert [row.value for row in found["NPU"]] == [3, 30]


def test_a_tightened_limit_does_not_keep_the_reason_of_the_default():
    limit = Limit(leg="quantize", precision="int8", metric="accuracy_drop", value=0.001)
    (row,) = [
        r for r in parity.limits_for(classification.MEANING, "quantize", "int8", [limit]) if r.metric == "accuracy_drop"
    ]
    assert row.reason == "tightened by the configuration; 0.005 by default: half a point of top-1"


def test_what_was_not_measured_fails():
    checks = parity.judge("lower", parity.limits_for(classification.MEANING, "lower", "fp32", []), {})
    assert checks and not any(check.is_met for check in checks)


def test_one_percent_of_noise_is_40_db_and_a_failure_names_leg_number_and_limit():
    reference = np.ones((4, 10), np.float32)
    reference[:, 0] = 2
    candidate = reference * np.float32(1.01)
    assert metrics.snr_db(reference, candidate) == pytest.approx(40, abs=0.01)
    measured = {
        "snr_db": metrics.snr_db(reference, candidate),
        "max_error": metrics.max_error(reference, candidate),
    }
    failed = [
        str(c)
        for c in parity.judge("lower", parity.limits_for(classification.MEANING, "lower", "fp32", []), measured)
        if not c.is_met
    ]
    assert len(failed) == 2
    assert "lower: snr_db is 40" in failed[0] and ">= 90" in failed[0]


def test_steps_count_the_int8_grid():
    apart = metrics.steps(np.float32([[0.5, 1.0]]), np.float32([[0.5, 1.5]]), 0.25)
    assert apart.tolist() == [[0, 2]]


@pytest.mark.parametrize(("precision", "agreement", "drop"), [("w8", 0.95, 0.005), ("w4", 0.8, 0.03)])
def test_weights_in_few_bits_that_lose_answers_are_missed_and_few_images_leave_it_open(precision, agreement, drop):
    rows = parity.limits_for(classification.MEANING, "lower", precision, [], "reference executor", "coreml")
    known = {row.metric: row for row in rows}
    assert (known["agreement"].value, known["accuracy_drop"].value) == (agreement, drop)
    assert all(known[metric].is_counted and known[metric].reason for metric in ("agreement", "accuracy_drop"))

    def verdict(kept, images):
        candidate = np.zeros((images, 2), np.float32)
        candidate[:kept, 0], candidate[kept:, 1] = 1, 1
        reference = np.tile(np.float32([1, 0]), (images, 1))
        counted = classification.MEANING.count(reference, reference, candidate, np.zeros(images, np.int64), ())
        (check,) = parity.judge("lower", [known["agreement"]], counted)
        return check.verdict

    assert verdict(200, 1000) == "missed"
    assert verdict(round(1000 * (agreement + 0.045)), 1000) == "holds"
    assert verdict(round(40 * agreement), 40) == "open"


@pytest.mark.parametrize(
    ("own_db", "allowed"), [(22.8, 25.8), (26.99, 29.99), (27.0, 30.0), (40.0, 30.0), (float("nan"), 30.0)]
)
def test_flipped_roundings_may_be_half_of_the_noise_that_is_there(own_db, allowed):
    rows = limits.LIMITS["lower", "int8"]
    found = limits.beside_noise(rows, own_db)
    assert [row.metric for row in found] == ["snr_db", "snr_loss_db"] and found[1] == rows[1]
    assert found[0].value == pytest.approx(allowed) and (found[0] == rows[0]) == (allowed == 30.0)


def test_a_limit_of_the_configurations_own_stays_as_it_is():
    own = dataclasses.replace(limits.LIMITS["lower", "int8"][0], value=40.0)
    assert limits.beside_noise([own], 20.0) == (own,)


def test_what_one_runtime_has_in_float_is_no_excuse_for_another():
    in_float = ("conv_transpose2d in onnxruntime", "upsample_bilinear2d in onnxruntime")
    assert limits.arithmetic("xnnpack", in_float) == "xnnpack" and limits.arithmetic("coreml", in_float) == "coreml"
    assert limits.arithmetic("onnxruntime", in_float) == "" and limits.floats_in("onnxruntime", in_float) == in_float
    assert limits.arithmetic("xnnpack", (*in_float, "softmax")) == ""
    assert limits.floats_in("xnnpack", (*in_float, "softmax")) == ("softmax",)
