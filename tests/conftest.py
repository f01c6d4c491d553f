"""Models and builds that several test files share."""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from twinkeel.pipeline.files import write_json
from twinkeel.pipeline.store import light
from twinkeel.pipeline.tasks import classification

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from twinkeel.pipeline.config import Config
    from twinkeel.pipeline.report.results import Result as BuildResult
    from twinkeel.pipeline.store.entries import Store

WIDTH = 0.2
"""Of the fixed weights."""

LONGEST_FIRST = (
    "test_default_build", "test_builds", "test_networks", "test_users_detectors", "test_detection", "test_family", "test_ladder", "test_ios", "test_users_ladder",
    "test_padding", "test_android", "test_replay", "test_several", "test_targets", "test_drift", "test_faults", "test_coreml", "test_integer",
    "test_calling", "test_unchanged", "test_equalize", "test_cli", "test_exported", "test_litert", "test_weight_only", "test_evaluate", "test_upstream",
    "test_segmentation_build", "test_features", "test_zoos", "test_ios_detection", "test_ios_segmentation",
    "test_ios_features", "test_ios_coreai", "test_android_detection", "test_android_segmentation", "test_android_features", "test_one_by_one", "test_executorch",
    "test_canonical", "test_unlabelled", "test_original", "test_inputs", "test_trust", "test_sensitivity", "test_stages", "test_together", "test_cluster", "test_folders",
)  # fmt: skip
"""Files of tests, from some minutes down to some seconds; all others take less. `test_builds` begins with `fixed_build`, which
the other process is not to wait for."""


def pytest_collection_modifyitems(items):
    """A file goes to one process as a whole: the longest first, so that both processes end at about the same time."""
    places = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    _lighten()


@pytest.fixture(autouse=True)
def light_converters():
    """Again where a test has imported a converter. What the tests before this one have left is not looked through by each collection
    of this one: the ladder and coremltools collect by themselves, which takes a second each time in the end."""
    gc.collect()
    gc.freeze()
    known = len(sys.modules)
    yield
    if len(sys.modules) > known + 200:
        gc.collect()
        _lighten()


@pytest.fixture(scope="module", autouse=True)
def no_frozen_garbage():
    """What a file's tests shared and nobody has any more is let go."""
    yield
    if gc.get_freeze_count() > _frozen[-1] + 200_000:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _frozen.append(gc.get_freeze_count())


_frozen = [0]
"""How many objects there were when all were looked through, each time."""


def _lighten():
    """As builds do around their converters, for good."""
    gc.set_threshold(50_000, 20, 20)
    gc.freeze()
    if "torch._export.serde.serialize" in sys.modules:
        light.lighten()


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """No test reads or writes what the user's own builds keep."""
    root: Path = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root))
        patch.setenv("TWINKEEL_STORE", str(root / "store"))
        yield root


@pytest.fixture
def run_cli():
    """Run `twinkeel` in this process; a TwinkeelError is the result's exception."""
    from twinkeel.pipeline.cli import cli

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments])

    return run


@pytest.fixture
def here(monkeypatch):
    """Jobs of builds run in this process, which has torch and the converters already: a worker imports them for each.

    What crosses to a worker crosses here too. Builds in processes of their own are one in `test_builds.py`, those of
    `test_users_detectors.py`, and one of each kind of model: a factory, a saved program, a network of a package, a module in
    memory.
    """
    from twinkeel.pipeline.building import runner

    monkeypatch.setattr(runner, "Workers", lambda *_: _executor())


def _executor():
    """Runs a call at once, on copies of what it is given and gives, as a process has them."""
    import pickle

    from twinkeel.pipeline.store import Here

    class Copying(Here):
        def submit(self, function, /, *args, **kwargs):
            function, args, kwargs = pickle.loads(pickle.dumps((function, args, kwargs)))
            return super().submit(lambda: pickle.loads(pickle.dumps(function(*args, **kwargs))))

    return Copying()


