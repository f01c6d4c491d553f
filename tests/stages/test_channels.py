"""What a model takes of an image, RGB, BGR or grey: the same function in its first layer, whatever layer that is."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import InputContract, evaluate
from twinkeel.pipeline.stages import fold, train

HEIGHT, WIDTH = 25, 18
LEAST_DB = 120.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZATIONS = {
    "rgb": (MEAN, STD),
    "rgb as it is": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "bgr": (MEAN[::-1], STD[::-1]),
    "bgr in 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "grayscale": ((0.5,), (0.5,)),
    "grayscale as it is": ((0.0,), (1.0,)),
    "grayscale of digits": ((0.1307,), (0.3081,)),
}
"""(mean, std) by channels, and something more where there are several of these."""


class Same(nn.Conv2d):
    """Pads as TensorFlow does, more below and right."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


FOLDED = {
    **{f"{k}x{k}": lambda c, k=k: nn.Conv2d(c, 6, k, padding=k // 2) for k in range(1, 8)},
    **{f"stride {s}": lambda c, s=s: nn.Conv2d(c, 6, 3, s, padding=1) for s in (2, 3, 4)},
    "no padding": lambda c: nn.Conv2d(c, 6, 5, 2),
    "far padding": lambda c: nn.Conv2d(c, 6, 3, padding=4),
    "no bias": lambda c: nn.Conv2d(c, 6, 3, padding=1, bias=False),
    "oblong": lambda c: nn.Conv2d(c, 6, (1, 7), (2, 1), padding=(0, 3)),
    "dilation": lambda c: nn.Conv2d(c, 6, 3, padding=2, dilation=2),
    "padding of one side": lambda c: Same(c, 6, 3, 2),
    "zeros before": lambda c: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(c, 6, 4, 2, padding=1)),
    "norm": lambda c: nn.Sequential(nn.Conv2d(c, 6, 3, 2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
    "dropout before": lambda c: nn.Sequential(nn.Dropout2d(), nn.Conv2d(c, 6, 7, 2, padding=3)),
    "four outputs": lambda c: nn.Conv2d(c, 4, 3, 2, padding=1),
}
IN_THE_GRAPH = {
    "nothing": lambda c: nn.Identity(),
    "reflect": lambda c: nn.Conv2d(c, 6, 3, padding=1, padding_mode="reflect"),
    "pool": lambda c: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c, 6, 3, padding=1)),
    "norm before": lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, 6, 3, padding=1)),
    "activation": lambda c: nn.Sequential(nn.ReLU(), nn.Conv2d(c, 6, 3, padding=1)),
    "flatten": lambda c: nn.Sequential(nn.Flatten(), nn.Linear(c * HEIGHT * WIDTH, 6), nn.Unflatten(1, (6, 1, 1))),
}


class Stem(nn.Module):
    """A stem, its borders counted as much as its middle, and little else."""

    def __init__(self, stem, channels):
        super().__init__()
        self.stem = stem
        self.fc = nn.Linear(3 * channels, 10)

    def forward(self, x):
        y = self.stem(x)
        return self.fc(torch.cat([y.mean((2, 3)), y[..., 0].mean(2), y[:, :, -1].mean(2)], 1))


def built(make, count):
    torch.manual_seed(0)
    stem = make(count)
    channels = stem(torch.rand(2, count, HEIGHT, WIDTH)).shape[1]
    model = Stem(stem, channels)
    with torch.no_grad():
        for _ in range(3):  # statistics that are not 0 and 1
            model(torch.randn(8, count, HEIGHT, WIDTH))
    return model.eval().requires_grad_(False)


def pixels():
    """Noise, black, white, pure colours and one bright border, opaque."""
    found = np.random.default_rng(0).integers(0, 256, (9, HEIGHT, WIDTH, 4), np.uint8)
    found[1], found[2], found[3:6, ..., :3] = 0, 255, 0
    for channel in range(3):
        found[3 + channel, ..., channel] = 255
    found[6, :, -1] = 255
    found[..., 3] = 255
    return found


def explicit(model, images, channels, mean, std):
    """What the model says of these images, channel by channel in float64."""
    red, green, blue = (images[..., c].astype(np.float64) / 255 for c in range(3))
    given = {
        "rgb": (red, green, blue),
        "bgr": (blue, green, red),
        "grayscale": (0.299 * red + 0.587 * green + 0.114 * blue,),
    }
    planes = [(x - m) / s for x, m, s in zip(given[channels], mean, std, strict=True)]
    with torch.no_grad():
        return model.double()(torch.from_numpy(np.stack(planes, 1))).numpy()


def moved(make, key):
    """(SNR in dB of the folded model, the folded model, its contract)."""
    channels, (mean, std) = key.split()[0], NORMALIZATIONS[key]
    contract = InputContract.of((HEIGHT, WIDTH), mean, std, channels)
    model, images = built(make, len(mean)), pixels()
    folded = fold.fold(model, contract)
    original = evaluate(fold.Normalized(model, mean, std, channels), images)
    found = evaluate(folded, images)
    expected = explicit(model, images, channels, mean, std)
    assert metrics.snr_db(expected, original) >= LEAST_DB
    return metrics.snr_db(expected, found), folded, contract


