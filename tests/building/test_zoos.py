"""Networks of timm and torchvision by name.

Neither is in the environment of the tests (timm brings torchvision, and that a torch of its own): modules of these names
stand in for them, with the functions that are called of the real ones. `test_the_real_timm` runs where timm is.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from twinkeel.pipeline.cli import architectures
from twinkeel.pipeline.config import Config, load
from twinkeel.pipeline.errors import ConfigError

NETWORK = """
import torch
from torch import nn

FETCHED = []

class Small(nn.Module):
    def __init__(self, num_classes=1000, width=8):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.classifier(torch.relu(self.bn1(self.conv_stem(x))).mean((2, 3)))
"""
TIMM = (
    NETWORK
    + """
from types import SimpleNamespace

def list_models(): return ["small", "odd", "plain"]

def get_pretrained_cfg(name):
    if name.partition(".")[2] == "none":
        raise RuntimeError("Invalid pretrained tag")
    size = {"small": 64, "odd": 8}.get(name.partition(".")[0])
    return None if size is None else SimpleNamespace(input_size=(3, size, size), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

def create_model(model_name, pretrained=False, **kwargs):
    assert not pretrained
    return Small(**kwargs)
"""
)
TORCHVISION = (
    NETWORK
    + """
from types import SimpleNamespace

def list_models(): return ["small", "plain"]

def small(*, weights=None, weights_backbone="to be fetched", progress=True, **kwargs):
    assert weights is None and weights_backbone is None
    return Small(**kwargs)

def plain(*, weights=None, **kwargs): return Small(**kwargs)

def get_model_builder(name): return {"small": small, "plain": plain}[name]
def get_model(name, **config): return get_model_builder(name)(**config)

def get_model_weights(name):
    preset = SimpleNamespace(crop_size=[64], mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    return SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: preset)) if name == "small" else SimpleNamespace()
