"""The canonical form: BatchNorm, Dropout and missing biases wherever users put them, and the function stays."""

from __future__ import annotations

import networks
import numpy as np
import odd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, evaluate
from twinkeel.pipeline.stages import fold

CONTRACT = InputContract.of(networks.RESOLUTION, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LEAST_DB = 90.0  # of the fold leg


def pixels(count=4, size=(networks.RESOLUTION, networks.RESOLUTION), seed=0):
    found = np.random.default_rng(seed).integers(0, 256, (count, *size, 4), np.uint8)
    found[..., 3] = 255
    return found


def moved(model, contract=CONTRACT):
    """SNR in dB of a folded model against what it was made from, and the folded one."""
    images = pixels(size=contract.shape[1:3])
    folded = fold.fold(model, contract)
    before = evaluate(fold.Normalized(model, contract.mean, contract.std).eval(), images)
    return metrics.snr_db(before, evaluate(folded, images)), folded


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("seed", range(1))
def test_networks_of_users_keep_their_function_and_lose_batch_norm(name, seed):
    model = networks.settled(networks.NETWORKS[name](), seed)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    snr, folded = moved(model)
    assert snr >= LEAST_DB, f"{snr:.1f} dB"
    kinds = {type(module) for module in folded.modules()}
    assert not kinds & {nn.BatchNorm2d, nn.Dropout}
    layers = [m for m in folded.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(layer.bias is not None for layer in layers)
    # the user's model is as it was
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_layers_keep_the_names_of_the_users_code():
    model = networks.settled(networks.ResNet())
    layers = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    _, folded = moved(model)
    assert {
        n.removeprefix("model.") for n, m in folded.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    } == layers


class Stem(nn.Module):
    """A stem and little else."""

    def __init__(self, stem: nn.Module, channels: int) -> None:
        super().__init__()
        self.stem = stem
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stem(x).mean((2, 3)))


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(("bias", "norm"), [(True, True), (False, True), (True, False), (False, False)])
def test_any_convolution_that_pads_with_zeros_takes_the_bytes_itself(kernel, stride, bias, norm):
    stem = nn.Sequential(nn.Conv2d(3, 6, kernel, stride, kernel // 2, bias=bias))
    if norm:
        stem.append(nn.BatchNorm2d(6))
    snr, folded = moved(networks.settled(Stem(stem, 6)))
    assert folded.normalize is None and snr >= LEAST_DB, f"{snr:.1f} dB"


@pytest.mark.parametrize(
    "stem",
    [
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 6, 3)),
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 6, 3, padding=1, groups=3),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 6, 3)),
        nn.Sequential(nn.ConstantPad2d(1, 0.5), nn.Conv2d(3, 6, 3)),
    ],
    ids=["activation", "reflect", "groups", "norm", "pool", "other constant"],
)
def test_other_stems_are_normalized_in_the_graph(stem):
    snr, folded = moved(networks.settled(Stem(stem, 6)))
    assert folded.normalize is not None and snr >= LEAST_DB, f"{snr:.1f} dB"


def test_two_readers_of_the_image_are_normalized_in_the_graph():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.a(x) + self.b(x)).mean((2, 3))

    snr, folded = moved(networks.settled(Two()))
    assert folded.normalize is not None and snr >= LEAST_DB, f"{snr:.1f} dB"


def test_a_layer_that_something_else_reads_keeps_its_values():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return (self.norm(y) + y).mean((2, 3))

    snr, folded = moved(networks.settled(Shared()))
    assert isinstance(folded.model.norm, nn.Conv2d) and snr >= LEAST_DB, f"{snr:.1f} dB"


def test_a_batch_norm_behind_a_linear_layer_goes_into_it():
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.norm = nn.Conv2d(3, 6, 3), nn.Linear(6, 10, bias=False), nn.BatchNorm1d(10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.fc(self.conv(x).mean((2, 3))))

    snr, folded = moved(networks.settled(Head()))
    assert not hasattr(folded.model, "norm") and snr >= LEAST_DB, f"{snr:.1f} dB"


