"""Reading and splitting of images."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.tasks import classification


def test_the_split_is_deterministic_and_disjoint():
    first, second = classification.load(Config()), classification.load(Config())
    assert first.calibration.digest() == second.calibration.digest()
    seen = [{image.tobytes() for image in part.images} for part in (first.train, first.calibration, first.held_out)]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(len(p.images) for p in (first.train, first.calibration, first.held_out)) == 1797


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    if mode == "I;16":
        image = Image.fromarray(np.full((5, 4), 40_000, np.uint16))
    else:
        grey = Image.new("RGB", (4, 5), (200, 200, 200))
        # the default palette of `convert` has no 200
        image = grey.quantize(4) if mode == "P" else grey.convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I;16") else "image.png")
    image.save(path)
    found = data.read_image(path)
    assert found.shape == (5, 4, 3) and found.dtype == np.uint8
    if mode != "1":
        assert np.abs(found.astype(int) - (156 if mode == "I;16" else 200)).max() <= 3


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (6, 2), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert data.read_image(tmp_path / "a.jpg").shape == (6, 2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "raw.tif", "tiff_lzw.tif", "tiff_adobe_deflate.tif"])
def test_each_orientation_of_each_format_is_turned_once(name, orientation, tmp_path):
    """Pillow turns a TIFF while it loads it."""
    colours = np.array(
        [[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[250, 250, 0], [0, 250, 250], [250, 250, 250]]], np.uint8
    )
    squares = np.kron(colours, np.ones((16, 16, 1), np.uint8))
    image = Image.fromarray(squares)
    exif = image.getexif()
    exif[0x0112] = orientation
    options = {"compression": name.removesuffix(".tif")} if name.startswith("tiff_") else {}
    image.save(tmp_path / name, exif=exif, **options)
    found = data.read_image(tmp_path / name)
    stored = Image.fromarray(squares)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    assert found.shape == expected.shape and np.abs(found.astype(int) - expected)[8::16, 8::16].max() < 40


def test_an_image_beyond_pillows_own_limit_has_ours_in_its_error(tmp_path, recwarn):
    """A header is enough."""
    for side in (11_000, 20_000):
        Image.new("1", (16, 16)).save(tmp_path / "a.bmp")
        header = bytearray((tmp_path / "a.bmp").read_bytes())
        header[18:26] = struct.pack("<ii", side, side)
        (tmp_path / "a.bmp").write_bytes(header)
        with pytest.raises(DataError, match=r"at most 100,000,000 are read|at most 100,000,000 pixels are read"):
            data.read_image(tmp_path / "a.bmp")
    assert not [w for w in recwarn if "Decompression" in str(w.category)]


def test_transparent_pixels_are_put_on_black(tmp_path):
    Image.new("RGBA", (2, 2), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert (data.read_image(tmp_path / "a.png") == 0).all()


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError, match=r"broken\.png"):
        data.read_image(tmp_path / "broken.png")


def test_a_file_of_names_may_begin_with_a_mark_and_have_spaces_at_its_ends(tmp_path):
    from twinkeel.pipeline.tasks.classification import names

    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat \r\n dog\r\nsea lion\r\n".encode())
    assert names.read_labels(path) == ("cat", "dog", "sea lion")


@pytest.mark.parametrize("other", ["cat", "cat ", "ca\u200bt", "\ufeffcat"])
def test_names_that_people_cannot_tell_apart_are_one(tmp_path, other):
    from twinkeel.pipeline.tasks.classification import names

    path = tmp_path / "labels.txt"
    path.write_text(f"cat\n{other}\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2 repeats"):
        names.read_labels(path)
