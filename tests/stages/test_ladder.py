"""The ladder: each rung does what it says, the best is kept, and none passing ends the build."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import signal
import time
from types import SimpleNamespace

import hard_models
import numpy as np
import pytest
import torch
from twinkeel.pipeline import data
from twinkeel.pipeline.building.jobs import cost
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.delivery import outputs
from twinkeel.pipeline.errors import ConversionError, ParityError
from twinkeel.pipeline.parity import limits, metrics, verdict
from twinkeel.pipeline.program import integer
from twinkeel.pipeline.program.evaluation import evaluate, evaluate_batched
from twinkeel.pipeline.program.graph import WEIGHTED, attribute, module_path
from twinkeel.pipeline.program.program import InputContract
from twinkeel.pipeline.stages import (
    blocks,
    calibration,
    candidates,
    fold,
    ladder,
    layerwise,
    qat,
    quantize,
    ranges,
    simulation,
)
from twinkeel.pipeline.stages.rungs import float_layers
from twinkeel.pipeline.tasks import classification

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTRACT = InputContract.of(32, MEAN, STD)
RUNGS = ("equalize", "bias_correction", "learned_rounding", "reconstruction", "float_layers", "qat")


@pytest.fixture(autouse=True)
def few_images_tell_which_layers_lose_most(monkeypatch):
    """Each layer alone, and all but each, is most of what a gate that is missed takes here."""
    monkeypatch.setattr(candidates, "_SENSITIVITY_PIXELS", 8 * 32 * 32)


@pytest.fixture(scope="module")
def few():
    """Digits, few of each set."""
    full = classification.load(Config.model_validate({"data": {"held_out": 0.2}}))

    def first(split, count):
        return data.Split(images=split.images[:count], truth=split.truth[:count])

    return data.Dataset(
        train=first(full.train, 128),
        calibration=first(full.calibration, 48),
        held_out=first(full.held_out, 64),
        names=full.names,
    )


@pytest.fixture(scope="module")
def hard(few):
    """A heavy-tailed model, its int8 reference, and images."""
    folded, images = fold.fold(hard_models.heavy_tailed(0.35, 32, 1), CONTRACT), data.rgba(few.calibration.images)
    return folded, quantize.quantize(folded, images, CONTRACT), images


def config(snr_db=25.0, limits=(), **rungs):
    gate = {"leg": "quantize", "precision": "int8", "reason": "random weights"}
    return Config.model_validate(
        {
            "weights": {"path": "random"},
            "quantize": rungs,
            "limit": [{**gate, "metric": "snr_db", "value": snr_db}, {**gate, "metric": "accuracy_drop", "value": 1.0}],
        }
    )


def climb(folded, few, config):
    lines = []
    return ladder.climb(folded, few, CONTRACT, config, classification, lambda line, *_: lines.append(line)), lines


def only(*names, **others):
    """Nothing but these rungs."""
    forbidden = {"range_estimator": "minmax"} | dict.fromkeys(RUNGS, "never")
    return forbidden | dict.fromkeys(names, "auto") | others


def test_the_best_is_kept_whether_or_not_the_gate_is_met_and_each_rung_has_a_line(hard, few, monkeypatch):
    """Correcting biases is worth some dB on this model wherever it runs; how many in all, processors do not agree on."""
    nothing = ("nothing", "auto", lambda _, best: [best.state])
    worse = ("worse", "auto", lambda _, best: [dataclasses.replace(best.state, tuned=_disturbed(best.state.tuned))])
    known = {name: (name, when, method) for name, when, method in ladder.methods(config().quantize)}
    order = [nothing, worse, known["bias correction"], known["equalization"], worse]
    monkeypatch.setattr(ladder, "methods", lambda _: order)
    found, lines = climb(hard[0], few, config(equalize="auto", snr_db=-50.0))
    names = [rung.name for rung in found.rungs]
    assert names == ["plain", "nothing", "worse", "bias correction", "equalization", "worse", "chosen"], names
    assert all(rung.is_met for rung in found.rungs if rung.name != "worse"), found.rungs
    kept = [rung.name for rung in found.rungs if rung.is_kept]
    assert kept in (["plain", "bias correction", "chosen"], ["plain", "bias correction", "equalization", "chosen"]), (
        kept
    )
    told = [line for line in lines if "SNR" in line and "cost: none" in line and "MB" in line]
    assert len(told) == 7 and sum("next" in line and "budget" in line for line in lines) == 5, lines
    held_out = data.rgba(few.held_out.images)
    snr = metrics.snr_db(evaluate(hard[0], held_out), evaluate_batched(found.quantized.module, held_out))
    assert snr == pytest.approx(found.rungs[-1].snr_db, abs=1.0), found.rungs  # roundings fall apart, 1 step
    assert snr > found.rungs[0].snr_db + 0.9, found.rungs


def test_without_training_images_training_is_left_out_and_said(hard, few):
    nothing = dataclasses.replace(few, train=data.Split(images=few.train.images[:0], truth=few.train.truth[:0]))
    asked = config(snr_db=200.0, **only("qat"))
    asked = asked.model_copy(update={"data": asked.data.model_copy(update={"source": "images"})})
    lines = []
    with pytest.raises(ParityError) as caught:
        ladder.climb(hard[0], nothing, CONTRACT, asked, classification, lambda line, *_: lines.append(line))
    told = "data.source = 'images' has no images to train on, for all are calibrated or judged on"
    assert f"quantize: no quantization-aware training: {told}" in lines, lines
    assert f"There was no quantization-aware training: {told}." in str(caught.value)
    assert "int8 misses its gate on every rung" in str(caught.value)


def _disturbed(module):
    changed = copy.deepcopy(module)
    with torch.no_grad():
        list(changed.parameters())[-2].mul_(-1)  # of the classifier
    return changed


def test_methods_do_not_see_the_images_that_judge_them(hard, few):
    found = candidates.Ladder(hard[0], few, CONTRACT, config(), classification, lambda *_: None)
    fitted, judging = (
        {image.tobytes() for image in data.arrays(images)[0]} for images in (found.fitted, found.judging)
    )
    assert len(found.fitted) == 36 and len(found.judging) == 12 and not fitted & judging
    state = found.corrected(found.start())
    found.judging.images[:] = 0
    again = found.corrected(found.start())
    for a, b in zip(state.tuned.parameters(), again.tuned.parameters(), strict=True):
        assert torch.equal(a, b)


def test_few_calibration_images_are_fitted_to_and_judge(hard, few):
    tiny = dataclasses.replace(
        few, calibration=data.Split(images=few.calibration.images[:3], truth=few.calibration.truth[:3])
    )
    found = candidates.Ladder(hard[0], tiny, CONTRACT, config(), classification, lambda *_: None)
    assert len(found.fitted) == len(found.judging) == 3


def test_what_there_is_no_time_for_is_left_out_and_said(shallow_program, few):
    found, lines = climb(shallow_program.folded, few, config(snr_db=5.0, minutes=0.0))
    assert [rung.name for rung in found.rungs] == ["plain", "chosen"]
    (said,) = [line for line in lines if "no time for" in line and "minutes = 0" in line]
    assert sum("no time for" in line for line in lines) == 2, lines  # the other is the last rung's own
    for name in ("bias correction", "equalization", "ranges by mse", "learned rounding", "layer-wise reconstruction"):
        assert name in found.rungs[-1].note and name in said, lines


def test_what_is_asked_for_is_done_whatever_the_time(shallow_program, few):
    wanted = config(snr_db=5.0, minutes=0.0, bias_correction="always")
    assert [rung.name for rung in climb(shallow_program.folded, few, wanted)[0].rungs] == [
        "plain",
        "bias correction",
        "chosen",
    ]


@pytest.fixture
def interruptible():
    """As a program that a terminal started; a shell's `&` leaves SIGINT ignored, and so would pytest."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_the_middle_of_a_rung_keeps_the_best_so_far_and_says_so(hard, few, monkeypatch):
    reached = []

    def endless(*_):
        reached.append(True)
        signal.raise_signal(signal.SIGINT)
        while True:
            time.sleep(0.01)

    known = {name: (name, when, method) for name, when, method in ladder.methods(config().quantize)}
    monkeypatch.setattr(ladder, "methods", lambda _: [known["bias correction"], ("endless", "auto", endless)])
    before = signal.getsignal(signal.SIGINT)
    found, lines = climb(hard[0], few, config(snr_db=-50.0))
    assert reached and found.rungs[-1].is_stopped and signal.getsignal(signal.SIGINT) is before
    assert [rung.name for rung in found.rungs] == ["plain", "bias correction", "chosen"]
    assert "stopped by hand" in found.rungs[-1].note and any("stopped; the best so far" in line for line in lines)
    assert found.rungs[-1].snr_db > found.rungs[0].snr_db


