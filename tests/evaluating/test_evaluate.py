"""A validation set through every artifact: what is counted is right, streamed, resumed, and never in the folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from linear import linear
from PIL import Image
from pyarrow import parquet
from scipy.stats import binomtest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import ConfigError, DataError, DeviceError, ParityError, TwinkeelError, WorkerError
from twinkeel.pipeline.evaluating import planning, running, summary
from twinkeel.pipeline.parity import Counts
from twinkeel.pipeline.parity.verdict import drop_of, share_of
from twinkeel.pipeline.store import Here
from twinkeel.pipeline.tasks.features import comparing

SIDE, CLASSES, COUNT = 8, 10, 230
WORDS = [f"class {n}" for n in range(CLASSES)]
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(SIDE * SIDE * 4, CLASSES)).astype(np.float32) / 200
NOISE = [RANDOM.normal(size=WEIGHTS.shape).astype(np.float32) / 900 for _ in range(2)]
FILES = {
    ("android/onnx", "fp32"): WEIGHTS,
    ("android/onnx", "int8"): WEIGHTS + NOISE[0],
    ("ios/onnx", "int8"): WEIGHTS + NOISE[1],
}
TRUTH = RANDOM.integers(0, CLASSES, COUNT)
PIXELS = RANDOM.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
ORDER = sorted(range(COUNT), key=lambda n: (TRUTH[n], n))
"""Of the images, as folders and names have it."""


def outputs_of(weights, pixels=PIXELS[ORDER]):
    """As onnxruntime computes them, one image at a time: sums in the same order."""
    session = onnxruntime.InferenceSession(linear(weights), providers=["CPUExecutionProvider"])
    given = np.concatenate([pixels, np.full((*pixels.shape[:3], 1), 255, np.uint8)], -1)
    return np.concatenate([session.run(None, {"pixels": one[None]})[0] for one in given])


COUNTED = Counts(images=40, kept=38, lost=2, won=0, low=0.0, high=0.1)
LIMITS = {"agreement": (">=", 0.5), "accuracy_drop": ("<=", 0.2)}


@pytest.fixture
def build(tmp_path, finish):
    """Write a finished folder of these networks, with open verdicts, and the manifest changed before it is sealed."""

    def write(edit=lambda content: None, files=FILES, name="out"):
        folder = tmp_path / name / "android"
        folder.mkdir(parents=True)
        artifacts = []
        for number, ((target, precision), weights) in enumerate(files.items()):
            path = folder / f"{number}-{precision}.onnx"
            path.write_bytes(linear(weights))
            artifacts.append((target, "onnxruntime", precision, path, precision, "runtime"))
        golden = np.concatenate([PIXELS[:2], np.full((2, SIDE, SIDE, 1), 255, np.uint8)], -1)
        logits = outputs_of(WEIGHTS, PIXELS[:2])
        finish(folder, artifacts, {"fp32": logits, "int8": logits}, ("one", "two"), golden)
        content = json.loads((folder / manifest.MANIFEST).read_text())
        content["program_checks"] = [
            {"leg": "quantize", "metric": metric, "sense": sense, "limit": limit, "measured": 0.9, "reason": "a test",
             "needs_all": True, "is_met": True, "verdict": "open", "counts": vars(COUNTED)}
            for metric, (sense, limit) in LIMITS.items()
        ]  # fmt: skip
        edit(content)
        manifest.write(content, folder / manifest.MANIFEST)
        manifest.verify(folder)
        return folder

    return write


@pytest.fixture
def data(tmp_path):
    """Class folders of all images."""
    for number in range(COUNT):
        path = tmp_path / "val" / WORDS[TRUTH[number]] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[number]).save(path)
    return tmp_path / "val"


@pytest.fixture
def evaluate(run_cli, tmp_path, monkeypatch):
    """The command in this process, in shards of 50 images; gives the result and what it wrote."""
    monkeypatch.setattr(running, "Workers", lambda number: Here())
    monkeypatch.setattr(planning, "SHARD_IMAGES", (16, 50))

    def run(*arguments):
        result = run_cli("evaluate", *arguments, "--into", tmp_path / "found")
        path = tmp_path / "found" / "evaluation.json"
        return result, json.loads(path.read_text()) if path.is_file() else None

    return run


def test_what_is_counted_is_what_there_is(build, data, evaluate, tmp_path):
    folder = build()
    result, found = evaluate(folder, "--data", data)
    assert result.exit_code == 0, result.exception
    truth, floating = TRUTH[ORDER], outputs_of(WEIGHTS)
    assert found["images"] == COUNT
    answers = []
    for one, weights in zip(found["artifacts"], FILES.values(), strict=True):
        logits = outputs_of(weights)
        first = logits.argmax(1)
        answers.append(first)
        in_five = (np.argsort(-logits, 1, kind="stable")[:, :5] == truth[:, None]).any(1)
        for name, right in (("top-1", first == truth), ("top-5", in_five)):
            exact = binomtest(int(right.sum()), COUNT).proportion_ci(method="exact")
            share = one["shares"][name]
            assert share["share"] == right.mean() and (share["low"], share["high"]) == pytest.approx(exact)
        if one["names"] == ["android/onnx fp32"]:
            assert one["counted"] == {} and one["reference"] == ""
            continue
        own, other = first == truth, floating.argmax(1) == truth
        value, counts = drop_of(
            COUNT, kept=int((own & other).sum()), lost=int((other & ~own).sum()), won=int((own & ~other).sum())
        )
        assert one["counted"]["accuracy_drop"] == {"share": value, **vars(counts)}
        value, counts = share_of(COUNT, int((first == floating.argmax(1)).sum()))
        assert one["counted"]["agreement"] == {"share": value, **vars(counts)}
        noise = np.square(logits - floating, dtype=np.float64).sum(1)
        assert one["snr_db"] == pytest.approx(
            float(np.mean(10 * np.log10(np.square(floating).sum(1) / noise))), rel=1e-4
        )
    for group in found["groups"]:
        here = truth == WORDS.index(group["name"])
        assert group["images"] == here.sum()
        assert [one["kept"] for one in group["shares"]] == [int((one[here] == truth[here]).sum()) for one in answers]
    for pair, (a, b) in zip(found["pairs"], ((0, 1), (0, 2), (1, 2)), strict=True):
        assert pair["alike"] == (answers[a] == answers[b]).sum()
    assert found["runtimes_differ"] == (answers[1] != answers[2]).sum() > 0
    table = parquet.read_table(tmp_path / "found" / "answers.parquet").to_pylist()
    assert len(table) == 3 * COUNT
    for number, name in enumerate(one["names"][0] for one in found["artifacts"]):
        rows = {Path(row["image"]).name: row for row in table if row["artifact"] == name}
        for place, image in enumerate(ORDER):
            row = rows[f"{image:04d}.png"]
            assert (
                row["answer"] == WORDS[answers[number][place]] == row["first"][0]
                and row["truth"] == WORDS[truth[place]]
            )
            assert row["is_right"] == (answers[number][place] == truth[place])
            assert row["runtimes_differ"] == (answers[1][place] != answers[2][place])


def test_open_verdicts_are_told_anew_and_the_folder_stays(build, data, evaluate):
    folder = build()
    before = manifest.verify(folder), (folder / manifest.MANIFEST).read_bytes()
    result, found = evaluate(folder, "--data", data)
    assert (manifest.verify(folder), (folder / manifest.MANIFEST).read_bytes()) == before
    of_int8 = [one for one in found["verdicts"] if one["name"].endswith("int8")]
    assert {(one["metric"], one["before"], one["images_before"]) for one in of_int8} == {
        ("agreement", "open", 40), ("accuracy_drop", "open", 40)
    }  # fmt: skip
    assert {one["now"] for one in of_int8} == {"holds"} and "holds here" in result.output


def test_a_limit_that_is_missed_here_fails(build, data, evaluate):
    folder = build(lambda c: c["program_checks"][0].update(limit=0.99))
    result, found = evaluate(folder, "--data", data)
    assert isinstance(result.exception, ParityError) and "agreement >= 0.99: open on the build's 40" in str(
        result.exception
    )
    assert {one["now"] for one in found["verdicts"] if one["limit"] == 0.99} == {"missed"}


def shards(tmp_path):
    return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "found" / "shards").iterdir()}


def test_nothing_is_computed_twice_and_what_changed_is(build, data, evaluate, tmp_path):
    folder = build()
    evaluate(folder, "--data", data)
    first = shards(tmp_path)
    assert len(first) == 5
    result, _ = evaluate(folder, "--data", data)
    assert shards(tmp_path) == first and "5 of 5 shards are there already" in result.output
    path = data / WORDS[TRUTH[0]] / "0000.png"
    Image.fromarray(255 - PIXELS[0]).save(path)
    evaluate(folder, "--data", data)
    second = shards(tmp_path)
    assert len(second) == 5 and len(second.items() & first.items()) == 4
    other = build(files=FILES | {("android/onnx", "int8"): WEIGHTS}, name="other")
    evaluate(other, "--data", data)
    assert not shards(tmp_path).keys() & second.keys()  # others are dropped


def test_the_shards_say_the_same_however_they_are_divided(build, data, evaluate, monkeypatch):
    folder = build()
    _, one = evaluate(folder, "--data", data)
    monkeypatch.setattr(planning, "SHARD_IMAGES", (16, 512))
    _, other = evaluate(folder, "--data", data)
    for found in (one, other):
        for artifact in found["artifacts"]:
            artifact["snr_db"] = artifact["snr_db"] and round(artifact["snr_db"], 6)  # a mean, in another order
    assert one == other


def test_killed_and_run_again(build, data, tmp_path):
    """By SIGKILL, with workers of its own: what was written stays, byte for byte, and the result is that of one run."""
    folder = build()
    code = (
        "import sys, time; from twinkeel.pipeline.evaluating import planning, running\n"
        "planning.SHARD_IMAGES = (16, 16)\n"
        "from twinkeel.pipeline.cli import main; main()"
    )

    def start(into):
        command = [
            sys.executable,
            "-c",
            code,
            "evaluate",
            str(folder),
            "--data",
            str(data),
            "--into",
            str(into),
            "--jobs",
            "1",
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)

    whole = tmp_path / "whole"
    assert start(whole).wait() == 0
    into = tmp_path / "found"
    process, folder_of_shards = start(into), into / "shards"
    while not (folder_of_shards.is_dir() and any(folder_of_shards.iterdir())):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(1.0)  # its worker ends when it sees that
    first = shards(tmp_path)
    for name in first:
        assert (folder_of_shards / name).read_bytes() == (whole / "shards" / name).read_bytes()
    again = start(into)
    told, _ = again.communicate()
    assert again.returncode == 0, told
    assert f"{len(first)} of 15 shards are there already" in told
    assert first.items() <= shards(tmp_path).items() and len(shards(tmp_path)) == 15
    for name in ("evaluation.json", "evaluation.html"):
        assert (into / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in into.iterdir()) == [
        "answers.parquet",
        "evaluation.html",
        "evaluation.json",
        "shards",
    ]


def test_damaged_images_are_named_or_passed_over(build, data, evaluate, tmp_path):
    folder = build()
    for number in (3, 7):
        (data / WORDS[TRUTH[number]] / f"{number:04d}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    result, found = evaluate(folder, "--data", data)
    assert isinstance(result.exception, DataError) and found is None
    assert "2 images cannot be read" in str(result.exception) and "--skip-damaged" in str(result.exception)
    first = shards(tmp_path)
    result, found = evaluate(folder, "--data", data, "--skip-damaged")
    assert result.exit_code == 0 and found["images"] == COUNT - 2 and len(found["damaged"]) == 2
    assert shards(tmp_path) == first
    kept = [n for n in ORDER if n not in (3, 7)]
    right = (outputs_of(WEIGHTS, PIXELS[kept]).argmax(1) == TRUTH[kept]).sum()
    assert found["artifacts"][0]["shares"]["top-1"]["kept"] == right


@pytest.mark.parametrize("kind", ["archive", "list", "sets"])
def test_data_are_read_as_a_build_reads_them(kind, build, data, evaluate, tmp_path):
    folder = build()
    _, expected = evaluate(folder, "--data", data)
    more = []
    if kind == "archive":
        place = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", data))
    elif kind == "list":
        place = tmp_path / "list.csv"
        rows = [f"val/{WORDS[TRUTH[n]]}/{n:04d}.png,{WORDS[TRUTH[n]]}" for n in ORDER]
        place.write_text("path,label\n" + "\n".join(rows))
    else:
        place, more = tmp_path / "sets", ["--set", "val"]
        for name in ("train", "val"):
            shutil.copytree(data, place / name)
    result, found = evaluate(folder, "--data", place, *more)
    assert result.exit_code == 0, result.exception
    assert found["artifacts"] == expected["artifacts"] and found["groups"] == expected["groups"]


def test_classes_are_found_by_the_names_of_a_file(build, data, evaluate, tmp_path):
    folder = build()
    for number, word in enumerate(WORDS):
        (data / word).rename(data / f"n{number:08d}")
    result, _ = evaluate(folder, "--data", data, "--unlabelled")
    assert result.exit_code == 0
    (tmp_path / "names.txt").write_text("".join(f"n{n:08d} {word}\n" for n, word in enumerate(WORDS)))
    result, found = evaluate(folder, "--data", data, "--names", tmp_path / "names.txt")
    assert result.exit_code == 0 and [group["name"] for group in found["groups"]] == WORDS
    (tmp_path / "names.txt").write_text("".join(f"{word}\n" for word in reversed(WORDS)))
    result, _ = evaluate(folder, "--data", data, "--names", tmp_path / "names.txt")
    assert "not the 10 of the model in their order" in str(result.exception)


def test_a_class_that_the_model_does_not_have_is_an_error(build, data, evaluate):
    folder = build()
    (data / WORDS[0]).rename(data / "a class")
    result, _ = evaluate(folder, "--data", data)
    assert isinstance(result.exception, DataError) and "'a class'" in str(result.exception)
    assert "the model names 9 of the 10" in str(result.exception)


def test_without_truth_agreement_is_counted(build, data, evaluate):
    result, found = evaluate(build(), "--data", data, "--unlabelled")
    assert result.exit_code == 0 and found["groups"] == []
    assert [sorted(one["counted"]) for one in found["artifacts"]] == [[], ["agreement"], ["agreement"]]
    assert {one["now"] for one in found["verdicts"] if one["metric"] == "accuracy_drop"} == {None}


def test_features_are_counted_as_a_build_counts_them(build, data, evaluate):
    def edit(content):
        del content["labels"]
        content |= {"task": "features", "schema_version": 3, "tensors": [], "program_checks": []}
        content["outputs"] = [{"name": n, "shape": [5], "scale": 1.0} for n in ("first", "second")]

    files = FILES | {("ios/onnx", "int8"): WEIGHTS * 1.3}
    result, found = evaluate(build(edit, files), "--data", data, "--unlabelled")
    assert result.exit_code == 0, result.exception
    plan_outputs = manifest.outputs_of({"outputs": [{"name": n, "shape": [5], "scale": 1.0} for n in ("a", "b")]}, 10)
    floating = outputs_of(WEIGHTS)
    for one, weights in list(zip(found["artifacts"], files.values(), strict=True))[1:]:
        expected = comparing.count(floating, floating, outputs_of(weights), TRUTH, plan_outputs)
        assert one["counted"] == {name: {"share": value, **vars(counts)} for name, (value, counts) in expected.items()}
    assert found["artifacts"][2]["counted"]["in_range"]["lost"] > 0
    told, _ = evaluate(build(edit, name="other"), "--data", data)
    assert "--unlabelled" in str(told.exception)


PACKED = {  # two boxes of five numbers, as a detector of one class gives them
    "height": SIDE, "width": SIDE, "classes": 1, "format": "anchors", "activation": "sigmoid", "score_threshold": 0.5,
    "variances": [0.02, 0.02, 0.02, 0.02],
    "blocks": [
        {"rows": 1, "columns": 2, "cell": [4.0, 8.0], "unit": [1.0, 1.0], "sizes": [[4.0, 4.0]],
         "boxes": {"output": 0, "first": 0, "step": 5, "apart": 1}, "scores": {"output": 0, "first": 4, "step": 5, "apart": 1}}
    ],
}  # fmt: skip


TASKS = {"detection": ([2, 5], ["box"]), "segmentation": ([5, 1, 2], list("abcde"))}
"""Shape of the output, and names of the classes."""


def of_task(task):
    """Makes of a manifest that of a detector or of a network of masks."""
    shape, names = TASKS[task]

    def edit(content):
        content |= {"task": task, "schema_version": 3, "labels": names, "program_checks": [], "tensors": []}
        content["outputs"] = [{"name": "found", "shape": shape, "scale": 1.0}]
        content |= {"boxes": PACKED} if task == "detection" else {}

    return edit


@pytest.fixture
def annotated(tmp_path):
    """Images with boxes in YOLO's text, or with masks; gives the folder and the truth as a build has it."""

    def write(task):
        random, root = np.random.default_rng(1), tmp_path / task
        beside = root / {"detection": "labels", "segmentation": "masks"}[task]
        beside.mkdir(parents=True)
        (root / "images").mkdir()
        if task == "detection":
            # near to what the float32 artifact finds, in 64ths of a side, so that some are found and others are not
            found = detected(outputs_of(WEIGHTS, PIXELS))
            boxes = found.boxes[:, [0, 1, 2, 3]] + random.normal(size=(len(found), 4)) / 2
            boxes = np.rint(8 * boxes).clip(0, 8 * SIDE) / 8
            kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
            of, boxes = found.images[kept], boxes[kept]
            truth = np.full((COUNT, max(1, np.bincount(of).max()), 5), -1, np.float32)
        else:
            truth = random.integers(0, 5, (COUNT, SIDE, SIDE)).astype(np.uint8)
            truth[random.random(truth.shape) < 0.1] = 255
        for number in range(COUNT):
            Image.fromarray(PIXELS[number]).save(root / "images" / f"{number:04d}.png")
            if task == "segmentation":
                Image.fromarray(truth[number]).save(beside / f"{number:04d}.png")
                continue
            own = np.unique(boxes[of == number], axis=0)
            truth[number, : len(own)] = np.concatenate([np.zeros((len(own), 1)), own], 1)
            lines = [
                f"0 {(left + right) / 2 / SIDE} {(top + bottom) / 2 / SIDE} {(right - left) / SIDE} {(bottom - top) / SIDE}"
                for left, top, right, bottom in own
            ]
            (beside / f"{number:04d}.txt").write_text("\n".join(lines))
        return root, truth

    return write


