"""500 outputs of detectors of all forms that `[[output]]` declares, and the boxes that `decode` finds in each.

A harness reads numbers as text, separated by blanks: how many forms; of each what `_form` writes, how many outputs it has and how many
values each, how many cases; and a file of the values of all cases, little-endian float32. It writes, of each case, the number of boxes, and
left, top, right, bottom, score and class of each, little-endian float64, which `differences` compares bit by bit.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from detectors import CORNERS, DETECTORS, drawn, formed
from twinkeel.pipeline.tasks.detection.decoding import CANDIDATES, decode

COUNT = 500
FORMATS = ("xyxy", "cxcywh", "ltrb", "anchors", "size")
ACTIVATIONS = ("softmax", "sigmoid", "none")
SETTINGS = (
    {"score": 0.1, "overlap": 0.3},
    {"score": 0.0, "overlap": 0.5, "per_class": False, "most": 1000},
    {"score": 0.3, "overlap": 1.0, "most": 7},
)


@cache
def groups():
    """(form, cases) each, a case the outputs of an image."""
    found = []
    for number, name in enumerate(DETECTORS):
        shapes = DETECTORS[name][1]
        for part, settings in enumerate(SETTINGS):
            seeds = range(100 * number + 20 * part, 100 * number + 20 * part + 20)
            found.append((formed(*DETECTORS[name], **settings), [drawn(shapes, seed) for seed in seeds]))
    found.append(
        (formed([CORNERS], [(1000, 6)], score=0.0, overlap=1.0, most=1000), [_thousand(seed) for seed in range(9)])
    )
    found.append((formed([CORNERS], [(CANDIDATES + 9, 5)], most=1000), [_crowd(seed) for seed in range(4)]))
    found.append((formed([CORNERS], [(40, 6)]), [_edges(seed) for seed in range(7)]))
    return found


def _thousand(seed):
    """As many boxes, of few scores: the order is that of classes and candidates."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-20, 60, (1000, 2, 2)).astype(np.float32)
    corners.sort(1)
    scores = rng.integers(0, 4, (1000, 2)).astype(np.float32) / 4
    return [np.concatenate([corners.reshape(1000, 4), scores], 1)]


def _crowd(seed):
    """More pairs than are looked at, most of them alike."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((CANDIDATES + 9, 5), np.float32)
    rows[:, :2] = rng.integers(0, 3, (len(rows), 2))
    rows[:, 2:4], rows[:, 4] = 9, rng.choice([0.5, 0.75], len(rows))
    return [rows]


def _edges(seed):
    """Nothing at all, scores of the threshold and next to it, boxes that touch, that have no area, and that are not finite."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-4, 40, (40, 6)).astype(np.float32)
    least = np.float32(0.3)
    rows[:, 4:] = rng.choice(
        [least, np.nextafter(least, np.float32(1)), np.nextafter(least, np.float32(0)), 1, -0.0, 3e38], (40, 2)
    )
    rows[rng.integers(0, 40, 9), rng.integers(0, 6, 9)] = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38], 9)
    return [rows if seed else np.zeros_like(rows)]


def write(folder: Path) -> None:
    """``forms.txt`` and ``outputs.f32``."""
    texts, values = [str(len(groups()))], []
    for form, cases in groups():
        sizes = [output.size for output in cases[0]]
        texts += [_form(form), " ".join(map(str, [len(sizes), *sizes, len(cases)]))]
        values += [output.astype("<f4").tobytes() for case in cases for output in case]
    (folder / "forms.txt").write_text("\n".join(texts) + "\n")
    (folder / "outputs.f32").write_bytes(b"".join(values))


def _form(form):
    before = 1 if form.background == "first" else 0
    texts = [
        form.classes,
        form.columns,
        before,
        FORMATS.index(form.format),
        ACTIVATIONS.index(form.activation),
        int(form.peaks),
    ]
    texts += [
        form.center,
        *form.variances,
        form.score_threshold,
        form.iou_threshold,
        int(form.per_class),
        form.most,
        len(form.blocks),
    ]
    for block in form.blocks:
        sizes = [side for pair in block.sizes for side in pair]
        texts += [block.rows, block.columns, *block.cell, *block.unit, len(sizes), *sizes]
        for numbers in (block.boxes, block.scores, block.objectness, block.offsets):
            texts += [-1] if numbers is None else [numbers.output, numbers.first, numbers.step, numbers.apart]
    return " ".join(map(repr, texts))


@cache
def expected() -> tuple[bytes, ...]:
    """What a harness has to write of each case."""
    return tuple(_bytes(decode(outputs, form)) for form, cases in groups() for outputs in cases)


def _bytes(found):
    rows = np.concatenate([found.boxes, found.scores[:, None], found.classes[:, None]], 1)
    return np.array([len(found), *rows.reshape(-1)], "<f8").tobytes()


def differences(file: Path) -> list[str]:
    """What a harness wrote against `expected`: a line for each case that differs, and none where all are equal."""
    found, place, lines = file.read_bytes(), 0, []
    for number, wanted in enumerate(expected()):
        count = int(np.frombuffer(found, "<f8", 1, place)[0]) if place + 8 <= len(found) else 0
        part = found[place : place + 8 * (1 + 6 * count)]
        place += len(part)
        if part != wanted:
            lines.append(f"case {number}: {count} boxes, and {(len(wanted) // 8 - 1) // 6} were expected")
    return lines if place == len(found) else [*lines, f"{len(found) - place:,} bytes more than expected"]
