"""What a newcomer adds is one file: an architecture, a target, a rung of the ladder and a task, dropped into their
folders."""

from __future__ import annotations

import importlib

import pytest
from twinkeel.pipeline.building import order, runner
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.delivery.manifest import read_manifest, replay
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.report import page, terminal
from twinkeel.pipeline.store import Here

ARCHITECTURE = """
from torch import nn

class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True).flatten(1)

def create(num_classes, width, activation="relu6"):
    return nn.Sequential(nn.Conv2d(3, 8, 3), Mean(), nn.Linear(8, num_classes))
"""
VARIANTS = """
from torch import nn

RESOLUTIONS = {"small": 64, "large": 96}
DEFAULTS = {"model": {"width": 1.0}, "data": {"mean": [0.5, 0.5, 0.5]}}

def create(num_classes, width, padding="torch", name="small"):
    channels = {"small": 8, "large": 16}[name]
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
"""
TARGET = """
NAME, SUFFIX, KERNELS, EVIDENCE = "android/toy", ".toy", "toy", "runtime"
PRECISIONS, PACKAGES, REFERENCES = ("fp32",), (), {"fp32": "fp32"}

def build(program, precision, out): ...
def load(path): ...
def operators(path): return {}
"""
RUNG = """
COST = 0.05

def rungs(wanted):
    return [("a new method", "auto", lambda ladder, best: [])]
"""
TASK = """
import numpy as np
from sklearn.datasets import load_digits

from ..data import moved, split
from ..parity import Limit, Meaning, drop_of

SCORE = "hit rate"
OUTPUTS = ("halves",)
SOURCES, DEFAULTS = ("digits",), {}
NEAR = 0.1
DESCRIBES = ("halves",)

def _is_near(outputs, truth):
    return (np.abs(outputs - truth) <= NEAR).all(1)

def _count(original, folded, candidate, truth, outputs):
    one, other = _is_near(original, truth), _is_near(candidate, truth)
    kept, lost, won = (int(x.sum()) for x in (one & other, one & ~other, other & ~one))
    return {"hits_lost": drop_of(len(truth), kept=kept, lost=lost, won=won)}

_ROW = Limit(metric="hits_lost", sense="<=", value=0.5, reason="half", needs_all=True, is_counted=True)
MEANING = Meaning(
    counted={"hits_lost": "<="},
    limits={("quantize", "int8", "runtime"): (_ROW,)},
    score=lambda outputs, truth, layout: float(_is_near(outputs, truth).mean()),
    count=_count,
)

def meaning(config): return MEANING

def ingredients(config):
    return {"digits": config.data.seed}

def asks_weights(config):
    return False

def load(config, outputs):
    '''How dark the left, the right and the lower half of a digit are, 0..1.'''
    grey = load_digits().images[:200] / 16
    truth = np.stack([grey[:, :, :4].mean((1, 2)), grey[:, :, 4:].mean((1, 2)), grey[:, 4:].mean((1, 2))], 1)
    images = np.kron(np.rint(grey * 255).astype(np.uint8), np.ones((1, 4, 4), np.uint8))[..., None].repeat(3, -1)
    groups = np.zeros(len(images), np.int64)
    return split(images, truth.astype(np.float32), ("left", "right", "lower"), config, groups)

def settings(config, trains=False): return {}
def marked(image, truth, scale): return image
def doubts(data): return []
def augmented(images, truth, drawn): return moved(images, drawn), truth
def loss(outputs, truth, config, add_up): return ((outputs - truth) ** 2).sum() / add_up(outputs.new_tensor(outputs.numel()))
def look(outputs, truth, config, layout): return {"error": float(np.abs(outputs - truth).mean())}
def trouble(look, names, *, is_trained): return "" if look["error"] < 0.3 else f"off by {look['error']:.2f} on average"
def doubt(look, names): return ""
def answers(models, truth, config, layout): return np.array(models, np.float64)
def misfit(shapes, outputs, config): return ""
def told(worth): return {SCORE: worth.score}
def shares(worth): return {SCORE: worth.score}
def columns(worth): return {SCORE: f"{100 * worth.score:.1f} %"}
def size(names): return f"{len(names)} halves"
def labels(names): return ()
def described(names, config, layout): return {"halves": list(names)}
def names_of(manifest): return tuple(manifest["halves"])
def files(names): return {"halves.txt": "\\n".join(names).encode()}
def fault(manifest, width): return "" if len(manifest["halves"]) == width else "other halves"
"""


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """Put a file into a package of the project, as far as imports can tell."""

    def drop(package, name, text):
        (tmp_path / f"{name}.py").write_text(text)
        module = importlib.import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path)])

    return drop


