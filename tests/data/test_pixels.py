"""Orientation, compositing, cropping and resizing are exact integer arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageOps
from twinkeel.pipeline.data import pixels
from twinkeel.pipeline.data.pixels import (
    ORIENTATIONS,
    center_crop_box,
    fit,
    letterbox_box,
    model_input,
    on_black,
    resize,
    upright,
)


def exact(image, height, width):
    """The definition, pixel by pixel, in rational numbers."""

    def weights(n, m, i):
        raw = [max(0, 2 * max(n, m) - abs((2 * j + 1) * m - (2 * i + 1) * n)) for j in range(n)]
        return [Fraction(w, sum(raw)) for w in raw]

    out = np.zeros((height, width), np.uint8)
    for y in range(height):
        rows = weights(image.shape[0], height, y)
        for x in range(width):
            columns = weights(image.shape[1], width, x)
            value = sum(rows[j] * columns[k] * int(image[j, k]) for j in range(len(rows)) for k in range(len(columns)))
            out[y, x] = int(value + Fraction(1, 2))
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (8, 8), (13, 3)], ids=str)
@pytest.mark.parametrize("out", [(1, 1), (4, 6), (8, 8), (11, 5)], ids=str)
def test_equals_the_rational_definition(size, out):
    image = np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8)
    assert np.array_equal(resize(image, *out)[..., 0], exact(image[..., 0], *out))


def in_whole_numbers(image, height, width):
    """The definition, with all weights in 64-bit integers."""

    def weights(n, m):
        i, j = np.arange(m)[:, None], np.arange(n)[None, :]
        return np.maximum(0, 2 * max(n, m) - np.abs((2 * j + 1) * m - (2 * i + 1) * n))

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    total = (rows.sum(1)[:, None] * columns.sum(1)[None, :])[..., None]
    summed = np.einsum("yj,jkc,xk->yxc", rows, image.astype(np.int64), columns, optimize=True)
    return ((2 * summed + total) // (2 * total)).astype(np.uint8)


def test_equals_whole_numbers_at_many_sizes():
    random = np.random.default_rng(1)
    for number in range(60):
        *size, height, width = random.integers(1, [300, 300, 120, 120]).tolist()
        # black and white pixels alone give the largest sums, and quotients that are halves
        image = random.choice([0, 255], (*size, 3)) if number % 3 == 0 else random.integers(0, 256, (*size, 3))
        image = image.astype(np.uint8)
        assert np.array_equal(resize(image, height, width), in_whole_numbers(image, height, width)), (size, height)


@pytest.mark.parametrize(
    "size",
    [(480, 480, 224), (2713, 64, 224), (2729, 64, 224), (3500, 3500, 16), (20_011, 101, 1), (5_000_000, 1, 1)],
    ids=str,
)
def test_equals_whole_numbers_where_the_sums_need_another_type(size):
    rows, columns, out = size
    image = np.random.default_rng(2).integers(0, 256, (rows, columns, 1), np.uint8)
    image[: rows // 2] = 255
    assert np.array_equal(resize(image, out, out), in_whole_numbers(image, out, out))


def test_every_sum_is_rounded_right_in_the_smallest_type_that_is_taken():
    table = pixels._table((62, 63), (28, 28))
    total = int(table.total.max())
    assert 5500 < total <= pixels._NEAR and table.across.kind is np.float32
    at = tuple(np.argwhere(table.total == total)[0])
    sums = np.arange(255 * total + 1)
    share, half = (one[at] for one in pixels._shares(table))
    found = pixels._scaled(sums.astype(np.float32), share, half)
    assert np.array_equal(found, (2 * sums + total) // (2 * total))


def test_a_constant_image_stays_constant():
    image = np.full((37, 91, 3), 201, np.uint8)
    assert (fit(image, 32, 32) == 201).all()
    assert (fit(image, 17, 45) == 201).all()


@pytest.mark.parametrize("wanted", [(32, 32), (17, 33), (1024, 16), (16, 1024), (48, 64)], ids=str)
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 9), (9, 1), (37, 91), (91, 37), (48, 64), (3000, 4000), (100, 1)], ids=str
)
def test_the_crop_is_the_largest_of_its_shape_and_in_the_middle(size, wanted):
    top, left, height, width = center_crop_box(size, wanted)
    assert 1 <= height <= size[0] and 1 <= width <= size[1]
    assert height == size[0] or width == size[1]
    # of whole numbers the nearest from below
    assert height == max(1, min(size[0], int(Fraction(size[1] * wanted[0], wanted[1]))))
    assert width == max(1, min(size[1], int(Fraction(size[0] * wanted[1], wanted[0]))))
    assert 0 <= size[0] - height - 2 * top <= 1 and 0 <= size[1] - width - 2 * left <= 1


def test_the_crop_of_a_square_input_is_a_square():
    assert center_crop_box((37, 91), (224, 224)) == (0, 27, 37, 37)
    assert center_crop_box((92, 37), (16, 16)) == (27, 0, 37, 37)


@pytest.mark.parametrize("wanted", [(32, 32), (17, 33), (1024, 16), (48, 64)], ids=str)
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 9), (9, 1), (37, 91), (91, 37), (48, 64), (3000, 4000), (1, 5000)], ids=str
)
def test_a_letterbox_holds_the_whole_image_as_large_as_it_can_be(size, wanted):
    top, left, height, width = letterbox_box(size, wanted)
    assert height == wanted[0] or width == wanted[1]
    scale = min(Fraction(wanted[0], size[0]), Fraction(wanted[1], size[1]))
    nearest = [max(1, int(scale * side + Fraction(1, 2))) for side in size]  # a half up
    assert [height, width] == nearest and height <= wanted[0] and width <= wanted[1]
    assert 0 <= wanted[0] - height - 2 * top <= 1 and 0 <= wanted[1] - width - 2 * left <= 1
    image = np.random.default_rng(0).integers(1, 256, (*size, 3), np.uint8)
    found = fit(image, *wanted, "letterbox")
    assert np.array_equal(found[top : top + height, left : left + width], resize(image, height, width))
    found[top : top + height, left : left + width] = 0
    assert not found.any()


def test_an_image_of_the_inputs_shape_is_cropped_and_letterboxed_alike():
    image = np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)
    assert np.array_equal(fit(image, 64, 96, "letterbox"), fit(image, 64, 96))


def test_extreme_sizes_take_the_integer_path():
    image = np.random.default_rng(0).integers(0, 256, (1, 4000, 1), np.uint8)
    assert resize(image, 3, 1).shape == (3, 1, 1)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientations_are_those_that_pillow_knows(orientation):
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    stored = Image.fromarray(image)
    stored.getexif()[0x0112] = orientation
    assert np.array_equal(upright(image, orientation), np.asarray(ImageOps.exif_transpose(stored)))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_may_come_last(orientation):
    """Of a square: a crop's odd rest lies right and below of the upright image."""
    image = np.random.default_rng(0).integers(0, 256, (37, 37, 4), np.uint8)
    turned_last = upright(model_input(image, 1, 32, 32), orientation)
    assert np.array_equal(model_input(image, orientation, 32, 32), turned_last)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_may_come_last_of_a_letterbox_whose_rest_is_even(orientation):
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 4), np.uint8)
    stored = (32, 44) if orientation < 5 else (44, 32)
    turned_last = upright(model_input(image, 1, *stored, "letterbox"), orientation)
    assert np.array_equal(model_input(image, orientation, 32, 44, "letterbox"), turned_last)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_may_come_last_of_an_oblong_input_too(orientation):
    """A stored image whose rest is even, to the input as it is stored."""
    image = np.random.default_rng(0).integers(0, 256, (38, 70, 4), np.uint8)
    stored = (21, 30) if orientation < 5 else (30, 21)
    turned_last = upright(model_input(image, 1, *stored), orientation)
    assert turned_last.shape == (21, 30, 4)
    assert np.array_equal(model_input(image, orientation, 21, 30), turned_last)


def test_transparent_pixels_lie_on_black():
    colour, alpha = np.indices((256, 256)).astype(np.uint8)
    image = np.stack([colour, colour, colour, alpha], axis=-1)
    expected = np.rint(colour.astype(float) * alpha / 255)
    assert np.array_equal(on_black(image)[..., 0], expected)
    pillow = Image.alpha_composite(Image.new("RGBA", (256, 256), (0, 0, 0, 255)), Image.fromarray(image))
    assert np.array_equal(on_black(image), np.asarray(pillow)[..., :3])


def test_sums_beyond_64_bits_are_refused():
    with pytest.raises(ValueError, match="64-bit"):
        resize(np.broadcast_to(np.uint8(0), (40_000, 40_000, 1)), 1, 1)
