"""Checkpoints as people have them: wrappers, prefixes, objects beside the tensors, shards, and what is none of these."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import gzip
import io
import json
import os
import pathlib
import pickle
import random
import types
import uuid
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from twinkeel.pipeline.config import Weights
from twinkeel.pipeline.errors import WeightsError
from twinkeel.pipeline.stages import checkpoint
from twinkeel.pipeline.stages.checkpoints import stand_ins
from twinkeel.pipeline.stages.weights import load_into, outputs_in


class Net(nn.Module):
    def __init__(self, outputs=3, width=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.inner = nn.Conv2d(width, width, 3, groups=width)
        self.fc = nn.Linear(width, outputs)

    def forward(self, x):
        return self.fc(self.inner(self.stem(x)).mean((2, 3)))


def net(seed=0, outputs=3, width=4):
    torch.manual_seed(seed)
    made = Net(outputs, width)
    with torch.no_grad():
        for norm in [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.running_mean.uniform_(-1, 1)
    return made.eval()


@pytest.fixture
def kept(tmp_path):
    """Save something, and give its path."""

    def save(content, name="w.pth", **settings):
        torch.save(content, tmp_path / name, **settings)
        return tmp_path / name

    return save


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def assert_loads(path, seed, *said, **arguments):
    """The weights of `net(seed)` are what is loaded, and the line says these words."""
    target = net(99)
    told = load_into(target, path, **arguments)
    source = net(seed).state_dict()
    assert all(torch.equal(value, source[key]) for key, value in target.state_dict().items())
    assert all(words in told for words in said), told
    assert outputs_in(path, arguments.get("key")) == 3


# wrappers and prefixes

WRAPPERS = (
    "state_dict",
    "model",
    "net",
    "model_state_dict",
    "params",
    "weights",
    "module",
    "generator",
    "student.network.sd",
)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_dict_is_found_in_any_wrapper(wrapper, kept):
    content = net(1).state_dict()
    for key in reversed(wrapper.split(".")):
        content = {"epoch": 3, key: content, "best": 0.5}
    assert_loads(kept(content), 1, f"11 tensors of '{wrapper}'")


PREFIXES = (
    "module.",
    "model.",
    "_orig_mod.",
    "backbone.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "ema_model.module.",
    "lit.x.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_common_prefix_is_taken_off(prefix, kept):
    assert_loads(kept({"state_dict": prefixed(net(1).state_dict(), prefix)}), 1)


def test_a_compiled_part_leaves_its_mark_in_the_middle(kept):
    state = {key.replace("stem.", "stem._orig_mod."): value for key, value in net(1).state_dict().items()}
    assert_loads(kept(state), 1, "'_orig_mod.' taken out of 7 names")


def test_weights_of_the_inner_network_fit_the_outer(kept):
    target = nn.Sequential(collections.OrderedDict(body=net(2)))
    told = load_into(target, kept(net(1).state_dict()))
    assert torch.equal(target.body.fc.weight, net(1).fc.weight) and "prefix 'body.' put before" in told


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema", "params_ema", "swa_state"])
@pytest.mark.parametrize("is_first", [True, False])
def test_averaged_weights_are_taken_and_the_choice_is_said(averaged, is_first, kept):
    raw, ema = {"state_dict": net(1).state_dict()}, {averaged: net(2).state_dict()}
    path = kept(ema | raw if is_first else raw | ema)
    assert_loads(path, 2, f"of '{averaged}' (averaged (EMA); 'state_dict' fits too: weights.key)")
    assert_loads(path, 1, "11 tensors of 'state_dict'", key="state_dict")
    assert_loads(path, 2, key=averaged)


def test_averaged_weights_in_the_same_dictionary(kept):
    path = kept({"state_dict": prefixed(net(1).state_dict(), "model.") | prefixed(net(2).state_dict(), "ema_model.")})
    assert_loads(path, 2, "prefix 'ema_model.' taken off", "'state_dict.model' fits too")
    assert_loads(path, 1, key="state_dict.model")


def test_the_one_that_fits_is_taken_wherever_it_stands(kept):
    content = {
        "ema": net(2, outputs=7).state_dict(),
        "model": net(1).state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3, 4)}}},
    }
    target = net(99)
    assert "11 tensors of 'model'" in load_into(target, kept(content))
    assert torch.equal(target.fc.weight, net(1).fc.weight)


def test_a_key_that_leads_nowhere_names_what_there_is(kept):
    path = kept({"a": net().state_dict(), "b": {"c": {"x": torch.zeros(1)}}})
    with pytest.raises(
        WeightsError, match=r"no tensors at weights\.key 'state_dict'\. It has 'a' \(11\), 'b\.c' \(1\)"
    ):
        load_into(net(), path, key="state_dict")
    with pytest.raises(WeightsError, match=r"weights\.key"):
        outputs_in(path, "state_dict")


# objects beside the tensors


class Colour(enum.Enum):
    RED = 1


def beside():
    """By name; what is pickled of each differs."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.OneCycleLR(torch.optim.SGD([parameter], 0.1), 0.1, total_steps=9)
    table = collections.defaultdict(list)
    table["a"].append(np.float64(2))
    return {
        "namespace": argparse.Namespace(lr=0.1, path=pathlib.Path("x")),
        "simple namespace": types.SimpleNamespace(a=1),
        "numpy scalar": np.float64(0.5),
        "numpy array": np.arange(6).reshape(2, 3),
        "numpy objects": np.array([1, "a"], object),
        "numpy dtype": np.dtype("float32"),
        "numpy generator": (np.random.default_rng(0), np.random.RandomState(0), np.random.RandomState(0).get_state()),
        "path": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("b")],
        "defaultdict": table,
        "deque": collections.deque([1, 2], maxlen=4),
        "counter": collections.Counter("aab"),
        "frozen set": frozenset([1]),
        "date": [datetime.datetime(2020, 1, 1), datetime.timedelta(1), datetime.UTC],
        "uuid": uuid.UUID(int=1),
        "optimizer": optimizer,
        "optimizer state": optimizer.state_dict(),
        "schedule": schedule,
        "schedule state": schedule.state_dict(),
        "scaler": torch.amp.GradScaler("cpu"),
        "loss": nn.CrossEntropyLoss(weight=torch.ones(3)),
        "a class": [nn.ReLU, nn.BatchNorm2d, int, dict],
        "partial": functools.partial(int, base=2),
        "random": random.Random(0),
        "torch's": [torch.device("cpu"), torch.Size([1]), torch.float16, torch.__version__, torch.get_rng_state()],
    }


