"""Models and builds that several test files share."""

from __future__ import annotations

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

    # DEV
    out: Path = tmp_path_factory.mktemp("default")
    messages: list[str] = []
    results = runner.build(
        Config(), cli._targets(), mobilenet_v2.create, cli.PLATFORMS, out, lambda line, *_: messages.append(line)
    )
    by_platform = {result.folder.name: result for result in results}
    return Build({name: result.folder for name, result in by_platform.items()}, by_platform, messages)