@pytest.fixture(scope="session")
def make_program():
    """Make a program of a model with random weights, at a resolution."""
    import numpy as np
    import programs
    import torch
    from twinkeel.pipeline import data
    from twinkeel.pipeline.program.program import About, InputContract

    about = About(author="An author", license="A licence", version="1.2", description="A small model")

    def make(model, resolution, passes=3):
        torch.manual_seed(0)
        with torch.no_grad():
            for _ in range(passes):  # BatchNorm statistics that are not 0 and 1
                model(torch.randn(4, 3, 64, 64))
        model.eval().requires_grad_(False)
        contract = InputContract.of(resolution, programs.MEAN, programs.STD)
        images = np.random.default_rng(0).integers(0, 256, (2, resolution, resolution, 3), np.uint8)
        labels = [f"class {n}" for n in range(model.classifier[1].out_features)]
        return programs.program(model, contract, data.rgba(images), name="small", labels=labels, about=about)

    return make


@pytest.fixture(scope="session")
def small_program(make_program):
    """Width 0.35 at 32 pixels, ten classes."""
    import torch
    from twinkeel.model import mobilenet_v2

    torch.manual_seed(0)
    return make_program(mobilenet_v2.create(10, 0.35), 32)


@pytest.fixture(scope="session")
def shallow_model():
    """Make a network of four blocks, for ten classes, random weights: every kind of layer that the whole has, a fourth as
    many."""
    import torch
    from twinkeel.model import mobilenet_v2

    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2))  # a block without expansion, and one with a residual

    def make(activation="relu6"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mobilenet_v2, "STAGES", tuple(mobilenet_v2.Stage(*stage) for stage in stages))
            torch.manual_seed(0)
            return mobilenet_v2.create(10, 0.35, activation)

    return make


@pytest.fixture(scope="session")
def shallow_program(make_program, shallow_model):
    """The program of such a network at 32 pixels.

    What converters take grows with the number of layers; what is asked of each kind of layer is asked of this program.
    """
    return make_program(shallow_model(), 32)


@pytest.fixture(scope="session")
def padded_model():
    """Make an EfficientNet-Lite of four blocks, for ten classes, random weights, that pads as TensorFlow does."""
    import torch
    from twinkeel.model import efficientnet_lite

    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 1, 2, 5))

    def make():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(efficientnet_lite, "STAGES", tuple(efficientnet_lite.Stage(*stage) for stage in stages))
            torch.manual_seed(0)
            return efficientnet_lite.create(10, 0.35)

    return make


@pytest.fixture(scope="session")
def padded_program(make_program, padded_model):
    """The program of such a network at 40 pixels, where every convolution with a stride of 2 pads one side more."""
    return make_program(padded_model(), 40)


@dataclass(frozen=True)
class Build:
    """A finished build: what was asked for, folder and result of each platform, the lines that it said, and the store
    that it filled."""

    config: Config
    store: Store
    folders: dict[str, Path]
    results: dict[str, BuildResult]
    messages: list[str]


@pytest.fixture(scope="session")
def fixed_weights():
    """Weights of a MobileNetV2 of width 0.2 that knows digits: the same on every machine, `weights/README.md` says more."""
    return Path(__file__).parent / "weights" / "digits.safetensors"


@pytest.fixture(scope="session")
def fixed_model(fixed_weights):
    """The model of these weights."""
    from twinkeel.model import mobilenet_v2
    from twinkeel.pipeline.stages.weights import load_into

    model = mobilenet_v2.create(10, WIDTH)
    load_into(model, fixed_weights)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def fixed_build(fixed_weights, tmp_path_factory):
    """A build of these weights: all artifacts of both platforms, without a training."""
    from twinkeel.pipeline.config import Config

    # fewer images than the default holds out: some verdicts are open
    asked = {
        "model": {"width": WIDTH},
        "weights": {"path": str(fixed_weights)},
        "data": {"held_out": 0.2},
        "quantize": {"minutes": 0, "equalize": "always"},  # what the ladder finds is looked at in its own tests
    }
    return _built("fixed", Config.model_validate(asked), tmp_path_factory, _executor())


