"""Several processes that train together: what they give against what one gives, ones that are lost, and what cannot be."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys

import pytest
import together
import torch
from safetensors.torch import load
from twinkeel.pipeline.building import runner
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ConfigError
from twinkeel.pipeline.stages import distributed, synchronized, train
from twinkeel.pipeline.stages.averaging import Average
from twinkeel.pipeline.store import Store

EQUAL = 1e-9
"""Largest difference of a weight in float64, of weights around 1: the order of sums is another."""
NEAR = 2e-5
"""The same in float32, of a small network."""


NETWORK = """
import os, signal
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes)]
        self.layers = nn.Sequential(*layers)
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        is_first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if is_first and os.environ.get("RANK") == "1" and self.steps == 18:  # in the second epoch of 10 steps
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(images)

def create(num_classes):
    return Network(num_classes)
"""

KILLED = '[model]\nfactory = "network.py:create"\nresolution = 16\n[train]\nepochs = 3\ndevice = "cpu"\nema = 0.9\n'


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder, what two processes trained in it, by case, and what they said: by number of the start, of the process, and stream."""
    folder = tmp_path_factory.mktemp("two")
    lines = '[model]\nresolution = 16\n[train]\nepochs = 1\ndevice = "cpu"\nbatch_size = {}\nlearning_rate = {}\n'
    for name, size, rate in (("twinkeel", 64, 0.1), ("twinkeel-0", 64, 0.1), ("twinkeel-1", 64, 0.2), ("odd", 33, 0.1)):
        (folder / f"{name}.toml").write_text(lines.format(size, rate))
    with pytest.raises(together.Ended):
        together.trained("parts", distributed.ALONE, state=folder / "state", is_ended=True)
    (folder / "network.py").write_text(NETWORK)
    (folder / "killed.toml").write_text(KILLED)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
    ]
    torchrun += ["--monitor-interval", "0.1", "--redirects", "3", "--log-dir", str(folder / "logs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, together.__file__, str(folder)], env=environment, capture_output=True, text=True, timeout=1200
    )
    said = {
        f"{path.parents[1].name[-1]} {path.parent.name} {path.stem}": path.read_text()
        for path in sorted((folder / "logs").glob("*/attempt_*/*/std*.log"))
    }
    assert done.returncode == 0, done.stderr + "".join(said.values())
    return folder, torch.load(folder / "found.pt"), said


def _difference(one, other):
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("name", together.CASES)
def test_two_processes_give_what_one_gives(name, two):
    """BatchNorm, Dropout, numbers drawn for each image, losses that are divided by counts, batches that are no multiple of two."""
    alone, found = together.trained(name, distributed.ALONE), two[1][name]
    # convolutions in half precision sum in another order where there are fewer images
    limit = EQUAL if name not in ("bfloat16", "float16") else 0.01
    assert _difference(alone["weights"], found["weights"]) < limit
    for (loss, score), (other, others) in zip(alone["history"], found["history"], strict=True):
        assert loss == pytest.approx(other, rel=limit) and score == pytest.approx(others, abs=1e-6)


def test_two_processes_go_on_where_one_was_ended(two):
    """With its optimizer, schedule and average."""
    whole, found = two[1]["parts"], two[1]["resumed"]
    assert 0 < _difference(whole["weights"], found["weights"]) < EQUAL
    assert found["history"] == [pytest.approx(one) for one in whole["history"]]


def test_a_training_that_goes_on_ends_in_the_same_bits(two, tmp_path):
    """With optimizer, schedule, average, scaler and gradients in parts; by two processes, and by one."""
    found = two[1]
    for one, other in [(found["whole"], found["again"])] + [
        (
            together.trained(name, distributed.ALONE, ema=0.9, copy=tmp_path / name),
            together.trained(name, distributed.ALONE, ema=0.9, state=tmp_path / name),
        )
        for name in ("parts", "float16")
    ]:
        assert one["ran"] == [1, 2] and other["ran"] == [2]
        assert _difference(one["weights"], other["weights"]) == 0 and one["history"] == other["history"]


def _said(two, name):
    """What the two said of a case, and their exit codes."""
    found = [re.search(rf"<{name}>\n(.*?)</{name} (\d+)>", two[2][f"0 {rank} stderr"], re.DOTALL) for rank in range(2)]
    return [(one[1], int(one[2])) for one in found]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("mismatch", 2, r"error: train\.learning_rate is 0\.1 for process 0 and 0\.2 for process 1: .* Give the same twinkeel\.toml"),
        ("batch", 2, r"error: train\.batch_size = 33 .* 2 of them do not divide it\. Start 1, or set it to 34\."),
        ("store", 11, r"error: process 1 of 2 \(on '.*'\): the store '.*none-of-1' does not hold the images .* Give --store"),
        ("backend", 9, r"error: this torch \(.*\) was built without gloo"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_once(name, code, message, two):
    (first, first_code), (second, second_code) = _said(two, name)
    assert (first_code, second_code) == (code, code)
    assert re.search(message, first.replace("\n", " ")) and "Traceback" not in first
    assert second.strip() == ""


def test_a_process_that_is_killed_costs_an_epoch_and_the_result_is_where_a_build_looks(two, tmp_path):
    folder, _, said = two
    assert [re.findall(r"epoch (\d)/3  loss", said[f"{start} 0 stdout"]) for start in (0, 1)] == [["1"], ["2", "3"]]
    lost = "error: one of the 2 processes of this training was lost. Finished epochs are kept"
    assert said["0 0 stderr"].count(lost) == 1 and lost not in said["0 1 stderr"]
    assert not any((folder / "states").iterdir())
    config = common.read_config(folder / "killed.toml")
    told: list[str] = []

    def alone(store):
        tell = lambda line, _=None: told.append(line)  # noqa: E731
        files = runner.weights(config, architectures.architecture(config), store, tmp_path / "out", tell)
        return load(files["create.safetensors"])

    killed, whole = load((folder / "killed" / "create.safetensors").read_bytes()), alone(None)
    assert len([line for line in told if " loss " in line]) == 3
    assert 0 < _difference(killed, whole) < NEAR
    told.clear()
    assert _difference(killed, alone(Store(str(folder / "store")))) == 0
    assert not [line for line in told if " loss " in line]


# one process ----------------------------------------------------------------------------------------------------


def test_a_step_in_parts_is_the_step_of_the_whole_batch():
    """Without BatchNorm, which sees each part by itself."""
    whole, parts = (
        together.trained("uneven", distributed.ALONE, has_norm=False, accumulate=n)["weights"] for n in (1, 4)
    )
    assert 0 < _difference(whole, parts) < EQUAL
    assert [len(part) for part in train.parts(torch.arange(5), 4)] == [3, 2]


def test_averages_are_those_of_their_definition():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    average, wanted = Average(model, 0.5), model[0].weight.detach().clone()
    for step in range(1, 9):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(2, 3))
            model[1].num_batches_tracked.add_(1)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * model[0].weight.detach()
    own = model[0].weight.detach().clone()
    with average.in_place():
        assert torch.allclose(model[0].weight, wanted) and not torch.allclose(own, wanted)
        assert int(model[1].num_batches_tracked) == 8
    assert torch.equal(model[0].weight, own)
    other = Average(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)), 0.5)
    other.load(average.state())
    other.take()
    assert torch.allclose(other._model[0].weight, wanted)


