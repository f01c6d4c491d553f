"""The kit for iOS: a Swift package and a sample app."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from twinkeel.pipeline.config import Ios
from twinkeel.pipeline.delivery import Contents, write_vectors
from twinkeel.pipeline.verified import EXTRAS, REQUIRED

from ..._sdk import camel_case, copy_artifact, escape, identifiers, render, settle

TASKS = ("classification", "detection", "features", "segmentation")
BRANCHES = {"executorch": "swiftpm-1.5.0"}
"""By distribution, the branch of its repository that is its Swift package. No Swift package of ExecuTorch 1.5.1 is known. What Python's
wheels of 1.5.0 and 1.5.1 carry differs in converters for other hardware, in a pass that no target here asks for, and in one header of threads; programs give the same bits by both."""
_KEYWORDS = """
as associatedtype break case catch class continue default defer deinit do else enum extension fallthrough false
fileprivate for func guard if import in init inout internal is let nil operator precedencegroup private protocol public
repeat rethrows return self some static struct subscript super switch throw throws true try typealias var where while
"""
_WORDS = frozenset(_KEYWORDS.split())
_CASES = _WORDS | {"allCases", "hash", "hashValue", "none", "rawValue", "shape"}
"""What a case of `FeatureName` cannot be called."""
_PARAMETERS = _WORDS | {
    *(
        "await",
        "data",
        "extract",
        "features",
        "file",
        "frame",
        "image",
        "input",
        "inputs",
        "model",
        "number",
        "orientation",
        "photo",
        "photos",
        "pixels",
        "source",
        "tensors",
    )
}
"""What a further input of `extract` cannot be called."""
_TREES = {"coreml": ("units", "coreml"), "coreai": ("units", "coreai"), "executorch": ("executorch",)}
"""Folders of templates by the runtime of a kit; a kit that has Core ML for older systems takes that one's in front of Core AI's."""
_SPECIAL = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MACOS = {15: 12, 16: 13, 17: 14, 18: 15, 26: 26, 27: 27}
"""The macOS of the same year as an iOS, for the package's tests on a Mac."""


def write(contents: Contents, out: Path) -> None:
    """Write the kit, its tests and its sample app into the folder `out`, which does not exist yet."""
    assert isinstance(contents.settings, Ios)
    module = contents.settings.module
    shipped = [contents] if contents.earlier is None else [contents, contents.earlier]
    trees = tuple(dict.fromkeys(tree for one in reversed(shipped) for tree in _TREES[one.runtime]))
    out.mkdir()
    render(
        Path(__file__).parent / "templates",
        out,
        contents,
        trees=trees,
        words=_words(contents, trees),
        names={"__module__Tests": f"{module}Tests", "__module__": module},
        filters={
            "swift": swift_string,
            "macos": _macos,
            "files": _files,
            "verified": _verified,
            "branch": BRANCHES.__getitem__,
            "cases": lambda tensors: identifiers((t.name for t in tensors), camel_case, _CASES, "output"),
            "parameters": lambda tensors: identifiers((t.name for t in tensors), camel_case, _PARAMETERS, "input"),
        },
    )
    for one in shipped:
        copy_artifact(one.artifact, out / "Sources" / module / "Resources")
    vectors = out / "Tests" / f"{module}Tests" / "Vectors"
    write_vectors(contents, vectors)
    (vectors / "vectors.json").write_text(_vectors(contents), encoding="utf-8", newline="\n")
    settle(out)


def _words(contents: Contents, trees: Collection[str]) -> dict[str, object]:
    """What the templates ask of the runtimes, and call them; a file that needs any is compiled where `framework` is."""
    has_coreml, has_coreai = "coreml" in trees, "coreai" in trees
    names = {"coreml": "Core ML", "coreai": "Core AI", "executorch": "ExecuTorch"}
    both = ""
    if contents.earlier is not None:
        simulators = contents.is_for_simulators
        both = "Core AI, and by Core ML in simulators" if simulators else "Core AI on iOS 27 and later, Core ML before"
    return {
        "has_coreml": has_coreml,
        "has_coreai": has_coreai,
        "has_units": has_coreml or has_coreai,
        "framework": "CoreML" if has_coreml else "CoreAI" if has_coreai else "ExecuTorch",
        "runtimes": both or names[contents.runtime],
        "xcode": 27 if has_coreai and (not has_coreml or contents.is_for_simulators) else 16,
        "system": "Core AI and Core ML are" if both else f"{names[contents.runtime]} is",
        "is_by_unit": any(one.unit_limits for one in (contents, contents.earlier) if one is not None),
    }


def swift_string(text: str) -> str:
    """A Swift string literal, with its quotes, that is exactly `text`."""
    inside = escape(text, _SPECIAL, lambda character: f"\\u{{{ord(character):X}}}")
    return f'"{inside}"'


def _verified(package: str) -> str:
    """The version of a distribution that twinkeel is verified with."""
    return {**REQUIRED, **EXTRAS["coreai"].packages}[package].removeprefix("==")


def _macos(version: int) -> str:
    return f"{_MACOS[version]}.0"


def _files(package: Path) -> list[str]:
    """Of an `.mlpackage`, relative to it. `swift build` may take their folders away, so no two have one name."""
    files = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    assert len({Path(file).name for file in files}) == len(files), files
    return files


def _vectors(contents: Contents) -> str:
    """What the kit's tests replay, beside the raw files of `write_vectors`."""
    pixels = [
        {
            "name": case.name,
            "width": case.width,
            "height": case.height,
            "orientation": case.orientation,
            "photo": case.placed.photo,
            "input": case.placed.input,
            "boxes": case.boxes,
        }
        for case in contents.pixels
    ]
    frames = [
        {
            "name": case.name,
            "columns": case.shape.columns,
            "rows": case.shape.rows,
            "window": case.shape.window,
            "orientation": case.shape.orientation,
            "matrix": case.shape.matrix,
            "isFullRange": case.shape.value_range == "full",
            "planes": case.shape.planes,
        }
        for case in contents.frames
    ]
    if contents.task == "classification":
        golden = [
            {"name": name, "top": [{"index": index, "probability": probability} for index, probability in top]}
            for name, top in zip(contents.golden.names, contents.categories, strict=True)
        ]
        vectors = {"labels": contents.labels, "pixels": pixels, "frames": frames, "golden": golden}
    else:
        vectors = {
            "outputs": [{"name": output.name, "shape": output.shape} for output in contents.outputs],
            "inputs": [{"name": tensor.name, "shape": tensor.shape} for tensor in contents.inputs],
            "pixels": pixels,
            "frames": frames,
            "golden": [{"name": name} for name in contents.golden.names],
            **({"labels": contents.labels} if contents.labels else {}),
        }
    return json.dumps(vectors, indent=1) + "\n"
