"""Networks of users' own on every runtime: int8 to the last bit, and one delegate."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import About, InputContract
from twinkeel.pipeline.program.program import Program
from twinkeel.pipeline.stages import fold, quantize

CONTRACT = InputContract.of(networks.RESOLUTION, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TARGETS = ("android/executorch", "android/litert", "android/onnx")


@pytest.fixture(scope="module")
def pixels():
    coarse = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    images = coarse.repeat(networks.RESOLUTION // 8, 1).repeat(networks.RESOLUTION // 8, 2)
    return np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], -1)


@pytest.fixture(scope="module", params=["mobilenet_v1", "resnet", "repvgg", "squeezenet"])
def program(request, pixels):
    model = networks.settled(networks.NETWORKS[request.param]())
    folded = fold.fold(model, CONTRACT)
    made = quantize.quantize(folded, pixels[:16], CONTRACT)
    return Program(
        name="network",
        contract=CONTRACT,
        labels=tuple(str(n) for n in range(networks.OUTPUTS)),
        original=fold.Normalized(model, CONTRACT.mean, CONTRACT.std).eval(),
        folded=folded,
        tuned=folded,
        quantized=made.module,
        quantized_unfolded=made.unfolded,
        output_scale=made.output_scale,
        about=About(author="", license="", version="1", description=""),
        minimum_ios=18,
    )


@pytest.mark.parametrize("name", TARGETS)
def test_int8_equals_the_reference_in_the_runtimes_arithmetic(program, pixels, name, tmp_path):
    target = common.targets()[name]
    path = target.build(program, "int8", tmp_path / f"network{target.SUFFIX}")
    run = target.load(path).run
    found = np.concatenate([run(image[None]) for image in pixels])
    expected = program.outputs(target.REFERENCES["int8"], pixels)
    equal = float((found == expected).mean())
    steps = metrics.steps(expected, found, program.output_scale).max()
    assert equal == 1, f"{100 * equal:.1f} % equal, {steps:g} steps apart"
    if name == "android/executorch":
        assert target.operators(path) == {"delegate": 1}