OF_LAYERS = ("loss", "a class")
"""The old format keeps the source of layers' classes, which torch refuses."""


@pytest.mark.parametrize("name", beside())
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old format"])
def test_objects_beside_the_tensors_do_not_matter(name, is_old, kept):
    content = {"args": beside()[name], "model": net(1).state_dict(), "more": {"deep": [beside()[name]]}}
    path = kept(content, _use_new_zipfile_serialization=not is_old)
    if is_old and name in OF_LAYERS:
        with pytest.raises(WeightsError, match="holds more than tensors"):
            load_into(net(), path)
        return
    assert_loads(path, 1)


def test_settings_of_other_packages_do_not_matter(kept):
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"a": [1, {"b": 2}], "c": "${a}"})
    assert_loads(kept({"config": config, "model": net(1).state_dict()}), 1)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
        "yacs.config.CfgNode",
        "easydict.EasyDict",
        "mmengine.logging.history_buffer.HistoryBuffer",
        "timm.utils.model_ema.ModelEmaV2",
    ],
)
def test_objects_of_packages_that_are_not_installed_do_not_matter(name, kept, monkeypatch):
    module, _, short = name.rpartition(".")
    parts = module.split(".")
    fake = types.ModuleType(module)
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(__import__("sys").modules, ".".join(parts[:end]), fake)
    base = dict if short.endswith(("Dict", "CfgNode")) else object
    made = type(short, (base,), {"__module__": module})
    setattr(fake, short, made)
    thing = made()
    thing.__dict__["rate"] = 1
    if base is dict:
        thing["a"] = made()
    path = kept({"hyper_parameters": thing, "by class": {made: 1}, "model": net(1).state_dict()})
    monkeypatch.undo()
    assert_loads(path, 1)


