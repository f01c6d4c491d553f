"""Outputs that are no classes, and inputs beside the image, from the files to the finished folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import several
import torch
import twinkeel
from PIL import Image
from twinkeel.pipeline.building.jobs.data import data_job
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import beside
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import ConfigError, DataError
from twinkeel.pipeline.program import Output
from twinkeel.pipeline.stages import pt2_file, pt2_graph, pt2_writing
from twinkeel.pipeline.tasks import features
from twinkeel.pipeline.tasks.features import comparing

TOML = """
[model]
factory = "several.py:{name}"
task = "features"
resolution = 64
[weights]
from_factory = true
[data]
source = "images"
path = "in"
[quantize]
minutes = 0
[targets]
{targets}
{more}
"""
INPUT = """
[[input]]
name = "numbers"
shape = [6]
range = [-1.0, 1.0]
[[output]]
name = "scores"
"""


def written(folder, name, more="", tensors=True, targets=None):
    """A configuration, the network's file, and images with their tensors beside them."""
    random = np.random.default_rng(0)
    (folder / "in").mkdir()
    for number in range(24):
        small = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / "in" / f"{number}.png")
        if tensors:
            np.savez(folder / "in" / f"{number}.npz", numbers=random.uniform(-1, 1, 6))
    listed = "\n".join(f'"{target}" = {precisions}' for target, precisions in (targets or {}).items())
    shutil.copy(Path(several.__file__), folder / "several.py")
    (folder / "twinkeel.toml").write_text(TOML.format(name=name, more=more, targets=listed))


@pytest.mark.parametrize(
    ("name", "more", "targets"),
    [
        ("heads", "", {"android/litert": ["int8"], "ios/coreml": ["int8"]}),
        ("paired", INPUT, {"android/litert": ["int8"], "ios/executorch_coreml": ["fp16"]}),
    ],
    ids=["heads", "paired"],
)
def test_a_build_of_both_platforms(name, more, targets, here, run_cli, tmp_path):
    written(tmp_path, name, more, targets=targets)
    config = ("-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", tmp_path / "store")
    result = run_cli("build", "all", *config)
    assert result.exit_code == 0, result.output
    assert "nothing to do" in run_cli("build", "all", *config).output
    content, golden = manifest.read_verified(tmp_path / "out" / "android")
    outputs = [(one["name"], one["shape"]) for one in content["outputs"]]
    if name == "heads":
        assert outputs == [("embedding", [16]), ("heat_map", [5, 16, 16])]
        assert content["tensors"] == [] and golden.tensors == {}
    else:
        assert outputs == [("scores", [10])]
        assert [one["name"] for one in content["tensors"]] == ["numbers"]
        assert golden.tensors["numbers"].shape == (len(golden.names), 6)
    assert "drawn" not in json.dumps(content["warnings"])
    rows = {(e["target"], e["precision"]): e for e in content["artifacts"]}
    assert rows["android/litert", "int8"]["alike"] == 1
    assert (tmp_path / "out" / "android" / "sdk").is_dir()
    for command in (("parity", "ios"), ("replay", "android")):
        result = run_cli(command[0], tmp_path / "out" / command[1])
        assert result.exit_code == 0, result.output


def test_a_classifier_gives_one_output(here, run_cli, tmp_path):
    written(tmp_path, "heads", targets={"android/onnx": ["fp32"]})
    text = (tmp_path / "twinkeel.toml").read_text().replace('task = "features"', "")
    (tmp_path / "twinkeel.toml").write_text(text.replace('path = "in"', 'path = "in"\nlabels = "names.txt"'))
    (tmp_path / "names.txt").write_text("".join(f"c{n}\n" for n in range(16)))
    result = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, ConfigError)
    assert "gives 2 outputs" in str(result.exception) and "task = 'features'" in str(result.exception)


