"""The command line: fast to start, and one clear error for each bad input."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import click
import numpy as np
import pytest
import torch
from disturbed import ended, start
from PIL import Image
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import config as config_module
from twinkeel.pipeline.building import order
from twinkeel.pipeline.cli import cli
from twinkeel.pipeline.cli.common import targets
from twinkeel.pipeline.errors import ConfigError, TwinkeelError

HEAVY = (
    "torch",
    "torchao",
    "executorch",
    "litert_torch",
    "onnx",
    "onnxruntime",
    "coremltools",
    "sklearn",
    "matplotlib",
    "pydantic",
)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from twinkeel.pipeline.cli import cli\n"
        "try: cli(['--help'])\n"
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
    listed = run_cli("targets").output
    assert "android/litert: fp32, fp16, int8" in listed
    assert "ios/coreml: fp32, fp16, int8, w8, w4" in listed
    assert "ios/executorch_coreml: fp16, int8" in listed
    assert "3,504,872" in run_cli("models", "mobilenet_v2").output
    listed = run_cli("models", "ssdlite_mobilenet_v2", "ssdlite_residual", "deeplab_v3_mobilenet_v2").output
    assert "ssdlite_mobilenet_v2, 80 classes" in listed and "22.1 % mAP" in listed
    assert "ssdlite_residual, 80 classes" in listed  # as the others of its table
    assert "deeplab_v3_mobilenet_v2, 21 classes" in listed and "2,740,709,056" in listed
    refused = run_cli("models", "mobilenet_v4")
    assert refused.exit_code != 0 and "unknown architecture 'mobilenet_v4'" in str(refused.exception)


def test_models_are_counted_at_any_size(run_cli):
    square, oblong = (
        run_cli("models", "mobilenet_v2", "--width", "1", "--resolution", size).output for size in ("160", "128x320")
    )
    assert "154,083,200" in square
    # 1.6 times as many pixels for all but the last layer
    assert "128x320" in oblong and "245,765,120" in oblong
    for wrong in ("8", "2000", "32x", "x32", "32x32x32", "9" * 5000, "-32", "32.5"):
        refused = run_cli("models", "--width", "1", "--resolution", wrong)
        assert refused.exit_code == 2 and "is no size" in refused.output, refused.output[:300]


def _image_folder(root, classes=("a", "b"), files=6):
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(files):
            Image.fromarray(random.integers(0, 256, (20 + number, 40, 3), np.uint8)).save(root / name / f"{number}.png")
    return root


def _checkpoint(path, classes=10, width=0.35, damage=None):
    torch.manual_seed(0)
    model = mobilenet_v2.create(classes, width)
    with torch.no_grad():
        for _ in range(3):  # BatchNorm statistics: without, activations vanish, below what float16 can hold
            model(torch.randn(4, 3, 32, 32))
    state = model.state_dict()
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
    "resolution-huge": ("[model]\nresolution = 65536\n", None, "twinkeel.toml:2: model.resolution: must be 16 to 1024"),
    "resolution-tiny": ("[model]\nresolution = [15, 64]\n", None, "must be 16 to 1024 pixels each way, not [15, 64]"),
    "resolution-of-three": ("[model]\nresolution = [3, 64, 64]\n", None, "a number of pixels, or [height, width]"),
    "resolution-of-text": ('[model]\nresolution = "64"\n', None, "a number of pixels, or [height, width], not '64'"),
    "resolution-true": ("[model]\nresolution = true\n", None, "a number of pixels, or [height, width], not True"),
    "name-with-a-path": ('[project]\nname = "../../etc/x"\n', None, "letters, digits"),
    "unknown-data-source": ('[data]\nsource = "digit"\n', None, "Did you mean 'digits'"),
    "folder-without-path": ('[data]\nsource = "folder"\n', None, "needs path"),
    "path-without-folder": ('[data]\npath = "x"\n', None, "only read with source"),
    "mean-in-255": ("[data]\nmean = [123.0, 116.0, 103.0]\n", None, "0..255"),
    "mean-of-two": ("[data]\nmean = [0.5, 0.5]\n", None, "needs 3 numbers"),
    "mean-of-three-for-grey": (
        '[data]\nchannels = "grayscale"\nmean = [0.5, 0.5, 0.5]\nstd = [0.5]\n', None, "data.mean: needs 1 number"),
    "bgr-without-its-mean": ('[data]\nchannels = "bgr"\nstd = [0.5, 0.5, 0.5]\n', None, "needs mean in the order of"),
    "channels-in-american": ('[data]\nchannels = "gray"\n', None, "Did you mean 'grayscale'"),
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
    "limit-of-another-leg": (
        '[[limit]]\nleg = "fold"\nprecision = "int8"\nmetric = "snr_db"\nvalue = 95.0\n', None, "fold has no 'int8'"),
    "limit-of-the-fold-leg-loosened": (
        '[[limit]]\nleg = "fold"\nmetric = "snr_db"\nvalue = 5.0\n', None, "give a reason"),
    "limit-with-a-blank-reason": (
        '[[limit]]\nleg = "fold"\nmetric = "snr_db"\nvalue = 5.0\nreason = " "\n', None, "give a reason"),
    "limit-twice": (
        2 * '[[limit]]\nleg = "fold"\nmetric = "snr_db"\nvalue = 95.0\n', None, "fold float snr_db stands twice"),
    "limit-beyond-its-range": (
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "agreement"\nvalue = 95.0\n', None,
        "agreement lies between 0 and 1, not at 95"),
    "limit-that-nothing-can-miss": (
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "accuracy_drop"\nvalue = 2.0\nreason = "x"\n', None,
        "accuracy_drop lies between 0 and 1, not at 2"),
    "limit-of-what-is-not-built": (
        '[targets]\n"android/litert" = ["int8"]\n'
        '[[limit]]\nleg = "lower"\nprecision = "int8"\nmetric = "twin_error"\nvalue = 1e-6\n', None,
        "would change nothing"),
    "limit-of-int8-where-there-is-none": (
        '[targets]\n"android/litert" = ["fp32"]\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "snr_db"\nvalue = 20.0\n', None,
        "would change nothing"),
    "accuracy-accepted-with-blanks": (
        '[data]\naccept_accuracy = "  "\n[train]\nepochs = 1\nlearning_rate = 1e-9\n', None, "accept_accuracy ="),
    "ios-too-old": ('[ios]\nminimum_deployment_target = "iOS14"\n', None, "Known: iOS15"),
    "ios-no-text": ("[ios]\nminimum_deployment_target = 18\n", None, "minimum_deployment_target"),
    "only-other-platforms": ('[targets]\n"ios/coreml" = ["fp16"]\n', None, "names none of android"),
    "data-folder-missing": ('[data]\nsource = "folder"\npath = "nowhere"\n', None, "is no folder"),
    "data-one-class": (
        '[data]\nsource = "folder"\npath = "images"\n',
        lambda root: _image_folder(root / "images", classes=("only",)), "at least 2"),
    "data-broken-image": (
        '[data]\nsource = "folder"\npath = "images"\n',
        lambda root: (_image_folder(root / "images") / "a" / "z.jpg").write_bytes(b"no image"), "z.jpg"),
    "seed-beyond-64-bits": (f"[data]\nseed = 0x{'f' * 40}\n", None, "less than or equal to"),
    "number-of-thousands-of-digits": (f"[data]\nseed = {'9' * 5000}\n", None, "not valid TOML"),
    "file-of-megabytes": ("#" * 2**21, None, "bytes; at most"),
    "labels-missing": ('[data]\nlabels = "none.txt"\n', None, "cannot read data.labels"),
    "labels-too-few": (
        '[data]\nlabels = "l.txt"\n', lambda root: (root / "l.txt").write_text("a\nb\nc\n"), "3 lines, the data 10 classes"),
    "labels-twice": (
        '[data]\nlabels = "l.txt"\n', lambda root: (root / "l.txt").write_text("a\nb\na\n"), "line 3 repeats 'a'"),
    "labels-empty-line": (
        '[data]\nlabels = "l.txt"\n', lambda root: (root / "l.txt").write_text("a\n\nb\n"), "line 2 is empty"),
    "labels-with-controls": (
        '[data]\nlabels = "l.txt"\n', lambda root: (root / "l.txt").write_text("a\nb\x07\n"), "U+0007"),
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


LIMIT = '[[limit]]\nleg = "lower"\nprecision = "fp32"\nmetric = "snr_db"\nvalue = 95.0\n\n'


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('metric = "snr"\nvalue = 95.0\n', "twinkeel.toml:8: limit.metric: lower, int8 has no 'snr'"),
        ('metric = "snr_loss_db"\nvalue = 5.0\n', "twinkeel.toml:8: limit: snr_loss_db <= 5 is looser than 1"),
        ('metrik = "snr"\nvalue = 95.0\n', "twinkeel.toml:11: limit.1.metrik: unknown key"),
    ],
)
def test_an_error_of_a_limit_names_its_line(wrong, message, run_cli, tmp_path):
    last = '[[limit]]\nleg = "fold"\nmetric = "snr_db"\nvalue = 96.0\n'
    text = f'[model]\n{LIMIT}[[limit]]\nleg = "lower"\nprecision = "int8"\n{wrong}\n{last}'
    (tmp_path / "twinkeel.toml").write_text(text)
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out").exception)
    assert message in told, told


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "accuracy_drop",
            "twinkeel.toml:6: limit.metric: 'accuracy_drop' takes labels, and data.source = 'images' has none",
        ),
        ("accuracy_loss", "'accuracy_drop' takes labels, if 'accuracy_loss' means it, and"),
        ("agreementt", "Did you mean 'agreement'?"),
    ],
)
def test_a_limit_that_takes_labels_is_refused_without_them(metric, message, run_cli, tmp_path):
    text = f'[data]\nsource = "images"\npath = "x"\n[weights]\npath = "w.pth"\n[[limit]]\nleg = "lower"\nprecision = "w4"\nmetric = "{metric}"\nvalue = 0.1\n'
    (tmp_path / "twinkeel.toml").write_text(text)
    told = str(run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out").exception)
    assert message in told, told


@pytest.mark.parametrize(
    ("version", "precisions", "needed"),
    [("iOS17", ["w4"], 18), ("iOS16", ["fp16", "int8"], 17), ("iOS15", ["w8"], 16), ("iOS16", None, 17)],
    ids=["w4", "int8", "w8", "all"],
)
@pytest.mark.parametrize("platform", ["ios", "all"])
def test_a_precision_that_needs_a_later_ios_is_refused_before_any_work(
    platform, version, precisions, needed, run_cli, tmp_path
):
    text = f'[ios]\nminimum_deployment_target = "{version}"\n'
    if precisions is not None:
        text += f'[targets]\n"ios/coreml" = {precisions}\n'
    (tmp_path / "twinkeel.toml").write_text(text)
    result = run_cli("build", platform, "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out")
    assert isinstance(result.exception, ConfigError), result.output
    assert f"needs iOS {needed}" in str(result.exception) and f"'{version}'" in str(result.exception)
    assert "data:" not in result.output
    assert not (tmp_path / "out").exists()


def test_what_an_old_ios_can_run_is_accepted(tmp_path):
    read = config_module.Config.model_validate(
        {"ios": {"minimum_deployment_target": "iOS15"}, "targets": {"ios/coreml": ["fp32", "fp16"]}}
    )
    wanted = order.plan(read, targets(), "ios")
    assert [(t.NAME, p) for t, p in wanted] == [("ios/coreml", "fp32"), ("ios/coreml", "fp16")]


@pytest.mark.parametrize(
    ("package", "arguments"), [("fsspec", ["cache", "show"]), ("torch", ["models"]), ("psutil", ["parity", "x"])]
)
def test_a_package_that_is_missing_is_named(package, arguments, tmp_path):
    code = f"import sys; sys.modules[{package!r}] = None; from twinkeel.pipeline.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    told = f"error: the package '{package}' is not installed here, and this command needs it. `pip install twinkeel`"
    assert done.returncode == 2 and done.stderr.startswith(told) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "android", "-c", "missing.toml"],
        ["build", "ios", "-c", "missing.toml"],
        ["compare", "missing"],
        ["replay", "missing"],
        ["run", "missing", "missing"],
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


NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU6(), nn.Conv2d(16, 16, 1))
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.body(x)).mean((2, 3)))
"""


