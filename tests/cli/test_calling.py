"""`import twinkeel`: from a module and images in memory to both kits, and what is said of arguments that cannot be."""

from __future__ import annotations

import html
import logging
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import twinkeel
from PIL import Image
from torch import nn
from twinkeel.pipeline import data
from twinkeel.pipeline.building import site
from twinkeel.pipeline.building.jobs import data as data_step
from twinkeel.pipeline.cli import architectures, calling
from twinkeel.pipeline.errors import ConfigError, ConversionError, DataError, ParityError, WeightsError
from twinkeel.pipeline.stages import pt2_writing

TEN_LINES = """
import numpy, torch, twinkeel
from sklearn.datasets import load_digits
from torch import nn
digits = load_digits()
images = numpy.kron(digits.images * 15, numpy.ones((1, 4, 4))).astype("uint8")[..., None].repeat(3, -1)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10))
for parameters in [model.parameters()]:
    optimizer = torch.optim.Adam(parameters, 0.003)
    for _ in range(40):
        outputs = model(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
        optimizer.zero_grad(), nn.functional.cross_entropy(outputs, torch.from_numpy(digits.target)).backward(), optimizer.step()
settings = dict(data={"mean": (0.5,) * 3, "std": (0.5,) * 3}, quantize={"minutes": 0})
settings["targets"] = {"android/litert": ["int8"], "ios/coreml": ["int8"]}
first = twinkeel.build(model, images, digits.target, **settings)
print(first)
again = twinkeel.build(model, images, digits.target, quiet=True, **settings)
print("ran", len(first.ran), again.ran, again.verified, again.folders)
"""


def test_ten_lines_give_both_kits_and_a_second_call_makes_nothing(tmp_path):
    """In a script that has no guard for the processes that it starts, on as many threads as torch takes by itself."""
    (tmp_path / "ten.py").write_text(TEN_LINES)
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "ten.py"]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-3000:]
    last = found.stdout.strip().splitlines()[-1]
    assert last.startswith("ran 1") and " [] True {'android'" in last, found.stdout[-3000:]
    assert "all verified" in found.stdout and "ios/coreml" in found.stdout
    assert list((tmp_path / "out").rglob("*.kt")) and list((tmp_path / "out").rglob("Package.swift"))
    assert (tmp_path / "out" / "report.html").is_file()


def test_importing_it_imports_nothing_else():
    code = "import sys, twinkeel\nprint(sorted(n for n in sys.modules if n.split('.')[0] in ('twinkeel', 'torch', 'numpy', 'pydantic')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "['twinkeel']\n"
    assert dir(twinkeel) == ["TwinkeelError", "build"] and issubclass(DataError, twinkeel.TwinkeelError)
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        twinkeel.biuld  # noqa: B018


class Net(nn.Module):
    def __init__(self, outputs=10):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, outputs)

    def forward(self, x):
        return self.fc(self.stem(x).mean((2, 3)))


@pytest.fixture(scope="module")
def pictures():
    """Smooth ones, as photographs are."""
    rough = np.random.default_rng(0).integers(0, 256, (150, 8, 8, 3), np.uint8)
    return np.stack([data.fit(image, 32, 32) for image in rough])


@pytest.fixture
def places(tmp_path, tmp_path_factory, here):
    """A store for all of these builds: what they share is made once."""
    return {"out": tmp_path / "out", "store": tmp_path_factory.getbasetemp() / "calling-store"}


def build(model, images, labels=None, **settings):
    given = {"quantize": {"minutes": 0}, "targets": {"android/onnx": ["fp32"]}, "quiet": True, "platform": "android"}
    return twinkeel.build(model, images, labels, **(given | settings))


def test_without_labels_agreement_is_counted_and_the_model_stays_as_it_is(pictures, places):
    model = Net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    filters, level = list(warnings.filters), logging.root.manager.disable
    result = build(model, pictures, **places)
    assert result.verified and result.ran and set(result.folders) == {"android"}
    assert [row.artifact.target for row in result.rows] == ["android/onnx"]
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert warnings.filters == filters and logging.root.manager.disable == level

    assert build(Net(), torch.from_numpy(pictures).permute(0, 3, 1, 2), **places).ran == []


