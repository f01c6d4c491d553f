"""The float model is looked at before anything is built on it: what stops a build, why, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from twinkeel.pipeline.building.jobs.original import MOST_IMAGES, chosen, ignores_images
from twinkeel.pipeline.tasks.classification import original

NAMES = tuple(f"class {n}" for n in range(10))


def trouble(answers, labels, names=NAMES, is_trained=False):
    logits = np.eye(len(names), dtype=np.float32)[answers]
    return original.trouble(original.look(logits, np.asarray(labels)), names, is_trained=is_trained)


def good(images=359, classes=10, accuracy=0.98, seed=0):
    """Labels, and answers that are right with a probability and else anything."""
    random = np.random.default_rng(seed)
    labels = np.sort(random.integers(0, classes, images))
    return np.where(random.random(images) < accuracy, labels, random.integers(0, classes, images)), labels


@pytest.mark.parametrize("seed", range(5))
def test_a_good_model_is_not_stopped(seed):
    assert trouble(*good(seed=seed)) == ""


@pytest.mark.parametrize("seed", range(5))
def test_a_good_model_with_a_fifth_of_the_labels_wrong_is_not_stopped(seed):
    answers, labels = good(seed=seed)
    random = np.random.default_rng(seed + 100)
    wrong = random.random(len(labels)) < 0.2
    assert trouble(answers, np.where(wrong, random.integers(0, 10, len(labels)), labels)) == ""


def test_a_weak_model_is_not_stopped():
    assert trouble(*good(accuracy=0.25)) == ""


@pytest.mark.parametrize("seed", range(5))
def test_confusions_of_a_mediocre_model_are_no_permutation(seed):
    random = np.random.default_rng(seed)
    answers, labels = good(accuracy=0.6, seed=seed)
    confused = random.integers(0, 10, 10)
    answers = np.where((answers != labels) & (random.random(len(labels)) < 0.7), confused[labels], answers)
    assert trouble(answers, labels) == ""


@pytest.mark.parametrize("seed", range(5))
def test_classes_in_another_order_are_named_as_that(seed):
    answers, labels = good(seed=seed)
    order = np.roll(np.random.default_rng(seed).permutation(10), 1)
    order = order if (order != np.arange(10)).sum() > 2 else np.roll(np.arange(10), 3)[::-1].copy()
    found = trouble(order[answers], labels)
    assert "in another order" in found and "is answered" in found, found


@pytest.mark.parametrize(("images", "accuracy"), [(359, 0.98), (154, 0.85)])
def test_two_swapped_classes_are_named(images, accuracy):
    answers, labels = good(images, accuracy=accuracy)
    found = trouble(np.choose(answers, [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]), labels)
    assert "'class 3' is answered 'class 5', 'class 5' is answered 'class 3'" in found, found


def test_a_shift_by_one_is_named_with_its_likely_cause():
    answers, labels = good()
    found = trouble((answers + 1) % 10, labels)
    assert "each class is moved by +1" in found and "background class" in found, found
    assert "each class is moved by -1" in trouble((answers - 1) % 10, labels)


def test_names_that_are_numbers_are_sorted_as_text():
    answers, labels = good(classes=12)
    names = sorted(str(n) for n in range(12))
    found = trouble(np.array([int(name) for name in names])[answers], labels, names=names)
    assert "'10' comes before '2'" in found, found


def test_one_answer_to_everything_is_named():
    _, labels = good()
    found = trouble(np.full(len(labels), 4), labels)
    assert "it answers 'class 4' on every one of them" in found, found


def test_chance_is_named_with_the_cause_that_fits():
    random = np.random.default_rng(0)
    _, labels = good()
    found = trouble(random.integers(0, 10, len(labels)), labels)
    assert "answers that know nothing of the images would be right on 1" in found and "another model" in found, found
    found = trouble(random.integers(0, 10, len(labels)), labels, is_trained=True)
    assert "the training has not learnt" in found, found


def test_a_logit_that_is_no_number_is_named():
    logits = np.zeros((20, 3), np.float32)
    logits[3, 1] = np.nan
    found = original.look(logits, np.arange(20) % 3)
    assert "infinite or NaN" in original.trouble(found, NAMES[:3], is_trained=False)


@pytest.mark.parametrize("images", [5, 20, 90, 359, 5000])
def test_what_is_told_without_the_exact_test_is_what_that_tells(images):
    from scipy.special import betainc

    for right in {0, 1, images // 10, images // 5, images // 2, images - 1, images}:
        for chance in (0.001, 0.1, 0.2, 0.5, 0.9, 0.999):
            found = original.Look(
                images=images, right=right, chance=chance, is_finite=True, always=-1, moved=(), right_moved=0, luck=1.0, classes=10,
            )  # fmt: skip
            is_more = bool(right) and betainc(right, images - right + 1, chance) <= original._BY_CHANCE
            expected = not is_more and original.share_interval(images, right)[1] < (1 + chance) / 2
            assert original._is_chance(found) == expected, (images, right, chance)


def test_few_images_prove_nothing_against_a_model():
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert trouble(np.array([0, 1, 1, 1, 2, 0]), labels, names=NAMES[:3]) == ""
    assert trouble(np.array([0, 0, 0]), np.array([0, 1, 2]), names=NAMES[:3]) == ""


def test_what_few_images_speak_for_is_said():
    """Two of ten classes exchanged, four images of each: too few to stop for, too many to pass without a word."""
    labels = np.repeat(np.arange(10), 4)
    answers = np.array(SWAPPED, int)[labels]
    found = original.look(np.eye(10, dtype=np.float32)[answers], labels)
    assert original.trouble(found, NAMES, is_trained=False) == ""
    told = original.doubt(found, NAMES)
    assert (
        "40 of 40" in told
        and "not 32" in told
        and "'class 3' is answered 'class 5'" in told
        and "too few to tell" in told
    )


def test_the_cause_of_a_model_at_chance_is_the_order_where_these_images_speak_for_it():
    labels = np.repeat([0, 1], 4)
    told = trouble(1 - labels, labels, names=NAMES[:2])
    assert (
        "'class 0' is answered 'class 1'" in told
        and "in another order" in told
        and "weights of another model" not in told
    )


def test_a_good_model_is_not_doubted():
    for seed in range(20):
        answers, labels = good(images=40, accuracy=0.8, seed=seed)
        assert original.doubt(original.look(np.eye(10, dtype=np.float32)[answers], labels), NAMES) == "", seed


def test_a_thousand_classes_with_a_few_images_each():
    answers, labels = good(images=3000, classes=1000, accuracy=0.7)
    names = [f"n{n:04d}" for n in range(1000)]
    assert trouble(answers, labels, names=names) == ""
    order = np.random.default_rng(1).permutation(1000)
    assert "in another order" in trouble(order[answers], labels, names=names)


def test_the_images_that_are_looked_at_are_spread_over_all():
    assert chosen(5) == [0, 1, 2, 3, 4]
    many = chosen(100_000)
    assert len(set(many)) == MOST_IMAGES and many[0] == 0 and many[-1] == 99_999


def _folders(root, names):
    """A few digits in class folders, each digit in the folder that `names` gives it."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.rint(image * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def _configured(tmp_path, fixed_weights, names, more=""):
    _folders(tmp_path / "images", names)
    (tmp_path / "twinkeel.toml").write_text(
        f'[model]\nwidth = 0.2\n[data]\nsource = "folder"\npath = "images"\nheld_out = 0.5\n{more}'
        f'[weights]\npath = "{fixed_weights}"\n[quantize]\nminutes = 0\n[targets]\n"android/onnx" = ["fp32"]\n'
    )
    return "build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", tmp_path / "store"


