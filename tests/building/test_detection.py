"""A detector from nothing but a name to verified folders of both platforms, with its report; and what of it is made anew."""

from __future__ import annotations

import json

import pytest
from twinkeel.pipeline.building import order, runner
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.delivery.manifest import read_manifest, replay
from twinkeel.pipeline.report import page, terminal
from twinkeel.pipeline.store import Here, Store
from twinkeel.pipeline.tasks.detection.form import Form

SETTINGS = {
    "model": {"name": "ssdlite_mobilenet_v2", "width": 0.1, "resolution": 32},
    "data": {"held_out": 0.1, "calibration": 16, "accept_accuracy": "one epoch teaches nothing"},
    "train": {"epochs": 1},
    "quantize": {"minutes": 0},
    "parity": {"images": 40},
    "android": {"sdk": "none"},
    "ios": {"sdk": "none"},
    "targets": {"android/litert": ["fp32", "int8"], "android/onnx": ["int8"], "ios/coreml": ["fp16", "w8"]},
    "limit": [
        {"leg": leg, "precision": precision, "metric": metric, "value": value, "reason": "hardly trained"}
        for leg, precision, metric, value in (
            ("quantize", "int8", "snr_db", 0),
            ("quantize", "int8", "same_boxes", 0),
            ("lower", "fp16", "same_boxes", 0),
            ("lower", "w8", "same_boxes", 0),
        )
    ],
}


def built(config, out, store):
    lines = []

    def say(line, *_):
        lines.append(line)

    create = architectures.architecture(config)
    asked = order.checked(config, common.targets(), common.kits(), create, common.PLATFORMS, out, page.render, say)
    return runner.build(asked, store, say, Here()), lines


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    root = tmp_path_factory.mktemp("detector")
    config = common.checked(Config.model_validate(SETTINGS))
    store = Store(str(root / "store"))
    found, lines = built(config, root / "out", store)
    return config, root / "out", store, found, lines


def test_every_artifact_is_verified(detector):
    _, _, _, found, lines = detector
    assert all(result.is_verified for result in found.results), [terminal.failures(r) for r in found.results]
    assert any(line.startswith("train: epoch 1/1") and "held-out AP" in line for line in lines), lines


def test_the_folder_says_how_boxes_are_read(detector):
    _, _, _, found, _ = detector
    for result in found.results:
        manifest = read_manifest(result.folder)
        assert manifest["task"] == "detection" and manifest["labels"] == ["ellipse", "rectangle", "triangle"]
        form = Form.of(manifest["boxes"])
        assert (form.classes, form.format, form.background) == (3, "anchors", "first")
        assert [one["name"] for one in manifest["outputs"]] == ["boxes", "scores"]
        for entry in manifest["artifacts"]:
            assert {"AP", "ap_drop", "same_boxes"} <= set(entry)
        checks = [check for _, one in replay(result.folder, common.targets()) for check in one]
        assert checks and all(check.is_met for check in checks)
        parity = json.loads((result.folder / "parity.json").read_text())
        assert "reference_AP" in parity


def test_the_report_shows_boxes(detector):
    _, out, _, _, _ = detector
    text = (out / "report.html").read_text()
    for words in ("Precision over recall", 'class="boxes"', "AP, float model", "triangle", "<image href"):
        assert words in text, words
    for words in ("Confusion", "accuracy", "nan %"):
        assert words not in text, words


def test_another_threshold_makes_no_artifact_anew(detector):
    config, out, store, _, _ = detector
    again, _ = built(config, out, store)
    assert again.ran == []
    changed = config.model_copy(update={"detection": config.detection.model_copy(update={"score": 0.5})})
    found, _ = built(changed, out, store)
    assert found.ran and not any(name.startswith(("lower", "data", "weights", "reference")) for name in found.ran), (
        found.ran
    )