def detected(outputs, form=PACKED):
    from twinkeel.pipeline.tasks.detection.decoding import decode
    from twinkeel.pipeline.tasks.detection.form import Form
    from twinkeel.pipeline.tasks.detection.matching import Boxes

    return Boxes.of([decode([row], Form.of(form)) for row in outputs])


def against_truth(task, floating, candidate, truth):
    """The score of the candidate, and what it loses, as a build counts it."""
    if task == "segmentation":
        from twinkeel.pipeline.tasks.segmentation import counting
        from twinkeel.pipeline.tasks.segmentation.decoding import masks_of

        before, after = (
            counting.pixels(masks_of(one.reshape(-1, 5, 1, 2), (SIDE, SIDE)), truth, 5) for one in (floating, candidate)
        )
        return {"mIoU": counting.mean_iou(after)}, {"miou_drop": counting.miou_drop(before, after)}
    from twinkeel.pipeline.tasks.detection import counting, precision
    from twinkeel.pipeline.tasks.detection.matching import Boxes

    right = Boxes.right(truth)
    shown = [detected(one) for one in (floating, candidate)]
    loose = [
        precision.Curves.of(detected(one, PACKED | {"score_threshold": 0.01}), right) for one in (floating, candidate)
    ]
    scores = {"AP": loose[1].precisions(), "AP50": loose[1].precisions()[:, :1]}
    drops = counting.drops(*loose, counting.right_found(*shown, right))
    return {name: precision.average(one) for name, one in scores.items()}, drops


