"""``report.html``: what a build gave, on one page that needs nothing else.

The page lies beside the platforms' folders, not in one: it holds times, which differ from run to run.
"""

from __future__ import annotations

import base64
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..delivery import Run, evidence, is_met, proves_nothing, short
from ..errors import TwinkeelError, VerifyError
from ..parity import Row, Worth, share_interval
from ..program import REFERENCES, describe_reference, is_quantized
from . import charts, documented, parts
from . import terminal as report
from .results import Report, Result

if TYPE_CHECKING:
    import jinja2

    from ..parity import Layer as SensitiveLayer
    from ..parity import RuntimeDrift
    from ..tasks import Task

REPORT = "report.html"

_PRECISIONS = ("fp32", "fp16", "int8", "w8", "w4")
_HIGHEST_DB = 100.0
"""Where plots draw an infinite SNR."""
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Insight:
    """What is known of the layers beside the results.

    Attributes:
        drift: of the int8 artifacts, empty where there is none.
        drift_error: why it could not be measured.
        sensitivity: empty where `twinkeel sensitivity` was not run.
        sensitivity_error: why its table is not used.
    """

    drift: Sequence[RuntimeDrift] = ()
    drift_error: str = ""
    sensitivity: Sequence[SensitiveLayer] = ()
    sensitivity_error: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A precision of a target in the support matrix; ``state`` is verified, open, failed, not built or empty, ``runs`` say
    where it ran since it was built."""

    state: str = ""
    evidence: str = ""
    runs: tuple[str, ...] = ()


def render(name: str, said: Report, out: Path) -> dict[str, bytes]:
    """``report.html`` of what a build gave.

    Args:
        name: of the project.
        out: where `twinkeel sensitivity` may have left its table.
    """
    sensitive: tuple[SensitiveLayer, ...] = ()
    error = ""
    try:
        names = {layer.name for runtime in said.drift for layer in runtime.layers}
        sensitive = _sensitivity(names, out)
    except TwinkeelError as failure:
        error = str(failure)
    insight = Insight(drift=said.drift, drift_error=said.drift_errors, sensitivity=sensitive, sensitivity_error=error)
    return {REPORT: page(name, said, insight).encode()}


def _sensitivity(names: set[str], out: Path) -> tuple[SensitiveLayer, ...]:
    """What lies in `out`; nothing where there is none, a VerifyError where it does not have the layers `names`."""
    from ..parity import sensitivity

    table = out / sensitivity.TABLE
    if not table.is_file():
        return ()
    found = sensitivity.read(table)
    if not names <= {layer.name for layer in found}:
        raise VerifyError(f"{sensitivity.TABLE} is of another model.")
    return found


def environment() -> jinja2.Environment:
    """Of the templates of pages, with their filters."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_clean,  # whatever is printed, were it forgotten to say `shown`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "percent": percent, "size": size, "number": number}
    return made


def page(name: str, said: Report, insight: Insight) -> str:
    """The page of a project."""
    results, manifests = said.results, said.manifests
    first, rows = results[0], [row for result in results for row in result.rows]
    ran = [row for row in rows if row.evidence != "none"]
    task, count = first.task, len(said.held_out.truth)
    part = parts.of(task)
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            name=name,
            score=task.SCORE,
            score_begun=_begun(task.SCORE),
            size_of_outputs=task.size(task.names_of(manifests[0])),
            columns={name_of(row): task.columns(row.worth) for row in rows},
            headings=list(task.columns(Worth())),
            is_verified=all(result.is_verified for result in results),
            failures=[line.removeprefix("FAILED ") for result in results for line in report.failures(result)],
            results=results,
            manifests=manifests,
            rows=rows,
            worst_row=worst_row(ran),
            held_out=count,
            interval=interval_of(task, first.reference_scores["float"], count),
            open_rows=[line.removeprefix("open ") for line in _unique(results)],
            matrix=support_matrix(results),
            supports=documented.supports(rows),
            untold=documented.untold(rows),
            device_runs=device_runs(rows),
            precisions=_ordered({row.artifact.precision for row in rows} | {p for _, p in _errors(results)}),
            name_of=name_of,
            weights_alone=report.weights_alone,
            legs=report.LEGS,
            references={key: describe_reference(key) for key in REFERENCES if key in {row.reference for row in rows}},
            trade=[]
            if math.isnan(first.reference_scores["float"])
            else trade_off(ran, task.SCORE, interval_of(task, first.reference_scores["float"], count)),
            legend=legend(ran),
            insight=insight,
            drift_chart=drift_chart(insight.drift),
            drift_cells=[drift_cells(runtime) for runtime in insight.drift],
            drift_worst=drift_worst(insight.drift),
            sensitivity_chart=sensitivity_chart(insight.sensitivity),
            sensitive=sorted(insight.sensitivity, key=lambda layer: layer.alone_db)[:10],
            part=part,
            **({} if part is None else part.context(said, worst_row(ran))),
            curves=training(first),
            sheet=base64.b64encode(said.sheet).decode(),
            has_int8=is_any_quantized(rows),
            taken=said.taken,
            versions=versions(manifests),
        )
    )
    return text.strip() + "\n"


