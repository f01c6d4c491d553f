"""Compilers, kits and the modules that the tests of both platforms share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def kit_contents(fixed_build):
    """Contents of a kit of the default build, by platform and sections of the configuration."""
    from twinkeel.pipeline.config import Config
    from twinkeel.pipeline.delivery import manifest, sdk

    def make(platform, **sections):
        config, folder = Config.model_validate(sections), fixed_build.folders[platform]
        settings = config.android if platform == "android" else config.ios
        pair = f"{platform}/{settings.sdk}", settings.sdk_precision
        content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
        return sdk.contents(config, content, golden, folder, pair)

    return make


@pytest.fixture(scope="session")
def oblong_contents(kit_contents):
    """The same of a model whose input is neither square nor even, 45 rows of 31 columns; its golden images are drawn."""
    from twinkeel.pipeline.delivery import sdk

    def make(platform, **sections):
        contents = kit_contents(platform, **sections)
        inputs = np.random.default_rng(0).integers(0, 256, (len(contents.golden.names), 45, 31, 4), np.uint8)
        inputs[..., 3] = 255
        golden = replace(contents.golden, inputs=inputs)
        return replace(contents, height=45, width=31, golden=golden, pixels=sdk.pixel_cases(45, 31))

    return make


@pytest.fixture(scope="session")
def resizing():
    """The module `resizing.py` beside this file."""
    path = Path(__file__).with_name("resizing.py")
    spec = importlib.util.spec_from_file_location("resizing", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler(variable, name):
    """Path of a compiler; without one the test is skipped, and fails where all compilers must be there."""
    found = os.environ.get(variable) or shutil.which(name)
    if found:
        return Path(found)
    if os.environ.get("CI"):
        pytest.fail(f"no {name}: put it on PATH or set {variable}")
    return pytest.skip(f"no {name}: put it on PATH or set {variable}")


@pytest.fixture(scope="session")
def kotlinc():
    return compiler("TWINKEEL_KOTLINC", "kotlinc")


@pytest.fixture(scope="session")
def swift():
    """Run ``swift ARGUMENTS`` in a package's folder, which is all that it sees; the finished process."""
    program = compiler("TWINKEEL_SWIFT", "swift")

    def run(package, *arguments, environment=None):
        return subprocess.run(
            [program, *arguments],
            cwd=package,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run
