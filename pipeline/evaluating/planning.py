"""What an evaluation runs: artifacts, images, and the shards that these are divided into."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..data import Fit, Gathered, ImageFile, counted, gathered
from ..delivery import machine, manifest, runtimes
from ..errors import DataError, DeviceError, VerifyError, nearest
from ..files import digest, rendered
from ..program import Output, Runtime, Target, Tensor
from ..reading import shown
from . import parts

VERSION = 2
"""Of what a shard holds; a change makes all anew."""
SHARD_BYTES = 2**25
"""Of the pixels of a shard: decoded together, run by every artifact, and dropped."""
SHARD_IMAGES = (16, 512)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a runtime runs.

    Attributes:
        names: target and precision in each folder that holds it.
        runtime: name of the runtime's module.
        target: name of the target's module, for what it unpacks.
        reference: number of the float32 artifact that it is compared with; None where none runs here.
    """

    names: tuple[str, ...]
    precision: str
    runtime: str
    target: str
    path: Path
    sha256: str
    versions: Mapping[str, str]
    reference: int | None = None

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(name.rpartition(" ")[0] for name in self.names)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that workers need; it travels to them.

    Attributes:
        truth: ``(N,)`` what is right of each image, -1 where that is no one number or not known.
        right: what is right of them, where it is more than a number.
        names: of what the outputs stand for.
        outputs: what stands where in packed outputs.
        tensors: what is given beside each image.
        per_shard: images; the last shard has fewer.
        skips_damaged: whether images that cannot be decoded are passed over.
        notes: what is to be said of the data, a line each.
        skipped: artifacts that nothing runs here, and why.
        how: images come to the size.
        described: what the manifest says of the outputs, the task's own part of it.
    """

    task: str
    size: tuple[int, int]
    artifacts: tuple[Artifact, ...]
    files: tuple[ImageFile, ...]
    truth: NDArray[np.int64]
    names: tuple[str, ...]
    outputs: tuple[Output, ...]
    tensors: tuple[Tensor, ...]
    per_shard: int
    skips_damaged: bool
    notes: tuple[str, ...]
    skipped: Mapping[str, str]
    how: Fit = "crop"
    right: parts.Right | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=machine.here)

    def part(self, shard: int) -> slice:
        """Which images a shard has."""
        return slice(shard * self.per_shard, min((shard + 1) * self.per_shard, len(self.files)))

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the shards' files: the hash of all that a shard's answers depend on, so that what is there is right."""
        common = {
            "version": VERSION,
            "task": self.task,
            "size": self.size,
            "artifacts": [[one.sha256, one.reference, dict(one.versions), one.runtime] for one in self.artifacts],
            "names": self.names,
            "outputs": [[one.name, one.shape] for one in self.outputs],
            "described": dict(self.described),
            "how": self.how,
            "tensors": [[one.name, one.shape] for one in self.tensors],
            "machine": dict(self.machine),
        }
        start = hashlib.sha256(rendered(common))
        seen = parts.file_marks(self.files)
        found = []
        for shard in range(-(-len(self.files) // self.per_shard)):
            key, part = start.copy(), self.part(shard)
            key.update(repr((seen[part], self.truth[part].tolist())).encode(errors="surrogateescape"))
            if self.right is not None:
                key.update(self.right.part(range(part.start, part.stop)).key())
            found.append(key.hexdigest())
        return tuple(found)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Of artifacts by number, in the order of what is kept of them."""
        count = len(self.artifacts)
        return tuple((one, other) for one in range(count) for other in range(one + 1, count))

    @cached_property
    def rivals(self) -> tuple[int, ...]:
        """Numbers of the pairs of one precision: there runtimes alone differ."""
        alike = [self.artifacts[one].precision == self.artifacts[other].precision for one, other in self.pairs]
        return tuple(number for number, is_alike in enumerate(alike) if is_alike)


def planned(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]],
    targets: Mapping[str, Target],
    data: Path,
    *,
    naming: Path | None = None,
    which: str | None = None,
    has_truth: bool = True,
    skips_damaged: bool = False,
    only: Sequence[str] = (),
) -> Plan:
    """The plan for finished folders, as `manifest.read_verified` gives them.

    Args:
        data: what the task reads; without truth any images.
        naming: file of names of what outputs stand for, where the data call it otherwise.
        which: set of the data, where they have several; the held-out one by default.
        only: targets; all by default.

    Raises:
        VerifyError: the folders are of different models.
        DeviceError: nothing runs here.
        DataError: the images are not what the model knows.
    """
    content, golden = next(iter(read.values()))
    contract = _contract(content, golden)
    for folder, other in read.items():
        if _contract(*other) != contract:
            raise VerifyError(f"'{folder}' and '{next(iter(read))}' come from different models. Give one of them.")
    task = manifest.task_of(content)
    part = parts.of(task)
    artifacts, skipped = _artifacts(read, targets, only)
    names = task.names_of(content)
    found = (
        _known(part, data, names, naming, skips_damaged=skips_damaged)
        if has_truth
        else parts.Known.of(gathered(data, is_sorted=False, setting="--data"))
    )
    chosen, notes = _chosen(found.there, which)
    found = found.part(chosen)
    _, height, width, _ = golden.inputs.shape
    return Plan(
        task=task.__name__.rpartition(".")[2],
        size=(height, width),
        artifacts=artifacts,
        files=found.there.files,
        truth=found.truth,
        right=found.right,
        names=names,
        outputs=manifest.outputs_of(content, golden.expected["fp32"].shape[1]),
        tensors=manifest.tensors_of(content),
        per_shard=min(max(SHARD_BYTES // (4 * height * width), SHARD_IMAGES[0]), SHARD_IMAGES[1]),
        skips_damaged=skips_damaged,
        notes=(*found.there.notes, *_passed(found.there), *notes, *found.notes),
        skipped=skipped,
        how=_how(content, next(iter(read))),
        described={key: content[key] for key in task.DESCRIBES if key in content},
    )


def _passed(there: Gathered) -> list[str]:
    """What is not evaluated, for something that belongs to it is not there, or it is something else."""
    passed = {kind: count for kind, count in there.passed.items() if count}
    return [f"passed over: {counted(passed)}"] if passed else []


def _how(content: Mapping[str, Any], folder: Path) -> Fit:
    """How a manifest says that photos come to the size of the input; older ones say nothing."""
    given = content.get("input")
    how = given.get("fit", "crop") if isinstance(given, dict) else "crop"
    if how not in get_args(Fit):
        raise VerifyError(
            f"the manifest of '{folder}' says that photos are fitted by '{shown(how, 50)}', which is not known: a newer twinkeel made it, or it is damaged."
        )
    return cast("Fit", how)


def _contract(content: Mapping[str, Any], golden: manifest.Golden) -> object:
    outputs = manifest.outputs_of(content, golden.expected["fp32"].shape[1])
    task = manifest.task_of(content)
    shapes = [(one.name, one.shape) for one in outputs], manifest.tensors_of(content)
    return task.__name__, golden.inputs.shape[1:], shapes, task.names_of(content)


def _known(part: Any, data: Path, names: Sequence[str], naming: Path | None, *, skips_damaged: bool) -> parts.Known:
    try:
        found: parts.Known = part.known(data, names, naming, skips_damaged=skips_damaged)
    except DataError as error:
        asked = "for given weights: data.source = 'images'"  # of a build; here nothing is given but these
        raise DataError(
            str(error).replace(f"Images without classes, {asked}", "Images without classes: --unlabelled")
        ) from error
    return found


def _artifacts(
    read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], targets: Mapping[str, Target], only: Sequence[str]
) -> tuple[tuple[Artifact, ...], dict[str, str]]:
    """Each file once, however many folders hold it; and why others are left out."""
    found: dict[tuple[str, str], Artifact] = {}
    skipped: dict[str, str] = {}
    there = {str(entry["target"]) for content, _ in read.values() for entry in content["artifacts"]}
    for folder, (content, _) in read.items():
        for entry in content["artifacts"]:
            name, target = shown(f"{entry['target']} {entry['precision']}"), targets.get(entry["target"])
            if only and entry["target"] not in only:
                continue
            runtime: Runtime | None = getattr(target, "RUNTIME", None)
            if target is None or runtime is None:
                skipped[name] = "no runtime here is known to run it"
            elif reason := runtimes.missing(runtime):
                skipped[name] = reason
            else:
                path = folder / entry["path"]
                key = runtime.__name__, digest(path)
                names = (*found[key].names, name) if key in found else (name,)
                found[key] = Artifact(
                    names=names,
                    precision=entry["precision"],
                    runtime=runtime.__name__,
                    target=target.__name__,
                    path=path,
                    sha256=key[1],
                    versions=runtimes.versions(runtime),
                )
    if not found:
        told = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        if not told and only:
            told = f"there is no artifact of {', '.join(map(shown, only))}. {nearest(only[0], there)}"
        told = told or "the build has no artifact"
        raise DeviceError(f"nothing can be evaluated here: {told}")
    artifacts = list(found.values())
    return tuple(_with_reference(one, artifacts) for one in artifacts), skipped


def _with_reference(one: Artifact, artifacts: Sequence[Artifact]) -> Artifact:
    """The float32 artifact of its own target, else the first one."""
    floats = [n for n, other in enumerate(artifacts) if other.precision == "fp32"]
    own = [n for n in floats if set(artifacts[n].targets) & set(one.targets)]
    return replace(one, reference=next(iter([*own, *floats]), None))


def _chosen(there: Gathered, which: str | None) -> tuple[list[int], list[str]]:
    """Numbers of the images of one set, and a line on it where there are several."""
    everything = list(range(len(there.files)))
    sets = sorted(set(there.sets) - {""})
    if not sets:
        if which is not None:
            raise DataError(f"--set {which}: the data have no sets. Leave it out.")
        return everything, []
    chosen = which or next((name for name in ("test", "val") if name in sets), sets[0])
    if chosen not in sets:
        raise DataError(f"--set {chosen}: the data have {', '.join(sets)}")
    kept = [n for n in everything if there.sets[n] == chosen]
    others = len(there.files) - len(kept)
    note = f"the {len(kept):,} images of '{chosen}' are evaluated, {others:,} of other sets are not."
    return kept, [note] if others else []