@pytest.mark.parametrize("key", ["bgr", "grayscale"])
@pytest.mark.parametrize("name", FOLDED)
def test_a_convolution_that_pads_with_zeros_takes_the_bytes_itself(name, key):
    snr, folded, _ = moved(FOLDED[name], key)
    assert folded.normalize is None and snr >= LEAST_DB, f"{snr:.1f} dB"


@pytest.mark.parametrize("key", NORMALIZATIONS)
@pytest.mark.parametrize("name", ["7x7", "padding of one side", "norm"])
def test_any_normalization_goes_into_it(name, key):
    snr, folded, contract = moved(FOLDED[name], key)
    assert folded.normalize is None and snr >= LEAST_DB, f"{snr:.1f} dB"
    assert contract.channels == key.split()[0] and contract.shape == (1, HEIGHT, WIDTH, 4)


@pytest.mark.parametrize("key", ["rgb", "bgr", "grayscale"])
@pytest.mark.parametrize("name", IN_THE_GRAPH)
def test_other_beginnings_are_normalized_by_a_convolution_in_the_graph(name, key):
    snr, folded, contract = moved(IN_THE_GRAPH[name], key)
    assert snr >= LEAST_DB, f"{snr:.1f} dB"
    if key == "grayscale" and name in ("norm before", "pool"):  # of one channel these are such a convolution
        assert folded.normalize is None
    else:
        assert tuple(folded.normalize.weight.shape) == (len(contract.mean), 4, 1, 1)


def test_an_alpha_that_is_not_needed_has_no_weight():
    _, folded, contract = moved(FOLDED["3x3"], "grayscale as it is")
    assert contract.grey == 0
    assert (folded.model.get_submodule("stem").weight[:, 3] == 0).all()


def test_a_wrong_share_or_order_is_seen():
    """What the limit is worth: the shares of Pillow's 16 bits, and R and B exchanged."""
    model, images = built(FOLDED["3x3"], 1), pixels()
    right = explicit(model, images, "grayscale", (0.5,), (0.5,))
    shares = np.array([19595, 38470, 7471]) / 65536
    near = images.astype(np.float64)[..., :3] @ shares / 255
    with torch.no_grad():
        found = model(torch.from_numpy((near - 0.5) / 0.5)[:, None]).numpy()
    assert 60 < metrics.snr_db(right, found) < LEAST_DB
    model = built(FOLDED["3x3"], 3)
    rgb, bgr = (explicit(model, images, channels, MEAN, STD) for channels in ("rgb", "bgr"))
    assert metrics.snr_db(rgb, bgr) < 30


@pytest.mark.parametrize(("channels", "taken"), [("rgb", 4), ("grayscale", 3), ("bgr", 1)])
def test_a_first_layer_that_takes_other_channels_is_one_clear_error(channels, taken):
    mean = (0.5,) * (1 if channels == "grayscale" else 3)
    contract = InputContract.of((HEIGHT, WIDTH), mean, mean, channels)
    model = nn.Sequential(nn.Conv2d(taken, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(ConversionError, match=rf"shape \(1, {len(mean)}, {HEIGHT}, {WIDTH}\)"):
        fold.fold(model, contract)


@pytest.mark.parametrize("key", ["rgb", "bgr", "grayscale of digits"])
def test_training_sees_what_the_original_does(key):
    channels, (mean, std) = key.split()[0], NORMALIZATIONS[key]
    config = Config.model_validate({"data": {"channels": channels, "mean": list(mean), "std": list(std)}})
    images = pixels()
    given = train.prepared(images[..., :3], config)
    seen = []
    fold.Normalized(lambda x: seen.append(x) or x, mean, std, channels)(torch.from_numpy(images))
    assert torch.equal(given, seen[0]) and given.shape == (len(images), len(mean), HEIGHT, WIDTH)


OF_ONE_SIZE = ("vit", "mobilevit", "unet")
"""Positions that are learnt, or maps that are put together again: they take multiples of something."""


@pytest.mark.parametrize("name", sorted(networks.NETWORKS.keys() - set(OF_ONE_SIZE)))
def test_networks_keep_their_function_at_sizes_that_nothing_divides(name):
    model = networks.settled(networks.NETWORKS[name]())
    contract = InputContract.of((67, 45), MEAN, STD, "bgr")
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 45, 4), np.uint8)
    images[..., 3] = 255
    folded = fold.fold(model, contract)
    before = evaluate(fold.Normalized(model, MEAN, STD, "bgr").eval(), images)
    snr = metrics.snr_db(before, evaluate(folded, images))
    assert snr >= 90, f"{snr:.1f} dB"


@pytest.mark.parametrize("name", OF_ONE_SIZE)
def test_networks_of_one_size_say_so(name):
    with pytest.raises(ConversionError, match=r"shape \(1, 3, 67, 45\).*another input size than the model takes"):
        fold.fold(networks.settled(networks.NETWORKS[name]()), InputContract.of((67, 45), MEAN, STD))
