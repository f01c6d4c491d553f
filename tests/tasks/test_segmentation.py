"""Segmentation: masks against their scalar definition, mIoU and its interval, masks of strangers, and what is said of an original."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from twinkeel.pipeline.config import Config, Train
from twinkeel.pipeline.data import Placed, turns
from twinkeel.pipeline.data.masks import nearest
from twinkeel.pipeline.data.pixels import upright
from twinkeel.pipeline.errors import DataError
from twinkeel.pipeline.parity import Worth
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.report.parts import segmentation as pictured
from twinkeel.pipeline.stages.distributed import ALONE
from twinkeel.pipeline.tasks import segmentation
from twinkeel.pipeline.tasks.segmentation import counting, decoding, original, showing

UNSEEN = decoding.UNSEEN
ODD = np.array([0, -0.0, 1, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45], np.float32)


def scalar(logits, placed, size, wanted):
    """The definition of `decoding`, number by number."""
    classes, rows, columns = logits.shape
    largest = float(np.finfo(np.float32).max)
    top, left, height, width = placed.photo
    above, beside, shown_rows, shown_columns = placed.input
    mask = np.full(size, UNSEEN, np.uint8)

    def finite(value):
        return -largest if math.isnan(value) else max(-largest, min(largest, value))

    def at(pixel, start, shown, pixels, offset, points, whole):
        x = (pixel + 0.5 - start) * shown / pixels + offset
        u = min(max(x * points / whole - 0.5, 0.0), points - 1.0)
        return math.floor(u), min(math.floor(u) + 1, points - 1), u - math.floor(u)

    for r in range(top, top + height):
        i, below, down = at(r, top, shown_rows, height, above, rows, wanted[0])
        for c in range(left, left + width):
            j, right, across = at(c, left, shown_columns, width, beside, columns, wanted[1])
            values = []
            for k in range(classes):
                corners = [[finite(float(logits[k, y, x])) for x in (j, right)] for y in (i, below)]
                one, other = (corners[0][n] + (corners[1][n] - corners[0][n]) * down for n in (0, 1))
                values.append(one + (other - one) * across)
            mask[r, c] = values.index(max(values))
    return mask


KINDS = {
    "random": lambda rng, shape: rng.normal(size=shape).astype(np.float32),
    "ties": lambda rng, shape: rng.integers(-1, 2, shape).astype(np.float32),
    "not finite": lambda rng, shape: rng.choice(ODD, shape),
    "last bits": lambda rng, shape: (
        np.float32(1) + np.float32(2**-23) * rng.integers(0, 3, shape).astype(np.float32)
    ).astype(np.float32),
    "constant": lambda rng, shape: np.full(shape, rng.choice(ODD), np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["crop", "letterbox"])
def test_masks_are_those_of_the_scalar_definition(kind, how):
    rng = np.random.default_rng([len(kind), how == "crop"])
    for _ in range(12):
        shape = tuple(rng.integers(1, 7, 3))
        wanted, size = tuple(rng.integers(16, 30, 2).tolist()), tuple(rng.integers(1, 45, 2).tolist())
        logits, placed = KINDS[kind](rng, shape), Placed.of(size, wanted, how)
        assert np.array_equal(decoding.mask_of(logits, placed, size, wanted), scalar(logits, placed, size, wanted))


def test_masks_of_whole_inputs_are_those_of_photos_of_that_size(monkeypatch):
    monkeypatch.setattr(decoding, "_AT_ONCE", 700)  # in parts
    logits = np.random.default_rng(0).normal(size=(9, 5, 3, 4)).astype(np.float32)
    whole = Placed.cropped((25, 33), (25, 33))
    expected = [decoding.mask_of(one, whole, (25, 33), (25, 33)) for one in logits]
    assert np.array_equal(decoding.masks_of(logits, (25, 33)), expected)


def test_interpolation_is_that_which_training_sees():
    logits = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    wide = torch.nn.functional.interpolate(torch.from_numpy(logits).double(), (40, 51), mode="bilinear")
    assert (decoding.masks_of(logits, (40, 51)) == wide.argmax(1).numpy()).mean() > 0.999


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_stored_as_photos_are(orientation):
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    lying = upright(stored[..., None], orientation)[..., 0]
    assert np.array_equal(decoding.as_stored(lying, orientation), stored)


# counting ---------------------------------------------------------------------------------------------------------


def layout(classes, rows, columns):
    return (Output(name="logits", shape=(classes, rows, columns)),)


def logits_of(masks, classes):
    """Packed logits at the masks' size that decode to them."""
    return np.eye(classes, dtype=np.float32)[masks].transpose(0, 3, 1, 2).reshape(len(masks), -1)


