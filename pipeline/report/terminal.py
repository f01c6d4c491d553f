"""The tables that a terminal shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..delivery import evidence, manifest
from ..parity import Check, Comparison, Row, Worth
from ..saying import Say
from ..store import Usage
from .results import Built, Result

if TYPE_CHECKING:
    from ..parity import LayerDrift, RuntimeDrift, Sensitivity


_INT8 = "int8 reference in exact arithmetic"
LEGS = {"fold": "folded against original", "quantize": f"{_INT8} against float"}
"""What is compared with what, by the leg of the program's checks."""


def console(*, is_error: bool = False, is_quiet: bool = False) -> Console:
    """Plain and wide enough for the table where no terminal is attached.

    Args:
        is_error: writes to standard error, for standard output is a program's.
        is_quiet: writes nothing.
    """
    made = Console(highlight=False, stderr=is_error, quiet=is_quiet)
    return made if made.is_terminal else Console(highlight=False, stderr=is_error, quiet=is_quiet, width=150)


@contextmanager
def progress(to: Console) -> Iterator[Say]:
    """Lines, and on a terminal a bar with the time left below them while long work runs."""
    if not to.is_terminal:
        yield lambda line, done=None: to.print(line, markup=False)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=to,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=None)

        def say(line: str, done: tuple[int, int] | None = None) -> None:
            completed, total = done or (0, None)
            bar.update(task, description=line.split(":")[0], completed=completed, total=total)
            bar.console.print(line, markup=False)

        yield say


def print_result(result: Result, to: Console) -> None:
    """One table of all artifacts, then what these images cannot tell, and each leg that is over its limit."""
    task, (headings, lines) = result.task, cells(result)
    table = Table(title=f"{result.folder}")
    for heading in headings:
        is_number = heading in ("bytes", *task.columns(Worth()), "ms here")
        table.add_column(heading, justify="right" if is_number else "left")
    for row in lines:
        table.add_row(*row)
    floating, quantized = (_share(result.reference_scores[key]) for key in ("float", "int8"))
    to.print(f"float reference {task.SCORE} {floating}, int8 reference {quantized}")
    for check in result.program_checks:
        to.print(f"leg {check.leg}, {LEGS[check.leg]}: {_short(check)} {'' if check.is_met else 'FAILED'}")
    to.print(table)
    for line in (*open_verdicts(result), *failures(result)):
        to.print(line, markup=False)


def cells(result: Result) -> tuple[list[str], list[list[str]]]:
    """Headings, and one line of cells for each artifact."""
    headings = [
        "artifact",
        "precision",
        "bytes",
        "lower leg",
        *result.task.columns(Worth()),
        "ms here",
        "evidence",
        "parity",
    ]
    lines = [
        [
            row.artifact.target,
            row.artifact.precision,
            f"{row.artifact.bytes:,}",
            "\n".join(filter(None, (*map(_short, row.checks), weights_alone(row)))),
            *result.task.columns(row.worth).values(),
            f"{row.latency_ms:.3f}",
            "\n".join(f"{evidence.short(run)}{'' if evidence.is_met(run) else ' FAILED'}" for run in row.runs)
            or row.evidence,
            "FAILED" if row.state == "failed" else row.state,
        ]
        for row in result.rows
    ]
    return headings, lines


def as_json(built: Built) -> str:
    """What a build gave, for machines: the table's numbers; NaN and infinity are null."""
    content = {
        "is_verified": all(result.is_verified for result in built.results),
        "ran": built.ran,
        "peak_bytes_of_a_worker": built.peak,
        "platforms": [
            {
                "folder": str(result.folder),
                "is_verified": result.is_verified,
                f"reference_{result.task.SCORE}": result.reference_scores,
                "program_checks": [_described(check) for check in result.program_checks],
                "errors": result.errors,
                "artifacts": [
                    _without_worth(row)
                    | result.task.told(row.worth)
                    | {"is_verified": row.is_verified, "verdict": row.verdict, "state": row.state}
                    | {"checks": [_described(check) for check in row.checks]}
                    for row in result.rows
                ],
            }
            for result in built.results
        ],
    }
    return json.dumps(_finite(content), indent=2)


def _share(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.2f} %"


def _without_worth(row: Row) -> dict[str, Any]:
    told = asdict(replace(row, outputs=None, before=()))
    return {key: value for key, value in told.items() if key not in ("worth", "outputs", "before")}


def _described(check: Check) -> dict[str, Any]:
    return manifest.described(check) | {"measured": check.measured}  # infinities are null here, text there


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_usage(url: str, usage: Usage, to: Console, *, is_json: bool) -> None:
    """Results of a store by the kind of their job."""
    kinds: dict[str, list[int]] = {}
    for entry in usage.entries:
        kinds.setdefault(entry.name.split()[0].rstrip(","), []).append(entry.bytes)
    if is_json:
        described = {kind: {"results": len(sizes), "bytes": sum(sizes)} for kind, sizes in sorted(kinds.items())}
        to.out(json.dumps({"url": url, "bytes": usage.bytes, "jobs": described}, indent=2), highlight=False)
        return
    table = Table(title=escape(url))
    for heading in ("job", "results", "bytes"):
        table.add_column(heading, justify="left" if heading == "job" else "right")
    for kind, sizes in sorted(kinds.items()):
        table.add_row(kind, str(len(sizes)), f"{sum(sizes):,}")
    to.print(table)
    to.print(f"{len(usage.entries)} results in {usage.bytes:,} bytes; equal files are kept once")


