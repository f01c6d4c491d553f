"""What an app's code relies on in a kit, the kit's version made of it, and what is told where a rebuild changes it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import sayings

NAME = "MIGRATION.md"
"""The note, beside the platforms' folders."""

CONTRACT = "contract.json"
"""In a kit's folder."""

_TITLE = "# Migration\n\nWhat rebuilds changed of that which apps rely on, the latest first.\n"
_DIGITS = 8
"""Of the digest in a version: one in four billion."""
_NUMBERS = re.compile(
    r"[vV]?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+.*)?"
)

_ADVICE = {
    "task": "The class has another name and other results: see the README's example.",
    "package": "Imports and the dependency have another name.",
    "labels": "Numbers of classes mean other names. Look for code that compares either, and for data that was kept by number.",
    "outputs": "Constants of the outputs, and the sizes of their values, follow them.",
    "inputs": "The call takes other arguments beside the image, or other ranges of their values.",
    "input size": "Nothing for code that hands over whole photos; crops that it makes itself have another size.",
    "fit": "Another part of a photo is looked at: boxes and masks reach elsewhere.",
    "boxes": "Other scores or overlaps decide which boxes are given; an app that asks for a score of its own keeps that.",
    "runtime": "The app gets another library beside the kit, with other files to load and another size.",
    "oldest system": "The app's own oldest version may have to rise.",
}

_RUNTIMES = re.compile(r"litert|executorch|onnx|coreml|coreai")
_OF_THE_SYSTEM = {"coreml", "coreai"}
"""Runtimes that an app brings no library for."""


def digest(described: Mapping[str, str]) -> str:
    """SHA-256 of a contract, as hexadecimal digits; of equal contracts it is equal on every machine."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def semantic_version(version: str, described: Mapping[str, str]) -> str:
    """The model's version as three numbers, with the first digits of the contract's digest as build metadata.

    ``1.2.0+0a1b2c3d`` of ``1.2``; what is no number comes behind ``0.0.0-``.
    """
    found = _NUMBERS.fullmatch(version.strip())
    if found is None:
        words = re.sub(r"[^0-9A-Za-z]+", "-", version).strip("-")[:40].strip("-") or "unnamed"
        # a number as a part of it would not begin with 0
        plain = f"0.0.0-{'v' if words.isdigit() else ''}{words}"
    else:
        plain = ".".join(str(int(part or 0)) for part in found.groups()[:3]) + (f"-{found[4]}" if found[4] else "")
    return f"{plain}+{digest(described)[:_DIGITS]}"


def write_contract(described: Mapping[str, str], version: str, folder: Path) -> Path:
    """Put the contract into a kit's folder, for the build that comes after it.

    Args:
        version: of the kit, as `semantic_version` makes it.
    """
    content = {"schema_version": 1, "version": version, "sha256": digest(described), "contract": dict(described)}
    path = folder / CONTRACT
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")
    return path


def section(platform: str, old: Path, new: Path) -> str:
    """What is told of a kit's folder `new` that takes the place of `old`; nothing where no app has to know."""
    before, after = _read(old / CONTRACT), _read(new / CONTRACT)
    if before is None or after is None or before["contract"] == after["contract"]:
        return ""
    apart = sayings.changed(before["contract"], after["contract"])
    lines = [f"\n## {platform}: {before['version']} to {after['version']}\n"]
    if _major(after["version"]) <= _major(before["version"]):
        wanted = _major(before["version"]) + 1
        lines.append(
            f"The first number of the version has not risen. Apps take such a version for one that changes nothing: set [project] "
            f"version to '{wanted}.0.0' if they shall be asked first.\n"
        )
    lines += ["| | before | now |", "|---|---|---|"]
    lines += [f"| {what} | {_cell(one)} | {_cell(other)} |" for what, (one, other) in apart.items()]
    lines.append("")
    lines += [f"- {what}: {_advice(what, *values)}" for what, values in apart.items() if what in _ADVICE]
    return "\n".join(lines) + "\n"


def _advice(what: str, before: str, after: str) -> str:
    if what == "runtime" and all(set(_RUNTIMES.findall(text)) <= _OF_THE_SYSTEM for text in (before, after)):
        return "No library comes or goes beside the kit, for these are parts of iOS: the app gets other files of the model, of another size."
    return _ADVICE[what]


def noted(text: str, sections: list[str]) -> str:
    """A note with further sections, which come first.

    Args:
        text: what it says already; empty where there is none.
    """
    return _TITLE + "".join(sections) + text.removeprefix(_TITLE)


def is_ours(text: str) -> bool:
    """Whether a file is such a note, or empty."""
    return not text or text.startswith(_TITLE)


def _read(path: Path) -> dict[str, Any] | None:
    """A contract; None where there is none that can be read, as in a kit of before."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    texts = content.get("contract") if isinstance(content, dict) else None
    is_right = isinstance(texts, dict) and all(isinstance(one, str) for one in texts.values())
    return content if is_right and isinstance(content.get("version"), str) else None


def _major(version: str) -> int:
    found = re.match(r"\d{1,9}", version)
    return int(found[0]) if found else 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "none"