@pytest.mark.parametrize("task", TASKS)
def test_boxes_and_masks_beside_images_are_counted_as_a_build_counts_them(task, build, annotated, evaluate, tmp_path):
    """In five shards what all images say together."""
    data, truth = annotated(task)
    folder = build(of_task(task))
    result, found = evaluate(folder, "--data", data)
    assert result.exit_code == 0, result.exception
    floating = outputs_of(WEIGHTS, PIXELS)
    for one, weights in zip(found["artifacts"], FILES.values(), strict=True):
        scores, drops = against_truth(task, floating, outputs_of(weights, PIXELS), truth)
        assert {name: one["shares"][name]["share"] for name in scores} == pytest.approx(scores, abs=1e-12)
        assert all(0.05 < score < 0.95 for score in scores.values())
        assert all(share["low"] < share["share"] < share["high"] for share in one["shares"].values())
        if one["reference"]:
            for name, (value, counts) in drops.items():
                assert one["counted"][name] == {"share": pytest.approx(value, abs=1e-12), **vars(counts)} | {
                    end: pytest.approx(getattr(counts, end), abs=1e-12) for end in ("low", "high")
                }
    (groups, kind) = found["groups"], {"detection": "boxes", "segmentation": "pixels"}[task]
    whole = (truth[..., 0] >= 0).sum() if task == "detection" else (truth != 255).sum()
    assert sum(group[kind] for group in groups) == whole
    rows = parquet.read_table(tmp_path / "found" / "answers.parquet").to_pylist()
    assert len(rows) == 3 * COUNT and {"detection": "found_boxes", "segmentation": "iou"}[task] in rows[0]
    before = shards(tmp_path)
    changed = data / ("labels/0000.txt" if task == "detection" else "masks/0000.png")
    if task == "detection":
        changed.write_text("0 0.5 0.5 0.25 0.25")
    else:
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(changed)
    evaluate(folder, "--data", data)
    new = {name for name in shards(tmp_path) if name not in before}
    assert len(new) == 1  # of five: the one in which something else is right