def test_an_architecture(dropped, run_cli, tmp_path):
    dropped("twinkeel.model", "tiny", ARCHITECTURE)
    assert set(architectures.sources()) >= {"tiny", "mobilenet_v2"}
    listed = run_cli("models", "tiny", "--width", "1").output
    assert "tiny, 1000 classes" in listed and "9,224" in listed, listed
    (tmp_path / "twinkeel.toml").write_text('[model]\nname = "tinny"\n')
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out").exception)
    assert "unknown architecture 'tinny'" in told and "Did you mean 'tiny'" in told, told
    config = Config.model_validate({"model": {"name": "tiny"}})
    assert len(list(architectures.architecture(config)(10, 1.0).parameters())) == 4


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("mobilenet_v2", "detection", r"a network for 'classification', and model.task is 'detection': set model.name to 'ssdlite_mobilenet_v2', or"),
        ("mobilenet_v2", "segmentation", "set model.name to 'deeplab_v3_mobilenet_v2' or 'deeplab_v3_aspp_mobilenet_v2', or"),
        ("deeplab_v3_aspp_mobilenet_v3_small", "classification", "set model.name to 'mobilenet_v3_small', or"),
        ("efficientnet_lite3", "detection", "one of ssdlite_efficientnet_lite0, ssdlite_inception"),
        ("yolov8", "detection", r"unknown architecture 'yolov8'.* Any other network: model.factory = 'file.py:function'"),
    ],
)  # fmt: skip
def test_a_network_of_another_task_is_an_error_that_names_the_one_for_it(name, task, said):
    with pytest.raises(ConfigError, match=said):
        architectures.checked(Config.model_validate({"model": {"name": name, "task": task}}))
    if name != "yolov8":  # any network's outputs may be taken as they are
        assert architectures.checked(Config.model_validate({"model": {"name": name, "task": "features"}}))
        assert architectures.checked(Config.model_validate({"model": {"name": name}})).model.name == name


def test_a_setting_that_an_architecture_does_not_take_is_named(dropped):
    dropped("twinkeel.model", "tiny", ARCHITECTURE)
    assert architectures.checked(Config.model_validate({"model": {"name": "tiny", "activation": "relu"}}))
    with pytest.raises(ConfigError, match=r"model\.padding: 'tensorflow' does not apply to 'tiny'"):
        architectures.checked(Config.model_validate({"model": {"name": "tiny", "padding": "tensorflow"}}))


def test_an_architecture_of_several_names_with_defaults_of_its_own(dropped, run_cli):
    dropped("twinkeel.model", "variants", VARIANTS)
    assert "large, 1000 classes" in run_cli("models", "large", "--width", "1").output
    found = architectures.checked(Config.model_validate({"model": {"name": "large"}}))
    assert (found.model.width, found.model.resolution, found.data.mean) == (1.0, 96, [0.5, 0.5, 0.5])
    assert found.project.name == "large"  # as its artifacts are called
    given = {"model": {"name": "large", "resolution": 32}, "data": {"mean": [0.1, 0.2, 0.3]}}
    found = architectures.checked(Config.model_validate(given))
    assert (found.model.width, found.model.resolution, found.data.mean) == (1.0, 32, [0.1, 0.2, 0.3])
    assert architectures.architecture(found)(10, 1.0)[0].out_channels == 16


