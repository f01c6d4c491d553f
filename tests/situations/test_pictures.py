"""Images. Each is read, and its pixels are compared with those that it was made of."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features
from situations import situation
from twinkeel.pipeline import data
from twinkeel.pipeline.errors import DataError


def read(path):
    """``(H, W, 3)`` uint8 of a file."""
    return data.read_image(path)


def refused(path, *words):
    """Check that it is one error, which names the file and these words."""
    with pytest.raises(DataError) as raised:
        read(path)
    text = str(raised.value)
    assert path.name in text and len(text) < 1000, text
    assert [word for word in words if not re.search(word, text, re.IGNORECASE)] == [], text


@pytest.fixture
def colours():
    """``(12, 8, 3)``, all different, no two rows or columns alike."""
    return np.random.default_rng(0).integers(0, 256, (12, 8, 3), np.uint8)


@pytest.fixture
def grey():
    return np.arange(0, 192, 2, dtype=np.uint8).reshape(12, 8)


# what they hold


@situation("a palette with a transparent colour", "right; what is transparent is black")
def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "a.png", transparency=1)
    assert read(tmp_path / "a.png").tolist() == [[[10, 20, 30], [0, 0, 0], [7, 8, 9]]]


@situation("an animated GIF", "its first picture")
def test_an_animated_gif(tmp_path):
    first, second = (Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second, first], duration=40)
    assert np.array_equal(read(tmp_path / "a.gif"), np.full((3, 4, 3), (255, 0, 0)))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
@situation("AVIF", "right, as near as its compression")
def test_avif(tmp_path):
    Image.new("RGB", (16, 8), (200, 120, 40)).save(tmp_path / "a.avif", quality=90)
    assert np.abs(read(tmp_path / "a.avif").astype(int) - (200, 120, 40)).max() <= 4


@situation("a TIFF of one bit", "0 and 255")
def test_one_bit(tmp_path):
    board = np.indices((6, 10)).sum(0) % 2 == 0
    Image.fromarray(board).save(tmp_path / "a.tiff", compression="group4")
    assert np.array_equal(read(tmp_path / "a.tiff"), (board * np.uint8(255))[..., None].repeat(3, -1))


@situation("grey with alpha (LA)", "right, on black")
def test_grey_with_alpha(tmp_path, grey):
    for alpha, wanted in ((255, grey), (0, grey * 0), (51, np.rint(grey / 5))):
        levels = Image.fromarray(grey)
        Image.merge("LA", (levels, Image.new("L", levels.size, alpha))).save(tmp_path / "a.png")
        assert np.abs(read(tmp_path / "a.png")[..., 0].astype(int) - wanted).max() <= 1
        assert (np.ptp(read(tmp_path / "a.png"), axis=-1) == 0).all()


@situation("a PNG of 16 bits", "right: the high byte of each", reported="pytorch/vision#2218")
def test_sixteen_bits(tmp_path, grey):
    Image.fromarray(grey.astype(np.uint16) * 256 + 99).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), grey[..., None].repeat(3, -1))


@situation(
    "12 bits in a PNG of 16, as cameras and scanners write them",
    "refused, with what to save instead, for it would be all but black",
)
def test_twelve_bits_in_sixteen(tmp_path, grey):
    Image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / "a.png")
    refused(tmp_path / "a.png", "16 bits", "4096", "8 bits")


@situation("a TIFF of float32, 0 to 1", "refused, with what to save instead")
def test_float32(tmp_path, grey):
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "a.tiff")
    refused(tmp_path / "a.tiff", "float|32", "8|uint8")


@situation("a TIFF of 32-bit integers", "refused, with what to save instead")
def test_thirty_two_bits(tmp_path, grey):
    Image.fromarray(grey.astype(np.int32) * 1000).save(tmp_path / "a.tiff")
    refused(tmp_path / "a.tiff", "32", "8|uint8")


@situation("a JPEG in CMYK", "right, as near as its compression")
def test_cmyk(tmp_path):
    for ink, colour in (((255, 0, 0, 0), (0, 255, 255)), ((0, 255, 0, 0), (255, 0, 255)), ((0, 0, 0, 255), (0, 0, 0))):
        Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.jpg", quality=95)
        assert np.abs(read(tmp_path / "a.jpg").astype(int) - colour).max() <= 4


@situation("a photo of 108 megapixels, as phones make them", "right")
def test_a_hundred_megapixels(tmp_path):
    Image.new("L", (12000, 9000), 77).save(tmp_path / "a.jpg", quality=30)
    found = read(tmp_path / "a.jpg")
    assert found.shape[0] * 4 == found.shape[1] * 3 >= 1024 and np.abs(found.astype(int) - 77).max() <= 2


@situation("a photo that the camera turned (EXIF orientation)", "upright", reported="kohya-ss/sd-scripts#1316")
def test_turned_photos(tmp_path, colours):
    turned = {1: colours, 3: colours[::-1, ::-1], 6: np.rot90(colours, -1), 8: np.rot90(colours)}
    for orientation, wanted in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
        assert np.array_equal(read(tmp_path / "a.png"), wanted), orientation


@situation(
    "two pictures in one JPEG (MPO), as cameras and phones write them",
    "the first",
    reported="python-pillow/Pillow#1138",
)
def test_mpo(tmp_path):
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ((250, 10, 10), (10, 10, 250)))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - (250, 10, 10)).max() <= 4


PRIMARIES = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
"""Of Display P3, in XYZ under D50, as profiles have them."""


def display_p3():
    """A profile with the primaries of Display P3, made from that of sRGB."""
    primaries = dict(PRIMARIES)
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        name, start, _ = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        if name in primaries:
            struct.pack_into(">3i", profile, start + 8, *(round(one * 65536) for one in primaries.pop(name)))
    assert not primaries
    return bytes(profile)


@situation(
    "a photo with a profile of Display P3, as phones write them",
    "its colours, turned to sRGB as phones do it",
    reported="chaiNNer-org/chaiNNer#2599",
)
def test_display_p3(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=display_p3())
    srgb = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)])
    light = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.array(list(PRIMARIES.values())) @ np.linalg.inv(srgb), 0, 1)
    wanted = 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(read(tmp_path / "a.png") - wanted).max() < 2
    assert np.abs(wanted - colours).max() > 20


@situation("one pixel", "right")
def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


# what they are called, and what is wrong with them


@situation("WebP and PNG that are called `.jpg`", "right, by their content", reported="ymy-k/DPText-DETR#1")
def test_another_suffix(tmp_path, colours):
    for kind, more in (("WEBP", {"lossless": True}), ("PNG", {})):
        Image.fromarray(colours).save(tmp_path / "a.jpg", kind, **more)
        assert np.array_equal(read(tmp_path / "a.jpg"), colours)


@situation(
    "HEIC, as iPhones make it, without `pillow-heif`", "refused: what to install", reported="replicate/dreambooth#23"
)
def test_heic(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    header = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
    for name in ("a.heic", "a.jpg"):
        (tmp_path / name).write_bytes(header + bytes(100))
        refused(tmp_path / name, "heic", "pillow-heif|twinkeel")


@situation("half a JPEG", "refused, named", reported="pytorch/vision#138")
def test_half_a_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "a.jpg", "truncated|damaged")


@situation("an image of 0 bytes", "refused, named", reported="alexeygrigorev/clothing-dataset#1")
def test_an_empty_image(tmp_path):
    (tmp_path / "a.jpg").touch()
    refused(tmp_path / "a.jpg", "empty")


@situation(
    "git's pointers in the images' place (`git lfs`)", "refused: `git lfs pull`", reported="git-lfs/git-lfs#4240"
)
def test_a_pointer_of_git(tmp_path):
    (tmp_path / "a.png").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0f" * 32 + b"\nsize 9\n"
    )
    refused(tmp_path / "a.png", "git lfs pull")


@situation(
    "a small PNG with more than a megabyte of text, or of profile, in it",
    "refused, named, with the limit that it breaks",
    reported="python-pillow/Pillow#2445",
)
def test_a_png_with_much_text(tmp_path, colours):
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "x" * 2**21, zip=True)
    for more in ({"pnginfo": text}, {"icc_profile": display_p3() + bytes(2**21)}):
        stream = io.BytesIO()
        Image.fromarray(colours).save(stream, "PNG", **more)
        assert len(stream.getvalue()) < 2**14
        (tmp_path / "a.png").write_bytes(stream.getvalue())
        refused(tmp_path / "a.png", "too large")
