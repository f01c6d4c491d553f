"""Sets and classes as data sets bring them: in folders, in archives, in lists."""

from __future__ import annotations

import csv
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.building.jobs.data import data_job
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data.sources import source_ingredients
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.tasks import classification, features

_SEED = itertools.count()


def images(folder, count, seed=None):
    """Pictures that no other call makes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng(next(_SEED) if seed is None else (seed, number))
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")


def tree(root, **counts):
    """Images below folders: ``train__cat=3``."""
    for name, count in counts.items():
        images(root.joinpath(*name.split("__")), count)
    return root


def config(root, **more):
    given = more.pop("weights", None)
    settings = {"source": "folder", "path": str(root), **more}
    return Config.model_validate(
        {"data": settings, "model": {"resolution": 16}} | ({"weights": {"path": given}} if given else {})
    )


def load(root, **more):
    return classification.load(config(root, **more), lambda: 5)


def counts(found):
    return tuple(len(part.images) for part in (found.train, found.calibration, found.held_out))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "val", "test"), (8, 4, 6)),
        (("Training", "validation", "TESTING"), (8, 4, 6)),
        (("train", "dev", "eval"), (8, 4, 6)),
        (("train", "test"), (4, 4, 6)),
        (("train", "valid"), (4, 4, 6)),
    ],
)
@pytest.mark.parametrize("wrap", ["", "dataset", "dataset/images"])
def test_folders_of_sets_are_the_sets(names, expected, wrap, tmp_path):
    root = tmp_path / "data"
    for name, count in zip((names[0], *names[1:-1], names[-1]), (4, *(4,) * (len(names) - 2), 3), strict=True):
        tree(root / wrap / name, cat=count, dog=count)
    found = load(root, calibration=4)
    assert found.names == ("cat", "dog") and counts(found) == expected
    assert sorted(found.calibration.truth.tolist()) == [0, 0, 1, 1]
    told = dict(found.taken)
    assert told["held-out"] == f"6 images of 2 classes, from {Path(wrap, names[-1]).as_posix()}/"
    assert ("not used" in told) == (len(names) == 3), told


def test_an_archive_of_sets_is_read_as_its_folder_is(tmp_path):
    root = tree(tmp_path / "data", train__cat=3, train__dog=4, test__cat=2, test__dog=2)
    whole = load(root)
    for kind in ("zip", "tar", "gztar"):
        path = shutil.make_archive(str(tmp_path / kind), kind, tmp_path, "data")
        found = load(path)
        assert found.held_out.digest() == whole.held_out.digest() and counts(found) == counts(whole), kind


def test_classes_that_are_called_as_sets_are_classes_where_others_are_not(tmp_path):
    found = load(tree(tmp_path, bus=4, train=4, test=4))
    assert found.names == ("bus", "test", "train")


def test_classes_that_are_held_out_and_never_trained_on_are_an_error(tmp_path):
    root = tree(tmp_path, train__cat=3, train__dog=3, train__eel=3, val__cat=2, val__dog=2)
    assert "1 class has no held-out image, so nothing is said of them: 'eel'" in load(root).notes[0]
    tree(root, val__fox=1)
    with pytest.raises(DataError, match="1 class is held out without training images: 'fox'"):
        load(root)


@pytest.mark.parametrize(
    ("counts_of", "told"),
    [
        ({"train__a": 3, "training__a": 3}, "'train' and 'training' are both called as a train set is"),
        ({"val__a": 3, "val__b": 3, "test__a": 3, "test__b": 3}, "lack 'train' to train on"),
        ({"train__a": 3, "val__a": 3}, "holds 1 class folder"),
        ({"train": 3, "val": 3}, "holds 0 class folders"),
        ({"train__a": 1, "train__b": 1, "val__a": 1, "val__b": 1}, "'train' has too few images to calibrate on"),
        ({"a": 3}, "holds 1 class folder;"),
        (
            {"train__a": 3, "train__b": 3, "test": 2},
            r"no class folders in 'test/' \(2 images\).*as in 'train/'.*source = 'images'",
        ),
        ({"train": 1, "test__a": 3, "test__b": 3}, r"no class folders in 'train/' \(1 image\)"),
    ],
)
def test_sets_that_cannot_be_used(counts_of, told, tmp_path):
    with pytest.raises(DataError, match=told):
        load(tree(tmp_path, **counts_of))


def test_given_weights_need_no_training_images(tmp_path):
    root = tree(tmp_path, val__a=3, val__b=3, test__a=3, test__b=3)
    assert counts(load(root, weights="x.pt")) == (0, 6, 6)
    given = {"path": "x.pt", "head": "train"}  # but for their last layer
    asked = config(root).model_dump(exclude={"weights"}) | {"weights": given}
    with pytest.raises(DataError, match="lack 'train' to train on"):
        classification.load(Config.model_validate(asked), lambda: 5)


def test_unlabelled_sets_are_sets_and_their_training_images_stay_unread(tmp_path):
    root = tree(tmp_path, train__deep__er=5, val=6, test=3)
    (root / "train" / "broken.jpg").write_bytes(b"no image")
    images(root, 2)
    for load_it in (classification.load, features.load):
        found = load_it(config(root, source="images", weights="x.pt"), lambda: 5)
        assert counts(found) == (0, 6, 3)
        told = dict(found.taken)
        assert told["passed over"] == "2 images outside of the sets" and told["not used"].startswith("6 images")


def test_held_out_images_are_taken_out_of_the_other_sets(tmp_path):
    root = tree(tmp_path, train__a=5, train__b=5, val__a=2, val__b=2)
    shutil.copy(root / "val" / "a" / "0.png", root / "train" / "b" / "again.png")
    before = load(root, calibration=2)
    assert counts(before) == (8, 2, 4)
    assert any("1 image of the other sets is held out too" in line for line in before.notes)


def test_equal_images_of_two_classes_are_not_trained_on_and_stay_held_out(tmp_path):
    root = tree(tmp_path, a=20, b=20)
    for number in range(20):
        shutil.copy(root / "a" / f"{number}.png", root / "b" / f"again-{number}.png")
    found = load(root, held_out=0.3)
    both = {image.tobytes() for image in found.train.images}
    ours = [np.asarray(Image.open(root / "a" / f"{n}.png").convert("RGB")).tobytes() for n in range(20)]
    assert not both & set(ours) and {image.tobytes() for image in found.held_out.images} & set(ours)
    assert (
        "40 images are the same at the size of the input, and different things are said to be right of them"
        in found.notes[0]
    )
    assert dict(found.taken)["equal images"].startswith("1")


def test_a_class_of_one_image_is_trained_on_and_of_two_one_is_held_out(tmp_path):
    found = load(tree(tmp_path, many=10, one=1, two=2))
    assert 1 not in found.held_out.truth and 1 in found.train.truth and 1 not in found.calibration.truth
    assert (found.held_out.truth == 2).sum() == 1 and (found.train.truth == 2).sum() == 1
    assert any("1 class has one image, which" in line and "'one'" in line for line in found.notes), found.notes


def test_an_empty_class_folder_is_a_class_and_one_of_other_files_is_none(tmp_path):
    root = tree(tmp_path, cat=4, dog=4)
    (root / "ant").mkdir()
    (root / "annotations" / "xml").mkdir(parents=True)
    (root / "annotations" / "xml" / "0.xml").write_text("<x/>")
    (root / "readme.md").write_text("hello")
    images(root, 2)
    found = load(root)
    assert found.names == ("ant", "cat", "dog")
    assert any("'ant' is empty: the class is kept" in line for line in found.notes)
    told = dict(found.taken)["passed over"]
    assert told == "1 .md, 1 .xml, 1 folder without images, 2 images in no class folder", told


def test_damaged_images_are_all_named_or_passed_over(tmp_path):
    root = tree(tmp_path, a=6, b=6)
    for number in range(25):
        (root / "a" / f"bad-{number:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(
        DataError, match=r"25 images cannot be read. The first: .*bad-00.*bad-19.* and 5 more.*skip_damaged"
    ) as error:
        load(root)
    assert str(error.value).count("bad-") == 20
    found = load(root, skip_damaged=True)
    assert sum(counts(found)) == 12 and dict(found.taken)["damaged, passed over"].startswith("25: ")
    # what is refused by a rule is not damaged
    Image.fromarray(np.ones((8, 8), np.float32)).save(root / "b" / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif' has float values") as error:
        load(root, skip_damaged=True)
    assert "skip_damaged" not in str(error.value)


def test_one_damaged_image_is_an_error_of_its_own(tmp_path):
    root = tree(tmp_path, a=4, b=4)
    (root / "a" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^cannot read the image '.*0\.png'.*data\.skip_damaged = true"):
        load(root)


def written(root, rows, name="list.csv", delimiter=",", encoding="utf-8", heading=("path", "label", "split")):
    with (root / name).open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows([*([heading] if heading else []), *rows])
    return root / name


@pytest.fixture
def listed(tmp_path):
    """A folder of images, and rows of them."""
    root = tree(tmp_path / "data", pictures=12)
    splits = ["train"] * 8 + ["test"] * 4
    rows = [(f"pictures/{n}.png", ("sea lion, large", "dog")[n % 2], splits[n]) for n in range(12)]
    return root, rows


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding", "heading"),
    [
        ("list.csv", ",", "utf-8", ("path", "label", "split")),
        ("list.csv", ";", "utf-8-sig", ("Filename", "Class", "Set")),
        ("LIST.CSV", "\t", "utf-8", ("image", "target", "subset")),
        ("list.tsv", "\t", "utf-8-sig", ("filepath", "category", "Split")),
        ("list.csv", ",", "utf-8-sig", None),
    ],
)
def test_lists_in_the_forms_that_people_write(name, delimiter, encoding, heading, listed):
    root, rows = listed
    found = load(written(root, rows, name, delimiter, encoding, heading), calibration=2)
    assert found.names == ("dog", "sea lion, large") and counts(found) == (6, 2, 4)
    assert found.held_out.truth.tolist() == [1, 0, 1, 0]
    assert dict(found.taken)["held-out"] == f"4 images of 2 classes, from {name}, rows of test"


def test_lists_of_other_columns_and_backslashes(listed):
    root, rows = listed
    more = [(str(n), path.replace("/", "\\"), "x y", label) for n, (path, label, _) in enumerate(rows)]
    found = load(written(root, more, heading=("id", "file", "note", "label")))
    assert sum(counts(found)) == 12 and len(found.held_out.images) == 2


def test_a_list_without_labels_is_for_given_weights(listed):
    root, rows = listed
    path = written(root, [row[:1] for row in rows], heading=("path",))
    found = classification.load(config(path, source="images", weights="x.pt"), lambda: 7)
    assert len(found.names) == 7 and counts(found) == (0, 6, 6)
    with pytest.raises(DataError, match=r"of the columns \['path'\] none says what is right"):
        load(path)


def test_numbers_in_a_list_are_those_of_the_file_of_names(listed):
    root, rows = listed
    (root / "labels.txt").write_text("\n".join(f"name {n}" for n in range(12)))
    numbered = [(path, n % 2 * 10, split) for n, (path, _, split) in enumerate(rows)]
    path = written(root, numbered)
    found = load(path, labels=str(root / "labels.txt"))
    assert len(found.names) == 12 and set(found.held_out.truth.tolist()) == {0, 10}
    assert load(path).names == ("0", "10")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda rows: [*rows, ("pictures/none.png", "dog", "test")],
            r"1 of 13 files are not there: 'pictures/none\.png'",
        ),
        (
            lambda rows: [*rows, (rows[0][0], "dog", "train")],
            r"row 14: 'pictures/0\.png' stands there before, with something else",
        ),
        (lambda rows: [*rows, ("x.png", "", "test")], r"row 14: nothing is right of 'x\.png'"),
        (lambda rows: [*rows, ("x.png", "dog", "holdout")], r"'holdout' is no set \(row 14\); known are train"),
        (lambda rows: [*rows, ("", "dog", "test")], "row 14 has no path"),
        (lambda rows: [], "it has no row"),
        (lambda rows: [(path, "dog", split) for path, _, split in rows], "images of 1 class alone"),
    ],
)
def test_rows_that_are_wrong_are_named(change, told, listed):
    root, rows = listed
    with pytest.raises(DataError, match=told):
        load(written(root, change(rows)))


def test_sets_of_unknown_names_are_told_once(listed):
    root, rows = listed
    other = [(path, label, "holdout") for path, label, _ in rows]
    with pytest.raises(DataError, match=r"'holdout' is no set \(12 rows, row 2 the first\)") as raised:
        load(written(root, other))
    assert str(raised.value).count("holdout") == 1


def test_whole_numbers_that_became_floats(listed):
    root, rows = listed
    found = load(written(root, [(path, f"{n % 2}.0", split) for n, (path, _, split) in enumerate(rows)]))
    assert found.names == ("0", "1") and any("'0.0' is taken for '0'" in line for line in found.notes), found.notes
    mixed = load(written(root, [(path, ("1.0", "1.5")[n % 2], split) for n, (path, _, split) in enumerate(rows)]))
    assert mixed.names == ("1.0", "1.5")


def test_labels_that_differ_by_case_alone_are_told(listed):
    root, rows = listed
    found = load(written(root, [(path, ("Dog", "dog")[n % 2], split) for n, (path, _, split) in enumerate(rows)]))
    assert found.names == ("Dog", "dog")
    assert any("differ by case alone" in line and "'Dog'" in line for line in found.notes), found.notes


def test_a_row_that_is_there_twice_is_counted(listed):
    root, rows = listed
    found = load(written(root, [*rows, rows[3]]))
    assert dict(found.taken)["passed over"] == "1 row of a file that stands there before"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b'path,label\n"x', b"path,file\nx,y\n", b"a,b,c,d\n1,2,3,4\n"])
def test_files_that_are_no_list(content, tmp_path):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"list\.csv"):
        load(tmp_path / "list.csv")


def test_what_the_table_counts_is_in_the_key(tmp_path):
    root = tree(tmp_path, a=3, b=3)
    before = source_ingredients(root, is_sorted=True)
    assert before == source_ingredients(root, is_sorted=True)
    (root / ".DS_Store").write_bytes(b"x")
    assert before == source_ingredients(root, is_sorted=True)
    (root / "readme.txt").write_bytes(b"x")
    assert before != source_ingredients(root, is_sorted=True)


def test_what_changes_the_data_changes_their_key_and_nothing_else_does(tmp_path):
    root = tree(tmp_path / "data", a=3, b=3)
    (tmp_path / "names.txt").write_text("b\na\n")
    keys = [
        data_job(config(root, **more)).key
        for more in ({}, {"skip_damaged": True}, {"labels": str(tmp_path / "names.txt")})
    ]
    (tmp_path / "names.txt").write_text("a\nb\n")
    keys.append(data_job(config(root, labels=str(tmp_path / "names.txt"))).key)
    images(root / "a", 1)
    keys.append(data_job(config(root)).key)
    assert len(set(keys)) == 5
    (root / "Thumbs.db").write_bytes(b"x")
    assert data_job(config(root)).key == keys[-1]


def test_calibration_images_may_be_in_an_archive_or_a_list(tmp_path):
    root = tree(tmp_path / "data", a=5, b=5)
    own = tree(tmp_path / "own", b=3, c=2)
    archive = shutil.make_archive(str(tmp_path / "own"), "zip", own)
    path = written(own, [("b/0.png", "b"), ("c/0.png", "other")], heading=("path", "label"))
    for place, truth in ((own, [1, 1, 1, -1, -1]), (archive, [1, 1, 1, -1, -1]), (path, [1, -1])):
        found = load(root, calibration_path=str(place))
        assert found.calibration.truth.tolist() == truth, place
        assert sum(counts(found)) - len(truth) == 10


def test_a_set_without_class_folders_is_passed_over_where_another_can_be_held_out(tmp_path):
    root = tree(tmp_path, train__a=4, train__b=4, val__a=2, val__b=2, test=3)
    found = load(root, calibration=4)
    assert counts(found) == (4, 4, 4)
    assert "no class folders in 'test/' (3 images): the images there are passed over" in found.notes[0]
    assert dict(found.taken)["passed over"] == "3 images in no class folder"


def test_the_table_says_what_is_calibrated_on_where_that_has_a_place_of_its_own(tmp_path):
    root = tree(tmp_path / "data", a=10, b=10)
    own = tree(tmp_path / "cal", a=4, other=3)
    (own / "notes.txt").write_text("x")
    (own / "a" / "9.png").write_bytes(b"")
    settings = {"calibration_path": str(own), "skip_damaged": True}
    found = load(root, **settings, calibration=6)
    told = dict(found.taken)
    assert counts(found) == (16, 5, 4)
    assert told["training"] == "16 images of 2 classes, from class folders"
    assert told["calibration"] == f"{len(found.calibration.images)} images of 1 class, from cal/"
    assert (
        told["calibration: passed over"] == "1 .txt" and told["calibration: not used"] == "2 more than data.calibration"
    )
    for load_it in (classification.load, features.load):
        found = load_it(config(root, source="images", weights="x.pt", **settings), lambda: 5)
        told = dict(found.taken)
        assert told["calibration"].startswith("7 images") and told["calibration"].endswith(", from cal/"), told
        assert told["calibration: damaged, passed over"].startswith("1: ") and told["held-out"].startswith("20 images")
        assert told["training"] == "none"


def test_equal_images_are_counted_with_those_that_are_calibrated_on(tmp_path):
    root, own = tree(tmp_path / "data", a=5, b=5), tmp_path / "cal"
    images(own, 2, seed=1)
    shutil.copy(own / "0.png", own / "again.png")
    assert dict(load(root, calibration_path=str(own)).taken)["equal images"].startswith("1 is there more than once")


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_the_setting_whose_folder_has_no_images_is_named(name, tmp_path):
    root = tree(tmp_path / "data", a=5, b=5)
    (tmp_path / "empty").mkdir()
    settings = config(root, calibration_path=str(tmp_path / name))
    for read in (classification.load, data_job):
        with pytest.raises(DataError, match=r"^data\.calibration_path '.*' is no folder with images"):
            read(settings)


@pytest.mark.parametrize(
    ("tops", "is_told"),
    [
        (("train_set", "val_set"), True),
        (("train", "val", "images_unsorted"), True),
        (("bus-train", "freight train"), True),
        (("cats", "dogs"), False),
        (("train", "bus"), False),
    ],
)
def test_classes_that_look_like_sets_are_told(tops, is_told, tmp_path):
    for top in tops:
        tree(tmp_path / top, indoors=3, outdoors=3)
    found = load(tmp_path)
    assert found.names == tuple(sorted(tops))
    told = [line for line in found.notes if "if they are sets, call them 'train', 'val' or 'test'" in line]
    assert len(told) == is_told and all("the same folders 'indoors', 'outdoors'" in line for line in told)
    assert all("images_unsorted" not in line for line in told) or "images_unsorted" not in tops


def test_classes_that_are_judged_and_not_trained_on_are_told(tmp_path):
    found = load(tree(tmp_path, a=2, b=2, c=2))
    missing = sorted(set(found.held_out.truth.tolist()) - set(found.train.truth.tolist()))
    (told,) = [line for line in found.notes if line.startswith("training has no image of")]
    assert missing and all(f"'{'abc'[n]}'" in told for n in missing), told
    assert not any(line.startswith("training has") for line in load(tmp_path, weights="x.pt").notes)
    of_trained, of_given = (classification.ingredients(config(tmp_path, **more)) for more in ({}, {"weights": "x.pt"}))
    assert of_trained != of_given  # the warnings are stored with the data


def test_a_class_of_damaged_images_is_kept_as_an_empty_one_is(tmp_path):
    root = tree(tmp_path, a=6, b=6, c=2)
    for file in (root / "b").iterdir():
        file.write_bytes(b"")
    found = load(root, skip_damaged=True)
    assert found.names == ("a", "b", "c")
    assert "no image of the class 'b' can be read: the class is kept, and has no images there." in found.notes
    assert len(found.notes) == 1, found.notes


def test_a_class_whose_images_of_one_set_are_damaged_is_told_with_the_set(tmp_path):
    root = tree(tmp_path, train__a=4, train__b=4, val__a=2, val__b=1)
    (root / "val" / "b" / "0.png").write_bytes(b"")
    assert "no image of the class 'b' in val/ can be read" in load(root, skip_damaged=True).notes[0]


@pytest.mark.parametrize("sets", [("",), ("train", "test")])
def test_the_same_images_in_all_classes_are_named_as_the_reason(sets, tmp_path):
    for number, name in enumerate(sets):
        for word in ("a", "b", "c"):
            images(tmp_path / name / word, 6, seed=number)
    with pytest.raises(DataError, match=r"training set is empty: .* said to be right of them"):
        load(tmp_path)
