"""Models and builds that several test files share."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

if TYPE_CHECKING:
    from twinkeel.pipeline import runner


@pytest.fixture
def run_cli():
    """Run `twinkeel` in this process; a TwinkeelError is the result's exception."""
    from twinkeel.pipeline.cli import cli

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments])

    return run


@pytest.fixture(scope="session")
def hard_models():
    """The module that makes models which int8 is known to fail on."""
    path = Path(__file__).parent.parent / "benchmarks" / "hard_models.py"
    spec = importlib.util.spec_from_file_location("hard_models", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_program():
    """Make a program of a model with random weights, at a resolution."""
    import numpy as np
    import torch
    from twinkeel.pipeline import data
    from twinkeel.pipeline.program import About, InputContract, Program
    from twinkeel.pipeline.stages import fold, quantize

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def make(model, resolution, passes=3):
        torch.manual_seed(0)
        with torch.no_grad():
            for _ in range(passes):  # BatchNorm statistics that are not 0 and 1
                model(torch.randn(4, 3, 64, 64))
        model.eval().requires_grad_(False)
        contract = InputContract.of(resolution, mean, std)
        folded = fold.fold(model, contract)
        images = np.random.default_rng(0).integers(0, 256, (2, resolution, resolution, 3), np.uint8)
        quantized = quantize.quantize(folded, data.rgba(images), contract)
        return Program(
            name="small",
            contract=contract,
            labels=tuple(f"class {n}" for n in range(model.classifier[1].out_features)),
            original=fold.Normalized(model, mean, std),
            folded=folded,
            tuned=folded,
            quantized=quantized.module,
            quantized_unfolded=quantized.unfolded,
            output_scale=quantized.output_scale,
            about=About(author="An author", license="A licence", version="1.2", description="A small model"),
            minimum_ios=18,
        )

    return make


@pytest.fixture(scope="session")
def small_program(make_program):
    """Width 0.35 at 32 pixels, ten classes."""
    import torch
    from twinkeel.model import mobilenet_v2

    torch.manual_seed(0)
    return make_program(mobilenet_v2.create(10, 0.35), 32)


@dataclass(frozen=True)
class Build:
    """A finished build: folder and result of each platform, and the lines that it said."""

    folders: dict[str, Path]
    results: dict[str, runner.Result]
    messages: list[str]


@pytest.fixture(scope="session")
def default_build(tmp_path_factory):
    """The default build: digits, trained, all artifacts of both platforms."""
    from twinkeel.model import mobilenet_v2
    from twinkeel.pipeline import cli, runner
    from twinkeel.pipeline.config import Config

    out: Path = tmp_path_factory.mktemp("default")
    messages: list[str] = []
    results = runner.build(
        Config(),
        cli._targets(),
        cli._kits(),
        mobilenet_v2.create,
        cli.PLATFORMS,
        out,
        lambda line, *_: messages.append(line),
    )
    by_platform = {result.folder.name: result for result in results}
    return Build({name: result.folder for name, result in by_platform.items()}, by_platform, messages)


@pytest.fixture(scope="session")
def trained_model(default_build):
    """The model that the default build trained."""
    import torch
    from twinkeel.model import mobilenet_v2

    (state,) = (default_build.folders["android"].parent / "train").glob("*/state.pt")
    model = mobilenet_v2.create(10, 0.35)
    model.load_state_dict(torch.load(state, weights_only=True)["model"])
    return model.eval().requires_grad_(False)
