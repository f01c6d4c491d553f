"""`twinkeel run`: an image file through a Core ML package, on this machine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from twinkeel.pipeline.data import fit, read_image
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import PackageError, TwinkeelError
from twinkeel.targets.ios import classify, mil_executor


def _packages(folder):
    listed = json.loads((folder / "manifest.json").read_text())["artifacts"]
    return {f"{e['target']} {e['precision']}": folder / e["path"] for e in listed if "coreml" in e["target"]}


def _labels(folder):
    return (folder / "labels.txt").read_text().splitlines()


def test_every_package_names_the_class_that_torch_does(fixed_build, run_cli):
    folder = fixed_build.folders["ios"]
    golden = manifest.read_golden(folder / "golden")
    packages = _packages(folder)
    assert len(packages) == 7
    for number in (0, 3, 7):
        expected = str(golden.expected["fp32"][number].argmax())
        for name, path in packages.items():
            result = run_cli("run", path, folder / "golden" / f"{golden.names[number]}.png", "--top", "1")
            assert result.exit_code == 0, f"{name}: {result.exception!r}"
            first, last = result.output.splitlines()
            assert first.split("%")[1].strip() == expected, f"{name}: {result.output}"
            assert "ms an image here" in last


def test_probabilities_are_those_of_the_logits(fixed_build):
    """Of the package's own logits: what float16 does to those is not asked here."""
    folder = fixed_build.folders["ios"]
    image = folder / "golden" / f"{manifest.read_golden(folder / 'golden').names[0]}.png"
    for name in ("ios/coreml fp32", "ios/executorch_coreml fp16"):
        path = _packages(folder)[name]
        model = mil_executor.open_model(path)
        arrays = model.predict(classify._input(model, path, read_image(image))).arrays
        (logits,) = (values.reshape(-1).astype(np.float64) for values in arrays.values() if values.size == 10)
        softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        found = dict(classify.classify(path, image).ranking)
        wrong = max(abs(found[label] - softmax[number]) for number, label in enumerate(_labels(folder)))
        assert wrong < 1e-6, f"{name}: {wrong:.1e}"


def test_labels_come_from_beside_from_the_option_or_are_numbers(fixed_build, tmp_path):
    folder = fixed_build.folders["ios"]
    image = folder / "golden" / "held-out-00.png"
    payload = shutil.copy(_packages(folder)["ios/executorch_coreml fp16"], tmp_path / "x.pte")
    assert classify.classify(payload, image).ranking[0][0].startswith("class ")
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(10)))
    assert classify.classify(payload, image, tmp_path / "names.txt").ranking[0][0].startswith("name ")
    (tmp_path / "few.txt").write_text("one\n")
    with pytest.raises(TwinkeelError, match="1 labels"):
        classify.classify(payload, image, tmp_path / "few.txt")


def test_an_image_is_cropped_to_the_shape_that_a_package_takes():
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    wanted = mil_executor.ImageInput(name="x", height=20, width=30, colour_space="RGB")
    for height, width in ((20, 30), (33, 17)):
        image = SimpleNamespace(image=replace(wanted, height=height, width=width))
        array = SimpleNamespace(image=None, inputs={"x": [1, height, width, 4]})
        found = classify._input(image, Path("a"), picture)["x"]
        assert np.array_equal(found, fit(picture, height, width))
        assert np.array_equal(classify._input(array, Path("a"), picture)["x"][0, ..., :3], found)
    for shape in ([1, 0, 30, 4], [1, 20, 30, 3], [1, 20, 20_000, 4], [2, 20, 30, 4], [20, 30, 4], None):
        with pytest.raises(PackageError, match=r"one array of \(1, H, W, 4\)"):
            classify._input(SimpleNamespace(image=None, inputs={"x": shape}), Path("a"), picture)
    with pytest.raises(PackageError, match="takes too much memory"):
        row = np.broadcast_to(np.uint8(0), (10, 90_000, 3))
        classify._input(SimpleNamespace(image=None, inputs={"x": [1, 1, 9000, 4]}), Path("a"), row)


def test_what_answers_for_each_place_is_no_classifier(monkeypatch):
    prediction = SimpleNamespace(probabilities={}, arrays={"logits": np.zeros((1, 4, 6, 6), np.float32)})
    model = SimpleNamespace(predict=lambda _: prediction)
    monkeypatch.setattr(classify.mil_executor, "open_model", lambda _: model)
    monkeypatch.setattr(classify, "_input", lambda *_: {})
    monkeypatch.setattr(classify, "read_image", lambda _: None)
    with pytest.raises(PackageError, match=r"'logits' is \(1, 4, 6, 6\), and one score for each class"):
        classify.classify(Path("a"), Path("b"))


def test_an_image_is_letterboxed_where_the_manifest_beside_says_so(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    model = SimpleNamespace(image=mil_executor.ImageInput(name="x", height=20, width=30, colour_space="RGB"))
    path = tmp_path / "coreml" / "a.mlpackage"
    contents = ('{"input": {"fit": "letterbox"}}', '{"input": {"fit": "crop"}}', '{"input": {}}', "[1]", "{")
    for content, how in zip(contents, ("letterbox", "crop", "crop", "crop", "crop"), strict=True):
        (tmp_path / "manifest.json").write_text(content)
        assert np.array_equal(classify._input(model, path, picture)["x"], fit(picture, 20, 30, how)), content


@pytest.mark.parametrize(
    ("model", "image", "message"),
    [
        ("missing.mlpackage", "held-out-00.png", "does not exist"),
        ("labels.txt", "held-out-00.png", "is no .mlpackage folder and no .pte"),
        ("onnx/mobilenet_v2-int8.onnx", "held-out-00.png", "is a program of onnxruntime, and `run` takes Core ML's"),
        ("executorch/mobilenet_v2-int8.pte", "held-out-00.png", "0 Core ML payloads"),
        ("coreml/mobilenet_v2-w4.mlpackage", "missing.png", "cannot read the image"),
        ("coreml/mobilenet_v2-w4.mlpackage", "golden.json", "cannot read the image"),
    ],
    ids=["no-model", "text", "other-runtime", "other-program", "no-image", "no-picture"],
)
def test_what_cannot_be_run_is_one_clear_error(model, image, message, fixed_build, run_cli):
    folder = fixed_build.folders["ios"]
    result = run_cli("run", folder / model, folder / "golden" / image)
    assert isinstance(result.exception, TwinkeelError), result.output
    assert message in str(result.exception)
    assert "onnxruntime" not in message or f"`twinkeel parity {folder}`" in str(result.exception)


def test_a_core_ai_package_is_named_with_what_runs_it(tmp_path, run_cli):
    path = tmp_path / "x.aimodel"
    path.mkdir()
    (path / "main.mlirb").touch()
    found = run_cli("run", path, tmp_path / "x.png")
    assert str(found.exception) == (
        f"'{path}' is a Core AI package, and `run` takes Core ML's: an .mlpackage, or a .pte with one inside. `twinkeel parity FOLDER` "
        "runs it on the golden images, FOLDER being the finished one that holds it, out/ios for example."
    )
