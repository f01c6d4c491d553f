"""`manifest.json`, the golden vectors, and the checks of a finished folder from its files alone."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import reading, strays
from ..data import Images, with_tensors
from ..errors import ConfigError, VerifyError, WorkerError
from ..files import check_inside, digest, rendered, short, write_json
from ..parity import Check, Counts, Expected, Unit, Verdict, broken, concerns, measure
from ..parity import described as described_error
from ..program import UNROUNDED, Output, Target, Tensor, describe_reference
from ..reading import kind_of, shown
from ..store import Here
from ..tasks import Task, named
from . import evidence, faults

SCHEMA_VERSION = 3
READABLE = (1, 2, 3)
"""Versions: 1 had ``input.resolution``, of square inputs of RGB alone; 2 has ``input.height``, ``width`` and
``model_channels``; both had one output and ``output_scale``, where 3 has ``outputs``, and ``tensors`` beside the image."""
MANIFEST = faults.MANIFEST
PARITY = "parity.json"
SIGNATURE = "manifest.json.sig"
ATTRIBUTES = ".gitattributes"
"""Keeps git from changing the line ends of the files. Hidden files are left behind by some that copy folders; nobody but git reads
it, so that a folder without it is whole."""
AS_THEY_ARE = b"# what was verified here is verified by its bytes\n* -text\n"
_UNLISTED = (MANIFEST, SIGNATURE)
_SELF = "manifest_sha256"
MAX_GOLDEN_BYTES = 2**30
"""Of all golden vectors together: 14 images of 1024 pixels have 60 MB, as many of 100,000 outputs each 45 MB."""


class _Open(BaseModel):
    """What is read of a part of the manifest; what else is there is nobody's input."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


_Word = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""Text on one line, which a terminal may be given."""


class _Counts(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    images: int = Field(ge=0)  # of boxes perhaps none
    kept: int
    lost: int
    won: int
    low: float
    high: float
    of: _Word = "images"
    draws: int = Field(0, ge=0)


class _Limit(_Open):
    metric: _Word
    sense: Literal[">=", "<="]
    limit: float
    reason: str
    needs_all: bool
    is_met: bool = False
    verdict: Verdict | None = None
    counts: _Counts | None = None
    images_needed: int | None = None


class _Met(_Open):
    is_met: bool = False


class _Program(_Limit):
    leg: _Word


class _Milliseconds(_Open):
    median: float
    p90: float | None  # a benchmark that tells no single runs has none
    runs: int


class _Accelerator(_Open):
    ran: list[Unit] | None
    fell_back: bool
    reason: _Word
    ms: _Milliseconds | None
    plan: dict[Unit, int]


class _Run(_Open):
    evidence: _Word
    by: _Word
    where: _Word
    units: _Word
    machine: dict[_Word, _Word]
    versions: dict[_Word, _Word]
    checks: list[_Met]
    accelerator: _Accelerator | None = None


class _DeviceLimit(_Open):
    leg: Literal["device"]
    precision: _Word
    unit: Literal["", "CPU", "GPU", "NPU"] = ""
    metric: Literal["equal_logits", "max_error", "max_steps", "snr_db", "snr_loss_db"]
    value: float
    reason: _Word = ""


class _Entry(_Open):
    target: _Word
    precision: _Word
    path: _Word = Field(min_length=1)
    sha256: _Word
    runtime: _Word
    reference: _Word
    twin: _Word | None
    checks: list[_Limit]
    parity: _Word = ""
    runs: list[_Run] = []
    device_limits: list[_DeviceLimit] = []


_Size = Annotated[int, Field(ge=1, le=2**31)]


class _Output(_Open):
    name: _Word
    shape: list[_Size] = Field(max_length=10)
    scale: float = Field(gt=0)


class _Tensor(_Open):
    name: _Word = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
    shape: list[_Size] = Field(max_length=10)
    low: float
    high: float


class _Manifest(_Open):
    files: dict[str, str]
    errors: list[str] = []
    program_checks: list[_Program] = []
    doubts: list[str] = []
    is_verified: bool = True
    task: _Word = "classification"
    output_scale: float = Field(1.0, gt=0)
    outputs: list[_Output] = []
    tensors: list[_Tensor] = []
    in_float: list[_Word] = []
    artifacts: list[_Entry]


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs, their names, and expected outputs of each reference.

    Attributes:
        inputs: ``(N, H, W, 4)`` uint8 RGBA.
        expected: packed, ``(N, width)`` float32, by key of the reference.
        tensors: ``(N, ...)`` float32, what is given beside the images, by name.
    """

    names: tuple[str, ...]
    inputs: NDArray[np.uint8]
    expected: Mapping[str, NDArray[np.float32]]
    tensors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def images(self) -> Images:
        """What artifacts are called with."""
        return with_tensors(self.inputs, tuple(self.tensors.values()))


