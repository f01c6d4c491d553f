"""How equal the int8 artifacts of all runtimes are: pair by pair, on the same golden images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import manifest, parity
from .artifact import Target
from .errors import TwinkeelError, VerifyError
from .measure import run_all
from .reading import shown

REFERENCE = "quantized reference"
INTEGERS = {
    "int8-xnnpack": f"{REFERENCE}, XNNPACK's integers",
    "int8-onnxruntime": f"{REFERENCE}, onnxruntime's integers",
}
"""What the references in integer arithmetic are called, by key."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Square tables in the order of `names`.

    Attributes:
        images: number of golden images.
        equal: share of logits that are equal, in steps of the int8 logits.
        largest: largest difference in steps.
    """

    names: tuple[str, ...]
    images: int
    equal: tuple[tuple[float, ...], ...]
    largest: tuple[tuple[int, ...], ...]


def compare(folders: Sequence[Path], targets: Mapping[str, Target]) -> Comparison:
    """Run every int8 artifact of finished folders, and the float32 twins of those that have one.

    Raises:
        VerifyError: a folder is not what its manifest says, or the folders do not come from one build.
    """
    logits: dict[str, parity.Logits] = {}
    scale, inputs = None, None
    for folder in folders:
        content, golden = manifest.read_verified(folder)
        if inputs is not None and not (
            content["output_scale"] == scale
            and np.array_equal(inputs, golden.inputs)
            and np.array_equal(logits[REFERENCE], golden.expected["int8"])
        ):
            raise VerifyError(
                f"'{folder}' and '{folders[0]}' come from different models or images. `twinkeel build all` makes both."
            )
        scale, inputs = content["output_scale"], golden.inputs
        logits[REFERENCE] = golden.expected["int8"]
        logits |= {name: golden.expected[key] for key, name in INTEGERS.items() if key in golden.expected}
        for entry in [e for e in content["artifacts"] if e["precision"] == "int8"]:
            paths = {entry["target"]: entry["path"]}
            if entry["twin"]:
                paths[f"{entry['target']}, float32 twin"] = entry["twin"]
            for name, path in paths.items():
                logits[name] = _logits(targets, entry["target"], folder / path, golden)
    if inputs is None or scale is None or sum(not name.startswith(REFERENCE) for name in logits) < 2:
        raise VerifyError(f"fewer than two int8 artifacts in {', '.join(map(str, folders))}: nothing to compare")
    return tabulate(logits, scale)


def tabulate(logits: Mapping[str, parity.Logits], scale: float) -> Comparison:
    """Every pair of logits ``(images, classes)``, by name.

    Args:
        scale: step of the int8 logits.
    """
    apart = [[parity.steps(a, b, scale) for b in logits.values()] for a in logits.values()]
    return Comparison(
        names=tuple(logits),
        images=len(next(iter(logits.values()))),
        equal=tuple(tuple(float((d == 0).mean()) for d in row) for row in apart),
        largest=tuple(tuple(int(d.max()) for d in row) for row in apart),
    )


def _logits(targets: Mapping[str, Target], name: str, path: Path, golden: manifest.Golden) -> parity.Logits:
    if name not in targets:
        raise VerifyError(f"the manifest names the target '{shown(name)}', which is not installed here")
    try:
        found = run_all(targets[name].load(path).run, golden.inputs)
    except TwinkeelError:
        raise
    except Exception as error:  # each runtime has errors of its own for what it does not take
        raise VerifyError(f"'{path}' does not run: {type(error).__name__}: {str(error).strip()[:500]}") from error
    if found.shape != golden.expected["int8"].shape:
        raise VerifyError(f"'{path}' gives logits of shape {found.shape}, not {golden.expected['int8'].shape}")
    return found
