"""WebDataset shards: read as folders of the same images are, and what is wrong with them named."""

from __future__ import annotations

import gzip
import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import data_ingredients
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.tasks import classification

WORDS = ("cat", "dog", "eel")


def png(number):
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def shard(path, members):
    """An archive of names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def samples(numbers, label=lambda n: (".cls", str(n % 3))):
    """Image and label of each number."""
    for number in numbers:
        suffix, text = label(number)
        yield f"{number:06d}.png", png(number)
        yield f"{number:06d}{suffix}", text.encode()


def config(root, **data):
    sections = {"model": {"resolution": 16}, "data": {"source": "folder", "path": str(root), "calibration": 6, **data}}
    return Config.model_validate(sections)


def loaded(root, **data):
    return classification.load(config(root, **data))


def as_rows(part):
    return sorted(
        (image.tobytes(), int(right)) for image, right in zip(np.asarray(part.images), part.truth, strict=True)
    )


def folder_of(root, numbers, under=""):
    for number in numbers:
        path = root / under / WORDS[number % 3] / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_shards_are_read_as_class_folders_are(suffix, tmp_path):
    """The same images with the same labels, in the same sets, whatever says what they are."""
    for own, numbers in (("train", range(18)), ("val", range(18, 30))):
        folder_of(tmp_path / "folder", numbers, own)
        half = len(numbers) // 2
        shard(tmp_path / "cls" / f"pets-{own}-000000{suffix}", samples(numbers[:half]))
        shard(tmp_path / "cls" / f"pets-{own}-000001{suffix}", samples(numbers[half:]))
        described = lambda n: (".json", f'{{"caption": "x", "label": "{WORDS[n % 3]}"}}')  # noqa: E731
        shard(tmp_path / "json" / own / f"000000{suffix}", samples(numbers, described))
    (tmp_path / "names.txt").write_text("\n".join(WORDS))
    wanted = loaded(tmp_path / "folder")
    numbered, named, described = (
        loaded(tmp_path / "cls"), loaded(tmp_path / "cls", labels=str(tmp_path / "names.txt")), loaded(tmp_path / "json"),
    )  # fmt: skip
    assert wanted.names == named.names == described.names == WORDS
    assert numbered.names == ("class 0", "class 1", "class 2")
    for found in (numbered, named, described):
        assert as_rows(found.held_out) == as_rows(wanted.held_out)
        both = (as_rows(found.train) + as_rows(found.calibration), as_rows(wanted.train) + as_rows(wanted.calibration))
        assert sorted(both[0]) == sorted(both[1])
    assert dict(numbered.taken)["names of classes"] == "numbers, for none are given: 3"
    assert "2 shards, pets-val-000000" in dict(numbered.taken)["held-out"]


def test_a_single_shard_with_what_else_lies_in_one(tmp_path):
    more = [("000001.seg.png", png(99)), ("000002.txt", b"a caption"), ("999999.cls", b"1"), ("000777.png", png(98))]
    path = shard(tmp_path / "pets.tar", [*samples(range(30)), *more])
    found = loaded(path)
    assert sum(len(part.images) for part in (found.train, found.calibration, found.held_out)) == 30
    passed = dict(found.taken)["passed over"]
    for told in ("1 further image of a sample", "1 image without a label", "1 label without an image", "1 .txt"):
        assert told in passed, passed
    unlabelled = Config.model_validate(
        {"model": {"resolution": 16}, "data": {"source": "images", "path": str(tmp_path)}, "weights": {"path": "x"}}
    )
    assert len(classification.load(unlabelled, lambda: 3).held_out.images) > 10


def test_a_number_that_no_image_has_is_a_class_all_the_same(tmp_path):
    shard(tmp_path / "a-0.tar", samples(range(20), lambda n: (".cls", str(4 * (n % 2)))))
    found = loaded(tmp_path)
    assert found.names == tuple(f"class {n}" for n in range(5)) and set(found.train.truth.tolist()) == {0, 4}


def test_every_shard_counts_for_the_key(tmp_path):
    """Also where those of two sets are called alike."""
    for own, first in (("train", 0), ("val", 20)):
        shard(tmp_path / own / "000000.tar", samples(range(first, first + 20)))
    keys = [data_ingredients(config(tmp_path), is_sorted=True)["images"]["content"]]
    for own, first in (("train", 100), ("val", 120)):
        shard(tmp_path / own / "000000.tar", samples(range(first, first + 20)))
        keys.append(data_ingredients(config(tmp_path), is_sorted=True)["images"]["content"])
    assert len({str(key) for key in keys}) == 3


def given(*labels, suffix=".cls"):
    """Two samples that are sound, and one of each of these labels."""
    return [*samples(range(2)), *((f"{n:03d}{end}", content) for n, label in enumerate(labels) for end, content in ((".png", png(50 + n)), (suffix, label)))]  # fmt: skip


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (given(b"cat"), "some labels are numbers and others are not, 'cat'"),
        (given(b"-1"), "a label is -1, and classes are numbered from 0 to 99,999"),
        (given(b"999999999"), "a label is 999999999, and classes are numbered from 0"),
        (given(b"9" * 30), "some labels are numbers and others are not"),
        (given(b""), "cannot read the label '.*000.cls': it is empty"),
        (given(b"\xff\xfe"), "cannot read the label '.*000.cls': 'utf-8' codec"),
        (given(b"a\nb"), "'a.*b' is neither a number nor a name"),
        (given(b"x" * 2**21), "has 2,097,152 bytes; at most 1,048,576 are read"),
        (given(b"{", suffix=".json"), "cannot read the label '.*000.json': "),
        (given(b'{"label": [1]}', suffix=".json"), r"its label is \[1\], and no number or name"),
        (given(b'{"label": true}', suffix=".json"), "its label is True, and no number or name"),
        (given(b'{"label": 1, "label": 2}', suffix=".json"), "the key 'label' occurs twice"),
        (given(b"[" * 100000, suffix=".json"), "nested deeper"),
        ([("../x.png", png(0)), ("../x.cls", b"0")], "a path out of it"),
        ([("x.png", png(0)), ("x.png", png(0)), ("x.cls", b"0")], "there twice"),
        ([("x.cls", b"0"), ("y.cls", b"1")], r"has no image with a \.cls or \.json beside it in its 1 shard:"),
        ([*samples(range(3), lambda n: (".cls", "0"))], "images of 1 class alone"),
    ],
)
def test_what_is_wrong_with_a_shard_is_named(members, told, tmp_path):
    shard(tmp_path / "shards" / "x-000000.tar", members)
    with pytest.raises(DataError, match=f"(?s){told}"):
        loaded(tmp_path / "shards")


def test_names_that_are_fewer_than_the_numbers(tmp_path):
    shard(tmp_path / "shards" / "x.tar", samples(range(12)))
    (tmp_path / "names.txt").write_text("cat\ndog")
    with pytest.raises(DataError, match=r"the data have a label 2, and data\.labels names 2 classes, 0 to 1"):
        loaded(tmp_path / "shards", labels=str(tmp_path / "names.txt"))


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
@pytest.mark.parametrize("cut", ["in a header", "behind a member", "in what is stored", "garbage"])
def test_a_shard_that_is_not_whole(cut, suffix, tmp_path):
    """Python's tarfile would read what comes before, and say nothing."""
    path = shard(tmp_path / "x.tar", samples(range(12)))
    content = path.read_bytes()
    starts = [content.index(f"{number:06d}.png".encode()) for number in range(12)]
    places = {"in a header": starts[9] + 100, "behind a member": starts[9], "in what is stored": starts[9] + 600}
    broken = content[: places.get(cut)]
    if cut == "garbage":
        broken = content[: starts[9]] + b"x" * 512 + content[starts[9] + 512 :]
    path.unlink()
    (tmp_path / f"x{suffix}").write_bytes(gzip.compress(broken) if suffix == ".tgz" else broken)
    with pytest.raises(
        DataError, match=r"cannot read the archive .*(breaks off or is damaged at byte|unexpected end of data)"
    ):
        loaded(tmp_path)
