"""The contact sheet: which images are on it, and how they look there."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.data import contact
from twinkeel.pipeline.data.splits import Dataset, Split

NAMES = tuple("abcdefghij")


def split(truth, height=20, width=20, colour=None):
    """Images whose grey level is their number, or all of one colour."""
    truth = np.asarray(truth)
    images = np.zeros((len(truth), height, width, 3), np.uint8)
    images[:] = np.arange(len(truth))[:, None, None, None] if colour is None else colour
    return Split(images=images, truth=truth)


def sheet(train, calibration, held_out, names=NAMES, channels="rgb"):
    made = Dataset(train=train, calibration=calibration, held_out=held_out, names=names)
    return np.asarray(Image.open(io.BytesIO(contact.sheet(made, names, channels))))


@pytest.mark.parametrize(
    ("truth", "most", "wanted"),
    [
        ([0] * 100, 5, [0, 24, 49, 74, 99]),
        ([-1] * 3, 16, [0, 1, 2]),
        (np.arange(1000), 16, list(np.linspace(0, 999, 16).astype(int))),
        ([0] * 90 + [1] * 2 + [2] * 8, 8, [0, 44, 89, 90, 91, 92, 95, 99]),
        ([1, 0, 1, 0], 2, [1, 0]),
        ([], 4, []),
    ],
    ids=["one kind", "few", "many kinds", "uneven", "mixed", "none"],
)
def test_as_many_kinds_as_there_is_room_for_and_evenly(truth, most, wanted):
    assert contact.chosen(split(np.asarray(truth, np.int64)), most) == wanted


def test_truth_of_any_shape_is_spread_over():
    assert contact.chosen(split(np.zeros((9, 4), np.float32)), 3) == [0, 4, 8]


def test_small_images_are_enlarged_pixel_by_pixel_and_large_ones_reduced():
    board = (np.indices((16, 24)).sum(0) % 2 * 255).astype(np.uint8)
    part = Split(images=np.stack([board[..., None].repeat(3, -1)] * 2), truth=np.array([0, 1]))
    found = sheet(part, part, part)
    y, x = 56, 8  # below the headline and the set's line
    assert (found[y : y + 64, x : x + 96] == board.repeat(4, 0).repeat(4, 1)[..., None]).all()
    large = split([0, 1], 300, 600, colour=(10, 200, 30))
    found = sheet(large, large, large)
    assert (found[56 : 56 + 50, 8 : 8 + 100] == (10, 200, 30)).all() and (found[56, 109] == 255).all()


@pytest.mark.parametrize(("height", "width"), [(16, 1024), (1024, 16), (16, 16), (1024, 1024), (112, 113)])
def test_a_sheet_stays_small_whatever_the_size_and_the_number(height, width):
    part = split(np.arange(60) % 10, height, width)
    found = sheet(part, part, part)
    assert found.shape[0] * found.shape[1] < 1_000_000 and found.shape[1] <= 968


def test_grey_is_what_enters_a_grey_model():
    part = split([0], colour=(255, 0, 0))
    assert (sheet(part, part, part, channels="grayscale")[60, 12] == 76).all()
    assert (sheet(part, part, part, channels="bgr")[60, 12] == (255, 0, 0)).all()


def test_without_training_images_the_others_have_the_room():
    none, many = split(np.zeros(0, np.int64)), split(np.zeros(200, np.int64))
    rows, heads = 6 * (100 + 24), 3 * 24
    assert sheet(none, many, many, names=()).shape == (rows + heads + 8, 8 * 108 + 8, 3)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Größe é", "[0] Gro?e e"),
        ("Café", "Cafe"),
        ("\u72ac", "[0] ?"),
        ("a\u202eb\tc", "[0] a?b c"),
        ("plain", "plain"),
    ],
)
def test_a_name_that_the_font_has_not_carries_its_number(name, told):
    assert contact._caption(np.int64(0), 7, (name,)) == told
    part = split([0])
    assert sheet(part, part, part, names=(name * 50,)).shape[1] == sheet(part, part, part).shape[1]


def test_images_that_nobody_named_have_their_number():
    assert contact._caption(np.int64(-1), 7, NAMES) == contact._caption(np.int64(3), 7, ()) == "no. 7"
    assert contact._caption(np.zeros(4), 7, NAMES) == "no. 7"


def test_the_same_images_give_the_same_bytes():
    part = split(np.arange(60) % 10)
    made = Dataset(train=part, calibration=part, held_out=part, names=NAMES)
    assert contact.sheet(made, NAMES, "rgb") == contact.sheet(made, NAMES, "rgb")
