"""Calibration sets: what is wrong with one is said, and held-out images never get into it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline import data
from twinkeel.pipeline.config import IMAGENET_MEAN, IMAGENET_STD, Config
from twinkeel.pipeline.data import doubts
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.tasks import classification


@pytest.fixture(scope="module")
def digits():
    return classification.load(Config.model_validate({"data": {"held_out": 0.2}}))


def with_calibration(digits, images, labels=None):
    labels = digits.calibration.truth[: len(images)] if labels is None else labels
    return dataclasses.replace(digits, calibration=data.Split(images=images, truth=labels))


def warnings(data):
    return [*doubts.warnings(data), *classification.doubts(data)]


def test_the_default_set_is_not_warned_of(digits):
    assert warnings(digits) == []


def test_a_tiny_set_and_missing_classes_are_named(digits):
    few = with_calibration(digits, digits.calibration.images[:3], np.array([4, 4, 7]))
    found = warnings(few)
    assert "only 3 calibration images" in found[0]
    assert any("8 of 10 classes have no calibration image ('0', '1', '2', '3', '5' ...)" in line for line in found)


def test_copies_of_an_image_are_one(digits):
    found = warnings(with_calibration(digits, digits.calibration.images[np.arange(80) % 5], np.arange(80) % 10))
    assert "only 5 calibration images, of 80 that are given: the others are the same; below 64" in found[0], found


def test_noise_is_told_from_images(digits):
    noise = np.random.default_rng(0).integers(0, 256, digits.calibration.images.shape, np.uint8)
    found = warnings(with_calibration(digits, noise))
    assert len(found) == 1 and "look like noise: neighbouring pixels correlate by 0.00" in found[0], found
    assert doubts.neighbour_correlation(digits.calibration.images) > 0.7


def test_images_that_are_all_dark_do_not_cover_the_input(digits):
    found = warnings(with_calibration(digits, digits.calibration.images // 3))
    assert len(found) == 1 and "outside 0..85" in found[0], found


@pytest.mark.parametrize(
    ("channels", "mean", "std", "turned"),
    [
        ("bgr", IMAGENET_MEAN, IMAGENET_STD, "mean = [0.406, 0.456, 0.485], std = [0.225, 0.224, 0.229]."),
        ("bgr", IMAGENET_MEAN, (0.5, 0.5, 0.5), "ImageNet's numbers: mean = [0.406, 0.456, 0.485]."),
        ("bgr", (0.0, 0.0, 0.0), IMAGENET_STD, "ImageNet's numbers: std = [0.225, 0.224, 0.229]."),
        ("bgr", IMAGENET_MEAN[::-1], IMAGENET_STD[::-1], None),
        ("rgb", IMAGENET_MEAN, IMAGENET_STD, None),
    ],
)
def test_imagenets_numbers_in_another_order_than_the_channels_are_told(channels, mean, std, turned):
    given = {"channels": channels, "mean": list(mean), "std": list(std)}
    found = doubts.of_order(Config.model_validate({"data": given}))
    assert len(found) == bool(turned) and (not turned or found[0].endswith(turned)), found


def test_constant_images_can_be_looked_at(digits):
    flat = np.full((70, 32, 32, 3), 7, np.uint8)
    found = warnings(with_calibration(digits, flat, np.arange(70) % 10))
    assert any("outside 7..7" in line for line in found), found


def save(images, folder):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")


def configured(folder, **more):
    return Config.model_validate({"data": {"calibration_path": str(folder), "held_out": 0.2, **more}})


def test_a_folder_of_its_own_is_calibrated_on_and_the_rest_is_trained_on(digits, tmp_path):
    own = 255 - digits.train.images[:20]
    save(own[:10], tmp_path / "own" / "3")
    save(own[10:], tmp_path / "own" / "unknown")
    found = classification.load(configured(tmp_path / "own"))
    assert len(found.calibration.images) == 20
    assert sorted(found.calibration.truth.tolist()) == [-1] * 10 + [3] * 10
    assert len(found.train.images) == len(digits.train.images) + len(digits.calibration.images)
    assert np.array_equal(found.held_out.images, digits.held_out.images)
    assert len(classification.load(configured(tmp_path / "own", calibration=5)).calibration.images) == 5


def test_a_held_out_image_cannot_be_calibrated_on(digits, tmp_path):
    save(digits.held_out.images[:2], tmp_path / "own")
    with pytest.raises(
        DataError, match=r"all 2 calibration images are held out too \('.*0\.png', '.*1\.png'\): measured"
    ):
        classification.load(configured(tmp_path / "own"))
    save(255 - digits.train.images[:3], tmp_path / "own" / "others")
    with pytest.raises(DataError, match=r"2 of the 5 calibration images are held out too"):
        classification.load(configured(tmp_path / "own"))
    (tmp_path / "own" / "1.png").unlink()
    with pytest.raises(DataError, match=r"0\.png' is one of the held-out images too: measured on it"):
        classification.load(configured(tmp_path / "own"))


def test_many_held_out_images_are_counted_and_three_are_named(digits, tmp_path):
    save(digits.held_out.images[:5], tmp_path / "own")
    with pytest.raises(DataError, match=r"all 5 .*2\.png' \.\.\.\)") as caught:
        classification.load(configured(tmp_path / "own"))
    assert "3.png" not in str(caught.value)


def test_one_calibration_image_is_told_as_one(digits):
    found = warnings(with_calibration(digits, digits.train.images[:1]))
    assert any("only 1 calibration image;" in line for line in found), found


def test_a_calibration_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is no folder with images"):
        classification.load(configured(tmp_path / "nowhere"))


def test_of_many_images_some_are_looked_at(monkeypatch):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (400, 4, 4, 3), np.uint8)
    whole = data.Split(images=images, truth=np.zeros(400, np.int64))
    middle = data.Split(images=np.clip(images[:9], 26, 229), truth=np.zeros(9, np.int64))
    all_of_them = doubts.uncovered_share(middle, whole)
    monkeypatch.setattr(doubts, "LOOKED_AT", 100)
    assert doubts.uncovered_share(middle, whole) == pytest.approx(all_of_them, abs=0.02) and all_of_them > 0.15


def test_tensors_outside_of_their_range_are_told():
    config = Config.model_validate(
        {"input": [{"name": "pose", "shape": [2], "range": [-1.0, 1.0]}], "weights": {"path": "x.pt"}}
    )
    values = np.zeros((70, 2), np.float32)
    values[3], values[5, 1] = 2.5, -7
    part = data.Split(images=np.zeros((70, 4, 4, 3), np.uint8), truth=np.zeros(70, np.int64), tensors=(values,))
    found = data.Dataset(train=part.part(slice(0)), calibration=part, held_out=part.part(slice(0, 3)), names=("a",))
    (line,) = doubts.of_tensors(found, config)
    assert "'pose' of 2 of 73 images leaves its range, -1 to 1: there are -7 to 2.5" in line, line
    assert doubts.of_tensors(dataclasses.replace(found, calibration=part.part(slice(0, 3))), config) == []


def test_warnings_are_printed_and_stand_in_the_manifest(fixed_build):
    import json

    manifest = json.loads((fixed_build.folders["android"] / "manifest.json").read_text())
    assert manifest["warnings"] == []
    assert not any(line.startswith("WARNING") for line in fixed_build.messages)
    first, *_, rung = manifest["quantization"]
    assert first["name"] == "equalization" and rung["name"] == "chosen" and rung["is_met"] and rung["snr_db"] >= 25, (
        rung
    )
