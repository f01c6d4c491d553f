"""From `[[output]]` and the shapes that a model gives to where each candidate's numbers stand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ...config import Config
from ...config import Output as Declared
from ...errors import ConfigError
from ...program import Output
from .blocks import Block, Numbers

_WHAT = "boxes and scores, sizes and heat, or packed"
_SHAPE = (
    "(candidates, numbers), (numbers, candidates), (numbers, h, w) or (h, w, numbers) can be read; layout says which"
)
_SIZES = {"boxes": 4, "sizes": 2, "offsets": 2, "objectness": 1}
"""How many numbers a candidate has in each kind; of the others the model tells."""


@dataclass(frozen=True, kw_only=True)
class Set:
    """The outputs of the same candidates, by their place; `boxes` and `scores` are the same where they are packed."""

    boxes: int
    scores: int
    objectness: int | None = None
    offsets: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Candidates of an output, or the cells of a map, and the numbers that each has, which may be those of several anchors.

    Attributes:
        grid: rows and columns of a map; None of a list.
        where: the first candidate's first number.
    """

    name: str
    count: int
    numbers: int
    grid: tuple[int, int] | None
    where: Numbers

    def at(self, candidate: int, number: int) -> Numbers:
        """From this candidate and this of its numbers on."""
        return replace(self.where, first=self.where.first + candidate * self.where.step + number * self.where.apart)


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """A grid of `Block`, and from which candidate and which anchor of a cell on its numbers stand."""

    rows: int
    columns: int
    cell: tuple[float, float]
    sizes: tuple[tuple[float, float], ...]
    candidate: int = 0
    anchor: int = 0


def declared(config: Config) -> list[Set]:
    """Which outputs belong together, in the order of the candidates.

    Raises:
        ConfigError: boxes cannot be made of what is declared.
    """
    kinds: dict[str, list[int]] = {}
    for place, one in enumerate(config.output):
        if one.holds is not None:
            kinds.setdefault(one.holds, []).append(place)
    if not kinds:
        raise ConfigError(
            f"model.task = 'detection' has to know what the model's outputs hold: give [[output]] with holds for each, {_WHAT}"
        )
    found = " ".join(f"{name} ({len(places)})" for name, places in kinds.items())
    if "packed" in kinds:
        if len(kinds) > 1:
            raise ConfigError(
                f"output: 'packed' has boxes and scores in it, and stands beside others: {found}. Leave them out"
            )
        sets = [Set(boxes=place, scores=place) for place in kinds["packed"]]
    else:
        sets = _paired(kinds, found)
    _are_alike(config, [one.boxes for one in sets], ("format", "variances", "center"))
    _are_alike(config, [one.scores for one in sets], ("activation", "background", "objectness"))
    return sets


def _paired(kinds: dict[str, list[int]], found: str) -> list[Set]:
    boxes, scores = kinds.get("boxes", []), kinds.get("scores", [])
    sizes, heat = kinds.get("sizes", []), kinds.get("heat", [])
    if bool(boxes) == bool(sizes) or bool(scores) == bool(heat):
        raise ConfigError(f"output: boxes are made of {_WHAT}, not of {found}")
    places, scores = boxes or sizes, scores or heat
    others = kinds.get("objectness", []), kinds.get("offsets", [])
    if len(places) != len(scores) or any(len(other) not in (0, len(places)) for other in others):
        raise ConfigError(f"output: as many of each are paired in their order, not {found}")
    if others[1] and boxes:
        raise ConfigError("output: 'offsets' belong to 'sizes', and stand beside 'boxes'")
    return [
        Set(
            boxes=box,
            scores=score,
            objectness=others[0][n] if others[0] else None,
            offsets=others[1][n] if others[1] else None,
        )
        for n, (box, score) in enumerate(zip(places, scores, strict=True))
    ]


def _are_alike(config: Config, places: Sequence[int], settings: Sequence[str]) -> None:
    first = config.output[places[0]]
    for place in places[1:]:
        for setting in settings:
            one, other = getattr(first, setting), getattr(config.output[place], setting)
            if one != other:
                raise ConfigError(
                    f"output: {setting} of '{first.name}' and '{config.output[place].name}' differ, {one!r} and {other!r}: "
                    "one decoding is for all"
                )


def blocks_of(config: Config, sets: Sequence[Set], layout: Sequence[Output]) -> tuple[list[Block], int]:
    """The candidates, and how many numbers the scores of each have, with the background.

    Raises:
        ConfigError: what is declared does not fit the shapes.
    """
    blocks: list[Block] = []
    columns: set[int] = set()
    for one in sets:
        found, numbers = _blocks(config, one, layout)
        blocks, columns = blocks + found, columns | {numbers}
    if len(columns) > 1:
        raise ConfigError(
            f"output: scores have {sorted(columns)} numbers for a candidate's classes, as many are wanted in all"
        )
    return blocks, columns.pop()