def test_what_is_on_no_list_is_refused_by_name(kept):
    path = kept({"state_dict": net().state_dict(), "mode": Colour.RED})
    with pytest.raises(WeightsError, match=r"holds more than tensors: '.*Colour', and is not opened.*run code"):
        load_into(net(), path)


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(folder):
    """What would make a folder, or end the process, if anything of it were run."""
    made = str(folder / "ran")
    payloads = {
        "mkdir": Payload(os.mkdir, made),
        "eval": Payload(eval, f"__import__('os').mkdir({made!r})"),
        "import": Payload(__import__, "this"),
        "partial": functools.partial(os.mkdir, made),
        "called partial": Payload(functools.partial(os.mkdir, made)),
        "model's layer": Payload(nn.Sequential, nn.Linear(1, 1)),
    }
    return payloads


PLACES = {
    "alone": lambda bad: bad,
    "as the model": lambda bad: {"model": bad},
    "as a tensor": lambda bad: net().state_dict() | {"fc.bias": bad},
    "beside": lambda bad: {"state_dict": net().state_dict(), "args": bad},
    "in a namespace": lambda bad: {"state_dict": net().state_dict(), "args": argparse.Namespace(a=[bad])},
    "in a state of an optimizer": lambda bad: {"model": net().state_dict(), "optimizer": {"state": {0: {"step": bad}}}},
    "in an array": lambda bad: {"model": net().state_dict(), "scores": np.array([bad], object)},
    "as a key": lambda bad: {"model": net().state_dict(), "callbacks": {(1, bad): 2}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("payload", hostile(pathlib.Path()))
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old format"])
def test_code_in_any_place_is_refused_and_not_run(place, payload, is_old, kept, tmp_path):
    bad = hostile(tmp_path)[payload]
    try:
        path = kept(PLACES[place](bad), _use_new_zipfile_serialization=not is_old)
    except Exception as error:
        pytest.skip(f"cannot be pickled: {error}")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WeightsError, match=r"run (its )?code"):
        load_into(net(), path)
    with pytest.raises(WeightsError):
        outputs_in(path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name",
    ["os.system", "posix.system", "nt.system", "builtins.eval", "builtins.exec", "builtins.__import__", "builtins.open", "subprocess.Popen",
     "torch.load", "torch.jit.load", "torch.hub.load", "runpy.run_path", "__main__.Config", "datetime", "numpyx.load", "operator.attrgetter"],
)  # fmt: skip
def test_no_stand_in_for_what_runs_things(name):
    assert stand_ins.stand_in(name) is None


def test_stand_ins_are_inert():
    assert stand_ins.stand_in("numpy.load") is stand_ins.Thing
    thing = stand_ins.Thing(1, a=2)
    thing.__setstate__({"a": 1})
    assert vars(thing) == {}


# what is no state dict


@pytest.mark.parametrize("wrapper", [None, "model"])
def test_a_whole_model_is_refused_with_what_to_do(wrapper, kept):
    path = kept(net() if wrapper is None else {wrapper: net(), "epoch": 1})
    with pytest.raises(WeightsError, match=r"a whole model, pickled \('.*Net'\).*state_dict\(\).*torch\.export\.save"):
        load_into(net(), path)


def test_programs_are_refused_and_named(tmp_path, kept):
    torch.jit.save(torch.jit.trace(net(), torch.zeros(1, 3, 8, 8)), tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="TorchScript program"):
        load_into(net(), tmp_path / "s.pt")
    torch.export.save(torch.export.export(net(), (torch.zeros(1, 3, 8, 8),)), tmp_path / "p.pt2")
    with pytest.raises(WeightsError, match=r"torch\.export program.*\[model\] exported"):
        load_into(net(), tmp_path / "p.pt2")
    np.savez(tmp_path / "n.npz", a=np.zeros(2))
    with pytest.raises(WeightsError, match="NumPy"):
        load_into(net(), tmp_path / "n.npz")


# damaged, cut off, or another kind than the name says


def saved(content, **settings):
    stream = io.BytesIO()
    torch.save(content, stream, **settings)
    return stream.getvalue()


def changed(raw, place):
    return raw[:place] + bytes([raw[place] ^ 255]) + raw[place + 1 :]


def test_no_changed_byte_of_an_archive_changes_a_weight(tmp_path):
    torch.manual_seed(0)
    source, path = nn.Linear(4, 3), tmp_path / "w.pth"
    raw = saved(source.state_dict())
    loaded = 0
    weights = raw.index(source.weight.detach().numpy().tobytes())
    for place in {
        *range(weights, weights + 48, 12),
        *range(raw.index(b"PK\x01\x02"), len(raw), 2),
        *range(0, len(raw), 19),
    }:
        path.write_bytes(changed(raw, place))
        target = nn.Linear(4, 3)
        try:
            load_into(target, path)
        except WeightsError as error:
            assert "damaged" in str(error), (place, error)
            assert (
                not weights <= place < weights + 48
                or "'archive/data/0' in it is not what was written. Copy it again" in str(error)
            )
            continue
        loaded += 1  # the byte was of padding or a date
        assert torch.equal(target.weight, source.weight) and torch.equal(target.bias, source.bias), place
        assert not weights <= place < weights + 48
    assert loaded


@pytest.mark.parametrize("is_summed", [True, False])
def test_an_archive_written_without_sums_loads(is_summed, kept):
    torch.serialization.set_crc32_options(is_summed)
    try:
        path = kept(net(1).state_dict())
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert any(entry.CRC for entry in archive.infolist()) == is_summed
    assert_loads(path, 1)


@pytest.mark.parametrize("name", ["w.pth", "pytorch_model.bin", "w.ckpt"])
def test_safetensors_of_another_name_load(name, tmp_path):
    save_file(net(1).state_dict(), tmp_path / name)
    assert_loads(tmp_path / name, 1)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="it is safetensors, and cut off or damaged"):
        load_into(net(), tmp_path / name)


