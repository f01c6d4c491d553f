"""Folders of images."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from pathlib import Path

import pytest
from coloured import images_of, load, put, said, whole
from PIL import Image
from situations import situation
from twinkeel.pipeline.errors import DataError

# what lies where


@situation("`train/<class>` and `val/<class>`", "two sets as they are given", reported="pytorch/vision#613")
def test_train_and_val(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        put(tmp_path / "train" / name, number, 6)
        put(tmp_path / "val" / name, number, 3, first=100)
    found = load(tmp_path)
    assert found.names == ("cat", "dog")
    assert images_of(found.held_out) == {(number, one): number for number in (0, 1) for one in (100, 101, 102)}
    assert images_of(found.train, found.calibration) == {(n, one): n for n in (0, 1) for one in range(6)}


@situation(
    "ImageNet's `train`, `val` and `test` below one more folder, the classes named `n01440764`",
    "three sets as they are given",
    reported="JaminFong/DenseNAS#9",
)
def test_imagenet(tmp_path):
    for number, name in enumerate(("n01440764", "n01443537")):
        put(tmp_path / "ImageNet" / "train" / name, number, 4)
        put(tmp_path / "ImageNet" / "val" / name, number, 3, first=50)
        put(tmp_path / "ImageNet" / "test" / name, number, 3, first=100)
    found = load(tmp_path)
    assert found.names == ("n01440764", "n01443537")
    assert set(images_of(found.held_out)) == {(n, one) for n in (0, 1) for one in (100, 101, 102)}
    assert set(images_of(found.calibration)) <= {(n, one) for n in (0, 1) for one in (50, 51, 52)}
    assert {(n, one) for n in (0, 1) for one in range(4)} <= set(images_of(found.train))


@situation(
    "a class that `train` has and `val` has not",
    "each image keeps its own class",
    reported="ultralytics/ultralytics#13936",
)
def test_a_class_is_missing_in_val(tmp_path):
    for number, name in enumerate(("0", "180", "270", "90")):
        put(tmp_path / "train" / name, number, 4)
        if name != "180":
            put(tmp_path / "val" / name, number, 2, first=100)
    found = load(tmp_path)
    assert found.names == ("0", "180", "270", "90")
    assert images_of(found.held_out) == {(number, one): number for number in (0, 2, 3) for one in (100, 101)}


@situation(
    "a class that `val` has and `train` has not", "refused, the class named", reported="ultralytics/ultralytics#26182"
)
def test_a_class_is_missing_in_train(tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        put(tmp_path / "val" / name, number, 2, first=100)
        if name != "c":
            put(tmp_path / "train" / name, number, 4)
    with pytest.raises(DataError, match="'c'"):
        load(tmp_path)


@situation(
    "images that are in `train` and in `val`",
    "taken out of `train`, and said",
    reported="zalandoresearch/fashion-mnist#44",
)
def test_the_same_images_in_both(tmp_path):
    for number, name in enumerate(("a", "b")):
        put(tmp_path / "train" / name, number, 6)
        put(tmp_path / "val" / name, number, 3, first=4)  # two of them are train's too
    found = load(tmp_path)
    assert set(images_of(found.held_out)) == {(n, one) for n in (0, 1) for one in (4, 5, 6)}
    assert set(images_of(found.train, found.calibration)) == {(n, one) for n in (0, 1) for one in range(4)}
    assert [line for line in said(found) if line.startswith("4 images") and "taken out" in line]


@situation("folders in class folders", "their images are of the class", reported="pytorch/vision#3130")
def test_folders_in_class_folders(tmp_path):
    put(tmp_path / "bird" / "spring" / "2019", 0, 4)
    put(tmp_path / "bird", 0, 2, first=4)
    put(tmp_path / "fish", 1, 6)
    whole(load(tmp_path), ("bird", "fish"), (6, 6))


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
@situation(
    "class folders that are links, and one that leads back up",
    "followed, each real folder once",
    reported="fastai/fastai#2270",
)
def test_links(tmp_path):
    put(tmp_path / "elsewhere" / "cats", 0, 5)
    root = tmp_path / "set"
    put(root / "dog", 1, 5)
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cats", target_is_directory=True)
    (root / "dog" / "again").symlink_to(root / "dog", target_is_directory=True)
    whole(load(root), ("cat", "dog"), (5, 5))


# classes


@situation(
    "classes that are numbers", "in the order of text, as torchvision has them: 1, 10, 2", reported="pytorch/vision#714"
)
def test_numbers_as_classes(tmp_path):
    for number, name in enumerate(("1", "10", "2")):
        put(tmp_path / name, number, 4)
    whole(load(tmp_path), ("1", "10", "2"), (4, 4, 4))


@situation("spaces, dots, accents and emoji in names of classes", "right", reported="open-edge-platform/geti#6443")
def test_names_of_classes(tmp_path):
    names = ("1 bear", "St. Bernard v1.2", "crème brûlée", "🍣")
    for number, name in enumerate(names):
        put(tmp_path / name, number, 4)
    whole(load(tmp_path), names, (4, 4, 4, 4))


@situation(
    "the same class in two spellings of é, one of macOS and one of Linux, in `train` and `val`",
    "one class",
    reported="owncloud/core#31544",
)
def test_two_spellings_of_a_letter(tmp_path):
    for number, name in enumerate(("café", "thé")):
        put(tmp_path / "train" / unicodedata.normalize("NFC", name), number, 4)
        put(tmp_path / "val" / unicodedata.normalize("NFD", name), number, 2, first=100)
    if len(list((tmp_path / "train").iterdir())) != 2:
        pytest.skip("this file system has one spelling")
    found = load(tmp_path)
    assert found.names == tuple(unicodedata.normalize("NFC", name) for name in ("café", "thé"))
    assert images_of(found.held_out) == {(number, one): number for number in (0, 1) for one in (100, 101)}


@situation("a class with one image", "it is for training, and that is said")
def test_a_class_with_one_image(tmp_path):
    for number, (name, count) in enumerate((("a", 5), ("b", 1), ("c", 5))):
        put(tmp_path / name, number, count)
    found = load(tmp_path)
    whole(found, ("a", "b", "c"), (5, 1, 5))
    assert (1, 0) in images_of(found.train)
    assert [line for line in said(found) if "one image" in line and "'b'" in line]


@situation("a class folder without images", "said", reported="pytorch/vision#4925")
def test_an_empty_class(tmp_path):
    for number, name in enumerate(("a", "b", "d")):
        put(tmp_path / name, number, 4)
    (tmp_path / "c").mkdir()
    found = load(tmp_path)
    assert set(images_of(found.held_out, found.train, found.calibration)) == {
        (n, one) for n in range(3) for one in range(4)
    }
    assert [line for line in said(found) if "'c'" in line]


@situation("photos without labels for a network of 1000 classes", "all are read, the classes are numbered")
def test_photos_without_labels(tmp_path):
    put(tmp_path / "holiday", 0, 5)
    put(tmp_path, 1, 3)
    found = load(tmp_path, outputs=1000, source="images")
    assert found.names == tuple(f"class {number}" for number in range(1000))
    assert len(found.held_out.images) + len(found.calibration.images) == 8


# what else lies there


@situation("`Thumbs.db` in a class folder", "passed over", reported="d8ahazard/sd_dreambooth_extension#64")
def test_thumbs(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        (put(tmp_path / name, number, 5) / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    whole(load(tmp_path), ("cat", "dog"), (5, 5))


@situation(
    "`readme.txt` in a class folder, `labels.csv` beside it",
    "passed over, and said",
    reported="GoGoDuck912/Self-Correction-Human-Parsing#37",
)
def test_texts(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        (put(tmp_path / name, number, 5) / "readme.txt").write_text("Where these are from.")
    (tmp_path / "labels.csv").write_text("cat\ndog\n")
    found = load(tmp_path)
    whole(found, ("cat", "dog"), (5, 5))
    assert "passed over: 1 .csv, 2 .txt" in said(found)


@situation(
    "`.ipynb_checkpoints` beside the class folders and in them", "passed over", reported="open-mmlab/mmpretrain#507"
)
def test_checkpoints_of_notebooks(tmp_path):
    for number, name in enumerate(("a", "b")):
        put(put(tmp_path / name, number, 5) / ".ipynb_checkpoints", 5, 3)
    put(tmp_path / ".ipynb_checkpoints", 7, 3)
    whole(load(tmp_path), ("a", "b"), (5, 5))


@situation("`.DS_Store` beside the class folders and in them", "passed over", reported="apple/turicreate#644")
def test_files_of_finder(tmp_path):
    for number, name in enumerate(("a", "b")):
        (put(tmp_path / name, number, 5) / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    whole(load(tmp_path), ("a", "b"), (5, 5))


@situation(
    "`._0.png` beside `0.png`, of a Mac's disk that is not its own",
    "passed over",
    reported="OpenNeuroOrg/openneuro#2520",
)
def test_files_of_macs(tmp_path):
    for number, name in enumerate(("a", "b")):
        (put(tmp_path / name, number, 5) / "._0.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    whole(load(tmp_path), ("a", "b"), (5, 5))


@situation("`.JPG`, `.Png` and no suffix at all", "read by their content", reported="replicate/lora-training#9")
def test_suffixes(tmp_path):
    for number, name in enumerate(("a", "b")):
        for path in sorted(put(tmp_path / name, number, 6).iterdir()):
            one = int(path.stem)
            path.rename(path.with_suffix((".PNG", ".Png", "", ".jpg", ".JPEG", ".png")[one]))
    whole(load(tmp_path), ("a", "b"), (6, 6))


@situation(
    "a zip archive that a Mac made, `__MACOSX` in it",
    "read as it is; what the Mac put in is passed over",
    reported="ImageMarkup/isic-challenge-scoring#15",
)
def test_archives_of_macs(tmp_path):
    for number, name in enumerate(("a", "b")):
        put(tmp_path / "set" / name, number, 5)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            name = path.relative_to(tmp_path)
            archive.write(path, name)
            archive.writestr(str(Path("__MACOSX") / name.parent / f"._{name.name}"), b"\0\5\x16\7" + bytes(100))
        archive.writestr("set/.DS_Store", b"\0\0\0\1Bud1")
    whole(load(tmp_path / "set.zip"), ("a", "b"), (5, 5))


@situation(
    "some damaged photos among many",
    "refused, all of them named; with `data.skip_damaged` passed over, counted and named",
    reported="autorope/donkeycar#952",
)
def test_damaged_photos(tmp_path):
    for number, name in enumerate(("a", "b")):
        put(tmp_path / name, number, 6)
        (tmp_path / name / "empty.jpg").touch()
        Image.effect_noise((64, 64), 99).save(tmp_path / name / "half.jpg")
        (tmp_path / name / "half.jpg").write_bytes((tmp_path / name / "half.jpg").read_bytes()[:900])
    with pytest.raises(DataError) as raised:
        load(tmp_path)
    wrong = [f"{name}/{file}" for name in ("a", "b") for file in ("empty.jpg", "half.jpg")]
    assert [one for one in wrong if str(tmp_path / one) not in str(raised.value)] == []
    found = load(tmp_path, skip_damaged=True)
    whole(found, ("a", "b"), (6, 6))
    assert [line for line in said(found) if line.startswith("damaged") and all(one in line for one in wrong)]
