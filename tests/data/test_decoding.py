"""Files decoded side by side are those decoded one after another; hashes are remembered as long as files stay."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.data import decoding, remembered
from twinkeel.pipeline.data.files import ImageFile
from twinkeel.pipeline.data.fitting import fitted
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.rows import Rows, hashes_of

COUNT = 316


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(decoding, "FEW", 256)
    monkeypatch.setattr(decoding, "_PART", (40, 100))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = draw.integers(0, 256, (9 + number % 5, 11, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number:04d}.png")
    return root


def files_of(root):
    return [ImageFile(root, path.name) for path in sorted(root.iterdir())]


def placed(files, place, **given):
    with decoding.put_into(place):
        return fitted(files, (8, 6), **given)


@pytest.mark.parametrize("number", [1, 2])
def test_equal_images_and_hashes_and_how_far_it_is(number, folder, tmp_path):
    told = []
    place = decoding.Place(folder=tmp_path, say=lambda line, done=None: told.append((line, done)), number=number)
    found, wanted = placed(files_of(folder), place), fitted(files_of(folder), (8, 6))
    assert isinstance(found.images, Rows) and np.array_equal(np.asarray(found.images), wanted.images)
    assert np.array_equal(hashes_of(found.images), hashes_of(wanted.images))
    assert told[-1][1] == (COUNT, COUNT) and "a second" in told[-1][0]
    assert [done[0] for _, done in told] == sorted(done[0] for _, done in told)


@pytest.mark.parametrize("number", [1, 2])
def test_every_damaged_image_is_named_or_passed_over(number, folder, tmp_path):
    files = files_of(folder)
    for name in ("0003x.png", "0290x.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
        files.append(ImageFile(tmp_path, name))
    files.sort(key=lambda file: file.name)
    (tmp_path / "here").mkdir()
    place = decoding.Place(folder=tmp_path / "here", say=lambda *_: None, number=number)
    with pytest.raises(DataError) as raised:
        placed(files, place)
    assert all(name in str(raised.value) for name in ("2 images cannot be read", "0003x.png", "0290x.png"))
    found = placed(files, place, skips_damaged=True)
    assert len(found.images) == COUNT and len(found.damaged) == 2 and not found.kept[[4, 292]].any()
    assert np.array_equal(np.asarray(found.images), fitted(files_of(folder), (8, 6)).images)


def test_an_array_is_fitted_into_a_file(tmp_path):
    given = np.random.default_rng(0).integers(0, 256, (5, 9, 12, 3), np.uint8)
    with decoding.put_into(decoding.Place(folder=tmp_path, say=lambda *_: None)):
        found = decoding.refitted(given, (8, 6))
    assert isinstance(found, Rows) and np.array_equal(np.asarray(found), decoding.refitted(given, (8, 6)))


class Fatal:
    """Ends the process that it comes to."""

    def __reduce__(self):
        return os._exit, (3,)


def test_an_image_that_ends_its_process_is_told_with_its_neighbours(folder, tmp_path):
    place = decoding.Place(folder=tmp_path, say=lambda *_: None, number=2)
    with decoding.put_into(place), pytest.raises(DataError, match=r"\.png' to '.*ends the process") as raised:
        decoding.decode(files_of(folder), (8, 6), Fatal())
    assert "exit code 3" in str(raised.value)


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """Files that were at rest for long, and how many were read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "files"
    root.mkdir()
    for name in "abc":
        (root / name).write_text(name)
    later = time.time_ns() + 10**10
    monkeypatch.setattr(remembered.time, "time_ns", lambda: later)
    read = []
    real = remembered.digest
    monkeypatch.setattr(remembered, "digest", lambda path: read.append(str(path)) or real(path))
    return root, read, later


def test_hashes_are_remembered_until_a_file_changes(settled):
    root, read, _ = settled
    first = remembered.digests(root, ["a", "b", "c"])
    assert len(read) == 3 and remembered.digests(root, ["a", "b", "c"]) == first and len(read) == 3
    kept = (root / "b").stat()
    (root / "b").write_text("B")  # as long, and the time set back: the time of the entry tells
    os.utime(root / "b", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    again = remembered.digests(root, ["a", "b", "c"])
    assert again[1] != first[1] and [again[0], again[2]] == [first[0], first[2]] and len(read) == 4


def test_what_changed_just_now_is_read_again(settled, monkeypatch):
    """Within a tick of the file system's clock it may change once more."""
    root, read, _ = settled
    monkeypatch.setattr(remembered.time, "time_ns", lambda: (root / "c").stat().st_ctime_ns + 10**9)
    remembered.digests(root, ["c"])
    remembered.digests(root, ["c"])
    assert len(read) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": [1, 2, 3, 4, "x"]}', "\xff" * 9], ids=repr)
def test_a_damaged_memory_is_none(content, settled):
    root, read, _ = settled
    wanted = remembered.digests(root, ["a"])
    (place,) = root.parent.joinpath("cache/twinkeel/hashes").iterdir()
    assert json.loads(place.read_text())["a"][-1] == wanted[0]
    place.write_text(content, encoding="latin-1")
    assert remembered.digests(root, ["a"]) == wanted and len(read) == 2


def test_a_cache_that_cannot_be_written_is_no_trouble(settled):
    root, read, _ = settled
    (root.parent / "cache").write_text("a file")
    assert remembered.digests(root, ["a"]) == remembered.digests(root, ["a"]) and len(read) == 2


def test_a_file_that_is_gone_is_an_error(settled):
    with pytest.raises(FileNotFoundError):
        remembered.digests(settled[0], ["a", "gone"])


@pytest.mark.parametrize(("how", "size", "is_told"), [("crop", (9, 30), False), ("crop", (7, 30), True),
                                                      ("letterbox", (7, 30), False), ("letterbox", (7, 7), True)])  # fmt: skip
def test_images_much_smaller_than_the_input_are_told(tmp_path, how, size, is_told):
    Image.new("RGB", size).save(tmp_path / "a.png")
    said = fitted([ImageFile(tmp_path, "a.png")], (32, 32), how).said
    assert said == ({"enlarged more than 4 times": 1} if is_told else {})
