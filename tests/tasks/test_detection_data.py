"""The data of detectors: strangers' annotations, and boxes that follow their photo into the input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data.shapes import SHAPES, draw, drawn_shapes
from twinkeel.pipeline.errors import ConfigError, DataError
from twinkeel.pipeline.tasks import detection
from twinkeel.pipeline.tasks.detection import placed

SIZE = 32


def config(path=None, **data):
    """A detector of ours at 32 pixels."""
    given = {"source": "folder", "path": str(path), **data} if path is not None else data
    model = {"name": "ssdlite_mobilenet_v2", "resolution": SIZE, "width": 0.35}
    return common.checked(Config.model_validate({"model": model, "data": given}))


def photo(path, width, height, number, orientation=1):
    """Distinct noise, so that no two are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def coco(root, count=12, **changed):
    """A data set in COCO's form with a box a photo of 64 x 32 pixels; `changed` replaces its tables."""
    for number in range(count):
        photo(root / f"{number:02d}.png", 64, 32, number)
    content = {
        "images": [{"id": n, "file_name": f"{n:02d}.png", "height": 32, "width": 64} for n in range(count)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 7 if n % 2 else 3, "bbox": [24, 8, 16, 8]} for n in range(count)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    } | changed
    (root / "annotations.json").write_text(json.dumps(content))
    return content


def everything(found):
    return np.concatenate([part.truth for part in (found.train, found.calibration, found.held_out)])


def test_shapes_are_where_their_boxes_are():
    found = drawn_shapes(48, 64, 40)
    assert found.images.shape == (40, 48, 64, 3) and found.masks.shape == (40, 48, 64)
    again = draw(48, 64, 7)
    assert np.array_equal(again.pixels, found.images[7]) and np.array_equal(again.mask, found.masks[7])
    for number in range(40):
        boxes = found.boxes[number][found.boxes[number, :, 0] >= 0]
        assert len(boxes) >= 1 and len(np.unique(boxes[:, 0])) <= len(SHAPES)
        assert (boxes[:, 3:] - boxes[:, 1:3] >= 3).all() and (boxes[:, 1:] >= 0).all()
        assert (boxes[:, [1, 3]] <= 64).all() and (boxes[:, [2, 4]] <= 48).all()
        inside = np.zeros((48, 64), bool)
        for _, left, top, right, bottom in boxes:
            inside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
        mask = found.masks[number] > 0
        assert not (mask & ~inside).any()
        assert mask.sum() > 0.3 * inside.sum()


def test_coco_becomes_boxes_in_the_input(tmp_path):
    coco(tmp_path)
    found = detection.load(config(tmp_path))
    assert found.names == ("dog", "cat")  # in the order of the ids
    truth = everything(found)
    assert truth.shape == (12, 1, 5) and set(truth[:, 0, 0].tolist()) == {0.0, 1.0}
    # the crop is the columns 16 to 48, at their own size
    assert np.array_equal(truth[:, 0, 1:], np.tile(np.float32([8, 8, 24, 16]), (12, 1)))
    assert len(found.train.images) + len(found.calibration.images) + len(found.held_out.images) == 12


def test_letterboxed_photos_keep_all_of_their_boxes(tmp_path):
    boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [0, 0, 64, 32]} for n in range(12)]
    coco(tmp_path, annotations=boxes)
    truth = everything(detection.load(config(tmp_path, fit="letterbox")))
    assert np.array_equal(truth[0, 0, 1:], np.float32([0, 8, 32, 24]))
    cropped = everything(detection.load(config(tmp_path)))
    assert np.array_equal(cropped[0, 0, 1:], np.float32([0, 0, 32, 32]))


def test_what_the_crop_leaves_little_of_is_no_box(tmp_path):
    boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [0, 4, 20 if n % 2 else 40, 8]} for n in range(12)]
    coco(tmp_path, annotations=boxes)
    found = detection.load(config(tmp_path))
    assert int((everything(found)[..., 0] >= 0).sum()) == 6
    assert dict(found.taken)["boxes cut away with what is no part of the input"] == "6"


def test_sets_are_those_of_the_files(tmp_path):
    root = tmp_path / "set"
    (root / "annotations").mkdir(parents=True)
    for name, count, first in (("train2017", 12, 100), ("val2017", 5, 200)):
        content = coco(root / name, count)
        for entry in content["images"]:
            photo(root / name / entry["file_name"], 64, 32, first + entry["id"])
        (root / name / "annotations.json").unlink()
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
        (root / "annotations" / f"captions_{name}.json").write_text(json.dumps({"annotations": [{"caption": "a"}]}))
    found = detection.load(config(root))
    assert len(found.held_out.images) == 5 and len(found.train.images) + len(found.calibration.images) == 12
    assert "2 files .json without boxes" in dict(found.taken)["passed over"]