def name_of(row: Row) -> str:
    """Target and precision."""
    return f"{row.artifact.target} {row.artifact.precision}"


def is_any_quantized(rows: Iterable[Row]) -> bool:
    """Whether one of them was compared with an int8 reference."""
    return any(is_quantized(row.reference) for row in rows)


def worst_row(rows: Sequence[Row]) -> Row | None:
    """Of artifacts that run the one that answers worst; None where all answer as the float model on every image."""
    worst = min(
        rows,
        key=lambda row: (
            math.inf if math.isnan(row.worth.score) else row.worth.score,
            -sum(c.lost for _, c in row.worth.counted.values()),
        ),
        default=None,
    )
    return None if all(row.worth.is_unchanged for row in rows) else worst


def support_matrix(results: Sequence[Result]) -> dict[str, dict[str, Cell]]:
    """Target -> precision -> cell."""
    found: dict[str, dict[str, Cell]] = {}
    for result in results:
        for row in result.rows:
            runs = tuple(f"{_mark(run)}{short(run)}" for run in row.runs if run["by"] != "build")
            built = next((evidence.kind(run) for run in row.runs if run["by"] == "build"), row.evidence)
            cell = Cell(state=row.state, evidence=built, runs=runs)
            found.setdefault(row.artifact.target, {})[row.artifact.precision] = cell
    for target, precision in _errors(results):
        found.setdefault(target, {})[precision] = Cell(state="not built")
    return dict(sorted(found.items()))


def _mark(run: Run) -> str:
    """Of what was checked; a latency is no verdict."""
    return "" if proves_nothing(run) else "✓ " if is_met(run) else "✗ "


def device_runs(rows: Sequence[Row]) -> list[tuple[str, Run]]:
    """Artifacts and their rows of evidence that know what ran: of phones and of Core ML."""
    return [(name_of(row), run) for row in rows for run in row.runs if run.get("accelerator") is not None]


def _begun(score: str) -> str:
    """As the first word of a line."""
    return score[:1].upper() + score[1:]


def interval_of(task: Task, share: float, count: int) -> tuple[float, float]:
    """Of the score; NaN of one that is no share of images."""
    return _interval(share, count) if getattr(task, "IS_SHARE", True) else (math.nan, math.nan)


def _interval(share: float, count: int) -> tuple[float, float]:
    """Of a share 0..1 that was counted on `count` images."""
    if math.isnan(share):
        return math.nan, math.nan
    return share_interval(count, round(share * count))


def _unique(results: Sequence[Result]) -> list[str]:
    """What the images cannot tell, once for all platforms."""
    return list(dict.fromkeys(line for result in results for line in report.open_verdicts(result)))


