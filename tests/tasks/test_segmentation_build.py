"""Segmentation from images and masks to finished folders of both platforms, and again from the files alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from twinkeel.pipeline.data import Placed
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import ConfigError, OriginalError
from twinkeel.pipeline.tasks import as_stored, mask_of

NETWORK = '''
import torch
from torch import nn


def create(num_classes):
    """Knows what is red, green and blue, at a quarter of the size."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU6(), nn.Conv2d(8, num_classes, 1)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05)
        for n in range(3):
            model[0].weight[n, n, 1, 1] = 1
            model[2].weight[n, 0, 1, 1] = 1
            model[4].weight[n + 1, n, 0, 0] = 4
        model[4].bias[0] = 1.5
    return model
'''
TOML = """
[model]
factory = "network.py:create"
task = "segmentation"
resolution = [48, 64]
[weights]
from_factory = true
[data]
source = "folder"
path = "in"
labels = "labels.txt"
fit = "{fit}"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
calibration = 40
held_out = 0.5
[quantize]
minutes = 0
[targets]
{targets}
"""
TARGETS = {
    "android/litert": ["fp32", "int8"],
    "android/onnx": ["int8"],
    "ios/coreml": ["fp16", "int8"],
    "ios/executorch": ["int8"],
}


def drawn(random, height=60, width=90):
    """An image of blocks of red, green and blue on black, and its mask."""
    mask = np.zeros((height, width), np.uint8)
    for number in range(1, 4):
        top, left = random.integers(0, height - 24), random.integers(0, width - 30)
        mask[top : top + random.integers(12, 24), left : left + random.integers(14, 30)] = number
    pixels = random.integers(0, 50, (height, width, 3)).astype(np.uint8)
    for number in range(1, 4):
        pixels[mask == number, number - 1] += 180
    return pixels, mask


def written(folder: Path, targets, fit="crop", count=120):
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / "in" / part).mkdir(parents=True)
    for number in range(count):
        pixels, mask = drawn(random)
        Image.fromarray(pixels).save(folder / "in" / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(folder / "in" / "masks" / f"{number:03}.png")
    (folder / "labels.txt").write_text("black\nred\ngreen\nblue\n")
    (folder / "network.py").write_text(NETWORK)
    listed = "\n".join(f'"{target}" = {precisions}' for target, precisions in targets.items())
    (folder / "twinkeel.toml").write_text(TOML.format(targets=listed, fit=fit))


def test_a_build_of_both_platforms(here, run_cli, tmp_path):
    """One build, for each takes a while: what is counted, proven again, shown, and put into the kits."""
    written(tmp_path, TARGETS, fit="letterbox")
    config = ("-c", tmp_path / "twinkeel.toml", "--store", tmp_path / "store", "-o", tmp_path / "out")
    result = run_cli("build", "all", *config)
    assert result.exit_code == 0, result.output
    assert "60 images of 4 classes" in result.output and "of the pixels not counted" in result.output
    assert "nothing to do" in run_cli("build", "all", *config).output
    out = tmp_path / "out"
    check_artifacts(out)
    check_report(out)
    check_kits(out)
    for command in (
        *(
            ("verify", out / "android"),
            ("parity", out / "ios"),
            ("replay", out / "android"),
            ("drift", out / "android"),
        ),
        *(("compare", out), ("sensitivity", *config)),
    ):
        result = run_cli(*command)
        assert result.exit_code == 0, (command, result.output, result.exception)


def check_artifacts(out):
    for platform in ("android", "ios"):
        content, _ = manifest.read_verified(out / platform)
        assert content["task"] == "segmentation" and content["labels"] == ["black", "red", "green", "blue"]
        for entry in content["artifacts"]:
            assert entry["mIoU"] > 0.7 and entry["agreement"] > 0.95, entry
            counted = {check["metric"] for check in entry["checks"]} & {"agreement", "miou_drop"}
            assert bool(counted) == (entry["target"] == "ios/coreml"), entry
        (checks,) = [{check["metric"] for check in content["program_checks"] if check["leg"] == "quantize"}]
        assert {"agreement", "miou_drop"} <= checks
        assert (out / platform / "labels.txt").read_text().split() == content["labels"]


def check_report(out):
    text = (out / "report.html").read_text()
    assert text.count('alt="Held-out image') == 8 and "Mask by" in text and "Its truth" in text
    assert "MIoU, float model" in text and "masks of 4 classes" in text
    for word in ("Confusion", "accuracy", "Accuracy"):
        assert word not in text
    assert (out / "contact-sheet.png").stat().st_size > 1000


def check_kits(out):
    """Their masks are those of the definition."""
    content = manifest.read_manifest(out / "android")
    assert content["input"]["fit"] == "letterbox"
    tests = out / "ios" / "sdk" / "Tests" / "ImageSegmenterTests" / "Vectors"
    kit = out / "android" / "sdk" / "segmenter"
    assert (kit / "src/main/kotlin/com/example/segmenter/Segmenter.kt").is_file()
    shape = tuple(content["outputs"][0]["shape"])
    assert shape == (4, 12, 16)
    cases = json.loads((tests / "vectors.json").read_text())["pixels"]
    for vectors in (tests, kit / "src" / "golden"):
        strange = np.frombuffer((vectors / "masks" / "strange.f32").read_bytes(), "<f4").reshape(-1, *shape)
        for number, case in enumerate(cases):
            upright = (case["height"], case["width"]) if case["orientation"] < 5 else (case["width"], case["height"])
            placed = Placed.of(upright, (48, 64), "letterbox")
            mask = as_stored(mask_of(strange[-1 - number], placed, upright, (48, 64)), case["orientation"])
            assert (vectors / "masks" / f"{case['name']}.mask").read_bytes() == mask.tobytes()


def test_a_network_of_other_outputs_is_refused(here, run_cli, tmp_path):
    written(tmp_path, {"android/onnx": ["fp32"]}, count=12)
    (tmp_path / "network.py").write_text(
        NETWORK.replace("return model", "model.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())\n    return model")
    )
    result = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, ConfigError)
    assert "the model gives (1, 4), and the masks have 4 classes: (1, 4, height, width)" in str(result.exception)


def test_classes_in_another_order_are_found(here, run_cli, tmp_path):
    written(tmp_path, {"android/onnx": ["fp32"]})
    for path in (tmp_path / "in" / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.array([0, 2, 1, 3], np.uint8)[mask]).save(path)
    result = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, OriginalError)
    assert "'red' is answered 'green', 'green' is answered 'red'" in str(result.exception)
