"""The model against published counts and torchvision's layout."""

from __future__ import annotations

import pytest
import torch
from twinkeel.model import mobilenet_v2
from twinkeel.model.blocks import make_divisible
from twinkeel.model.count import count, published


def test_published_grid_has_22_rows():
    assert len(published("mobilenet_v2")) == 22


@pytest.mark.parametrize("row", published("mobilenet_v2"), ids=lambda r: f"{r.width}-{r.resolution}")
def test_counts_equal_the_published_ones(row):
    with torch.device("meta"):
        found = count(mobilenet_v2.create(1000, row.width), row.resolution, row.resolution)
    assert found.parameters == row.parameters
    # published in millions, some rounded and some cut
    assert abs(found.multiply_adds / 1e6 - row.mega_multiply_adds) < 1


def test_state_dict_has_the_keys_of_torchvision():
    keys = list(mobilenet_v2.create(1000, 1.0).state_dict())
    assert len(keys) == 314
    assert keys[0] == "features.0.0.weight"
    assert "features.1.conv.1.weight" in keys
    assert "features.17.conv.3.running_var" in keys
    assert keys[-2:] == ["classifier.1.weight", "classifier.1.bias"]


@pytest.mark.parametrize(("value", "rounded"), [(32 * 0.35, 16), (24 * 0.35, 8), (320 * 1.4, 448), (11, 16), (3, 8)])
def test_channels_are_rounded_to_multiples_of_8_and_never_lose_a_tenth(value, rounded):
    assert make_divisible(value) == rounded


def test_resolution_multiplier_gives_multiples_of_32():
    assert [mobilenet_v2.input_resolution(m / 7) for m in (3, 4, 5, 6, 7)] == [96, 128, 160, 192, 224]
