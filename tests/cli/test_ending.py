"""A command that is told to end leaves nothing that is not finished."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import click
import pytest

STUCK = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` leaves it ignored, and so would the tests
from twinkeel.pipeline.building import runner
def work(*_):
    print("at work", flush=True)
    time.sleep(60)
runner.build_all = work
{prepare}
sys.argv = ["twinkeel", "build", "android", "--store", {store!r}, "--minutes", "0", "-o", {out!r}]
from twinkeel.pipeline.cli import main
main()
"""
IGNORED = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"


def started(out, prepare="", store="none"):
    """A build that has begun and does not come to an end."""
    code = STUCK.format(prepare=prepare, out=str(out), store=str(store))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line == "at work\n":
            return process
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_no_folder_of_work_is_left(number, tmp_path):
    out = tmp_path / "out"
    build = started(out)
    assert (out / ".twinkeel").is_dir()
    build.send_signal(number)
    _, told = build.communicate(timeout=60)
    assert build.returncode == (1 if number == signal.SIGINT else 128 + number), told
    assert not out.exists() and "Traceback" not in told, told


def test_what_is_kept_is_said(tmp_path):
    build = started(tmp_path / "out", store=tmp_path / "store")
    build.send_signal(signal.SIGINT)
    said, told = build.communicate(timeout=60)
    assert "the same command goes on from there" in said + told and told.endswith("stopped\n"), (said, told)


def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path):
    build = started(tmp_path / "out", IGNORED)
    build.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert build.poll() is None and (tmp_path / "out" / ".twinkeel").is_dir()
    build.terminate()
    assert build.wait(60) == 128 + signal.SIGTERM


ENDING = """
import atexit, os, signal, sys
from twinkeel.pipeline.cli import main
atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))  # as torchrun does, which has seen another process die
sys.argv = ["twinkeel", "models"]
main()
"""


def test_a_signal_to_a_process_that_ends_by_itself_changes_nothing():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr and "mobilenet_v2" in done.stdout, done.stderr


def test_the_end_of_a_file_is_no_ctrl_c(monkeypatch, capsys):
    """click takes both alike, and "stopped" would be all that is said of a file that is cut off."""
    from twinkeel.pipeline.cli import command

    def cut(*_, **__):
        try:
            raise EOFError("no data left in file")
        except EOFError as error:
            raise click.Abort from error

    monkeypatch.setattr(command.cli, "main", cut)
    monkeypatch.setattr(command, "_ends", [])
    with pytest.raises(EOFError, match="no data left"):
        command.main()
    assert "stopped" not in capsys.readouterr().err