def test_another_weight_and_other_images_are_other_jobs(pictures, tmp_path):
    def keys(name, model, images):
        (tmp_path / name).mkdir()
        config = calling._configured(model, images, None, None, None, "classification", None, {}, tmp_path / name)
        create = architectures.architecture(config)
        return data_step.data_job(config).key, site.model_of(config, create)["sources"]

    images, model = keys("one", Net(), pictures)
    assert keys("again", Net(), list(pictures)) == (images, model)
    other = Net()
    other.stem[1].running_mean += 1e-3
    assert keys("weight", other, pictures) == (images, keys("weight again", other, pictures)[1])
    assert keys("third", other, pictures)[1] != model
    found = keys("images", Net(), pictures[::-1])
    assert found[0] != images and found[1] == model


def test_labels_of_some_of_the_classes_names_and_a_loader(pictures, places):
    """Labels come with the batches; the names end in the kit's files."""
    labels = torch.arange(len(pictures)) % 4
    batches = [(torch.from_numpy(pictures[n : n + 40]), labels[n : n + 40]) for n in range(0, len(pictures), 40)]
    names = [f"bird {n}" for n in range(10)]
    settings = {"names": names, "data": {"accept_accuracy": "untrained"}, "project": {"name": "birds", "author": "A"}}
    result = build(Net(), batches, **places, **settings)
    told = (result.folders["android"] / "labels.txt").read_text()
    assert told.splitlines() == names and "accuracy" in str(result)
    assert result.rows[0].artifact.path.endswith("birds-fp32.onnx")
    assert build(Net(), pictures, labels.numpy(), **places, **settings).ran == []


def test_images_in_memory_without_labels_are_not_trained_on(pictures, places):
    limit = [{"leg": "quantize", "precision": "int8", "metric": "snr_db", "value": 200.0}]
    with pytest.raises(
        ParityError, match=r"no quantization-aware training: data\.source = 'arrays' has no images to train on"
    ):
        build(Net(), pictures, **places, limit=limit, targets={"android/onnx": ["int8"]})


def test_a_failure_is_given_and_shown(pictures, places):
    limit = [{"leg": "lower", "precision": "fp32", "metric": "snr_db", "value": 1000.0}]
    result = build(Net(), pictures, **places, limit=limit)
    assert not result.verified
    shown = result._repr_html_()
    assert "checks failed: 1" in str(result) and "checks failed: 1" in shown
    assert ">FAILED</td>" in shown and "snr_db" in shown and result.report.resolve().as_uri() in shown
    assert html.escape("(>= 1000)") in shown


def test_a_folder_of_images(pictures, places, tmp_path):
    (tmp_path / "photographs").mkdir()
    for number, picture in enumerate(pictures[:80]):
        Image.fromarray(picture).save(tmp_path / "photographs" / f"{number}.png")
    assert build(Net(), tmp_path / "photographs", **places, resolution=32).verified


def test_the_program_is_the_same_bytes_wherever_the_class_is(tmp_path):
    code = (
        "import sys, pathlib, torch\nfrom torch import nn\nfrom twinkeel.pipeline.stages import pt2_writing\n\n\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())\n"
        "        self.fc = nn.Linear(8, 10)\n\n    def forward(self, x):\n        return self.fc(self.stem(x).mean((2, 3)))\n\n\n"
        "pt2_writing.write(Net(), [(1, 3, 32, 32)], pathlib.Path(sys.argv[1]))\n"
    )
    pt2_writing.write(Net(), [(1, 3, 32, 32)], tmp_path / "here.pt2")
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "there.pt2"], check=True, env=environment)
    assert (tmp_path / "here.pt2").read_bytes() == (tmp_path / "there.pt2").read_bytes()


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


GREY = np.zeros((20, 32, 32), np.uint8)


