"""Images without labels: what is built on them, and what is counted."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import DataError, WeightsError
from twinkeel.pipeline.stages import weights
from twinkeel.pipeline.tasks import classification
from twinkeel.pipeline.tasks.classification import original


def photos(folder, count, seed=0):
    """Smooth ones, all different, in folders that name nothing."""
    random = np.random.default_rng(seed)
    for number in range(count):
        small = random.integers(0, 256, (4, 4, 3), np.uint8)
        path = folder / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((40, 32), Image.Resampling.BICUBIC).save(path)
    return folder


def config(folder, **more):
    return Config.model_validate(
        {"data": {"source": "images", "path": str(folder), **more}, "weights": {"path": "given.safetensors"}}
    )


def test_some_images_calibrate_and_the_others_are_held_out(tmp_path):
    found = classification.load(config(photos(tmp_path / "in", 30)), lambda: 7)
    assert found.names == tuple(f"class {n}" for n in range(7))
    assert (len(found.train.images), len(found.calibration.images), len(found.held_out.images)) == (0, 15, 15)
    assert set(found.held_out.truth.tolist()) == set(found.calibration.truth.tolist()) == {-1}
    seen = [{image.tobytes() for image in part.images} for part in (found.calibration, found.held_out)]
    assert not seen[0] & seen[1]
    few = classification.load(config(tmp_path / "in", calibration=4), lambda: 7)
    assert (len(few.calibration.images), len(few.held_out.images)) == (4, 26)


def test_a_calibration_folder_of_its_own_leaves_all_to_be_held_out(tmp_path):
    photos(tmp_path / "in", 9)
    photos(tmp_path / "other", 5, seed=1)
    found = classification.load(config(tmp_path / "in", calibration_path=str(tmp_path / "other")), lambda: 2)
    assert (len(found.train.images), len(found.calibration.images), len(found.held_out.images)) == (0, 5, 9)


def test_names_come_from_a_file_where_there_is_one(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    found = classification.load(config(photos(tmp_path / "in", 4), labels=str(tmp_path / "names.txt")))
    assert found.names == ("cat", "dog")


@pytest.mark.parametrize(("count", "message"), [(0, "no folder with images"), (1, r"^1 image is too few")])
def test_too_few_images_are_an_error(tmp_path, count, message):
    with pytest.raises(DataError, match=message):
        classification.load(config(photos(tmp_path / "in", count)), lambda: 2)


@pytest.mark.parametrize("setting", ["data.path", "data.calibration_path"])
def test_where_all_images_are_damaged_it_is_said_how_many_and_why(setting, tmp_path):
    photos(tmp_path / "in", 4)
    (tmp_path / "bad").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "bad" / name).write_bytes((tmp_path / "in" / "0" / "0.png").read_bytes()[:60])
    given = {"skip_damaged": True, **({"calibration_path": str(tmp_path / "bad")} if "cal" in setting else {})}
    told = rf"^{setting} '.*bad' has 2 images, and all are damaged\. The first: .*a\.png'"
    with pytest.raises(DataError, match=told):
        classification.load(config(tmp_path / ("in" if "cal" in setting else "bad"), **given), lambda: 2)


def test_without_weights_there_is_nothing_to_learn_from(run_cli, tmp_path):
    (tmp_path / "twinkeel.toml").write_text('[data]\nsource = "images"\npath = "in"\n')
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out").exception)
    assert "no labels to train on" in told and "[weights] path" in told, told


def test_the_weights_say_how_many_classes_there_are(tmp_path):
    save_file(mobilenet_v2.create(13, 0.35).state_dict(), tmp_path / "w.safetensors")
    assert weights.outputs_in(tmp_path / "w.safetensors") == 13
    save_file({"a": torch.zeros(3)}, tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=r"\[data\] labels"):
        weights.outputs_in(tmp_path / "n.safetensors")


def test_agreement_is_counted_and_accuracy_is_not():
    logits, unknown = np.eye(5, dtype=np.float32), np.full(5, -1)
    other = logits[[0, 1, 2, 4, 3]]
    meaning = classification.meaning(config("in"))
    worth = meaning.worth(logits, logits, other, unknown, ())
    assert worth.counted.keys() == {"agreement"} and worth.counted["agreement"][0] == 0.6 and math.isnan(worth.score)
    assert classification.columns(worth) == {"as float": "3 of 5", "accuracy": "–"}
    assert classification.shares(worth) == {"agreement": 0.6}
    metrics = {row.metric for rows in meaning.limits.values() for row in rows}
    assert "agreement" in metrics and "accuracy_drop" not in metrics
    every = {key for key in meaning.limits if key[0] == "lower" and key[1] != "fp32"}
    assert all("agreement" in {row.metric for row in meaning.limits[key]} for key in every)


def test_of_the_original_only_what_needs_no_label_is_looked_at():
    names, unknown = [f"n{n}" for n in range(5)], np.full(40, -1)
    random = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    look = original.look(random, unknown)
    assert original.trouble(look, names, is_trained=False) == original.doubt(look, names) == ""
    broken = original.look(random * np.float32(np.nan), unknown)
    assert "infinite or NaN" in original.trouble(broken, names, is_trained=False)
    always = original.look(random * 0 + np.arange(5, dtype=np.float32), unknown)
    assert original.trouble(always, names, is_trained=False) == ""
    assert "'n4' on every one of 40" in original.doubt(always, names)


def test_a_model_that_does_not_look_at_images_is_stopped(run_cli, tmp_path):
    """Without labels one class for all may be right, one logit to the last bit is not."""
    state = mobilenet_v2.create(5, 0.2).state_dict()
    zeros = {name: torch.zeros_like(one) if name.endswith("weight") else one for name, one in state.items()}
    save_file(zeros, tmp_path / "w.safetensors")
    photos(tmp_path / "in", 8)
    (tmp_path / "twinkeel.toml").write_text(
        f'[model]\nwidth = 0.2\n[data]\nsource = "images"\npath = "{tmp_path / "in"}"\n[weights]\npath = "w.safetensors"\n'
    )
    out = tmp_path / "out"
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", out, "--store", "none").exception)
    assert "one and the same output for 4 held-out images that differ" in told and "weights of zeros" in told, told
    assert not out.exists()


@pytest.mark.usefixtures("here")
def test_a_build(fixed_weights, run_cli, tmp_path):
    """Weights and a folder of images, and nothing else."""
    photos(tmp_path / "in", 40)
    (tmp_path / "twinkeel.toml").write_text(
        f'[model]\nwidth = 0.2\n[data]\nsource = "images"\npath = "in"\n[weights]\npath = "{fixed_weights}"\n'
        '[quantize]\nminutes = 0\n[targets]\n"android/onnx" = ["fp32", "int8"]\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "snr_db"\nvalue = 0\nreason = "noise is no digit"\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "agreement"\nvalue = 0.3\nreason = "the same"\n'
    )
    out = tmp_path / "out"
    ended = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", out, "--store", "none")
    assert ended.exit_code == 0, ended.output
    assert "accuracy unknown" in ended.output and "of 20" in ended.output
    table = json.loads((out / "android" / "parity.json").read_text())
    assert table["reference_accuracy"] == {"float": "nan", "int8": "nan"}
    assert all(row["paired"] is None and row["agreed"]["images"] == 20 for row in table["artifacts"])
    text = re.sub(r"data:image/[^\"]*", "", (out / "report.html").read_text())
    assert "have no labels" in text and "nan" not in text
