"""Rows of artifacts: what is told of them beside the checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.program import ORIGINAL, Artifact
from twinkeel.pipeline.tasks import classification


class _Target:
    KERNELS, EVIDENCE, REFERENCES = "", "reference executor", {"fp32": "fp32", "w4": "w4"}


@pytest.mark.parametrize("images", [None, [0, 1, 3]], ids=["all", "some"])
def test_what_weights_alone_lose_is_told_of_the_reference_against_float(images):
    truth, floating = np.arange(4), 10 * np.eye(6, dtype=np.float32)  # the last two images are at the edges
    rounded = 0.9 * floating  # a tenth of the signal is 20 dB
    rounded[4:] = 0  # and not counted
    references = dict.fromkeys((ORIGINAL, "fp32", "int8"), floating) | {"w4": rounded}
    judge = parity.Judge(
        outputs=parity.Outputs(references=references, truth=truth, outputs=()),
        targets={"ios/coreml": _Target},
        config=Config(),
        meaning=classification.MEANING,
    )
    measured = [
        parity.Measured(
            artifact=Artifact(target="ios/coreml", precision=precision, path="x", bytes=1, sha256=""),
            twin=None,
            operators={},
            outputs=floating,
            metrics={},
            decodes=False,
            images=images,
        )
        for precision in ("w4", "fp32")
    ]
    w4, fp32 = judge.rows(measured, [])
    assert w4.weights_db == pytest.approx(20, abs=1e-4) and math.isnan(fp32.weights_db)