def test_torchs_archive_of_the_other_name_is_named(kept):
    with pytest.raises(WeightsError, match=r"a zip archive, as torch\.save writes: let its name end in '\.pth'"):
        load_into(net(), kept(net().state_dict(), "w.safetensors"))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("wrapper", [None, "optimizer"])
def test_the_state_of_an_optimizer_alone_is_named(kind, wrapper, kept):
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = kind([parameter], 0.1)
    parameter.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    where = "" if wrapper is None else f" at '{wrapper}'"
    with pytest.raises(WeightsError, match=f"but the state of an optimizer{where}. The model's is wanted"):
        load_into(net(), kept(state if wrapper is None else {wrapper: state, "epoch": 1}))
    assert_loads(kept({"optimizer": state, "state": net(1).state_dict()}), 1)


HELD = {
    "arrays": (lambda s: {k: v.numpy() for k, v in s.items()}, r"11 arrays of NumPy \('stem\.0\.weight' \.\.\.\)\. Make.*from_numpy"),
    "arrays within": (lambda s: {"model": {k: v.numpy() for k, v in s.items()}}, "11 arrays of NumPy at 'model'"),
    "pairs": (lambda s: list(s.items()), r"a list of 11 pairs of a name and a tensor\. .*dict\(pairs\)"),
    "tensors": (lambda s: list(s.values()), "a list of 11, the first a tensor"),
    "bytes": (lambda s: {k.encode(): v for k, v in s.items()}, r"11 tensors under keys that are no names \(b'stem\.0\.weight'"),
    "numbers": (lambda s: dict(enumerate(s.values())), r"11 tensors under keys that are no names \(0 "),
    "tensor": (lambda s: s["fc.bias"], r"one tensor of shape \(3,\)"),
    "none": (lambda s: None, "Python's NoneType"),
    "settings": (lambda s: {"epoch": 1, "names": ["a"]}, r"a dictionary of 'epoch' \(Python's int\), 'names' \(Python's list\)\."),
    "empty": (lambda s: {}, "an empty dictionary"),
}  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_what_is_held_in_place_of_a_state_dict_is_said(name, kept):
    make, message = HELD[name]
    with pytest.raises(WeightsError, match=f"holds no state dict, but {message}"):
        load_into(net(), kept(make(net().state_dict())))