@pytest.mark.parametrize(
    ("task", "change", "told"),
    [
        ("detection", lambda root: (root / "labels" / "0001.txt").write_text("7 0.5 0.5 0.1 0.1"), "class"),
        ("detection", lambda root: shutil.rmtree(root / "labels"), "--unlabelled"),
        ("segmentation", lambda root: shutil.rmtree(root / "masks"), "--unlabelled"),
        ("segmentation", lambda root: Image.new("L", (9, 9)).save(root / "masks" / "0001.png"), "9 x 9"),
        ("segmentation", lambda root: Image.new("L", (8, 8), 9).save(root / "masks" / "0001.png"), "has the class 9"),
        ("segmentation", lambda root: (root / "masks" / "0001.png").write_bytes(b"no"), "--skip-damaged"),
        ("segmentation", lambda root: [Image.new("L", (8, 8), 255).save(p) for p in (root / "masks").iterdir()], "no pixel of"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_boxes_and_masks_is_one_error(task, change, told, build, annotated, evaluate):
    data, _ = annotated(task)
    change(data)
    result, _ = evaluate(build(of_task(task)), "--data", data)
    assert isinstance(result.exception, DataError), (result.output, result.exception)
    assert told in str(result.exception) and "data." not in str(result.exception)
    if "skip" in told:
        result, found = evaluate(build(of_task(task), name="other"), "--data", data, "--skip-damaged")
        assert result.exit_code == 0 and found["images"] == COUNT - 1 and len(found["damaged"]) == 1


def test_boxes_of_turned_and_cropped_photos_lie_where_the_model_sees_them(build, annotated, evaluate):
    """COCO's JSON, on photos of twice the width that are stored turned."""
    data, truth = annotated("detection")
    shutil.rmtree(data / "labels")
    entries = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
    for number in range(COUNT):
        wide = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
        wide[:, SIDE // 2 : SIDE // 2 + SIDE] = PIXELS[number]
        exif = Image.Exif()
        exif[0x0112] = 6  # stored a quarter to the left of what it shows
        Image.fromarray(np.rot90(wide)).save(data / "images" / f"{number:04d}.png", exif=exif)
        entries["images"].append({"id": number, "file_name": f"{number:04d}.png", "width": 2 * SIDE, "height": SIDE})
        for one in truth[number][truth[number, :, 0] >= 0].tolist():
            _, left, top, right, bottom = one
            box = [left + SIDE / 2, top, right - left, bottom - top]
            entries["annotations"].append(
                {"id": len(entries["annotations"]), "image_id": number, "category_id": 1, "bbox": box}
            )
    (data / "instances_val.json").write_text(json.dumps(entries))
    result, found = evaluate(build(of_task("detection")), "--data", data)
    assert result.exit_code == 0, result.exception
    scores, _ = against_truth("detection", outputs_of(WEIGHTS, PIXELS), outputs_of(WEIGHTS, PIXELS), truth)
    assert found["artifacts"][0]["shares"]["AP"]["share"] == pytest.approx(scores["AP"], abs=1e-12)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_without_truth_boxes_and_masks_are_held_against_the_float32_ones(task, build, data, evaluate):
    """As a build counts them, over shards."""
    edit = of_task(task)
    result, found = evaluate(build(edit), "--data", data, "--unlabelled")
    assert result.exit_code == 0, result.exception
    floating = outputs_of(WEIGHTS)
    for one, weights in list(zip(found["artifacts"], FILES.values(), strict=True))[1:]:
        value, counts = against_floats(task, floating, outputs_of(weights))
        metric = {"detection": "same_boxes", "segmentation": "agreement"}[task]
        assert one["counted"] == {metric: {"share": pytest.approx(value), **vars(counts)}}
        assert 0 < counts.lost < counts.kept
    told, _ = evaluate(build(edit, name="other"), "--data", data)
    assert "--unlabelled" in str(told.exception)


def test_where_neither_shows_a_box_there_are_none_and_nothing_holds():
    from twinkeel.pipeline.report import evaluation
    from twinkeel.pipeline.tasks.detection import counting

    none = counting.same_of(0, 0, 0, COUNT)
    told = SimpleNamespace(shares={}, counted={"same_boxes": none}, artifact=SimpleNamespace(names=("a int8",)))
    assert evaluation._interval(told, "same_boxes") == "no boxes" and evaluation._described(none)["share"] is None
    check = {"metric": "same_boxes", "sense": ">=", "limit": 0.0, "verdict": "open", "counts": vars(none[1])}
    entry = {"target": "a", "precision": "int8", "checks": [check]}
    (anew,) = summary._anew({"out": ({"artifacts": [entry]}, None)}, (told,))
    assert summary.told(anew) == (
        f"same_boxes >= 0: open on the build's {COUNT} images, open here: there are no boxes in {COUNT} images"
    )


def against_floats(task, floating, candidate):
    if task == "segmentation":
        from twinkeel.pipeline.tasks.segmentation import counting
        from twinkeel.pipeline.tasks.segmentation.decoding import masks_of

        return counting.agreement(*(masks_of(one.reshape(-1, 5, 1, 2), (SIDE, SIDE)) for one in (floating, candidate)))
    from twinkeel.pipeline.tasks.detection import counting

    return counting.same(*(detected(one) for one in (floating, candidate)))


def test_photos_are_put_whole_where_the_model_takes_them_so(build, data, evaluate, tmp_path):
    def edit(content):
        content["input"] = {"fit": "letterbox"}

    wide = tmp_path / "wide" / WORDS[0] / "wide.png"
    wide.parent.mkdir(parents=True)
    Image.fromarray(PIXELS[:2].reshape(SIDE * 2, SIDE, 3)).save(wide)
    shares = []
    for name, change in (("cropped", lambda content: None), ("whole", edit)):
        shares.append(
            evaluate(build(change, name=name), "--data", wide.parents[1], "--unlabelled")[1]["artifacts"][1]["snr_db"]
        )
    assert shares[0] != shares[1]


def test_outputs_that_are_not_finite_are_wrong_and_told(build, data, evaluate):
    broken = WEIGHTS.copy()
    broken[0, 3] = np.nan
    result, found = evaluate(build(files=FILES | {("ios/onnx", "int8"): broken}), "--data", data)
    assert found["artifacts"][2]["not_finite"] == COUNT and found["artifacts"][2]["shares"]["top-1"]["kept"] == 0
    assert isinstance(result.exception, ParityError) and "are not finite" in result.output


def test_one_file_of_two_platforms_is_run_once(build, data, evaluate):
    _, found = evaluate(build(files=FILES | {("ios/onnx", "fp32"): WEIGHTS}), "--data", data)
    assert found["artifacts"][0]["names"] == ["android/onnx fp32", "ios/onnx fp32"]
    assert len(found["artifacts"]) == 3 and {one["reference"] for one in found["artifacts"]} == {
        "", "android/onnx fp32, ios/onnx fp32"
    }  # fmt: skip


def test_some_targets_alone_and_those_that_nothing_runs_here(build, data, evaluate):
    def edit(content):
        entry = dict(content["artifacts"][0])
        content["artifacts"].append(entry | {"target": "ios/coreml", "precision": "fp16"})

    folder = build(edit)
    _, found = evaluate(folder, "--data", data, "--only", "android/onnx", "--only", "ios/coreml")
    assert len(found["artifacts"]) == 2 and "macOS" in found["skipped"]["ios/coreml fp16"]
    result, _ = evaluate(folder, "--data", data, "--only", "ios/coreml")
    assert isinstance(result.exception, DeviceError)


def test_nothing_is_written_into_a_finished_build(build, data, run_cli):
    folder = build()
    for into in (folder, folder / "more"):
        result = run_cli("evaluate", folder, "--data", data, "--into", into)
        assert isinstance(result.exception, ConfigError) and "stays as it is" in str(result.exception)
    manifest.verify(folder)


def test_nothing_is_written_among_the_images(build, data, run_cli):
    folder, before = build(), sorted(data.rglob("*"))
    for into in (data, data / "more"):
        result = run_cli("evaluate", folder, "--data", data, "--into", into)
        assert isinstance(result.exception, ConfigError) and "lies in the data" in str(result.exception)
    assert sorted(data.rglob("*")) == before


def test_images_without_classes_are_told_how_they_can_be_looked_at(build, data, evaluate):
    result, _ = evaluate(build(), "--data", next(path for path in sorted(data.iterdir()) if path.is_dir()))
    assert "Images without classes: --unlabelled" in str(result.exception), result.exception


def test_a_target_that_is_not_there_is_named_with_one_that_is(build, data, evaluate):
    result, _ = evaluate(build(), "--data", data, "--only", "android/onx")
    told = str(result.exception)
    assert "no artifact of android/onx." in told and "Did you mean 'android/onnx'" in told, told


def test_a_shard_that_is_damaged_or_anothers_is_computed_anew(build, data, evaluate, tmp_path):
    folder = build()
    _, before = evaluate(folder, "--data", data)
    shards = sorted((tmp_path / "found" / "shards").iterdir())
    content = shards[2].read_bytes()
    turned = bytearray(content)
    turned[len(content) // 2] ^= 1
    for damaged in (bytes(turned), content[:100], b"", shards[1].read_bytes()):
        shards[2].write_bytes(damaged)
        result, found = evaluate(folder, "--data", data)
        assert result.exit_code == 0 and found == before, len(damaged)
        told = "".join(result.output.split())  # wherever a line was broken
        assert f"'{shards[2]}'isdamaged,orholdsanother'sanswers" in told, result.output
        assert shards[2].read_bytes() == content


def test_a_shard_that_its_disk_damages_meanwhile_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(TwinkeelError, match=r"x\.npz' is damaged"), running._opened(tmp_path / "x.npz"):
        pass


def test_what_else_lies_in_the_folder_stays(build, data, evaluate, tmp_path):
    mine = tmp_path / "found" / "shards" / "mine.npz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert evaluate(build(), "--data", data)[0].exit_code == 0
    assert mine.read_bytes() == b"mine"


def test_a_worker_that_dies_says_what_it_was_at(tmp_path):
    dead: Future[None] = Future()
    dead.set_exception(WorkerError("its process was ended by SIGSEGV"))
    (tmp_path / "at").write_text("android/onnx int8, images cat.jpg and on")
    with pytest.raises(WorkerError, match=r"a worker ends at android/onnx int8, images cat.jpg and on: its process"):
        running._check(dead, tmp_path / "at")


NOT_NEEDED = (
    "torch", "cryptography", "cyclonedx", "fsspec", "platformdirs", "safetensors", "sklearn", "matplotlib", "torchao", "executorch",
    "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "coremltools", "onnx", "onnxscript",
)  # fmt: skip
"""Of what a build needs: `docs/commands.md` says what is left."""


def test_neither_it_nor_its_workers_need_what_a_build_needs(build, data, tmp_path):
    (tmp_path / "block").mkdir()
    for name in NOT_NEEDED:
        (tmp_path / "block" / f"{name}.py").write_text(f"raise ImportError('{name} is not here')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'block'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    code = "from twinkeel.pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, "evaluate", str(build()), "--data", str(data), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_page_shows_what_runtimes_answer_otherwise_and_trusts_no_name(build, data, evaluate, tmp_path):
    folder = build(lambda c: c["labels"].__setitem__(0, "<script>alert(1)</script>"))
    (data / WORDS[0]).rename(data / "class-0")
    result, _ = evaluate(folder, "--data", data, "--unlabelled")
    assert result.exit_code == 0, result.exception
    page = (tmp_path / "found" / "evaluation.html").read_text()
    assert "<script" not in page and "default-src 'none'" in page
    assert page.count("data:image/png;base64,") == 24
    assert "http://" not in page and "https://" not in page


def test_what_is_counted_takes_no_more_memory_of_more_images(build, data):
    """One shard is in memory at a time: of the others, sums and a few pictures are kept."""
    folder = build()
    read = {folder: manifest.read_verified(folder)}
    plan = planning.planned(read, common.targets(), data)

    def peak(count):
        many = replace(plan, files=plan.files[:1] * (500 * count), truth=np.zeros(500 * count, np.int64))

        def shards():
            draw = np.random.default_rng(0)
            for n in range(count):
                top = draw.integers(0, CLASSES, (3, 500, 5)).astype(np.int32)
                same = np.array([top[a, :, 0] == top[b, :, 0] for a, b in plan.pairs])
                yield {"index": np.arange(500 * n, 500 * (n + 1)), "top": top, "same": same, "snr_db": np.zeros((3, 500), np.float32),
                       "probability": np.zeros((3, 500), np.float32), "is_finite": np.ones((3, 500), bool)}  # fmt: skip

        tracemalloc.start()
        found = summary.summarized(many, shards, [], read)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.images == 500 * count and len(found.pictures) == summary.PICTURES
        return most

    peak(2)  # what is imported and remembered
    few, many = peak(4), peak(400)
    assert many < few + 4_000_000, (few, many)  # of 18 MB; what an interval takes grows with the root


def test_what_is_passed_over_is_told(build, data, evaluate):
    Image.new("RGB", (32, 32)).save(data / "loose.png")
    (data / "notes.txt").write_text("of whom they are")
    _, found = evaluate(build(), "--data", data)
    (told,) = [note for note in found["notes"] if note.startswith("passed over: ")]
    assert "1 image in no class folder" in told and "1 .txt" in told, told
