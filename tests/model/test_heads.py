"""SSDLite and DeepLabV3: counts, what stands where in their outputs, and the anchors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.model import deeplab_v3, ssd_heads, ssdlite
from twinkeel.model.count import count, published


def counted(create, size):
    with torch.device("meta"):
        return count(create(), size, size)


@pytest.mark.parametrize("name", ["ssdlite_mobilenet_v1", "ssdlite_mobilenet_v2"])
def test_counts_of_ssdlite_are_the_published_ones(name):
    """With one digit of the parameters and two of the multiply-adds."""
    (row,) = published(name)
    found = counted(lambda: ssdlite.create(row.classes, 1.0, name=name), 320)
    assert round(found.parameters / 1e5) == row.parameters / 1e5
    assert round(found.multiply_adds / 1e8) == row.mega_multiply_adds / 100


def test_exact_counts():
    found = counted(lambda: ssdlite.create(80, 1.0), 320)
    assert (found.parameters, found.multiply_adds) == (4_337_013, 788_830_144)
    found = counted(lambda: deeplab_v3.create(21, 1.0), 513)
    assert (found.parameters, found.multiply_adds) == (2_113_557, 2_740_709_056)


def test_counts_of_deeplab_are_the_published_ones():
    (row,) = published("deeplab_v3_mobilenet_v2")
    found = counted(lambda: deeplab_v3.create(row.classes, 1.0), 513)
    assert round(found.parameters / 1e4) == row.parameters / 1e4
    assert found.multiply_adds / 1e6 == pytest.approx(row.mega_multiply_adds, rel=0.004)


@pytest.mark.parametrize(("name", "inputs"), [("mobilenet_v1", 1024), ("mobilenet_v2", 320)])
def test_counts_with_a_pyramid_are_the_published_ones_where_its_map_is_padded(name, inputs):
    """TensorFlow runs a dilated convolution on the map cut into ``rate x rate`` small ones, padded to multiples of the rate:
    36 x 36 for 33 x 33, of all three. That is in the published multiply-adds, and no runtime here does so."""
    (row,) = published(f"deeplab_v3_aspp_{name}")
    found = counted(lambda: deeplab_v3.create(row.classes, 1.0, name=f"deeplab_v3_aspp_{name}"), 513)
    assert found.parameters == pytest.approx(row.parameters, rel=0.001)
    pyramid = 3 * 9 * inputs * 256
    padded = found.multiply_adds + pyramid * (36**2 - 33**2)
    assert padded / 1e6 == pytest.approx(row.mega_multiply_adds, rel=0.004)


@pytest.mark.parametrize("size", [(320, 320), (300, 300), (100, 75), (321, 513)])
def test_there_is_an_anchor_for_each_of_the_networks_values(size):
    for name in ssdlite.RESOLUTIONS:
        model = ssdlite.create(3, 0.25, name=name).eval()
        boxes, scores = model(torch.zeros(2, 3, *size))
        number = len(ssdlite.anchors(*size, name))
        assert boxes.shape == (2, number, 4) and scores.shape == (2, number, 4), name


def test_there_are_as_many_anchors_as_published():
    assert len(ssdlite.anchors(300, 300)) == 1917
    assert ssdlite.anchors(300, 300).dtype == np.float32


def test_anchors_are_where_the_maps_pixels_are():
    """At 320 x 640: map by map, row, column, anchor; sides are shares of the shorter side of the input."""
    found = ssdlite.anchors(320, 640)
    assert np.array_equal(found[0], [8, 8, 32, 32])
    assert np.allclose(found[1], [8, 8, 64 * 2**0.5, 64 / 2**0.5])
    assert np.allclose(found[2], [8, 8, 64 / 2**0.5, 64 * 2**0.5])
    assert np.array_equal(found[3][:2], [24, 8]) and np.array_equal(found[40 * 3][:2], [8, 24])
    second = found[20 * 40 * 3 :]
    assert np.allclose(second[0], [16, 16, 0.35 * 320, 0.35 * 320])
    assert np.allclose(second[5], [16, 16, 320 * (0.35 * 0.5) ** 0.5, 320 * (0.35 * 0.5) ** 0.5])
    assert np.array_equal(second[6 * 20][:2], [16, 48])
    last = found[-6 * 2 :]
    assert np.allclose(last[0], [160, 160, 304, 304]) and np.allclose(last[6][:2], [480, 160])
    assert np.allclose(last[4], [160, 160, 304 / 3**0.5, 304 * 3**0.5])


def test_values_stand_in_the_order_of_the_anchors():
    head = ssd_heads.Head(3, 2, 4, "torch").eval()
    x = torch.randn(2, 3, 5, 7)
    maps = head[1](head[0](x))
    found = head(x)
    for row, column, anchor, value in ((0, 0, 0, 0), (4, 6, 1, 3), (2, 5, 1, 0), (3, 1, 0, 2)):
        assert torch.equal(found[:, (row * 7 + column) * 2 + anchor, value], maps[:, anchor * 4 + value, row, column])


def test_each_map_has_the_values_of_its_part_of_the_input():
    """A change at one place of the image changes those values of the finest map that see it, and none of the first."""
    torch.manual_seed(0)
    model = ssdlite.create(3, 0.25).eval()
    model.backbone = nn.Module()
    model.backbone.forward = lambda x: maps
    maps = [torch.zeros(1, channels, *size) for channels, size in ((144, (8, 8)), (320, (4, 4)))]
    before = model(torch.zeros(1, 3, 128, 128))[0]
    maps[0][0, :, 6, 5] = 1
    after = model(torch.zeros(1, 3, 128, 128))[0]
    changed = (before != after).any(2)[0].nonzero()[:, 0]
    pixels = sorted({int(one) // 3 for one in changed})
    assert pixels == [row * 8 + column for row in (5, 6, 7) for column in (4, 5, 6)]


def test_importing_the_anchors_imports_no_torch():
    code = "import sys; from twinkeel.model import ssdlite; ssdlite.anchors(64, 64); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'ssdlite_vgg' is none of"):
        ssdlite.anchors(320, 320, "ssdlite_vgg")


@pytest.mark.parametrize("name", deeplab_v3.RESOLUTIONS)
def test_deeplab_gives_a_map_at_the_output_stride(name):
    model = deeplab_v3.create(7, 0.25, name=name).eval()
    assert model(torch.randn(2, 3, 97, 130)).shape == (2, 7, 7, 9)


def test_deeplab_at_stride_8_spreads_its_pyramid_twice_as_far():
    models = [deeplab_v3.create(7, 0.25, name="deeplab_v3_aspp_mobilenet_v2", output_stride=s).eval() for s in (16, 8)]
    assert models[1](torch.randn(1, 3, 97, 130)).shape == (1, 7, 13, 17)
    rates = [[branch[0].dilation[0] for branch in list(m.branches)[2:]] for m in models]
    assert rates == [[6, 12, 18], [12, 24, 36]]


@pytest.mark.parametrize("name", ["ssdlite_mobilenet_v3_small", "deeplab_v3_aspp_mobilenet_v2"])
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    module = ssdlite if name.startswith("ssdlite") else deeplab_v3
    model = module.create(3, 0.25, name=name)
    outputs = model(torch.randn(2, 3, 96, 96))
    total = sum(one.square().mean() for one in (outputs if isinstance(outputs, tuple) else [outputs]))
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_scores_begin_near_each_other():
    """Whatever the image: the first steps of training are those of a mean, and none of them is large."""
    torch.manual_seed(0)
    for model in (ssdlite.create(20, 0.5), deeplab_v3.create(20, 0.5)):
        found = model(torch.randn(4, 3, 96, 96))
        scores = found[1] if isinstance(found, tuple) else found
        assert scores.std() < 0.5