NO_CHECKPOINTS = {
    "text": (lambda: b"epoch 1\nloss 0.3\n" * 50, "is no checkpoint, but text: 'epoch 1'"),
    "letters": (lambda: "\u00e9".encode() * 301, "but text"),
    "half": (lambda: saved(net().state_dict())[:3000], "cut off or damaged: the archive has no end"),
    "all but its end": (lambda: saved(net().state_dict())[:-5], "cut off or damaged: the archive has no end"),
    "old, half": (lambda: saved(net().state_dict(), _use_new_zipfile_serialization=False)[:400], "older format does, but is damaged or cut off"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "is a plain pickle, not a file of torch.save"),
    "zeros": (lambda: bytes(3000), "begins with zeros alone"),
    "numpy": (lambda: b"\x93NUMPY\x01\x00" + bytes(100), "an array of NumPy"),
    "gzip": (lambda: gzip.compress(saved(net().state_dict())), "packed by gzip. Unpack it first"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), r"let its name end in '\.h5'"),
    "noise": (lambda: random.Random(0).randbytes(3000), "begins neither as torch's files nor as safetensors"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(name, tmp_path):
    make, message = NO_CHECKPOINTS[name]
    path = tmp_path / "w.pth"
    path.write_bytes(make())
    with pytest.raises(WeightsError, match=message) as caught:
        load_into(net(), path)
    assert "Error" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_a_later_protocol_of_pickles_is_named(kept):
    with pytest.raises(WeightsError, match=r"a protocol that torch does not read.*without pickle_protocol"):
        load_into(net(), kept(net(1).state_dict(), pickle_protocol=4))


# left over, and what does not fit


def test_counters_and_other_parts_are_left(kept):
    state = net(1).state_dict() | {"total_ops": torch.zeros(1), "stem.0.total_params": torch.zeros(1)}
    assert_loads(kept(state), 1, "left: 2 of counters ('total_ops')")
    parts = prefixed(net(1).state_dict(), "model.") | {"criterion.weight": torch.ones(3)}
    assert_loads(kept({"state_dict": parts}), 1, "left: 1 of other parts ('criterion.weight')")
    averaged = prefixed(net(1).state_dict(), "module.") | {"n_averaged": torch.tensor(3)}
    assert_loads(kept(averaged), 1)
    without = {key: value for key, value in net(1).state_dict().items() if "num_batches" not in key}
    assert "10 tensors" in load_into(net(), kept(without))


def test_one_small_layer_of_many_is_not_taken_for_the_model(kept):
    layers = {f"fc{n}.{key}": value for n in range(6) for key, value in nn.Linear(3, 2).state_dict().items()}
    with pytest.raises(WeightsError, match="which the model does not"):
        load_into(nn.Linear(3, 2), kept(layers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {k: v for k, v in s.items() if k != "inner.bias"},
            r"lacks the key ('module\.inner\.bias' \()?'inner\.bias'.*10 of the model's 11.*only a part",
        ),
        (
            lambda s: {k.replace("inner", "innner"): v for k, v in s.items()},
            r"has the key ('module\.innner\.bias' \()?'innner\.bias'.*\(the most like it: 'inner\.bias'\)",
        ),
        (lambda s: s | {"extra.weight": torch.zeros(2)}, r"'extra\.weight'.*All that the model has is there"),
        (lambda s: net(outputs=7).state_dict(), r"has 7 classes.*head = \"train\""),
        (lambda s: net(width=5).state_dict(), "another width"),
        (
            lambda s: {"resnet.a": torch.zeros(1)},
            r"has the key '(module\.)?resnet\.a'.*0 of the model's 11.*another architecture",
        ),
    ],
    ids=["a part", "another name", "more", "classes", "width", "another"],
)
def test_what_does_not_fit_is_explained(change, message, kept):
    for content in (change(net().state_dict()), {"state_dict": prefixed(change(net().state_dict()), "module.")}):
        with pytest.raises(WeightsError, match=message):
            load_into(net(), kept(content))


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(torch.float16, "float16"), (torch.bfloat16, "bfloat16"), (torch.float64, "float64 rounded to float32")],
)
def test_other_floats_are_converted_and_said(dtype, said, kept):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in net(1).state_dict().items()}
    target = net(2)
    assert said in load_into(target, kept(state))
    assert torch.equal(target.fc.weight, net(1).fc.weight.to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_other_numbers_are_refused(dtype, kept):
    state = net().state_dict()
    with pytest.raises(WeightsError, match=f"'fc.weight' is {dtype}.*dense real numbers"):
        load_into(net(), kept(state | {"fc.weight": torch.zeros(3, 4).to(dtype)}))


def test_attributes_that_a_file_gives_a_dictionary_are_not_called(kept):
    class State:
        def __reduce__(self):
            state = net(1).state_dict()
            return collections.OrderedDict, (), {"items": "no function", "keys": 1, "get": 2}, None, iter(state.items())

    assert_loads(kept(State()), 1)
    assert_loads(kept({"state_dict": State()}), 1)


# shards and folders


def sharded(folder, suffix="safetensors", change=lambda named: named):
    """Two files and their index, as Hugging Face's libraries write them."""
    folder.mkdir(exist_ok=True)
    state, named = net(1).state_dict(), {}
    base = "model" if suffix == "safetensors" else "pytorch_model"
    for number, keys in enumerate((list(state)[:4], list(state)[4:]), 1):
        name = f"{base}-{number:05}-of-00002.{suffix}"
        part = {key: state[key].clone() for key in keys}
        save_file(part, folder / name) if suffix == "safetensors" else torch.save(part, folder / name)
        named |= dict.fromkeys(keys, name)
    index = folder / f"{base}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": change(named)}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("by", ["index", "folder"])
