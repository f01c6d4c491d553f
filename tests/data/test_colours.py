"""Values of pixels that are no bytes of sRGB: turned by a rule that is written down, or refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from twinkeel.pipeline.data import images, read_image
from twinkeel.pipeline.data.files import ImageFile
from twinkeel.pipeline.data.fitting import fitted
from twinkeel.pipeline.errors import DataError

P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
"""Primaries of Display P3: x and y of red, green and blue."""


def profile(primaries, gamma=2.2):
    """A minimal ICC profile of a display, version 2, with white D65."""
    points = np.array(primaries).reshape(3, 2)
    xyz = np.stack([points[:, 0] / points[:, 1], np.ones(3), (1 - points.sum(1)) / points[:, 1]])
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    colours = xyz * np.linalg.solve(xyz, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.96422, 1, 0.82521])
    adapted = np.linalg.inv(bradford) @ np.diag(bradford @ d50 / (bradford @ white)) @ bradford @ colours

    def fixed(values):
        return b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in values)

    tags = {
        b"desc": b"desc" + bytes(4) + (3).to_bytes(4, "big") + b"P3\0" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"x\0\0\0",
    }
    tags |= {b"wtpt": b"XYZ " + bytes(4) + fixed(d50)}
    for n, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + fixed(adapted[:, n])
        tags[name + b"TRC"] = (
            b"curv" + bytes(4) + (1).to_bytes(4, "big") + int(gamma * 256).to_bytes(2, "big") + bytes(2)
        )
    place, table, body = 128 + 4 + 12 * len(tags), len(tags).to_bytes(4, "big"), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + (place + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content
    head = (place + len(body)).to_bytes(4, "big") + bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp"
    return (head + bytes(28) + fixed(d50)).ljust(128, b"\0") + table + body


def save(path, image, **more):
    image.save(path, **more)
    return path


def test_display_p3_becomes_srgb_as_on_phones(tmp_path):
    """Red of (200, 50, 50) in Display P3, with a gamma of 2.2 for its curve, by the matrices that the standards give."""
    path = save(tmp_path / "x.png", Image.new("RGB", (4, 4), (200, 50, 50)), icc_profile=profile(P3))
    to_srgb = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
    linear = np.clip(to_srgb @ (np.array([200, 50, 50]) / 255) ** 2.2, 0, 1)
    expected = 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = read_image(path)
    assert np.abs(found[0, 0] - expected).max() <= 2, (found[0, 0], expected)
    assert found[0, 0, 0] > 212, "as it is stored it would be 200"
    read = fitted([ImageFile(tmp_path, "x.png")], (4, 4))
    assert read.said == {"colours turned to sRGB": 1}


def test_transparency_stays_where_colours_are_turned(tmp_path):
    image = Image.new("RGBA", (2, 1), (200, 50, 50, 255))
    image.putpixel((1, 0), (200, 50, 50, 0))
    found = read_image(save(tmp_path / "x.png", image, icc_profile=profile(P3)))
    assert found[0, 0, 0] > 212 and (found[0, 1] == 0).all()


@pytest.mark.parametrize("kind", ["srgb", "damaged", "grey", "huge"])
def test_other_profiles_leave_an_image_as_it_is_stored(kind, tmp_path):
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if kind == "damaged":
        content = content[:200]
    elif kind == "grey":
        content = content[:16] + b"GRAY" + content[20:]
    elif kind == "huge":
        content = profile(P3) + bytes(2**23)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(read_image(save(tmp_path / "x.tif", Image.fromarray(image), icc_profile=content)), image)


def sixteen_bits(largest):
    return np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)


def rgb_png(values):
    """A PNG of 16 bits and three channels, which Pillow reads but does not write."""
    import struct
    import zlib

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path):
    values = sixteen_bits(65535)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert np.array_equal(read_image(tmp_path / "x.png")[..., 0], values >> 8)
    (tmp_path / "y.png").write_bytes(rgb_png(np.stack([values] * 3, -1)))
    assert np.array_equal(read_image(tmp_path / "y.png")[..., 1], values >> 8)
    (tmp_path / "z.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    assert np.array_equal(read_image(tmp_path / "z.pgm")[..., 2], values >> 8)


@pytest.mark.parametrize("largest", [255, 1023, 4095])
@pytest.mark.parametrize("kind", ["png", "tif", "colour"])
def test_twelve_bits_in_sixteen_are_refused_and_not_nearly_black(kind, largest, tmp_path):
    path = tmp_path / ("x.tif" if kind == "tif" else "x.png")
    if kind == "colour":
        path.write_bytes(rgb_png(np.stack([sixteen_bits(largest)] * 3, -1)))
    else:
        Image.fromarray(sixteen_bits(largest)).save(path)
    with pytest.raises(DataError, match=r"x\..* all its values are below 4096.* save it with 8 bits"):
        read_image(path)


def test_a_text_picture_says_itself_how_many_levels_it_has(tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P5 8 8 4095\n" + sixteen_bits(4095).astype(">u2").tobytes())
    assert read_image(tmp_path / "x.pgm").max() == 255


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_floats_and_32_bits_are_refused(kind, tmp_path):
    Image.fromarray(np.linspace(0, 1, 64).astype(kind).reshape(8, 8)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif' has (float|32-bit or signed) values.*Save it with 8 bits"):
        read_image(tmp_path / "x.tif")


def test_the_first_of_several_frames_is_said(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    read = fitted([ImageFile(tmp_path, "x.gif")], (4, 4))
    assert read.said == {"the first of several frames taken": 1} and (read.images == 10).all()


def jpeg(path, size, **more):
    image = Image.effect_noise((64, 48), 60).convert("RGB").resize(size, Image.Resampling.NEAREST)
    image.save(path, quality=40, **more)
    return path


def test_a_large_jpeg_is_decoded_smaller_and_said(tmp_path, monkeypatch):
    path = jpeg(tmp_path / "x.jpg", (640, 480))
    whole = read_image(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 640 * 480 // 4)
    read = images.decoded(ImageFile(tmp_path, "x.jpg"))
    assert read.pixels.shape == (240, 320, 3) and read.said == ("reduced to 1/2 while it was decoded",)
    average = whole.reshape(240, 2, 320, 2, 3).mean((1, 3))
    assert np.abs(average - read.pixels).mean() < 2
    monkeypatch.setattr(images, "MAX_PIXELS", 640 * 480 // 60)
    assert images.decoded(ImageFile(tmp_path, "x.jpg")).pixels.shape == (60, 80, 3)


@pytest.mark.parametrize("name", ["x.png", "x.webp"])
def test_a_large_image_of_another_format_is_refused(name, tmp_path, monkeypatch):
    Image.new("RGB", (640, 480)).save(tmp_path / name)
    monkeypatch.setattr(images, "MAX_PIXELS", 640 * 480 - 1)
    with pytest.raises(DataError, match=r"x\..* has 640 x 480 pixels; at most 307,199 are read"):
        read_image(tmp_path / name)


def test_photos_of_108_and_200_megapixels_are_read(tmp_path):
    for width, height in ((12_000, 9_000), (16_320, 12_240)):
        Image.new("RGB", (width, height), (10, 200, 90)).save(tmp_path / "x.jpg", quality=20)
        found = read_image(tmp_path / "x.jpg")
        assert found.shape == (height // 2, width // 2, 3) and np.abs(found[0, 0] - (10.0, 200, 90)).max() <= 8


def test_jpegs_beyond_a_gigapixel_are_refused_before_they_are_decoded(tmp_path):
    path = jpeg(tmp_path / "x.jpg", (64, 48))
    whole = bytearray(path.read_bytes())
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = (50_000).to_bytes(2, "big") * 2
    path.write_bytes(whole)
    with pytest.raises(DataError, match="has 50000 x 50000 pixels; at most 1,073,741,824"):
        read_image(path)
    jpeg(path, (64, 48), progressive=True)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"\xff\xc2") + 5
    whole[at : at + 4] = (20_000).to_bytes(2, "big") * 2
    path.write_bytes(whole)
    with pytest.raises(DataError, match="has 20000 x 20000 pixels; at most 268,435,456"):
        read_image(path)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_its_package_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "x.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"x\.heic' is HEIC.*pip install 'twinkeel\[heic\]'"):
        read_image(tmp_path / "x.heic")


def test_heic_with_its_package(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    image = np.full((32, 48, 3), (200, 90, 30), np.uint8)
    stream = io.BytesIO()
    heif.from_bytes(mode="RGB", size=(48, 32), data=image.tobytes()).save(stream, quality=95)
    (tmp_path / "x.HEIC").write_bytes(stream.getvalue())
    assert np.abs(read_image(tmp_path / "x.HEIC").astype(int) - image).max() <= 6
    (tmp_path / "x.HEIC").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"cannot read the image .*x\.HEIC"):
        read_image(tmp_path / "x.HEIC")
