"""What became of each variant, as a table, JSON and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..files import rendered
from .pareto import front

if TYPE_CHECKING:
    from .planning import Plan

TABLE, RESULTS, PICTURE = "sweep.csv", "sweep.json", "sweep.png"
_VERSION = 1
_REASON = 60
"""Characters of a reason that the terminal's table has room for."""
_MARKERS = "osD^vP*X<>"

State = Literal["verified", "open", "failed", "cannot be", "not reached"]
"""Of artifacts as everywhere; a variant that there cannot be, and one that the time was too short for."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A variant, and what became of it.

    Attributes:
        number: from 1 on.
        varied: by axis, what it is; target and precision last.
        reason: why it failed, cannot be or was not reached; empty of others.
        score: of its artifact on the held-out images, as the task counts it; NaN where it did not run.
        float_score: of the float model.
        bytes: of the artifact; 0 where there is none.
        latency_ms: median on this machine; NaN where it was not taken.
        device: the phone that times were taken on too, and what of it; empty where the sweep was asked for none.
        device_ms: median there; NaN where it was not taken.
        device_told: why not, or what there is to know of it.
        is_on_front: no other is at least as good in score, latency and size, and better in one.
        notes: what there is to say against it, though it was built.
    """

    number: int
    varied: Mapping[str, Any]
    state: State
    reason: str = ""
    score: float = math.nan
    float_score: float = math.nan
    bytes: int = 0
    latency_ms: float = math.nan
    device: str = ""
    device_ms: float = math.nan
    device_told: str = ""
    is_on_front: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether it runs, and nothing that its checks ask for is missed."""
        return self.state in ("verified", "open") and math.isfinite(self.score) and math.isfinite(self.compared_ms)

    @property
    def compared_ms(self) -> float:
        """The latency that lines are compared by: the device's, where the sweep was asked for one."""
        return self.device_ms if self.device else self.latency_ms

    @property
    def where(self) -> str:
        """Where that was taken: ``here``, or ``on Google Pixel 9, Android 15``."""
        return f"on {self.device}" if self.device else "here"

    @property
    def target(self) -> str:
        return str(self.varied["target"])

    @property
    def precision(self) -> str:
        return str(self.varied["precision"])


def with_front(lines: Sequence[Line]) -> list[Line]:
    """The same, with those marked that no other is better than."""
    good = [line for line in lines if line.is_good]
    is_best = front([(-line.score, line.compared_ms, line.bytes) for line in good])
    best = {line.number for line, is_one in zip(good, is_best, strict=True) if is_one}
    return [replace(line, is_on_front=line.number in best) for line in lines]


def as_json(
    lines: Sequence[Line], score: str, axes: Mapping[str, Sequence[Any]], picked: Mapping[str, Any] | None
) -> bytes:
    """All of it; what is not known is null.

    Args:
        picked: the wish, the winner's number and where its kits are; None where nothing was asked for.
    """
    content = {
        "schema_version": _VERSION,
        "score": score,
        "axes": {name: list(values) for name, values in axes.items()},
        "variants": [_described(line) for line in lines],
        "front": [line.number for line in lines if line.is_on_front],
        "picked": None if picked is None else dict(picked),
    }
    return rendered(content)


def plan_as_json(plan: Plan) -> bytes:
    """The variants that there are to be: each with its number and what it is, as `as_json` has it, and why it cannot be."""
    variants = [
        {
            "number": plan.number(trial.number, artifact),
            "varied": plan.varied(trial.number, artifact),
            "state": "cannot be" if trial.trouble else "planned",
            "reason": trial.trouble,
        }
        for trial in plan.trials
        for artifact in plan.artifacts
    ]
    axes = {name: list(values) for name, values in plan.axes.items()}
    return rendered({"schema_version": _VERSION, "axes": axes, "variants": variants})


def _described(line: Line) -> dict[str, Any]:
    told = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(line).items()
    }
    return told | {"bytes": line.bytes or None}


