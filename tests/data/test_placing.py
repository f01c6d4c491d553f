"""Where a photo lies in the input, and back."""

from __future__ import annotations

import numpy as np
import pytest
from twinkeel.pipeline.data import fit
from twinkeel.pipeline.data.placing import Placed


@pytest.mark.parametrize(
    ("size", "wanted"), [((100, 160), (32, 32)), ((161, 97), (32, 48)), ((32, 32), (32, 32)), ((7, 900), (64, 64))]
)
@pytest.mark.parametrize("how", ["crop", "letterbox"])
def test_a_photo_and_its_input_hold_the_same_point(size, wanted, how):
    placed = Placed.of(size, wanted, how)
    boxes = np.array([[3.0, 2.0, 40.5, 6.0], [0.0, 0.0, size[1], size[0]]])
    there = placed.to_input(boxes)
    assert np.abs(placed.to_photo(there) - boxes).max() < 1e-9
    top, left, rows, columns = placed.photo
    corners = placed.to_input(np.array([left, top, left + columns, top + rows], np.float64))
    above, beside, height, width = placed.input
    assert corners.tolist() == [beside, above, beside + width, above + height], corners
    whole, part = ((0, 0, *wanted), placed.input) if how == "crop" else ((0, 0, *size), placed.photo)
    assert part == whole


@pytest.mark.parametrize("how", ["crop", "letterbox"])
def test_a_bright_block_lies_where_its_box_says(how):
    photo = np.zeros((120, 200, 3), np.uint8)
    photo[30:60, 90:120] = 255
    placed = Placed.of((120, 200), (60, 60), how)
    rows, columns = np.nonzero(fit(photo, 60, 60, how)[..., 0] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(placed.to_input(np.array([90.0, 30, 120, 60])) - found).max() <= 0.5
