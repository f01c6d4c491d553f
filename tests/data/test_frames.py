"""Frames of cameras: the integer rule beside the recommendations' own numbers, layouts in memory, and frames that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
from twinkeel.pipeline.data import Frame, Plane, frame_input, frames, model_input
from twinkeel.pipeline.delivery.frames import Shape, frame_cases


def exact(matrix, value_range, y, u, v):
    """What the recommendations say, in float64 and not rounded."""
    red, blue = (float(share) for share in frames.MATRICES[matrix])
    green = 1 - red - blue
    gain, chroma, black = (1, 1, 0) if value_range == "full" else (255 / 219, 255 / 224, 16)
    light, u, v = gain * (y.astype(float) - black), chroma * (u.astype(float) - 128), chroma * (v.astype(float) - 128)
    parts = light + 2 * (1 - red) * v, light - 2 * (1 - blue) * blue / green * u - 2 * (1 - red) * red / green * v
    return np.clip(np.stack([*parts, light + 2 * (1 - blue) * u], -1), 0, 255)


@pytest.mark.parametrize("value_range", ["full", "limited"])
@pytest.mark.parametrize("matrix", frames.MATRICES)
def test_integers_are_the_recommendations_rounded(matrix, value_range):
    axis = np.arange(0, 256, 3, dtype=np.uint8)
    y, u, v = np.meshgrid(axis, axis, axis, indexing="ij")
    found = frames.converted(y, u, v, frames.coefficients(matrix, value_range)).astype(int)
    wanted = exact(matrix, value_range, y, u, v)
    apart = np.abs(found - np.floor(wanted + 0.5))
    print(f"{matrix} {value_range}: {apart.mean():.1e} of all values are rounded the other way")
    # each of three terms is half of 1/65536 off at most, for 255 steps of luma and 128 of each chroma
    assert np.abs(found - wanted).max() <= 0.5 + (255 + 128 + 128) / 2**17


@pytest.mark.parametrize("matrix", frames.MATRICES)
@pytest.mark.parametrize(("value_range", "black", "white"), [("full", 0, 255), ("limited", 16, 235)])
def test_grey_stays_grey(matrix, value_range, black, white):
    y = np.array([black, white], np.uint8)
    middle = np.full(2, 128, np.uint8)
    found = frames.converted(y, middle, middle, frames.coefficients(matrix, value_range))
    assert found.tolist() == [[0, 0, 0], [255, 255, 255]]


def test_colours_are_those_of_jpeg():
    """Pillow's own numbers for a JPEG's colours, which round otherwise."""
    from PIL import Image

    samples = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    theirs = np.asarray(Image.fromarray(samples, "YCbCr").convert("RGB")).astype(int)
    ours = frames.converted(samples[..., 0], samples[..., 1], samples[..., 2], frames.coefficients("bt601", "full"))
    assert np.abs(ours - theirs).max() <= 1


def test_the_sample_that_covers_a_pixel_colours_it():
    y = np.full((3, 5), 100, np.uint8)
    u = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    v = np.full((2, 3), 128, np.uint8)
    frame = Frame(width=5, height=3, y=plane(y), u=plane(u), v=plane(v))
    spread = u.repeat(2, 0).repeat(2, 1)[:3, :5]
    expected = frames.converted(y, spread, np.full((3, 5), 128, np.uint8), frames.coefficients("bt601", "full"))
    assert np.array_equal(frame.rgb(), expected)
    window = Frame(width=3, height=2, left=1, top=1, y=plane(y), u=plane(u), v=plane(v))
    assert np.array_equal(window.rgb(), expected[1:, 1:4])


def test_layouts_of_the_same_samples_are_the_same_frame():
    rng = np.random.default_rng(0)
    y, u, v = rng.integers(0, 256, (33, 45), np.uint8), *rng.integers(0, 256, (2, 17, 23), np.uint8)
    inputs = []
    for layout in ("i420", "yv12", "nv12", "nv21"):
        shape = Shape(layout=layout, columns=45, rows=33, padding=7, window=(0, 0, 33, 45), orientation=6)
        data = rng.integers(0, 256, shape.bytes, np.uint8)
        for samples, span in zip((y, u, v), shape.planes, strict=True):
            for row, line in enumerate(samples):
                start = span.start + row * span.row_stride
                data[start : start + (len(line) - 1) * span.pixel_stride + 1 : span.pixel_stride] = line
        inputs.append(shape.input(data, 24, 24, "crop"))
    assert all(np.array_equal(inputs[0], one) for one in inputs)
    frame = Frame(width=45, height=33, y=plane(y), u=plane(u), v=plane(v))
    opaque = np.concatenate([frame.rgb(), np.full((33, 45, 1), 255, np.uint8)], -1)
    assert np.array_equal(inputs[0], model_input(opaque, 6, 24, 24))
    assert np.array_equal(inputs[0], frame_input(frame, 6, 24, 24))


def test_planes_that_are_too_small_are_refused():
    y, u = np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.uint8)
    short = Plane(data=np.zeros(15, np.uint8), row_stride=4)
    with pytest.raises(
        ValueError, match="a plane of 15 bytes, 4 to a row and 1 to a sample, has no samples up to row 3, column 3"
    ):
        Frame(width=4, height=4, y=short, u=plane(u), v=plane(u)).rgb()
    with pytest.raises(ValueError, match="row 2, column 1"):
        Frame(width=4, height=5, y=plane(np.zeros((5, 4), np.uint8)), u=plane(u), v=plane(u)).rgb()
    for stride in (0, -1):
        with pytest.raises(ValueError, match="has no samples"):
            Frame(width=4, height=4, y=Plane(data=y.ravel(), row_stride=stride), u=plane(u), v=plane(u)).rgb()


def test_kits_are_given_every_layout_rotation_matrix_and_range():
    shapes = [case.shape for case in frame_cases(20, 30, "letterbox")]
    assert {shape.layout for shape in shapes} == {"i420", "yv12", "nv12", "nv21", "rgba"}
    assert {shape.orientation for shape in shapes} >= {1, 3, 6, 8}
    assert {shape.matrix for shape in shapes} == set(frames.MATRICES)
    assert {shape.value_range for shape in shapes} == {"full", "limited"}
    assert all(case.expected.shape == (20, 30, 4) for case in frame_cases(20, 30))


def test_harnesses_are_given_60_frames(tmp_path):
    import camera_frames

    cases = camera_frames.cases()
    assert len(cases) == camera_frames.COUNT == 60
    assert {case.shape.orientation for case in cases} == {1, 3, 6, 8}
    colours = {(case.shape.orientation, case.shape.matrix, case.shape.value_range) for case in cases}
    assert len(colours) == 4 * 2 * 2
    assert any(case.shape.columns % 2 and case.shape.rows % 2 for case in cases)
    right = b"".join(one.tobytes() for one in camera_frames.expected())
    (tmp_path / "right").write_bytes(right)
    assert camera_frames.differences(tmp_path / "right") == []
    (tmp_path / "wrong").write_bytes(right[:-2] + bytes([right[-2] ^ 1]) + right[-1:])
    assert len(camera_frames.differences(tmp_path / "wrong")) == 1
    (tmp_path / "short").write_bytes(right[:-1])
    assert len(camera_frames.differences(tmp_path / "short")) == 1


def plane(samples):
    return Plane(data=samples.reshape(-1), row_stride=samples.shape[1])
