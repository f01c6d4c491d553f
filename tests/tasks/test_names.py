"""Files of class names, and which output a class folder means."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.tasks import classification
from twinkeel.pipeline.tasks.classification.names import Entry, matched, read_entries, read_labels, with_background


def entries(*names):
    return tuple(Entry(name) for name in names)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n"),
        ("labels.txt", "n01440764: tench, Tinca tinca\r\nn01443537,\tgoldfish\r\n"),
        ("labels.json", json.dumps({"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench, Tinca tinca"]})),
    ],
)
def test_numbers_of_wordnet_are_names_too(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    found = read_entries(tmp_path / name)
    assert [entry.name for entry in found] == ["tench, Tinca tinca", "goldfish"]
    assert [entry.others for entry in found] == [("n01440764",), ("n01443537",)]
    assert matched(["n01443537", "n01440764"], found) == ([1, 0], [])
    assert matched(["goldfish", "Tench"], found)[0] == [1, 0]


@pytest.mark.parametrize(
    "content",
    [
        {"0": "cat", "1": "dog"},
        {"dog": 1, "cat": 0},
        ["cat", "dog"],
        {"architectures": ["X"], "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}},
        {"label2id": {"cat": 0, "dog": 1}, "image_size": 224},
    ],
)
def test_indexes_in_json(content, tmp_path):
    (tmp_path / "x.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    assert read_labels(tmp_path / "x.json") == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"0": "cat", "2": "dog"}', "no name of number 1; 0 to 1 are wanted"),
        ('{"1": "cat"}', "no name of number 0"),
        ('{"cat": 0, "dog": 0}', "a number stands twice"),
        ('{"0": 5, "1": null}', "no name of number 0"),
        ('"cat"', "neither an object nor a list"),
        ('{"0": [], "1": []}', "no name of number 0"),
        ('["cat", "cat"]', "line 2 repeats 'cat'"),
        ("{", "cannot read data.labels"),
        ('["a\\nb"]', "Rename it"),
    ],
)
def test_json_that_is_no_index(content, told, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=told):
        read_labels(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xba\x00\x01\xff", r"it is no text, for byte 1 is 0xba\. Give a text file"),
        ("caf\xe9\n".encode("latin-1"), r"it is no text in UTF-8, for byte 4 is 0xe9\. Give"),
        (None, r"x\.txt': there is nothing of this name\. Give"),
    ],
)
def test_a_file_of_names_that_is_no_text_is_said_to_be_none(content, told, tmp_path):
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_labels(tmp_path / "x.txt")


def test_names_that_imagenet_has_twice_are_told_apart_by_their_numbers(tmp_path):
    (tmp_path / "x.txt").write_text("n02012849 crane\nn03126707 crane\n")
    found = read_entries(tmp_path / "x.txt")
    assert [entry.name for entry in found] == ["crane (n02012849)", "crane (n03126707)"]
    assert matched(["n03126707"], found)[0] == [1]


@pytest.mark.parametrize(
    "content",
    [
        "0 eel\n1 dog\n2 cat\n",
        "1: eel\n2: dog\n3: cat",
        "2,cat\n0,eel\n1,dog\n",
        "0. eel\n1. dog\n2. cat",
        "000\teel\n001\tdog\n002\tcat",
    ],
)
def test_numbered_lines_are_names_in_the_order_of_the_numbers(content, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(content)
    assert read_labels(path) == ("eel", "dog", "cat")
    assert matched(("cat", "dog", "eel"), read_entries(path)) == ([2, 1, 0], [])
    # folders may be called as the lines are
    assert matched(sorted(content.splitlines()), read_entries(path))[1] == []


@pytest.mark.parametrize(
    "lines", [("1 star", "2 stars", "3 stars"), ("0 eel", "2 dog"), ("0 eel", "dog"), ("7 up", "8 ball"), ("0", "1")]
)
def test_numbers_that_belong_to_names_stay(lines, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    assert read_labels(tmp_path / "labels.txt") == lines


def test_numbered_names_that_are_there_twice_are_told_apart(tmp_path):
    (tmp_path / "labels.txt").write_text("0 crane\n1 crane\n2 eel\n")
    assert read_labels(tmp_path / "labels.txt") == ("crane (0)", "crane (1)", "eel")


def test_folders_are_found_by_name_in_any_order_and_number():
    known = entries("tench", "Sea_Lion", "dog", "great white shark")
    assert matched(["dog", "tench"], known) == ([2, 0], [])
    numbers, (note,) = matched(["great-white-shark", "sea lion"], known)
    assert numbers == [3, 1] and "'sea lion' for 'Sea_Lion'" in note


def test_a_name_that_is_exact_goes_before_one_that_is_not():
    known = entries("Cat", "cat", "dog")
    assert matched(["cat", "Cat"], known)[0] == [1, 0]
    with pytest.raises(DataError, match=r"not 'CAT' \(1 mean several of its names\)"):
        matched(["CAT", "dog"], known)


def test_names_that_are_partly_known_are_an_error_and_two_of_one_are():
    with pytest.raises(DataError, match=r"names 1 of the 2 classes, and not 'dgo'.*Did you mean 'dog'"):
        matched(["cat", "dgo"], entries("cat", "dog"))
    with pytest.raises(DataError, match="'sea lion' and 'sea_lion' both mean line 1"):
        matched(["sea lion", "sea_lion", "dog"], entries("Sea Lion", "dog"))


def test_names_of_which_none_is_known_are_given_in_order_and_said():
    numbers, (note,) = matched(["1_cat", "2_dog"], entries("Katze", "Hund"))
    assert numbers == [0, 1] and "'Katze' to '1_cat'" in note
    assert matched(["10", "2"], entries(*"abcdefghijkl")) == ([10, 2], [])
    with pytest.raises(DataError, match="has 3 lines, the data 2 classes, and none of these is a name"):
        matched(["1_cat", "2_dog"], entries("a", "b", "c"))


def test_a_background_comes_first_where_there_is_one_output_more():
    known = entries(*(f"class {n}" for n in range(1000)))
    found, (note,) = with_background(known, 1001)
    assert found[0].name == "background" and found[1:] == known and "1001 outputs" in note
    assert with_background(known, 1000) == (known, [])
    assert with_background(known[:10], 11) == (known[:10], [])


@pytest.fixture
def birds(tmp_path):
    """Class folders, a few of a checkpoint's classes in another order, and its names."""
    random = np.random.default_rng(0)
    for name in ("zebra finch", "auk", "kite"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(
                tmp_path / "birds" / name / f"{number}.png"
            )
    return tmp_path


def configured(birds, labels, **weights):
    settings = {"source": "folder", "path": str(birds / "birds"), "labels": str(labels)}
    return Config.model_validate(
        {"data": settings, "model": {"resolution": 16}, **({"weights": weights} if weights else {})}
    )


def test_class_folders_are_found_in_the_checkpoints_own_order(birds):
    (birds / "labels.txt").write_text("kite\nstork\nZebra_Finch\nauk\n")
    found = classification.load(configured(birds, birds / "labels.txt"))
    assert found.names == ("kite", "stork", "Zebra_Finch", "auk")
    assert set(found.held_out.truth.tolist()) == {0, 2, 3}
    assert any("1 class was found in data.labels but for case" in line for line in found.notes)
    assert classification.doubts(found) == []
    assert ("names of classes", "labels.txt: 4, of which the data have 3") in found.taken


@pytest.mark.parametrize("outputs", [1000, 1001])
def test_weights_with_a_background_are_asked_for_it(outputs, birds):
    (birds / "labels.txt").write_text("kite\nzebra finch\nauk\n" + "\n".join(f"other {n}" for n in range(997)))
    config = configured(birds, birds / "labels.txt", path="x.pt")
    assert classification.asks_weights(config)
    found = classification.load(config, lambda: outputs)
    assert len(found.names) == outputs and found.names[found.held_out.truth[0]] == "auk"
    assert any("background" in line for line in found.notes) == (outputs == 1001)
    assert not classification.asks_weights(configured(birds, birds / "labels.txt"))
