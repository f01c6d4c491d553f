"""Models that int8 is known to fail on, without twinkeel's methods and with them.

hard_models.py rescaled [seeds]   the trained default model, rescaled by factors up to 64 that cancel: artifacts
hard_models.py heavy [seeds]      width 1.0 at 224 pixels, random weights, heavy-tailed channels: the ladder
hard_models.py outliers           width 0.1, trained with a few channels eight times the others: up to training
"""

from __future__ import annotations

import copy
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import data
from twinkeel.pipeline.building import runner
from twinkeel.pipeline.building.order import checked
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ParityError
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.parity.measuring import run_all
from twinkeel.pipeline.program import InputContract
from twinkeel.pipeline.program.evaluation import evaluate
from twinkeel.pipeline.report import page as html_report
from twinkeel.pipeline.stages import fold, ladder, train
from twinkeel.pipeline.store import workers
from twinkeel.pipeline.tasks import classification
from twinkeel.pipeline.tasks.classification import counting

LARGEST = 64.0
TARGETS = ("android/litert", "android/executorch", "ios/coreml")
PLAIN = dict.fromkeys(
    ("equalize", "bias_correction", "learned_rounding", "reconstruction", "float_layers", "qat"), "never"
)


def factors(random: np.random.Generator, count: int) -> torch.Tensor:
    """Log-uniform in 1..64."""
    return torch.from_numpy(np.exp(random.uniform(0, np.log(LARGEST), count))).float()


def with_rescaled_bottlenecks(model: nn.Module, seed: int) -> nn.Module:
    """Each linear bottleneck times a factor per channel, one for all blocks that residuals join; readers over it."""
    changed, random, factor = copy.deepcopy(model), np.random.default_rng(seed), torch.ones(1)
    *blocks, last = list(changed.features)[1:]
    with torch.no_grad():
        for number, block in enumerate(blocks):
            if number:
                block.conv[0][0].weight /= factor.view(1, -1, 1, 1)
            norm = block.conv[-1]
            if not block.use_res_connect:
                factor = factors(random, norm.num_features)
            norm.weight *= factor
            norm.bias *= factor
        last[0].weight /= factor.view(1, -1, 1, 1)
    return changed


def with_relu_and_rescaled_depthwise(model: nn.Module, seed: int) -> nn.Module:
    """ReLU instead of ReLU6, and each depthwise channel times a factor, which the projection takes out again."""
    changed, random = with_relu(model), np.random.default_rng(seed)
    with torch.no_grad():
        for block in list(changed.features)[1:-1]:
            norm, projection = block.conv[-3][1], block.conv[-2]
            factor = factors(random, norm.num_features)
            norm.weight *= factor
            norm.bias *= factor
            projection.weight /= factor.view(1, -1, 1, 1)
    return changed


def with_relu_and_both(model: nn.Module, seed: int) -> nn.Module:
    """Depthwise channels and bottlenecks with their residual groups."""
    return with_relu_and_rescaled_depthwise(with_rescaled_bottlenecks(model, seed + 100), seed)


