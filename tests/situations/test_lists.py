"""Lists: names of classes, and tables of images."""

from __future__ import annotations

import json
import unicodedata

import pytest
from coloured import everything, images_of, load, put, whole
from situations import situation
from twinkeel.pipeline.errors import DataError


@pytest.fixture
def animals(tmp_path):
    """Class folders `cat`, `dog` and `eel`, by their colours 0, 1 and 2."""
    for number, name in enumerate(("cat", "dog", "eel")):
        put(tmp_path / "set" / name, number, 4)
    return tmp_path / "set"


@pytest.fixture
def names(tmp_path):
    """Write a file of names."""

    def write(text, encoding="utf-8", name="names.txt"):
        (tmp_path / name).write_text(text, encoding)
        return str(tmp_path / name)

    return write


# names of classes


@situation(
    "names that begin with a byte order mark, as Windows' editor writes them",
    "right; the mark is no part of the name",
    reported="biolab/orange3#7000",
)
def test_a_mark_before_the_names(animals, names):
    assert load(animals, labels=names("cat\r\ndog\r\neel\r\n", "utf-8-sig")).names == ("cat", "dog", "eel")


@situation(
    "names in another order than the folders', the checkpoint's",
    "each image has the class of its folder's name",
    reported="pytorch/ios-demo-app#17",
)
def test_names_in_the_order_of_the_checkpoint(animals, names):
    found = load(animals, labels=names("eel\ncat\ndog\n"))
    assert found.names == ("eel", "cat", "dog")
    assert everything(found) == {(number, one): (1, 2, 0)[number] for number in range(3) for one in range(4)}


@situation(
    "names with underscores where the folders have spaces and capitals", "matched", reported="EscVM/OIDv4_ToolKit#57"
)
def test_names_that_are_nearly_the_same(tmp_path, names):
    for number, name in enumerate(("Adhesive tape", "Brown bear")):
        put(tmp_path / "set" / name, number, 4)
    found = load(tmp_path / "set", labels=names("brown_bear\nadhesive_tape\n"))
    assert everything(found) == {(number, one): (1, 0)[number] for number in (0, 1) for one in range(4)}


@situation(
    "folders of some of ImageNet's classes, and all names as `n01440764 tench` or as a json index",
    "each image has its class among all of them",
)
def test_some_classes_of_many(tmp_path, names):
    for number, name in enumerate(("n01443537", "n01440764")):
        put(tmp_path / "set" / name, number, 4)
    many = [("n01440764", "tench"), ("n01443537", "goldfish"), ("n01484850", "great white shark")]
    lines = names("".join(f"{one} {name}\n" for one, name in many))
    index = names(json.dumps({str(n): one for n, one in enumerate(many)}), name="index.json")
    for file in (lines, index):
        found = load(tmp_path / "set", labels=file)
        assert len(found.names) == 3
        assert everything(found) == {(number, one): 1 - number for number in (0, 1) for one in range(4)}


@situation(
    "1001 outputs, the first for the background, as TensorFlow's have it",
    "each image has its class, none the background's",
    reported="tensorflow/hub#574",
)
def test_a_background(animals, names):
    found = load(animals, outputs=4, labels=names("background\ncat\ndog\neel\n"))
    assert found.names == ("background", "cat", "dog", "eel")
    assert everything(found) == {(number, one): number + 1 for number in range(3) for one in range(4)}


@situation("a name more than there are folders", "kept, without images")
def test_a_name_too_many(animals, names):
    found = load(animals, labels=names("cat\ndog\neel\nfox\n"))
    assert found.names == ("cat", "dog", "eel", "fox")
    assert everything(found) == {(number, one): number for number in range(3) for one in range(4)}


@situation("a folder that has no name among them", "refused, the folder named")
def test_a_name_too_few(animals, names):
    with pytest.raises(DataError, match="not 'eel'"):
        load(animals, labels=names("dog\ncat\n"))


# tables of images


def rows(animals, separator="/"):
    """(path, class) of each image, relative to the folder of the set's."""
    found = sorted(animals.rglob("*.png"))
    return [(str(path.relative_to(animals.parent)).replace("/", separator), path.parent.name) for path in found]


def listed(animals, text, encoding="utf-8", name="list.csv"):
    path = animals.parent / name
    path.write_text(text, encoding)
    return load(path)


@situation(
    "a table that begins with a byte order mark, `;` between the columns, as Excel writes it",
    "right",
    reported="apple/turicreate#227",
)
def test_a_table_of_excel(animals):
    lines = "".join(f'"{path}";{name}\r\n' for path, name in rows(animals))
    whole(listed(animals, "filename;label\r\n" + lines, "utf-8-sig"), ("cat", "dog", "eel"), (4, 4, 4))


@situation("paths with `\\`, of Windows", "right", reported="abbyy/barcode_detection_benchmark#2")
def test_paths_of_windows(animals):
    lines = "".join(f"{path},{name}\n" for path, name in rows(animals, "\\"))
    whole(listed(animals, "image,class\n" + lines), ("cat", "dog", "eel"), (4, 4, 4))


@situation(
    "a first column of row numbers without a name, of pandas, and a column of the split",
    "right, the sets as they are given",
)
def test_a_table_of_pandas(animals):
    known = rows(animals)
    splits = ["val" if number % 4 == 3 else "train" for number in range(len(known))]
    lines = "".join(f"{n},{path},{name},{splits[n]}\n" for n, (path, name) in enumerate(known))
    found = listed(animals, ",file,label,split\n" + lines)
    assert images_of(found.held_out) == {(number, 3): number for number in range(3)}
    whole(found, ("cat", "dog", "eel"), (4, 4, 4))


@situation(
    "a table that names an image which is not there", "refused, the path named", reported="mikeyEcology/MLWIC2#4"
)
def test_a_row_without_a_file(animals):
    lines = "".join(f"{path},{name}\n" for path, name in [*rows(animals), ("images/set/gone.png", "cat")])
    with pytest.raises(DataError, match=r"gone\.png"):
        listed(animals, "path,label\n" + lines)


@situation("classes as numbers in a table, ten and more", "in the order of the numbers: 0, 1, 2, 10")
def test_numbers_in_a_table(tmp_path):
    for number, name in enumerate(("0", "1", "2", "10")):
        put(tmp_path / "set" / name, number, 4)
    lines = "".join(f"{path},{name}\n" for path, name in rows(tmp_path / "set"))
    whole(listed(tmp_path / "set", "path,label\n" + lines), ("0", "1", "2", "10"), (4, 4, 4, 4))


@situation(
    "a table in one spelling of é, the files of a Mac in the other",
    "found all the same",
    reported="rfjakob/gocryptfs#992",
)
def test_two_spellings_in_a_table(tmp_path):
    for number, name in enumerate(("café", "thé")):
        put(tmp_path / "set" / unicodedata.normalize("NFD", name), number, 4)
    lines = "".join(f"{path},{name}\n" for path, name in rows(tmp_path / "set"))
    for form in ("NFC", "NFD"):
        found = listed(tmp_path / "set", unicodedata.normalize(form, "path,label\n" + lines))
        whole(found, [unicodedata.normalize("NFC", name) for name in ("café", "thé")], (4, 4))


@situation('a table in UTF-16, Excel\'s "Unicode text"', "refused: save it as UTF-8")
def test_a_table_in_utf16(animals):
    lines = "".join(f"{path}\t{name}\r\n" for path, name in rows(animals))
    with pytest.raises(DataError, match="UTF-8"):
        listed(animals, "path\tlabel\r\n" + lines, "utf-16", "list.tsv")