def write_golden(golden: Golden, folder: Path) -> None:
    """PNG for people, raw RGBA bytes and little-endian float32 for programs, ``golden.json`` for the shapes."""
    from PIL import Image

    folder.mkdir(parents=True)
    for name, pixels in zip(golden.names, golden.inputs, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.rgba").write_bytes(pixels.tobytes())
        for tensor, values in golden.tensors.items():
            number = golden.names.index(name)
            (folder / f"{name}.{tensor}.f32").write_bytes(values[number].astype("<f4").tobytes())
    for key, outputs in golden.expected.items():
        (folder / f"expected-{key}.f32").write_bytes(outputs.astype("<f4").tobytes())
    described = {
        "names": golden.names,
        "input_shape": [1, *golden.inputs.shape[1:]],
        "classes": next(iter(golden.expected.values())).shape[1],
        "tensors": {name: list(values.shape[1:]) for name, values in golden.tensors.items()},
        "references": {key: describe_reference(key) for key in sorted(golden.expected)},
    }
    write_json(described, folder / "golden.json")


def read_golden(folder: Path) -> Golden:
    """The golden vectors below `folder`.

    Raises:
        VerifyError: a file is missing or has another size than ``golden.json`` says.
    """
    try:
        described = reading.read_json(folder / "golden.json")
        shape, names = described["input_shape"], tuple(described["names"])
        given = dict(described.get("tensors", {}))
        for name in (*names, *given, *described["references"]):
            check_inside(name)
        files = [f"{name}.rgba" for name in names] + [f"expected-{key}.f32" for key in described["references"]]
        files += [f"{name}.{tensor}.f32" for tensor in given for name in names]
        total = sum(reading.plain_size(folder / name) for name in files)
        if total > MAX_GOLDEN_BYTES:
            raise ValueError(f"{len(files):,} files of {total:,} bytes; at most {MAX_GOLDEN_BYTES:,} are read")
        inputs = np.stack([_array(folder / f"{name}.rgba", "u1", shape[1:]) for name in names])
        expected = {
            key: _array(folder / f"expected-{key}.f32", "<f4", [len(names), described["classes"]])
            for key in described["references"]
        }
        tensors = {
            tensor: np.stack([_array(folder / f"{name}.{tensor}.f32", "<f4", tuple(wanted)) for name in names])
            for tensor, wanted in given.items()
        }
        missing = sorted({"fp32", "int8"} - expected.keys())
        if missing:
            raise ValueError(f"no outputs of the references {missing}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise VerifyError(f"the golden vectors in '{folder}' are not whole: {short(error)}. Build again.") from error
    return Golden(names=names, inputs=inputs, expected=expected, tensors=tensors)


def _array(path: Path, kind: str, shape: Sequence[int]) -> NDArray[Any]:
    return np.frombuffer(reading.read_bytes(path, MAX_GOLDEN_BYTES), kind).reshape(shape)


def write(content: Mapping[str, Any], path: Path) -> None:
    """A manifest with the hash of all else in it, so that a change of the manifest itself shows."""
    write_json(sealed(content), path)


def sealed(content: Mapping[str, Any], key: str = _SELF) -> dict[str, Any]:
    """With the hash of all else in it under `key`."""
    bare = {name: value for name, value in content.items() if name != key}
    return bare | {key: hashlib.sha256(rendered(bare)).hexdigest()}


def described(check: Check) -> dict[str, Any]:
    """A check as JSON holds it, with its verdict."""
    return asdict(check) | {
        "measured": finite(check.measured),
        "is_met": check.is_met,
        "verdict": check.verdict,
    }


def finite(value: float) -> float | str:
    """JSON has no infinity."""
    return value if np.isfinite(value) else str(value)


def counted(content: Mapping[str, Any]) -> list[str]:
    """What a build counted on all its images, which the golden ones cannot repeat; a line for each verdict."""
    named = [("int8 reference", content.get("program_checks", []))]
    named += [(f"{entry['target']} {entry['precision']}", entry["checks"]) for entry in content["artifacts"]]
    return [shown(f"{name}: {told}", 1000) for name, checks in named for told in counted_of(checks)]


def counted_of(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same of checks as the manifest holds them."""
    return [
        f"{check['metric']} {check['sense']} {check['limit']:g} {check.get('verdict')}: {Counts(**check['counts'])}"
        + (f"; about {check['images_needed']:,} images could tell" if check.get("images_needed") else "")
        for check in checks
        if check.get("counts")
    ]


def checks_before(content: Mapping[str, Any], precision: str) -> list[dict[str, Any]]:
    """Checks of what artifacts of this precision were lowered from."""
    return [check for check in content.get("program_checks", []) if concerns(check["leg"], precision)]


def unmet(content: Mapping[str, Any]) -> list[str]:
    """Why a folder is marked as failed, in words: what its build missed, and what was found since. Empty where it is
    not."""
    if content.get("is_verified", True):
        return []
    found = [f"leg {c['leg']}: {_told(c)}" for c in content.get("program_checks", []) if not c.get("is_met")]
    for entry in content["artifacts"]:
        name = f"{entry['target']} {entry['precision']}"
        found += [f"{name}: {_told(c)}" for c in entry["checks"] if not c.get("is_met")]
        found += [f"{name}: {evidence.short(run)}" for run in entry.get("runs", []) if not evidence.is_met(run)]
    return [shown(line, 1000) for line in [*found, *content.get("errors", [])]] or ["its manifest does not say why"]


def _told(check: Mapping[str, Any]) -> str:
    return f"{check['metric']} is {check.get('measured')}, allowed {check['sense']} {check['limit']:g}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
        VerifyError: there is none, it is damaged, or it names a file outside of the folder.
    """
    path = folder / MANIFEST
    try:
        manifest = reading.read_json(path)
        if manifest["schema_version"] not in READABLE:
            version = shown(manifest["schema_version"])
            raise VerifyError(f"'{path}' has schema version {version}; {', '.join(map(str, READABLE))} can be read")
        for entry in _Manifest.model_validate(manifest).artifacts:
            for name in filter(None, (entry.path, entry.twin)):
                check_inside(name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise faults.no_build(folder) from error
    except OSError as error:
        raise VerifyError(f"'{path}' cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(map(str, first["loc"])))
        raise VerifyError(f"'{path}' is damaged: {where}: {first['msg']}. Build again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise VerifyError(f"'{path}' is damaged: {short(error)}. Build again.") from error
    result: dict[str, Any] = manifest
    return result


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but the manifest, its signature, and strays."""
    return {name: digest(path) for name, path in _files(folder, strays.sorted_out(folder)[0]).items()}


def _files(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    named = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    return {name: path for name, path in named.items() if name not in _UNLISTED}


def passed_over(folder: Path) -> list[str]:
    """Names of what other programs left in a finished folder, which `verify` does not count."""
    return [path.relative_to(folder).as_posix() for path in strays.sorted_out(folder)[1]]


def verify(folder: Path) -> int:
    """Check every hash of a finished folder, the manifest's own among them, and return the number of files; see `passed_over`.

    Raises:
        VerifyError: naming each file that is changed, missing or unknown to the manifest, and each link.
    """
    content = read_manifest(folder)
    try:
        paths, _ = strays.sorted_out(folder)
        links = [path.relative_to(folder).as_posix() for path in paths if not _is_plain(path)]
        files = {} if links else _files(folder, paths)
    except RecursionError as error:
        raise VerifyError(f"'{folder}' holds folders in folders, hundreds deep: no build made them.") from error
    if links:
        raise VerifyError(
            f"'{folder}' holds what is neither file nor folder: "
            + ", ".join(f"{shown(name)} ({kind_of(folder / name)})" for name in links[: faults.MOST])
            + ". No build makes these. Copy the folder anew from where it was built (`cp -rL` copies what links lead to), or build again."
        )
    listed = content["files"]
    try:
        # what the manifest does not know is not read: it is wrong whatever it holds
        different = [name for name in listed if name in files and digest(files[name]) != listed[name]]
    except OSError as error:
        raise VerifyError(f"'{folder}' cannot be read: {error}") from error
    problems = [faults.changed(name, files[name], listed[name]) for name in different]
    problems += [f"missing: {shown(name)}" for name in sorted(listed.keys() - files.keys() - {ATTRIBUTES})]
    problems += [f"unknown: {shown(name)}" for name in sorted(files.keys() - listed.keys())]
    whole = rendered(sealed(content))
    if (folder / MANIFEST).read_bytes() != whole:
        problems.append(faults.changed(MANIFEST, folder / MANIFEST, hashlib.sha256(whole).hexdigest()))
    if problems:
        raise VerifyError(f"'{folder}' does not hold what its manifest says:\n{faults.told(problems)}")
    return len(files)


def read_verified(folder: Path) -> tuple[dict[str, Any], Golden]:
    """The manifest and the golden vectors of a finished folder that holds what its manifest says.

    Raises:
        VerifyError: it does not, or the two do not fit together.
    """
    verify(folder)
    content, golden = read_manifest(folder), read_golden(folder / "golden")
    width = golden.expected["fp32"].shape[1]
    if "output_scale" not in content and "outputs" not in content:
        raise VerifyError(f"'{folder / MANIFEST}' is damaged: no scale of the outputs. Build again.")
    if fault := task_of(content).fault(content, width):
        raise VerifyError(f"'{folder}' has {fault}. Build again.")
    if (size := sum(one.size for one in outputs_of(content, width))) != width:
        raise VerifyError(f"'{folder}' has outputs of {size} numbers, and golden ones of {width}. Build again.")
    if {name: list(t.shape[1:]) for name, t in golden.tensors.items()} != {
        t.name: list(t.shape) for t in tensors_of(content)
    }:
        raise VerifyError(f"'{folder}' has golden tensors that its manifest does not name. Build again.")
    for entry in content["artifacts"]:
        if entry["reference"] not in golden.expected:
            raise VerifyError(
                f"'{folder}' keeps no outputs of the reference '{shown(entry['reference'])}' of "
                f"'{shown(entry['path'])}'. Build again."
            )
    return content, golden


def task_of(content: Mapping[str, Any]) -> Task:
    """Of a folder's artifacts; folders of before there were several have classifiers.

    Raises:
        VerifyError: it is not known here.
    """
    try:
        return named(str(content.get("task", "classification")))
    except ConfigError as error:
        raise VerifyError(f"the manifest's task is not known here: {shown(error)}") from error


def outputs_of(content: Mapping[str, Any], width: int) -> tuple[Output, ...]:
    """What a folder's artifacts give; of folders of before there were several, one of this width."""
    if "outputs" not in content:
        return (Output(name="logits", shape=(width,), scale=content["output_scale"]),)
    return tuple(
        Output(name=one["name"], shape=tuple(one["shape"]), scale=float(one["scale"])) for one in content["outputs"]
    )


def tensors_of(content: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """What they are given beside the image."""
    return tuple(
        Tensor(name=one["name"], shape=tuple(one["shape"]), low=one["low"], high=one["high"])
        for one in content.get("tensors", [])
    )


def _is_plain(path: Path) -> bool:
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def replay(
    folder: Path, targets: Mapping[str, Target], executor: Executor | None = None
) -> list[tuple[str, list[Check]]]:
    """Run every artifact of a finished folder on the golden inputs: (name, checks) of each.

    Only files are read: neither the model nor its weights are needed.

    Args:
        executor: runs them, for a runtime can die of one; this process by default.

    Raises:
        VerifyError: a hash is wrong, or an artifact's target is not installed.
    """
    manifest, golden = read_verified(folder)
    for entry in manifest["artifacts"]:
        if entry["target"] not in targets:
            name = shown(entry["target"])
            raise VerifyError(f"the manifest names the target '{name}', which is not installed here")
    if executor is None:
        executor = Here()
    groups: dict[str, list[int]] = {}
    for number, entry in enumerate(manifest["artifacts"]):
        groups.setdefault(entry["target"], []).append(number)

    def submit(numbers: Sequence[int]) -> Future[list[list[Check]]]:
        entries = [manifest["artifacts"][number] for number in numbers]
        return executor.submit(_replay_all, folder, entries, targets[entries[0]["target"]].__name__, golden, manifest)

    found: dict[int, list[Check]] = {}
    waiting = [(numbers, submit(numbers)) for numbers in groups.values()]
    while waiting:
        numbers, future = waiting.pop(0)
        try:
            found |= zip(numbers, future.result(), strict=True)
        except WorkerError as error:
            if len(numbers) == 1:
                found[numbers[0]] = [broken(described_error(error))]
            else:  # which of them it was is seen when each is alone
                waiting += [([number], submit([number])) for number in numbers]
    return [(f"{e['target']} {e['precision']}", found[n]) for n, e in enumerate(manifest["artifacts"])]


def _replay_all(
    folder: Path, entries: Sequence[Mapping[str, Any]], module: str, golden: Golden, manifest: Mapping[str, Any]
) -> list[list[Check]]:
    """The artifacts of one target, whose module is imported where they run: its import takes seconds."""
    target = cast("Target", importlib.import_module(module))
    return [replay_artifact(folder, entry, target, golden, manifest) for entry in entries]


def replay_artifact(
    folder: Path, entry: Mapping[str, Any], target: Target, golden: Golden, manifest: Mapping[str, Any]
) -> list[Check]:
    """The checks of one artifact, by its `entry` in the manifest; one that fails where it does not run."""
    expected = Expected(
        reference=golden.expected[entry["reference"]],
        floating=golden.expected["fp32"],
        quantized=golden.expected["int8"],
        unrounded=golden.expected.get(entry["reference"] + UNROUNDED),
        outputs=outputs_of(manifest, golden.expected["fp32"].shape[1]),
        names=task_of(manifest).names_of(manifest),
    )
    twin = folder / entry["twin"] if entry["twin"] else None
    try:
        found = measure(
            target,
            folder / entry["path"],
            entry["precision"],
            golden.images,
            expected,
            task_of(manifest).MEANING,
            twin=twin,
        )
    except Exception as error:  # each runtime has errors of its own for what it does not take
        return [broken(described_error(error))]
    return [
        Check(
            leg="lower",
            metric=c["metric"],
            measured=found.metrics[c["metric"]],
            sense=c["sense"],
            limit=c["limit"],
            reason=shown(c["reason"], 1000),
        )
        for c in entry["checks"]
        if c["metric"] in found.metrics and not c["needs_all"]
    ]
