"""Models and builds that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result


@pytest.fixture
def run_cli():
    """Run `twinkeel` in this process; a TwinkeelError is the result's exception."""
    from twinkeel.pipeline.cli import cli

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments])

    return run


@pytest.fixture(scope="session")
def default_build(tmp_path_factory):
    """(folder, result, messages) of the default build: digits, trained, all Android artifacts."""
    from twinkeel.model import mobilenet_v2
    from twinkeel.pipeline import cli, runner
    from twinkeel.pipeline.config import Config

    out: Path = tmp_path_factory.mktemp("default")
    messages: list[str] = []
    result = runner.build(
        Config(), cli._targets(), mobilenet_v2.create, "android", out, lambda line, *_: messages.append(line)
    )
    return out, result, messages
