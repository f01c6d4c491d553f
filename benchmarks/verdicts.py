"""How often a verdict holds, misses or stays open: simulated draws of images from a true accuracy drop.

verdicts.py [--draws N] [--limit SHARE] [--out FOLDER]

Each image is lost with the probability `drop + CHANGED` and won with `CHANGED`, for quantization turns answers both ways.
Writes ``verdicts.json`` and ``verdicts.png``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from twinkeel.pipeline.parity import verdict

IMAGES = (50, 154, 359, 898, 2_000, 50_000)
DROPS = (0.0, 0.002, 0.005, 0.01, 0.03)
CHANGED = 0.003
VERDICTS = ("holds", "open", "missed")


def shares(images: int, drop: float, limit: float, draws: int) -> dict[str, float]:
    """How often each verdict comes of a true `drop`."""
    random = np.random.default_rng([images, round(1e6 * drop)])
    chances = [drop + CHANGED, CHANGED, 1 - drop - 2 * CHANGED]
    found = dict.fromkeys(VERDICTS, 0)
    drawn = Counter((lost, won) for lost, won, _ in random.multinomial(images, chances, draws).tolist())
    for (lost, won), times in drawn.items():
        found[verdict.tested(images, lost, won, limit)] += times
    return {name: count / draws for name, count in found.items()}


def draw(table: list[dict[str, Any]], limit: float, path: Path) -> None:
    """A bar of the three shares for each number of images and true drop."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    colours = {"holds": "#0b6b4a", "open": "#d9dde1", "missed": "#b3261e"}
    for axes, drop in zip(figure.subplots(1, len(DROPS), sharey=True), DROPS, strict=True):
        rows = [row for row in table if row["drop"] == drop]
        left = np.zeros(len(rows))
        for name in VERDICTS:
            widths = np.array([row[name] for row in rows])
            axes.barh([f"{row['images']:,}" for row in rows], widths, left=left, color=colours[name], label=name)
            left += widths
        axes.set(
            title=f"true drop {100 * drop:g} points", xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "½", "all"]
        )
        axes.invert_yaxis()
    figure.axes[0].set_ylabel("images")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Verdicts on a limit of {100 * limit:g} points", fontsize=11)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=0.005)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    asked = parser.parse_args()
    table = []
    for images in IMAGES:
        for drop in DROPS:
            row = {"images": images, "drop": drop, **shares(images, drop, asked.limit, asked.draws)}
            table.append(row)
            print(
                f"{images:6,} images, true drop {100 * drop:.1f}: "
                + ", ".join(f"{name} {100 * row[name]:5.1f} %" for name in VERDICTS),
                flush=True,
            )
    content = {"limit": asked.limit, "changed both ways": CHANGED, "draws": asked.draws, "table": table}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "verdicts.json").write_text(json.dumps(content, indent=2) + "\n")
    draw(table, asked.limit, asked.out / "verdicts.png")


if __name__ == "__main__":
    main()
