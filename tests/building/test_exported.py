"""Saved `torch.export` programs as models: what is built of them, and what of a file is refused before anything is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from twinkeel.pipeline.cli import architectures
from twinkeel.pipeline.config import Config, load
from twinkeel.pipeline.errors import ConfigError, WeightsError
from twinkeel.pipeline.stages import pt2_file, pt2_graph


class Mixed(nn.Module):
    """What exported graphs differ in: views, lists, several outputs, constants, buffers that no state dict has."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.same = nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.pool = nn.MaxPool2d(2)
        self.register_buffer("mask", torch.linspace(0.5, 1, 8).view(1, 8, 1, 1), persistent=False)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.pool(nn.functional.hardswish(self.same(self.stem(x)))) * self.mask
        first, second = x.chunk(2, 1)
        largest, _ = second.flatten(2).max(2)
        joined = torch.cat([first.mean((2, 3)), largest, first.amax((2, 3)), second.mean((2, 3))], 1)
        return self.fc(self.drop(joined.view(x.shape[0], -1) + torch.tensor(0.25)))


class Plain(nn.Module):
    """What every runtime knows."""

    def __init__(self, classes=10, width=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.stem(x).mean((2, 3)))


def exported(model, path, example=(1, 3, 32, 32), **more):
    torch.export.save(torch.export.export(model, (torch.rand(example),), **more), path)
    return path


def mixed(classes=10):
    torch.manual_seed(0)
    model = Mixed(classes)
    with torch.no_grad():
        model(torch.randn(8, 3, 32, 32))  # BatchNorm statistics that are not 0 and 1
    return model.eval()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A file of one image at a time."""
    return exported(mixed(), tmp_path_factory.mktemp("program") / "mixed.pt2")


@pytest.mark.parametrize("batch", ["fixed", "dynamic"])
def test_the_program_gives_what_the_model_gave(batch, tmp_path):
    model = mixed()
    shapes = {"x": {0: torch.export.Dim("images", min=1, max=64)}}
    more = {"example": (2, 3, 32, 32), "dynamic_shapes": shapes} if batch == "dynamic" else {}
    path = exported(model, tmp_path / "x.pt2", **more)
    found = pt2_file.read(path)
    assert found.shape == (None if batch == "dynamic" else 1, 3, 32, 32) and found.outputs == 10
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(pt2_graph.load(path)(images), model(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pt2_graph.load(path)(images[:1]), model(images[:1]), rtol=1e-5, atol=1e-5)


def test_weights_of_another_state_are_taken(program):
    """As they come from the store, by the names that they had in the user's code."""
    one, other = pt2_graph.load(program), pt2_graph.load(program)
    assert "stem.0.weight" in one.state_dict()
    other.load_state_dict({key: torch.zeros_like(value) for key, value in one.state_dict().items()})
    with torch.no_grad():
        assert not other(torch.randn(2, 3, 32, 32)).any()


def test_one_tensor_under_two_names(tmp_path):
    model = mixed()
    model.same.weight = nn.Parameter(model.same.weight[:8])
    model.twice = nn.Linear(16, 16)
    model.twice.weight = nn.Parameter(model.fc.weight.new_ones(16, 16))
    model.fc = nn.Sequential(model.twice, nn.Linear(16, 16, bias=False), nn.Linear(16, 10))
    model.fc[1].weight = model.twice.weight
    path = exported(model, tmp_path / "x.pt2")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(pt2_graph.load(path)(images), model(images), rtol=1e-5, atol=1e-5)


SETTINGS = """[quantize]
minutes = 0
[targets]
"android/onnx" = ["fp32"]
[data]
accept_accuracy = "untrained"
"""


def test_a_program_is_built_and_known_by_its_content(run_cli, tmp_path):
    torch.manual_seed(0)
    exported(Plain().eval(), tmp_path / "one.pt2")
    path = tmp_path / "twinkeel.toml"
    path.write_text(f'[model]\nexported = "one.pt2"\n{SETTINGS}')
    arguments = ("build", "android", "-c", path, "-o", tmp_path / "out", "--store", tmp_path / "store")
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "out" / "android" / "manifest.json").read_text())
    assert manifest["model"]["name"] == "one" and manifest["model"]["weights"] == "of the exported program"
    code = f"import sys\nfrom twinkeel.pipeline.cli import cli\ncli({[str(a) for a in arguments]!r}, standalone_mode=False)\n"
    again = [sys.executable, "-c", code + "print('torch is there:', 'torch' in sys.modules)"]
    told = subprocess.run(again, capture_output=True, text=True, check=True).stdout
    assert "nothing to do" in told and "torch is there: False" in told
    (tmp_path / "one.pt2").rename(tmp_path / "other.pt2")
    path.write_text(f'[model]\nexported = "other.pt2"\n[project]\nname = "one"\n{SETTINGS}')
    told = run_cli(*arguments, "--explain").output
    assert "runs     folder android: model changed" in told  # it says the model's name
    assert "1 of 12 jobs would run, 1 more as far as these come out different" in told
    torch.manual_seed(1)
    exported(Plain().eval(), tmp_path / "other.pt2")
    assert "runs     weights: model changed" in run_cli(*arguments, "--explain").output


