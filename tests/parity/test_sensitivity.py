"""Sensitivity: the switches do what they say, and a planted loss is found at its layer."""

from __future__ import annotations

import csv
import dataclasses
from copy import deepcopy

import numpy as np
import pytest
from twinkeel.pipeline.data import rgba
from twinkeel.pipeline.parity import metrics, sensitivity
from twinkeel.pipeline.program import layers
from twinkeel.pipeline.program.evaluation import evaluate

IMAGES = rgba(np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), np.uint8))


def _quiet(*_):
    pass


def test_all_switches_off_is_the_float_model_and_all_on_the_quantized_one(small_program):
    owners = layers.owners(small_program.quantized)
    names = {name for name, _ in owners.values()}
    assert len(names) == 66
    switched = sensitivity._Switched(
        small_program.quantized, small_program.folded, {node: name for node, (name, _) in owners.items()}
    )
    error = metrics.max_error(evaluate(small_program.folded, IMAGES), switched.outputs(IMAGES, ()))
    assert error <= 1e-5, f"{error:.2e}"
    quantized = small_program.evaluate("int8", IMAGES)
    apart = metrics.steps(quantized, switched.outputs(IMAGES, names), small_program.outputs[0].scale)
    assert (apart <= 3).all(), apart.max()


@pytest.fixture(scope="module")
def clean(shallow_program):
    return sensitivity.measure(shallow_program, IMAGES, _quiet)


@pytest.mark.parametrize("layer", ["features.2.conv.2", "features.4.conv.1.0", "features.3.conv.2 + residual"])
def test_a_coarse_grid_shows_at_its_layer_and_at_no_other(layer, shallow_program, clean):
    quantized = deepcopy(shallow_program.quantized)
    node = next(
        n
        for n, (name, _) in layers.owners(quantized).items()
        if name == layer and ".quantize_per_tensor" in str(n.target)
    )
    for changed in (node, *node.users):
        changed.update_arg(1, changed.args[1] * 64)
    quantized.recompile()
    found = sensitivity.measure(dataclasses.replace(shallow_program, quantized=quantized), IMAGES, _quiet)
    lost = {x.name: x.alone_db - y.alone_db for x, y in zip(clean.layers, found.layers, strict=True) if x != y}
    alone = {name: db for name, db in lost.items() if np.isfinite(db) and abs(db) > 0.01}
    assert set(alone) == {layer}, alone
    assert alone[layer] > 6, alone


def test_the_command_writes_a_table_and_a_picture(run_cli, small_checkpoint, tmp_path):
    (tmp_path / "twinkeel.toml").write_text(
        f'[data]\naccept_accuracy = "random weights"\n[weights]\npath = "{small_checkpoint}"\n[quantize]\nminutes = 0\n'
    )
    result = run_cli("sensitivity", "-c", tmp_path / "twinkeel.toml", "-o", tmp_path / "out", "--images", "4")
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    rows = list(csv.DictReader((tmp_path / "out" / "sensitivity.csv").read_text().splitlines()))
    assert len(rows) == 66 and rows[0]["layer"] == "input" and rows[-1]["layer"] == "classifier.1"
    assert (tmp_path / "out" / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert "most sensitive layers" in result.output


@pytest.fixture
def small_checkpoint(small_program, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file(small_program.original.model.state_dict(), path)
    return path
