"""Checkpoints: layouts that load, files that are refused."""

from __future__ import annotations

import os
import re

import pytest
import torch
from safetensors.torch import save_file
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.config import Weights
from twinkeel.pipeline.errors import WeightsError
from twinkeel.pipeline.files import digest as file_digest
from twinkeel.pipeline.stages.checkpoint import locate
from twinkeel.pipeline.stages.weights import load_into


def model(classes=5, width=0.35, seed=0):
    torch.manual_seed(seed)
    return mobilenet_v2.create(classes, width)


def to_timm(state):
    """torchvision's names to timm's, written independently of the loader."""
    repeats, names = (1, 2, 3, 4, 3, 3, 1), {}
    blocks = [(s, b) for s, n in enumerate(repeats) for b in range(n)]
    for key, value in state.items():
        m = re.match(r"features\.(\d+)\.(.*)", key)
        if not m:
            names[key.replace("classifier.1", "classifier")] = value
            continue
        index, rest = int(m.group(1)), m.group(2)
        if index == 0:
            new = rest.replace("0.", "conv_stem.", 1) if rest.startswith("0.") else rest.replace("1.", "bn1.", 1)
        elif index == 18:
            new = rest.replace("0.", "conv_head.", 1) if rest.startswith("0.") else rest.replace("1.", "bn2.", 1)
        else:
            order = (
                [("conv.0.0", "conv_dw"), ("conv.0.1", "bn1"), ("conv.1", "conv_pw"), ("conv.2", "bn2")]
                if index == 1
                else [("conv.0.0", "conv_pw"), ("conv.0.1", "bn1"), ("conv.1.0", "conv_dw"), ("conv.1.1", "bn2"),
                      ("conv.2", "conv_pwl"), ("conv.3", "bn3")]
            )  # fmt: skip
            old, short = next((o, s) for o, s in order if rest.startswith(o + "."))
            new = "blocks.{}.{}.{}{}".format(*blocks[index - 1], short, rest.removeprefix(old))
        names[new] = value
    return names


@pytest.mark.parametrize("layout", ["safetensors", "pth", "wrapped", "prefixed", "timm"])
def test_a_layout_loads_and_computes_the_same(layout, tmp_path):
    source, target = model(seed=1).eval(), model(seed=2).eval()
    state, path = source.state_dict(), tmp_path / "weights.pth"
    if layout == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    elif layout == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif layout == "prefixed":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    else:
        torch.save(to_timm(state) if layout == "timm" else state, path)
    load_into(target, path)
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(source(image), target(image))


def test_another_class_count_is_named(tmp_path):
    torch.save(model(classes=7).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"classifier\.1\.weight.*\(7, 1280\).*\(5, 1280\).*7 classes"):
        load_into(model(), tmp_path / "w.pth")


def test_another_width_is_named(tmp_path):
    torch.save(model(width=0.5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="another width"):
        load_into(model(), tmp_path / "w.pth")


def test_no_code_from_the_file_is_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"features.0.0.weight": Payload()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="run code"):
        load_into(model(), tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_url_is_fetched_once_and_checked(tmp_path):
    save_file(model().state_dict(), tmp_path / "w.safetensors")
    url, digest = (tmp_path / "w.safetensors").as_uri(), file_digest(tmp_path / "w.safetensors")
    path, found = locate(Weights(url=url, sha256=digest), tmp_path / "cache")
    assert file_digest(path) == found == digest
    with pytest.raises(WeightsError, match="SHA-256"):
        locate(Weights(url=url, sha256="0" * 64), tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [path.name]