class Calling(nn.Module):
    """A call of what is known as a module."""

    def __init__(self, call) -> None:
        super().__init__()
        self.conv, self.call = nn.Conv2d(3, 6, 3), call
        self.register_buffer("mean", torch.rand(6))
        self.register_buffer("var", torch.rand(6) + 0.5)
        self.register_buffer("tokens", torch.rand((networks.RESOLUTION - 2) ** 2))
        self.square = nn.Parameter(torch.randn(6, 6, 2, 2))
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self, self.conv(x)).mean((2, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: F.dropout(x, 0.5, training=False),
        lambda m, x: F.batch_norm(x, m.mean, m.var),
        lambda m, x: F.conv2d(x, m.conv.weight.repeat(1, 2, 1, 1)),
        lambda m, x: F.relu_(x + 1).clone(),
        lambda m, x: F.conv2d(x, m.square, padding="same"),
        lambda m, x: x.contiguous().view(x.size(0), 6, -1, x.size(3)),
        lambda m, x: torch.clamp(x, 0, 6) + x.clamp_min(0) + F.relu6(x),
        lambda m, x: F.batch_norm(x.flatten(2), m.mean, m.var).unflatten(2, x.shape[2:]),
        lambda m, x: F.batch_norm(F.linear(x.flatten(2).mT, m.square[:, :, 0, 0]), m.tokens, m.tokens + 1).mT[
            ..., None
        ],
    ],
    ids=["dropout", "batch_norm", "computed weights", "in place", "same", "view", "clamps", "rows", "tokens"],
)
def test_calls_are_known_as_modules_are(call):
    snr, _ = moved(networks.settled(Calling(call)))
    assert snr >= LEAST_DB, f"{snr:.1f} dB"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: m.norm(x), "no running statistics.*track_running_stats=True"),
        (lambda m, x: F.batch_norm(x, m.mean, m.var, training=True), "in training mode.*evaluation mode"),
        (
            lambda m, x: F.batch_norm(F.conv2d(x, m.conv.weight.repeat(1, 2, 1, 1), x.mean((0, 2, 3))), m.mean, m.var),
            "computes from the image",
        ),
        (lambda m, x: F.conv2d(x, x.mean((0, 2, 3)).view(1, 6, 1, 1)), "computes from the image"),
        (lambda m, x: x if x.sum() > 0 else -x, "torch.export cannot follow"),
    ],
    ids=["no statistics", "training", "biases of the image", "weights of the image", "a branch"],
)
def test_what_no_rewrite_knows_is_one_clear_error(call, words):
    with pytest.raises(ConversionError, match=words):
        fold.fold(Calling(call).eval(), CONTRACT)


def test_layers_that_share_weights_become_two():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(self.conv(x))).mean((2, 3))

    snr, folded = moved(networks.settled(Twice()))
    assert snr >= LEAST_DB, f"{snr:.1f} dB"
    assert {n for n, m in folded.named_modules() if isinstance(m, nn.Conv2d)} == {
        "model.conv",
        "model.conv_1",
    }


def test_layers_that_are_parametrized_keep_the_names_of_their_modules():
    model = networks.settled(networks.NETWORKS["odd"]())
    _, folded = moved(model)
    names = {n.removeprefix("model.") for n, m in folded.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {"stem", "down", "fc", "shared.conv", "shared.conv_1"} <= names, names
    assert not any("parametrizations" in name for name in names), names


def test_weight_norm_as_it_was_keeps_its_name_too():
    model = Stem(torch.nn.utils.weight_norm(nn.Conv2d(3, 6, 3)), 6).eval().requires_grad_(False)
    snr, folded = moved(model)
    assert isinstance(folded.model.stem, nn.Conv2d) and snr >= LEAST_DB, f"{snr:.1f} dB"


def test_a_frozen_batch_norm_goes_into_its_convolution():
    model = Stem(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), odd.Frozen(6), nn.ReLU()), 6).eval()
    snr, folded = moved(model)
    assert snr >= LEAST_DB, f"{snr:.1f} dB"
    calls = {node.target for node in folded.model.graph.nodes if node.op == "call_function"}
    assert not calls & {torch.ops.aten.mul.Tensor, torch.ops.aten.add.Tensor}, calls
