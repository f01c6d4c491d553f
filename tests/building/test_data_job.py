"""What the data's job keeps: the images once, and which of them each set has."""

from __future__ import annotations

import importlib.util
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline import saying
from twinkeel.pipeline.building.jobs import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import WeightsError
from twinkeel.pipeline.rows import Rows
from twinkeel.pipeline.store import Store, Workshop
from twinkeel.pipeline.tasks import named


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20 + number % 7, 30, 3), np.uint8)).save(path)
    return tmp_path / "images"


def config_of(folder, model=None, weights=None, **settings):
    given = {"source": "folder", "path": str(folder), "calibration": 9, **settings}
    shape = {"resolution": [16, 24], **(model or {})}
    return Config.model_validate({"model": shape, "data": given, "weights": weights or {}})


def kept(config, tmp_path, say=lambda *_: None):
    (tmp_path / "results").mkdir()
    shop = Workshop(store=None, scratch=Store(str(tmp_path / "results")))
    job = data.data_job(config)
    return shop, shop.make(job, lambda out: data.make_data(config, job, out, say))


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_sets_are_those_that_were_read_and_most_images_are_kept_once(fit, folder, tmp_path):
    config = config_of(folder, fit=fit)
    shop, entry = kept(config, tmp_path)
    assert {name for name in entry.files if name.endswith("images.npy") or name.endswith("rows.npy")} == {
        "images.npy", "train-rows.npy", "calibration-images.npy", "held-out-images.npy",
    }  # fmt: skip
    assert shop.rows(entry, "images.npy").shape == (60, 16, 24, 3)
    found, wanted = data.load_data(shop, entry), named("classification").load(config, lambda: 0)
    for name in ("train", "calibration", "held_out"):
        mine, its = getattr(found, name), getattr(wanted, name)
        assert isinstance(mine.images, Rows) and len(its.images)
        assert np.array_equal(np.asarray(mine.images), np.asarray(its.images)), name
        assert np.array_equal(mine.truth, its.truth), name


def test_a_set_that_is_all_images_but_some_is_kept_once(folder, tmp_path):
    model = {"task": "features", "factory": "own.py:create"}
    config = config_of(folder, model, {"path": "own.safetensors"}, source="images")
    shop, entry = kept(config, tmp_path)
    assert entry.has("held-out-rows.npy") and not entry.has("held-out-images.npy")
    found = data.load_data(shop, entry)
    assert (len(found.train.images), len(found.calibration.images), len(found.held_out.images)) == (0, 9, 51)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "it is empty"),
        ("w.pth", b"\xff\xd8\xff\xe0" + bytes(range(200)), "is no checkpoint, or one whose beginning is damaged"),
        ("w.pth", None, "is no file"),
        ("w.h5", b"PK" * 9, "it is no HDF5 file"),
        ("w.h5", b"\x89HDF\r\n\x1a\n", r"pip install 'twinkeel\[keras\]'"),
    ],
)
def test_a_checkpoint_of_no_known_kind_is_refused_before_images_are_read(name, content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    config = config_of(tmp_path / "nothing", {}, {"path": str(tmp_path / name)})
    with pytest.raises(WeightsError, match=message):
        data.make(Mock(), Mock(config=config), {"data": Mock()})


def test_what_is_seen_of_images_is_part_of_their_key_and_of_what_is_made_of_them(folder, tmp_path):
    jobs = [data.data_job(config_of(folder, fit=fit)) for fit in ("crop", "letterbox")]
    assert jobs[0].key != jobs[1].key
    assert {name for name in jobs[0].ingredients if jobs[0].ingredients[name] != jobs[1].ingredients[name]} == {
        "how images are fitted"
    }
    _, entry = kept(config_of(folder), tmp_path)
    digests = [data.images_in(entry, name) for name in data.SETS]
    assert len(digests[0]) == 2 and len({one for row in digests for one in row}) == 4


def test_long_work_says_how_far_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(saying, "EVERY", 0.0)
    monkeypatch.setattr("twinkeel.pipeline.rows.AT_ONCE", 16 * 24 * 3 * 4)
    told = []
    kept(config_of(folder), tmp_path, lambda line, done=None: told.append((line, done)))
    lines = [(line, done) for line, done in told if line.startswith("data: put into sets: ")]
    assert lines and [done[0] for _, done in lines] == sorted(done[0] for _, done in lines)
    assert all(done[0] < done[1] == 60 - 39 for _, done in lines)


def test_no_line_comes_sooner_than_said_and_none_when_all_is_done(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(saying.time, "monotonic", lambda: clock[0])
    told = []
    tell = saying.Pace(lambda line, done=None: told.append(line), "train: epoch 2/3", 4000)
    for second in range(1, 41):
        clock[0] += 1
        tell(100 * second)
    assert len(told) == 7
    assert told[0] == "train: epoch 2/3: 500 of 4,000 images, about 35 s left"
    assert saying.time_left(1, 601, 1.0) == ", about 10 minutes left" and saying.time_left(5, 5, 9.0) == ""
