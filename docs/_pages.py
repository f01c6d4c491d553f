"""What pages take from the sources as they are built: the configuration from its own descriptions, the rooms from imports.

A path of the sources that a page names in code, and that is not there, is a warning, which `--strict` makes an error.
"""

from __future__ import annotations

import ast
import html
import json
import logging
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BESIDE = ("README.md", "CONTRIBUTING.md")
"""Not pages; their paths are looked at too."""

_PATHS = re.compile(r"`((?:model|pipeline|targets|tests|benchmarks|docs)/[\w./-]*)`")
_LINKS = re.compile(r"\]\(([\w./-]+)")
_log = logging.getLogger("mkdocs.hooks.pages")


def on_pre_build(**_: Any) -> None:
    """mkdocs asks once."""
    for name in BESIDE:
        text = (ROOT / name).read_text(encoding="utf-8")
        _check(name, [*_PATHS.findall(text), *_LINKS.findall(text)])


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs asks for each page."""
    _check(page.file.src_uri, _PATHS.findall(markdown))
    for mark, made in (("configuration", configuration), ("rooms", rooms)):
        if f"<!-- {mark} -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} -->", made())
    return re.sub(r"<!-- claim (\w+) -->", lambda found: claim(found[1]), markdown)


def _check(name: str, paths: list[str]) -> None:
    for path in paths:
        if not (ROOT / path).exists():
            _log.warning("%s: names '%s', which is not there", name, path)


def configuration() -> str:
    """Every section of the configuration as a table."""
    package = types.ModuleType("twinkeel")
    package.__path__ = [str(ROOT)]  # the sources, whatever is installed
    sys.modules.setdefault("twinkeel", package)
    from twinkeel.pipeline.config import Config, Input, Limit, Output, Section

    lines: list[str] = []
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            lines += _section(f"[{name}]", field.description, kind)
    lines += ["", "## [targets]", "", _sentence(Config.model_fields["targets"].description), ""]
    lines += ["```toml", "[targets]", '"android/litert" = ["fp32", "int8"]', '"ios/coreml" = ["int8"]', "```"]
    lines += ["", "## [sweep]", "", _sentence(Config.model_fields["sweep"].description), ""]
    lines += [
        "```toml",
        "[sweep]",
        "model.width = [0.2, 0.35]",
        'precision = ["fp32", "int8"]',
        "```",
        "",
        "[Sweeps](sweep.md) say more.",
    ]
    for name, kind in (("input", Input), ("output", Output), ("limit", Limit)):
        lines += _section(f"[[{name}]]", Config.model_fields[name].description, kind)
    return "\n".join(lines)


def _section(title: str, description: str | None, kind: Any) -> list[str]:
    lines = ["", f"## {title}", "", _sentence(description), "", '<div class="stacked settings" markdown>', ""]
    lines += ["| key | | type and range | default |", "|---|---|---|---|"]
    for key, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else "none" if default is None else f"`{json.dumps(default)}`"
        text = html.escape(str(field.description).replace("|", "/"), quote=False)
        lines.append(f"| `{key}` | {text} | {_kind(field)} | {shown} |")
    return [*lines, "", "</div>"]


def _sentence(text: str | None) -> str:
    first = str(text).split()[0]
    is_word = first.isalpha() and first.islower()  # iOS and int8 are written as they are
    return f"{str(text)[0].upper() if is_word else str(text)[0]}{str(text)[1:]}."


def _kind(field: Any) -> str:
    """Type and range of a setting, in words."""
    kinds = [kind for kind in typing.get_args(field.annotation) if kind is not type(None)]
    if kinds and typing.get_origin(kinds[0]) is typing.Literal:  # or none
        kinds = list(typing.get_args(kinds[0]))
    if any(isinstance(kind, str) for kind in kinds):
        return "one of " + ", ".join(f"`{json.dumps(choice)}`" for choice in kinds)
    if typing.get_origin(field.annotation) is list:
        return "list of numbers"
    if typing.get_origin(field.annotation) is dict:
        return "table"
    kind = kinds[0] if kinds else field.annotation
    words = [{bool: "true or false", int: "whole number", float: "number", str: "text"}[kind]]
    if any(typing.get_origin(other) is list for other in kinds):
        words[0] += " or list of them"
    for name, told in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        words += [f"{told} {_number(getattr(m, name))}" for m in field.metadata if getattr(m, name, None) is not None]
    words += [f"at most {m.max_length:,} characters" for m in field.metadata if getattr(m, "max_length", None)]
    return ", ".join(words)


def _number(value: float) -> str:
    return "2<sup>63</sup> - 1" if value == 2**63 - 1 else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def claim(name: str) -> str:
    """The counts of a claim as tables, from what its benchmark has written."""
    found = json.loads((ROOT / "docs/benchmarks/claims.json").read_text(encoding="utf-8"))["claims"][name]
    return (
        _spirals(found["rows"]) if name == "spiral" else f"{_networks(found['networks'])}\n\n{_pairs(found['pairs'])}"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _spirals(rows: list[dict[str, Any]]) -> str:
    head = ["channels", "points that lost a direction", "matrices that lose none", "variance given back"]
    cells = [
        [
            str(row["width"]),
            f"{100 * row['lost_mean']:.1f} %",
            f"{row['nothing_lost']} of {row['matrices']}",
            f"{100 * row['explained_mean']:.1f} %",
        ]
        for row in rows
    ]
    return _table(head, cells)


def _networks(rows: dict[str, dict[str, Any]]) -> str:
    first = next(iter(rows.values()))
    ways = [way for way, value in first.items() if isinstance(value, dict) and "right" in value]
    times = list(first.get("litert_ms_quartiles", ()))
    head = ["network", "multiply-adds", "parameters", *(f"right, {way}" for way in ways)]
    cells = [
        [label, f"{row['multiply_adds']:,}", f"{row['parameters']:,}", *(_counts(row[way]) for way in ways)]
        + [f"{row['litert_ms_quartiles'][precision][1]:.3f}" for precision in times]
        for label, row in rows.items()
    ]
    return _table([*head, *(f"LiteRT {precision}, ms" for precision in times)], cells)


def _pairs(pairs: list[dict[str, Any]]) -> str:
    units = {"accuracy": "points", "kept": "points kept from float", "snr_db": "dB"}
    cells = [
        [
            f"{pair['better']} over {pair['than']}",
            f"{pair['mean']:+.1f} {units[pair['of']]}, {pair['way']}",
            f"{pair['interval'][0]:+.1f} to {pair['interval'][1]:+.1f}",
            f"{pair['seeds_in_favour']} of {len(pair['by_seed'])}",
            pair["says"],
        ]
        for pair in pairs
    ]
    return _table(["pair", "more", "interval of 95 %", "seeds in favour", ""], cells)


def _counts(row: dict[str, Any]) -> str:
    """Mean over seeds, least and most, and the exact interval of the seed in the middle."""
    middle = sorted(range(len(row["right"])), key=row["right"].__getitem__)[(len(row["right"]) - 1) // 2]
    low, high = (100 * bound for bound in row["intervals"][middle])
    return f"{row['mean']:.1f} % ({row['least']:.1f} to {row['most']:.1f}); one seed {low:.1f} to {high:.1f}"


def rooms() -> str:
    """The rooms from the top down, each with what it is for, and a picture of their imports."""
    source = (ROOT / "tests/test_rooms.py").read_text(encoding="utf-8")
    order = re.search(r"^ROOMS = (\(.*?\))$", source, re.MULTILINE | re.DOTALL)
    if order is None:
        raise ValueError("tests/test_rooms.py has no ROOMS that stand in one pair of brackets")
    names = list(reversed(ast.literal_eval(order.group(1))))
    lines = ["| room | what it is for |", "|---|---|"]
    for name in names:
        told = (
            ast.get_docstring(ast.parse((ROOT / "pipeline" / name / "__init__.py").read_text(encoding="utf-8"))) or ""
        )
        lines.append(f"| `{name}` | {' '.join(told.split())} |")
    return "\n".join([_picture(names), "", *lines])


def _picture(names: list[str]) -> str:
    """One box a room, and one line down from each room to those that it takes from; text in the page's colour."""
    used = {name: _takes(name, names) for name in names}
    sources = [name for name in names if used[name]]
    wide, high, gap, lane, step = 120, 46, 12, 30, 4.6
    left = {name: wide + 22 + lane * (len(sources) - 1 - at) for at, name in enumerate(sources)}
    tops = {name: at * (high + gap) + 2 for at, name in enumerate(names)}
    drawn = [
        '<marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="5" markerHeight="5" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0 L6 3 L0 6 z" fill="context-stroke"/></marker>'
    ]
    for at, name in enumerate(sources):
        x, start = left[name], tops[name] + high - 6
        colour = f"hsl({at * 360 // len(sources)} 65% 55%)"
        ends = [tops[other] + 5 + step * at for other in names if other in used[name]]
        drawn.append(f'<path d="M{wide} {start} H{x} V{ends[-1]:g}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for y in ends:
            line = f"M{x} {y:g} H{wide + 1}"
            drawn.append(f'<path d="{line}" stroke="{colour}" stroke-width="1.6" marker-end="url(#tip)"/>')
    for name in names:
        drawn.append(
            f'<rect x="1" y="{tops[name]}" width="{wide - 2}" height="{high}" rx="5" fill="currentColor" '
            f'fill-opacity="0.08" stroke="currentColor"/><text x="{wide / 2:g}" y="{tops[name] + high / 2 + 5:g}" '
            f'text-anchor="middle" fill="currentColor">{name}</text>'
        )
    size = f"{wide + 22 + lane * (len(sources) - 1) + 4} {len(names) * (high + gap)}"
    return (
        f'<svg class="rooms" viewBox="0 0 {size}" role="img" aria-label="The rooms of the pipeline from the top down, '
        f'with lines from each to those that it takes from" font-family="sans-serif" font-size="16">{"".join(drawn)}</svg>'
    )


def _takes(room: str, names: list[str]) -> set[str]:
    """The other rooms that a room imports from."""
    found = set()
    for path in (ROOT / "pipeline" / room).rglob("*.py"):
        depth = len(path.relative_to(ROOT / "pipeline").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                taken = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                found |= {name for name in taken if name in names and name != room}
    return found