def test_miou_by_hand():
    truth = np.array([[[0, 0, 1, UNSEEN]], [[1, 1, 1, 0]]], np.uint8)
    answer = np.array([[[0, 1, 1, 2]], [[1, 1, 0, 0]]], np.uint8)
    found = counting.pixels(answer, truth, 4)
    # class 0: 2 of 4, class 1: 3 of 5; what stands on a pixel that is not counted is in neither, nor is class 3
    assert np.allclose(counting.ious(found), [2 / 4, 3 / 5, np.nan, np.nan], equal_nan=True)
    assert counting.mean_iou(found) == (0.5 + 0.6) / 2
    assert counting.score(logits_of(answer, 4), truth, layout(4, 1, 4)) == 0.55
    assert math.isnan(counting.score(logits_of(answer, 4), np.full_like(truth, UNSEEN), layout(4, 1, 4)))


def noisy(rng, truth, classes, share):
    return np.where(rng.random(truth.shape) < share, rng.integers(0, classes, truth.shape), truth).astype(np.uint8)


def test_the_interval_of_a_drop_holds_what_other_images_have():
    """Of a drop that is known from very many images, draws of 60 leave out no more than they may."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 0, 0, 1, 2], (6000, 1, 1)).astype(np.uint8).repeat(5, 1).repeat(5, 2)
    share = rng.random((6000, 1, 1)) * 0.6
    one, other = noisy(rng, truth, 3, share), noisy(rng, truth, 3, share + 0.04)
    pairs = [counting.pixels(answer, truth, 3) for answer in (one, other)]
    true, _ = counting.miou_drop(*pairs)
    outside = 0
    for start in range(0, 6000, 60):
        parts = [counting.Pixels(p.both[s], p.truth[s], p.answer[s]) for p in pairs for s in [slice(start, start + 60)]]
        _, counts = counting.miou_drop(*parts)
        outside += not counts.low <= true <= counts.high
    assert 0.01 < true < 0.1 and outside <= 8


def test_verdicts_need_images():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, (500, 4, 4)).astype(np.uint8)
    found = counting.pixels(truth, truth, 3)
    drop, counts = counting.miou_drop(found, found)
    assert (drop, counts.lost, counts.won) == (0.0, 0, 0) and 0 < counts.high < 0.01
    few = counting.Pixels(found.both[:200], found.truth[:200], found.answer[:200])
    assert counting.miou_drop(few, few)[1].high > 0.01
    alike, counts = counting.agreement(truth, noisy(rng, truth, 3, 0.1))
    assert 0.9 < alike < 0.97 and counts.low < alike < counts.high and counts.kept + counts.lost == 500


def test_counts_are_of_the_outputs():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, (40, 6, 6)).astype(np.uint8)
    worse = noisy(rng, truth, 3, 0.3)
    found = segmentation.MEANING.worth(
        logits_of(truth, 3), logits_of(truth, 3), logits_of(worse, 3), truth, layout(3, 6, 6)
    )
    assert found.counted["agreement"][0] == pytest.approx((truth == worse).mean())
    assert found.counted["miou_drop"][0] == pytest.approx(1 - found.score)
    told = segmentation.told(found)
    assert told["mIoU"] == found.score and told["miou_drop_counts"]["images"] == 40
    assert segmentation.columns(found)["mIoU"].startswith(f"{100 * found.score:.2f} % (-")
    assert segmentation.columns(Worth()) == {"as float": "", "mIoU": "–"}


def test_without_masks_agreement_alone_is_counted():
    config = Config.model_validate(
        {"data": {"source": "images", "path": "x"}, "weights": {"path": "w"}, "model": {"task": "segmentation"}}
    )
    meaning = segmentation.meaning(config)
    assert set(meaning.counted) == {"agreement"}
    assert all(row.metric == "agreement" for rows in meaning.limits.values() for row in rows)
    truth = np.full((30, 4, 4), UNSEEN, np.uint8)
    outputs = np.random.default_rng(0).normal(size=(30, 2 * 16)).astype(np.float32)
    assert set(meaning.count(outputs, outputs, outputs, truth, layout(2, 4, 4))) == {"agreement"}


# the original -----------------------------------------------------------------------------------------------------


def looked(answer, truth, classes):
    return segmentation.look(logits_of(answer, classes), truth, Config(), layout(classes, *truth.shape[1:]))


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(3)
    return rng.choice([0, 0, 1, 2, 3], (60, 3, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)


NAMES = ("background", "cat", "dog", "tree")


def test_a_good_original_is_no_trouble(truth):
    found = looked(noisy(np.random.default_rng(0), truth, 4, 0.3), truth, 4)
    assert segmentation.trouble(found, NAMES, is_trained=False) == "" == segmentation.doubt(found, NAMES)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda truth: np.array([0, 2, 1, 3], np.uint8)[truth], "'cat' is answered 'dog', 'dog' is answered 'cat'"),
        (lambda truth: (truth + 1) % 4, "each class is moved by +1"),
        (lambda truth: np.full_like(truth, 1), "answers 'cat' on every pixel"),
        (
            lambda truth: np.random.default_rng(5).permutation(truth),
            "fit the images beside theirs as well as their own",
        ),
    ],
    ids=["permuted", "shifted", "constant", "of other images"],
)
def test_what_is_wrong_with_an_original_is_said(truth, change, cause):
    answer = noisy(np.random.default_rng(1), change(truth).astype(np.uint8), 4, 0.1 if "every" not in cause else 0)
    said = segmentation.trouble(looked(answer, truth, 4), NAMES, is_trained=False)
    assert cause in said and "The likely cause" in said, said


def test_outputs_that_are_not_finite_are_said(truth):
    outputs = logits_of(truth, 4)
    outputs[0, 0] = np.nan
    found = original.look(outputs, truth, Config(), layout(4, 12, 12))
    assert found["is_finite"] is False and "infinite or NaN" in segmentation.trouble(found, NAMES, is_trained=True)


def test_few_images_prove_nothing(truth):
    found = looked(np.full_like(truth[:8], 1), truth[:8], 4)
    assert segmentation.trouble(found, NAMES, is_trained=False) == ""
    assert "no more than one class everywhere" in segmentation.doubt(found, NAMES)


# training ---------------------------------------------------------------------------------------------------------


def test_loss_does_not_count_what_is_not_counted():
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    truth = torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    truth[:, :, 4:] = UNSEEN
    config = Config.model_validate({"train": {"label_smoothing": 0.0}})
    wide = torch.nn.functional.interpolate(logits, (8, 8), mode="bilinear")
    expected = torch.nn.functional.cross_entropy(wide[..., :4], truth[..., :4].long())
    assert torch.allclose(segmentation.loss(logits, truth, config, ALONE.add_up), expected)
    nothing = segmentation.loss(logits, torch.full_like(truth, UNSEEN), config, ALONE.add_up)
    nothing.backward()
    assert nothing.item() == 0 and bool((logits.grad == 0).all())


def test_masks_move_with_their_images():
    truth = torch.zeros(8, 40, 40, dtype=torch.uint8)
    truth[:, 10:25, 12:30] = 3
    truth[:, :5] = UNSEEN
    images = truth[:, None].float().repeat(1, 3, 1, 1)
    torch.manual_seed(0)
    moved, masks = segmentation.augmented(
        images, truth, turns(len(images), Train(rotation_degrees=20.0, zoom=0.2, shift=0.1))
    )
    assert masks.dtype == torch.uint8 and set(masks.unique().tolist()) <= {0, 3, UNSEEN}
    assert not torch.equal(masks, truth)
    assert ((moved[:, 0] - masks.float()).abs() < 0.01).float().mean() > 0.85  # but for what lies between two pixels


# data -------------------------------------------------------------------------------------------------------------


def folder(root, count=12, *, image="images/p{}.png", mask="masks/p{}.png", size=(20, 24), classes=3, save=None):
    rng = np.random.default_rng(0)
    for n in range(count):
        path, other = root / image.format(n), root / mask.format(n)
        for one in (path, other):
            one.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
        values = rng.integers(0, classes, size).astype(np.uint8)
        (save or (lambda values, path: Image.fromarray(values).save(path)))(values, other)
    return root


def configured(root, resolution=16, weights=None, **data):
    given = {"source": "folder", "path": str(root), "calibration": 4, **data}
    model = {"task": "segmentation", "resolution": resolution}
    return Config.model_validate({"model": model, "data": given, "weights": weights or {}})


def test_a_folder_of_images_and_masks(tmp_path):
    found = segmentation.load(configured(folder(tmp_path)))
    assert found.names == ("class 0", "class 1", "class 2")
    assert found.held_out.truth.shape == (2, 16, 16) and found.held_out.truth.dtype == np.uint8
    assert dict(found.taken)["training"] == "6 images of 3 classes, from the folder's images with masks"


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("JPEGImages/p{}.png", "SegmentationClass/p{}.png"),
        ("images/p{}.png", "annotations/p{}_mask.png"),
        ("p{}.png", "masks/p{}.png"),
    ],
)
def test_folders_as_people_call_them(image, mask, tmp_path):
    found = segmentation.load(configured(folder(tmp_path, image=image, mask=mask)))
    assert sum(len(part.images) for part in (found.train, found.calibration, found.held_out)) == 12


@pytest.mark.parametrize("kind", ["images/{0}/p{1}.png", "{0}/images/p{1}.png"])
def test_sets_of_their_own(kind, tmp_path):
    for name, count in (("train", 8), ("val", 3)):
        image = kind.replace("{0}", name).replace("{1}", "{}")
        folder(tmp_path, count, image=image, mask=image.replace("images", "masks"), size=(20 + count, 24))
    found = segmentation.load(configured(tmp_path))
    assert (len(found.train.images), len(found.calibration.images), len(found.held_out.images)) == (4, 4, 3)


def palette(values, path):
    image = Image.fromarray(values, "P")
    image.putpalette([7 * n % 256 for n in range(768)])
    image.save(path)


SAVED = {
    "grey": None,
    "palette": palette,
    "grey in colours": lambda values, path: Image.fromarray(values[..., None].repeat(3, -1)).save(path),
    "16 bits": lambda values, path: Image.fromarray(values.astype(np.uint16)).save(path),
}


@pytest.mark.parametrize("kind", SAVED)
def test_masks_of_every_kind_hold_the_same(kind, tmp_path):
    plain = segmentation.load(configured(folder(tmp_path / "plain")))
    found = segmentation.load(configured(folder(tmp_path / "other", save=SAVED[kind])))
    assert np.array_equal(found.held_out.truth, plain.held_out.truth)


def one(root, values, mode=None, suffix="png"):
    """A folder whose last mask is another."""
    folder(root, 6)
    path = root / "masks" / "p5.png"
    path.unlink()
    image = Image.fromarray(values, mode) if mode else Image.fromarray(values)
    image.save(path.with_suffix(f".{suffix}"))
    return root


WRONG = {
    "colours": (lambda root: one(root, np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)), "colours"),
    "size": (lambda root: one(root, np.zeros((21, 24), np.uint8)), "24 x 21 pixels, and its image"),
    "lossy": (lambda root: one(root, np.zeros((20, 24), np.uint8), suffix="jpg"), "is a JPEG"),
    "large": (lambda root: one(root, np.full((20, 24), 300, np.uint16)), "pixels of I;16, 300 to 300"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_strange_masks_are_one_clear_error(kind, tmp_path):
    made, said = WRONG[kind]
    with pytest.raises(DataError, match=said):
        segmentation.load(configured(made(tmp_path)))


def test_damaged_masks_are_named_or_passed_over(tmp_path):
    folder(tmp_path)
    (tmp_path / "masks" / "p3.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(DataError, match=r"cannot read the mask '.*p3\.png'"):
        segmentation.load(configured(tmp_path))
    whole = len(list((tmp_path / "images").iterdir()))
    found = segmentation.load(configured(tmp_path, skip_damaged=True))
    assert sum(len(part.images) for part in (found.train, found.calibration, found.held_out)) == whole - 1
    assert all(len(part.images) == len(part.truth) for part in (found.train, found.calibration, found.held_out))
    (said,) = (words for what, words in found.taken if what == "damaged, passed over")
    assert said.startswith("1: ") and said.endswith("p3.png")
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(DataError, match="no mask can be read"):
        segmentation.load(configured(tmp_path, skip_damaged=True))


@pytest.mark.parametrize(("trained", "advice"), [(3, "Raise data.calibration"), (2, "training images show none")])
def test_what_calibration_images_do_not_show_is_said_with_what_helps(trained, advice, tmp_path):
    found = segmentation.load(configured(folder(tmp_path) or tmp_path))

    def of_class(part, number):
        return dataclasses.replace(part, truth=np.full_like(part.truth, number))

    changed = dataclasses.replace(
        found,
        names=tuple("abcd"),
        train=of_class(found.train, trained),
        calibration=of_class(found.calibration, 1),
        held_out=of_class(found.held_out, 3),
    )
    (said,) = segmentation.doubts(changed)
    assert "1 of 4 classes" in said and advice in said


def test_classes_beyond_those_that_are_named(tmp_path):
    folder(tmp_path, classes=4)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match=r"has the class 3, and there are 3, 0 to 2"):
        segmentation.load(configured(tmp_path, labels=str(tmp_path / "labels.txt")))
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    assert segmentation.load(configured(tmp_path, labels=str(tmp_path / "labels.txt"))).names == tuple("abcde")


def test_missing_masks_are_counted_and_none_is_an_error(tmp_path):
    folder(tmp_path)
    (tmp_path / "masks" / "p3.png").unlink()
    (tmp_path / "images" / "p4.png").unlink()
    found = segmentation.load(configured(tmp_path))
    assert dict(found.taken)["passed over"] == "1 image without a mask, 1 mask without an image"
    for path in (tmp_path / "masks").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(DataError, match="none of 11 masks has the name of one of 11 images"):
        segmentation.load(configured(tmp_path))
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="11 images and no folder of masks"):
        segmentation.load(configured(tmp_path))


def test_masks_of_255_alone_are_explained(tmp_path):
    def save(values, path):
        Image.fromarray(255 * (values > 0).astype(np.uint8)).save(path)

    with pytest.raises(DataError, match=r"the class 0 alone; at least 2 are needed\. Where 255 is meant to be a class"):
        segmentation.load(configured(folder(tmp_path, save=save)))


@pytest.mark.parametrize("how", ["crop", "letterbox"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("lying", ["as stored", "upright"])
def test_masks_lie_where_their_images_do(lying, orientation, how, tmp_path):
    """The mask is the image's own red channel: at the input's size both are the same but for what lies between pixels."""
    if orientation < 5:
        lying = "as stored"  # both sizes are the same
    blocks = np.random.default_rng(orientation).integers(0, 2, (6, 9)).astype(np.uint8)
    stored = np.kron(blocks, np.ones((16, 16), np.uint8))
    for n in range(6):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = stored[..., None].repeat(3, -1) * 200
        pixels[..., 2] = 20 * n  # no two alike
        Image.fromarray(pixels).save(tmp_path / "images" / f"p{n}.png", exif=exif)
        mask = stored if lying == "as stored" else np.ascontiguousarray(upright(stored[..., None], orientation)[..., 0])
        Image.fromarray(mask).save(tmp_path / "masks" / f"p{n}.png")
    found = segmentation.load(configured(tmp_path, resolution=[64, 80], fit=how)).held_out
    red, truth = np.asarray(found.images)[0][..., 0], found.truth[0]
    clear = ((red < 20) | (red > 180)) & (truth != UNSEEN)
    assert clear.mean() > 0.4 and np.array_equal(red[clear] > 100, truth[clear] == 1)
    assert (truth == UNSEEN).any() == (how == "letterbox")


def test_the_nearest_pixel_is_that_in_which_the_middle_lies():
    mask = np.arange(5, dtype=np.uint8)[None].repeat(5, 0)
    whole = Placed(photo=(0, 0, 5, 5), input=(0, 0, 5, 2))
    # the middles lie at 1.25 and 3.75
    assert nearest(mask, whole, (5, 2))[0].tolist() == [1, 3]
    # at 2.5 in an axis of 5, and on the edge between 1 and 2 in one of 4
    assert nearest(mask, Placed(photo=(0, 0, 5, 5), input=(0, 0, 5, 1)), (5, 1))[0].tolist() == [2]
    assert nearest(mask, Placed(photo=(0, 0, 5, 4), input=(0, 0, 5, 1)), (5, 1))[0].tolist() == [2]


def test_images_without_masks_take_the_classes_of_the_weights(tmp_path):
    folder(tmp_path)
    config = configured(tmp_path / "images", source="images", weights={"path": "w.pth"})
    found = segmentation.load(config, lambda: 5)
    assert len(found.names) == 5 and bool((found.held_out.truth == UNSEEN).all()) and not len(found.train.images)


def test_the_key_of_the_data_knows_every_mask(tmp_path):
    folder(tmp_path)
    before = segmentation.ingredients(configured(tmp_path))
    assert segmentation.ingredients(configured(tmp_path)) == before
    path = tmp_path / "masks" / "p2.png"
    Image.fromarray(1 - np.minimum(np.asarray(Image.open(path)), 1)).save(path)
    assert segmentation.ingredients(configured(tmp_path)) != before


# telling ----------------------------------------------------------------------------------------------------------


def test_outputs_of_another_shape_are_refused():
    assert segmentation.misfit([(1, 3, 5, 7)], 3, Config()) == ""
    for shape in ((1, 3), (1, 4, 5, 7), (1, 5, 7, 3)):
        assert "(1, 3, height, width)" in segmentation.misfit([shape], 3, Config())


def test_the_manifest_has_the_classes():
    described = segmentation.described(NAMES, Config(), layout(4, 5, 6))
    assert segmentation.names_of(described) == NAMES
    assert segmentation.fault(described, 4 * 30) == "" != segmentation.fault(described, 4 * 30 + 1)
    assert segmentation.fault({"labels": "abc"}, 3) != "" != segmentation.fault({}, 3)
    assert segmentation.files(NAMES) == {"labels.txt": b"background\ncat\ndog\ntree\n"}


def test_the_report_keeps_the_images_that_are_furthest_apart(truth):
    rng = np.random.default_rng(4)
    better, worse = noisy(rng, truth, 4, 0.05), noisy(rng, truth, 4, 0.05)
    worse[17] = 3
    kept = segmentation.answers(
        [logits_of(better, 4), logits_of(worse, 4)], truth, Config(), layout(4, *truth.shape[1:])
    )
    first, second = (showing.Shown.of(one, len(truth), 4, truth.shape[1:]) for one in kept)
    assert first.images[0] == 17 and np.array_equal(first.images, second.images)
    assert np.array_equal(second.masks[0], worse[17]) and np.array_equal(first.masks[0], better[17])
    assert counting.mean_iou(second.counts) == pytest.approx(
        counting.score(logits_of(worse, 4), truth, layout(4, *truth.shape[1:]))
    )


def test_masks_are_laid_over_images():
    image = np.full((4, 6, 3), 100, np.uint8)
    mask = np.zeros((2, 3), np.uint8)
    mask[0, 1], mask[1, 2] = 2, UNSEEN
    shown = segmentation.marked(image, mask, 2.0)
    assert (shown[:2, :2] == 100).all() and (shown[:2, 2:4] == shown[0, 2]).all() and (shown[0, 2] != 100).any()
    assert (shown[2:, 4:] > 180).all()
    assert segmentation.marked(image, np.full_like(mask, UNSEEN), 2.0) is image
    assert len({tuple(colour) for colour in showing.colours().tolist()}) > 100


def test_the_report_shows_the_worst_artifact_beside_the_float_model_on_the_same_images(truth):
    """Each platform keeps the images on which its own artifacts are furthest apart, in another order than the others."""
    rng = np.random.default_rng(5)
    floating, masks = noisy(rng, truth, 4, 0.05), {}
    results = []
    for platform, number in (("android", 17), ("ios", 3)):
        masks[platform] = noisy(rng, truth, 4, 0.05)
        masks[platform][number] = 2
        kept = segmentation.answers(
            [logits_of(floating, 4), logits_of(masks[platform], 4)], truth, Config(), layout(4, *truth.shape[1:])
        )
        results.append(SimpleNamespace(answers={"float": kept[0], f"{platform}/x int8": kept[1]}))
    said = SimpleNamespace(results=results)
    for platform, number in (("android", 17), ("ios", 3)):
        worst = SimpleNamespace(artifact=SimpleNamespace(target=f"{platform}/x", precision="int8"))
        found = pictured.chosen(said, worst, truth, 4)
        assert list(found) == ["float model", f"{platform}/x int8"]
        floats, other = found.values()
        assert other.images[0] == number and np.array_equal(floats.images, other.images)
        assert np.array_equal(floats.masks[0], floating[number]) and np.array_equal(
            other.masks[0], masks[platform][number]
        )