def test_boxes_on_a_turned_photo_are_turned_with_it(tmp_path):
    coco(tmp_path)
    for number in range(12):  # stored as 64 x 32, and 32 x 64 upright
        photo(tmp_path / f"{number:02d}.png", 64, 32, number, orientation=6)
    found = detection.load(config(tmp_path))
    # x 24..40 of 64 becomes y 24..40; y 8..16 of 32 becomes x 16..24; the crop is the rows 16 to 48
    assert np.array_equal(everything(found)[0, 0, 1:], np.float32([16, 8, 24, 24]))
    assert dict(found.taken)["boxes turned upright with their image"] == "12"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pixels_do(orientation):
    from twinkeel.pipeline.data.pixels import upright

    stored = np.zeros((6, 9, 1), np.uint8)
    stored[1:3, 2:7] = 1
    turned = upright(stored, orientation)[..., 0]
    found = placed.upright(np.array([[4.0, 2, 1, 7, 3]]), orientation, turned.shape)
    rows, columns = np.nonzero(turned)
    assert found[0].tolist() == [4, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_what_is_passed_over_is_counted(tmp_path):
    boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [24, 8, 16, 8]} for n in range(12)]
    boxes += [
        {"id": 20, "image_id": 0, "category_id": 3, "bbox": [24, 8, 16, 8], "iscrowd": 1},
        {"id": 21, "image_id": 0, "category_id": 3, "bbox": [24, 8, 0, 8]},
        {"id": 22, "image_id": 0, "category_id": 3, "bbox": [80, 8, 8, 8]},
        {"id": 23, "image_id": 0, "category_id": 3, "bbox": [24, 8, 16, 8]},
        {"id": 24, "image_id": 0, "category_id": 3},
    ]
    coco(tmp_path, annotations=boxes)
    found = detection.load(config(tmp_path))
    assert int((everything(found)[..., 0] >= 0).sum()) == 12
    told = dict(found.taken)["passed over"]
    for words in (
        "1 crowd",
        "1 box of no area",
        "1 box outside of its image",
        "1 box that is there twice",
        "1 annotation without a box",
    ):
        assert words in told, told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"annotations": [{"image_id": 99, "category_id": 3, "bbox": [0, 0, 9, 9]}]}, "no image has that id"),
        ({"annotations": [{"image_id": 0, "category_id": 5, "bbox": [0, 0, 9, 9]}]}, "no category has that id"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 9]}]}, "left, top, width and height"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 9, "a"]}]}, "left, top, width and height"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "iscrowd": 1}, {"image_id": 0, "category_id": 3, "bbox": [0, 0, 0, 0]}]}, "no image has a box"),
        ({"images": [{"id": 0, "file_name": "gone.png", "height": 9, "width": 9}], "annotations": []}, "no image 'gone.png'"),
        ({"images": [{"id": 0, "file_name": "00.png", "height": 32, "width": 64}] * 2, "annotations": []}, "two images have the id 0"),
        ({"images": [{"id": 0, "file_name": "00.png"}], "annotations": []}, "has height None and width None"),
        ({"images": [{"id": 0, "file_name": "00.png", "height": 32, "width": "64"}], "annotations": []}, "height 32 and width '64'"),
        ({"images": [{"id": "0", "file_name": "00.png", "height": 32, "width": 64}], "annotations": []}, "has the id '0' and the file_name '00.png'"),
        ({"images": [{"id": n, "file_name": "00.png", "height": 32, "width": 64} for n in (4, 9)], "annotations": []}, "image 1 '00.png' is the same image as image 0 of 'annotations.json', '00.png'"),
        ({"images": [{"id": 0, "file_name": "00.PNG", "height": 32, "width": 64}], "annotations": []}, "no image '00.PNG' (but for capitals: '00.png')"),
        ({"annotations": [{"image_id": 0, "category_id": "3", "bbox": [0, 0, 9, 9]}]}, "has the category_id '3', and no category has that id: it is text, and the number 3 is one"),
        ({"annotations": [{"image_id": "0", "category_id": 3, "bbox": [0, 0, 9, 9]}]}, "has the image_id '0', and no image has that id: it is text"),
        ({"annotations": [{"id": 4, "image_id": 0, "category_id": 3, "bbox": [0, 0, float("nan"), 9]}]}, "annotations[0].bbox[2]: NaN is no number"),
        ({"annotations": [{"id": n, "image_id": n, "category_id": 3, "bbox": [0.1, 0.2, 0.5, 0.7]} for n in range(12)]}, "all 12 boxes end within 2 pixels of the upper left corner of their image, as shares"),
        ({"categories": [{"id": 3, "name": " "}, {"id": 7, "name": "cat"}]}, "category 0 (id 3) has an empty name"),
        ({"categories": [{"id": "3", "name": "dog"}]}, "but {'id': '3', 'name': 'dog'}"),
        ({"categories": None}, "has `images` and `annotations`, and no `categories`"),
        ({"categories": [{"id": 3, "name": "dog"}, {"id": 3, "name": "cat"}]}, "two categories have the id 3"),
        ({"categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "dog"}]}, "two categories are called 'dog'"),
    ],
    ids=[
        "image", "category", "three", "text", "none", "missing", "twice", "size", "size as text", "id as text", "one image", "capitals",
        "category as text", "image as text", "nan", "shares", "no name", "category's id as text", "no categories", "ids", "names",
    ],
)  # fmt: skip
def test_annotations_that_contradict_themselves_are_one_error(tmp_path, changed, said):
    coco(tmp_path, **changed)
    with pytest.raises(DataError, match=r"annotations|image|categor|box") as raised:
        detection.load(config(tmp_path))
    assert said in str(raised.value), raised.value


