"""The family: counts against what is published, where heads read, and what a dilated network computes."""

from __future__ import annotations

import importlib
import re

import pytest
import torch
from torch import nn
from twinkeel.model import backbones, inception, mobilenet_v1, mobilenet_v2, mobilenet_v3, residual
from twinkeel.model.count import count, published
from twinkeel.pipeline.store import sources

CLASSIFIERS = {
    "mobilenet_v1": "mobilenet_v1",
    "mobilenet_v3_large": "mobilenet_v3",
    "mobilenet_v3_small": "mobilenet_v3",
    "residual": "residual",
    "inception": "inception",
}


def made(name, classes=1000, width=1.0, **more):
    options = {"name": name} if CLASSIFIERS[name] != name else {}
    return importlib.import_module(f"twinkeel.model.{CLASSIFIERS[name]}").create(classes, width, **options, **more)


def counted(create, size):
    with torch.device("meta"):
        return count(create(), size, size)


def test_published_rows_of_mobilenet_v1_are_those_of_two_tables():
    assert len(published("mobilenet_v1")) == 7


@pytest.mark.parametrize("row", published("mobilenet_v1"), ids=lambda r: f"{r.width}-{r.resolution}")
def test_counts_of_mobilenet_v1_are_the_published_ones(row):
    found = counted(lambda: made("mobilenet_v1", width=row.width), row.resolution)
    assert round(found.parameters / 1e5) == row.parameters / 1e5
    # published in millions, some rounded and some cut
    assert abs(found.multiply_adds / 1e6 - row.mega_multiply_adds) < 1


def test_counts_of_mobilenet_v3_small_are_the_published_ones():
    (row,) = published("mobilenet_v3_small")
    found = counted(lambda: made("mobilenet_v3_small"), 224)
    assert round(found.parameters / 1e5) == row.parameters / 1e5
    assert abs(found.multiply_adds / 1e6 - row.mega_multiply_adds) < 1


def test_counts_of_mobilenet_v3_large_are_near_the_published_ones():
    """Published are 5.4 M and 219 M, and 217 M with the weights of the same authors; the layers of the published table, with
    the keys and shapes of torchvision's checkpoint, are 5.48 M and 216.6 M."""
    (row,) = published("mobilenet_v3_large")
    found = counted(lambda: made("mobilenet_v3_large"), 224)
    assert (row.parameters, row.mega_multiply_adds) == (5_400_000, 219)
    assert found.parameters == 5_483_032  # torchvision's own number
    assert round(found.multiply_adds / 1e6) == 217


def test_counts_of_inception_are_the_published_ones_but_for_the_first_row():
    """The table's 2.7 K and 34 M are not those of a 7x7 convolution from 3 to 64 channels, which has 9408 weights; its other
    rows together are kept to 1 %."""
    (row,) = published("inception")
    found = counted(lambda: made("inception"), 224)
    first = 7 * 7 * 3 * 64
    assert found.multiply_adds / 1e6 - first * 112**2 / 1e6 == pytest.approx(row.mega_multiply_adds - 34, rel=0.01)
    assert found.parameters == pytest.approx(row.parameters, rel=0.01)


@pytest.mark.parametrize(("stage", "block", "kilo", "mega"), [(0, 0, 159, 128), (0, 1, 380, 304), (1, 4, 840, 170)])
def test_a_block_of_inception_costs_what_its_row_says(stage, block, kilo, mega):
    inputs = {(0, 0): 192, (0, 1): 256, (1, 4): 528}[stage, block]
    side = 28 if stage == 0 else 14
    made = inception.Inception(inputs, inception.STAGES[stage][block], "relu", "torch")
    weights = sum(p.numel() for n, p in made.named_parameters() if n.endswith(".0.weight"))
    assert weights / 1024 == pytest.approx(kilo, rel=0.01)
    assert weights * side**2 / 1e6 == pytest.approx(mega, rel=0.005)


def test_the_residual_network_costs_what_mobilenet_v2_does():
    found = counted(lambda: residual.create(1000, 1.0), 224)
    other = counted(lambda: mobilenet_v2.create(1000, 1.0), 224)
    assert found.multiply_adds == pytest.approx(other.multiply_adds, rel=0.03)
    assert found.parameters == pytest.approx(other.parameters, rel=0.03)


@pytest.mark.parametrize(("name", "number"), [("mobilenet_v3_large", 312), ("mobilenet_v3_small", 244)])
def test_state_dict_of_mobilenet_v3_has_the_keys_of_torchvision(name, number):
    state = made(name).state_dict()
    assert len(state) == number
    # the first convolution, blocks with and without expansion and gate, the last convolution, two linear layers
    known = r"features\.(\d+\.[01]|\d+\.block\.[0-3]\.([01]|fc[12]))\.\w+|classifier\.[03]\.\w+"
    assert [key for key in state if not re.fullmatch(known, key)] == []
    gate = "features.4.block.2.fc1.weight"
    assert state[gate].shape == ((24, 72, 1, 1) if name.endswith("large") else (24, 96, 1, 1))
    last = "features.15.block.3.1.running_var" if name.endswith("large") else "features.11.block.3.1.running_var"
    assert state[last].shape == ((160,) if name.endswith("large") else (96,))
    assert state["classifier.0.weight"].shape == ((1280, 960) if name.endswith("large") else (1024, 576))
    norms = [m for m in made(name).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}