def _blocks(config: Config, one: Set, layout: Sequence[Output]) -> tuple[list[Block], int]:
    places = {
        name: place
        for name in ("boxes", "scores", "objectness", "offsets")
        if (place := getattr(one, name)) is not None
    }
    tables = {name: _table(config.output[place], layout[place], place) for name, place in places.items()}
    declared, boxes, scores = config.output[one.boxes], tables["boxes"], tables["scores"]
    cells = list(_cells_of_map(declared, boxes, config) if boxes.grid else _cells_of_list(declared, boxes, config))
    per_cell = max(cell.anchor for cell in cells) + 1
    for other in tables.values():
        if (other.count, other.grid) != (boxes.count, boxes.grid):
            raise ConfigError(f"output: '{other.name}' has {_told(other)}, and '{boxes.name}' {_told(boxes)}")
    for name, table in tables.items():
        wanted = _SIZES.get(config.output[places[name]].holds or "", 0) * per_cell
        if table.numbers % per_cell or (wanted and table.numbers != wanted):
            of = f"{wanted} are wanted" if wanted else f"{per_cell} anchors share them"
            raise ConfigError(f"output: '{table.name}' has {table.numbers} numbers at each place, and {of}: {_SHAPE}")
    head = 0 if one.boxes != one.scores else 5 if declared.objectness else 4
    blocks = []
    for cell in cells:
        # an anchor's numbers stand one behind the other
        where = {
            name: table.at(cell.candidate, cell.anchor * (table.numbers // per_cell)) for name, table in tables.items()
        }
        if head:
            first = where["boxes"]
            where["scores"] = replace(first, first=first.first + head * first.apart)
            where |= {"objectness": replace(first, first=first.first + 4 * first.apart)} if declared.objectness else {}
        unit = _unit(declared, cell, config)
        blocks.append(
            Block(
                rows=cell.rows, columns=cell.columns, cell=cell.cell, unit=unit, sizes=cell.sizes, **cast("Any", where)
            )
        )
    return blocks, scores.numbers // per_cell - head


def _table(declared: Declared, output: Output, place: int) -> _Table:
    shape, layout, wanted = output.shape, declared.layout, _SIZES.get(declared.holds or "")
    if len(shape) == 3:
        numbers, *grid = shape if layout != "rows" else (shape[2], *shape[:2])
        count = grid[0] * grid[1]
        is_in_rows = layout == "rows"
    elif len(shape) == 2:
        if layout is None:  # what has as many numbers as wanted, else the shorter side
            numbers_last = shape[1] == wanted if wanted in shape else shape[1] <= shape[0]
            layout = "rows" if numbers_last else "columns"
        is_in_rows, grid = layout == "rows", None
        count, numbers = shape if is_in_rows else shape[::-1]
    else:
        raise ConfigError(f"output: '{declared.name}' is {shape} of an image: {_SHAPE}")
    where = (
        Numbers(output=place, first=0, step=numbers, apart=1)
        if is_in_rows
        else Numbers(output=place, first=0, step=1, apart=count)
    )
    found = (grid[0], grid[1]) if grid else None
    return _Table(name=declared.name, count=count, numbers=numbers, grid=found, where=where)


def _cells_of_map(declared: Declared, table: _Table, config: Config) -> Iterator[_Cells]:
    """The map's own grid, once for each anchor of a cell."""
    height, width = config.model.size
    rows, columns = cast("tuple[int, int]", table.grid)
    if (declared.maps and declared.maps != [[rows, columns]]) or len(declared.strides) > 1:
        raise ConfigError(
            f"output: '{table.name}' is one map of {rows} x {columns}, and {declared.maps or declared.strides} are declared"
        )
    stride = declared.strides[0] if declared.strides else 0.0
    cell = (stride, stride) if stride else (width / columns, height / rows)
    for anchor, size in enumerate(declared.anchors[0] if declared.anchors else [[]]):
        sizes = ((size[0], size[1]),) if size else ()
        yield _Cells(rows=rows, columns=columns, cell=cell, sizes=sizes, anchor=anchor)


def _cells_of_list(declared: Declared, table: _Table, config: Config) -> Iterator[_Cells]:
    """The grids whose cells follow one another in a list, or one row where nothing is said of grids."""
    height, width = config.model.size
    if not declared.strides and not declared.maps:
        if declared.format in ("ltrb", "anchors") or declared.unit == "cells" or declared.holds == "sizes":
            raise ConfigError(
                f"output: '{table.name}' is a list of boxes in cells of which grids? Give strides = [8, 16, 32] or maps"
            )
        yield _Cells(rows=1, columns=table.count, cell=(1.0, 1.0), sizes=())
        return
    grids = [(math.ceil(height / stride), math.ceil(width / stride), stride, stride) for stride in declared.strides]
    grids += [(rows, columns, width / columns, height / rows) for rows, columns in declared.maps]
    start = 0
    for number, (rows, columns, *cell) in enumerate(grids):
        sizes = tuple((w, h) for w, h in declared.anchors[number]) if declared.anchors else ()
        yield _Cells(rows=rows, columns=columns, cell=(cell[0], cell[1]), sizes=sizes, candidate=start)
        start += rows * columns * max(1, len(sizes))
    if start != table.count:
        raise ConfigError(
            f"output: '{table.name}' has {table.count:,} candidates, and its grids {start:,}: "
            + " + ".join(f"{rows} x {columns}" for rows, columns, *_ in grids)
            + (f", with {len(declared.anchors[0])} anchors in the first" if declared.anchors else "")
            + f", of an input of {width} x {height} pixels"
        )


def _unit(declared: Declared, cell: _Cells, config: Config) -> tuple[float, float]:
    height, width = config.model.size
    if declared.format == "anchors":
        return 1.0, 1.0
    unit = declared.unit or ("cells" if declared.format == "ltrb" or declared.holds == "sizes" else "pixels")
    return {"pixels": (1.0, 1.0), "share": (float(width), float(height)), "cells": cell.cell}[unit]


def _told(table: _Table) -> str:
    return f"a map of {table.grid[0]} x {table.grid[1]}" if table.grid else f"{table.count:,} candidates"
