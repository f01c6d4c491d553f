"""The main job on real input: the default build as it runs for whoever tries it first, training included.

Training gives another model on each processor. What is asked here holds for any of them; what is asked of a finished
folder and its artifacts is in `test_folders.py`, on weights that are the same everywhere.
"""

from __future__ import annotations

import csv
import json

import pytest
from twinkeel.pipeline.building.order import plan
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import manifest, outputs
from twinkeel.pipeline.report import terminal as report

FLOOR = 0.95
"""Of the accuracy on held-out digits; far below what any training reached, far above one that went wrong."""


@pytest.mark.parametrize("platform", common.PLATFORMS)
def test_every_artifact_of_every_target_is_verified(platform, default_build):
    result = default_build.results[platform]
    assert report.failures(result) == []
    wanted = {(target.NAME, precision) for target, precision in plan(default_build.config, common.targets(), platform)}
    assert {(row.artifact.target, row.artifact.precision) for row in result.rows} == wanted


@pytest.mark.parametrize("platform", common.PLATFORMS)
def test_the_model_has_learned_digits_and_every_artifact_knows_them(platform, default_build):
    result = default_build.results[platform]
    assert result.reference_scores["float"] >= FLOOR, result.reference_scores
    for row in result.rows:
        name = f"{row.artifact.target} {row.artifact.precision}"
        assert row.worth.score >= FLOOR, f"{name}: {row.worth.score:.4f} of {result.reference_scores['float']:.4f}"


@pytest.mark.parametrize("platform", common.PLATFORMS)
def test_the_folder_says_that_it_is_verified_and_was_trained_on_digits(platform, default_build):
    folder = default_build.folders[platform]
    listed = json.loads((folder / "manifest.json").read_text())
    assert manifest.verify(folder) == len(listed["files"])
    assert listed["is_verified"] is True and listed["model"]["weights"] == "trained on digits"
    # with another model, other images near a boundary: an accuracy may be open, and none is missed
    assert {a["parity"] for a in listed["artifacts"]} <= {"verified", "open"}


def test_the_training_is_shown(default_build):
    out = default_build.folders["android"].parent
    assert outputs.verify(out)
    epochs = default_build.config.train.epochs
    assert len(list(csv.DictReader((out / "curves.csv").read_text().splitlines()))) == epochs
    page = (out / "report.html").read_text(encoding="utf-8")
    states = {row.state for result in default_build.results.values() for row in result.rows}
    assert (
        "Training loss" in page and ("all artifacts verified" if states == {"verified"} else "nothing missed") in page
    )
    assert any(line.startswith(f"train: epoch {epochs}/{epochs} ") for line in default_build.messages)
