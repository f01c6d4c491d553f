"""The benchmark of the papers' claims: what it compares is what it says, and its numbers are those of the counts."""

import claims
import claims_networks
import claims_numbers
import claims_spiral
import claims_training
import numpy as np
import pytest
import torch
from twinkeel.model import count
from twinkeel.model.blocks import ConvBNActivation, InvertedResidual


def _cost(label, claim):
    return claims.CLAIMS[claim].networks[label].cost().multiply_adds


def test_equal_costs_are_equal():
    pairs = [
        (_cost("separable", "separable"), _cost("full, equal cost", "separable")),
        (_cost("V1: separable", "versions"), _cost("V2: bottlenecks", "versions")),
    ]
    expansion = claims.CLAIMS["expansion"].networks
    pairs += [(expansion[name].cost().multiply_adds, 95_856) for name in expansion if "equal cost" in name]
    assert len(pairs) == 2 + len(claims.AT_EQUAL_COST)
    for one, other in pairs:
        assert abs(one / other - 1) < 0.02


def test_shortcuts_differ_in_their_place_alone():
    made = {name: claims_networks.bottlenecks(repeats=4, shortcuts=name, last=48) for name in claims_networks.SHORTCUTS}
    costs = {name: count.count(model, 16, 16) for name, model in made.items()}
    assert len(set(costs.values())) == 1
    assert {name: model.features[1].added for name, model in made.items()} == {
        "bottlenecks": 10,
        "expansions": 10,
        "none": 0,
    }
    with pytest.raises(ValueError, match="shortcuts must be one of"):
        claims_networks.bottlenecks(shortcuts="some")


def test_as_published_it_is_the_product_s_block():
    made = claims_networks.bottlenecks().eval()
    layers, before = [ConvBNActivation(3, 4, 3, 2)], 4
    for channels, first in zip((4, 6, 8), claims_networks.STRIDES, strict=True):
        for stride in (first, 1):
            layers.append(InvertedResidual(before, channels, stride, 6))
            before = channels
    layers.append(ConvBNActivation(8, 48, 1))
    product = torch.nn.Sequential(*layers).eval()
    product.load_state_dict(dict(zip(product.state_dict(), made.features.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(product(x), made.features(x))
    linear, clipped = (claims_networks.bottlenecks(projection=name).eval() for name in ("linear", "relu6"))
    block = [model.features[1].blocks[1].project for model in (linear, clipped)]
    hidden = torch.randn(1, 24, 8, 8)
    assert block[0](hidden).min() < 0 <= block[1](hidden).min()


def test_a_spiral_in_two_channels_is_lost_where_one_is_off_and_kept_without_relu():
    points, into = claims_spiral.spiral(), claims_spiral.matrix(2, 0)
    whole = points @ into.T
    np.testing.assert_allclose(claims_spiral.brought_back(whole, into), points, atol=1e-12)
    values = claims_spiral.embedded(points, into)
    assert claims_spiral.lost(values) == np.mean((whole <= 0).any(1)) > 0.5
    assert claims_spiral.explained(points, whole) == pytest.approx(1)
    lost = [row["lost_mean"] for row in claims_spiral.measured()]
    assert lost == sorted(lost, reverse=True) and lost[-1] == 0


def _result(right, snr_db=()):
    return claims_training.Result(right={"float": np.array(right, bool)}, snr_db=dict(snr_db))


def test_pairs_are_counted_seed_by_seed():
    better = [_result([1] * 90 + [0] * 10), _result([1] * 88 + [0] * 12), _result([1] * 92 + [0] * 8)]
    other = [_result([0] * 10 + [1] * 75 + [0] * 15)] * 3
    found = claims_numbers.compared(better, other, "float", "accuracy")
    assert found["by_seed"] == [15, 13, 17] and found["mean"] == 15 and found["seeds_in_favour"] == 3
    assert found["counts"][0]["won"] == 15 and found["counts"][0]["lost"] == 0
    assert found["counts"][0]["interval"][0] < 15 < found["counts"][0]["interval"][1]
    # Student's quantile of two degrees of freedom is 4.303
    assert found["interval"] == [round(15 - 4.303 * 2 / 3**0.5, 2), round(15 + 4.303 * 2 / 3**0.5, 2)]
    assert found["says"] == "shown"
    assert claims_numbers.compared(other, better, "float", "accuracy")["says"] == "the opposite"
    assert claims_numbers.compared(better, better[::-1], "float", "accuracy")["says"] == "not shown"
    assert claims_numbers.compared(better[:1], other[:1], "float", "accuracy")["interval"] == [-100, 100]


def test_counts_have_their_exact_intervals():
    row = claims_numbers.counted([_result([1] * 90 + [0] * 10)], "float")
    assert (row["right"], row["of"], row["mean"]) == ([90], 100, 90)
    assert row["intervals"] == [[0.8238, 0.951]]  # Clopper and Pearson's, as published tables have it


def test_a_run_depends_on_its_seed_alone():
    one, again, other = (claims_training.run(claims.PUBLISHED, seed, epochs=2) for seed in (0, 0, 1))
    assert (one.right["float"] == again.right["float"]).all() and len(one.right["float"]) == claims_training.HELD_OUT
    assert (one.right["float"] != other.right["float"]).any()


def test_a_network_is_run_in_each_way():
    variant = claims_training.Variant(make=claims.PUBLISHED.make, ways=("fp16", "int8"))
    found = claims_training.run(variant, 0, epochs=6)
    assert list(found.right) == ["float", "fp16", "int8"]
    assert found.snr_db["fp16"] > 40 and 10 < found.snr_db["int8"] < found.snr_db["fp16"]