def trade_off(rows: Sequence[Row], score: str, interval: tuple[float, float]) -> list[charts.Chart]:
    """Of artifacts that run: the score over size, and over latency for those that a runtime ran.

    Args:
        interval: of the float model's, which is shaded; NaN of a score that has none.
    """
    sized = [(row, row.artifact.bytes / 1e6) for row in rows]
    timed = [(row, row.latency_ms) for row, _ in sized if row.evidence == "runtime" and row.latency_ms > 0]
    band = [] if math.isnan(interval[0]) else [100 * share for share in interval]
    found = []
    for points, title, x_text, is_log in (
        (sized, f"{_begun(score)} over size", "size, MB", False),
        (timed, f"{_begun(score)} over latency", "ms an image on this machine, logarithmic", True),
    ):
        if not points:
            continue
        heights = [100 * row.worth.score for row, _ in points]
        frame = charts.Frame(
            title=title,
            description=f"{title}: {len(points)} artifacts, {score} {min(heights):.2f} to {max(heights):.2f} %. "
            "The numbers stand in the table of artifacts.",
            x_label=x_text,
            y_label=f"{score}, %",
            x_range=charts.spread((x for _, x in points), least=2.0 if is_log else 0.1, is_log=is_log),
            y_range=charts.spread([*heights, *band], least=1.0),
            is_log=is_log,
        )
        colours, shapes = _runtimes(rows), _ordered({row.artifact.precision for row in rows})
        marks = [
            frame.mark(
                x,
                100 * row.worth.score,
                colour=colours.index(_runtime(row)),
                shape=shapes.index(row.artifact.precision),
                text=f"{name_of(row)}: {100 * row.worth.score:.2f} %, {size(row.artifact.bytes)}, {row.latency_ms:.3f} ms",
            )
            for row, x in points
        ]
        found.append(frame.chart(marks=marks, band=(band[0], band[1]) if band else None))
    return found


def legend(rows: Sequence[Row]) -> dict[str, list[tuple[str, Any]]]:
    """Runtime and number of its colour; precision and outline of its shape."""
    return {
        "runtimes": [(name, n % charts.COLOURS) for n, name in enumerate(_runtimes(rows))],
        "precisions": [
            (name, charts.marker(n)) for n, name in enumerate(_ordered({row.artifact.precision for row in rows}))
        ],
    }


def drift_cells(runtime: RuntimeDrift) -> list[tuple[int, str]]:
    """Of each layer: how dark it is, 0 for equal and 1 to 4 by the decade of the share that differs, and words."""
    found = []
    for position, layer in enumerate(runtime.layers, 1):
        share = 1 - layer.equal_values
        level = 0 if share <= 0 else sum(share > edge for edge in (0, 1e-3, 1e-2, 1e-1))
        words = "equal" if level == 0 else f"{100 * share:.3g} % differ, by at most {layer.max_steps} steps"
        found.append((5 if not layer.is_within else level, f"{position} {layer.name}: {words}"))
    return found


def drift_chart(runtimes: Sequence[RuntimeDrift]) -> charts.Chart | None:
    """SNR over the layers of the runtimes that differ anywhere; None where none does."""
    shown_ones = [(n, r) for n, r in enumerate(runtimes) if any(layer.equal_values < 1 for layer in r.layers)]
    if not shown_ones:
        return None
    count = len(shown_ones[0][1].layers)
    heights = {n: [_capped(layer.snr_db) for layer in runtime.layers] for n, runtime in shown_ones}
    frame = charts.Frame(
        title=f"SNR of each layer against its reference; {_HIGHEST_DB:g} dB stands for equal",
        description=f"{len(shown_ones)} runtimes over {count} layers, lowest SNR {min(map(min, heights.values())):.1f} dB",
        x_label="layer, in order of execution",
        y_label="SNR, dB",
        x_range=(0, count + 1),
        y_range=(min(0.0, min(map(min, heights.values()))), _HIGHEST_DB + 5),
        width=960,
    )
    lines, marks = [], []
    for n, runtime in shown_ones:
        numbers = list(range(1, count + 1))
        dashes = ("", "7 3", "2 3")[n % 3]
        lines.append(charts.Line(path=frame.path(numbers, heights[n]), colour=n % charts.COLOURS, dashes=dashes))
        if runtime.first is not None:
            at = runtime.layers.index(runtime.first)
            marks.append(frame.mark(at + 1, heights[n][at], colour=n, shape=3, text=runtime.verdict))
    return frame.chart(lines=lines, marks=marks)


def drift_worst(runtimes: Sequence[RuntimeDrift], count: int = 10) -> list[tuple[int, str, list[Any]]]:
    """Number, name and each runtime's values of the layers that differ most."""
    columns = list(zip(*(runtime.layers for runtime in runtimes), strict=True))
    differ = [n for n, column in enumerate(columns) if any(layer.equal_values < 1 for layer in column)]
    chosen = sorted(differ, key=lambda n: min(layer.snr_db for layer in columns[n]))[:count]
    return [(n + 1, columns[n][0].name, list(columns[n])) for n in sorted(chosen)]