@pytest.mark.usefixtures("interruptible")
def test_a_ctrl_c_that_the_caller_ignores_stays_ignored(hard, few, monkeypatch):
    seen = []

    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)
        seen.append(signal.getsignal(signal.SIGINT))

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(ladder, "methods", lambda _: [("interrupted", "auto", interrupt)])
    found, _ = climb(hard[0], few, config(snr_db=-50.0))
    assert seen == [signal.SIG_IGN] and not found.rungs[-1].is_stopped


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_ends_the_build(hard, few, monkeypatch):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ladder, "methods", lambda _: [("endless", "auto", twice)])
    finish = candidates.Ladder.finished
    monkeypatch.setattr(candidates.Ladder, "finished", lambda *args, **more: (twice(), finish(*args, **more)))
    with pytest.raises(KeyboardInterrupt) as error:
        climb(hard[0], few, config(snr_db=-50.0))
    assert not isinstance(error.value, ladder.Stopped)


def test_rungs_can_be_asked_for_and_forbidden(shallow_program, few):
    wanted = config(snr_db=5.0, **only(bias_correction="always", reconstruction="always"))
    found, _ = climb(shallow_program.folded, few, wanted)
    assert [rung.name for rung in found.rungs] == ["plain", "bias correction", "layer-wise reconstruction", "chosen"]
    wanted = config(snr_db=5.0, **only(equalize="always"))
    assert next(rung.name for rung in climb(shallow_program.folded, few, wanted)[0].rungs) == "equalization"


def test_ranges_of_all_images_never_lose_the_gate(hard, few, monkeypatch):
    """They please those that judge, who are among them, and lose answers on others: what passed is built."""
    judged = candidates.Ladder._judged

    def unlucky(self, name, state, images, *given):
        found = judged(self, name, state, images, *given)
        if images is self.calibration:
            rung = dataclasses.replace(found.rung, calibration_db=99.0, snr_db=1.0, is_met=False)
            found = dataclasses.replace(found, rung=rung)
        return found

    monkeypatch.setattr(candidates.Ladder, "_judged", unlucky)
    found, _ = climb(hard[0], few, config(snr_db=5.0, **only()))
    assert found.rungs[-1].is_met and found.rungs[-1].snr_db == found.rungs[0].snr_db, found.rungs


def test_two_that_round_the_same_weights_are_not_both_asked_for():
    with pytest.raises(ValueError, match="the second undoes the first"):
        config(learned_rounding="always", reconstruction="always")


def test_what_comes_next_is_said_of_every_rung_whatever_the_budget(hard, few, monkeypatch):
    monkeypatch.setattr(blocks, "STEPS", 20)
    wanted = config(snr_db=90.0, **only("float_layers", bias_correction="always", minutes=0, max_float_layers=2))
    lines = []
    with pytest.raises(ParityError) as caught:
        ladder.climb(hard[0], few, CONTRACT, wanted, classification, lambda line, *_: lines.append(line))
    told = [line for line in lines if line.startswith(("quantize: next", "quantize: looking"))]
    asked, needed, looked = told
    assert "next bias correction, about" in asked and "asked for by [quantize], 0 s of the budget are left" in asked, (
        told
    )
    assert "next layers in float, about" in needed and "for there is no build without it" in needed, told
    assert "looking for the layers that lose most, about" in looked, told
    assert (
        "Allow more rungs or minutes under [quantize], give more calibration images, or loosen your [[limit]]"
        in str(caught.value)
    )