@pytest.mark.usefixtures("here")
def test_a_folder_of_images_and_a_checkpoint_build_twice_to_the_same_bytes(run_cli, tmp_path):
    """By the command and its processes, and in this process, where other converters were at work before."""
    root = _image_folder(tmp_path / "images", classes=("ant", "bee", "cat"), files=12)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 33), np.uint8)).save(root / "ant" / "grey.jpg")
    (tmp_path / "net.py").write_text(NET)
    torch.manual_seed(0)
    torch.save(runpy.run_path(str(tmp_path / "net.py"))["Net"](3).state_dict(), tmp_path / "w.pth")
    (tmp_path / "twinkeel.toml").write_text(
        '[model]\nfactory = "net.py:Net"\n[project]\nname = "mine"\n[data]\nsource = "folder"\npath = "images"\naccept_accuracy = "random weights"\n'
        '[weights]\npath = "w.pth"\n[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "snr_db"\nvalue = 0.0\nreason = "random weights"\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "accuracy_drop"\nvalue = 1.0\nreason = "random weights"\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "agreement"\nvalue = 0.0\nreason = "random weights"\n'
        '[[limit]]\nleg = "lower"\nprecision = "int8"\nmetric = "snr_loss_db"\nvalue = 60.0\nreason = "random weights"\n'
        '[[limit]]\nleg = "lower"\nprecision = "int8"\nmetric = "accuracy_drop"\nvalue = 1.0\nreason = "random weights"\n'
        # that each converter gives the same bytes is asked in test_targets.py
        '[quantize]\nminutes = 0\n[targets]\n"android/litert" = ["int8"]\n"android/onnx" = ["fp32"]\n"ios/coreml" = ["int8"]\n'
    )
    ended(start(tmp_path, tmp_path / "one", tmp_path / "store-one"))
    more = "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "two", "--store", tmp_path / "store-two"
    result = run_cli("build", "all", *more)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    for platform, count in (("android", 2), ("ios", 1)):
        first, second = (json.loads((tmp_path / n / platform / "manifest.json").read_text()) for n in ("one", "two"))
        assert first["labels"] == ["ant", "bee", "cat"]
        assert first["files"] == second["files"]
        assert len(first["artifacts"]) == count
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "3 of 3" in page and "mine: verified" in page and "Training" not in page  # the weights were given
    assert (tmp_path / "one" / "android" / "litert" / "mine-int8.tflite").is_file()
    assert (tmp_path / "one" / "ios" / "coreml" / "mine-int8.mlpackage" / "Manifest.json").is_file()