def test_an_image_of_which_there_are_several_names_them(tmp_path):
    coco(tmp_path)
    for folder in ("a", "b"):
        photo(tmp_path / folder / "03.png", 64, 32, 100)
    (tmp_path / "03.png").unlink()
    with pytest.raises(
        DataError, match=r"several images end in '03\.png': 'a/03\.png', 'b/03\.png'; write more of its path"
    ):
        detection.load(config(tmp_path))


def test_boxes_that_read_as_corners_lie_inside_are_counted(tmp_path):
    rows = [{"id": n, "image_id": n, "category_id": 3, "bbox": [20 + n, 8, 40 + n, 24]} for n in range(12)]
    coco(tmp_path, annotations=rows)
    (note,) = [note for note in detection.load(config(tmp_path)).notes if "edge" in note]
    # 20 + n + 40 + n of 64, with a slack of 0.64
    assert note.startswith(
        "9 of 12 boxes reach over the edge of their image and are cut there; with their numbers read as left, top, right"
    ), note
    assert "COCO's are left, top, width and height" in note
    right = [{**row, "bbox": [*row["bbox"][:2], 20, 16]} for row in rows]
    coco(tmp_path, annotations=right)
    assert not [note for note in detection.load(config(tmp_path)).notes if "edge" in note]
    (tmp_path / "annotations.json").unlink()
    yolo(tmp_path, ["0 0.3 0.2 0.9 0.8"])
    (note,) = [note for note in detection.load(config(tmp_path)).notes if "edge" in note]
    assert note.startswith("24 of 24 boxes") and "YOLO's are centre x" in note, note


def test_several_files_of_annotations_are_told_apart(tmp_path):
    content = coco(tmp_path)
    text = (tmp_path / "annotations.json").read_text()
    (tmp_path / "copy.json").write_text(text)
    found = dict(detection.load(config(tmp_path)).taken)
    assert found["passed over"] == "1 file .json with the same content as another"
    for name in ("annotations", "copy"):  # a half each
        is_ours = [(entry["id"] < 6) == (name == "copy") for entry in content["images"]]
        half = {
            key: [row for row, is_in in zip(content[key], is_ours, strict=True) if is_in]
            for key in ("images", "annotations")
        }
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, **half}))
    assert "from annotations.json, copy.json" in dict(detection.load(config(tmp_path)).taken)["training"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"same image as image 0 of 'annotations\.json', '00\.png'.* Keep one of the two files"
    ):
        detection.load(config(tmp_path))
    (tmp_path / "annotations.json").rename(tmp_path / "instances.json")
    found = dict(detection.load(config(tmp_path)).taken)
    assert found["passed over"] == "1 file .json with boxes beside those called instances"
    (tmp_path / "copy.json").write_text(text)
    found = dict(detection.load(config(tmp_path)).taken)
    assert found["passed over"] == "1 file .json with the same content as another"


