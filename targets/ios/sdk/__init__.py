"""The kit for iOS: a Swift package and a sample app."""

from __future__ import annotations

import json
from pathlib import Path

from twinkeel.pipeline.config import Ios
from twinkeel.pipeline.delivery import Contents, write_vectors

from ..._sdk import copy_artifact, escape, render, settle

TASKS = ("classification",)
_SPECIAL = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MACOS = {15: 12, 16: 13, 17: 14, 18: 15, 26: 26}
"""The macOS of the same year as an iOS, for the package's tests on a Mac."""


def write(contents: Contents, out: Path) -> None:
    """Write the kit, its tests and its sample app into the folder `out`, which does not exist yet."""
    assert isinstance(contents.settings, Ios)
    module = contents.settings.module
    out.mkdir()
    render(
        Path(__file__).parent / "templates",
        out,
        contents,
        names={"__module__Tests": f"{module}Tests", "__module__": module},
        filters={"swift": swift_string, "macos": _macos},
    )
    copy_artifact(contents, out / "Sources" / module / "Resources")
    vectors = out / "Tests" / f"{module}Tests" / "Vectors"
    write_vectors(contents, vectors)
    (vectors / "vectors.json").write_text(_vectors(contents), encoding="utf-8", newline="\n")
    settle(out)


def swift_string(text: str) -> str:
    """A Swift string literal, with its quotes, that is exactly `text`."""
    inside = escape(text, _SPECIAL, lambda character: f"\\u{{{ord(character):X}}}")
    return f'"{inside}"'


def _macos(version: int) -> str:
    return f"{_MACOS[version]}.0"


def _vectors(contents: Contents) -> str:
    """What the kit's tests replay, beside the raw files of `write_vectors`."""
    vectors = {
        "labels": contents.labels,
        "pixels": [
            {"name": case.name, "width": case.width, "height": case.height, "orientation": case.orientation}
            for case in contents.pixels
        ],
        "golden": [
            {"name": name, "top": [{"index": index, "probability": probability} for index, probability in top]}
            for name, top in zip(contents.golden.names, contents.categories, strict=True)
        ],
    }
    return json.dumps(vectors, indent=1) + "\n"
