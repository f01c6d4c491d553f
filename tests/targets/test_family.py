"""Our own networks on every runtime: int8 to the last bit, and one delegate."""

from __future__ import annotations

import importlib

import numpy as np
import programs
import pytest
import torch
from torch import nn
from twinkeel.model import inception, mobilenet_v2, mobilenet_v3
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.parity import metrics, run_all
from twinkeel.pipeline.program import InputContract, evaluate, integer, steps

TARGETS = ("android/executorch", "android/litert", "android/onnx")
SIDE = 96


@pytest.fixture(scope="module")
def pixels():
    coarse = np.random.default_rng(0).integers(0, 256, (12, SIDE // 8, SIDE // 8, 3), np.uint8)
    images = coarse.repeat(8, 1).repeat(8, 2)
    return np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], -1)


def settled(name):
    """In evaluation mode, with statistics of noise, and BatchNorms that scale and shift; with one block of each kind that the network
    has: a third block of a stage of MobileNetV2 is the second again, and so on."""
    torch.manual_seed(0)
    source = architectures.sources()[name]
    with pytest.MonkeyPatch.context() as patch:
        if not name.startswith(
            "deeplab"
        ):  # its logits of noise would be a thousand times smaller than what they are made of
            stages = tuple(stage._replace(repeats=min(stage.repeats, 2)) for stage in mobilenet_v2.STAGES)
            patch.setattr(mobilenet_v2, "STAGES", stages)
        patch.setattr(inception, "STAGES", (inception.STAGES[0], *(stage[:1] for stage in inception.STAGES[1:])))
        layers, last = mobilenet_v3.VARIANTS["mobilenet_v3_small"]
        patch.setitem(mobilenet_v3.VARIANTS, "mobilenet_v3_small", (layers[:5], last))
        model = importlib.import_module(source.module).create(5, 0.25, **source.options)
    for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(6):
            model(nn.functional.interpolate(torch.randn(8, 3, 12, 12), size=(SIDE, SIDE), mode="bilinear") * 1.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(
    scope="module",
    params=["mobilenet_v3_small", "inception", "ssdlite_mobilenet_v2", "deeplab_v3_aspp_mobilenet_v2"],
)
def program(request, pixels):
    contract = InputContract.of(SIDE, programs.MEAN, programs.STD)
    return programs.program(settled(request.param), contract, pixels[:8], name=request.param)


def test_the_canonical_form_computes_the_same_and_is_all_integers(program, pixels):
    folded = metrics.snr_db(evaluate(program.original, pixels), evaluate(program.folded, pixels), program.outputs)
    assert folded >= 90
    assert integer.in_float(program.quantized) == ()
    assert metrics.snr_db(evaluate(program.folded, pixels), program.evaluate("int8", pixels), program.outputs) >= 15


@pytest.mark.parametrize("name", TARGETS)
def test_int8_equals_the_reference_in_the_runtimes_arithmetic(program, pixels, name, tmp_path):
    target = common.targets()[name]
    path = target.build(program, "int8", tmp_path / f"network{target.SUFFIX}")
    found = run_all(target.load(path).run, pixels)
    expected = program.evaluate(target.REFERENCES["int8"], pixels)
    equal = float((found == expected).mean())
    apart = metrics.steps(expected, found, steps(program.outputs)).max()
    assert equal == 1, f"{100 * equal:.1f} % equal, {apart:g} steps apart"
    if name == "android/executorch":
        assert target.operators(path) == {"delegate": 1}