def test_statistics_of_one_process_are_those_of_batch_norm():
    """Output, running statistics and gradients, of one of them that is all."""
    torch.manual_seed(0)
    given = torch.randn(6, 4, 5, 5, dtype=torch.float64) * 3 + 1
    wanted, found = (torch.nn.BatchNorm2d(4).double() for _ in range(2))
    gradient = torch.randn_like(given)
    one, other = given.clone().requires_grad_(), given.clone().requires_grad_()
    wanted(one).backward(gradient)
    with synchronized.AsOne(distributed.ALONE, 6, slice(0, 6)):
        output = found(other)
    output.backward(gradient)
    assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-12)
    for name, value in wanted.state_dict().items():
        assert torch.allclose(value, found.state_dict()[name], rtol=0, atol=1e-12), name
    for one, other in zip(wanted.parameters(), found.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-12)


def test_images_of_a_batch_are_divided():
    worlds = [distributed.World(rank=rank, size=3) for rank in range(3)]
    assert [world.own(8) for world in worlds] == [slice(0, 3), slice(3, 6), slice(6, 8)]
    assert {str(world.own(2)) for world in worlds} == {str(slice(0, 2))}  # each goes through both
    assert [world.divides(count) for count in (2, 3) for world in worlds[:1]] == [False, True]


@pytest.mark.parametrize("accumulate", [3, 64])
def test_parts_that_do_not_divide_a_batch_are_named(accumulate):
    with pytest.raises(
        ValueError, match=rf"accumulate = {accumulate} does not divide batch_size = 64 .* set it to (2|32) for example"
    ):
        Config.model_validate({"train": {"accumulate": accumulate}})


def test_new_settings_leave_old_keys_alone():
    settings = Config().train
    assert not {"precision", "ema", "accumulate"} & settings.recipe.keys()
    assert settings.model_copy(update={"ema": 0.9}).recipe["ema"] == 0.9
    assert settings.recipe == settings.steps_recipe


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"WORLD_SIZE": "2"},
            "RANK, MASTER_ADDR, MASTER_PORT are not set: several processes are started with torchrun",
        ),
        ({"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "is no number"),
    ],
)
def test_an_environment_that_is_not_torchruns(environment, message):
    assert distributed.is_asked_for(environment) and not distributed.is_asked_for({"WORLD_SIZE": "1"})
    with pytest.raises(ConfigError, match=message), distributed.joined(environment):
        raise AssertionError


@pytest.mark.parametrize("error", [ConfigError("a wrong batch"), SystemExit(2), None])
def test_the_group_is_left_whatever_the_process_ends_with(error, monkeypatch):
    """Threads of a group that is there as the interpreter ends abort the process."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    place = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in place.items():  # torch reads some of them itself
        monkeypatch.setenv(name, value)
    with pytest.raises(type(error)) if error else contextlib.nullcontext(), distributed.joined(place):
        assert torch.distributed.is_initialized()
        if error is not None:
            raise error
    assert not torch.distributed.is_initialized()
