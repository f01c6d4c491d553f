"""A terminal or log that cannot take a character shows it escaped."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A Python for which the names of files are ASCII too."""
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


def test_names_of_files_that_this_python_cannot_have_are_one_error(tmp_path):
    (tmp_path / "twinkeel.toml").write_text('[data]\nsource = "folder"\npath = "b\u00efld"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "build", "android", "--explain", "--store", "none"],
        cwd=tmp_path,
        env={**os.environ, **ASCII},
        capture_output=True,
    )
    told = done.stderr.decode("ascii")
    assert done.returncode == 1 and told.startswith("error: ") and "LC_ALL=C.UTF-8" in told, told
    assert "Traceback" not in told and told.count("\n") == 1, told


@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "ascii"}, ASCII], ids=["io", "names"])
def test_labels_and_folders_are_escaped_in_a_build(encoding, fixed_weights, tmp_path):
    names = ["\u00e9", "\U0001f600", "\u72ac", *"cdefg", "\u00df", "nine"]
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    (tmp_path / "twinkeel.toml").write_text(
        f'[model]\nwidth = 0.2\n[weights]\npath = "{fixed_weights}"\n[data]\nlabels = "labels.txt"\ncalibration = 8\nheld_out = 0.05\n'
        '[quantize]\nminutes = 0\n[targets]\n"android/onnx" = ["fp32"]\n[project]\nauthor = "Zo\u00eb"\n',
        encoding="utf-8",
    )
    out = f"out-{NAME}"
    for arguments in (
        ("build", "android", "-o", out),
        ("build", "android", "-o", out, "--json"),
        ("parity", f"{out}/android"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments], cwd=tmp_path, env={**os.environ, **encoding}, capture_output=True
        )
        told = (done.stdout + done.stderr).decode("ascii")
        assert "Traceback" not in told and (done.returncode == 0 or "LC_ALL=C.UTF-8" in told), told
        assert done.returncode == 0 or encoding is ASCII, told
    assert (tmp_path / out / "android" / "labels.txt").read_text(encoding="utf-8").split() == names
