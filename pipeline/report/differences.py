"""What changed between two builds: for a terminal, as Markdown for a comment, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from ..delivery import diff
from ..parity import percent

if TYPE_CHECKING:
    from rich.console import Console

_HEADINGS = ("artifact", "what", "old", "new", "change", "95 % interval", "limit", "verdict")
_SIGNS = {"holds": "✓ holds", "open": "? open", "missed": "✗ missed"}


def show(found: diff.Diff, to: Console) -> None:
    """A table for each platform, then what is not in it."""
    for platform in found.platforms:
        table = Table(title=f"{platform.platform}: old and new")
        for heading in _HEADINGS:
            table.add_column(heading, justify="right" if heading in ("old", "new", "change") else "left")
        last = ""
        for row in rows(platform):
            table.add_row("" if row[0] == last else escape(row[0]), *map(escape, row[1:]))
            last = row[0]
        to.print(table)
        for line in lines(platform):
            to.print(line, markup=False)
    for line in _ends(found):
        to.print(line, markup=False)


def as_markdown(found: diff.Diff) -> str:
    """A heading with the verdict, and a table for each platform."""
    crossed = found.crossed
    text = [f"### twinkeel: {'✗ crosses what is allowed' if crossed else '✓ within what is allowed'}", ""]
    text += [f"- {_plain(line)}" for line in crossed] + [""] * bool(crossed)
    for platform in found.platforms:
        text += [f"#### {_plain(platform.platform)}", "", _row(_HEADINGS), _row(["---"] * len(_HEADINGS))]
        text += [_row([_plain(cell) for cell in row]) for row in rows(platform)]
        text += ["", *(f"- {_plain(line)}" for line in lines(platform)), ""]
    rest = [f"- {_plain(line)}" for line in _ends(found)]
    return "\n".join([*text, *rest]).rstrip() + "\n"


def as_json(found: diff.Diff) -> str:
    """All of it; NaN and infinity are null."""
    content = asdict(found) | {"is_within": not found.crossed, "crossed": found.crossed, "open": found.open}
    return json.dumps(_finite(content), indent=2, ensure_ascii=False)


def rows(platform: diff.PlatformChange) -> Iterator[tuple[str, ...]]:
    """Cells under `_HEADINGS`: what changed of each artifact; of one that is the same in all, a row that says so."""
    for artifact in platform.artifacts:
        name = f"{artifact.name}{' (same file)' if artifact.is_same else ''}"
        told = [_cells(change) for change in artifact.changes if _is_told(change)]
        told += [("parity", *artifact.state, "", "", "", "")] if artifact.state[0] != artifact.state[1] else []
        told += [_operator(name, *counts) for name, counts in artifact.operators.items()]
        yield from ((name, *cells) for cells in told or [("nothing has changed", "", "", "", "", "", "")])


def lines(platform: diff.PlatformChange) -> list[str]:
    """What changed beside the artifacts."""
    found = [f"{platform.platform}: {one} is gone" for one in platform.gone]
    found += [f"{platform.platform}: {one} is new" for one in platform.added]
    for title, changed in (
        ("for apps", platform.contract),
        ("made from", platform.made_from),
        ("versions", platform.versions),
    ):
        told = _pairs(changed)
        found.append(f"{title}: {told}" if told else f"{title}: nothing has changed")
    return found


def _ends(found: diff.Diff) -> list[str]:
    told = [f"{name} is gone" for name in found.gone] + [f"{name} is new" for name in found.added]
    return told + [f"open {line}: these images cannot tell" for line in found.open]


def _is_told(change: diff.Change) -> bool:
    return (
        change.verdict is not None or (change.old != change.new and not math.isnan(change.by)) or change.what == "size"
    )


def _cells(change: diff.Change) -> tuple[str, ...]:
    shares = change.is_score
    if math.isnan(change.by):
        return (
            change.what,
            *map(_known, (change.old, change.new)),
            "not known",
            "",
            "",
            _SIGNS.get(change.verdict or "", ""),
        )
    old, new = (
        f"{value:,.0f}"
        if change.what == "size"
        else f"{value:.3f} ms"
        if change.what == "latency"
        else _value(value, is_share=shares)
        for value in (change.old, change.new)
    )
    is_relative = change.what in ("size", "latency")
    # what is lost of a score is told as its change
    by = _signed(change.by, " %") if is_relative else _signed(-change.by, " points") if shares else f"{change.by:+.4g}"
    interval = ""
    if change.low is not None and change.high is not None:
        low, high = (change.low, change.high) if is_relative else (-change.high, -change.low)
        interval = f"{_signed(low)} to {_signed(high)}"
    limit = "" if change.limit is None else f"{'+' if is_relative else '-'}{percent(change.limit)}"
    return change.what, old, new, by, interval, limit, _SIGNS.get(change.verdict or "", "")


def _signed(share: float, unit: str = "") -> str:
    """In percent, with its sign; none is without one."""
    return f"{round(100 * share, 2) + 0.0:+.2f}{unit}"


def _known(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.5g}"


def _value(value: float, *, is_share: bool) -> str:
    return f"{100 * value:.2f} %" if is_share else f"{value:.5g}"


def _operator(name: str, old: int, new: int) -> tuple[str, ...]:
    return f"operator {name}", str(old), str(new), f"{new - old:+d}", "", "", ""


def _pairs(changed: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(f"{what} {old or 'none'} → {new or 'none'}" for what, (old, new) in changed.items())


def _row(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """A stranger's text in Markdown as it is: no table, link, picture, mention or HTML comes of it."""
    marked = "".join(f"\\{c}" if c in "\\`*_[]|~#!" else c for c in text)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u2060")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