def as_csv(lines: Sequence[Line], score: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    axes = list(lines[0].varied)
    device = ["device", "device_ms", "device_told"] if lines[0].device else []
    writer.writerow(
        ["variant", *axes, score, f"float_{score}", "bytes", "latency_ms", *device, "front", "state", "reason"]
    )
    for line in lines:
        numbers = (line.score, line.float_score, line.bytes or math.nan, line.latency_ms)
        cells = [
            "" if math.isnan(value) else f"{value:.6g}" if isinstance(value, float) else value for value in numbers
        ]
        if device:
            taken = "" if math.isnan(line.device_ms) else f"{line.device_ms:.6g}"
            cells += [line.device, taken, _one_line(line.device_told)]
        front = "yes" if line.is_on_front else ""
        writer.writerow([line.number, *line.varied.values(), *cells, front, line.state, _one_line(line.reason)])
    return text.getvalue().encode()


def headings(lines: Sequence[Line], score: str) -> list[str]:
    """Of the terminal's table; axes of one value are left out."""
    device = [f"ms {lines[0].where}"] if lines[0].device else []
    return ["", *axes_of(lines), score, "bytes", "ms here", *device, "front", "state"]


def cells(lines: Sequence[Line], axes: Sequence[str]) -> list[list[str]]:
    """One list of cells for each line."""
    return [
        [
            str(line.number),
            *(str(line.varied[axis]) for axis in axes),
            "" if math.isnan(line.score) else f"{line.score:.4f}",
            f"{line.bytes:,}" if line.bytes else "",
            "" if math.isnan(line.latency_ms) else f"{line.latency_ms:.3f}",
            *(["" if math.isnan(line.device_ms) else f"{line.device_ms:.3f}"] if line.device else []),
            "*" if line.is_on_front else "",
            line.state
            + (f": {_shortened(told)}" if (told := line.reason or line.device_told or "; ".join(line.notes)) else ""),
        ]
        for line in lines
    ]


def axes_of(lines: Sequence[Line]) -> list[str]:
    """Those of several values; target and precision where there are none."""
    found = [axis for axis in lines[0].varied if len({str(line.varied[axis]) for line in lines}) > 1]
    return found or ["target", "precision"]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(reason: str) -> str:
    text = _one_line(reason)
    return text if len(text) <= _REASON else f"{text[: _REASON - 3]}..."


def picture(lines: Sequence[Line], score: str, picked: int | None) -> bytes:
    """PNG: the score over latency and over size. A marker's area grows with what the other axis shows; rings mark the Pareto front.

    Args:
        picked: number of the winner.
    """
    from matplotlib.figure import Figure

    shown = [line for line in lines if line.is_good]
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    over_latency, over_size = figure.subplots(1, 2, sharey=True)
    kinds = list(dict.fromkeys((line.target, line.precision) for line in shown))
    where = lines[0].where
    sides: tuple[tuple[Any, Callable[[Line], float], Callable[[Line], float], str], ...] = (
        (over_latency, lambda line: line.compared_ms, lambda line: line.bytes, f"latency {where}, ms; area: size"),
        (over_size, lambda line: line.bytes / 1e3, lambda line: line.compared_ms, "size, kB; area: latency"),
    )
    for axis, value, area, told in sides:
        _plotted(axis, shown, kinds, value, area)
        _stairs(axis, shown, value)
        for line in shown:
            if line.number == picked:
                axis.annotate("picked", (value(line), line.score), xytext=(12, -16), textcoords="offset points",
                              arrowprops={"arrowstyle": "-"}, fontweight="bold")  # fmt: skip
        axis.set(xscale="log", xlabel=told)
        axis.grid(visible=True, which="both", alpha=0.2)
        _plain_ticks(axis)
    over_latency.set(ylabel=f"{score} on held-out images")
    if not shown:
        over_latency.text(0.5, 0.5, "no variant passed its checks", ha="center", transform=over_latency.transAxes)
    else:
        figure.legend(loc="outside lower center", ncols=min(5, len(kinds) + 1), frameon=False)
    front = sum(line.is_on_front for line in lines)
    figure.suptitle(
        f"{len(shown)} of {len(lines)} variants passed their checks{' and were timed' if lines[0].device else ''}; {front} on the Pareto front (numbers, rings)"
    )
    content = io.BytesIO()
    figure.savefig(content, dpi=110, metadata={"Software": None})
    return content.getvalue()


def _plotted(axis: Any, lines: Sequence[Line], kinds: Sequence[tuple[str, str]], value: Any, area: Any) -> None:
    """A series for each target and precision; those on the front with a ring and their number."""
    largest = max((area(line) for line in lines), default=1.0)
    targets = list(dict.fromkeys(target for target, _ in kinds))
    precisions = list(dict.fromkeys(precision for _, precision in kinds))
    is_first = not axis.get_figure().legends and axis is axis.get_figure().axes[0]
    for target, precision in kinds:
        series = [line for line in lines if (line.target, line.precision) == (target, precision)]
        axis.scatter(
            [value(line) for line in series],
            [line.score for line in series],
            s=[20 + 160 * area(line) / largest for line in series],
            marker=_MARKERS[targets.index(target) % len(_MARKERS)],
            color=f"C{precisions.index(precision) % 10}",
            alpha=0.65,
            linewidths=0,
            label=f"{target} {precision}" if is_first else None,
        )
    best = [line for line in lines if line.is_on_front]
    axis.scatter([value(line) for line in best], [line.score for line in best], s=[60 + 200 * area(line) / largest for line in best],
                 facecolors="none", edgecolors="black", linewidths=1, label="on the front" if is_first else None)  # fmt: skip
    named: dict[tuple[float, float], list[str]] = {}
    for line in best if len(best) <= 40 else ():  # the same file is an artifact of two targets, perhaps
        named.setdefault((value(line), line.score), []).append(str(line.number))
    for place, numbers in named.items():
        axis.annotate(", ".join(numbers), place, xytext=(8, 6), textcoords="offset points", fontsize=8)


def _stairs(axis: Any, lines: Sequence[Line], value: Any) -> None:
    """The front of the two that an axis shows, as a line."""
    best: list[Line] = []
    for line in sorted(lines, key=lambda one: (value(one), -one.score)):
        if not best or line.score > best[-1].score:
            best.append(line)
    axis.step(
        [value(line) for line in best],
        [line.score for line in best],
        where="post",
        color="black",
        linewidth=0.8,
        alpha=0.5,
    )


def _plain_ticks(axis: Any) -> None:
    """Numbers as people write them: a logarithm of less than a decade has none otherwise."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # type: ignore[no-untyped-call,unused-ignore]
    axis.xaxis.set_major_formatter(plain)
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
