"""Compilers, and the contents of a kit."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


def compiler(variable: str, name: str) -> str:
    """Path of a compiler; without one the test is skipped, and fails where CI says that there is one."""
    found = os.environ.get(variable) or shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {name}, on the path or in {variable}")
    return found


@pytest.fixture(scope="session")
def swift() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``swift ARGUMENTS`` in a package's folder, which is all that it sees."""
    program = compiler("TWINKEEL_SWIFT", "swift")

    def run(
        package: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
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


@pytest.fixture(scope="session")
def kit_contents():  # replaced by the lead
    """Contents of a kit made of a finished build: ``kit_contents(platform, **sections of the configuration)``."""
    from twinkeel.pipeline import manifest, sdk
    from twinkeel.pipeline.config import Config

    build = Path(os.environ["TWINKEEL_KIT_BUILD"])

    def make(platform, **sections):
        config = Config.model_validate(sections)
        folder = build / platform
        settings = config.android if platform == "android" else config.ios
        pair = (f"{platform}/{settings.sdk}", settings.sdk_precision)
        return sdk.contents(
            config, manifest.read_manifest(folder), manifest.read_golden(folder / "golden"), folder, pair
        )

    return make