def test_from_python(here, tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 16, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    given = {"task": "features", "quiet": True, "store": str(tmp_path / "store"), "out": tmp_path / "out"}
    given |= {"platform": "android", "quantize": {"minutes": 0}, "targets": {"android/onnx": ["int8"]}}
    tensors = {"images": random.uniform(-1, 1, (24, 6))}  # as what is kept beside them is called
    found = twinkeel.build(several.paired(), images, tensors=tensors, **given)
    assert found.verified and len(found.rows) == 1
    content = manifest.read_manifest(tmp_path / "out" / "android")
    assert content["tensors"][0]["low"] == pytest.approx(tensors["images"].min())
    for wrong, told in (
        ({"numbers": tensors["images"][:20]}, "one for each image"),
        ({"numbers": tensors["images"][:, :5]}, "torch.export cannot follow"),
        ({"image": tensors["images"]}, "'image' is the image's own name"),
        (None, r"inputs that \[\[input\]\] \(from Python: tensors=\) does not"),
        ({"../x": tensors["images"]}, "a letter first"),
        ([1, 2], "arrays .* by name are wanted"),
        ({"numbers": "abc"}, "no array of numbers"),
        ({"numbers": [[1, 2], [3]] * 12}, "no array of numbers"),
        ({"numbers": tensors["images"] * 1j}, "no array of numbers"),
        ({"numbers": np.full((24, 6), np.nan)}, "not all of it is finite"),
    ):
        with pytest.raises(twinkeel.TwinkeelError, match=told):
            twinkeel.build(several.paired(), images, tensors=wrong, **given)


def config(folder, **more):
    return Config.model_validate(
        {
            "model": {"task": "features", "factory": "several.py:paired", "resolution": 64},
            "weights": {"from_factory": True},
            "data": {"source": "images", "path": str(folder)},
            "input": [{"name": "numbers", "shape": [6], "range": [-1.0, 2.0]}],
            **more,
        }
    )


def test_tensors_beside_images_go_where_their_images_go(tmp_path):
    written(tmp_path, "paired")
    found = features.load(config(tmp_path / "in"))
    assert not found.notes
    by_image = {}
    for file in (tmp_path / "in").glob("*.npz"):
        with np.load(file) as stored:
            by_image[np.asarray(Image.open(file.with_suffix(".png"))).tobytes()] = stored["numbers"]
    for part in (found.calibration, found.held_out):
        assert len(part.images) == 12
        for image, numbers in zip(part.images, part.tensors[0], strict=True):
            assert np.allclose(by_image[image.tobytes()], numbers)


def test_without_files_they_are_drawn_from_their_range_and_that_is_said(tmp_path):
    written(tmp_path, "paired", tensors=False)
    found = features.load(config(tmp_path / "in"))
    assert found.notes == (beside.DRAWN,)
    values = np.concatenate([found.calibration.tensors[0], found.held_out.tensors[0]])
    assert -1 <= values.min() < -0.8 and 1.8 < values.max() <= 2
    again = features.load(config(tmp_path / "in"))
    assert np.array_equal(again.held_out.tensors[0], found.held_out.tensors[0])


def test_a_changed_tensor_is_another_data_set(tmp_path):
    written(tmp_path, "paired")
    before = data_job(config(tmp_path / "in")).key
    np.savez(tmp_path / "in" / "3.npz", numbers=np.zeros(6))
    after = data_job(config(tmp_path / "in")).key
    wider = [{"name": "numbers", "shape": [6], "range": [-2.0, 2.0]}]
    assert len({before, after, data_job(config(tmp_path / "in", input=wider)).key}) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.unlink(), "1 of 24 images have no tensors beside them"),
        (lambda f: f.write_bytes(b"no archive"), "cannot read"),
        (lambda f: np.savez(f, others=np.zeros(6)), "no array 'numbers'; it has .'others'."),
        (lambda f: np.savez(f, numbers=np.zeros(5)), "finite numbers of shape .6. are wanted"),
        (lambda f: np.savez(f, numbers=np.full(6, np.nan)), "finite numbers"),
        (lambda f: np.savez(f, numbers=np.array([object()] * 6)), "cannot read"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, told, tmp_path):
    written(tmp_path, "paired")
    change(tmp_path / "in" / "7.npz")
    with pytest.raises(DataError, match=told):
        features.load(config(tmp_path / "in"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"input": [{"name": "a b", "shape": [1], "range": [0.0, 1.0]}]}, "of a-z, A-Z, 0-9 and _"),
        ({"input": [{"name": "image", "shape": [1], "range": [0.0, 1.0]}]}, "the image's own name"),
        ({"input": [{"name": "a", "shape": [1], "range": [1.0, 1.0]}]}, "must be \\[least, largest\\]"),
        ({"input": [{"name": "a", "shape": [0], "range": [0.0, 1.0]}]}, "greater than or equal to 1"),
        ({"output": [{"name": "a"}, {"name": "a"}]}, "'a' stands twice"),
        ({"weights": {}, "data": {}}, "is not trained here"),
        ({"quantize": {"qat": "always"}}, "models of one image alone"),
    ],
)
def test_settings_that_cannot_be(more, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        config(tmp_path, **more)


def test_nothing_is_trained_for_features(tmp_path):
    untrained = Config.model_validate({"model": {"task": "features"}})
    with pytest.raises(ConfigError, match="no loss to train with"):
        features.ingredients(untrained)


def test_direction_and_range_are_counted_by_the_worst_output():
    outputs = (Output(name="one", shape=(2,)), Output(name="other", shape=(3,)))
    floating = np.array([[1, 0, 5, 5, 5], [0, 1, 4, 6, 5], [1, 1, 5, 4, 6]], np.float32)
    turned, far = floating.copy(), floating.copy()
    turned[1, :2] = 0.6, 0.8  # a cosine of 0.8 in an output that is small beside the other
    far[2, 3] = 9
    counted = comparing.count(floating, floating, turned, None, outputs)
    assert (counted["alike"][0], counted["in_range"][0]) == (pytest.approx(2 / 3), 1)
    counted = comparing.count(floating, floating, far, None, outputs)
    assert counted["in_range"][0] == pytest.approx(2 / 3)
    zeros = np.zeros_like(floating)
    assert comparing.count(zeros, zeros, zeros, None, outputs)["alike"][0] == 1


def test_an_original_that_says_nothing_is_told():
    constant = np.ones((5, 4), np.float32)
    assert "the same outputs" in features.trouble(features.look(constant, None), (), is_trained=False)
    broken = np.full((5, 4), np.nan, np.float32)
    assert "not finite" in features.trouble(features.look(broken, None), (), is_trained=False)
    fine = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert features.trouble(features.look(fine, None), (), is_trained=False) == ""


def test_an_exported_program_keeps_its_inputs_and_the_names_of_its_outputs(tmp_path):
    image, numbers = torch.randn(3, 3, 64, 64), torch.randn(3, 6)
    for model, given in ((several.heads(), (image,)), (several.paired(), (image, numbers))):
        pt2_writing.write(model, [(1, *one.shape[1:]) for one in given], tmp_path / "x.pt2")
        found = pt2_file.read(tmp_path / "x.pt2")
        assert found.tensors == [tuple(one.shape[1:]) for one in given[1:]]
        said, wanted = pt2_graph.load(tmp_path / "x.pt2")(*given), model(*given)
        if isinstance(wanted, dict):
            assert list(said) == list(wanted) == found.output_keys
            assert all(torch.allclose(said[key], wanted[key], atol=1e-5) for key in wanted)
        else:
            assert torch.allclose(said, wanted, atol=1e-5)
