"""Rows of arrays in files are those of the arrays."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from twinkeel.pipeline import rows
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import Samples, arrays, doubts, rgba
from twinkeel.pipeline.data.splits import Split, split, split_in_two

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)


@pytest.fixture
def stored(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    return rows.Rows.of(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "chosen",
    [slice(3, 30), slice(None, None, -2), slice(0), [5, 6, 7, 2, 2, 39], [], np.arange(40) % 3 == 0, np.array([-1, 0])],
    ids=["slice", "backwards", "nothing", "list", "empty", "mask", "from the end"],
)
def test_an_index_gives_what_the_array_gives(chosen, stored):
    wanted = IMAGES[chosen] if not isinstance(chosen, list) or chosen else IMAGES[:0]
    found = stored[chosen]
    assert isinstance(found, rows.Rows) and found.shape == wanted.shape and len(found) == len(wanted)
    assert np.array_equal(np.asarray(found), wanted)
    assert np.array_equal(np.asarray(found[::-1]), wanted[::-1])
    assert [*map(bytes, found)] == [*map(bytes, wanted)]


def test_one_row_is_in_memory(stored):
    assert np.array_equal(stored[-1], IMAGES[-1]) and isinstance(stored[np.int64(3)], np.ndarray)
    with pytest.raises(IndexError):
        stored[40]


def test_rows_of_several_arrays_in_any_order(stored):
    other = 255 - IMAGES[:7]
    both, whole = rows.joined(stored[::2], other), np.concatenate([IMAGES[::2], other])
    order = np.random.default_rng(1).permutation(len(whole))
    assert np.array_equal(np.asarray(both[order]), whole[order])
    again = rows.joined(stored[:3], stored[10:12])
    assert len(again.sources) == 1 and np.array_equal(np.asarray(again), IMAGES[[0, 1, 2, 10, 11]])
    assert isinstance(rows.joined(other, other), np.ndarray)
    assert np.array_equal(rows.hashes_of(both), rows.hashes_of(whole))
    assert rows.hashes_of(whole)[0] == hashlib.sha256(IMAGES[0].tobytes()).hexdigest()


@pytest.mark.parametrize("at_once", [1, 130, 2**20])
def test_parts_are_all_of_it(at_once, stored):
    found = list(rows.parts(stored[::3], at_once))
    assert np.array_equal(np.concatenate(found), IMAGES[::3])
    assert max(map(len, found)) <= max(1, at_once // 60)


def test_saved_as_numpy_saves(stored, tmp_path):
    for chosen in (slice(None), slice(0), [3, 1]):
        rows.save(stored[chosen], tmp_path / "a.npy")
        np.save(tmp_path / "b.npy", IMAGES[chosen])
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_file_that_became_shorter_is_an_error(stored, tmp_path):
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(OSError, match="shorter"):
        np.asarray(stored)


def test_small_ones_are_put_at_hand(stored):
    assert isinstance(rows.at_hand(stored), np.ndarray) and rows.at_hand(stored, 100) is stored


def test_models_are_given_rgba_of_rows(stored):
    samples = Samples(stored, (np.arange(40, dtype=np.float32),))
    pixels, numbers = arrays(samples[[4, 9]])
    assert np.array_equal(pixels, rgba(IMAGES[[4, 9]])) and numbers.tolist() == [4, 9]
    assert pixels.flags.writeable and samples.shape[1:3] == (5, 4)


@pytest.mark.parametrize("function", [split, split_in_two])
def test_the_sets_are_those_of_the_array(function, stored):
    config = Config.model_validate({"data": {"calibration": 8}})
    truth = np.arange(40) % 4
    given = {"groups": truth} if function is split else {}
    one, other = (function(images, truth, tuple("abcd"), config, **given) for images in (IMAGES, stored))
    for name in ("train", "calibration", "held_out"):
        part, same = getattr(one, name), getattr(other, name)
        assert np.array_equal(part.images, np.asarray(same.images)) and np.array_equal(part.truth, same.truth)
        assert part.digest() == same.digest()
    assert doubts.warnings(one) == doubts.warnings(other)


def test_doubts_in_parts_are_those_of_the_whole(stored, monkeypatch):
    whole = Split(images=IMAGES, truth=np.arange(40))
    wanted = [doubts.neighbour_correlation(IMAGES), doubts.uncovered_share(whole.part(slice(3)), whole)]
    low, high = IMAGES[:3].min((0, 1, 2)), IMAGES[:3].max((0, 1, 2))
    assert wanted[1] == pytest.approx(((low > IMAGES) | (high < IMAGES)).mean())
    monkeypatch.setattr(doubts, "parts", lambda images, _=0: rows.parts(images, 200))
    found = [doubts.neighbour_correlation(stored), doubts.uncovered_share(whole.part(slice(3)), whole)]
    assert found == pytest.approx(wanted)