def test_helpers_are_no_architectures():
    found = architectures.sources()
    alone = [name for name in found if not name.startswith(("ssdlite_", "deeplab_v3_"))]
    large_and_small = ["mobilenet_v3_large", "mobilenet_v3_small"]
    lite = [f"efficientnet_lite{n}" for n in range(5)]
    assert alone == [*lite, "inception", "mobilenet_v1", "mobilenet_v2", *large_and_small, "residual"]
    assert {source.module.rpartition(".")[2] for source in found.values()}.isdisjoint(
        {"backbones", "blocks", "count", "ssd_heads"}
    )


def test_a_target(dropped, run_cli):
    dropped("twinkeel.targets.android", "toy", TARGET)
    assert "android/toy: fp32" in run_cli("targets").output


def test_a_rung_of_the_ladder(dropped):
    from twinkeel.pipeline.stages import ladder, rungs

    before = [name for name, _, _ in ladder.methods(Config().quantize)]
    dropped("twinkeel.pipeline.stages.rungs", "new", RUNG)
    assert f"{rungs.__name__}.new" in rungs.names()
    after = [name for name, _, _ in ladder.methods(Config().quantize)]
    at = before.index("learned rounding")
    assert after == [*before[:at], "a new method", *before[at:]]


def test_a_task(dropped, tmp_path):
    """From its data to verified folders, and again from the files alone; the default build's targets, both platforms."""
    dropped("twinkeel.pipeline.tasks", "halves", TASK)
    dropped("twinkeel.model", "tiny", ARCHITECTURE)
    config = Config.model_validate(
        {
            "model": {"name": "tiny", "task": "halves"},
            "train": {"epochs": 20},
            "quantize": {"minutes": 0},
            "targets": {"android/litert": ["fp32", "int8"], "android/onnx": ["fp32"], "ios/coreml": ["fp32", "w8"]},
            "limit": [
                {"leg": "lower", "precision": "fp32", "metric": "hits_lost", "value": 0.01},
                {"leg": "quantize", "precision": "int8", "metric": "snr_db", "value": 0, "reason": "hardly trained"},
            ],
        }
    )
    lines = []
    say = lambda line, *_: lines.append(line)  # noqa: E731
    out, targets = tmp_path / "out", common.targets()
    asked = order.checked(
        config, targets, common.kits(), architectures.architecture(config), common.PLATFORMS, out, page.render, say
    )
    built = runner.build(asked, None, say, Here())
    assert all(result.is_verified for result in built.results), [terminal.failures(r) for r in built.results]
    assert [line for line in lines if "hit rate" in line and line.startswith("train")], lines
    assert (
        sum("templates know classification, detection, features, segmentation, not halves" in line for line in lines)
        == 2
    ), lines
    for result in built.results:
        manifest = read_manifest(result.folder)
        assert manifest["task"] == "halves" and manifest["halves"] == ["left", "right", "lower"]
        assert (result.folder / "halves.txt").is_file() and not (result.folder / "labels.txt").exists()
        (fp32, *_) = [entry for entry in manifest["artifacts"] if entry["precision"] == "fp32"]
        assert "hits_lost" in {check["metric"] for check in fp32["checks"]}
        checks = [check for _, found in replay(result.folder, targets) for check in found]
        assert checks and all(check.is_met for check in checks)
    text = (out / "report.html").read_text()
    assert "Hit rate, float model" in text and "3 halves" in text and "Confusion" not in text
    for word in ("label", "logit", "accuracy"):
        said = [line for line in lines if word in line.lower()]
        assert not said, said


def test_a_task_that_is_none(run_cli, tmp_path):
    (tmp_path / "twinkeel.toml").write_text('[model]\ntask = "clasification"\n')
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out").exception)
    assert "unknown task 'clasification'" in told and "Did you mean 'classification'" in told, told
