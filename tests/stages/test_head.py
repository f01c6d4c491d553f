"""Transfer learning: the last layer trained on what the others give."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import nn
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.building.jobs.weights import weights_job
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import Dataset, Split
from twinkeel.pipeline.errors import ConfigError, WeightsError
from twinkeel.pipeline.stages import head
from twinkeel.pipeline.stages.weights import load_into
from twinkeel.pipeline.tasks import classification

CLASSES = 3


def quiet(*_):
    pass


def configured(**sections):
    sections = {"train": {"epochs": 10}, "weights": {"path": "w.pth", "head": "train"}} | sections
    return Config.model_validate(sections)


def network(kind="linear", classes=CLASSES):
    torch.manual_seed(1)
    body = [nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    ends = {
        "linear": [nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, classes)],
        "without bias": [nn.Flatten(), nn.Linear(16, classes, bias=False)],
        "convolution": [nn.Conv2d(16, classes, 1), nn.Flatten()],
        "softmax": [nn.Flatten(), nn.Linear(16, classes), nn.Softmax(1)],
        "clamped": [nn.Flatten(), nn.Linear(16, classes), nn.Hardtanh()],
    }
    made = nn.Sequential(*body, *ends[kind])
    for _ in range(3):
        made(torch.randn(8, 3, 32, 32))  # statistics that are not 0 and 1
    return made


def images(count, seed=0):
    """Images whose colour is their class, with noise."""
    draw = np.random.default_rng(seed)
    truth = np.arange(count) % CLASSES
    pixels = draw.integers(0, 120, (count, 32, 32, 3))
    pixels[np.arange(count), :, :, truth] += 100
    return Split(images=pixels.astype(np.uint8), truth=truth.astype(np.int64))


@pytest.fixture(scope="module")
def data():
    return Dataset(train=images(60), calibration=images(6, 1), held_out=images(30, 2), names=("red", "green", "blue"))


def trained(made, data, folder, config=None, progress=quiet, say=quiet):
    config = configured() if config is None else config
    name = head.last_layer(made, config)
    return head.train(made, name, data, config, classification, folder, say, progress)


@pytest.mark.parametrize(("kind", "name"), [("linear", "6"), ("without bias", "5"), ("convolution", "4")])
def test_the_last_layer_learns_and_the_others_stay(kind, name, data, tmp_path):
    made = network(kind)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    told = []
    assert head.last_layer(made, configured()) == name
    history = trained(made, data, tmp_path, progress=lambda epoch, of: told.append((epoch.epoch, of)))
    assert [epoch.epoch for epoch in history] == list(range(1, 11)) and told[-1] == (10, 10)
    assert history[-1].score > 0.95 and history[-1].loss < history[0].loss
    changed = {key for key, value in made.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith(f"{name}.") for key in changed)
    assert not made.training


def test_what_was_scored_is_what_the_model_gives(data, tmp_path):
    made = network()
    history = trained(made, data, tmp_path)
    pixels = torch.from_numpy(data.held_out.images).permute(0, 3, 1, 2).float() / 255
    config = configured()
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.data.mean, config.data.std))
    with torch.no_grad():
        right = (made((pixels - mean) / std).argmax(1).numpy() == data.held_out.truth).mean()
    assert history[-1].score == pytest.approx(right)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_size_of_what_the_layer_takes_does_not_matter(size, data, tmp_path):
    made = network()
    made[4] = nn.Sequential(nn.Flatten(), Scaled(size))
    assert trained(made, data, tmp_path)[-1].score > 0.95


class Scaled(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x * self.size + 5 * self.size


def test_the_same_seed_gives_the_same_layer_and_another_another(data, tmp_path):
    made = [network() for _ in range(3)]
    for number, one in enumerate(made):
        settings = configured(train={"epochs": 10, "seed": number // 2})
        trained(one, data, tmp_path / str(number), settings)
    assert torch.equal(made[0][6].weight, made[1][6].weight)
    assert not torch.equal(made[0][6].weight, made[2][6].weight)


def test_a_run_that_was_ended_takes_what_the_other_layers_gave(data, tmp_path):
    def ended(epoch, of):
        raise KeyboardInterrupt

    said = []
    with pytest.raises(KeyboardInterrupt):
        trained(network(), data, tmp_path, progress=ended, say=lambda line, *_: said.append(line))
    assert any("60 of 60 training images" in line for line in said)
    again, whole = network(), network()
    trained(again, data, tmp_path, say=lambda line, *_: pytest.fail(line))
    trained(whole, data, tmp_path / "other")
    assert torch.equal(again[6].weight, whole[6].weight)
    kept = tmp_path / "training.npy"
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    third, said = network(), []
    trained(third, data, tmp_path, say=lambda line, *_: said.append(line))
    assert torch.equal(third[6].weight, whole[6].weight) and said


@pytest.mark.parametrize("kind", ["softmax", "clamped"])
def test_a_model_that_ends_in_something_else_is_refused(kind):
    with pytest.raises(ConfigError, match="something stands behind the last one"):
        head.last_layer(network(kind), configured())


def test_what_diverges_is_said(data, tmp_path):
    made = network()
    settings = configured(train={"epochs": 100, "learning_rate": 10, "weight_decay": 1})
    with pytest.raises(ConfigError, match=r"diverged.*train\.learning_rate"):
        trained(made, data, tmp_path / "a", settings)
    with torch.no_grad():
        made[0].weight.fill_(torch.inf)
    with pytest.raises(ConfigError, match="give NaN or infinite values of the images"):
        trained(made, data, tmp_path / "b")


# what is loaded of a checkpoint


@pytest.mark.parametrize("classes", [CLASSES, 7])
def test_all_but_the_last_layer_is_loaded(classes, tmp_path):
    source, target = network(classes=classes), network()
    with torch.no_grad():
        source[0].weight.add_(1)
    before = target[6].weight.clone()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    assert "left: its last layer ('6.bias')" in load_into(target, tmp_path / "w.pth", head="6")
    assert torch.equal(target[0].weight, source[0].weight) and torch.equal(target[6].weight, before)


def test_a_last_layer_that_is_missing_or_has_another_name_is_trained(tmp_path):
    state = {key: value for key, value in network(classes=7).state_dict().items() if not key.startswith("6.")}
    torch.save(state, tmp_path / "w.pth")
    assert "left" not in load_into(network(), tmp_path / "w.pth", head="6")
    torch.save(state | {"head.fc.weight": torch.zeros(7, 16), "head.fc.bias": torch.zeros(7)}, tmp_path / "w.pth")
    assert "left: its last layer ('head.fc.bias')" in load_into(network(), tmp_path / "w.pth", head="6")
    torch.save(state | {"neck.weight": torch.zeros(7, 15)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"has the key 'neck\.weight'"):
        load_into(network(), tmp_path / "w.pth", head="6")


def test_a_body_that_does_not_fit_is_refused(tmp_path):
    torch.save(mobilenet_v2.create(7, 0.2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="another width"):
        load_into(mobilenet_v2.create(3, 0.35), tmp_path / "w.pth", head="classifier.1")


# heads of boxes and pixels, on the body of a classifier


def settled(name, classes, width=0.1):
    """Weights that are not what `create` begins with, of statistics that are not 0 and 1."""
    from twinkeel.pipeline.cli import architectures

    torch.manual_seed(5)
    made = architectures.architecture(Config.model_validate({"model": {"name": name, "resolution": 32}}))(
        classes, width
    )
    made(torch.randn(4, 3, 32, 32))
    return made.eval()


@pytest.mark.parametrize("name", ["ssdlite_mobilenet_v2", "deeplab_v3_mobilenet_v2"])
@pytest.mark.parametrize("given", ["classifier", "with other classes"])
def test_the_body_is_a_classifiers_and_what_stands_behind_it_is_trained(name, given, tmp_path):
    from twinkeel.pipeline.building.jobs.weights import make_weights
    from twinkeel.pipeline.cli import architectures, common
    from twinkeel.pipeline.tasks import named

    source = settled("mobilenet_v2" if given == "classifier" else name, 7).state_dict()
    torch.save(source, tmp_path / "w.pth")
    config = common.checked(
        configured(
            model={"name": name, "width": 0.1, "resolution": 32},
            weights={"path": str(tmp_path / "w.pth"), "head": "train"},
            train={"epochs": 1, "batch_size": 4},
        )
    )
    found = named(config.model.task).load(config)
    few = Dataset(
        train=found.train.part(slice(8)),
        calibration=found.calibration.part(slice(2)),
        held_out=found.held_out.part(slice(4)),
        names=found.names,
    )
    make_weights(config, architectures.architecture(config), few, tmp_path / "state", quiet, tmp_path)
    from safetensors.torch import load_file

    trained = load_file(tmp_path / "weights.safetensors")
    before = {f"backbone.{key}": value for key, value in source.items()} if given == "classifier" else source
    body = [key for key in trained if key.startswith("backbone.")]
    kept = [key for key in body if torch.equal(trained[key], before[key]) if trained[key].shape == before[key].shape]
    left = {key for key in body if key not in kept}
    # the last map of a narrow classifier is wider than that of boxes
    is_wider = given == "classifier" and name.startswith("ssdlite")
    assert all(key.startswith("backbone.features.18.") for key in left) and bool(left) == is_wider
    told = json.loads((tmp_path / "origin.json").read_text())["told"]
    assert f"{len(kept)} tensors" in told and ("head" in told or given != "classifier")


@pytest.mark.parametrize(
    ("source", "message"),
    [("mobilenet_v1", "features"), ("mobilenet_v2 at another width", "another width"), ("Keras", "no body alone")],
)
def test_a_body_that_does_not_fit_is_one_error(source, message, tmp_path):
    from twinkeel.pipeline.stages.weights import load_body

    path = tmp_path / ("w.h5" if source == "Keras" else "w.pth")
    name, _, other = source.partition(" ")
    torch.save(settled(name, 3, 0.5 if other else 0.1).state_dict() if source != "Keras" else {}, path)
    with pytest.raises(WeightsError, match=message):
        load_body(settled("deeplab_v3_mobilenet_v2", 3).backbone, path)


# what is asked for


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"source": "images", "path": "x"}}, "has none: give class folders"),
        ({"weights": {"head": "train"}}, "trains the last layer of given weights"),
        ({"weights": {"key": "ema"}}, "key chooses in a checkpoint"),
        ({"weights": {"path": "x", "head": "new"}}, "head"),
        ({"input": [{"name": "place", "shape": [2], "range": [0, 1]}]}, "more than an image"),
    ],
)
def test_what_cannot_be_asked_for(sections, message):
    with pytest.raises(ValidationError, match=message):
        configured(**sections)


def test_features_have_nothing_to_train_for():
    from twinkeel.pipeline.tasks import features

    with pytest.raises(ConfigError, match=r"weights\.head = 'train' takes classes"):
        features.ingredients(configured(model={"task": "features"}))


class Known:
    """An entry, all of whose files have one digest."""

    def __init__(self, digest="a"):
        self._digest = digest

    def digest(self, name=""):
        return f"{self._digest} {name}"

    def has(self, name):
        return name != "rows.npy" and not name.endswith("-rows.npy")


def test_the_key_knows_what_the_layer_is_trained_on(tmp_path):
    torch.save({}, tmp_path / "w.pth")

    def key(images="a", **sections):
        weights = {"path": str(tmp_path / "w.pth"), "head": "train"} | sections.pop("weights", {})
        return weights_job(configured(weights=weights, **sections), mobilenet_v2.create, Known(images), 3).key

    others = [
        key("b"),
        key(train={"epochs": 11}),
        key(weights={"key": "ema"}),
        key(weights={"head": "load"}),
        key(weights={"head": "load", "key": "ema"}),
        key(model={"width": 0.5}),
    ]
    assert len({key(), *others}) == len(others) + 1 and key() == key()
    loads = {"head": "load"}
    assert key(weights=loads) == key(weights=loads, train={"epochs": 11}) == key("b", weights=loads)


@pytest.fixture
def project(fixed_weights, tmp_path):
    """Folders of the digits 3, 4 and 7, and a checkpoint that knows ten."""
    digits = load_digits()
    for name, digit in (("drei", 3), ("vier", 4), ("sieben", 7)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == digit][:40]):
            pixels = Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32))
            pixels.convert("RGB").save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "twinkeel.toml").write_text(
        f"""[model]