@pytest.fixture(scope="session")
def default_build(tmp_path_factory):
    """The default build: digits, trained on this machine, for both platforms.

    Training gives another model on each processor. What this one is worth is asked for in `test_default_build.py` alone;
    all other tests take `fixed_build`, which has all artifacts: here is one of each arithmetic. Its jobs run in this process,
    as those of `here` do.
    """
    from twinkeel.pipeline.config import Config

    asked = {
        "android/litert": ["fp16", "int8"],
        "android/executorch": ["int8"],
        "android/onnx": ["fp32", "int8"],
        "ios/coreml": ["fp16", "int8", "w8"],
        "ios/executorch": ["int8"],
    }
    config = {
        "targets": asked,
        "quantize": {"minutes": 0.2},
    }  # what learns takes longer, and is asked in `test_ladder.py`
    return _built("default", Config.model_validate(config), tmp_path_factory, _executor())


def _built(name: str, config: Config, tmp_path_factory: pytest.TempPathFactory, executor: Executor) -> Build:
    """Where tests run side by side, the first process makes it, and the others take it from the store."""
    from filelock import FileLock
    from twinkeel.model import mobilenet_v2
    from twinkeel.pipeline.building import runner
    from twinkeel.pipeline.building.order import checked
    from twinkeel.pipeline.cli import common
    from twinkeel.pipeline.report import page as html_report
    from twinkeel.pipeline.store.entries import Store

    out: Path = tmp_path_factory.mktemp(name)
    messages: list[str] = []
    say = lambda line, *_: messages.append(line)  # noqa: E731
    asked = checked(
        config, common.targets(), common.kits(), mobilenet_v2.create, common.PLATFORMS, out, html_report.render, say
    )
    root: Path = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / f"{name}-build"
    root.mkdir(exist_ok=True)
    store, said = Store(str(root / "store")), root / "messages.json"
    with FileLock(root / "lock"):
        results = runner.build(asked, store, say, executor).results
        if not said.exists():
            said.write_text(json.dumps(messages))
    messages = json.loads(said.read_text())
    by_platform = {result.folder.name: result for result in results}
    return Build(config, store, {name: result.folder for name, result in by_platform.items()}, by_platform, messages)


@pytest.fixture(scope="session")
def finish():
    """Write a finished folder of artifacts that are there already, as a build leaves it."""
    import numpy as np
    from twinkeel.pipeline import parity
    from twinkeel.pipeline.delivery import evidence, machine, manifest
    from twinkeel.pipeline.parity.limits import LIMITS
    from twinkeel.pipeline.program.artifact import seal

    def write(folder, artifacts, expected, names, images, output_scale=0.1):
        """Artifacts are given by target, its kernels, precision, path, reference and evidence."""
        manifest.write_golden(manifest.Golden(names=names, inputs=images, expected=expected), folder / "golden")
        entries = []
        for target, kernels, precision, path, reference, kind in artifacts:
            known = precision if ("lower", precision) in LIMITS or kind != "runtime" else "fp32"
            limits = parity.limits_for(classification.MEANING, "lower", known, (), kind, kernels)
            metrics = {limit.metric: np.inf if limit.sense == ">=" else 0 for limit in limits}
            entries.append(
                vars(seal(path, folder, target, precision))
                | {
                    "runtime": kernels,
                    "reference": reference,
                    "twin": None,
                    "parity": "verified",
                    "evidence": kind,
                    "operators": {},
                    "runs": [evidence.row(evidence=kind, by="build", machine=machine.here(), versions={})],
                    "checks": [manifest.described(c) for c in parity.judge("lower", limits, metrics)],
                }
            )
        write_json({"artifacts": entries}, folder / manifest.PARITY)
        labels = [f"class {n}" for n in range(expected["fp32"].shape[1])]
        content = {
            "schema_version": 1,
            "labels": labels,
            "output_scale": output_scale,
            "is_verified": True,
            "errors": [],
        }
        content |= {"artifacts": entries, "program_checks": []}
        manifest.write(content | {"files": manifest.hash_files(folder)}, folder / manifest.MANIFEST)
        manifest.verify(folder)
        return folder

    return write