SWAPPED = ["0", "1", "2", "5", "4", "3", "6", "7", "8", "9"]


def test_folders_in_another_order_than_the_weights_end_the_build_before_anything_is_made(
    run_cli, tmp_path, fixed_weights
):
    done = run_cli(*_configured(tmp_path, fixed_weights, SWAPPED))
    assert getattr(done.exception, "exit_code", None) == 13, done.exception
    told = str(done.exception)
    assert "'3' is answered '5', '5' is answered '3'" in told and "accept_accuracy" in told, told
    assert "quantize:" not in done.output and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_what_is_accepted_is_built_and_the_reason_stands_in_the_manifest(run_cli, tmp_path, fixed_weights):
    import json

    command = _configured(tmp_path, fixed_weights, SWAPPED, 'accept_accuracy = "a test"\n')
    assert run_cli("train", *command[2:]).exit_code == 0  # its file is one of the folder's from then on
    done = run_cli(*command)
    assert done.exit_code == 0, (done.exception, done.output)
    checked = run_cli("verify", tmp_path / "out")
    assert checked.exit_code == 0 and (tmp_path / "out/mobilenet_v2.safetensors").is_file(), repr(checked.exception)
    assert "WARNING accepted (a test): the float model answers" in done.output
    (warning,) = [
        w for w in json.loads((tmp_path / "out/android/manifest.json").read_text())["warnings"] if "a test" in w
    ]
    assert "'3' is answered '5'" in warning
    assert "a test" in (tmp_path / "out/report.html").read_text()
    assert "a test" in json.loads((tmp_path / "out/android/parity.json").read_text())["doubts"][0]
    assert "'3' is answered '5'" in run_cli("parity", tmp_path / "out/android").output


def test_no_reason_lets_numbers_pass_that_are_none(run_cli, tmp_path, fixed_weights):
    from safetensors.torch import load_file, save_file

    state = load_file(fixed_weights)
    state["features.0.1.running_var"] = -state["features.0.1.running_var"] - 1
    save_file(state, tmp_path / "w.safetensors")
    done = run_cli(*_configured(tmp_path, tmp_path / "w.safetensors", NAMES, 'accept_accuracy = "a test"\n'))
    assert getattr(done.exception, "exit_code", None) == 13, repr(done.exception)
    assert "infinite or NaN" in str(done.exception) and "accept_accuracy" not in str(done.exception)


def test_what_would_end_a_build_is_told_by_explain(run_cli, tmp_path, fixed_weights):
    command = _configured(tmp_path, fixed_weights, SWAPPED)
    told = str(run_cli(*command).exception)
    assert str(run_cli(*command, "--explain").exception) == told and "accept_accuracy" in told
    with (tmp_path / "twinkeel.toml").open("a") as stream:
        stream.write('[parity]\nrequire = "shown"\n[[limit]]\nleg = "lower"\nprecision = "fp32"\n')
        stream.write('metric = "accuracy_drop"\nvalue = 0.005\n')
    assert "cannot be met: lower fp32 accuracy_drop" in str(run_cli(*command, "--explain").exception)


def test_one_output_for_images_that_differ_is_seen():
    images = np.zeros((5, 2, 2, 4), np.uint8)
    outputs = np.ones((5, 3), np.float32)
    assert not ignores_images(images, outputs)  # they are one image
    assert not ignores_images(images[:1], outputs[:1])
    images[3, 1, 1, 0] = 1
    assert ignores_images(images, outputs)
    outputs[4, 2] += 1e-6
    assert not ignores_images(images, outputs)