width = 0.2
[weights]
path = "{fixed_weights}"
head = "train"
[data]
source = "folder"
path = "images"
[quantize]
minutes = 0
equalize = "never"
[targets]
"android/onnx" = ["fp32"]
"""
    )
    return tmp_path


def test_a_build_with_another_last_layer(project, run_cli, here):
    result = run_cli(
        "build", "android", "-c", project / "twinkeel.toml", "--out", project / "out", "--store", project / "store"
    )
    assert result.exit_code == 0, (result.output, result.exception)
    said = " ".join(result.output.split())  # lines are broken to the terminal's width
    assert "left: its last layer ('classifier.1.bias')" in said and "head: epoch 60/60" in said
    manifest = json.loads((project / "out" / "android" / "manifest.json").read_bytes())
    assert manifest["labels"] == ["drei", "sieben", "vier"]
    assert "'classifier.1' trained on folder" in manifest["model"]["weights"]
    assert (project / "out" / "curves.csv").is_file()
    last = (project / "out" / "curves.csv").read_text().splitlines()[-1]
    assert float(last.split(",")[-1]) > 0.9
    again = run_cli(
        "build", "android", "-c", project / "twinkeel.toml", "--out", project / "out", "--store", project / "store"
    )
    assert again.exit_code == 0 and "head: epoch" not in again.output and "weights: " in again.output
