"""A build that is asked for again: said again while nothing has changed, and looked at wherever something has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline import noted
from twinkeel.pipeline.cli import reads, unchanged

CODE = """
import atexit, os, sys
if os.path.exists("../asks"):  # whether it would look, at a fraction of the time
    from twinkeel.pipeline.cli import unchanged
    sys.exit(unchanged._last(unchanged._place()) is None)
atexit.register(lambda: print('LOOKED' if 'pydantic' in sys.modules else 'SAID AGAIN', file=sys.stderr))
from twinkeel.pipeline.cli import main
main()
"""
CONFIGURATION = """[model]
factory = "net.py:create"
resolution = 32
[weights]
from_factory = true
[data]
source = "folder"
path = "images"
held_out = 0.5
accept_accuracy = "untrained"
[targets]
"android/onnx" = ["fp32"]
"""
NET = """
import torch
from beside import FEATURES
from torch import nn


def create(num_classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(FEATURES, num_classes)).eval()
"""


def _environment(**more):
    """pytest's own changes from test to test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | more


def _run(root, *arguments, code=CODE, **options):
    command = ["build", "android", "-o", "out", "--store", "store", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": _environment()} | options
    return subprocess.run([sys.executable, "-c", code, *command], cwd=root, text=True, **options)


def _looked(root, *arguments, **options) -> bool:
    """Whether a build that ends well was more than said again."""
    done = _run(root, *arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stderr.splitlines()[-1]
    assert told in ("LOOKED", "SAID AGAIN"), done.stderr
    return told == "LOOKED"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project that was built, and what that said."""
    root = tmp_path_factory.mktemp("project")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "images" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(root / f"images/{name}/{number}.png")
    (root / "images").rename(root / "photos-1")
    shutil.copytree(root / "photos-1", root / "photos-2")
    (root / "images").symlink_to("photos-1")
    (root / "photos-1" / "cat" / "late.png").symlink_to("../../late.png")  # a disk that is mounted later, perhaps
    (root / "twinkeel.toml").write_text(CONFIGURATION)
    (root / "net.py").write_text(NET)
    (root / "beside.py").write_text("FEATURES = 8 * 8 * 8\n")
    done = _run(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_the_same_is_said_as_by_a_build_that_looks(built, tmp_path, monkeypatch):
    again = _run(built)
    assert again.stderr.splitlines()[-1] == "SAID AGAIN"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing is kept yet
    looked = _run(built)
    assert looked.stderr.splitlines()[-1] == "LOOKED"
    assert again.stdout == looked.stdout
    assert "nothing to do" in again.stdout and "all verified: out/android" in again.stdout


def test_json_and_lines_go_to_the_streams_that_they_went_to(built):
    first, second = (_run(built, "--json") for _ in range(2))
    assert (first.stderr.splitlines()[-1], second.stderr.splitlines()[-1]) == ("LOOKED", "SAID AGAIN")
    assert json.loads(second.stdout) == json.loads(first.stdout)
    assert second.stderr.replace("SAID AGAIN", "LOOKED") == first.stderr and "all verified" in first.stderr
    assert not _looked(built)


def _rewrite(path, change, *, keeps_time=True):
    """The content changed, with the size and the time that it had."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= change
    path.write_bytes(content)
    if keeps_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _of_the_store(root, part):
    return sorted(
        (path for path in (root / "store" / part).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def _lead(link, there):
    """Lead a link elsewhere, as a script does that points `best` at the last run."""
    link.unlink()
    link.symlink_to(there)


def _move(folder, there):
    folder.rename(there)
    folder.symlink_to(there)


CHANGES = {
    "where a link leads": lambda root: _lead(root / "images", "photos-2"),
    "a link that leads nowhere": lambda root: (root / "images").unlink(),
    "a link that leads somewhere by now": lambda root: shutil.copy(root / "images/cat/1.png", root / "late.png"),
    "a folder of its own that became a link": lambda root: _move(root / "out" / "android", root / "elsewhere"),
    "a folder inside that": lambda root: _move(root / "out" / "android" / "golden", root / "elsewhere"),
    "a file beside an image": lambda root: (root / "images" / "cat" / "0.txt").write_text("a caption"),
    "a setting": lambda root: (root / "twinkeel.toml").open("a").write("[project]\nversion = '3'\n"),
    "an image": lambda root: shutil.copy(root / "images/cat/1.png", root / "images/cat/2.png"),
    "one image more": lambda root: shutil.copy(root / "images/cat/1.png", root / "images/dog/new.png"),
    "one image less": lambda root: (root / "images/dog/3.png").unlink(),
    "the model": lambda root: (root / "net.py").write_text(NET.replace("seed(0)", "seed(1)")),
    "a module that the model imports": lambda root: (root / "beside.py").write_text("FEATURES = 512\n"),
    "an artifact": lambda root: _rewrite(next((root / "out").rglob("*.onnx")), 1),
    "a golden vector": lambda root: next((root / "out/android/golden").rglob("*.*")).unlink(),
    "the page": lambda root: (root / "out/report.html").unlink(),
    "all of it": lambda root: shutil.rmtree(root / "out"),
    "a record of the store": lambda root: _of_the_store(root, "records")[0].unlink(),
    "the store": lambda root: shutil.rmtree(root / "store"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_looked_at(change, built, tmp_path):
    """In a project of its own, after a build that kept what it said."""
    root = shutil.copytree(built, tmp_path / "project", symlinks=True)
    assert _looked(root)
    (tmp_path / "asks").touch()
    assert _run(root).returncode == 0
    CHANGES[change](root)
    assert _run(root).returncode == 1


def test_a_project_that_was_copied_finds_its_results(built, tmp_path):
    """With the store: a model is known by its sources, wherever they lie."""
    root = shutil.copytree(built, tmp_path / "project", symlinks=True)
    assert "nothing to do" in _run(root, "--explain").stdout
    shutil.rmtree(root / "out")
    done = _run(root)
    assert done.returncode == 0 and "nothing to do" in done.stdout, done.stdout


def test_what_was_changed_in_the_folder_is_put_right(built, tmp_path):
    root = shutil.copytree(built, tmp_path / "project", symlinks=True)
    assert _looked(root) and not _looked(root)
    artifact, page = next((root / "out").rglob("*.onnx")), root / "out/report.html"
    before = artifact.read_bytes(), page.read_bytes()
    _rewrite(artifact, 1)
    page.unlink()
    assert _looked(root)
    assert (artifact.read_bytes(), page.read_bytes()) == before
    assert not _looked(root)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--quiet"], {}), (["--minutes", "1"], {}), (["--out", "other"], {}), ([], {"OMP_NUM_THREADS": "2"})],
    ids=["quiet", "minutes", "out", "environment"],
)
def test_another_command_is_another_build(arguments, environment, built):
    assert not _looked(built)
    assert _looked(built, *arguments, env=_environment(**environment))
    shutil.rmtree(built / "other", ignore_errors=True)


def test_what_is_no_build_is_never_said_again(built):
    assert _looked(built, "--explain") and _looked(built, "--explain")


@pytest.mark.parametrize(
    ("spoil", "is_taken"),
    [
        (lambda kept: kept, True),
        (lambda kept: json.dumps(json.loads(kept) | {"time": time.time() - 25 * 3600}), False),
        (lambda kept: json.dumps(json.loads(kept) | {"time": time.time() + 3600}), False),
        (lambda kept: kept[:-20], False),
        (lambda kept: "{}", False),
        (lambda kept: "[" * 9999, False),
    ],
    ids=["whole", "of another day", "of tomorrow", "cut off", "empty", "deep"],
)
def test_an_answer_that_is_old_or_damaged_is_none(spoil, is_taken, tmp_path, monkeypatch):
    monkeypatch.setattr(unchanged, "_asked", (str(tmp_path / "kept.json"), _watch([])))
    unchanged.keep([[1, "said"]], "out", str(tmp_path / "store"), None)
    kept = tmp_path / "kept.json"
    kept.write_text(spoil(kept.read_text()))
    assert (unchanged._last(str(kept)) == [[1, "said"]]) == is_taken


def _watch(files):
    """One that has heard of these alone."""
    watch = reads.Watch.__new__(reads.Watch)
    watch.began = time.time_ns()
    watch.files, watch.folders, watch.links = {str(file) for file in files}, {str(file.parent) for file in files}, {}
    return watch


@pytest.mark.parametrize("is_idle", [True, False])
@pytest.mark.parametrize("changed", ["files/x", "files/new", "out/x"])
def test_what_changes_while_a_pass_runs_is_not_taken_for_what_it_read(changed, is_idle, tmp_path, monkeypatch):
    """The answer would be that of the file before."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "answers" / "kept.json"
    for name in ("files", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("a")
    time.sleep(0.1)
    watch = _watch([tmp_path / "files" / "x", tmp_path / "out" / "x"])
    monkeypatch.setattr(unchanged, "_asked", (str(place), watch))

    def again():
        time.sleep(0.05)
        (tmp_path / changed).write_text("b")

    if is_idle:
        again()
    unchanged.keep([[1, "said"]], "out", str(tmp_path / "store"), None if is_idle else again)
    assert not place.exists()
    watch.began = time.time_ns() + 1_000_000_000
    (tmp_path / "out" / "scratch").mkdir()
    unchanged.keep([[1, "said"]], "out", str(tmp_path / "store"), None)
    assert unchanged._last(str(place)) == [[1, "said"]]


def test_what_cannot_be_read_ends_no_build(tmp_path, monkeypatch):
    """A folder that was listed in vain, of another user, perhaps."""
    monkeypatch.setattr(unchanged, "_asked", (str(tmp_path / "kept.json"), _watch([tmp_path / "x"])))

    def refused(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(reads, "_names", refused)
    unchanged.keep([[1, "said"]], "out", str(tmp_path / "store"), None)
    assert not (tmp_path / "kept.json").exists()


def test_a_build_that_is_not_verified_is_never_said_again(built, tmp_path):
    root = shutil.copytree(built, tmp_path / "project", symlinks=True)
    limit = '[[limit]]\nleg = "lower"\nprecision = "fp32"\nmetric = "snr_db"\nvalue = 300\nreason = "to miss it"\n'
    (root / "twinkeel.toml").write_text(CONFIGURATION + limit)
    for _ in range(2):
        done = _run(root)
        assert done.returncode == 6 and done.stderr.splitlines()[-1] == "LOOKED", done.stderr


def test_a_file_that_is_younger_than_a_tick_is_known_by_its_content(tmp_path, monkeypatch):
    """Times and inode can be equal then, and the content another."""
    monkeypatch.chdir(tmp_path)
    file, store = tmp_path / "files" / "x", tmp_path / "store"
    file.parent.mkdir()
    place = tmp_path / "answers" / "kept.json"
    file.write_text("a")
    time.sleep(0.1)
    monkeypatch.setattr(unchanged, "_asked", (str(place), _watch([file])))
    unchanged.keep([[1, "said"]], "out", str(store), None)
    kept = json.loads(place.read_text())
    assert str(file) in kept["young"] and unchanged._last(str(place)) == [[1, "said"]]
    seen = {str(file): noted.seen_or_none(str(file))}
    file.write_text("b")
    monkeypatch.setattr(noted, "seen_or_none", lambda path, of=noted.seen_or_none: seen.get(path) or of(path))
    assert unchanged._last(str(place)) is None
    file.write_text("a")
    assert unchanged._last(str(place)) == [[1, "said"]]
    settled = json.loads(place.read_text())
    monkeypatch.setattr(noted, "SETTLED", 0)
    assert unchanged._last(str(place)) and settled["young"] and not json.loads(place.read_text())["young"]


def test_nothing_is_made_nor_put_anywhere_to_know_what_would_be_said(built, tmp_path):
    """A build whose results are not kept, as those of a ladder that was ended, is not made once more in silence; and one that another
    has built over since is not put back."""
    root = shutil.copytree(built, tmp_path / "project", symlinks=True)
    code = CODE.replace(
        "from twinkeel.pipeline.cli import main",
        "from twinkeel.pipeline.cli import main, unchanged\n"
        "import pathlib, shutil\n"
        "kept = unchanged.keep\n"
        "def keep(*given):\n"
        "    WHAT\n"
        "    kept(*given)\n"
        "unchanged.keep = keep",
    )
    for number, what in enumerate(("shutil.rmtree('store')", "pathlib.Path('out/android/manifest.json').unlink()")):
        shutil.copytree(built / "store", root / "store", symlinks=True, dirs_exist_ok=True)
        (root / "twinkeel.toml").write_text(CONFIGURATION + f"[project]\nversion = '2.{number}'\n")
        done = _run(root, code=code.replace("WHAT", what))
        assert done.returncode == 0 and "all verified" in done.stdout and "nothing to do" not in done.stdout, (
            done.stderr
        )
        assert (root / "store").exists() != what.startswith("shutil") and (root / "out/report.html").is_file()
        assert (root / "out/android/manifest.json").exists() == what.startswith("shutil")
        (tmp_path / "asks").touch()
        assert _run(root, code=code.replace("WHAT", what)).returncode == 1, "it was kept all the same"
        (tmp_path / "asks").unlink()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110
def test_streams_that_cannot_be_written_to_end_it_as_they_end_a_build(built):
    assert not _looked(built)
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = _run(built, stdout=full)
    assert done.returncode == 1 and done.stderr.splitlines()[0].startswith("error: cannot write to standard output")
    assert done.stderr.splitlines()[-1] == "SAID AGAIN" and "Traceback" not in done.stderr
    command = [sys.executable, "-c", CODE, "build", "android", "-o", "out", "--store", "store"]
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | true', "bash", *command],
        cwd=built,
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "Traceback" not in done.stderr and "SAID AGAIN" in done.stderr