@pytest.mark.parametrize(
    ("model", "images", "more", "error", "words"),
    [
        (7, None, {}, ConfigError, "a torch.nn.Module is wanted, not a int"),
        (Net(), np.zeros((9, 32, 32, 3), np.float32), {}, DataError, "they are float32, and bytes of RGB are wanted"),
        (Net(), GREY, {}, DataError, r"their shape is \(1, 20, 32, 32\)"),
        (Net(), [], {}, DataError, "nothing was given"),
        (Net(), 7, {}, DataError, "a int gives no images"),
        (Net(), [np.zeros((32, 32, 3), np.uint8), np.zeros((40, 32, 3), np.uint8)], {}, DataError, "they have 2 sizes"),
        (Net(), np.zeros((9, 8, 8, 3), np.uint8), {}, ConfigError, "model.resolution"),
        (Net(), None, {"labels": [1.5] * 150}, DataError, "labels: of float64"),
        (Net(), None, {"labels": [1, 2]}, DataError, r"labels: their shape is \(2,\), and there are 150 images"),
        (Net(), None, {"labels": [10] * 150}, DataError, "the labels are 10 to 10, and the model has 10 outputs"),
        (Net(), None, {"quantise": {}}, ConfigError, "unknown keyword 'quantise'.*Did you mean 'quantize'"),
        (Net(), None, {"quantize": {"minuts": 1}}, ConfigError, "quantize.minuts: unknown key.*Did you mean 'minutes'"),
        (Net(), None, {"quantize": {"qat": "always"}}, ConfigError, "takes training images"),
        (Net(), None, {"data": {"source": "digits"}}, ConfigError, "data.source does not apply to images in memory"),
        (Net(), None, {"data": 7}, ConfigError, "data: a table is wanted"),
        (Net(), None, {"platform": "windows"}, ConfigError, "unknown platform 'windows'"),
        (Net(), None, {"task": "poetry"}, ConfigError, "unknown task 'poetry'"),
        (Net(), None, {"targets": {"android/none": []}}, ConfigError, "unknown target"),
        (Net(), "nowhere", {"resolution": 32}, DataError, "is no folder with images"),
        (Net(), "nowhere", {}, ConfigError, "resolution is not given"),
        (Branching(), None, {}, ConversionError, "torch.export cannot follow the Branching"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)  # fmt: skip
def test_arguments_that_cannot_be_are_one_clear_error(model, images, more, error, words, pictures, places, tmp_path):
    images = pictures if images is None else tmp_path / images if isinstance(images, str) else images
    with pytest.raises(error, match=words):
        build(model, images, **places, **more)
    assert not (tmp_path / "out").exists()


def test_images_of_every_kind_are_the_same_array(pictures):
    some = pictures[:6]
    kinds = {
        "array": some,
        "tensor": torch.from_numpy(some).permute(0, 3, 1, 2),
        "list": list(some),
        "pillow": [Image.fromarray(one) for one in some],
        "tensors": [torch.from_numpy(one).permute(2, 0, 1) for one in some],
        "batches": (some[n : n + 2] for n in (0, 2, 4)),
        "pairs": [(one, 3) for one in some],
    }
    for name, given in kinds.items():
        found, truth = data.stacked(given, None)
        assert np.array_equal(found, some), name
        assert (truth is None) == (name != "pairs")
    found, _ = data.stacked([*some, np.zeros((64, 48, 3), np.uint8)], (32, 32))
    assert found.shape == (7, 32, 32, 3) and np.array_equal(found[:6], some)


def test_settings_are_taken_as_python_has_them():
    given = {"a": (1, np.float32(0.5), np.arange(2)), "b": {"c": torch.tensor([1, 2])}}
    assert calling._plain(given) == {"a": [1, 0.5, [0, 1]], "b": {"c": [1, 2]}}


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 3)).eval()


@pytest.mark.parametrize(
    "given", [lambda path: path, lambda path: {"path": str(path), "key": "model"}], ids=["path", "table"]
)
def test_a_checkpoint_goes_into_a_copy_of_the_model(given, tmp_path):
    model, trained = linear(0), linear(1)
    content = {"model": trained.state_dict(), "model_ema": linear(2).state_dict()}
    torch.save(content, tmp_path / "w.pth")
    before = model[0].weight.clone()
    loaded, told = calling._loaded(model, given(tmp_path / "w.pth"), tmp_path)
    wanted = linear(2) if "key" not in str(given(tmp_path)) else trained
    assert torch.equal(loaded[3].weight, wanted[3].weight) and told.startswith("weights: 4 tensors of 'model")
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({"path": "x", "head": "train"}, ConfigError, "head does not apply"),
        ({"key": "ema"}, ConfigError, "key chooses in a checkpoint"),
        ({}, ConfigError, "a path is wanted"),
        ("nowhere.pth", WeightsError, "is no file"),
    ],
)
def test_a_checkpoint_that_cannot_be(weights, error, message):
    with pytest.raises(error, match=message):
        twinkeel.build(linear(0), np.zeros((4, 32, 32, 3), np.uint8), weights=weights)
