"""From `[sweep]` to variants: which there are, and which cannot be."""

from __future__ import annotations

import pytest
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.sweeping import crews, planning
from twinkeel.pipeline.sweeping.halving import Candidate, best_first, epochs_of
from twinkeel.pipeline.sweeping.planning import Trial


@pytest.fixture(scope="module")
def known():
    networks, targets = architectures.sources(), common.targets()
    return planning.Known(
        targets=targets,
        kits=common.kits(),
        checked=lambda one: common.checked(one, networks, targets),
        create=lambda one: architectures.architecture(one, networks),
        render=None,
    )


@pytest.fixture
def plan(known, tmp_path):
    """Of settings in memory; what is told stands in `plan.told`."""

    def made(raw):
        made.told = []
        return planning.planned(raw, "here", tmp_path, "", known, tmp_path / "out", made.told.append)

    return made


def test_variants_are_models_times_artifacts(plan):
    sweep = {
        "model": {"name": ["mobilenet_v2", "mobilenet_v3_small"], "width": [0.2, 1.0]},
        "data": {"calibration": [32, 64]},
        "target": ["android/onnx", "android/litert"],
        "precision": ["fp16", "int8"],
    }
    found = plan({"train": {"epochs": 2}, "sweep": sweep})
    assert found.artifacts == [("android/onnx", "int8"), ("android/litert", "fp16"), ("android/litert", "int8")]
    assert plan.told == ["sweep: android/onnx has no fp16, and no such variant"]
    assert len(found) == 2 * 2 * 2 * 3 and [trial.number for trial in found.trials] == list(range(8))
    last = found.order(found.trials[-1], {"train.epochs": 1})
    assert (last.config.model.name, last.config.model.width) == ("mobilenet_v3_small", 1.0)
    assert (last.config.data.calibration, last.config.train.epochs, last.shipped) == (64, 1, {"android": None})
    assert last.config.model.resolution == 224  # the network's own, for nobody says another
    assert found.axes["precision"] == ["int8", "fp16"] and found.trials[0].trains


def test_without_targets_the_configuration_says_which(plan):
    found = plan({"targets": {"android/onnx": ["fp32"]}, "sweep": {"train": {"seed": [0, 1]}}})
    assert found.artifacts == [("android/onnx", "fp32")] and len(found) == 2
    assert len(plan({"sweep": {"precision": ["w4"]}}).artifacts) == 1


def test_what_cannot_be_is_a_row_or_where_it_never_can_an_error(plan):
    varied = {
        "model": {"name": ["mobilenet_v2", "residual"], "activation": ["relu6", "relu"]},
        "target": ["android/onnx"],
    }
    found = plan({"sweep": varied})
    assert [bool(trial.trouble) for trial in found.trials].count(True) <= 1
    for sweep, words in (
        ({}, "nothing to compare"),
        ({"model": {"width": 0.5}}, r"no list of values; model.width = \[0.5\]"),
        ({"model": {"width": [0.5, 0.5]}}, "twice"),
        ({"model": {"widht": [0.5]}}, "'model.widht' is no setting.*Did you mean 'width'"),
        ({"model": {"task": ["features"]}}, "cannot be compared"),
        ({"android": {"sdk": ["litert"]}}, "'android.sdk' cannot be varied"),
        ({"model": {"width": [0.5, -1.0]}}, r"sweep.model.width: -1.0 cannot be"),
        ({"model": {"name": ["mobilenet_v2", "mobilnet_v2"]}}, "'mobilnet_v2' cannot be.*Did you mean"),
        ({"target": ["android/onx"]}, "unknown target 'android/onx'.*Did you mean 'android/onnx'"),
        ({"target": ["android/onnx"], "precision": ["w4"]}, "none of android/onnx has 'w4'"),
        ({"train": {"seed": list(range(1000))}, "data": {"seed": list(range(1000))}}, "are the most"),
    ):
        with pytest.raises(ConfigError, match=words):
            plan({"sweep": sweep})


def test_tasks_are_not_compared_with_each_other(plan):
    sweep = {
        "model": {"name": ["mobilenet_v2", "ssdlite_mobilenet_v2"]},
        "target": ["android/onnx"],
        "precision": ["fp32"],
    }
    with pytest.raises(ConfigError, match=r"several tasks.*classification: model.name = 'mobilenet_v2'"):
        plan({"sweep": sweep, "model": {"width": 0.35, "resolution": 64}})


@pytest.mark.parametrize("address", ["", "127.0.0.1", "tcp://127.0.0.1", "tcp://", "host:port", "here 1:8786"])
def test_an_address_without_a_port_is_none(address):
    with pytest.raises(ConfigError, match="tcp://HOST:8786"), crews.of_cluster(address, {}, (), lambda *_: None):
        pass


def test_addresses_of_schedulers_are_known():
    for address in ("127.0.0.1:8786", "tcp://host:8786", "tls://10.0.0.1:1", "tcp://[::1]:8786", "[::1]:8786"):
        assert crews._ADDRESS.fullmatch(address), address


def test_the_winner_has_the_kit_of_its_artifact_and_asks_for_no_other(plan):
    raw = {
        "ios": {"sdk": "executorch"},
        "sweep": {"target": ["android/litert", "android/onnx", "ios/onnx"], "precision": ["fp32"]},
    }
    found, told = plan(raw), []
    assert found.winner(found.trials[0], ("android/litert", "fp32"), told.append).shipped == {
        "android": ("android/litert", "fp32"),
        "ios": None,
    }
    assert told == ["kits: none for ios: [ios] asks for ios/executorch int8, which is no variant"]
    other = found.winner(found.trials[0], ("android/onnx", "fp32"), told.append)
    assert other.shipped == {"android": None, "ios": None} and "kits: none has android/onnx fp32" in told[1]


def test_a_winner_of_core_ai_has_a_kit_where_core_ml_is_a_variant_too(plan, monkeypatch):
    monkeypatch.setattr("twinkeel.pipeline.building.order.missing", lambda target: "")
    monkeypatch.setattr("twinkeel.pipeline.sweeping.planning.missing", lambda target: "")
    for targets, kit, said in (
        (["ios/coreai", "ios/coreml"], ("ios/coreai", "fp16"), []),
        (["ios/coreai", "ios/executorch_coreml"], None, ["takes ios/coreml fp16 along, which is no variant"]),
    ):
        found, told = plan({"sweep": {"target": targets, "precision": ["fp16"]}}), []
        assert found.winner(found.trials[0], ("ios/coreai", "fp16"), told.append).shipped == {"ios": kit}
        assert len(told) == len(said) and all(words in line for words, line in zip(said, told, strict=True)), told


def test_short_trainings_come_in_rungs_and_the_front_goes_on():
    trials = [Trial(number=n, settings={}, trains=True) for n in range(4)]
    assert [dict(one)[0] for one in epochs_of(trials, lambda _: 60)] == [7, 20]
    assert [dict(one)[0] for one in epochs_of(trials, lambda _: 2)] == [1]  # a third is one as well, and asked for once
    assert list(epochs_of(trials, lambda _: 1)) == list(epochs_of(trials[:2], lambda _: 60)) == []
    good = Candidate(number=0, weights="a", score=0.9, bytes=100, pixels=9)
    small = Candidate(number=1, weights="b", score=0.5, bytes=10, pixels=9)
    seed = Candidate(number=2, weights="c", score=0.8, bytes=100, pixels=9)
    worst = Candidate(number=3, weights="d", score=0.7, bytes=100, pixels=9)
    assert [one.number for one in best_first([worst, seed, small, good])] == [0, 1, 2, 3]
