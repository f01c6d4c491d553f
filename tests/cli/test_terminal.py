"""A terminal or log that cannot take a character shows it escaped."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAME = "é-😀-ß"
MAIN = "from twinkeel.pipeline.cli import main; main()"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [("verify", NAME), ("init", f"{NAME}.toml"), ("cache", "show", "--store", NAME)], ids=" ".join
)
def test_what_an_encoding_does_not_have_is_escaped(encoding, arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    told = (done.stdout + done.stderr).decode(encoding)
    assert "Traceback" not in told, told
    shown = NAME.encode(encoding, "backslashreplace").decode(encoding)
    assert shown in told, told
    assert (done.returncode == 0) == (arguments[0] != "verify"), told