def test_shards_are_loaded_by_their_index_or_folder(suffix, by, tmp_path):
    index = sharded(tmp_path / "m", suffix)
    (tmp_path / "m" / "config.json").write_text("{}")
    path, found = checkpoint.locate(Weights(path=str(index if by == "index" else index.parent)), tmp_path)
    assert path == index
    assert_loads(path, 1)
    assert found == checkpoint.expected_digest(Weights(path=str(index)))


@pytest.mark.parametrize("name", ["model.safetensors", "anything.safetensors", "pytorch_model.bin", "last.ckpt"])
def test_a_folder_with_one_checkpoint_is_that(name, tmp_path):
    (save_file if name.endswith("safetensors") else torch.save)(net(1).state_dict(), tmp_path / name)
    for other in ("optimizer.bin", "random_states_0.pkl", "scheduler.bin"):  # accelerate's
        (tmp_path / other).write_bytes(b"not read")
    assert_loads(checkpoint.locate(Weights(path=str(tmp_path)), tmp_path)[0], 1)


def test_a_folder_of_several_or_of_none_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="a folder without a checkpoint"):
        checkpoint.expected_digest(Weights(path=str(tmp_path)))
    for name in ("a.safetensors", "b.safetensors"):
        save_file(net().state_dict(), tmp_path / name)
    with pytest.raises(WeightsError, match=r"2 checkpoints, a\.safetensors, b\.safetensors"):
        checkpoint.expected_digest(Weights(path=str(tmp_path)))