def test_what_ranges_take_is_told_by_what_one_of_them_takes(hard, few, monkeypatch):
    """However few images there are, each tensor has its bounds to be tried."""
    rungs = candidates.Ladder(hard[0], few, CONTRACT, config(), classification, lambda *_: None)
    best = rungs.measure("plain", [rungs.start()], None)
    rungs.image_seconds = 0.0
    monkeypatch.setattr(ranges.Seen, "_least_error", lambda self: time.sleep(0.02) or (self.low, self.high))
    seconds = {
        name: method.seconds(rungs, best) for name, _, method in ladder.methods(config().quantize) if "ranges" in name
    }
    tensors = len(rungs.statistics(best.state, rungs.fitted).seen)
    assert tensors > 10 and seconds["ranges by percentile"] < 0.02 * tensors <= seconds["ranges by mse"]


def test_seconds_of_a_rung_are_its_own(hard, few, monkeypatch):
    passed = [0.0]

    def slow(*_):
        passed[0] += 1e6
        return []

    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + passed[0])
    monkeypatch.setattr(candidates, "time", clock)
    methods = [("slow", "auto", slow), ("quick", "auto", lambda _, best: [best.state]), ("slow", "auto", slow)]
    monkeypatch.setattr(ladder, "methods", lambda _: methods)
    found, _ = climb(hard[0], few, config(snr_db=5.0, **only()))
    assert [rung.name for rung in found.rungs] == ["plain", "quick", "chosen"]
    assert all(rung.seconds < 1e6 for rung in found.rungs), found.rungs


def test_one_scale_for_all_channels_is_named_where_it_is_the_cause(hard, few):
    with pytest.raises(ParityError) as caught:
        climb(hard[0], few, config(snr_db=90.0, **only(weights="per-tensor")))
    assert 'set [quantize] weights = "per-channel"' in str(caught.value)


def test_a_gate_that_no_rung_meets_is_an_error_with_every_rung_and_the_layers_to_blame(
    shallow_program, few, monkeypatch
):
    monkeypatch.setattr(blocks, "STEPS", 20)
    with pytest.raises(ParityError) as error:
        climb(shallow_program.folded, few, config(snr_db=90.0, max_float_layers=2, qat="never"))
    text = str(error.value)
    for part in ("snr_db is", ">= 90", "equalization", "bias correction", "percentile", "mse", "learned rounding",
                 "layers in float (features.", "layers that lose most", "forbids quantization-aware training"):  # fmt: skip
        assert part in text, text


