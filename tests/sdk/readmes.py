"""The code of READMEs and of `docs/kits.md` as sources of an app: each block a function of its own, each call in a text an expression."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "kits.md"
KOTLIN = {
    "context": "android.content.Context",
    "bitmap": "android.graphics.Bitmap",
    "uri": "android.net.Uri",
    "image": "androidx.camera.core.ImageProxy",
    "imageProxy": "androidx.camera.core.ImageProxy",
    "pictures": "List<Picture>",
    "orientation": "Orientation",
    "photo": "DecodedPhoto",
    "a": "Feature",
    "b": "Feature",
    "cameraPose": "FloatArray",
    "other": "Feature",
    "x": "Int",
    "y": "Int",
}
"""What an app has already, by the name that code calls it; a block that makes one itself is not given it."""
SWIFT = {
    "cgImage": "CGImage",
    "url": "URL",
    "data": "Data",
    "pixelBuffer": "CVPixelBuffer",
    "orientation": "CGImagePropertyOrientation",
    "a": "Feature",
    "b": "Feature",
    "pose": "[Float]",
    "cameraPose": "[Float]",
    "other": "Feature",
    "x": "Int",
    "y": "Int",
}
"""The same in Swift."""
CALL = re.compile(r"(?<!`)`([A-Za-z][\w.]*\([^`]*\))`(?!`)")
"""A call among words."""
NO_CODE = ("implementation(", "mavenLocal(")
"""Calls of build scripts."""


def section(title: str) -> str:
    """What `docs/kits.md` says below a heading, without the calls among the words, which are no whole ones there."""
    inside = DOCS.read_text("utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", inside)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def calls(text: str) -> list[str]:
    """Calls among the words of a text, as they stand there, without those of build scripts."""
    words = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [one for one in dict.fromkeys(CALL.findall(words)) if not one.startswith(NO_CODE)]


def _given(code: str, known: dict[str, str]) -> dict[str, str]:
    """What code reads, and does not make itself."""
    made = set(re.findall(r"\b(?:val|let) (\w+)", code))
    words = set(re.findall(r"(?<![.\w])(\w+)\b(?! = )", code)) | set(re.findall(r"(?<![.\w])(\w+)\b(?=[.)\],])", code))
    return {name: type_ for name, type_ in known.items() if name in words - made}


def kotlin(text: str, package: str, api: str, *, within: str, has_features: bool = False) -> str:
    """A Kotlin file of all code of a text.

    Args:
        package: of the kit.
        api: its class; an instance of it has the same name in small letters, or is the `extractor`.
        within: package of the file.
        has_features: a kit of features; others have no such types.
    """
    instance = "extractor" if api == "FeatureExtractor" else api.lower()
    known = {name: type_ for name, type_ in KOTLIN.items() if has_features or "Feature" not in type_}
    known[instance] = api
    lines = [
        '@file:Suppress("UNUSED_EXPRESSION", "UNUSED_VARIABLE")',
        "",
        f"package {within}",
        "",
        f"import {package}.*",
    ]
    for number, block in enumerate(blocks(text, "kotlin")):
        imports = re.findall(r"^import .*\n", block, re.MULTILINE)
        lines += [one.strip() for one in imports if f"import {package}." not in one]
        body = re.sub(r"^import .*\n", "", block, flags=re.MULTILINE)
        lines += _function(f"block{number}", body, _given(body, known))
    for number, call in enumerate(calls(text)):
        whole = f"{instance}.{call}" if re.match(r"(?:close|classify|detect|segment|extract)(?:All)?\(", call) else call
        types = dict(known, image="android.media.Image") if "CameraFrame.of(" in whole else known
        lines += _function(f"call{number}", f"{whole}\n", _given(whole, types))
    return "\n".join(lines) + "\n"


def _function(name: str, body: str, given: dict[str, str], form: str = "suspend fun {}({}) {{") -> list[str]:
    """Lines of a function around code; `form` begins it, with its name and its parameters: Kotlin's, or `_SWIFT`."""
    parameters = ", ".join(f"{one}: {type_}" for one, type_ in given.items())
    inside = [f"    {line}".rstrip() for line in body.strip("\n").splitlines()]
    return ["", form.format(name, parameters), *inside, "}"]


_SWIFT = "func {}({}) async throws {{"


def swift(text: str, module: str, api: str, *, name: str = "readme", has_features: bool = False) -> str:
    """A Swift file of the same; its functions begin with `name`."""
    instance = "extractor" if api == "FeatureExtractor" else api.lower()
    known = {one: type_ for one, type_ in SWIFT.items() if has_features or "Feature" not in type_}
    known[instance] = api
    lines = [f"import {one}" for one in sorted(("CoreGraphics", "CoreVideo", "Foundation", "ImageIO", module))]
    for number, block in enumerate(blocks(text, "swift")):
        body = re.sub(r"^import .*\n", "", block, flags=re.MULTILINE)
        lines += _function(f"{name}Block{number}", body, _given(body, known), _SWIFT)
    for number, call in enumerate(calls(text)):
        whole = f"{instance}.{call}" if re.match(r"(?:classify|detect|segment|extract)(?:All)?\(", call) else call
        head = "try await " if whole.startswith((f"{instance}.", f"{api}(")) else ""
        lines += _function(f"{name}Call{number}", f"_ = {head}{whole}\n", _given(whole, known), _SWIFT)
    return "\n".join(lines) + "\n"
