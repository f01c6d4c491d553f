"""The command line: fast to start, and one clear error for each bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import config as config_module
from twinkeel.pipeline.cli import cli
from twinkeel.pipeline.errors import TwinkeelError

HEAVY = (
    "torch",
    "torchao",
    "executorch",
    "litert_torch",
    "onnx",
    "onnxruntime",
    "sklearn",
    "matplotlib",
    "pydantic",
)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from twinkeel.pipeline import cli\n"
        "try: cli.cli(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout, done.stdout


def test_init_writes_a_file_that_means_the_defaults(run_cli, tmp_path):
    assert run_cli("init", tmp_path / "twinkeel.toml").exit_code == 0
    assert config_module.load(tmp_path / "twinkeel.toml") == config_module.Config()
    assert run_cli("init", tmp_path / "twinkeel.toml").exit_code != 0


def test_targets_and_models_are_listed(run_cli):
    assert "android/litert: fp32, fp16, int8" in run_cli("targets").output
    assert "3,504,872" in run_cli("models", "--width", "1.0").output


def _image_folder(root, classes=("a", "b"), files=6):
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(files):
            Image.fromarray(random.integers(0, 256, (20 + number, 40, 3), np.uint8)).save(root / name / f"{number}.png")
    return root


def _checkpoint(path, classes=10, width=0.35, damage=None):
    torch.manual_seed(0)
    state = mobilenet_v2.create(classes, width).state_dict()
    if damage:
        damage(state)
    torch.save(state, path)
    return path


def _nan(state):
    state["features.0.0.weight"][0] = float("nan")


# id: (content of twinkeel.toml, what to prepare, a part of the message)
BAD_BUILDS = {
    "toml-syntax": ("[model\n", None, "not valid TOML"),
    "unknown-table": ("[modle]\nwidth = 1.0\n", None, "Did you mean 'model'"),
    "unknown-key": ("[model]\nwidht = 1.0\n", None, "twinkeel.toml:2: model.widht: unknown key 'widht'"),
    "wrong-type": ('[model]\nwidth = "wide"\n', None, "model.width"),
    "boolean-for-number": ("[train]\nepochs = true\n", None, "train.epochs"),
    "unknown-model": ('[model]\nname = "mobilenet_v3"\n', None, "Did you mean 'mobilenet_v2'"),
    "width-zero": ("[model]\nwidth = 0.0\n", None, "greater than 0"),
    "width-nan": ("[model]\nwidth = nan\n", None, "finite"),
    "resolution-not-a-multiple": ("[model]\nresolution = 100\n", None, "the nearest is 96"),
    "resolution-huge": ("[model]\nresolution = 65536\n", None, "1024"),
    "name-with-a-path": ('[project]\nname = "../../etc/x"\n', None, "letters, digits"),
    "unknown-data-source": ('[data]\nsource = "digit"\n', None, "Did you mean 'digits'"),
    "folder-without-path": ('[data]\nsource = "folder"\n', None, "needs path"),
    "path-without-folder": ('[data]\npath = "x"\n', None, "only read with source"),
    "mean-in-255": ("[data]\nmean = [123.0, 116.0, 103.0]\n", None, "0..255"),
    "mean-of-two": ("[data]\nmean = [0.5, 0.5]\n", None, "needs 3 numbers"),
    "std-zero": ("[data]\nstd = [0.0, 0.2, 0.2]\n", None, "not 0"),
    "held-out-all": ("[data]\nheld_out = 1.0\n", None, "less than 0.9"),
    "path-and-url": ('[weights]\npath = "a"\nurl = "https://h/x"\nsha256 = "x"\n', None, "not both"),
    "url-without-sha256": ('[weights]\nurl = "https://h/x"\n', None, "needs sha256"),
    "sha256-malformed": ('[weights]\nurl = "https://h/x"\nsha256 = "12"\n', None, "64 hexadecimal"),
    "unknown-target": ('[targets]\n"android/litter" = ["int8"]\n', None, "Did you mean 'android/litert'"),
    "impossible-precision": ('[targets]\n"android/onnx" = ["fp16"]\n', None, "has no precision 'fp16'"),
    "no-target-left": ('[targets]\n"android/onnx" = []\n', None, "no precision is left"),
    "limit-loosened-without-reason": (
        '[[limit]]\nleg = "lower"\nprecision = "int8"\nmetric = "snr_loss_db"\nvalue = 5.0\n', None, "give a reason"),
    "limit-unknown-metric": (
        '[[limit]]\nleg = "lower"\nprecision = "fp32"\nmetric = "snr"\nvalue = 95.0\n', None, "Did you mean 'snr_db'"),
    "data-folder-missing": ('[data]\nsource = "folder"\npath = "nowhere"\n', None, "is no folder"),
    "data-one-class": (
        '[data]\nsource = "folder"\npath = "images"\n',
        lambda root: _image_folder(root / "images", classes=("only",)), "at least 2"),
    "data-broken-image": (
        '[data]\nsource = "folder"\npath = "images"\n',
        lambda root: (_image_folder(root / "images") / "a" / "z.jpg").write_bytes(b"no image"), "z.jpg"),
    "weights-missing": ('[weights]\npath = "w.pth"\n', None, "is no file"),
    "weights-empty": ('[weights]\npath = "w.pth"\n', lambda root: (root / "w.pth").write_bytes(b""), "cannot read"),
    "weights-text": (
        '[weights]\npath = "w.safetensors"\n', lambda root: (root / "w.safetensors").write_text("hello"), "cannot read"),
    "weights-class-count": (
        '[weights]\npath = "w.pth"\n', lambda root: _checkpoint(root / "w.pth", classes=7), "7 classes"),
    "weights-width": (
        '[weights]\npath = "w.pth"\n', lambda root: _checkpoint(root / "w.pth", width=0.5), "another width"),
    "weights-nan": (
        '[weights]\npath = "w.pth"\n', lambda root: _checkpoint(root / "w.pth", damage=_nan), "NaN"),
    "weights-wrong-sha256": (
        f'[weights]\npath = "w.pth"\nsha256 = "{"0" * 64}"\n', lambda root: _checkpoint(root / "w.pth"), "SHA-256"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BUILDS, ids=str)
def test_a_bad_build_is_one_clear_error_and_leaves_nothing(case, run_cli, tmp_path):
    toml, prepare, message = BAD_BUILDS[case]
    (tmp_path / "twinkeel.toml").write_text(toml)
    if prepare is not None:
        prepare(tmp_path)
    result = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out")
    assert isinstance(result.exception, TwinkeelError), result.output
    assert result.exception.exit_code != 0
    assert message in str(result.exception)
    left = sorted(p.name for p in (tmp_path / "out").rglob("*")) if (tmp_path / "out").exists() else []
    assert left == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "android", "-c", "missing.toml"],
        ["parity", "missing"],
        ["verify", "missing"],
        ["build", "symbian"],
    ],
    ids=lambda a: "-".join(a[:2]),
)
def test_the_command_prints_one_message_and_no_traceback(arguments, tmp_path):
    code = "from twinkeel.pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr and "rror: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"schema_version": 99}', "[" * 5000],
    ids=["empty", "no-keys", "list", "newer", "deep"],
)
def test_a_damaged_manifest_is_refused(text, run_cli, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    result = run_cli("verify", tmp_path)
    assert isinstance(result.exception, TwinkeelError), repr(result.exception)


def test_a_folder_of_images_and_a_checkpoint_build_twice_to_the_same_bytes(run_cli, tmp_path):
    root = _image_folder(tmp_path / "images", classes=("ant", "bee", "cat"), files=12)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 33), np.uint8)).save(root / "ant" / "grey.jpg")
    _checkpoint(tmp_path / "w.pth", classes=3)
    (tmp_path / "twinkeel.toml").write_text(
        '[project]\nname = "mine"\n[data]\nsource = "folder"\npath = "images"\n[weights]\npath = "w.pth"\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "snr_db"\nvalue = 0.0\nreason = "random weights"\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "accuracy_drop"\nvalue = 1.0\nreason = "random weights"\n'
        '[[limit]]\nleg = "lower"\nprecision = "int8"\nmetric = "snr_loss_db"\nvalue = 60.0\nreason = "random weights"\n'
    )
    folders = []
    for name in ("one", "two"):
        result = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / name)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        folders.append(tmp_path / name / "android")
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in folders]
    assert manifests[0]["labels"] == ["ant", "bee", "cat"]
    assert manifests[0]["files"] == manifests[1]["files"]
    assert len(manifests[0]["artifacts"]) == 7
    assert (folders[0] / "litert" / "mine-int8.tflite").is_file()


def test_cli_is_a_group():
    assert {"init", "train", "build", "parity", "verify", "models", "targets"} <= set(cli.commands)