def test_photographs_without_labels_are_as_many_classes_as_the_program_has(tmp_path):
    from twinkeel.pipeline.building.jobs.data import _outputs, data_job

    path = exported(mixed(7), tmp_path / "x.pt2")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "images" / "one.png")
    data = {"source": "images", "path": str(tmp_path / "images")}
    config = architectures.checked(Config.model_validate({"model": {"exported": str(path)}, "data": data}))
    assert _outputs(config) == 7 and config.model.resolution == 32
    assert data_job(config).inputs["outputs of the exported program"] == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[model]\nexported = "x.pt2"\nname = "mobilenet_v2"', "name does not apply to an exported program"),
        ('[model]\nexported = "x.pt2"\nfactory = "a.py:b"', "factory does not apply"),
        ('[model]\nexported = "x.pt2"\n[weights]\npath = "w.pth"', r"has its weights inside: leave \[weights\] out"),
        ('[model]\nexported = "x.pt2"\nresolution = 64', "was exported for 32: leave it out"),
        ('[model]\nexported = "none.pt2"', "No such file|is no file"),
    ],
    ids=["name", "factory", "weights", "resolution", "file"],
)
def test_settings_that_do_not_fit_an_exported_program(text, words, program, tmp_path):
    (tmp_path / "x.pt2").write_bytes(program.read_bytes())
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises((ConfigError, WeightsError), match=words):
        architectures.architecture(architectures.checked(load(tmp_path / "x.toml")))


def test_a_number_of_outputs_that_the_data_does_not_have(program, run_cli, tmp_path):
    exported(mixed(7), tmp_path / "x.pt2")
    (tmp_path / "x.toml").write_text('[model]\nexported = "x.pt2"\n')
    result = run_cli("build", "android", "-c", tmp_path / "x.toml", "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, ConfigError)
    assert "model.exported: the model gives (1, 7), and the data has 10 classes" in str(result.exception)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x.mean((2, 3)) + y


@pytest.mark.parametrize(
    ("model", "examples", "words"),
    [
        (TwoInputs(), [(1, 3, 32, 32), (5, 3)], r"takes \(5, 3\) of type 7 beside the image"),
        (mixed(), [(2, 3, 32, 32)], r"takes \(2, 3, 32, 32\)"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten()), [(1, 2, 32, 32)], r"takes \(1, 2, 32, 32\)"),
        (Mixed().train(), [(1, 3, 32, 32)], "exported in training mode"),
        (nn.Sequential(nn.Flatten(), nn.Dropout().train(), nn.Linear(3072, 2)), [(1, 3, 32, 32)], "in training mode"),
    ],
    ids=["inputs", "batch", "two channels", "training", "dropout"],
)
def test_programs_of_another_kind(model, examples, words, tmp_path):
    path = tmp_path / "x.pt2"
    torch.export.save(torch.export.export(model, tuple(torch.rand(one) for one in examples)), path)
    with pytest.raises(WeightsError, match=words):
        pt2_graph.load(path)


def test_a_decomposed_program_is_told_from_a_whole_one(tmp_path):
    program = torch.export.export(Plain().eval(), (torch.rand(1, 3, 32, 32),)).run_decompositions()
    torch.export.save(program, tmp_path / "x.pt2")
    with pytest.raises(WeightsError, match="its layers were decomposed"):
        pt2_graph.load(tmp_path / "x.pt2")


# files that were made to harm