def test_a_build_whose_gate_is_missed_leaves_nothing_that_looks_verified(run_cli, small_program, tmp_path):
    from safetensors.torch import save_file

    save_file(small_program.original.model.state_dict(), tmp_path / "w.safetensors")
    rungs = "\n".join(f'{name} = "never"' for name in RUNGS)
    (tmp_path / "twinkeel.toml").write_text(
        '[data]\naccept_accuracy = "random weights"\n[weights]\npath = "w.safetensors"\n'
        f'[quantize]\nrange_estimator = "minmax"\n{rungs}\n'
        '[[limit]]\nleg = "quantize"\nprecision = "int8"\nmetric = "snr_db"\nvalue = 90.0\n'
    )
    result = run_cli("build", "all", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out")
    assert isinstance(result.exception, ParityError) and result.exception.exit_code == 6
    assert "plain: SNR" in str(result.exception) and "layers that lose most" in str(result.exception)
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def simulated(folded, images, settings=None):
    """The simulation, its ranges by least and largest value, and what the float module's channels are."""
    made = simulation.Simulation(folded, images, CONTRACT, settings or quantize.Settings())
    statistics = made.statistics(folded, images)
    return made, made.ranges(statistics, "minmax"), statistics


def test_the_simulation_is_the_conversion_but_for_roundings_that_fall_apart(hard):
    folded, made, images = hard
    found, limits, _ = simulated(folded, images)
    layers = found.rounded(folded, quantize.Settings(), limits)
    converted = found.converted(folded, quantize.Settings(), limits)
    whole, again = (evaluate_batched(m, images) for m in (made.module, converted.module))
    assert metrics.snr_db(whole, again) > 40, "the same ranges, or nearly"
    for node in converted.module.graph.nodes:
        if node.target in WEIGHTED:
            weight, bias = layers[module_path(node)]
            steps, scale = (attribute(converted.module, a.target) for a in node.args[1].args[:2])
            dense = steps.double() * scale.double().view(-1, *[1] * (steps.ndim - 1))
            is_apart = ~torch.isclose(dense, weight.double(), rtol=1e-5, atol=1e-12)
            assert is_apart.float().mean() < 1e-3, "but for a weight in the middle of two steps"
            np.testing.assert_allclose(attribute(converted.module, node.args[2].target), bias, rtol=1e-5, atol=1e-7)
    expected = evaluate(folded, images, 32)
    apart = metrics.snr_db(again, found.outputs(layers, limits, images))
    worth = metrics.snr_db(expected, again)
    assert apart > worth + 3, f"simulation against conversion {apart:.1f} dB, conversion against float {worth:.1f}"


def test_bias_correction_takes_the_mean_error_out(hard):
    folded, _, images = hard
    found, limits, statistics = simulated(folded, images)
    layers = found.rounded(folded, quantize.Settings(), limits)
    corrected = layerwise.correct_biases(found, layers, statistics, limits, images)
    expected = evaluate(folded, images, 32)
    shifts = [np.abs((found.outputs(one, limits, images) - expected).mean(0)).max() for one in (layers, corrected)]
    assert shifts[1] < 0.1 * shifts[0], f"mean error {shifts[0]:.2e}, corrected {shifts[1]:.2e}"
    assert all(torch.equal(layers[path][0], corrected[path][0]) for path in layers)


@pytest.fixture(scope="module")
def learnt(hard):
    """The simulation, its ranges, and the rounding that was learnt with it."""
    folded, _, images = hard
    found, limits, statistics = simulated(folded, images)
    given = found, folded, folded, quantize.Settings(), limits, statistics, images
    return found, limits, blocks.learn(*given, lambda *_: None)


@pytest.mark.parametrize("method", ["solved", "learnt"])
def test_rounding_gains_and_its_weights_are_those_of_the_artifact(hard, learnt, method):
    folded, _, images = hard
    found, limits, rounded = learnt
    plain = found.rounded(folded, quantize.Settings(), limits)
    if method == "solved":
        rounded = layerwise.reconstruct(found, folded, folded, quantize.Settings(), limits, images)
    settings = quantize.Settings(weight_scales=rounded.weight_scales)
    tuned = layerwise.with_layers(folded, rounded.layers)
    again = found.converted(tuned, settings, limits)
    expected = evaluate(folded, images, 32)
    before, after = (
        metrics.snr_db(expected, found.outputs(plain, limits, images)),
        metrics.snr_db(expected, evaluate_batched(again.module, images)),
    )
    assert after >= before + (3 if method == "solved" else 1), f"{before:.1f} dB before, {after:.1f} after"
    for node in again.module.graph.nodes:
        if node.target in WEIGHTED:
            path = module_path(node)
            steps, scale = (attribute(again.module, a.target) for a in node.args[1].args[:2])
            np.testing.assert_allclose(scale.numpy(), rounded.weight_scales[path], rtol=1e-6)
            dense = steps.double() * scale.double().view(-1, *[1] * (steps.ndim - 1))
            np.testing.assert_allclose(dense, rounded.layers[path][0].double(), rtol=1e-5, atol=1e-12)


def test_learned_rounding_moves_no_weight_by_a_step(hard, learnt):
    folded, rounded = hard[0], learnt[2]
    changed = 0
    for path, (weight, _) in rounded.layers.items():
        scale = torch.from_numpy(rounded.weight_scales[path]).float().view(-1, *[1] * (weight.ndim - 1))
        steps = folded.get_parameter(f"{path}.weight") / scale
        assert ((weight / scale - steps).abs() < 1 + 1e-3).all(), path
        changed += int(((weight / scale).round() != steps.round()).sum())
    assert changed > 0


def test_blocks_cover_every_layer_once_and_nothing_passes_them_by(hard):
    found, _, _ = simulated(hard[0], hard[2][:4])
    parts = blocks.blocks(found)
    assert [node for part in parts for node in part.layers] == found.layers
    assert all(1 <= len(part.layers) <= 4 for part in parts)
    for part, after in itertools.pairwise(parts):
        assert part.end is after.start
    layers, images = found.floats(hard[0]), torch.from_numpy(hard[2][:2])
    x = found.value_at(parts[0].start, (images,), layers)
    for part in parts:
        x = part.output(x, layers, {})
    assert torch.allclose(x, hard[0](images), rtol=1e-4, atol=1e-5)


def test_rounding_in_turn_is_nearer_than_rounding_each_weight_by_itself():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(1, 2000, 24, generator=random, dtype=torch.float64)
    inputs = inputs @ torch.randn(24, 24, generator=random, dtype=torch.float64)  # correlated, as neighbours are
    weight = torch.randn(6, 24, generator=random, dtype=torch.float64)
    target = (inputs @ weight.T)[0]
    solved, scale, means = layerwise._solve(inputs, target, weight)
    alone = torch.round(weight / scale[:, None]) * scale[:, None]

    def error(w):
        centred = inputs[0] - inputs[0].mean(0)
        return float(((centred @ w.T - (target - target.mean(0))) ** 2).mean())

    assert error(solved) < 0.8 * error(alone), (error(solved), error(alone))
    assert torch.allclose(means, inputs[0].mean(0) @ solved.T)


@pytest.mark.parametrize("shape", [(3, 1, 1, 6, 6), (3, 2, 1, 6, 1), (1, 1, 0, 6, 1), (3, 1, 2, 6, 1)])
def test_sampled_inputs_times_the_weights_are_the_layer(shape):
    size, stride, padding, channels, groups = shape
    layer = torch.nn.Conv2d(channels, channels, size, stride, padding, groups=groups).double()
    x = torch.randn(3, channels, 9, 8, dtype=torch.float64)
    graph = torch.export.export(layer, (x,)).module().graph
    node = next(n for n in graph.nodes if n.target in WEIGHTED)
    inputs = layerwise._inputs(node, x, layer.weight, 4096)
    rows = layer.weight.reshape(groups, -1, inputs.shape[2])
    found = torch.einsum("gst,got->sgo", inputs, rows).reshape(inputs.shape[1], -1) + layer.bias
    assert torch.allclose(found, layerwise._sampled(node, layer(x), 4096))


def test_training_under_fake_quantization_comes_nearer_to_the_float_model(hard, few, monkeypatch):
    folded, made, images = hard
    monkeypatch.setattr(qat, "STEPS_AT_LEAST", 24)
    losses = []
    settings = quantize.Settings()
    wanted = Config.model_validate({"train": {"batch_size": 32}, "quantize": {"qat_epochs": 1}})
    tuned, found = qat.train_quantized(folded, folded, few.train, wanted, settings, lambda *seen: losses.append(seen))
    settings = quantize.Settings(activation_ranges=found)
    assert [number for number, _, _ in losses] == list(range(1, 7)) and losses[0][1] == 6
    expected, again = evaluate(folded, images, 32), quantize.quantize(tuned, images, CONTRACT, settings)
    before, after = (metrics.snr_db(expected, evaluate_batched(m.module, images)) for m in (made, again))
    assert losses[-1][2] < 0.7 * losses[0][2] and after > before, f"{losses}, {before:.1f} dB before, {after:.1f} after"


INT8 = ("android/litert", "android/executorch", "ios/coreml")


@pytest.mark.parametrize(
    "settings",
    [
        quantize.Settings(float_layers=frozenset({f"model.features.{n}" for n in ("2.conv.1.0", "2.conv.2", "4.conv.2", "5.0")})),
        quantize.Settings(weights="per-tensor"),
    ],
    ids=["layers-in-float", "per-tensor"],
)  # fmt: skip
def test_every_runtime_computes_what_the_rung_promised(settings, shallow_program, few, tmp_path):
    made = quantize.quantize(shallow_program.folded, data.rgba(few.calibration.images), CONTRACT, settings)
    # of a network this shallow sums of floats in any order give the same steps; a deep one is judged by its noise
    assert integer.in_float(made.module) == (("conv2d",) if settings.float_layers else ())
    program = dataclasses.replace(
        shallow_program,
        quantized=made.module,
        quantized_unfolded=made.unfolded,
        outputs=made.with_steps(shallow_program.folded.outputs),
    )
    images = data.rgba(few.held_out.images[:8])
    for name in INT8:
        target = common.targets()[name]
        loaded = target.load(target.build(program, "int8", tmp_path / f"x{target.SUFFIX}"))
        run = loaded.exact or loaded.run
        found = np.concatenate([run(image[None]) for image in images])
        apart = metrics.steps(program.evaluate(target.REFERENCES["int8"], images), found, program.outputs[0].scale)
        assert (apart == 0).all(), f"{name}: {(apart == 0).mean():.4f} equal, at most {apart.max():.0f} steps"


def test_relu_models_are_the_same_on_every_runtime(make_program, shallow_model, tmp_path):
    program = make_program(shallow_model("relu"), 32)
    images = data.rgba(np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), np.uint8))
    for name in INT8:
        target = common.targets()[name]
        loaded = target.load(target.build(program, "int8", tmp_path / f"x{target.SUFFIX}"))
        found = np.concatenate([(loaded.exact or loaded.run)(image[None]) for image in images])
        apart = metrics.steps(program.evaluate(target.REFERENCES["int8"], images), found, program.outputs[0].scale)
        assert (apart == 0).all(), f"{name}: {(apart == 0).mean():.4f} equal, at most {apart.max():.0f} steps"