def test_boxes_that_are_said_twice_over_are_told(tmp_path):
    coco(tmp_path)
    for number in range(12):
        (tmp_path / f"{number:02d}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (note,) = [note for note in detection.load(config(tmp_path)).notes if "YOLO" in note]
    assert note.startswith(
        "COCO's JSON says the boxes (annotations.json), and 12 images have a file of boxes in YOLO's text too"
    ), note
    for number in range(12):
        (tmp_path / f"{number:02d}.txt").write_text("a photo of noise\n")
    assert not [note for note in detection.load(config(tmp_path)).notes if "YOLO" in note]


def test_annotations_of_another_shape_are_refused_and_of_another_size_scaled(tmp_path):
    images = [{"id": n, "file_name": f"{n:02d}.png", "height": 64, "width": 128} for n in range(12)]
    boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [48, 16, 32, 16]} for n in range(12)]
    coco(tmp_path, images=images, annotations=boxes)
    found = detection.load(config(tmp_path))
    assert np.array_equal(everything(found)[0, 0, 1:], np.float32([8, 8, 24, 16]))
    assert dict(found.taken)["boxes of another size than their image's, scaled"] == "12"
    coco(tmp_path, images=[{**entry, "height": 100} for entry in images])
    with pytest.raises(DataError, match="has 64 x 32 pixels, and its annotation says 128 x 100"):
        detection.load(config(tmp_path))


def yolo(root, lines=("1 0.5 0.5 0.25 0.25",), names="names: [dog, cat]\n"):
    for number in range(12):
        photo(root / "images" / f"{number:02d}.png", 64, 32, number)
        (root / "labels").mkdir(exist_ok=True)
        if lines:
            (root / "labels" / f"{number:02d}.txt").write_text("\n".join(lines) + "\n")
    if names:
        (root / "data.yaml").write_text(names)


def test_yolo_becomes_boxes_in_the_input(tmp_path):
    yolo(tmp_path, ["1 0.5 0.5 0.25 0.25", "0 0.4 0.25 0.4 0.75 0.6 0.5"])
    (tmp_path / "labels" / "03.txt").unlink()
    found = detection.load(config(tmp_path))
    truth = everything(found)
    assert found.names == ("dog", "cat") and truth.shape == (12, 2, 5)
    assert int((truth[..., 0] >= 0).sum()) == 22
    own = next(row for row in truth if row[0, 0] >= 0)
    assert own[own[:, 0] == 1, 1:].tolist() == [[8.0, 12.0, 24.0, 20.0]]
    assert np.allclose(own[own[:, 0] == 0, 1:], [[9.6, 8.0, 22.4, 24.0]], atol=1e-5)
    told = dict(found.taken)
    assert told["outlines, of which the boxes around them are taken"] == "11"
    assert told["images without a file of boxes, taken as showing none"] == "1"


def test_yolo_names_are_found_or_asked_for(tmp_path):
    yolo(tmp_path, names="names:\n  0: dog\n  1: cat\n")
    assert detection.load(config(tmp_path)).names == ("dog", "cat")
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DataError, match="nothing names the classes 0 to 1"):
        detection.load(config(tmp_path))
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(DataError, match="names 1 classes, and a box is of the class 1"):
        detection.load(config(tmp_path))
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "mine.txt").write_text("hound\npuss\n")
    assert detection.load(config(tmp_path, labels=str(tmp_path / "names" / "mine.txt"))).names == ("hound", "puss")


def labelled(root, *names):
    path = root / "mine.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return config(root, labels=str(path))


