"""What is made beside the ladder: the same as without, and no failure of it is anybody's but its own step's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from twinkeel.pipeline.building import ahead, runner
from twinkeel.pipeline.building.order import checked
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ParityError
from twinkeel.pipeline.report import page as html_report
from twinkeel.pipeline.store import Here
from twinkeel.pipeline.store.entries import Store

MADE_BESIDE = {"compress w8", "reference original", "reference fp32", "reference w8"}


def create(outputs, width):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, outputs)).eval()


class Two(Here):
    """Two workers, as far as a build can see; each call is noted."""

    number = 2

    def __init__(self):
        self.asked = []

    def submit(self, fn, /, *args, **kwargs):
        self.asked.append(fn)
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def built(tmp_path):
    def build(executor, limits=()):
        root = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        weights = root / "w.safetensors"
        root.mkdir()
        from safetensors.torch import save_file

        save_file(create(10, 1.0).state_dict(), weights)
        config = Config.model_validate(
            {
                "weights": {"path": str(weights)},
                "data": {"calibration": 8, "held_out": 0.05, "accept_accuracy": "untrained"},
                "quantize": {"minutes": 0, "equalize": "never"},
                "targets": {"ios/coreml": ["w8"], "ios/onnx": ["int8"]},
                "ios": {"sdk_precision": "w8"},
                "limit": [
                    {"leg": leg, "precision": precision, "metric": metric, "value": value, "reason": "untrained"}
                    for leg, precision, metric, value in (
                        ("quantize", "int8", "agreement", 0.0),
                        ("quantize", "int8", "accuracy_drop", 1.0),
                        ("lower", "int8", "accuracy_drop", 1.0),
                        ("lower", "w8", "accuracy_drop", 1.0),
                        ("lower", "w8", "agreement", 0.0),
                    )
                ]
                + list(limits),
            }
        )
        said = []
        asked = checked(
            config, common.targets(), common.kits(), create, ["ios"], root / "out", html_report.render,
            lambda line, *_: said.append(line),
        )  # fmt: skip
        made = runner.build(asked, Store(str(root / "store")), lambda line, *_: said.append(line), executor)
        (result,) = made.results
        files = {p.relative_to(root): p.read_bytes() for p in (root / "out" / "ios").rglob("*.onnx")}
        files |= {p.relative_to(root): p.read_bytes() for p in (root / "out" / "ios").rglob("weight.bin")}
        assert files and all(row.is_verified for row in result.rows)
        return said, made.ran, files

    return build


def test_what_needs_no_int8_is_made_beside_the_ladder_and_is_the_same(built):
    executor = Two()
    said, ran, files = built(executor)
    (line,) = [line for line in said if line.startswith("meanwhile: ")]
    assert MADE_BESIDE - {"reference w8"} == set(line.removeprefix("meanwhile: ").split(", "))
    assert ran.index("quantize") < min(map(ran.index, MADE_BESIDE))
    alone, ran_alone, files_alone = built(Here())
    assert not [line for line in alone if line.startswith("meanwhile: ")]
    assert sorted(ran) == sorted(ran_alone) and files == files_alone
    assert [line for line in said if line.startswith("compress: w8,")] == [
        line for line in alone if line.startswith("compress: w8,")
    ]


def test_what_fails_there_is_made_by_its_own_step(built, monkeypatch):
    def failing(*_):
        raise OSError("no room")

    monkeypatch.setattr(ahead, "make", failing)
    _, ran, files = built(Two())
    monkeypatch.undo()
    _, ran_alone, files_alone = built(Here())
    assert sorted(ran) == sorted(ran_alone) and files == files_alone


def test_where_the_ladder_ends_the_build_nothing_waits_for_it(built, monkeypatch):
    monkeypatch.setattr(ahead, "completed", lambda *_: pytest.fail("it was waited for"))
    with pytest.raises(ParityError):
        built(
            Two(), limits=[{"leg": "quantize", "precision": "int8", "metric": "snr_db", "value": 400.0, "reason": "no"}]
        )
