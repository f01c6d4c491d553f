"""`manifest.json`, the golden vectors, and the checks of a finished folder from its files alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .artifact import Target, digest
from .errors import VerifyError
from .measure import Expected, broken, measure
from .measure import described as described_error
from .parity import Check
from .program import UNROUNDED, describe_reference

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
PARITY = "parity.json"
SIGNATURE = "manifest.json.sig"
_UNLISTED = (MANIFEST, SIGNATURE)
_SELF = "manifest_sha256"


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs ``(N, H, W, 4)`` uint8 RGBA, their names, and expected logits ``(N, classes)`` of each reference."""

    names: tuple[str, ...]
    inputs: NDArray[np.uint8]
    expected: Mapping[str, NDArray[np.float32]]


def write_golden(golden: Golden, folder: Path) -> None:
    """PNG for people, raw RGBA bytes and little-endian float32 for programs, ``golden.json`` for the shapes."""
    from PIL import Image

    folder.mkdir(parents=True)
    for name, pixels in zip(golden.names, golden.inputs, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.rgba").write_bytes(pixels.tobytes())
    for key, logits in golden.expected.items():
        (folder / f"expected-{key}.f32").write_bytes(logits.astype("<f4").tobytes())
    described = {
        "names": golden.names,
        "input_shape": [1, *golden.inputs.shape[1:]],
        "classes": next(iter(golden.expected.values())).shape[1],
        "references": {key: describe_reference(key) for key in sorted(golden.expected)},
    }
    write_json(described, folder / "golden.json")


def read_golden(folder: Path) -> Golden:
    """The golden vectors below `folder`.

    Raises:
        VerifyError: a file is missing or has another size than ``golden.json`` says.
    """
    try:
        described = json.loads((folder / "golden.json").read_text())
        shape, names = described["input_shape"], tuple(described["names"])
        for name in (*names, *described["references"]):
            _check_inside(name)
        inputs = [np.frombuffer((folder / f"{n}.rgba").read_bytes(), np.uint8).reshape(shape[1:]) for n in names]
        expected = {
            key: np.frombuffer((folder / f"expected-{key}.f32").read_bytes(), "<f4").reshape(
                len(names), described["classes"]
            )
            for key in described["references"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerifyError(f"the golden vectors in '{folder}' are not whole: {error}. Build again.") from error
    return Golden(names=names, inputs=np.stack(inputs), expected=expected)


def write_json(content: object, path: Path) -> None:
    """Sorted keys and no time or path, so that equal builds give equal files."""
    path.write_bytes(rendered(content))


def rendered(content: object) -> bytes:
    """As JSON, the same bytes from equal contents."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write(content: Mapping[str, Any], path: Path) -> None:
    """A manifest with the hash of all else in it, so that a change of the manifest itself shows."""
    write_json(sealed(content), path)


def sealed(content: Mapping[str, Any], key: str = _SELF) -> dict[str, Any]:
    """With the hash of all else in it under `key`."""
    bare = {name: value for name, value in content.items() if name != key}
    return bare | {key: hashlib.sha256(rendered(bare)).hexdigest()}


def read_json(path: Path) -> Any:
    """Raises a VerifyError where the file is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VerifyError(f"cannot read '{path}': {error}. Build again.") from error


def described(check: Check) -> dict[str, Any]:
    """A check as JSON holds it."""
    return asdict(check) | {"measured": finite(check.measured), "is_met": check.is_met}


def finite(value: float) -> float | str:
    """JSON has no infinity."""
    return value if np.isfinite(value) else str(value)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
        VerifyError: there is none, it is damaged, or it names a file outside of the folder.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise VerifyError(f"'{path}' has schema version {manifest['schema_version']}, this is {SCHEMA_VERSION}")
        if not isinstance(manifest["files"], dict) or not isinstance(manifest["artifacts"], list):
            raise TypeError("'files' or 'artifacts' has the wrong type")
        for name in [e[key] for e in manifest["artifacts"] for key in ("path", "twin") if e[key]]:
            _check_inside(name)
    except OSError as error:
        raise VerifyError(f"'{folder}' is no finished build: {error}. `twinkeel build android` makes one.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VerifyError(f"'{path}' is damaged: {type(error).__name__}: {str(error)[:300]}. Build again.") from error
    result: dict[str, Any] = manifest
    return result


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but the manifest and its signature."""
    return {
        name: digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in _UNLISTED
    }


def verify(folder: Path) -> int:
    """Check every hash of a finished folder, the manifest's own among them, and return the number of files.

    Raises:
        VerifyError: naming each file that is changed, missing or unknown to the manifest, and each link.
    """
    content = read_manifest(folder)
    links = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not _is_plain(path)]
    if links:
        raise VerifyError(f"'{folder}' holds what is neither file nor folder: {', '.join(links[:20])}")
    listed, found = content["files"], hash_files(folder)
    problems = [f"changed: {name}" for name in listed if name in found and found[name] != listed[name]]
    problems += [f"missing: {name}" for name in sorted(listed.keys() - found.keys())]
    problems += [f"unknown: {name}" for name in sorted(found.keys() - listed.keys())]
    if (folder / MANIFEST).read_bytes() != rendered(sealed(content)):
        problems.append(f"changed: {MANIFEST}")
    if problems:
        raise VerifyError(f"'{folder}' does not hold what its manifest says:\n" + "\n".join(problems))
    return len(found)


def _is_plain(path: Path) -> bool:
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def _check_inside(name: str) -> None:
    """Raise a VerifyError where a name that a file gives leads out of the file's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise VerifyError(f"{name[:200]!r} is no name of a file inside the folder. Build again.")


def replay(folder: Path, targets: Mapping[str, Target]) -> list[tuple[str, list[Check]]]:
    """Run every artifact of a finished folder on the golden inputs: (name, checks) of each.

    Only files are read: neither the model nor its weights are needed.

    Raises:
        VerifyError: a hash is wrong, or an artifact's target is not installed.
    """
    verify(folder)
    manifest, golden = read_manifest(folder), read_golden(folder / "golden")
    results = []
    for entry in manifest["artifacts"]:
        if entry["target"] not in targets:
            raise VerifyError(f"the manifest names the target '{entry['target']}', which is not installed here")
        checks = replay_artifact(folder, entry, targets[entry["target"]], golden, manifest)
        results.append((f"{entry['target']} {entry['precision']}", checks))
    return results


def replay_artifact(
    folder: Path, entry: Mapping[str, Any], target: Target, golden: Golden, manifest: Mapping[str, Any]
) -> list[Check]:
    """The checks of one artifact, by its `entry` in the manifest; one that fails where it does not run."""
    expected = Expected(
        reference=golden.expected[entry["reference"]],
        floating=golden.expected["fp32"],
        quantized=golden.expected["int8"],
        unrounded=golden.expected.get(entry["reference"] + UNROUNDED),
        output_scale=manifest["output_scale"],
        labels=manifest["labels"],
    )
    twin = folder / entry["twin"] if entry["twin"] else None
    try:
        found = measure(target, folder / entry["path"], entry["precision"], golden.inputs, expected, twin=twin)
    except Exception as error:  # each runtime has errors of its own for what it does not take
        return [broken(described_error(error))]
    return [
        Check(
            leg="lower",
            metric=c["metric"],
            measured=found.metrics[c["metric"]],
            sense=c["sense"],
            limit=c["limit"],
            reason=c["reason"],
        )
        for c in entry["checks"]
        if c["metric"] in found.metrics and not c["needs_all"]
    ]