def with_relu(model: nn.Module) -> nn.Module:
    changed = copy.deepcopy(model)
    for module in list(changed.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    return changed


def heavy_tailed(width: float, resolution: int, seed: int, tail: float = 0.6) -> nn.Module:
    """Random weights; each BatchNorm's scale is drawn from a Pareto distribution, and what reads it is smaller for it."""
    torch.manual_seed(seed)
    random, previous = np.random.default_rng(seed), torch.ones(1)
    model = mobilenet_v2.create(10, width)

    def draw(norm: nn.Module) -> torch.Tensor:
        factor = torch.from_numpy(random.pareto(tail, norm.num_features) + 0.05).float()
        norm.weight *= factor
        return factor.view(1, -1, 1, 1) ** 0.8

    with torch.no_grad():
        for block in list(model.features)[1:-1]:
            *expand, depthwise, projection, norm = block.conv
            if expand:
                draw(expand[0][1])
                expand[0][0].weight /= previous
            projection.weight /= draw(depthwise[1])
            previous = draw(norm)
        for _ in range(5):  # BatchNorm statistics of its own
            model(torch.randn(8, 3, min(resolution, 128), min(resolution, 128)))
    return model.eval().requires_grad_(False)


def with_outliers(model: nn.Module, seed: int, factor: float = 8.0) -> nn.Module:
    """An eighth of the channels behind each depthwise and linear BatchNorm start larger; training keeps them so."""
    changed, random = copy.deepcopy(model), np.random.default_rng(seed)
    with torch.no_grad():
        for block in list(changed.features)[1:-1]:
            for norm in (block.conv[-3][1], block.conv[-1]):
                count = norm.num_features
                norm.weight[random.permutation(count)[: max(1, count // 8)]] *= factor
    return changed


def rescaled(seeds: int) -> None:
    """Accuracy, agreement and SNR of the int8 artifacts, plain and as twinkeel makes them."""
    digits = classification.load(Config())
    model = mobilenet_v2.create(10, 0.35)
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        train.train(model, digits, Config(), classification, Path(name) / "train", lambda *_: None)
        model.eval().requires_grad_(False)
        for change, activation in (
            (with_rescaled_bottlenecks, "relu6"),
            (with_relu_and_rescaled_depthwise, "relu"),
            (with_relu_and_both, "relu"),
        ):
            for seed in range(seeds):
                path = Path(name) / "weights.safetensors"
                save_file({k: v.contiguous() for k, v in change(model, seed).state_dict().items()}, path)
                for label, rungs in (("plain", PLAIN), ("twinkeel", {})):
                    _build(f"{change.__name__} {seed} {label}", path, activation, rungs, digits, Path(name) / "out")


def _build(label: str, weights: Path, activation: str, rungs: dict[str, str], digits: data.Dataset, out: Path) -> None:
    gate = {"leg": "quantize", "precision": "int8", "reason": "to see how bad it is"}
    loose = [
        {**gate, "metric": "snr_db", "value": -99.0},
        {**gate, "metric": "accuracy_drop", "value": 1.0},
        {**gate, "metric": "agreement", "value": 0.0},
    ]
    config = Config.model_validate(
        {
            "weights": {"path": str(weights)},
            "model": {"activation": activation},
            "targets": {target: ["int8"] for target in TARGETS},
            "quantize": {**rungs, "range_estimator": "minmax"} if rungs else {},
            "limit": loose if rungs else [],
        }
    )
    create = partial(mobilenet_v2.create, activation=activation)
    asked = checked(
        config, common.targets(), common.kits(), create, common.PLATFORMS, out, html_report.render, lambda *_: None
    )
    results = runner.build(asked, None, lambda *_: None).results
    images = data.rgba(digits.held_out.images)
    floating = evaluate(_folded(create(10, 0.35), weights), images, 64)
    print(f"{label}: float {100 * classification.MEANING.score(floating, digits.held_out.truth, ()):.2f} %")
    for result in results:
        for row in result.rows:
            run = common.targets()[row.artifact.target].load(result.folder / row.artifact.path).run
            logits = run_all(run, images)
            print(
                f"  {row.artifact.target}: {100 * classification.MEANING.score(logits, digits.held_out.truth, ()):.2f} %, agreement "
                f"{100 * counting.agreement(floating, logits)[0]:.2f} %, {metrics.snr_db(floating, logits):.2f} dB, "
                f"{'verified' if row.is_verified else 'over a limit'}",
                flush=True,
            )


def _folded(model: nn.Module, weights: Path) -> nn.Module:
    from twinkeel.pipeline.stages.weights import load_into

    load_into(model, weights)
    return fold.fold(model.eval().requires_grad_(False), _contract(32))


def heavy(seeds: int) -> None:
    gate = {"leg": "quantize", "precision": "int8", "reason": "random weights"}
    config = Config.model_validate(
        {
            "model": {"width": 1.0, "resolution": 224},
            "weights": {"path": "random"},
            "data": {"calibration": 32, "held_out": 0.02},
            "quantize": {"equalize": "auto", "qat": "never"},
            "limit": [
                {**gate, "metric": "snr_db", "value": 30.0},
                {**gate, "metric": "accuracy_drop", "value": 1.0},
                {**gate, "metric": "agreement", "value": 0.0},
            ],
        }
    )
    images = classification.load(config)
    for seed in range(seeds):
        print(f"heavy-tailed, width 1.0, 224 pixels, seed {seed}")
        _climb(heavy_tailed(1.0, 224, seed), images, config)


def outliers(seed: int = 2) -> None:
    torch.set_num_threads(1)  # the order of sums decides how hard the trained model becomes
    digits = classification.load(Config())
    torch.manual_seed(seed)
    model = with_outliers(mobilenet_v2.create(10, 0.1), seed)
    config = Config.model_validate(
        {
            "train": {"epochs": 60, "weight_decay": 0.0, "learning_rate": 0.05},
            "weights": {"path": "trained here"},
            "quantize": {"equalize": "auto"},
        }
    )
    with tempfile.TemporaryDirectory() as name:
        history = train.train(model, digits, config, classification, Path(name), lambda *_: None)
    print(f"outliers, width 0.1: float {100 * history[-1].score:.2f} %")
    _climb(model.eval().requires_grad_(False), digits, config)


def _climb(model: nn.Module, images: data.Dataset, config: Config) -> None:
    contract = _contract(config.model.resolution)
    try:
        ladder.climb(
            fold.fold(model, contract),
            images,
            contract,
            config,
            classification,
            lambda line, *_: print(f"  {line}", flush=True) if line.startswith("quantize") else None,
        )
    except ParityError as error:
        print(error)


def _contract(resolution: int) -> InputContract:
    mean, std = tuple(Config().data.mean), tuple(Config().data.std)
    return InputContract.of(resolution, mean, std)


if __name__ == "__main__":
    workers.quieten()
    command, *rest = sys.argv[1:] or ["outliers"]
    {"rescaled": rescaled, "heavy": heavy, "outliers": outliers}[command](
        *map(int, rest or {"outliers": []}.get(command, [3]))
    )
