"""Checkpoints: layouts that load, files that are refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from twinkeel.model import efficientnet_lite, mobilenet_v2
from twinkeel.pipeline.config import Weights
from twinkeel.pipeline.errors import WeightsError
from twinkeel.pipeline.files import digest as file_digest
from twinkeel.pipeline.stages.checkpoint import locate
from twinkeel.pipeline.stages.checkpoints import keras_h5
from twinkeel.pipeline.stages.weights import Asked, load_into


def model(classes=5, width=0.35, seed=0):
    torch.manual_seed(seed)
    return mobilenet_v2.create(classes, width)


def to_timm(state):
    """torchvision's names to timm's, written independently of the loader."""
    repeats, names = (1, 2, 3, 4, 3, 3, 1), {}
    blocks = [(s, b) for s, n in enumerate(repeats) for b in range(n)]
    for key, value in state.items():
        m = re.match(r"features\.(\d+)\.(.*)", key)
        if not m:
            names[key.replace("classifier.1", "classifier")] = value
            continue
        index, rest = int(m.group(1)), m.group(2)
        if index == 0:
            new = rest.replace("0.", "conv_stem.", 1) if rest.startswith("0.") else rest.replace("1.", "bn1.", 1)
        elif index == 18:
            new = rest.replace("0.", "conv_head.", 1) if rest.startswith("0.") else rest.replace("1.", "bn2.", 1)
        else:
            order = (
                [("conv.0.0", "conv_dw"), ("conv.0.1", "bn1"), ("conv.1", "conv_pw"), ("conv.2", "bn2")]
                if index == 1
                else [("conv.0.0", "conv_pw"), ("conv.0.1", "bn1"), ("conv.1.0", "conv_dw"), ("conv.1.1", "bn2"),
                      ("conv.2", "conv_pwl"), ("conv.3", "bn3")]
            )  # fmt: skip
            old, short = next((o, s) for o, s in order if rest.startswith(o + "."))
            new = "blocks.{}.{}.{}{}".format(*blocks[index - 1], short, rest.removeprefix(old))
        names[new] = value
    return names


@pytest.mark.parametrize("layout", ["safetensors", "pth", "wrapped", "prefixed", "timm"])
def test_a_layout_loads_and_computes_the_same(layout, tmp_path):
    source, target = model(seed=1).eval(), model(seed=2).eval()
    state, path = source.state_dict(), tmp_path / "weights.pth"
    if layout == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    elif layout == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif layout == "prefixed":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    else:
        torch.save(to_timm(state) if layout == "timm" else state, path)
    load_into(target, path)
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(source(image), target(image))


def test_another_class_count_is_named(tmp_path):
    torch.save(model(classes=7).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"classifier\.1\.weight.*\(7, 1280\).*\(5, 1280\).*7 classes"):
        load_into(model(), tmp_path / "w.pth")


def test_another_width_is_named(tmp_path):
    torch.save(model(width=0.5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="another width"):
        load_into(model(), tmp_path / "w.pth")


def test_no_code_from_the_file_is_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"features.0.0.weight": Payload()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="run code"):
        load_into(model(), tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_url_is_fetched_once_and_checked(tmp_path):
    save_file(model().state_dict(), tmp_path / "w.safetensors")
    url, digest = (tmp_path / "w.safetensors").as_uri(), file_digest(tmp_path / "w.safetensors")
    path, found = locate(Weights(url=url, sha256=digest), tmp_path / "cache")
    assert file_digest(path) == found == digest
    with pytest.raises(WeightsError, match="SHA-256"):
        locate(Weights(url=url, sha256="0" * 64), tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [path.name]


# layouts of TensorFlow's networks


@pytest.fixture
def lite(monkeypatch):
    """Make a small EfficientNet-Lite with statistics in its BatchNorms."""
    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 1, 2, 5))
    monkeypatch.setattr(efficientnet_lite, "STAGES", tuple(efficientnet_lite.Stage(*stage) for stage in stages))

    def make(seed=0, classes=5, **settings):
        torch.manual_seed(seed)
        return with_statistics(efficientnet_lite.create(classes, 0.5, **settings))

    return make


def with_statistics(made):
    for norm in [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return made.eval()


def to_lite(state, blocks):
    """Our names to those of efficientnet-lite-pytorch, written independently of the loader."""
    found = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first == "classifier":
            found[f"_fc.{rest.removeprefix('1.')}"] = value
            continue
        number, _, inside = rest.partition(".")
        if int(number) in (0, blocks + 1):
            layer, _, name = inside.partition(".")
            ends = ("_conv_stem", "_bn0") if number == "0" else ("_conv_head", "_bn1")
            found[f"{ends[int(layer)]}.{name}"] = value
            continue
        plain = {"conv.0.0": "_depthwise_conv", "conv.0.1": "_bn1", "conv.1": "_project_conv", "conv.2": "_bn2"}
        expanded = {"conv.0.0": "_expand_conv", "conv.0.1": "_bn0", "conv.1.0": "_depthwise_conv", "conv.1.1": "_bn1",
                    "conv.2": "_project_conv", "conv.3": "_bn2"}  # fmt: skip
        layer, name = inside.rsplit(".", 1)
        found[f"_blocks.{int(number) - 1}.{(plain if number == '1' else expanded)[layer]}.{name}"] = value
    return found


def test_the_layout_of_efficientnet_lite_pytorch_loads(lite, tmp_path):
    source, target = lite(1), lite(2)
    torch.save(to_lite(source.state_dict(), 4), tmp_path / "w.pth")
    load_into(target, tmp_path / "w.pth")
    image = torch.randn(2, 3, 36, 36)
    assert torch.equal(source(image), target(image))


def test_weights_of_tensorflow_into_torch_padding_are_refused(lite, tmp_path):
    torch.save(to_lite(lite().state_dict(), 4), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r'Set model\.padding = "tensorflow"'):
        load_into(lite(padding="torch"), tmp_path / "w.pth")


def test_another_variant_and_a_damaged_layout_are_named(lite, tmp_path):
    state = to_lite(lite().state_dict(), 4)
    torch.save({k: v for k, v in state.items() if k != "_blocks.3._bn2.bias"}, tmp_path / "short.pth")
    with pytest.raises(
        WeightsError, match=r"lacks the key '_blocks\.3\._bn2\.bias' \('features\.4\.conv\.3\.bias' here\)"
    ):
        load_into(lite(), tmp_path / "short.pth")
    torch.save(state | {"_se_reduce.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(WeightsError, match=r"has the key '_se_reduce\.weight'"):
        load_into(lite(), tmp_path / "more.pth")


@pytest.fixture
def known(lite):
    """Networks that a checkpoint may be of."""
    return {"efficientnet_lite0": lambda outputs, width: efficientnet_lite.create(outputs, width),
            "mobilenet_v2": lambda outputs, width: mobilenet_v2.create(outputs, width)}  # fmt: skip


def test_of_another_architecture_it_is_said_which_before_the_padding(lite, known, tmp_path):
    torch.save(to_lite(lite().state_dict(), 4), tmp_path / "w.pth")
    asked = Asked(makes=known)
    with pytest.raises(
        WeightsError, match=r'Set model\.name = "efficientnet_lite0" and model\.width = 0\.5\.'
    ) as caught:
        load_into(mobilenet_v2.create(5, 0.35), tmp_path / "w.pth", asked=asked)
    assert "padding" not in str(caught.value)
    with pytest.raises(
        WeightsError,
        match=r"has the key '_conv_head\.weight' \('features\.5\.0\.weight' here\).*Is it another architecture\?",
    ):
        load_into(mobilenet_v2.create(5, 0.35), tmp_path / "w.pth")


def test_of_another_width_it_is_said_which(lite, known, tmp_path):
    torch.save(mobilenet_v2.create(7, 0.5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r'Set model\.name = "mobilenet_v2" and model\.width = 0\.5\.'):
        load_into(mobilenet_v2.create(5, 0.35), tmp_path / "w.pth", asked=Asked(makes=known))
    torch.save(mobilenet_v2.create(7, 0.6).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"called as those of 'mobilenet_v2' are, with other shapes"):
        load_into(mobilenet_v2.create(5, 0.35), tmp_path / "w.pth", asked=Asked(makes=known))


def test_a_shape_that_does_not_fit_is_named_as_in_the_file(lite, tmp_path):
    torch.save(to_lite(lite(classes=7).state_dict(), 4), tmp_path / "w.pth")
    asked = Asked(names=list("abcde"), can_train=False)
    with pytest.raises(
        WeightsError, match=r"'_fc\.weight' \('classifier\.1\.weight' here\) has shape \(7, 1280\)"
    ) as caught:
        load_into(lite(), tmp_path / "w.pth", asked=asked)
    told = str(caught.value)  # images without labels train no layer
    assert "head" not in told and "as many lines into the file that data.labels names" in told, told
    torch.save(
        {"state_dict": {f"module.{k}": v * torch.nan for k, v in model().state_dict().items()}}, tmp_path / "n.pth"
    )
    with pytest.raises(
        WeightsError, match=r"'module\.features\.0\.0\.weight' \('features\.0\.0\.weight' here\) holds NaN"
    ):
        load_into(model(), tmp_path / "n.pth")
    flipped = model().state_dict()
    flipped["features.0.0.weight"].view(torch.int32)[0, 0, 0, 0] ^= 1 << 30  # a bit of the exponent
    torch.save(flipped, tmp_path / "f.pth")
    with pytest.raises(
        WeightsError, match=r"'features\.0\.0\.weight' holds values up to .*e\+3\d, as no trained .* damaged"
    ):
        load_into(model(), tmp_path / "f.pth")


def layers_of(made):
    """(kind, name, arrays in Keras's order of dimensions, its settings) of each layer with weights."""
    found, names = [], iter(range(1000))
    for module in made.modules():
        number = next(names)
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().numpy()
            is_depthwise = module.groups > 1
            kernel = weight.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
            settings = {"strides": list(module.stride), "padding": "same", "activation": "linear"}
            kind = "DepthwiseConv2D" if is_depthwise else "Conv2D"
            found.append((kind, f"c{number}", {"kernel": kernel}, settings))
        elif isinstance(module, nn.BatchNorm2d):
            keys = {"gamma": module.weight, "beta": module.bias, "moving_mean": module.running_mean,
                    "moving_variance": module.running_var}  # fmt: skip
            arrays = {key: tensor.detach().numpy() for key, tensor in keys.items()}
            found.append(("BatchNormalization", f"n{number}", arrays, {"epsilon": module.eps}))
        elif isinstance(module, nn.ReLU6):
            found.append(("ReLU", f"r{number}", {}, {"max_value": 6.0}))
        elif isinstance(module, nn.Linear):
            arrays = {"kernel": module.weight.detach().numpy().T, "bias": module.bias.detach().numpy()}
            found.append(("Dense", f"d{number}", arrays, {"activation": "softmax"}))
    return found


def write_keras(path, layers, style="nested"):
    """An HDF5 as Keras writes it: "nested", the whole model, whose backbone is one layer with what is trained first; "flat",
    the whole model; "weights", without the model's configuration, and with the names of Keras 2."""
    h5py = pytest.importorskip("h5py")
    is_old = style == "weights"

    def named(kind, variable):
        variable = "depthwise_kernel" if is_old and (kind, variable) == ("DepthwiseConv2D", "kernel") else variable
        return f"{variable}:0" if is_old else variable

    configs = [{"class_name": kind, "config": {"name": name, **settings}} for kind, name, _, settings in layers]
    with h5py.File(path, "w") as file:
        root = file if is_old else file.create_group("model_weights")
        groups = {}
        for kind, name, arrays, _ in layers:
            where = "backbone" if style == "nested" and kind != "Dense" else name
            group = groups.setdefault(where, []) if arrays or where == "backbone" else groups.setdefault(name, [])
            group += [(f"{name}/{named(kind, variable)}", value) for variable, value in arrays.items()]
        for where, weights in groups.items():
            group = root.create_group(where)
            # a backbone is listed with its trainable weights first, from its end on where only that was trained
            order = (
                sorted(range(len(weights)), key=lambda n: n < len(weights) // 2)
                if where == "backbone"
                else range(len(weights))
            )
            group.attrs["weight_names"] = [weights[n][0] for n in order]
            for name, value in weights:
                group[name] = value
        root.attrs["layer_names"] = list(groups)
        if style == "nested":
            inner = {"class_name": "Functional", "config": {"name": "backbone", "layers": configs[:-1]}}
            configs = [inner, configs[-1]]
        if not is_old:
            file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": configs}})
    return path


@pytest.mark.parametrize("style", ["nested", "flat", "weights"])
@pytest.mark.parametrize("architecture", ["mobilenet_v2", "efficientnet_lite0"])
def test_keras_files_load_and_compute_the_same(architecture, style, lite, tmp_path):
    def made(seed):
        if architecture == "efficientnet_lite0":
            return lite(seed)
        torch.manual_seed(seed)
        return with_statistics(mobilenet_v2.create(5, 0.1, padding="tensorflow"))

    source, target = made(1), made(2)
    load_into(target, write_keras(tmp_path / "w.h5", layers_of(source), style))
    image = torch.randn(2, 3, 36, 36)
    assert torch.equal(source(image), target(image))


def changed(layers, number, **changes):
    kind, name, arrays, settings = layers[number]
    return [*layers[:number], (changes.pop("kind", kind), name, changes.pop("arrays", arrays), settings | changes), *layers[number + 1 :]]  # fmt: skip


FAULTS = {
    "epsilon": (lambda layers: changed(layers, 1, epsilon=1e-5), "epsilon 1e-05, the model's 'features.0.1' has 0.001"),
    "stride": (lambda layers: changed(layers, 0, strides=[1, 1]), r"strides \[1, 1\]"),
    "activation": (lambda layers: changed(layers, 2, max_value=None), "is relu, the model has relu6"),
    "swish": (lambda layers: changed(layers, 2, kind="Activation", activation="swish"), "is swish"),
    "sigmoid": (lambda layers: changed(layers, -1 % len(layers), activation="sigmoid"), "ends in sigmoid"),
    "another layer": (lambda layers: [*layers[:2], ("Lambda", "x", {}, {}), *layers[3:]], "'x' is a Lambda"),
    "a head of its own": (lambda layers: [*layers[:-1], ("Dense", "hidden", layers[-1][2], {}), layers[-1]], "one|first that is over"),
    "too few": (lambda layers: layers[:-1], "'classifier.1' is the first that is over"),
    "a bias more": (lambda layers: changed(layers, 0, arrays=layers[0][2] | {"bias": np.zeros(32, np.float32)}), r"has the key 'c\d+/bias' \('features\.0\.0\.bias' here\)"),
    "unknown array": (lambda layers: changed(layers, 0, arrays=layers[0][2] | {"u": np.zeros(32, np.float32)}), "has 'u'"),
    "NaN": (lambda layers: changed(layers, 0, arrays={"kernel": layers[0][2]["kernel"] * np.nan}), "NaN"),
    "whole numbers": (lambda layers: changed(layers, 0, arrays={"kernel": np.ones((3, 3, 3, 32), int)}), "no array of real numbers"),
    "another shape": (lambda layers: changed(layers, 0, arrays={"kernel": np.ones((3, 3, 3, 16), np.float32)}), "another width"),
    "classes": (lambda layers: changed(layers, len(layers) - 1, arrays={"kernel": np.ones((1280, 7), np.float32), "bias": np.ones(7, np.float32)}), "has 7 classes"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_keras_file_that_says_something_else_is_refused(fault, lite, tmp_path):
    change, message = FAULTS[fault]
    path = write_keras(tmp_path / "w.h5", change(layers_of(lite())), "flat")
    with pytest.raises(WeightsError, match=message):
        load_into(lite(), path)


@pytest.mark.parametrize(("size", "is_told"), [((160, 128), False), ((32, 32), True), (None, False)])
def test_the_input_that_a_keras_file_says_is_told_where_another_is_built(size, is_told, lite, tmp_path):
    layers = layers_of(lite())
    first = ("InputLayer", "input", {}, {"batch_shape": [None, 160, 128, 3]})
    path = write_keras(tmp_path / "w.h5", [first, *layers], "flat")
    told = load_into(lite(), path, asked=Asked(size=size))
    words = "WARNING its network took 128 x 160 pixels, and 32 x 32 are built: [model] resolution = [160, 128]"
    assert (words in told) == ("WARNING" in told) == is_told, told


def test_a_nested_network_without_its_order_is_refused(lite, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = write_keras(tmp_path / "w.h5", layers_of(lite()), "nested")
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    with pytest.raises(WeightsError, match="without saying their order"):
        load_into(lite(), path)


HDF5 = b"\x89HDF\r\n\x1a\n"


def test_keras_files_want_h5py_and_hdf5(lite, tmp_path, monkeypatch):
    (tmp_path / "w.keras").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"model\.save\('weights\.h5'\)"):
        load_into(lite(), tmp_path / "w.keras")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "w.h5").write_bytes(HDF5)
    with pytest.raises(WeightsError, match=r"pip install 'twinkeel\[keras\]'"):
        load_into(lite(), tmp_path / "w.h5")


def test_keras_weights_into_torch_padding_are_refused(lite, tmp_path):
    path = write_keras(tmp_path / "w.h5", layers_of(lite()), "flat")
    with pytest.raises(WeightsError, match=r'model\.padding = "tensorflow"'):
        load_into(lite(padding="torch"), path)
    with pytest.raises(WeightsError, match=r"has shape \(5, 1280\)"):
        load_into(lite(classes=6, padding="torch"), path)


def test_of_a_keras_file_of_another_architecture_it_is_said_which(lite, known, tmp_path):
    path = write_keras(tmp_path / "w.h5", layers_of(lite()), "flat")
    with pytest.raises(
        WeightsError, match=r'Set model\.name = "efficientnet_lite0" and model\.width = 0\.5\.'
    ) as caught:
        load_into(mobilenet_v2.create(5, 0.35), path, asked=Asked(makes=known))
    assert "padding" not in str(caught.value)


def hostile_link(file, h5py, tmp_path):
    file["model_weights/d/d/kernel"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")


def hostile_soft_link(file, h5py, tmp_path):
    file["model_weights/d/d/kernel"] = h5py.SoftLink("/elsewhere")


def hostile_storage(file, h5py, tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    file["model_weights/d"].create_dataset("d/kernel", (3, 2), np.float32, external=[(str(tmp_path / "secret"), 0, 24)])


def hostile_virtual(file, h5py, tmp_path):
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3, 2))
    file["model_weights/d"].create_virtual_dataset("d/kernel", layout)


def hostile_size(file, h5py, tmp_path):
    file["model_weights/d"].create_dataset("d/kernel", (2**40, 2), np.float32, chunks=(1024, 2))


def hostile_circle(file, h5py, tmp_path):
    file["model_weights/d/d"] = file["model_weights"]
    file["model_weights/d"].attrs["weight_names"] = ["d/d/d/d/d/d"]


def hostile_bomb(file, h5py, tmp_path):
    file["model_weights/d"].create_dataset("d/kernel", data=np.zeros((10**6, 2), np.float32), compression="gzip")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (hostile_link, "is a link"),
        (hostile_soft_link, "is a link"),
        (hostile_storage, "in another file"),
        (hostile_virtual, "in another file"),
        (hostile_size, "would unpack to more"),
        (hostile_circle, "is a Group, not a Dataset"),
        (hostile_bomb, "would unpack to more"),
        (lambda file, *_: None, "which it does not hold"),
    ],
)
def test_a_hostile_keras_file_is_refused(damage, message, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        group = file.create_group("model_weights/d")
        file["model_weights"].attrs["layer_names"], group.attrs["weight_names"] = ["d"], ["d/kernel"]
        damage(file, h5py, tmp_path)
    with pytest.raises(WeightsError, match=message):
        load_into(nn.Linear(3, 2), tmp_path / "w.h5")


def test_a_truncated_keras_file_is_refused(lite, tmp_path):
    path = write_keras(tmp_path / "w.h5", layers_of(lite()))
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1000):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="cannot read the checkpoint"):
            load_into(lite(), path)


def test_a_process_that_dies_or_does_not_end_is_an_error(lite, tmp_path, monkeypatch):
    path = write_keras(tmp_path / "w.h5", layers_of(lite()))
    monkeypatch.setattr(keras_h5, "_SECONDS", 0.01)
    with pytest.raises(WeightsError, match="takes longer than"):
        load_into(lite(), path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("e.pth", b"", "is empty"),
        ("e.safetensors", b"", "is empty"),
        ("h.pth", b"hello", "is no checkpoint, but text"),
        ("h.h5", b"hello", "it is no HDF5 file"),
        ("h.safetensors", b"hello", "or no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        load_into(mobilenet_v2.create(10, 0.1), tmp_path / name)
