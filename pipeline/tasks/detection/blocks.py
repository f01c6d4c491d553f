"""Where the numbers of a detector's candidates stand in its outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Where numbers of candidates stand in one of the outputs, flattened: number ``j`` of candidate ``i`` at
    ``first + i * step + j * apart``."""

    output: int
    first: int
    step: int
    apart: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """Candidates that lie alike: those of a grid, row by row, or of a list, which is a grid of one row.

    Attributes:
        rows: of the grid.
        columns: of the grid.
        cell: width and height of a cell in pixels of the input.
        unit: what the numbers of the boxes are multiplied with, across and down, to be pixels; 1 of anchors.
        sizes: width and height in pixels of each anchor of a cell, one behind the other in the order of the candidates; empty
            where there are no anchors, and a cell has one candidate.
        boxes: four numbers of each candidate; two where the format is ``size``.
        scores: one number a class, and one of the background.
        objectness: one number of each; None where there is none.
        offsets: two numbers of each, of the format ``size`` alone; None where there are none.
    """

    rows: int
    columns: int
    cell: tuple[float, float]
    unit: tuple[float, float]
    sizes: tuple[tuple[float, float], ...] = ()
    boxes: Numbers
    scores: Numbers
    objectness: Numbers | None = None
    offsets: Numbers | None = None

    @property
    def per_cell(self) -> int:
        """Candidates in a cell."""
        return max(1, len(self.sizes))

    @property
    def count(self) -> int:
        """Of the candidates."""
        return self.rows * self.columns * self.per_cell