def test_a_gate_multiplies_each_channel_by_a_number_of_all_means():
    torch.manual_seed(0)
    gate = mobilenet_v3.SqueezeExcite(6, 4)
    x = torch.randn(2, 6, 5, 7)
    means = x.mean((2, 3))
    first = torch.relu(means @ gate.fc1.weight[:, :, 0, 0].T + gate.fc1.bias)
    second = first @ gate.fc2.weight[:, :, 0, 0].T + gate.fc2.bias
    wanted = x * ((second + 3).clamp(0, 6) / 6)[:, :, None, None]
    assert torch.allclose(gate(x), wanted, atol=1e-6)


@pytest.mark.parametrize("multiplier", [1.0, 6 / 7, 5 / 7, 4 / 7])
def test_resolution_multiplier_of_mobilenet_v1(multiplier):
    assert mobilenet_v1.input_resolution(multiplier) == round(224 * multiplier)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_network_learns(name):
    """One step of it: each parameter has a gradient, of any size of image."""
    torch.manual_seed(0)
    model = made(name, 5, 0.25)
    logits = model(torch.randn(2, 3, 49, 65))
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([1, 3])).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_an_unknown_activation_or_padding_is_refused():
    with pytest.raises(ValueError, match="padding"):
        made("mobilenet_v3_small", padding="valid")


@pytest.mark.parametrize("name", backbones.NETWORKS)
def test_a_backbone_gives_the_last_maps_of_two_strides(name):
    model = backbones.backbone(name, 0.25, "torch").eval()
    maps = model(torch.randn(1, 3, 100, 75))
    assert [tuple(one.shape[2:]) for one in maps] == [(7, 5), (4, 3)]
    assert [one.shape[1] for one in maps] == model.channels


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mobilenet_v1", [512, 1024]),
        ("mobilenet_v2", [576, 1280]),
        ("mobilenet_v3_large", [672, 960]),
        ("mobilenet_v3_small", [288, 576]),
        ("residual", [256, 1280]),
        ("inception", [832, 1024]),
    ],
)
def test_heads_read_the_published_maps(name, channels):
    """Of inverted residuals the expanded map of the block that halves it."""
    assert backbones.backbone(name, 1.0, "torch").channels == channels


@pytest.mark.parametrize("name", backbones.NETWORKS)
def test_a_backbone_has_the_names_and_values_of_its_classifier(name):
    torch.manual_seed(0)
    whole = backbones.NETWORKS[name](1, 0.25)
    part = backbones.backbone(name, 0.25, whole.padding)
    missing, unexpected = part.load_state_dict(whole.state_dict(), strict=False)
    assert missing == [] and [key for key in unexpected if not key.startswith("classifier.")] == []
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(part.eval()(x)[-1], whole.eval().features(x))


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "residual"])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_a_dilated_network_computes_the_same_at_the_pixels_that_the_other_has(name, output_stride):
    """Without a mean over the map, as V3's gates have one, and pools; with torch's padding, which does not depend on strides."""
    torch.manual_seed(0)
    other = backbones.backbone(name, 0.25, "torch", (32,), has_last_convolution=False).eval()
    dilated = backbones.backbone(name, 0.25, "torch", (output_stride,), has_last_convolution=False).eval()
    dilated.load_state_dict(other.state_dict())
    x = torch.randn(1, 3, 97, 130)
    with torch.no_grad():
        (wanted,), (found,) = other(x), dilated(x)
    step = 32 // output_stride
    assert found.shape[2:] == (-(-97 // output_stride), -(-130 // output_stride))
    assert torch.allclose(found[:, :, ::step, ::step], wanted, atol=1e-5 * float(wanted.abs().max()))


def test_a_dilated_network_in_tensorflows_padding_has_the_size():
    model = backbones.backbone("efficientnet_lite0", 0.25, "tensorflow", (16,), has_last_convolution=False).eval()
    assert model(torch.randn(1, 3, 97, 130))[0].shape[2:] == (7, 9)


def test_the_key_of_what_is_made_knows_the_network_behind_a_head():
    """A module that is imported by its name in a string is none that a key sees."""
    known = sources.imported_by("twinkeel.model.backbones")
    assert {f"twinkeel.model.{module}" for module in (*CLASSIFIERS.values(), "mobilenet_v2")} <= set(known)
    for head in ("ssdlite", "deeplab_v3"):
        assert "twinkeel.model.backbones" in sources.imported_by(f"twinkeel.model.{head}")


def test_a_stride_that_a_network_does_not_reach_is_refused():
    features = backbones.backbone("mobilenet_v1", 0.25, "torch").features
    with pytest.raises(ValueError, match="stride 32, not 64"):
        backbones.Backbone(features, (16, 64))
