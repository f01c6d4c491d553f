"""The pictures of `claims.py`: a dot is a seed, a bar a mean, an interval Student's over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import claims_spiral
import numpy as np

BLUE, GREY, RED = "#1f77b4", "#8a9099", "#b3261e"
SERIES = ("#1f77b4", "#d1682a", "#0b6b4a", "#7b4fa3")
SAID = {"shown": "#0b6b4a", "not shown": GREY, "the opposite": RED}

MORE = {"accuracy": "points, {way}", "kept": "points kept\nfrom float to {way}", "snr_db": "dB, {way}"}

Found = dict[str, Any]


def draw(name: str, found: Found, path: Path) -> None:
    """The picture of a claim, as `claims.json` has it."""
    from matplotlib.figure import Figure

    special: dict[str, tuple[Callable[[Any, Found], None], tuple[float, float]]] = {
        "spiral": (_spiral, (11, 5.4)),
        "relu6": (_precisions, (11, 5.2)),
        "expansion": (_expansion, (11, 5.8)),
        "multipliers": (_multipliers, (12, 4.2)),
    }
    rows = len(found.get("networks", ()))
    fill, size = special.get(name, (_networks, (11, 1.6 + 0.6 * rows)))
    figure = Figure(figsize=size, layout="constrained")
    fill(figure, found)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.suptitle(f"Claimed: {found['title']}", fontsize=11)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _percent(row: Found, way: str = "float") -> Any:
    return 100 * np.array(row[way]["right"]) / row[way]["of"]


def _networks(figure: Any, found: Found) -> None:
    """Accuracy of each network, lines between runs of one seed; beside it the pairs."""
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    rows = found["networks"]
    values = np.stack([_percent(row) for row in rows.values()])
    left.plot(values, range(len(rows)), color=GREY, alpha=0.35, linewidth=0.8)
    for place, seeds in enumerate(values):
        _dots(left, seeds, place, BLUE)
    ticks = [f"{label}\n{row['multiply_adds']:,} multiply-adds" for label, row in rows.items()]
    left.set_yticks(range(len(rows)), ticks)
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("right of 1000 held-out digits, %", fontsize=8)
    _pairs(right, found["pairs"])


def _dots(axes: Any, seeds: Any, place: float, colour: str) -> None:
    axes.plot(seeds, np.full(len(seeds), place), "o", color=colour, markersize=4, alpha=0.6, markeredgewidth=0)
    axes.plot(seeds.mean(), place, "|", color=colour, markersize=20, markeredgewidth=2)


def _pairs(axes: Any, pairs: Sequence[Found], *, is_named: bool = True) -> None:
    """What the first has more than the second; `is_named` False where it is always the same two."""
    for place, pair in enumerate(pairs):
        colour = SAID[pair["says"]]
        seeds = pair["by_seed"]
        axes.plot(seeds, [place] * len(seeds), "o", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
        low, high = pair["interval"]
        if len(seeds) > 1:
            error = [[pair["mean"] - low], [high - pair["mean"]]]
            axes.errorbar(pair["mean"], place, xerr=error, fmt="|", color=colour, capsize=4, markersize=14)
        axes.annotate(
            f"{pair['mean']:+.1f}: {pair['says']}", (pair["mean"], place), xytext=(0, 9), textcoords="offset points",
            ha="center", fontsize=8, color=colour,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    names = [
        f"{pair['better']}\nover {pair['than']}" if is_named else MORE[pair["of"]].format(**pair) for pair in pairs
    ]
    axes.set_yticks(range(len(pairs)), names)
    axes.set_ylim(len(pairs) - 0.5, -0.7)
    if is_named:
        axes.set_xlabel("points of accuracy more, on the same digits", fontsize=8)
    else:
        axes.set_xlabel(f"more with {pairs[0]['better']} than with {pairs[0]['than']}", fontsize=8)


def _precisions(figure: Any, found: Found) -> None:
    """Accuracy by way, SNR by way, and the pairs."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    ways = [way for way, value in next(iter(found["networks"].values())).items() if isinstance(value, dict)]
    for number, (label, row) in enumerate(found["networks"].items()):
        shift = 0.16 * (2 * number - 1)
        for place, way in enumerate(ways):
            _dots(left, _percent(row, way), place + shift, SERIES[number])
            if "snr_db" in row[way]:
                noise = row[way]["snr_db"]
                error = [[noise["mean"] - noise["least"]], [noise["most"] - noise["mean"]]]
                middle.errorbar(noise["mean"], place + shift, xerr=error, fmt="o", color=SERIES[number], capsize=3)
        left.plot([], [], "o", color=SERIES[number], label=label)
    for axes, told in ((left, "right of 1000 held-out digits, %"), (middle, "signal to noise against float, dB")):
        axes.set_yticks(range(len(ways)), ways)
        axes.set_ylim(len(ways) - 0.5, -0.5)
        axes.set_xlabel(told, fontsize=8)
    middle.set_yticks([])
    middle.set_title("mean, least and most of the seeds", fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    _pairs(right, found["pairs"], is_named=False)


def _expansion(figure: Any, found: Found) -> None:
    """Accuracy by factor, with the same channels and with the same cost."""
    above = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    for axes, is_equal in zip(above, (False, True), strict=False):
        rows = {label: row for label, row in found["networks"].items() if label.endswith("equal cost") == is_equal}
        factors = [int(label.split(",")[0].split()[1]) for label in rows]
        values = [_percent(row) for row in rows.values()]
        for factor, seeds in zip(factors, values, strict=True):
            axes.plot(np.full(len(seeds), factor), seeds, "o", color=BLUE, markersize=3, alpha=0.5, markeredgewidth=0)
        axes.plot(factors, [seeds.mean() for seeds in values], "_-", color=BLUE, markersize=14, markeredgewidth=2)
        axes.set_xlabel("expansion factor", fontsize=8)
        axes.set_xticks(factors)
        costs = [row["multiply_adds"] for row in rows.values()]
        axes.set_title(
            f"equal cost, {min(costs):,} to {max(costs):,}\nmultiply-adds, by fewer channels" if is_equal
            else f"bottlenecks of 4, 6 and 8 channels:\n{min(costs):,} to {max(costs):,} multiply-adds", fontsize=9,
        )  # fmt: skip
    above[0].set_ylabel("right of 1000 held-out digits, %", fontsize=8)
    above[1].sharey(above[0])
    _pairs(above[2], found["pairs"])


def _multipliers(figure: Any, found: Found) -> None:
    """Accuracy against cost, parameters and time, a line for each resolution."""
    from matplotlib.ticker import NullFormatter

    rows = list(found["networks"].values())
    labels = list(found["networks"])
    against: dict[str, Callable[[Found], float]] = {
        "multiply-adds": lambda row: float(row["multiply_adds"]),
        "parameters": lambda row: float(row["parameters"]),
        "ms in LiteRT, one thread, int8": lambda row: float(row["litert_ms_quartiles"]["int8"][1]),
    }
    panels = figure.subplots(1, len(against), sharey=True)
    for axes, (told, of) in zip(panels, against.items(), strict=True):
        for colour, resolution in zip(SERIES, sorted({row["resolution"] for row in rows}), strict=False):
            line = [row for row in rows if row["resolution"] == resolution]
            accuracy = [_percent(row) for row in line]
            mean = [one.mean() for one in accuracy]
            spread = [[m - a.min() for m, a in zip(mean, accuracy, strict=True)],
                      [a.max() - m for m, a in zip(mean, accuracy, strict=True)]]  # fmt: skip
            axes.errorbar(
                [of(row) for row in line], mean, yerr=spread, fmt="o-", color=colour, markersize=4, capsize=2,
                linewidth=1, elinewidth=0.8, label=f"{resolution} pixels",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(told, fontsize=8)
    widths = ", ".join(dict.fromkeys(label.split(",")[0].removeprefix("width ") for label in labels))
    panels[0].set_ylabel("right of 1000 held-out digits, %;\nmean, least and most of the seeds", fontsize=8)
    panels[0].legend(fontsize=8, frameon=False, title=f"widths {widths}", title_fontsize=8)


def _spiral(figure: Any, found: Found) -> None:
    """The spiral behind the first matrix of each width, and what is lost over all of them."""
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.3])
    points = claims_spiral.spiral()
    shown = [("the spiral", points)]
    for width in claims_spiral.WIDTHS:
        into = claims_spiral.matrix(width, 0)
        back = claims_spiral.brought_back(claims_spiral.embedded(points, into), into)
        shown.append((f"{width} channels", back))
    for axes, (title, back) in zip(above.subplots(1, len(shown)), shown, strict=True):
        axes.scatter(*back.T, c=np.arange(len(back)), cmap="viridis", s=4, linewidths=0)
        axes.set_title(title, fontsize=9)
        axes.set_aspect("equal")
        axes.set_axis_off()
    widths = [row["width"] for row in found["rows"]]
    told_by = {"lost": "points that lost a direction, %", "explained": "variance that a linear map gives back, %"}
    for axes, (key, told) in zip(below.subplots(1, 2), told_by.items(), strict=True):
        mean = np.array([100 * row[f"{key}_mean"] for row in found["rows"]])
        low, _, high = 100 * np.array([row[f"{key}_quartiles"] for row in found["rows"]]).T
        axes.fill_between(widths, low, high, color=BLUE, alpha=0.2, linewidth=0, label="middle half of the matrices")
        axes.plot(widths, mean, "o-", color=BLUE, label=f"mean of {found['rows'][0]['matrices']} random matrices")
        axes.set_xscale("log")
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.minorticks_off()
        axes.set_xlabel("channels", fontsize=8)
        axes.set_ylabel(told, fontsize=8)
        axes.legend(fontsize=8, frameon=False)
