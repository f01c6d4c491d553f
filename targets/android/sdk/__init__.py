"""The kit for Android: a Gradle project with a Kotlin library and a sample app."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from twinkeel.pipeline.config import Android
from twinkeel.pipeline.delivery import Contents, write_vectors
from twinkeel.targets._sdk import (
    WORDS,
    camel_case,
    constant_case,
    copy_artifact,
    escape,
    identifiers,
    render,
    settle,
)

from ._tflite import output_steps
from .runtimes import LIBRARIES, RUNTIMES, coordinates

_HARD_KEYWORDS = """
as break class continue do else false for fun if in interface is null object package return super this throw true try
typealias typeof val var when while
"""
_KOTLIN_WORDS = frozenset(_HARD_KEYWORDS.split())
"""Kotlin's hard keywords: part of a package's name only in backticks."""

_PARAMETERS = _KOTLIN_WORDS | {
    "answers",
    "bitmap",
    "checkedInputs",
    "frame",
    "input",
    "model",
    "number",
    "orientation",
    "pictures",
    "run",
    "turns",
}
"""What a further input of `extract` cannot be called."""

_ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_LITERAL = 8_000
"""Most characters of a literal: a constant of the JVM holds 65,535 bytes, and a character takes up to six."""

TASKS = ("classification", "detection", "features", "segmentation")


def write(contents: Contents, out: Path) -> None:
    """Write the kit, its tests and its sample app into the folder `out`, which does not exist yet."""
    settings = contents.settings
    assert isinstance(settings, Android)
    library = WORDS[contents.task]["instance"]
    module = out / library
    copy_artifact(contents.artifact, module / "src" / "main" / "assets" / settings.package)
    write_vectors(contents, module / "src" / "golden")
    steps = output_steps(contents.artifact, len(contents.outputs)) if contents.runtime == "litert" else []
    render(
        Path(__file__).parent / "templates",
        out,
        contents,
        trees=(contents.runtime,),
        names={"__package__": settings.package.replace(".", "/"), "__library__": library, "__dot__": "."},
        filters={
            "kotlin": kotlin,
            "package_name": package_name,
            "label_digest": label_digest,
            "constants": lambda tensors: identifiers((t.name for t in tensors), constant_case, (), "output"),
            "parameters": lambda tensors: identifiers((t.name for t in tensors), camel_case, _PARAMETERS, "input"),
            "double": lambda number: repr(float(number)),
            "runtime": lambda name: RUNTIMES[name],
            "coordinates": coordinates,
            "oldest_reader": lambda name: _before(LIBRARIES[name]),
            "library_version": lambda name: LIBRARIES[name],
            "steps": lambda outputs: list(zip(outputs, steps, strict=True)),
        },
    )
    settle(out)


def kotlin(text: str) -> str:
    """A Kotlin expression for any text: a string literal, or several where one would be too long."""
    pieces = [text[start : start + _LITERAL] for start in range(0, len(text), _LITERAL)] or [""]
    literals = [f'"{escape(piece, _ESCAPES, _utf16)}"' for piece in pieces]
    # constants that are added are one constant again, so long text is put together at run time
    return literals[0] if len(literals) == 1 else f'listOf({", ".join(literals)}).joinToString("")'


def _before(version: str) -> str:
    """The Kotlin before this one, which reads what this one has compiled; one that is older does not."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) - 1}"


def package_name(name: str) -> str:
    """A package as Kotlin writes it: keywords in backticks."""
    return ".".join(f"`{part}`" if part in _KOTLIN_WORDS else part for part in name.split("."))


def label_digest(labels: Sequence[str]) -> str:
    """SHA-256 of all labels in big-endian UTF-16, each after the number of its units in four bytes."""
    digest = hashlib.sha256()
    for label in labels:
        units = label.encode("utf-16-be", "surrogatepass")
        digest.update((len(units) // 2).to_bytes(4, "big") + units)
    return digest.hexdigest()


def _utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
