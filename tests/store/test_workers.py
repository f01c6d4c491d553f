"""Processes that do a part of the work: what they give, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twinkeel.pipeline.building.runner import IMPORTED
from twinkeel.pipeline.errors import ConfigError, WorkerError
from twinkeel.pipeline.store import workers
from twinkeel.pipeline.store.entries import Damaged
from twinkeel.pipeline.store.workers import Here, Workers

FORKED = pytest.param(
    IMPORTED, id="forked", marks=pytest.mark.skipif(sys.platform != "linux", reason="there they import it themselves")
)
ALL_KINDS = pytest.mark.parametrize("imported", [pytest.param("", id="fresh"), FORKED])


@pytest.fixture(params=[pytest.param("", id="fresh"), FORKED])
def two(request):
    with Workers(2, request.param) as executor:
        yield executor


def test_each_call_has_a_process_of_its_own(two):
    pids = {two.submit(os.getpid).result() for _ in range(3)}
    assert len(pids) == 3 and os.getpid() not in pids
    assert Here().submit(os.getpid).result() == os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="there they import it themselves")
def test_a_fork_has_what_was_imported_once_and_the_environment_and_folder_of_now(monkeypatch, tmp_path):
    with Workers(1, IMPORTED) as executor:
        assert executor.submit(_has, "torch._dynamo").result()
        monkeypatch.setenv("SET_AFTERWARDS", "yes")
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.chdir(tmp_path)
        assert executor.submit(os.getenv, "SET_AFTERWARDS").result() == "yes"
        assert executor.submit(os.getenv, "CI").result() is None
        assert executor.submit(os.getcwd).result() == str(tmp_path)
    with Workers(1) as executor:
        assert not executor.submit(_has, "torch").result()


def test_where_a_socket_has_no_place_each_process_imports_for_itself(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    code = (
        "import math\nfrom twinkeel.pipeline.store.workers import Workers\n"
        f"with Workers(1, {IMPORTED!r}) as executor:\n    print(executor.submit(math.sqrt, 9.0).result())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "3.0", "")


def test_errors_come_back_as_they_are(two):
    with pytest.raises(ConfigError, match="as it was"):
        two.submit(_fail, "config").result()
    with pytest.raises(Damaged) as found:
        two.submit(_fail, "damaged").result()
    assert found.value.key == "a key" and found.value.what == "a file"
    with pytest.raises(ValueError, match="bad"):
        Here().submit(_fail, "value").result()


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGSEGV, "SIGSEGV: a crash"), (signal.SIGKILL, "SIGKILL: out of memory")]
)
def test_a_process_that_dies_fails_its_own_call_and_no_other(number, told, two):
    dying, living = two.submit(_die, number), two.submit(os.getpid)
    with pytest.raises(WorkerError, match=told) as error:
        dying.result()
    assert "last words: I was about to" in str(error.value)
    assert living.result() > 0


def test_a_process_that_leaves_is_an_error(two):
    with pytest.raises(WorkerError, match="exit code 3"):
        two.submit(os._exit, 3).result()


@ALL_KINDS
def test_what_runs_is_stopped_with_the_build(imported):
    executor = Workers(1, imported)
    future = executor.submit(time.sleep, 600)
    while not executor._running:
        time.sleep(0.01)
    executor.shutdown(cancel_futures=True)
    assert isinstance(future.exception(), WorkerError)


@ALL_KINDS
def test_workers_end_with_a_parent_that_is_killed(imported, tmp_path):
    (tmp_path / "parent.py").write_text(
        "import sys\nfrom twinkeel.pipeline.store.workers import Workers\nsys.path.insert(0, sys.argv[2])\n"
        "import child\n"
        f"if __name__ == '__main__':\n    Workers(1, {imported!r}).submit(child.work, sys.argv[1]).result()\n"
    )
    (tmp_path / "child.py").write_text(
        "import os, time\ndef work(path):\n    open(path, 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
    )
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(note), str(tmp_path)])
    try:
        while not (note.is_file() and note.read_text()):
            assert parent.poll() is None
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    pid, deadline = int(note.read_text()), time.monotonic() + 20
    while _is_alive(pid):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


@ALL_KINDS
def test_what_a_crash_leaves_is_not_spoken_of(imported, tmp_path):
    (tmp_path / "parent.py").write_text(
        "import sys\nfrom twinkeel.pipeline.store import workers\nsys.path.insert(0, sys.argv[1])\nimport child\n"
        "if __name__ == '__main__':\n    workers.quieten()\n"
        f"    print(workers.Workers(1, {imported!r}).submit(child.work).exception())\n"
    )
    (tmp_path / "child.py").write_text(
        "import multiprocessing, os\ndef work():\n    left = multiprocessing.Semaphore()\n    os._exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "exit code 1" in done.stdout and done.stderr == ""


def test_the_number_follows_cores_and_memory(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 16)
    for free, expected in ((100e9, 16), (4e9, 2), (1e8, 1)):
        monkeypatch.setattr(workers, "_free_memory", lambda free=free: int(free))
        assert workers.count() == expected
    monkeypatch.undo()
    assert 1 <= workers.count() <= workers.cores()


def test_a_result_is_made_on_one_thread_however_many_there_are():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with workers.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def _has(module):
    return module in sys.modules


def _fail(kind):
    raise {"config": ConfigError("as it was"), "damaged": Damaged("a key", "a file"), "value": ValueError("bad")}[kind]


def _die(number):
    os.write(2, b"I was about to")
    os.kill(os.getpid(), number)
    time.sleep(60)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False


@ALL_KINDS
def test_a_script_without_a_guard_is_not_run_again_by_its_workers(imported, tmp_path):
    script = tmp_path / "build.py"
    script.write_text(
        "import math\n"
        "from twinkeel.pipeline.store.workers import Workers\n"
        "print('run')\n"
        f"workers = Workers(1, {imported!r})\n"
        "print(workers.submit(math.sqrt, 9.0).result())\n"
        "workers.shutdown()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["run", "3.0"]), done.stderr
