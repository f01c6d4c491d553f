"""Machines: terminals, homes, memory and disks; and trainings of few images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured import put
from situations import situation
from test_folders import folder
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import Dataset, Split
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.stages import train
from twinkeel.pipeline.tasks import classification

__all__ = ["folder"]
MAIN = "from twinkeel.pipeline.cli import main; main()"
ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


def run(code, *arguments, env=None, without=()):
    """A process of its own."""
    given = {key: value for key, value in os.environ.items() if key not in without} | (env or {})
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=given, capture_output=True, encoding="utf-8", errors="surrogateescape")
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done


@situation(
    "a folder with é and an emoji in its name, on a terminal that takes ASCII alone",
    "what cannot be shown is written as `\\xe9`",
    reported="yadayada/acd_cli#168",
)
def test_a_path_on_a_plain_terminal(folder, tmp_path):
    there = tmp_path / "sortie é 🍣"
    folder.parent.rename(there)
    done = run(MAIN, "verify", there / "android", env=ASCII)
    assert done.returncode == 0 and done.stdout.isascii(), done
    (there / "android" / "model.bin").write_bytes(b"changed")
    done = run(MAIN, "verify", there / "android", env=ASCII)
    assert done.returncode == 7 and "\\xe9" in done.stderr and "changed: model.bin" in done.stderr, done
    done = run(MAIN, "parity", there, env=ASCII)
    assert done.returncode == 7 and "\\xe9" in done.stderr, done


SAY = """
import sys
from twinkeel.pipeline import streams
from twinkeel.pipeline.report import terminal
from twinkeel.pipeline.tasks.classification.names import read_labels
from pathlib import Path
streams.prepare()
names = read_labels(Path(sys.argv[1]))
with terminal.progress(terminal.console(is_error=True)) as say:
    say(f"WARNING no images of '{names[0]}'")
terminal.console().print(f"names: {', '.join(names)}")
"""


@situation("names of classes with é and an emoji, on such a terminal", "the same", reported="projecthamster/hamster#94")
def test_names_on_a_plain_terminal(tmp_path):
    (tmp_path / "names.txt").write_text("brûlée\n🍣\n", encoding="utf-8")
    for env in (ASCII, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}):
        done = run(SAY, tmp_path / "names.txt", env=env)
        assert done.returncode == 0 and done.stdout.isascii() and done.stderr.isascii(), done
        assert "\\xfb" in done.stderr and "\\U0001f363" in done.stdout, done


@situation("`LANG=C`: files in UTF-8 all the same", "right")
def test_without_a_language(folder, tmp_path):
    for number, name in enumerate(("crème", "thé")):
        put(tmp_path / "set" / name, number, 4)
    code = "import sys; sys.path[:0] = sys.argv[2:]\nfrom coloured import load\nprint(ascii(load(sys.argv[1]).names))"
    env, without = {"LC_ALL": "C", "LANG": "C"}, ("PYTHONUTF8", "PYTHONIOENCODING")
    done = run(code, tmp_path / "set", Path(__file__).parent, env=env, without=without)
    assert done.stdout.strip() == ascii(("crème", "thé")), done
    assert run(MAIN, "verify", folder, env=env, without=without).returncode == 0


@situation(
    "a configuration that names `données`, where Python takes ASCII alone (`LC_ALL=C`, `PYTHONUTF8=0`)",
    "refused: what to set",
)
def test_names_of_files_that_python_does_not_take(tmp_path):
    (tmp_path / "twinkeel.toml").write_text('[data]\nsource = "folder"\npath = "données"\n', encoding="utf-8")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(MAIN, "build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", env=env)
    assert done.returncode == 1 and "PYTHONUTF8" in done.stderr and "\\xe9" in done.stderr, done
    assert not (tmp_path / "out").exists()


@situation("no `HOME`, as in containers", "results are kept where the user's home is by the system")
def test_without_a_home(folder):
    variables = ("HOME", "XDG_CACHE_HOME", "TWINKEEL_STORE", "USERPROFILE")
    assert run(MAIN, "verify", folder, without=variables).returncode == 0
    done = run(MAIN, "cache", "show", without=variables)
    assert done.returncode == 0 and "twinkeel" in done.stdout, done


LITTLE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 * 10**9, 4 * 10**9))
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.stages.weights import load_into
from coloured import load
load_into(mobilenet_v2.create(10, 0.2), Path(sys.argv[1]))
print(len(load(sys.argv[2]).held_out.images))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
@situation("4 GB of address space", "enough to load weights and images")
def test_little_memory(fixed_weights, tmp_path):
    for number, name in enumerate(("a", "b")):
        put(tmp_path / name, number, 5)
    done = run(LITTLE, fixed_weights, tmp_path, Path(__file__).parent)
    assert done.stdout.strip() == "2", done


FULL = """
import errno, os, sys, tempfile
there = os.path.realpath(tempfile.gettempdir())
def hook(event, arguments):
    path, writes = arguments[0] if arguments else None, event in ("os.mkdir", "os.rename", "os.link")
    if event == "open" and isinstance(path, (str, bytes)):
        writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes and os.path.realpath(os.fsdecode(path)).startswith(there + os.sep):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
sys.addaudithook(hook)
sys.path[:0] = sys.argv[4:]
from pathlib import Path
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.stages.weights import load_into
from coloured import load
load_into(mobilenet_v2.create(10, 0.2), Path(sys.argv[1]))
print(len(load(sys.argv[2]).held_out.images), manifest.verify(Path(sys.argv[3])))
try:
    tempfile.TemporaryDirectory()
except OSError as error:
    print(error.errno == errno.ENOSPC)
"""


@situation("`/tmp` is full", "weights and images are read, folders verified: nothing is written there")
def test_a_full_disk_for_what_is_temporary(fixed_weights, folder, tmp_path):
    (tmp_path / "full").mkdir()
    for number, name in enumerate(("a", "b")):
        put(tmp_path / "set" / name, number, 5)
    arguments = (fixed_weights, tmp_path / "set", folder, Path(__file__).parent)
    done = run(FULL, *arguments, env={"TMPDIR": str(tmp_path / "full")})
    assert done.stdout.split() == ["2", str(manifest.verify(folder)), "True"], done


@situation(
    "5 images in batches of 4: one is left for the last",
    "trains; it joins the batch before",
    reported="fastai/fastai#1352",
)
def test_a_last_batch_of_one_image(network, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    one = Split(images=images, truth=np.arange(5))
    data = Dataset(train=one, calibration=one, held_out=one, names=tuple("abcdefghij"))
    config = Config.model_validate({"train": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-4, "device": "cpu"}})
    model = network(1)
    before = model.state_dict()["features.0.0.weight"].clone()
    curve = train.train(model, data, config, classification, tmp_path / "state", lambda epoch, count: None)
    assert [epoch.epoch for epoch in curve] == [1] and np.isfinite(curve[0].loss)
    assert not torch.equal(model.state_dict()["features.0.0.weight"], before)
