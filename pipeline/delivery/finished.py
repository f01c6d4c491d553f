"""Finished folders, looked at from their files alone: how equal their artifacts are, and where their layers part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, arrays
from ..errors import ConversionError, TwinkeelError, VerifyError
from ..files import digest
from ..parity import INTEGERS, REFERENCE, Comparison, LayerDrift, RuntimeDrift, Values, arithmetic, run_all, tabulate
from ..parity import drift as drifts
from ..program import Output, Recording, Target, Trace, layers, steps
from ..reading import shown
from ..saying import Say
from . import manifest


def compare(folders: Sequence[Path], targets: Mapping[str, Target]) -> Comparison:
    """Run every int8 artifact of finished folders, and the float32 twins of those that have one.

    Raises:
        VerifyError: a folder is not what its manifest says, or the folders do not come from one build.
    """
    outputs: dict[str, Values] = {}
    given: tuple[Output, ...] = ()
    inputs: Images | None = None
    for folder in folders:
        content, golden = manifest.read_verified(folder)
        if inputs is not None and not (
            given == manifest.outputs_of(content, golden.expected["int8"].shape[1])
            and _are_same(inputs, golden.images)
            and np.array_equal(outputs[REFERENCE], golden.expected["int8"])
        ):
            raise VerifyError(
                f"'{folder}' and '{folders[0]}' come from different models or images. `twinkeel build all` makes both."
            )
        given, inputs = manifest.outputs_of(content, golden.expected["int8"].shape[1]), golden.images
        outputs[REFERENCE] = golden.expected["int8"]
        outputs |= {name: golden.expected[key] for key, name in INTEGERS.items() if key in golden.expected}
        for entry in [e for e in content["artifacts"] if e["precision"] == "int8"]:
            paths = {entry["target"]: entry["path"]}
            if entry["twin"]:
                paths[f"{entry['target']}, float32 twin"] = entry["twin"]
            for name, path in paths.items():
                outputs[name] = _outputs(targets, entry["target"], folder / path, golden)
    if inputs is None or sum(not name.startswith(REFERENCE) for name in outputs) < 2:
        raise VerifyError(f"fewer than two int8 artifacts in {', '.join(map(str, folders))}: nothing to compare")
    return tabulate(outputs, steps(given))


def _are_same(one: Images, other: Images) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


def _outputs(targets: Mapping[str, Target], name: str, path: Path, golden: manifest.Golden) -> Values:
    if name not in targets:
        raise VerifyError(f"the manifest names the target '{shown(name)}', which is not installed here")
    try:
        found = run_all(targets[name].load(path).run, golden.images)
    except TwinkeelError:
        raise
    except Exception as error:  # each runtime has errors of its own for what it does not take
        raise VerifyError(f"'{path}' does not run: {type(error).__name__}: {str(error).strip()[:500]}") from error
    if found.shape != golden.expected["int8"].shape:
        raise VerifyError(f"'{path}' gives outputs of shape {found.shape}, not {golden.expected['int8'].shape}")
    return found


def drift(folders: Sequence[Path], targets: Mapping[str, Target], say: Say) -> tuple[RuntimeDrift, ...]:
    """Compare the layers of every int8 artifact of finished folders with what their builds recorded.

    Raises:
        VerifyError: a folder is not what its manifest says, or keeps no layers; the folders come from different
            models; an artifact does not have the reference's layers, or does not run; there is none.
        ConversionError: none of them lets its layers be looked at. Where some do, the others are left out and named.
    """
    found: dict[tuple[str, str], RuntimeDrift] = {}
    closed: list[ConversionError] = []
    before: tuple[Recording, NDArray[np.uint8]] | None = None
    for folder in folders:
        manifest.verify(folder)
        content = manifest.read_manifest(folder)
        entries = [e for e in content["artifacts"] if _has_layers(e, targets)]
        if not entries:
            continue
        golden = manifest.read_golden(folder / "golden")
        recording = layers.read(folder / "golden", len(golden.inputs))
        if before is not None and not _are_equal(before, (recording, golden.inputs)):
            raise VerifyError(
                f"'{folder}' and '{folders[0]}' come from different models or images. `twinkeel build all` makes both."
            )
        before = recording, golden.inputs
        for entry in entries:
            say(f"drift: {entry['target']} int8, {len(recording.layers)} layers on {len(golden.inputs)} images")
            key = digest(folder / entry["path"]), entry["reference"]
            others = found[key].targets if key in found else ()
            try:
                measured = (
                    found[key].layers
                    if others
                    else _measured(folder, entry, targets, recording, golden.images, content.get("in_float", []))
                )
            except ConversionError as error:  # the other runtimes' can be looked at all the same
                say(f"drift: {entry['target']} int8 is left out: {error}")
                closed.append(error)
                continue
            found[key] = RuntimeDrift(targets=(*others, entry["target"]), reference=entry["reference"], layers=measured)
    if closed and not found:
        raise closed[0]
    if not found:
        raise VerifyError(f"no int8 artifact in {', '.join(map(str, folders))} whose layers can be looked at")
    return tuple(found.values())


def _are_equal(one: tuple[Recording, NDArray[np.uint8]], other: tuple[Recording, NDArray[np.uint8]]) -> bool:
    """Whether two folders have the same layers, images, and values of the references that both keep."""
    common = one[0].steps.keys() & other[0].steps.keys()
    return (
        one[0].layers == other[0].layers
        and np.array_equal(one[1], other[1])
        and all(np.array_equal(one[0].steps[key], other[0].steps[key]) for key in common)
    )


def _has_layers(entry: Mapping[str, Any], targets: Mapping[str, Target]) -> bool:
    return entry["precision"] == "int8" and hasattr(targets.get(entry["target"]), "trace")


def _measured(
    folder: Path,
    entry: Mapping[str, Any],
    targets: Mapping[str, Target],
    recording: Recording,
    images: Images,
    in_float: Sequence[str],
) -> tuple[LayerDrift, ...]:
    target, name = targets[entry["target"]], f"{entry['target']} int8"
    if entry["reference"] not in recording.steps:
        raise VerifyError(f"'{folder}' keeps no layers of the reference '{entry['reference']}' of {name}. Build again.")
    try:
        trace: Trace = target.trace(folder / entry["path"])  # type: ignore[attr-defined]
        candidate = drifts.candidates(trace, images, recording, entry["reference"], name)
    except TwinkeelError:
        raise
    except Exception as error:  # each runtime has errors of its own for what it does not take
        raise VerifyError(f"{name} does not run: {type(error).__name__}: {str(error).strip()[:500]}") from error
    return drifts.compare(recording, entry["reference"], candidate, arithmetic(target.KERNELS, in_float))