@pytest.mark.parametrize(
    "file", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
)
def test_every_shard_is_part_of_the_digest(file, tmp_path):
    index = sharded(tmp_path)
    before = checkpoint.expected_digest(Weights(path=str(index)))
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes() + b" ")
    assert checkpoint.expected_digest(Weights(path=str(index))) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named | {"fc.bias": "../other.safetensors"}, r"'\.\./other\.safetensors', which is no file of weights beside it"),
        (lambda named: named | {"fc.bias": "/etc/passwd"}, "no file of weights beside it"),
        (lambda named: named | {"fc.bias": "a\\b.safetensors"}, "no file of weights beside it"),
        (lambda named: named | {"fc.bias": "model-00003-of-00002.safetensors"}, "is not beside it"),
        (lambda named: named | {"more": "model-00001-of-00002.safetensors"}, "has 'more', which it has not"),
        (lambda named: dict.fromkeys(named, 5), "no index"),
        (lambda named: [], "no index"),
    ],
)  # fmt: skip
def test_an_index_that_says_something_else_is_refused(change, message, tmp_path):
    save_file(net().state_dict(), tmp_path / "other.safetensors")
    index = sharded(tmp_path / "m", change=change)
    with pytest.raises(WeightsError, match=message):
        load_into(net(), checkpoint.locate(Weights(path=str(index)), tmp_path)[0])


# the real libraries, where they are


def test_the_real_lightning(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self, rate=0.1, settings=None):
            super().__init__()
            self.save_hyperparameters()
            self.model, self.criterion = net(1), nn.CrossEntropyLoss(weight=torch.ones(3))

        def training_step(self, batch, _):
            return self.criterion(self.model(batch), torch.zeros(len(batch), dtype=torch.long))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 0.0)

    callbacks = [lightning.callbacks.ModelCheckpoint(dirpath=tmp_path), lightning.callbacks.Timer()]
    trainer = lightning.Trainer(max_epochs=1, callbacks=callbacks, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    made = Module(settings=argparse.Namespace(path=pathlib.Path("x")))
    trainer.fit(made, torch.utils.data.DataLoader(torch.randn(4, 3, 8, 8), 2))
    trainer.save_checkpoint(tmp_path / "l.ckpt")
    target = net(2)
    assert "prefix 'model.' taken off" in load_into(target, tmp_path / "l.ckpt")
    assert torch.equal(target.fc.weight, made.model.fc.weight)


class Saved(nn.Module):
    """Gives a state dict as its own."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def state_dict(self, *arguments, **settings):
        return dict(self.state)


def test_the_real_accelerate(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    state = net(1).state_dict() | {"stem.0.total_params": torch.zeros(2000)}  # more than a shard
    accelerator.save_model(Saved(state), str(tmp_path), max_shard_size="8KB")
    path, _ = checkpoint.locate(Weights(path=str(tmp_path)), tmp_path)
    assert path.name.endswith("index.json")
    assert_loads(path, 1, "left: 1 of counters")


def test_the_real_timm(tmp_path):
    pytest.importorskip("timm")
    from timm.utils import CheckpointSaver, ModelEmaV3

    made = net(1)
    averaged = ModelEmaV3(made)
    averaged.module.load_state_dict(net(2).state_dict())
    settings = argparse.Namespace(model="net", path=pathlib.Path("x"))
    saver = CheckpointSaver(
        made,
        torch.optim.SGD(made.parameters(), 0.1),
        settings,
        averaged,
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(1, 50.0)
    assert_loads(tmp_path / "last.pth.tar", 2, "'state_dict_ema' (averaged (EMA); 'state_dict' fits too")
    assert_loads(tmp_path / "last.pth.tar", 1, key="state_dict")