def sensitivity_chart(found: Sequence[SensitiveLayer]) -> charts.Chart | None:
    """A bar a layer: SNR of the output with it alone in int8."""
    if not found:
        return None
    heights = [_capped(layer.alone_db) for layer in found]
    worst = min(found, key=lambda layer: layer.alone_db)
    frame = charts.Frame(
        title=f"SNR of the outputs with one layer alone in int8; the lower, the more it costs ({_HIGHEST_DB:g}: nothing)",
        description=f"{len(found)} layers; {worst.name} costs most, {worst.alone_db:.1f} dB",
        x_label="layer, in order of execution",
        y_label="SNR, dB",
        x_range=(0, len(found) + 1),
        y_range=(min(0.0, *heights), _HIGHEST_DB + 5),
        width=960,
    )
    bars = [
        frame.bar(n, height, f"{n} {layer.name}: {layer.alone_db:.1f} dB")
        for n, (layer, height) in enumerate(zip(found, heights, strict=True), 1)
    ]
    return frame.chart(bars=bars)


def training(result: Result) -> list[charts.Chart]:
    """Loss and score over the epochs; nothing where weights were given."""
    score = result.task.SCORE
    if not result.curve:
        return []
    epochs = [epoch.epoch for epoch in result.curve]
    found = []
    for title, y_text, values, least in (
        ("Training loss", "loss", [epoch.loss for epoch in result.curve], 0.1),
        (f"Held-out {score}", f"{score}, %", [100 * epoch.score for epoch in result.curve], 1.0),
    ):
        frame = charts.Frame(
            title=f"{title}, {values[-1]:.4g}{' %' if '%' in y_text else ''} after the last epoch",
            description=f"{title} from {values[0]:.4g} to {values[-1]:.4g} in {len(epochs)} epochs",
            x_label="epoch",
            y_label=y_text,
            x_range=(0, max(epochs) + 0.5),
            y_range=charts.spread([*values, 0.0], least=least),
        )
        found.append(frame.chart(lines=[charts.Line(path=frame.path(epochs, values), colour=0)]))
    return found


def versions(manifests: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of every package that one of the folders names."""
    found: dict[str, str] = {}
    for content in manifests:
        found |= content["versions"]
    return dict(sorted(found.items()))


def shown(text: str, most: int = 200) -> str:
    """Text on one line and of bearable length; controls and broken characters as the sign for them."""
    line = " ".join(str(_clean(text)).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def percent(share: float, digits: int = 2) -> str:
    """A share 0..1 in percent."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def size(count: int) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB" if count >= 1e3 else f"{count} B"


def number(value: float | str) -> str:
    """A measured value, finite or not."""
    value = float(value)
    return "–" if math.isnan(value) else "∞" if value == math.inf else f"{value:.4g}"


def _clean(value: object) -> object:
    """Text without what no page can hold, controls and lone surrogates, and without ends of lines; all else as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # the template's own
        return value
    line = value.translate(dict.fromkeys(map(ord, "\t\n\r"), " "))
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cs") else c for c in line)


def _capped(snr_db: float) -> float:
    return -_HIGHEST_DB if math.isnan(snr_db) else max(-_HIGHEST_DB, min(snr_db, _HIGHEST_DB))


def _errors(results: Iterable[Result]) -> list[tuple[str, str]]:
    """Target and precision of what could not be built; its errors begin with both."""
    names = [error.split(":")[0].rpartition(" ") for result in results for error in result.errors]
    return [(target, precision) for target, _, precision in names]


def _runtime(row: Row) -> str:
    return row.artifact.target.split("/")[-1]


def _runtimes(rows: Iterable[Row]) -> list[str]:
    return sorted({_runtime(row) for row in rows})


def _ordered(precisions: Iterable[str]) -> list[str]:
    """In the order of the README's table, others behind."""
    return sorted(precisions, key=lambda p: (_PRECISIONS.index(p) if p in _PRECISIONS else len(_PRECISIONS), p))
