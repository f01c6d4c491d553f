"""Folding and quantization on a small model, and training that can be killed."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import data, saying
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import moved, turns
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import compress
from twinkeel.pipeline.program.evaluation import evaluate, evaluate_quantized
from twinkeel.pipeline.program.graph import attribute
from twinkeel.pipeline.program.program import InputContract
from twinkeel.pipeline.stages import fold, history, quantize, train
from twinkeel.pipeline.tasks import classification

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def small_model(shallow_model):
    model = shallow_model()
    with torch.no_grad():
        for _ in range(3):  # BatchNorm statistics that are not 0 and 1
            model(torch.randn(8, 3, 32, 32))
    return model.eval().requires_grad_(False)


def contract():
    return InputContract.of(32, MEAN, STD)


def noise(count=8):
    return data.rgba(np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8))


def test_folding_is_exact_at_the_padded_borders_too(small_model):
    model, before = small_model, contract()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    folded = fold.fold(model, before)
    images = noise()
    snr = metrics.snr_db(evaluate(fold.Normalized(model, MEAN, STD), images), evaluate(folded, images))
    assert snr >= 110, f"{snr:.1f} dB"
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.Dropout)]


def test_programs_of_one_key_are_folded_once_and_changed_apart(small_model, monkeypatch):
    from twinkeel.pipeline.stages.saved import SavedProgram

    folds, really = [], fold.fold
    monkeypatch.setattr(fold, "fold", lambda *given: folds.append(1) or really(*given))

    def program(key):
        return SavedProgram(copy.deepcopy(small_model), contract(), (), lambda name: b"", {}, key)

    expected = evaluate(really(small_model, contract()), noise(), 8)
    with torch.no_grad():
        for key in ("a", "a", "b", "", "b"):
            folded = program(key).folded
            assert np.array_equal(evaluate(folded, noise(), 8), expected), key
            for tensor in folded.parameters():  # as a converter may
                tensor.zero_()
    assert len(folds) == 3


def test_quantizing_leaves_the_float_reference_alone(small_model):
    folded = fold.fold(small_model, contract())
    state = {k: v.clone() for k, v in folded.state_dict().items()}
    quantize.quantize(folded, noise(2), contract())
    assert all(torch.equal(v, state[k]) for k, v in folded.state_dict().items())


def test_graphs_that_were_quantized_are_let_go(shallow_program):
    """With their weights: a ladder makes a dozen of them."""
    images = data.rgba(np.zeros((2, 32, 32, 3), np.uint8))
    made = quantize.quantize(shallow_program.folded, images, shallow_program.contract)
    known = [weakref.ref(module) for module in (made.module, made.unfolded)]
    assert all(one() is not None for one in known)
    del made
    gc.collect()
    assert [one() for one in known] == [None, None]


def test_pixels_are_quantized_without_loss_and_relu6_with_its_convolution(small_model):
    quantized = quantize.quantize(fold.fold(small_model, contract()), noise(2), contract()).module
    nodes = [n for n in quantized.graph.nodes if n.op == "call_function"]
    first = next(n for n in nodes if "quantize_per_tensor" in str(n.target))
    assert first.args[1:3] == (1.0, contract().grey - 128)
    for node in nodes:
        if "hardtanh" in str(node.target):
            assert "conv2d" in str(node.args[0].target)


def test_litert_gets_weights_that_leave_its_converter_no_choice(small_model):
    made = quantize.quantize(fold.fold(small_model, contract()), noise(2), contract())
    quantized, unfolded = made.module, made.unfolded
    whole = [n for n in quantized.graph.nodes if "dequantize_per_channel" in str(n.target)]
    real = [n for n in unfolded.graph.nodes if ".quantize_per_channel" in str(n.target)]
    assert len(whole) == len(real) == 14
    for a, b in zip(whole, real, strict=True):
        steps, scale = (attribute(quantized, argument.target) for argument in a.args[:2])
        dense = steps.float() * scale.view(-1, *[1] * (steps.ndim - 1))
        assert torch.equal(attribute(unfolded, b.args[0].target), dense)


def test_an_epoch_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(saying, "EVERY", 0.0)
    monkeypatch.setattr(train, "_SCORED_AT_ONCE", 8)
    config = Config.model_validate({"train": {"epochs": 1, "batch_size": 16, "device": "cpu"}})
    part = classification.load(config).train.part(slice(48))
    few = data.Dataset(train=part, calibration=part, held_out=part.part(slice(16)), names=tuple("0123456789"))
    told = []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))
    train.train(model, few, config, classification, tmp_path, lambda *_: None, lambda *line: told.append(line))
    assert [done for _, done in told] == [(16, 48), (32, 48), (8, 16)]
    assert told[0][0].startswith("train: epoch 1/1: 16 of 48 images, about ") and ", held-out: 8 of 16" in told[2][0]


def test_training_resumed_after_a_kill_ends_in_the_same_weights(tmp_path):
    config = Config.model_validate({"train": {"epochs": 3, "batch_size": 16, "device": "cpu"}})
    full = classification.load(config)
    few = data.Dataset(
        train=data.Split(images=full.train.images[:48], truth=full.train.truth[:48]),
        calibration=full.calibration, held_out=data.Split(images=full.held_out.images[:8], truth=full.held_out.truth[:8]),
        names=full.names,
    )  # fmt: skip

    class Killed(Exception):
        pass

    def kill(epoch, _):
        if epoch.epoch == 2:
            raise Killed

    def fresh():
        torch.manual_seed(0)
        return mobilenet_v2.create(10, 0.35)

    straight, resumed = fresh(), fresh()
    undisturbed = train.train(straight, few, config, classification, tmp_path / "a", lambda *_: None)
    with pytest.raises(Killed):
        train.train(fresh(), few, config, classification, tmp_path / "b", kill)
    resumed_history = train.train(resumed, few, config, classification, tmp_path / "b", lambda *_: None)
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in straight.state_dict().items())
    assert train.curves(resumed_history, "accuracy") == train.curves(undisturbed, "accuracy")
    assert len(train.curves(resumed_history, "accuracy")["curves.png"]) > 1000


def test_channels_without_weights_keep_their_biases():
    """Decay and pruning end in a gamma of 0: such channels are constants, and their steps would have no room for them."""
    torch.manual_seed(0)
    conv = [
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
    ]
    model = nn.Sequential(*conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    with torch.no_grad():
        for norm, biases in ((model[1], [0.5, 1.5, 3.0]), (model[4], [0.7, 2.0, 4.0])):
            norm.weight[:3], norm.bias[:3] = 0.0, torch.tensor(biases)
    contract = InputContract.of(32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    folded = fold.fold(model.eval(), contract)
    pixels = data.rgba(np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8))
    quantized = quantize.quantize(folded, pixels[:16], contract).module
    snr = metrics.snr_db(evaluate(folded, pixels[16:]), evaluate_quantized(quantized, pixels[16:]))
    assert snr > 30, f"{snr:.1f} dB"


def test_augmentation_turns_an_oblong_image_as_it_is():
    """Around its middle by a right angle: what lay right of it lies above or below, as far from it as before."""
    settings = Config.model_validate({"train": {"rotation_degrees": 180.0, "zoom": 0.0, "shift": 0.0}}).train
    image = torch.zeros(1, 1, 33, 65)
    image[..., 14:19, 40:45] = 1  # 10 pixels right of the middle
    for seed in range(200):
        torch.manual_seed(seed)
        turn = float(torch.rand(4, 1)[0] * 2 - 1) * 180
        torch.manual_seed(seed)
        (found,) = moved(image, turns(1, settings))
        rows, columns = (found[0] > 0.5).nonzero().float().mean(0) - torch.tensor([16.0, 32.0])
        distance = float(torch.hypot(rows, columns))
        assert abs(distance - 10) < 0.7, f"{turn:.0f} degrees: {distance:.1f} pixels from the middle"


def test_a_damaged_state_of_a_training_is_not_gone_on_from(tmp_path):
    model = mobilenet_v2.create(10, 0.35)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    how, place = train.Mechanics(), tmp_path / "state.pt"
    train._save(place, model, optimizer, schedule, how, [history.Epoch(epoch=1, loss=1.0, score=0.5)])
    said = []
    resume = lambda: train._resume(place, model, optimizer, schedule, how, torch.device("cpu"), said.append)  # noqa: E731
    assert len(resume()) == 1 and not said
    content = bytearray((tmp_path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "state.pt").write_bytes(content)
    assert resume() == [] and "state.pt' is damaged" in said[0]
    (tmp_path / "state.pt").write_bytes(b"")
    assert resume() == [] and len(said) == 2


def test_int8_weights_are_within_half_a_step_and_what_is_stored_is_what_is_computed_with(small_model):
    folded = fold.fold(small_model, contract())
    packed = compress.compress(folded, 8)
    for name, weight in packed.weights.items():
        layer = packed.module.get_submodule(name)
        scale = weight.scale.astype(np.float32).reshape(-1, *[1] * (weight.stored.ndim - 1))
        dense = (weight.stored.astype(np.float32) * scale).astype(np.float16)
        assert np.array_equal(dense, weight.dense)
        assert np.array_equal(layer.weight.numpy(), weight.dense.astype(np.float32))
        assert np.array_equal(layer.bias.numpy(), layer.bias.half().float().numpy())
        original = folded.get_submodule(name).weight.numpy()
        # half a step, and the rounding of the product to 11 bits
        assert (np.abs(original - weight.dense) <= 0.5 * scale + np.abs(original) * 2.0**-10).all(), name


def test_4_bit_weights_are_entries_of_their_palettes_and_small_layers_stay_at_8(small_model):
    packed = compress.compress(fold.fold(small_model, contract()), 4)
    for name, weight in packed.weights.items():
        layer = packed.module.get_submodule(name)
        if isinstance(layer, torch.nn.Conv2d) and (layer.groups > 1 or layer.in_channels == 4):
            assert weight.palettes is None
            continue
        groups = weight.stored.reshape(len(weight.palettes), -1)
        assert weight.stored.max() <= 15 and weight.palettes.shape[1] == 16
        dense = np.take_along_axis(weight.palettes, groups.astype(np.int64), 1).reshape(weight.dense.shape)
        assert np.array_equal(dense, weight.dense)


def test_palettes_are_more_exact_than_int4_blocks_of_the_same_size():
    weight = np.random.default_rng(0).normal(size=(96, 576, 1, 1)).astype(np.float32)
    packed = compress.with_palettes(weight)
    blocks = weight.reshape(96, 18, 32)
    scale = (np.abs(blocks).max(-1, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    in_blocks = (np.clip(np.rint(blocks / scale), -8, 7) * scale).reshape(weight.shape)
    sizes = packed.palettes.nbytes, 2 * scale.size
    assert sizes[0] <= sizes[1], sizes
    by_palette, by_block = metrics.snr_db(weight, packed.dense), metrics.snr_db(weight, in_blocks)
    assert by_palette > by_block, f"{by_palette:.2f} dB with palettes, {by_block:.2f} dB with blocks"


def test_a_weight_of_equal_values_and_one_of_zeros_can_be_packed():
    for value in (0.0, 0.25):
        weight = np.full((8, 16, 1, 1), value, np.float32)
        for packed in (compress.per_channel(weight), compress.with_palettes(weight)):
            np.testing.assert_allclose(packed.dense, weight, atol=1e-3)


def test_half_references_leave_the_program_alone(shallow_program):
    before = {k: v.clone() for k, v in shallow_program.quantized.state_dict().items()}
    compress.half_quantized(shallow_program.quantized)
    assert all(torch.equal(v, before[k]) for k, v in shallow_program.quantized.state_dict().items())


def test_without_rounding_a_quantized_reference_is_near_the_float_one(small_program):
    images = noise(2)
    rounded, unrounded = (small_program.evaluate(key, images) for key in ("int8", "int8-unrounded"))
    folded = small_program.evaluate("fp32", images)
    assert metrics.snr_db(folded, unrounded) > metrics.snr_db(folded, rounded) + 3


def test_no_pattern_with_a_batchnorm_is_traced_for_a_network_without_one(small_model, monkeypatch):
    """Each of the dozen takes a sixth of a second, for every rung anew."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils

    folded = fold.fold(small_model, contract())
    monkeypatch.setattr(
        xnnpack_quantizer_utils, "_get_aten_graph_module_for_pattern", lambda *_: pytest.fail("a pattern was traced")
    )
    prepared = quantize.prepare(folded, noise(2), quantize.Settings())
    assert sum("activation_post_process" in node.name for node in prepared.graph.nodes) > 20
