"""What pages take from the sources as they are built: the configuration from its own descriptions, the rooms from imports."""

from __future__ import annotations

import ast
import html
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROOMS = ("cli", "building", "report", "delivery", "stages", "parity", "tasks", "program", "data", "store")
"""From the top down: a room knows those below it."""
MARKS = {"<!-- configuration -->": lambda: configuration(), "<!-- rooms -->": lambda: rooms()}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs asks for each page."""
    for mark, made in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    return markdown


def configuration() -> str:
    """Every section of the configuration as a table."""
    package = types.ModuleType("twinkeel")
    package.__path__ = [str(ROOT)]  # the sources, whatever is installed
    sys.modules.setdefault("twinkeel", package)
    from twinkeel.pipeline.config import Config, Limit, Section

    lines = []
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            continue
        lines += [
            "",
            f"## [{name}]",
            "",
            f"{field.description}.".capitalize(),
            "",
            "| key | default | |",
            "|---|---|---|",
        ]
        lines += [_row(key, setting, setting.get_default()) for key, setting in kind.model_fields.items()]
    lines += ["", "## [targets]", "", f"{Config.model_fields['targets'].description}.".capitalize(), ""]
    lines += ["", "## [[limit]]", "", f"{Config.model_fields['limit'].description}.".capitalize(), ""]
    lines += ["| key | | |", "|---|---|---|"] + [_row(key, f, None) for key, f in Limit.model_fields.items()]
    return "\n".join(lines)


def _row(key: str, setting: Any, default: Any) -> str:
    shown = "" if default is None else f"`{default!r}`"
    bounds = [f"{word} {value}" for m in setting.metadata for word, value in (
        ("at least", getattr(m, "ge", None)), ("more than", getattr(m, "gt", None)),
        ("at most", getattr(m, "le", None)), ("less than", getattr(m, "lt", None))) if value is not None]  # fmt: skip
    choices = getattr(setting.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        bounds.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
    text = "; ".join(filter(None, [str(setting.description), ", ".join(bounds)]))
    return f"| `{key}` | {shown} | {html.escape(text.replace('|', '/'), quote=False)} |"


def rooms() -> str:
    """A picture of the rooms, top down, each with the rooms that it takes something from; drawn in the page's colours."""
    used = {room: Counter(_takes(room)) for room in ROOMS}
    width, height, gap = 720, 54, 14
    boxes, arrows = [], []
    for number, room in enumerate(ROOMS):
        y = number * (height + gap)
        folder = ROOT / "pipeline" / room
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        doc = doc.replace("\n", " ").rstrip(".")
        doc = doc.split(":")[0] if len(doc) > 90 else doc
        size = sum(path.read_text().count("\n") for path in folder.rglob("*.py"))
        below = ", ".join(other for other in ROOMS if used[room][other])
        boxes.append(
            f'<rect x="1" y="{y + 1}" width="{width - 2}" height="{height}" rx="6" fill="currentColor" '
            f'fill-opacity="0.06" stroke="currentColor"/>'
            f'<text x="14" y="{y + 22}" font-weight="bold" fill="currentColor">{room}/</text>'
            f'<text x="{width - 14}" y="{y + 22}" text-anchor="end" fill="currentColor" font-size="12">{size:,} lines</text>'
            f'<text x="100" y="{y + 22}" fill="currentColor" font-size="12">{html.escape(doc)}</text>'
            f'<text x="14" y="{y + 42}" fill="currentColor" font-size="12" opacity="0.75">'
            f"{'takes from ' + below if below else 'takes from no room'}</text>"
        )
        if number + 1 < len(ROOMS):
            arrows.append(
                f'<path d="M360 {y + height + 2} v{gap - 3} m-4 -5 l4 5 l4 -5" stroke="currentColor" fill="none"/>'
            )
    total = len(ROOMS) * (height + gap)
    return (
        f'<svg viewBox="0 0 {width} {total}" role="img" aria-label="the rooms of the pipeline, top down" '
        f'style="max-width:100%;height:auto" font-family="sans-serif" font-size="15">{"".join(boxes + arrows)}</svg>'
    )


def _takes(room: str) -> list[str]:
    """Names of the other rooms, once for each import from them."""
    found = []
    for path in (ROOT / "pipeline" / room).rglob("*.py"):
        depth = len(path.relative_to(ROOT / "pipeline").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                found += [name for name in names if name in ROOMS and name != room]
    return found
