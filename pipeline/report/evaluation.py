"""``evaluation.html`` and what a terminal and programs are told of an evaluation."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from ..data import fit, read_image
from ..delivery import machine
from ..errors import DataError
from ..evaluating import Evaluation, Told
from ..evaluating import summary as stage
from ..parity import percent
from . import page
from .pictures import data_uri

if TYPE_CHECKING:
    from rich.console import Console

PAGE, RESULTS = "evaluation.html", "evaluation.json"
MOST_GROUPS = 30
"""On the page; the file of results has all."""


def show(found: Evaluation, to: Console) -> None:
    """A table of the artifacts, where runtimes differ, and the verdicts told anew."""
    table = Table(title=f"{found.images:,} images on {machine.short(found.plan.machine)}")
    headings, rows = cells(found)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "artifact" else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    to.print(table)
    for line in lines(found):
        to.print(line, markup=False)


def cells(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Headings, and one line of cells for each artifact."""
    names = list(dict.fromkeys(name for one in found.told for name in one.shares))
    metrics = list(dict.fromkeys(name for one in found.told for name in one.counted))
    headings = ["artifact", *names, *(f"{metric} to fp32" for metric in metrics), "SNR to fp32, dB"]
    rows = []
    for one in found.told:
        row = [one.artifact.name]
        row += [_interval(one, name) for name in names]
        row += [_interval(one, metric) for metric in metrics]
        rows.append([*row, "–" if math.isnan(one.snr_db) else f"{one.snr_db:.2f}"])
    return headings, rows


def lines(found: Evaluation) -> list[str]:
    """What there is to say beside the table."""
    plan = found.plan
    told = [f"note: {line}" for line in plan.notes]
    told += [f"skipped {name}: {reason}" for name, reason in plan.skipped.items()]
    told += [f"passed over, for they are damaged: {len(found.damaged):,} images"] if found.damaged else []
    told += [
        f"WARNING {one.artifact.name}: the outputs of {one.not_finite:,} images are not finite"
        for one in found.told
        if one.not_finite
    ]
    if plan.rivals:
        told.append(
            f"runtimes of one precision answer {found.rivals:,} of {found.images:,} images otherwise than each other"
        )
    told.append(
        "the float model is not in a finished folder: artifacts are compared with the float32 one of their target, or the first"
    )
    return told + [
        f"{'MISSED' if one.now == 'missed' else 'told anew'} {one.name}: {stage.told(one)}" for one in found.anew
    ]


def as_json(found: Evaluation) -> str:
    """All of it; NaN and infinity are null."""
    plan = found.plan
    content = {
        "images": found.images,
        "damaged": found.damaged,
        "size": plan.size,
        "task": plan.task,
        "machine": dict(plan.machine),
        "notes": plan.notes,
        "skipped": dict(plan.skipped),
        "artifacts": [
            {
                "names": one.artifact.names,
                "sha256": one.artifact.sha256,
                "versions": dict(one.artifact.versions),
                "reference": one.reference,
                "snr_db": one.snr_db if math.isfinite(one.snr_db) else None,
                "not_finite": one.not_finite,
                "shares": {name: _described(value) for name, value in one.shares.items()},
                "counted": {name: _described(value) for name, value in one.counted.items()},
            }
            for one in found.told
        ],
        "pairs": [
            {"one": plan.artifacts[a].name, "other": plan.artifacts[b].name, "alike": found.same[n]}
            for n, (a, b) in enumerate(plan.pairs)
        ],
        "runtimes_differ": found.rivals,
        "groups": [
            {"name": one.name, one.of: one.count, "shares": [_described(share) for share in one.shares]}
            for one in found.groups
        ],
        "verdicts": [asdict(one) for one in found.anew],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def render(name: str, found: Evaluation) -> bytes:
    """The page, with the images that are answered most differently."""
    environment = page.environment()
    headings, rows = cells(found)
    worst = sorted(found.groups, key=lambda group: min(share for share, _ in group.shares))[:MOST_GROUPS]
    text = environment.get_template("evaluation.html.j2").render(
        name=name,
        found=found,
        plan=found.plan,
        machine=machine.short(found.plan.machine),
        headings=headings,
        rows=rows,
        notes=[line for line in lines(found) if not line.startswith(("told anew", "MISSED"))],
        anew=found.anew,
        names=[one.artifact.name for one in found.told],
        pairs={pair: found.same[n] for n, pair in enumerate(found.plan.pairs)},
        groups=worst,
        pictures=[_picture(found, one) for one in found.pictures],
    )
    return (text.strip() + "\n").encode()


def _picture(found: Evaluation, one: stage.Picture) -> dict[str, Any]:
    """An image as a data URI, and the answers to it, those that are alike together."""
    file = found.plan.files[one.number]
    try:
        uri = data_uri(fit(read_image(file), *found.plan.size, found.plan.how))
    except DataError:  # it was there a moment ago
        uri = ""
    groups: dict[tuple[str, bool | None], list[str]] = {}
    for told, answer in zip(found.told, one.said, strict=True):
        groups.setdefault(answer, []).append(told.artifact.name)
    right = int(found.plan.truth[one.number])
    return {
        "uri": uri,
        "file": str(file.name),
        "truth": found.plan.names[right] if right >= 0 else "",
        "said": [(text, is_right, names) for (text, is_right), names in groups.items()],
        "rivals": one.rivals,
    }


def _interval(one: Told, name: str) -> str:
    value = one.shares.get(name) or one.counted.get(name)
    if value is None:
        return "–"
    share, counts = value
    if not counts.images:
        return f"no {counts.of}"
    return f"{percent(share)} ({percent(counts.low)} to {percent(counts.high)})"


def _described(value: tuple[float, Any]) -> dict[str, Any]:
    share, counts = value
    return {"share": share if math.isfinite(share) else None, **asdict(counts)}