def test_a_layer_that_is_not_there_cannot_be_kept_in_float(shallow_program, few):
    with pytest.raises(ConversionError, match=r"features\.99"):
        settings = quantize.Settings(float_layers=frozenset({"model.features.99"}))
        quantize.quantize(shallow_program.folded, data.rgba(few.calibration.images[:1]), CONTRACT, settings)


def test_snr_grows_with_the_calibration_set(fixed_model, few, tmp_path):
    folded, settings = fold.fold(fixed_model, CONTRACT), quantize.Settings()
    some = data.Split(images=few.calibration.images[::4], truth=few.calibration.truth[::4])
    few = dataclasses.replace(few, calibration=some)
    points = calibration.curve(folded, folded, few, CONTRACT, settings, lambda *_: None)
    assert [p.images for p in points] == [1, 2, 4, 8, 12]
    assert [len(p.snr_db) for p in points] == [calibration.SUBSETS] * 4 + [1]
    assert points[-1].mean_db > points[0].mean_db + 1, points
    held_out = data.rgba(few.held_out.images)
    made = quantize.quantize(folded, data.rgba(few.calibration.images), CONTRACT)
    whole = metrics.snr_db(evaluate(folded, held_out), evaluate_batched(made.module, held_out))
    assert points[-1].snr_db[0] == pytest.approx(whole, abs=1e-3)
    outputs.add(tmp_path, calibration.files(points))
    assert (tmp_path / "calibration.csv").read_text().startswith("images,subset,snr_db\n1,0,")
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")


FEW_LAYERS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU6(), nn.Conv2d(16, 32, 1)
        )
        self.classifier = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def create(num_classes):
    return Net(num_classes).eval()
