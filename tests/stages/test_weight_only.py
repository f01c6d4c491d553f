"""Weights alone in few bits: sizes, what is stored, and answers on images that nothing was fitted to."""

from __future__ import annotations

import hard_models
import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.pipeline import data
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import WEIGHTED, channel_axis, compress
from twinkeel.pipeline.program.evaluation import evaluate
from twinkeel.pipeline.program.program import InputContract
from twinkeel.pipeline.stages import fold, saved, weight_only
from twinkeel.pipeline.stages.weight_only import Form, allocate
from twinkeel.pipeline.tasks import classification

CONTRACT = InputContract.of(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def silent(*_):
    pass


@pytest.fixture(scope="module")
def digits():
    return classification.load(Config.model_validate({"data": {"held_out": 0.2}}))


@pytest.fixture(scope="module")
def images(digits):
    """For calibration, and others."""
    return data.rgba(digits.calibration.images[::4]), data.rgba(digits.held_out.images[::3])


@pytest.fixture(scope="module")
def folded(fixed_model):
    return fold.fold(fixed_model, CONTRACT)


@pytest.fixture(scope="module")
def found(folded, images):
    """By bits."""
    return {bits: weight_only.compressed(folded, images[0], bits, silent) for bits in (8, 4)}


def db(folded, compressed, images):
    return metrics.snr_db(evaluate(folded, images, 64), evaluate(compressed.module, images, 64))


@pytest.mark.parametrize(("bits", "gain"), [(8, 5), (4, 5)])
def test_more_is_kept_than_by_rounding_at_about_the_same_size(bits, gain, folded, images, found):
    plain = compress.compress(folded, bits)
    before, after = db(folded, plain, images[1]), db(folded, found[bits], images[1])
    assert after >= before + gain, f"w{bits}: {after:.1f} dB, {before:.1f} rounded as it stands"
    size, smallest = found[bits].bits_per_weight, plain.bits_per_weight
    allowed = weight_only.ROOM * smallest if bits == 8 else max(weight_only.BUDGETS[4], smallest)
    assert size <= allowed, f"w{bits}: {size:.3f} bits a weight, allowed {allowed:.3f}"


@pytest.mark.parametrize("bits", [8, 4])
def test_without_time_for_it_weights_are_rounded_as_they_stand(bits, folded):
    said = []
    found = weight_only.rounded(folded, bits, lambda line, *_: said.append(line))
    assert saved.write_compressed(found) == saved.write_compressed(compress.compress(folded, bits))
    assert len(said) == 1 and "as they stand: minutes = 0" in said[0]


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_stored_is_what_is_computed_with_and_equal_work_gives_equal_bytes(bits, folded, images, found):
    content = saved.write_compressed(found[bits])
    again = weight_only.compressed(folded, images[0], bits, silent)
    assert saved.write_compressed(again) == content
    read = saved.read_compressed(content, folded)
    assert read.weights.keys() == found[bits].weights.keys()
    for name, layer in compress.weighted(found[bits].module):
        assert torch.equal(layer.weight, read.module.get_submodule(name).weight), name
        assert torch.equal(layer.bias, read.module.get_submodule(name).bias), name
        assert torch.equal(layer.bias, layer.bias.half().float()), name
        packed = read.weights.get(name)
        dense = layer.weight.half().numpy() if packed is None else packed.dense
        assert np.array_equal(layer.weight.numpy(), dense.astype(np.float32)), name
        if packed is None or packed.palettes is not None:
            continue
        low, high = compress.STEPS[packed.bits]
        assert low <= packed.stored.min() and packed.stored.max() <= high, name
        steps = packed.stored.reshape(len(packed.stored), packed.scale[0].size, -1).astype(np.float32)
        scale = packed.scale.reshape(len(packed.stored), -1, 1).astype(np.float32)
        assert np.array_equal((steps * scale).astype(np.float16).reshape(dense.shape), dense), name


def test_8_bits_need_no_more_than_ios_16_has(found):
    assert {weight.bits for weight in found[8].weights.values()} == {8}
    assert all(weight.palettes is None and weight.scale.ndim == 1 for weight in found[8].weights.values())


@pytest.mark.parametrize("change", ["with_rescaled_bottlenecks", "with_relu_and_rescaled_depthwise"])
def test_badly_scaled_channels_cost_nothing_beside_the_even_model(change, fixed_model, images):
    even = fold.fold(hard_models.with_relu(fixed_model) if "relu" in change else fixed_model, CONTRACT)
    scaled = fold.fold(getattr(hard_models, change)(fixed_model, 1), CONTRACT)
    possible = db(even, weight_only.compressed(even, images[0], 4, silent), images[1])
    before = db(scaled, compress.compress(scaled, 4), images[1])
    after = db(scaled, weight_only.compressed(scaled, images[0], 4, silent), images[1])
    assert after >= before + 5, f"{after:.1f} dB, {before:.1f} rounded as it stands"
    assert after >= possible - 4, f"{after:.1f} dB, {possible:.1f} of the even model"


@pytest.mark.parametrize("count", [1, 4])
def test_a_few_images_are_not_learnt_by_heart(count, folded, images):
    plain = db(folded, compress.compress(folded, 4), images[1])
    some = db(folded, weight_only.compressed(folded, images[0][:count], 4, silent), images[1])
    assert some >= plain - 1, f"{some:.1f} dB on other images from {count}, {plain:.1f} rounded as it stands"


def test_images_without_content_and_channels_without_weights_do_no_harm(folded, images):
    dead = fold.deepcopy(folded)
    name, layer = compress.weighted(dead)[5]
    with torch.no_grad():
        layer.weight[:2] = 0
        layer.bias[:2] = 0
    black = np.zeros_like(images[0][:3])
    black[..., 3] = 255
    for module, shown in ((dead, images[0][:8]), (folded, black)):
        made = weight_only.compressed(module, shown, 4, silent)
        assert np.isfinite(evaluate(made.module, images[1][:8], 8)).all(), name


def test_bits_go_where_they_are_felt_and_never_beyond_the_budget():
    random = np.random.default_rng(0)
    forms = (Form(4), Form(8), Form(16))
    for _ in range(20):
        sizes = {f"layer {n}": int(random.integers(10, 1000)) for n in range(12)}
        felt = {name: 10 ** random.uniform(-3, 3) for name in sizes}
        noise = {name: {form: felt[name] * 4.0**-form.bits for form in forms} for name in sizes}
        cost = {name: {form: float(form.bits * sizes[name]) for form in forms} for name in sizes}
        budget = random.uniform(4.1, 12) * sum(sizes.values())
        choice = allocate(noise, cost, budget)
        assert sum(cost[name][form] for name, form in choice.items()) <= budget
        total = sum(noise[name][form] for name, form in choice.items())
        uniform = [
            sum(noise[name][form] for name in sizes)
            for form in forms
            if sum(cost[name][form] for name in sizes) <= budget
        ]
        assert total <= min(uniform), (total, uniform)
    smallest = allocate(noise, cost, 0.0)
    assert set(smallest.values()) == {Form(4)}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block", [0, 8])
def test_steps_have_a_scale_for_each_block_and_clip_only_where_that_helps(bits, block):
    weight = np.random.default_rng(0).standard_t(3, (24, 32, 1, 1)).astype(np.float32)
    packed = compress.in_steps(weight, bits, block)
    assert packed.scale.shape == ((24, 4) if block else (24,))
    assert packed.stored_bits == bits * weight.size + 16 * packed.scale.size
    blocks = weight.reshape(24, packed.scale[0].size, -1)
    low, high = compress.STEPS[bits]
    scale = (np.abs(blocks).max(2) / high).astype(np.float16).astype(np.float32)[..., None]
    unclipped = np.clip(np.rint(blocks / scale), low, high) * scale
    unclipped = unclipped.astype(np.float16).astype(np.float32).reshape(weight.shape)  # as packages multiply
    assert np.square(packed.dense - weight).sum() <= np.square(unclipped - weight).sum() * 1.001


def test_rounding_in_turn_is_better_than_to_the_nearest_where_inputs_go_together():
    """The error that counts is that of the outputs."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(4000, 8)) @ random.normal(size=(8, 32)) + 0.3 * random.normal(size=(4000, 32))
    weight = random.normal(size=(16, 32)).astype(np.float32)
    power = torch.from_numpy(inputs.T @ inputs / len(inputs))[None]
    grid = compress.in_steps(weight[..., None, None], 4)
    stored = weight_only._round_in_turn(torch.from_numpy(weight.astype(np.float64))[None], power, grid)
    dense = compress.unpacked(stored[..., None, None], grid.scale, bits=4).dense[..., 0, 0]
    nearest = grid.dense[..., 0, 0]
    errors = [np.square(inputs @ (found.astype(np.float64) - weight).T).mean() for found in (dense, nearest)]
    assert errors[0] <= 0.5 * errors[1], errors


LAYERS = {
    "pointwise": nn.Conv2d(6, 8, 1),
    "strided": nn.Conv2d(6, 8, 3, stride=2, padding=1),
    "depthwise": nn.Conv2d(6, 12, (3, 5), padding=(1, 2), groups=6),
    "dilated groups": nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(6 * 7 * 9, 8)),
    "linear on tokens": nn.Sequential(nn.Flatten(2), nn.Linear(63, 8)),
}


def node_of(layer):
    """The layer's own node in a graph, its weights, and what it reads for these images."""
    images = torch.randn(3, 6, 7, 9, generator=torch.Generator().manual_seed(0))
    graph = torch.export.export(layer, (images,)).module()
    node = next(node for node in graph.graph.nodes if node.target in WEIGHTED)
    weighted = layer[-1] if isinstance(layer, nn.Sequential) else layer
    return node, weighted.weight.detach(), layer[:-1](images) if isinstance(layer, nn.Sequential) else images


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layers_slopes_say_what_every_error_of_its_weights_does(kind):
    node, weight, x = node_of(LAYERS[kind])
    draw = torch.Generator().manual_seed(1)
    errors = [torch.randn(weight.shape, generator=draw) for _ in range(3)]
    probes = [torch.randn(weight_only._apply(node, x, weight, None).shape, generator=draw) for _ in range(2)]
    wanted = torch.empty(len(errors), len(probes), len(x))
    for row, error in zip(wanted, errors, strict=True):
        change = weight_only._apply(node, x, error, None)
        axes = [axis for axis in range(change.ndim) if axis != channel_axis(node) % change.ndim]
        change = change - change.mean(axes, keepdim=True)
        for line, probe in zip(row, probes, strict=True):
            line[:] = (probe * change).flatten(1).sum(1)
    found = weight_only._reached(node, x, probes, errors).reshape(wanted.shape)
    off = float((found - wanted).abs().max() / wanted.abs().max())
    assert off < 1e-5, f"{kind}: {off:.2e} of the largest"


@pytest.mark.parametrize("kind", ["pointwise", "strided", "depthwise", "dilated groups", "linear on tokens"])
def test_places_that_are_drawn_are_read_as_all_are(kind):
    node, weight, x = node_of(LAYERS[kind])
    draw = torch.Generator().manual_seed(2)
    state = draw.get_state()
    everything = weight_only._inputs(node, x, weight)
    groups, taps, places = everything.shape
    count = places // len(x) // 2
    drawn = torch.randperm(places // len(x), generator=draw)[:count]
    some = weight_only._inputs(node, x, weight, (count, state))
    wanted = everything.reshape(groups, taps, len(x), -1)[..., drawn].reshape(groups, taps, -1)
    assert some.shape == wanted.shape and torch.equal(some, wanted)


def test_palettes_that_have_arrived_stay_where_they_are():
    """Rounds end early for groups whose centres do not move; the others go on."""
    random = np.random.default_rng(0)
    groups = np.concatenate([random.standard_normal((3, 192)), np.repeat(random.standard_normal((1, 16)), 12, 1)])
    weights = random.uniform(0.1, 1, groups.shape)
    together = compress._lloyd(groups, weights)
    apart = np.concatenate([compress._lloyd(groups[n : n + 1], weights[n : n + 1]) for n in range(len(groups))])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(compress._lloyd(groups, weights, 400), compress._lloyd(groups, weights, 500))