def _numbers(command, path=()):
    for name, child in getattr(command, "commands", {}).items():
        yield from _numbers(child, (*path, name))
    for option in command.params:
        if isinstance(option.type, click.types.FloatParamType):
            yield pytest.param(option, id=" ".join((*path, option.opts[0])))


@pytest.mark.parametrize("option", list(_numbers(cli)))
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_an_option_takes_numbers_alone(option, number):
    with pytest.raises(click.BadParameter, match=r"is not a finite number|is not in the range"):
        option.type.convert(number, option, None)


def places(group, context):
    """Parameters of all commands that are files, folders or addresses."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inside = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from places(command, inside)
        else:
            yield from (
                (command, one) for one in command.params if isinstance(one.type, click.Path) or one.name == "store_url"
            )


def test_no_place_is_what_a_variable_that_is_not_set_gives(run_cli, tmp_path):
    found = list(places(cli, click.Context(cli)))
    assert len(found) > 30
    for command, one in found:
        with pytest.raises(click.BadParameter, match=r"it is empty\. Is a variable not set"):
            one.type.convert("", one, click.Context(command))
    done = run_cli("sweep", "-o", "", "--plan")
    assert done.exit_code == 2 and "'--out'" in done.output and "it is empty" in done.output


def test_a_number_that_is_none_is_a_usage_error(run_cli, tmp_path):
    assert len(list(_numbers(cli))) >= 3
    for arguments in (
        ["replay", "--timeout", "nan"],
        ["cache", "prune", "--store", tmp_path / "store", "--max-gigabytes", "1e300"],
        ["models", "--width", "nan"],
    ):
        result = run_cli(*arguments)
        assert result.exit_code == 2 and f"Invalid value for '{arguments[-2]}'" in result.output, result.output


def test_explain_has_something_to_say(run_cli, tmp_path):
    result = run_cli("build", "all", "--explain", "--quiet", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "--explain" in result.output and "--quiet" in result.output
    result = run_cli("build", "all", "--explain", "--quiet", "--json", "-o", tmp_path / "out")
    assert result.exit_code == 0 and json.loads(result.stdout), result.output


def test_cli_is_a_group():
    assert {
        "init",
        "train",
        "build",
        "parity",
        "compare",
        "replay",
        "run",
        "sensitivity",
        "verify",
        "models",
        "targets",
    } <= set(cli.commands)


def test_a_build_replaces_nothing_that_no_build_wrote(run_cli, tmp_path):
    app = tmp_path / "android" / "app" / "build.gradle"
    app.parent.mkdir(parents=True)
    app.write_text("code")
    result = run_cli("build", "android", "-o", tmp_path, "--minutes", 0)
    assert isinstance(result.exception, TwinkeelError) and "holds what no build wrote (app)" in str(result.exception)
    assert app.read_text() == "code" and [p.name for p in tmp_path.iterdir()] == ["android"]


@pytest.mark.parametrize("out", ["photos", "photos/out", "calibration"])
def test_nothing_is_written_among_the_images(out, run_cli, tmp_path):
    """The next build would read its golden images."""
    for name in ("photos", "calibration"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "0.png")
    (tmp_path / "twinkeel.toml").write_text(
        '[model]\nresolution = 32\n[weights]\npath = "w.pth"\n'
        '[data]\nsource = "images"\npath = "photos"\ncalibration_path = "calibration"\n'
    )
    (tmp_path / "w.pth").touch()
    for command in (["build", "android"], ["train"]):
        done = run_cli(*command, "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / out, "--store", "none")
        assert isinstance(done.exception, ConfigError), done.exception
        if command == ["build", "android"]:
            assert "lies in the images, data." in str(done.exception), done.exception
        assert [path.name for path in (tmp_path / out.partition("/")[0]).iterdir()] == ["0.png"]


@pytest.mark.parametrize("name", ["android", "report.html"])
def test_a_file_of_the_users_own_is_not_replaced(run_cli, tmp_path, name):
    (tmp_path / name).write_text("mine")
    result = run_cli("build", "android", "-o", tmp_path, "--minutes", 0)
    assert isinstance(result.exception, TwinkeelError) and "--out" in str(result.exception)
    assert (tmp_path / name).read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["build.json", "report.html", "curves.csv"])
def test_a_folder_where_a_file_would_be_is_found_before_anything_is_made(run_cli, tmp_path, name):
    (tmp_path / name).mkdir()
    result = run_cli("build", "android", "-o", tmp_path, "--minutes", 0)
    assert isinstance(result.exception, TwinkeelError) and "is no file" in str(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[model]\ntask = "poses"\n', "twinkeel.toml: model.task: unknown task"),
        ("[data]\nmean = [nan, 0.0, 0.0]\n", "twinkeel.toml:2: data.mean"),
        ('[data]\nsource = "images"\npath = "x"\n', "twinkeel.toml: data.source = 'images' has no labels"),
        (
            '[data]\nsource = "images"\npath = "x"\n[weights]\npath = "w"\n[quantize]\nqat = "always"\n',
            "takes training",
        ),
        ('[ios]\nmodule = "Foundation"\n', "or a type that the package has itself"),
        ('[ios]\nmodule = "Con"\n', "'Con' is a device on Windows"),
        ('[project]\nname = "aux"\n', "'aux' is a device on Windows"),
        ('[android]\npackage = "com.lpt1.app"\n', "'lpt1' is a device on Windows"),
        (17 * '[[input]]\nname = "x"\nshape = [1]\nrange = [0.0, 1.0]\n', "17 are given, and at most 16 can be"),
        (
            '[[input]]\nname = "a"\nshape = [1]\nrange = [0.0, 1.0]\n[[input]]\nname = "A"\nshape = [1]\nrange = [0.0, 1.0]\n',
            "'a' and 'A' differ by case alone",
        ),
        ('[[output]]\nname = "Mask"\n[[output]]\nname = "mask"\n', "'Mask' and 'mask' differ by case alone"),
    ],
    ids=["task", "nan", "no weights", "qat", "word", "con", "aux", "lpt1", "17 inputs", "a and A", "masks"],
)
def test_an_error_of_the_file_names_it_once_and_says_the_value_once(run_cli, tmp_path, text, words):
    (tmp_path / "twinkeel.toml").write_text("\ufeff" + text)  # as some editors begin a file
    result = run_cli("build", "android", "-c", tmp_path / "twinkeel.toml", "--explain")
    assert isinstance(result.exception, ConfigError) and words in str(result.exception)
    assert "not 'Foundation'" not in str(result.exception) and ": :" not in str(result.exception)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_torch_does_not_see_is_an_error(run_cli, tmp_path, device, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (tmp_path / "twinkeel.toml").write_text(f'[train]\ndevice = "{device}"\n')
    result = run_cli("train", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, ConfigError) and f"sees no '{device}'" in str(result.exception)