def print_comparison(comparison: Comparison, to: Console) -> None:
    """Share of equal outputs and largest difference in steps, pair by pair."""
    table = Table(
        title=f"int8 outputs, {comparison.images} golden images: share that is equal, largest difference in steps"
    )
    table.add_column("")
    for number in range(1, len(comparison.names)):
        table.add_column(str(number), justify="right")
    for row, name in enumerate(comparison.names):
        cells = [
            f"{100 * comparison.equal[row][column]:.1f} %  {comparison.largest[row][column]}" if column < row else ""
            for column in range(len(comparison.names) - 1)
        ]
        table.add_row(f"{row + 1}  {name}", *cells)
    to.print(table)


def print_sensitivity(found: Sensitivity, to: Console, count: int = 15) -> None:
    """The layers that cost most, worst first."""
    table = Table(
        title=f"the {min(count, len(found.layers))} most sensitive layers, SNR of the outputs on {found.images} images"
    )
    for heading in ("layer", "kind", "alone quantized, dB", "gain in float, dB"):
        table.add_column(heading, justify="right" if "dB" in heading else "left")
    for layer in sorted(found.layers, key=lambda x: x.alone_db)[:count]:
        table.add_row(layer.name, layer.kind, f"{layer.alone_db:.1f}", f"{layer.without_db - found.all_db:+.2f}")
    to.print(table)
    to.print(f"all {len(found.layers)} layers quantized: {found.all_db:.2f} dB")


def print_drift(runtimes: Sequence[RuntimeDrift], to: Console, count: int = 15) -> None:
    """The layers where a runtime leaves its limit first and those that differ most, in order; then each runtime."""
    rows = list(zip(*(runtime.layers for runtime in runtimes), strict=True))
    firsts = [layer.name for layer in (runtime.first for runtime in runtimes) if layer is not None]
    worst = sorted(range(len(rows)), key=lambda n: (rows[n][0].name not in firsts, min(x.snr_db for x in rows[n])))
    shown = sorted(n for n in worst[:count] if any(x.equal_values < 1 for x in rows[n]))
    if shown:
        table = Table(
            title=f"{len(shown)} of {len(rows)} layers, those that differ most: "
            "SNR in dB, equal values, largest difference in steps"
        )
        for heading in ("", "layer", *("\n".join(runtime.targets) for runtime in runtimes)):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        for n in shown:
            table.add_row(str(n + 1), rows[n][0].name, *(_drifted(layer) for layer in rows[n]))
        to.print(table)
    for runtime in runtimes:
        to.print(str(runtime), markup=False)


def _drifted(layer: LayerDrift) -> str:
    if layer.equal_values == 1:
        return "equal"
    return f"{layer.snr_db:.1f}  {100 * layer.equal_values:.3f} %  {layer.max_steps}{'' if layer.is_within else ' !'}"


def open_verdicts(result: Result) -> list[str]:
    """What the images of a build cannot tell, one line for all artifacts of which the same was counted."""
    found: dict[str, list[str]] = {}
    named = [(_INT8, check) for check in result.program_checks]
    named += [(f"{r.artifact.target} {r.artifact.precision}", check) for r in result.rows for check in r.checks]
    for name, check in named:
        if check.verdict == "open" and check.is_met:
            about = f"{check.metric} {check.sense} {check.limit:g}: {check.counts}; {check.open_because}"
            found.setdefault(about, []).append(name)
    return [f"open {about}: {', '.join(names)}" for about, names in found.items()]


def failures(result: Result) -> list[str]:
    """Each leg over its limit: which artifact, the number, the limit."""
    lines = [f"FAILED {check}" for check in result.program_checks if not check.is_met]
    for row in result.rows:
        name = f"{row.artifact.target} {row.artifact.precision}"
        lines += [f"FAILED {name}: {check}" for check in row.checks if not check.is_met]
        lines += [f"FAILED {name}: {evidence.short(run)}" for run in row.runs if not evidence.is_met(run)]
    return lines + [f"FAILED {error}" for error in result.errors]


def weights_alone(row: Row) -> str:
    """What weights in fewer bits lose, which no number against a reference of the same weights tells; empty of other artifacts."""
    return "" if math.isnan(row.weights_db) else f"weights alone {row.weights_db:.1f} dB against float"


def _short(check: Check) -> str:
    if check.did_not_run:
        return "did not run"
    is_open = check.verdict == "open"
    measured = f"{check.metric} {check.measured:.4g} {check.against}".rstrip()
    return f"{measured} ({check.sense} {check.limit:g}){', open' * is_open}"