class Evil:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def rewritten(program, path, changes, *, compression=zipfile.ZIP_STORED):
    """A copy of an archive with other members: by name inside, what makes new content of the old one, None to leave it out."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w", compression) as new:
        root = old.namelist()[0].split("/")[0]
        members = {name.removeprefix(f"{root}/"): old.read(name) for name in old.namelist()}
        for name, change in changes.items():
            content = change(members.pop(name, b""))
            if content is not None:
                members[name] = content
        for name, content in members.items():
            new.writestr(name.removeprefix("!") if name.startswith("!") else f"{root}/{name}", content)
    return path


def of_json(change):
    """A change of a member that is JSON."""

    def changed(content):
        told = json.loads(content)
        change(told)
        return json.dumps(told).encode()

    return changed


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def target(name):
    def change(told):
        told["graph_module"]["graph"]["nodes"][1]["target"] = name

    return {MODEL: of_json(change)}


def argument(**arg):
    def change(told):
        told["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = arg

    return {MODEL: of_json(change)}


def weight(**more):
    def change(told):
        told["config"]["fc.weight"].update(more)

    return {WEIGHTS: of_json(change)}


def meta(**more):
    def change(told):
        told["config"]["fc.weight"]["tensor_meta"].update(more)

    return {WEIGHTS: of_json(change)}


def ints(*values):
    return [{"as_int": value} for value in values]


def bomb(told):
    """One number, repeated 10^12 times."""
    graph = told["graph_module"]["graph"]
    graph["nodes"][-1]["target"] = "torch.ops.aten.expand.default"
    graph["nodes"][-1]["inputs"] = [
        {"name": "self", "arg": {"as_tensor": {"name": graph["nodes"][0]["outputs"][0]["as_tensor"]["name"]}}},
        {"name": "size", "arg": {"as_ints": [10**6, 8, 16, 16]}},
    ]


HOSTILE = {
    "an operator of Python": (target("torch.load"), "calls 'torch.load'"),
    "a system call": (target("torch.os.system"), "operators of aten are known"),
    "attributes of an operator": (target("torch.ops.aten.add.__init__"), "operators of aten are known"),
    "the namespace's own": (target("torch.ops.aten.__class__.mro"), "operators of aten are known"),
    "loading a library": (target("torch.ops.load_library"), "operators of aten are known"),
    "another library": (target("torch.ops.quantized.conv2d.new"), "operators of aten are known"),
    "an extension": (target("#evil:op"), "operators of aten are known"),
    "a file that is read": (target("torch.ops.aten.from_file.default"), "no operator of a vision model"),
    "a file that is written": (target("torch.ops.aten.save.default"), "operators of aten|no operator of a vision model"),
    "unchecked indices": (target("torch.ops.aten._unsafe_index.Tensor"), "no operator of a vision model"),
    "eval": (target("_operator.methodcaller"), "operators of aten are known"),
    "an expression as an argument": (argument(as_expr={"expr_str": "__import__('os').system('x')"}), "not known"),
    "an argument of another kind": (argument(as_custom_obj={"name": "x", "class_fqn": "y"}), "not known"),
    "a value that is not there": (argument(as_tensor={"name": "nowhere"}), "no program that can be run"),
    "a value of 10^12 numbers": ({MODEL: of_json(bomb)}, "gives a tensor of shape"),
    "a pickled weight": (weight(use_pickle=True), "would have to be unpickled"),
    "a weight outside": (weight(path_name="../../model"), "would have to be unpickled"),
    "a shape beyond the bytes": (meta(sizes=ints(1000, 1000)), "not in its bytes"),
    "a shape of 10^18": (meta(sizes=ints(10**9, 10**9)), "not in its bytes"),
    "one number many times": (meta(sizes=ints(10**6, 10**6), strides=ints(0, 0)), "not in its bytes"),
    "strides beyond the bytes": (meta(strides=ints(16, 10**9)), "not in its bytes"),
    "a negative offset": (meta(storage_offset={"as_int": -4}), "no dense tensor"),
    "complex numbers": (meta(dtype=10), "no dense tensor"),
    "a custom object": ({"data/constants/custom_obj_0": lambda _: b"x"}, "would have to be unpickled"),
    "pickled weights": ({"data/weights/model.pt": lambda _: b"x"}, "would have to be unpickled"),
    "compiled code": ({"data/aotinductor/model/x.so": lambda _: b"x"}, "no part of one exported program"),
    "a second program": ({"models/other.json": lambda old: b"{}"}, "no part of one exported program"),
    "a member that leaves": ({"extra/../../../x": lambda _: b"x"}, "no part of one exported program"),
    "a member outside": ({"!/etc/x": lambda _: b"x"}, "its members lie in 2 folders"),
    "an older format": ({"!serialized_exported_program.json": lambda _: b"{}"}, "saved by torch 2.7 or before"),
    "big-endian numbers": ({"byteorder": lambda _: b"big"}, "its byteorder is b'big'"),
    "another schema": ({MODEL: of_json(lambda told: told["schema_version"].update(major=9))}, "is of schema 9; 8 is known"),
    "no JSON": ({MODEL: lambda _: b"{"}, "cannot read the exported program"),
    "deep JSON": ({MODEL: lambda _: b"[" * 10**5 + b"]" * 10**5}, "cannot read the exported program"),
    "other JSON": ({MODEL: lambda _: b"[]"}, "cannot read the exported program"),
    "no weights": ({WEIGHTS: lambda _: None}, "cannot read the exported program"),
    "NaN": ({"data/weights/weight_0": lambda old: b"\xff" * len(old)}, "holds NaN"),
    "half of a weight": ({"data/weights/weight_0": lambda old: old[:10]}, "not in its bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_hostile_file_holds_is_refused(case, program, tmp_path):
    changes, words = HOSTILE[case]
    path = rewritten(program, tmp_path / "x.pt2", changes)
    with pytest.raises(WeightsError, match=words) as raised:
        pt2_graph.load(path)
    text = str(raised.value)
    assert len(text) < 1000 and all(c.isprintable() for c in text), text


def test_a_copy_with_nothing_changed_is_read(program, tmp_path):
    """So that the cases above are refused for what they name."""
    pt2_graph.load(rewritten(program, tmp_path / "x.pt2", {"extra/note.txt": lambda _: b"x"}))


def test_example_inputs_and_guards_stay_closed(program, tmp_path):
    """torch would unpickle the one and run the other."""
    marks = [tmp_path / "unpickled", tmp_path / "guarded"]
    stream = io.BytesIO()
    torch.save(Evil(marks[0]), stream)

    def guarded(told):
        told["guards_code"] = [f"__import__('pathlib').Path({str(marks[1])!r}).touch()"]
        told["graph_module"]["graph"]["sym_int_values"]["s0"] = {
            "as_expr": {"expr_str": f"__import__('pathlib').Path({str(marks[1])!r}).touch()"}
        }

    for evil in (stream.getvalue(), pickle.dumps(Evil(marks[0]))):
        changes = {"data/sample_inputs/model.pt": lambda _: evil, MODEL: of_json(guarded)}  # noqa: B023
        path = rewritten(program, tmp_path / "x.pt2", changes)
        with torch.no_grad():
            assert pt2_graph.load(path)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
        assert not any(mark.exists() for mark in marks)
    with pytest.raises(Exception):  # noqa: B017  # what torch makes of it, so that the file is one that does harm
        torch.export.load(path)
    assert any(mark.exists() for mark in marks)


def test_archives_that_unpack_to_more_than_they_are(program, tmp_path):
    big = {"data/weights/weight_0": lambda _: b"\0" * 10**8}
    path = rewritten(program, tmp_path / "x.pt2", big, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="would unpack to 100,"):
        pt2_graph.load(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 1000, b"PK\5\6" + b"\0" * 18], ids=range(4))
def test_what_is_no_archive(content, tmp_path):
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pt2"):
        pt2_graph.load(tmp_path / "x.pt2")


@pytest.mark.parametrize("kind", ["huge", "pipe", "device", "folder"])
def test_what_is_no_plain_file(kind, tmp_path):
    path = tmp_path / "x.pt2"
    if kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(10**12)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    given = "/dev/zero" if kind == "device" else str(path)
    with pytest.raises(WeightsError, match=r"at most|no plain file"):
        architectures.checked(Config.model_validate({"model": {"exported": given}}))


@pytest.mark.parametrize(("channels", "count"), [("rgb", 1), ("grayscale", 3)])
def test_a_program_of_other_channels_names_the_setting(channels, count, tmp_path):
    model = nn.Sequential(nn.Conv2d(count, 2, 3), nn.Flatten(), nn.Linear(1800, 4))
    torch.export.save(torch.export.export(model.eval(), (torch.rand(1, count, 32, 32),)), tmp_path / "x.pt2")
    normalization = {"mean": [0.5], "std": [0.5]} if channels == "grayscale" else {}
    asked = Config.model_validate(
        {"model": {"exported": str(tmp_path / "x.pt2")}, "data": {"channels": channels, **normalization}}
    )
    with pytest.raises(
        ConfigError, match=rf"data.channels is '{channels}', and the program .* takes {count}: set it to"
    ):
        architectures.checked(asked)