@pytest.mark.parametrize("names", ["names: [cat, dog, eel]\n", "names: {0: cat, 1: dog, 2: eel}\nnc: 3\n", "classes"])
def test_yolo_and_labels_of_another_order_meet_by_name(tmp_path, names):
    """As COCO's do: the classes of the boxes are those of the weights, whatever the files number them by."""
    yolo(tmp_path, ["0 0.5 0.5 0.25 0.25", "2 0.5 0.5 0.5 0.5"], "" if names == "classes" else names)
    if names == "classes":
        (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\neel\n")
    found = detection.load(labelled(tmp_path, "eel", "dog", "Cat", "fox"))
    assert found.names == ("eel", "dog", "Cat", "fox")
    assert sorted(everything(found)[0, :, 0].tolist()) == [0.0, 2.0]
    with pytest.raises(
        DataError,
        match=r"names 2 of the 3 classes, and not 'cat'.* The data have 'cat', 'dog', 'eel'; data.labels has 'eel', 'dog', 'ape'",
    ):
        detection.load(labelled(tmp_path, "eel", "dog", "ape"))
    (note,) = [note for note in detection.load(labelled(tmp_path, "Katze", "Hund", "Aal")).notes if "in order" in note]
    assert "no class is called as one in data.labels" in note


def test_names_that_are_too_few_for_the_boxes_are_held_against_labels(tmp_path):
    yolo(tmp_path, ["2 0.5 0.5 0.25 0.25"], "names: [cat, dog]\n")
    with pytest.raises(DataError, match="names 2 of the 3 classes, and not 'class 2'"):
        detection.load(labelled(tmp_path, "eel", "dog", "cat"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("nc: 5\nnames: [dog, cat]\n", r"says nc: 5, and names 2 classes: 'dog', 'cat'"),
        ("names: [dog, dog]\n", "two classes are called 'dog'"),
        ("names: [dog, '']\n", "'' has a name of which nothing is to be seen"),
    ],
    ids=["count", "twice", "empty"],
)
def test_yolo_names_that_cannot_be(tmp_path, names, said):
    yolo(tmp_path, names=names)
    with pytest.raises(DataError, match=said):
        detection.load(config(tmp_path))


@pytest.mark.parametrize(
    ("line", "said"),
    [("0 0.5 0.5 nan 0.2", "'nan' is not finite"), ("0 0.5 0.5 0.2", "4 numbers"), ("0 32 16 8 8", "pixels?"), ("dog 0.5 0.5 0.2 0.2", "no numbers"), ("1.5 0.5 0.5 0.1 0.1", "no number of a class")],
    ids=["nan", "short", "pixels", "name", "half"],
)  # fmt: skip
def test_lines_that_are_no_boxes_are_one_error(tmp_path, line, said):
    yolo(tmp_path, [line])
    with pytest.raises(DataError) as raised:
        detection.load(config(tmp_path))
    assert said in str(raised.value) and "00.txt" in str(raised.value) and "2 more" in str(raised.value)


def test_images_alone_say_what_is_missing(tmp_path):
    yolo(tmp_path, (), "")
    with pytest.raises(DataError, match=r"neither COCO's JSON .* nor YOLO's text"):
        detection.load(config(tmp_path))
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\n")
    given = {"model": {"name": "ssdlite_mobilenet_v2", "resolution": SIZE, "width": 0.35}, "weights": {"path": "w.pth"}}
    asked = {"source": "images", "path": str(tmp_path / "images")}
    with pytest.raises(DataError, match=r"name them, one a line"):
        detection.load(common.checked(Config.model_validate({**given, "data": asked})))
    found = detection.load(common.checked(Config.model_validate({**given, "data": {**asked, "labels": str(names)}})))
    assert found.held_out.truth.shape[1:] == (0, 5) and found.names == ("dog", "cat")


def test_what_annotations_say_is_in_the_key(tmp_path):
    coco(tmp_path)
    before = detection.ingredients(config(tmp_path))
    assert detection.ingredients(config(tmp_path)) == before
    content = coco(tmp_path)
    content["annotations"][0]["bbox"] = [25, 8, 16, 8]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert detection.ingredients(config(tmp_path)) != before
    assert detection.ingredients(config(tmp_path, fit="letterbox"))["how images are fitted"] == "letterbox"


def test_a_task_that_cannot_read_a_source_says_which_it_can():
    with pytest.raises(
        ConfigError, match=r"data\.source = 'digits' has nothing for model.task = 'detection', which reads 'shapes'"
    ):
        config(source="digits")
    assert config().data.source == "shapes"


def test_outputs_that_nobody_explains_are_an_error():
    given = {"model": {"factory": "builtins:dict", "task": "detection"}, "weights": {"from_factory": True}}
    with pytest.raises(ConfigError, match=r"has to know what the model's outputs hold"):
        detection.ingredients(common.checked(Config.model_validate(given)))


def test_the_contact_sheet_shows_boxes():
    image = np.zeros((32, 32, 3), np.uint8)
    truth = np.float32([[1, 4, 4, 12, 12], [-1, -1, -1, -1, -1]])
    found = detection.marked(image, truth, 1.0)
    assert found.shape == image.shape and found[4, 8].any() and found[11, 8].any() and not found[8, 8].any()
    assert not detection.marked(image, truth[1:], 1.0).any() and not detection.marked(image, truth[:0], 1.0).any()