"""


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("is_refused", [False, True])
def test_the_cost_of_layers_in_float_is_measured_and_the_artifact_is_verified(
    is_refused, run_cli, tmp_path, monkeypatch
):
    """Or not measured, where a runtime refuses the network with all of its layers in int8, or ends its process."""

    def refused(*_):
        raise RuntimeError("unsupported parameter")

    if is_refused:
        monkeypatch.setattr(cost, "latencies", refused)
    (tmp_path / "net.py").write_text(FEW_LAYERS)
    (tmp_path / "twinkeel.toml").write_text(
        '[model]\nfactory = "net.py:create"\n[weights]\nfrom_factory = true\n[targets]\n"android/litert" = ["int8"]\n'
        '[data]\ncalibration = 16\nheld_out = 0.1\naccept_accuracy = "untrained"\n'
        '[quantize]\nminutes = 0.0\nfloat_layers = "always"\nmax_float_layers = 2\n'
    )
    result = run_cli(
        "build", "android", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--store", tmp_path / "store"
    )
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "layers in float (features." in result.output
    assert ("cost of the layers in float, android/litert: " in result.output) is not is_refused, result.output
    told = "".join(result.output.split())
    assert ("costoffloat:notmeasured,for" in told and "unsupportedparameter" in told) is is_refused, result.output


def test_one_scale_for_all_channels_is_refused_where_it_misses_the_gate(hard, few):
    """The gate lies between the two, 15.0 dB and 20.7 dB: how a processor rounds decides neither."""
    forbidden = only()
    climb(hard[0], few, config(snr_db=18.0, weights="per-channel", **forbidden))
    with pytest.raises(ParityError, match="misses its gate"):
        climb(hard[0], few, config(snr_db=18.0, weights="per-tensor", **forbidden))


def test_without_layers_in_float_the_ranges_are_calibrated_anew(hard, few):
    found = candidates.Ladder(hard[0], few, CONTRACT, config(), classification, lambda *_: None)
    kept = frozenset({"model.features.1.conv.0.0", "model.features.1.conv.1"})
    settings = quantize.Settings(float_layers=kept, activation_ranges=((-1.0, 1.0),) * 3)
    state = candidates.State(floating=hard[0], tuned=hard[0], settings=settings)
    held_out = data.rgba(few.held_out.images[:4])
    plain = evaluate_batched(found.all_int8(state).module, held_out)
    assert np.array_equal(plain, evaluate_batched(hard[1].module, held_out))


def test_beside_layers_in_float_the_rounding_is_learnt_anew_where_there_is_time(hard, few, monkeypatch):
    """Weights that were rounded for some ranges may lose with those of a graph with other quantizers."""
    monkeypatch.setattr(blocks, "STEPS", 30)
    wanted = config(snr_db=90.0, **only("learned_rounding", "float_layers", max_float_layers=2))
    found = candidates.Ladder(hard[0], few, CONTRACT, wanted, classification, lambda *_: None)
    best = found.measure("plain", [found.start()], None)
    rungs = {name: method for name, _, method in ladder.methods(wanted.quantize)}
    best = found.measure("learned rounding", rungs["learned rounding"](found, best), best)
    assert best.state.is_learnt
    gained = {}
    for minutes in (5.0, 0.0):
        monkeypatch.setattr(found, "left", lambda minutes=minutes: 60 * minutes)
        states = rungs["layers in float"](found, best)
        assert any("learnt anew" in state.note for state in states) == bool(minutes), [s.note for s in states]
        gained[minutes] = found.measure("layers in float", states, best).rung.calibration_db
    assert gained[5.0] >= gained[0.0] > best.rung.calibration_db, (gained, best.rung.calibration_db)


def test_beside_layers_in_float_biases_are_corrected_anew(hard, few):
    """Those that make good the mean errors of layers that have none any more are errors themselves."""
    wanted = config(snr_db=90.0, **only("bias_correction", "float_layers", max_float_layers=2))
    found = candidates.Ladder(hard[0], few, CONTRACT, wanted, classification, lambda *_: None)
    best = found.measure("plain", [found.start()], None)
    rungs = {name: method for name, _, method in ladder.methods(wanted.quantize)}
    best = found.measure("bias correction", rungs["bias correction"](found, best), best)
    states = rungs["layers in float"](found, best)
    assert ["anew" in state.note for state in states] == [True, False]  # what is best is measured
    new, old = (found.measure("layers in float", [state], None).rung.calibration_db for state in states)
    assert new > old + 1, (new, old)


def test_layers_in_float_are_tried_without_equalization_where_it_stands_in_their_way(hard, few, monkeypatch):
    """Ranges made even can lie in a sum of residuals, which is quantized whatever layers are in float."""
    monkeypatch.setattr(candidates, "WORTH_DB", -1e3)  # the images that judge like all
    asked = []
    kept = frozenset({"model.features.1.conv.0.0", "model.features.1.conv.1"})

    @functools.wraps(float_layers._partly_float)
    def partly(_, best):
        asked.append((best.state.floating is hard[0], best.state.is_corrected))
        return [float_layers._with(best.state, kept, "features.1")]

    monkeypatch.setattr(float_layers, "_partly_float", partly)
    rungs = only("equalize", "float_layers", bias_correction="always", max_float_layers=2)
    with pytest.raises(ParityError, match="layers in float without equalization \\(features"):
        climb(hard[0], few, config(snr_db=90.0, **rungs))
    assert asked == [(False, True), (True, True)]  # what is asked for is done to the original too
    asked.clear()
    with pytest.raises(ParityError, match="layers in float") as caught:
        climb(hard[0], few, config(snr_db=90.0, **rungs | {"equalize": "always"}))
    assert asked == [(False, True)] and "without equalization" not in str(caught.value)
    # it is what is built where nothing else passes
    judge = candidates.Ladder._judged

    def judged(found, name, state, *given):
        one = judge(found, name, state, *given)
        is_met = bool(state.settings.float_layers) and state.floating is hard[0]
        return one and one.told(rung=dataclasses.replace(one.rung, is_met=is_met))

    monkeypatch.setattr(candidates.Ladder, "_judged", judged)
    found, _ = climb(hard[0], few, config(snr_db=-50.0, **rungs))
    assert "layers in float without equalization, fitted to" in found.rungs[-1].note and found.all_int8 is not None


def test_training_beside_layers_in_float_is_for_where_none_of_these_was_liked():
    """Of two that miss the gate one may be kept, and is what training begins from in any case."""
    beside = next(method for name, _, method in ladder.methods(config().quantize) if "training beside" in name)
    for layers, dropped, is_tried in (("a", None, False), ("a", "b", False), ("", "b", True), ("", None, False)):
        settings = quantize.Settings(float_layers=frozenset(layers))
        best = SimpleNamespace(state=SimpleNamespace(settings=settings))
        assert ladder.applies(beside, SimpleNamespace(dropped=dropped), best) is is_tried


@pytest.mark.parametrize(("equalize", "float_layers"), [("never", "auto"), ("always", "auto"), ("auto", "never")])
def test_layers_in_float_without_equalization_are_forbidden_by_no_name_of_their_own(equalize, float_layers):
    wanted = config(equalize=equalize, float_layers=float_layers).quantize
    whens = {name: when for name, when, _ in ladder.methods(wanted)}
    assert whens["layers in float without equalization"] == "done" and whens["layers in float"] == float_layers


def test_of_the_same_layers_in_float_the_best_that_passes_is_taken():
    """And no more of them than are needed."""
    worth = {"a": (10.0, False), "b": (20.0, True), "c": (25.0, True), "d": (40.0, True)}
    layers = {"a": "x", "b": "xy", "c": "xy", "d": "xyz"}
    states = [SimpleNamespace(name=n, settings=quantize.Settings(float_layers=frozenset(layers[n]))) for n in worth]
    judged = []

    def found(name, state, *_):
        judged.append(state.name)
        db, is_met = worth[state.name]
        rung = SimpleNamespace(calibration_db=db, is_met=is_met)
        return SimpleNamespace(state=state, rung=rung, is_near=False)

    known = SimpleNamespace(_judged=found, fitted=None, _rank=lambda one, _: (one.rung.is_met, one.rung.calibration_db))
    tried = candidates.Ladder._tried(known, "layers in float", states)
    assert judged == ["a", "b", "c"] and [one.state.name for one in tried] == ["a", "c"]

    # which passes narrowly, and not where the reference itself is asked
    def sure(one):
        rung = SimpleNamespace(calibration_db=one.rung.calibration_db, is_met=one.state.name != "c")
        return SimpleNamespace(state=one.state, rung=rung)

    judged.clear()
    known._judged = lambda *given: SimpleNamespace(**vars(found(*given)) | {"is_near": given[1].name in "bc"})
    known._sure = sure
    tried = candidates.Ladder._tried(known, "layers in float", states)
    assert [(one.state.name, one.rung.is_met) for one in tried] == [("a", False), ("c", False), ("b", True)]


@pytest.mark.parametrize("when", ["auto", "always"])
def test_what_costs_nothing_and_takes_less_comes_before_layers_in_float_whatever_the_budget(
    when, hard, few, monkeypatch
):
    """Or behind them, where they are asked for."""
    wanted = config(snr_db=90.0, minutes=0, max_float_layers=2, qat="never")
    order = []

    def rung(name, seconds):
        def method(ladder, best):
            order.append(name)
            return []

        method.seconds = lambda *_: seconds
        method.needed = name == "paid"
        return name, when if method.needed else "auto", method

    known = [rung("quick", 5.0), rung("slow", 50.0), rung("paid", 20.0)]
    monkeypatch.setattr(ladder, "methods", lambda _: known)
    monkeypatch.setattr(ladder, "is_costly", lambda method: method is known[2][2])
    lines = []
    with pytest.raises(ParityError, match="no time for: slow"):
        ladder.climb(hard[0], few, CONTRACT, wanted, classification, lambda line, *_: lines.append(line))
    assert order == (["quick", "paid"] if when == "auto" else ["paid", "quick"]), order
    assert any("next quick, about 5 s, before what costs something and takes longer" in line for line in lines), lines


def test_training_is_tried_beside_layers_in_float_too_where_neither_alone_is_enough(hard, few, monkeypatch):
    from twinkeel.pipeline.stages import qat

    asked = []

    def trained(module, folded, images, config, settings, say):
        asked.append(bool(settings.float_layers))
        return module, None

    monkeypatch.setattr(qat, "train_quantized", trained)
    monkeypatch.setattr(candidates, "WORTH_DB", 1e3)  # the images that judge like nothing
    wanted = config(snr_db=90.0, **only("float_layers", "qat", max_float_layers=2, minutes=1000))
    with pytest.raises(ParityError) as caught:
        climb(hard[0], few, wanted)
    assert asked == [False, True] and "quantization-aware training beside layers in float" in str(caught.value)
    # kept by the judges or not, what came nearest to the gate is what is told of it
    assert "nearest to it, layers in float:" in str(caught.value), str(caught.value)
    monkeypatch.setattr(candidates, "WORTH_DB", -1e3)  # they like all: training begins from layers in float
    asked.clear()
    with pytest.raises(ParityError, match="layers in float"):
        climb(hard[0], few, wanted)
    assert asked == [True]


def test_weights_are_solved_for_where_their_rounding_was_not_learnt_or_it_is_asked_for():
    def reconstruction(**given):
        return next(method for name, _, method in ladder.methods(config(**given).quantize) if "reconstruction" in name)

    for is_learnt in (False, True):
        best = SimpleNamespace(state=SimpleNamespace(is_learnt=is_learnt))
        assert ladder.applies(reconstruction(), None, best) is not is_learnt
        assert ladder.applies(reconstruction(reconstruction="always"), None, best)


def test_what_is_solved_for_takes_time_however_few_images_there_are(hard):
    known = simulated(hard[0], hard[2])[0]
    least = layerwise.seconds(known, 0, 1.0)
    assert least > 0 and layerwise.seconds(known, 10, 0.5) == pytest.approx(least + 5 * layerwise._PASSES)


def test_a_gate_that_is_passed_narrowly_is_passed_by_the_reference_itself(shallow_program, few, monkeypatch):
    """A simulation rounds otherwise, which can be worth an image: the build is judged by the reference."""
    asked = []
    # too few to set some aside as judges: ranges are not taken anew in the end
    few = dataclasses.replace(few, calibration=few.calibration.part(np.arange(2 * candidates.JUDGES - 1)))

    def unlucky(module, images):
        asked.append(len(asked))
        found = evaluate(shallow_program.folded, images)
        return -found if asked[-1] in unluckily else found

    monkeypatch.setattr(candidates, "evaluate_quantized", unlucky)
    plain = climb(shallow_program.folded, few, config(snr_db=-50.0, **only()))[0].rungs[0].snr_db
    assert not asked
    near = plain - 0.2
    # as the simulation says: nothing else is tried
    unluckily = ()
    found, lines = climb(shallow_program.folded, few, config(snr_db=near, **only("float_layers")))
    assert asked and [rung.name for rung in found.rungs] == ["plain", "chosen"], found.rungs
    assert any("plain passes narrowly; asking the reference itself, about" in line for line in lines), lines
    # it is missed there: the ladder goes on, and the first of several choices of layers may miss it too
    asked.clear()
    unluckily = (0,)
    found, lines = climb(shallow_program.folded, few, config(snr_db=near, **only("float_layers")))
    assert [rung.name for rung in found.rungs] == ["plain", "layers in float", "chosen"], found.rungs
    assert any("misses the gate there: quantize: snr_db is" in line for line in lines), lines
    # all of them: an error, no build that ends red behind hours
    asked.clear()
    unluckily = range(9)
    with pytest.raises(ParityError, match="misses its gate on every rung") as caught:
        climb(shallow_program.folded, few, config(snr_db=near, **only()))
    assert "misses the gate" in str(caught.value) and "passes" not in str(caught.value), str(caught.value)


def test_the_reference_is_asked_of_what_would_be_built(shallow_program, few, monkeypatch):
    """Ranges of all calibration images: once, and of those of a share only where that misses the gate."""
    asked = []

    def told(module, images):
        asked.append(module)
        found = evaluate(shallow_program.folded, images)
        return -found if len(asked) in unluckily else found

    monkeypatch.setattr(candidates, "evaluate_quantized", told)
    judged = candidates.Ladder._judged
    # the share's ranges may be the better ones here
    monkeypatch.setattr(candidates.Ladder, "_judged", lambda ladder, *given: judged(ladder, *given[:3]))
    plain = climb(shallow_program.folded, few, config(snr_db=-50.0, **only()))[0].rungs
    near = min(plain[0].snr_db, plain[-1].snr_db) - 0.2
    shares = len(few.calibration.images), len(few.calibration.images) * 3 // 4
    assert f"fitted to {shares[0]} images" in plain[-1].note and not asked, plain
    for first, count, share in (((), 1, shares[0]), ((1,), 2, shares[1])):
        asked.clear()
        unluckily = first
        found, lines = climb(shallow_program.folded, few, config(snr_db=near, **only()))
        assert len(asked) == count and found.quantized.module is asked[-1]
        assert f"plain, fitted to {share} images" in found.rungs[-1].note, found.rungs
        assert sum("asking the reference itself" in line for line in lines) == count


@pytest.mark.parametrize(
    ("is_met", "is_near", "is_gated", "words"),
    [
        (True, False, True, "the best so far is built, without qat"),
        (True, True, True, "the reference, which was not asked, may miss it, without qat"),
        (False, False, True, "nothing will be built"),
        (False, False, False, "the best so far is built, without qat"),
    ],
)
def test_ctrl_c_says_what_comes_of_it(is_met, is_near, is_gated, words):
    said = []
    best = SimpleNamespace(rung=SimpleNamespace(is_met=is_met), is_near=is_near)
    ladder._tell_stopped(said.append, ["qat"], best, is_gated=is_gated)
    assert len(said) == 1 and words in said[0], said


@pytest.mark.parametrize(
    ("check", "is_near"),
    [
        ({"metric": "snr_db", "measured": 15.2, "sense": ">=", "limit": 15.0}, True),
        ({"metric": "snr_db", "measured": 16.2, "sense": ">=", "limit": 15.0}, False),
        ({"metric": "agreement", "kept": 26, "of": 30, "sense": ">=", "limit": 0.95}, True),  # one less is missed
        ({"metric": "agreement", "kept": 29, "of": 30, "sense": ">=", "limit": 0.9}, False),
        ({"metric": "agreement", "kept": 926, "of": 1000, "sense": ">=", "limit": 0.95}, False),  # missed
        ({"metric": "agreement", "kept": 938, "of": 1000, "sense": ">=", "limit": 0.95}, True),
        ({"metric": "agreement", "kept": 950, "of": 1000, "sense": ">=", "limit": 0.95}, True),
        ({"metric": "agreement", "kept": 962, "of": 1000, "sense": ">=", "limit": 0.95}, False),
    ],
)
def test_near_the_gate_is_where_few_images_decide(check, is_near):
    counted = None
    if "of" in check:
        check["measured"], counted = verdict.share_of(check.pop("of"), check.pop("kept"))
    made = limits.Check(leg="quantize", reason="", counts=counted, **check)
    rung = SimpleNamespace(is_met=made.is_met)
    assert candidates.Measured(None, rung, [made], None).is_near is is_near, made
    assert not candidates.Measured(None, rung, [made], None, is_sure=True).is_near


def test_rounding_for_the_ranges_of_a_share_has_to_gain_more_than_all_images_give():
    """Learnt for the ranges of three quarters of them, it keeps these; what is not learnt takes them from all in the end."""

    def measured(is_learnt):
        return SimpleNamespace(state=SimpleNamespace(is_learnt=is_learnt))

    shared = SimpleNamespace(fitted=[0, 1, 2], calibration=[0, 1, 2, 3])
    whole = SimpleNamespace(fitted=shared.fitted, calibration=shared.fitted)
    worth = candidates.Ladder._worth
    assert worth(shared, measured(True), measured(False)) == candidates.WORTH_A_SHARE_DB > candidates.WORTH_DB
    for known, one, before in (
        (shared, True, True),
        (shared, False, False),
        (shared, False, True),
        (whole, True, False),
    ):
        assert worth(known, measured(one), measured(before)) == candidates.WORTH_DB


def test_nothing_is_paid_for_where_a_rung_that_costs_nothing_passes():
    """Few images judge: they can like best what misses the gate on the held-out ones."""

    def measured(is_met, calibration_db, layers=()):
        rung = SimpleNamespace(is_met=is_met, calibration_db=calibration_db)
        return SimpleNamespace(
            rung=rung, state=SimpleNamespace(settings=quantize.Settings(float_layers=frozenset(layers)))
        )

    free, better, liked, paid = (
        measured(True, 20.0),
        measured(True, 22.0),
        measured(False, 37.0),
        measured(True, 40.0, "a"),
    )
    known = SimpleNamespace(measured=[free, better, liked, paid])
    assert candidates.Ladder.passing(known, liked) is better
    assert candidates.Ladder.passing(known, free) is free
    assert candidates.Ladder.passing(SimpleNamespace(measured=[liked, paid]), liked) is liked
