"""The page on CI: its YAML can be read, its commands are there, and what it installs is enough."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from twinkeel.pipeline.cli import cli

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "ci.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def scripts(value):
    """Every ``run:`` below a part of a workflow."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from [item] if key == "run" else scripts(item)
    elif isinstance(value, list):
        for item in value:
            yield from scripts(item)


def commands(script):
    """The lines that call twinkeel, as a shell would cut them."""
    for line in script.splitlines():
        if line.strip().startswith("twinkeel "):
            words = shlex.split(line)
            ends = [n for n, word in enumerate(words) if word in (">", "||", "|", "&&", ";")]
            yield words[1 : min(ends, default=len(words))]


def check(words):
    """Raise where the command line would not take these words; nothing is run."""
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, parent=context, info_name=name)
    command.make_context(command.name, list(words))


def test_the_page_has_an_action_and_a_workflow():
    action, workflow = (yaml.safe_load(block) for block in BLOCKS)
    assert action["runs"]["using"] == "composite" and action["runs"]["steps"]
    assert set(workflow["jobs"]) == {"build", "replay", "diff"}
    assert workflow["jobs"]["replay"]["strategy"]["matrix"]["os"] == ["ubuntu-24.04", "ubuntu-24.04-arm", "macos-15"]
    assert all("runs-on" in job and job["steps"] for job in workflow["jobs"].values())


def test_every_step_of_an_action_says_its_shell():
    """GitHub refuses a composite action otherwise."""
    assert all("shell" in step for step in yaml.safe_load(BLOCKS[0])["runs"]["steps"] if "run" in step)


def test_every_command_is_there():
    found = [words for block in BLOCKS for script in scripts(yaml.safe_load(block)) for words in commands(script)]
    assert {words[0] for words in found} == {"build", "verify", "cache", "replay", "diff"}
    for words in found:
        check(words)


@pytest.mark.parametrize("words", [["diff", "old", "new", "--no-such"], ["no-such"], ["cache", "no-such"]], ids=str)
def test_a_command_that_is_not_there_is_found(words):
    with pytest.raises(click.UsageError):
        check(words)


def test_no_text_of_a_pull_request_stands_in_a_script():
    """A branch may be called anything: a shell gets its name from the environment."""
    for block in BLOCKS:
        for script in scripts(yaml.safe_load(block)):
            assert "${{" not in script