"""
)


@pytest.fixture
def zoos(tmp_path, monkeypatch):
    """Stand-ins on the path, in this process and in those that it starts; gives the folder."""
    folder = tmp_path / "site"
    for name, text in (("timm", TIMM), ("torchvision", "")):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(text)
        version(folder, name, "1.0")
    (folder / "torchvision" / "models.py").write_text(TORCHVISION)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    for name in ("timm", "torchvision", "torchvision.models"):
        sys.modules.pop(name, None)


def version(folder, name, number):
    info = folder / f"{name}-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")


def config(**sections):
    return architectures.checked(Config.model_validate(sections))


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_settings_of_the_package_are_the_defaults_and_the_files_win(package, zoos):
    taken = config(model={"name": f"{package}:small"})
    assert (taken.model.resolution, taken.data.mean, taken.data.std) == (64, [0.5] * 3, [0.25] * 3)
    assert taken.project.name == "small" and taken.model.name == f"{package}:small"
    assert architectures.told(taken).endswith(f"mean [0.5, 0.5, 0.5], std [0.25, 0.25, 0.25], as {package} says")
    given = config(model={"name": f"{package}:small", "resolution": 32}, data={"mean": [0.1, 0.2, 0.3]})
    assert (given.model.resolution, given.data.mean, given.data.std) == (32, [0.1, 0.2, 0.3], [0.25] * 3)
    assert architectures.told(given).endswith(f"{package} says resolution 64, mean [0.5, 0.5, 0.5]")
    plain = config(model={"name": f"{package}:plain"})
    assert plain.data == Config().data and "says nothing" in architectures.told(plain)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_the_model_is_made_without_weights_and_with_as_many_outputs_as_the_data_has(package, zoos):
    create = architectures.architecture(config(model={"name": f"{package}:small", "arguments": {"width": 4}}))
    model = create(7, 0.35)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7) and model.conv_stem.out_channels == 4
    named = architectures.architecture(config(model={"name": f"{package}:small", "arguments": {"num_classes": 3}}))
    assert named(7, 0.35).classifier.out_features == 3


def test_the_version_of_the_package_is_known(zoos):
    create = architectures.architecture(config(model={"name": "timm:small"}))
    assert create.digest() == "timm 1.0"
    version(zoos, "timm", "1.1")
    assert create.digest() == "timm 1.1"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "tim:small"}, "is not timm:NAME or torchvision:NAME"),
        ({"name": "timm:hf-hub:x/y"}, "is not timm:NAME"),
        ({"name": "timm:../x"}, "is not timm:NAME"),
        ({"name": "timm:small", "width": 1.0}, "width does not apply to 'timm:small'; give it under"),
        ({"name": "timm:small", "arguments": {"pretrained": True}}, r"arguments.pretrained: timm would fetch .* \[weights\] path"),
        ({"name": "torchvision:small", "arguments": {"weights": "DEFAULT"}}, r"arguments.weights: torchvision would fetch"),
        ({"name": "timm:odd"}, "timm says 8 for 'timm:odd', which it cannot be; set it"),
        ({"name": "mobilenet_v2", "arguments": {"a": 1}}, "arguments are the factory's"),
    ],
    ids=["package", "hub", "path", "width", "pretrained", "weights", "resolution", "arguments"],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_error(model, words, zoos, tmp_path):
    path = tmp_path / "x.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in model.items() if key != "arguments"]
    given = [f"{key} = {json.dumps(value)}" for key, value in model.get("arguments", {}).items()]
    path.write_text("\n".join(["[model]", *lines, "[model.arguments]", *given]))
    with pytest.raises(ConfigError, match=words):
        architectures.checked(load(path))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("timm:smal", {}, "timm 1.0 has no network 'smal'. Did you mean small?"),
        ("torchvision:nothing", {}, "torchvision 1.0 has no network 'nothing'. `torchvision` lists them"),
        ("timm:small", {"depth": 3}, "timm:small.num_classes=10, depth=3. failed: TypeError"),
    ],
    ids=["near", "far", "argument"],
)
def test_what_the_package_does_not_have_is_one_clear_error(name, arguments, words, zoos):
    create = architectures.architecture(config(model={"name": name, "arguments": arguments}))
    with pytest.raises(ConfigError, match=words):
        create(10, 0.35)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_package_is_one_clear_error(package, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"'{package}:x' needs {package}.*pip install 'twinkeel\[{package}\]'"):
        config(model={"name": f"{package}:x"})


def test_a_package_that_is_broken_is_one_clear_error(zoos):
    (zoos / "timm" / "__init__.py").write_text("import torch\ntorch.ops.torchvision.nms\n")
    with pytest.raises(
        ConfigError, match=r"timm 1\.0 cannot be imported: AttributeError.*Is it of the installed torch\?"
    ):
        config(model={"name": "timm:small"})


def test_what_the_package_says_is_kept_and_damage_to_it_is_mended(zoos, tmp_path):
    config(model={"name": "timm:small"})
    (kept,) = (tmp_path / "cache" / "twinkeel" / "zoos").iterdir()
    damages = ["[]", "{", '{"data": {"mean": [1]}}', '{"data": 3}']
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from twinkeel.pipeline.cli import architectures\nfrom twinkeel.pipeline.config import Config\n"
        "def tell():\n"
        "    found = architectures.checked(Config.model_validate({'model': {'name': 'timm:small'}}))\n"
        "    print(found.model.resolution, 'torch' in sys.modules, sys.modules.pop('timm', None) is not None)\n"
        f"tell()\nfor damage in {damages!r}:\n    Path(sys.argv[1]).write_text(damage)\n    tell()\n    tell()\n"
    )
    import os

    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(zoos), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code, kept], env=environment, capture_output=True, text=True)
    told = done.stdout.splitlines()
    assert told[0] == "64 False False", done
    assert told[1:] == ["64 True True", "64 True False"] * len(damages), done  # asked, and kept again


def test_a_build_of_a_checkpoint(zoos, run_cli, tmp_path):
    """The whole way, and again with nothing to do; another version of the package is another model."""
    import os

    from twinkeel.pipeline.building.zoos import Zoo

    torch.manual_seed(0)
    torch.save(Zoo.of("timm:small", {})(10, 1.0).state_dict(), tmp_path / "small.pth")
    path = tmp_path / "twinkeel.toml"
    path.write_text(
        '[model]\nname = "timm:small"\nresolution = 32\n[weights]\npath = "small.pth"\n[quantize]\nminutes = 0\n'
        '[targets]\n"android/onnx" = ["fp32"]\n[data]\naccept_accuracy = "untrained"\n'
    )
    arguments = ("build", "android", "-c", path, "-o", tmp_path / "out", "--store", tmp_path / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(zoos), os.environ.get("PYTHONPATH", "")]))
        result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    assert "model: timm:small of timm 1.0: resolution 32" in result.output
    manifest = json.loads((tmp_path / "out" / "android" / "manifest.json").read_text())
    assert manifest["model"]["name"] == "timm:small"
    assert "nothing to do" in run_cli(*arguments, "--explain").output
    version(zoos, "timm", "1.1")
    assert "nothing to do" not in run_cli(*arguments, "--explain").output


def test_the_real_timm():
    timm = pytest.importorskip("timm")
    taken = config(model={"name": "timm:mobilenetv3_small_050"})
    known = timm.get_pretrained_cfg("mobilenetv3_small_050")
    assert (taken.model.resolution, taken.data.mean) == (known.input_size[1], list(known.mean))
    model = architectures.architecture(taken)(10, 1.0).eval()
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 10)
