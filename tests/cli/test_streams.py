"""Standard streams that are closed, full, or read by nobody: the command ends as it would, or in one clear error."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

MAIN = "from twinkeel.pipeline.cli import main; main()"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
NO_ROOM = "error: cannot write to standard output: No space left on device. Make room, or send it elsewhere.\n"

# a target that needs no converter, run by the command as any other: in a process of its own
TOY = """
NAME = "android/toy"

def load(path):
    from twinkeel.pipeline.program import Loaded
    print("a runtime's own words", flush=True)
    return Loaded(run=lambda pixels: pixels.reshape(1, -1)[:, :5].astype("float32"))
"""
WITH_TOY = (
    "import toy; from twinkeel.pipeline.cli import common, main; common.targets = lambda: {toy.NAME: toy}; main()"
)


def twinkeel(*arguments, code=MAIN, closed=(), **streams):
    """Run the command with some descriptors closed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    redirections = " ".join(f"{number}>&-" for number in closed)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(["sh", "-c", f'exec "$@" {redirections}', "sh", *command], text=True, **streams)


@functools.cache
def undisturbed(*arguments):
    """The same with its streams open, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        return twinkeel(*arguments, cwd=folder)


@pytest.fixture
def toy_folder(tmp_path, finish, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 4), np.uint8)
    logits = images.reshape(3, -1)[:, :5].astype(np.float32)
    path = tmp_path / "android" / "toy.bin"
    path.parent.mkdir()
    path.write_bytes(b"toy")
    artifacts = [("android/toy", "toy", "fp32", path, "fp32", "runtime")]
    return finish(tmp_path / "android", artifacts, {"fp32": logits, "int8": logits}, ("a", "b", "c"), images)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)], ids=str)
def test_workers_do_their_work_with_streams_that_are_closed(closed, toy_folder):
    done = twinkeel("parity", toy_folder, code=WITH_TOY, closed=closed)
    assert done.returncode == 0, done
    assert done.stderr == "" and ("ok     android/toy fp32: lower: snr_db" in done.stdout) == (1 not in closed), done


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_so_do_those_of_a_program_without_the_command(closed, tmp_path):
    code = (
        "import os, sys; from twinkeel.pipeline.store.workers import Workers\n"
        "number = Workers(1).submit(os.getpid).result()\n"
        "open(sys.argv[1], 'w').write(str(number != os.getpid()))"
    )
    done = twinkeel(tmp_path / "note", code=code, closed=closed)
    assert done.returncode == 0 and (tmp_path / "note").read_text() == "True", done


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize(
    ("arguments", "code"), [(["targets"], 0), (["--help"], 0), (["verify", "nowhere"], 7), (["symbian"], 2)], ids=str
)
def test_a_closed_stream_is_as_the_null_device(arguments, code, closed, tmp_path):
    opened = undisturbed(*arguments)
    done = twinkeel(*arguments, closed=closed, cwd=tmp_path)
    assert done.returncode == opened.returncode == code, done
    assert done.stdout == ("" if 1 in closed else opened.stdout)
    assert done.stderr == ("" if 2 in closed else opened.stderr)


@FULL
@pytest.mark.parametrize(
    "arguments",
    [
        ["targets"],
        ["--help"],
        ["--version"],
        ["verify", "--help"],
        ["init", "x.toml"],
        ["cache", "show", "--store", "store"],
        ["cache", "show", "--json", "--store", "store"],
        ["build", "android", "-o", "out"],
        ["build", "android", "--explain", "-o", "out"],
    ],
    ids=" ".join,
)
def test_standard_output_on_a_full_disk_is_one_error(arguments, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = twinkeel(*arguments, stdout=full, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, NO_ROOM)
    assert not (tmp_path / "out").exists()


@FULL
def test_so_is_what_a_library_left_to_be_written(tmp_path):
    code = "from twinkeel.pipeline.cli import common, looking, main; looking.list_targets.callback = lambda: print('a word'); main()"
    with Path("/dev/full").open("w") as full:
        done = twinkeel("targets", code=code, stdout=full)
        assert (done.returncode, done.stderr) == (1, NO_ROOM)


@FULL
@pytest.mark.parametrize(
    ("arguments", "code"), [(["targets"], 0), (["verify", "nowhere"], 7), (["symbian"], 2)], ids=str
)
def test_standard_error_on_a_full_disk_changes_nothing(arguments, code, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = twinkeel(*arguments, stderr=full, cwd=tmp_path)
        assert done.returncode == code and bool(done.stdout) == (code == 0)
        assert twinkeel(*arguments, stdout=full, stderr=full, cwd=tmp_path).returncode == (code or 1)


def test_standard_output_that_is_open_for_reading_alone_is_one_error():
    with Path(os.devnull).open() as reading:
        done = twinkeel("targets", stdout=reading)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write to standard output: Bad file"), done
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "stream", "code"),
    [
        (["targets"], "stdout", 1),
        (["--help"], "stdout", 1),
        (["cache", "show", "--store", "store"], "stdout", 1),
        (["verify", "nowhere"], "stderr", 7),
        (["symbian"], "stderr", 2),
    ],
    ids=str,
)
def test_a_reader_that_has_gone_ends_the_command_without_a_word(arguments, stream, code, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = twinkeel(*arguments, cwd=tmp_path, **{stream: writing})
    finally:
        os.close(writing)
    assert done.returncode == code and not done.stdout and not done.stderr, done


def test_a_pipe_that_does_not_wait_gets_everything():
    code = "from twinkeel.pipeline.cli import common, looking, main; looking.list_targets.callback = lambda: common.echo('x' * 10**6); main()"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading) as stream:
        got = []
        thread = threading.Thread(target=lambda: got.append(stream.read()))
        thread.start()
        try:
            done = twinkeel("targets", code=code, stdout=writing)
        finally:
            os.close(writing)
        thread.join()
    assert done.returncode == 0 and got == ["x" * 10**6 + "\n"], done
