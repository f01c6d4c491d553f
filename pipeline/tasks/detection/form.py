"""What a detector's outputs hold: all that decoding needs to know of them, in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...errors import ConfigError
from ...program import Output
from .blocks import Block, Numbers
from .declaring import blocks_of, declared

Format = Literal["xyxy", "cxcywh", "ltrb", "anchors", "size"]
Activation = Literal["softmax", "sigmoid", "none"]
Background = Literal["first", "last", "none"]

MOST_BLOCKS = 400
"""A detector has a few; an app's code holds them all in one function."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How boxes, scores and classes are found in a detector's outputs; `decoding` says how.

    Attributes:
        height: of the input in pixels.
        width: of the input in pixels.
        classes: how many, without the background.
        format: of the boxes: ``xyxy`` (left, top, right, bottom), ``cxcywh`` (centre and size), ``ltrb`` (how far the sides are from
            the centre of the cell), ``anchors`` (how centre and size differ from an anchor's), ``size`` (width and height around a
            cell's centre, or around what the offsets say).
        activation: what scores go through: ``softmax`` over the classes, ``sigmoid`` of each, ``none``.
        background: where its number stands among the scores.
        peaks: whether a score counts only where none of the eight around it in the grid is larger.
        center: where in a cell its centre lies, as a share of the cell.
        variances: of anchors, what the four numbers are multiplied with.
        score_threshold: least score.
        iou_threshold: what overlaps a box with a higher score by more is left out; 1: nothing is.
        per_class: whether boxes of the same class alone suppress each other.
        most: boxes of an image.
        blocks: of the candidates, in their order.
    """

    height: int
    width: int
    classes: int
    format: Format
    activation: Activation
    background: Background = "none"
    peaks: bool = False
    center: float = 0.5
    variances: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    score_threshold: float = 0.3
    iou_threshold: float = 0.5
    per_class: bool = True
    most: int = 100
    blocks: tuple[Block, ...]

    def described(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Form:
        """What `described` gave.

        Raises:
            ValueError: it is none of these.
        """
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(described)

    @property
    def count(self) -> int:
        """Of the candidates."""
        return sum(block.count for block in self.blocks)

    @property
    def columns(self) -> int:
        """Numbers among the scores of a candidate."""
        return self.classes + (self.background != "none")

    def anchors(self) -> NDArray[np.float64]:
        """Centre and size in pixels of the input of each candidate's anchor ``(count, 4)``."""
        found = []
        for block in self.blocks:
            row, column, anchor = np.unravel_index(np.arange(block.count), (block.rows, block.columns, block.per_cell))
            centers = (np.stack([column, row], 1) + self.center) * np.array(block.cell)
            found.append(np.concatenate([centers, np.array(block.sizes, np.float64)[anchor]], 1))
        return np.concatenate(found)

    def fault(self, outputs: Sequence[Output]) -> str:
        """What of it lies outside of outputs of these shapes; empty where nothing does."""
        sizes = [one.size for one in outputs]
        if not self.blocks:
            return "no candidates"
        for block in self.blocks:
            wanted = (
                (block.boxes, 2 if self.format == "size" else 4),
                (block.scores, self.columns),
                (block.objectness, 1),
                (block.offsets, 2),
            )
            for numbers, count in wanted:
                if numbers is not None and not _lies_in(numbers, block.count, count, sizes):
                    return (
                        f"{numbers} of {block.count:,} candidates with {count} lie outside of outputs of {sizes} values"
                    )
        for name in ("objectness", "offsets", "sizes"):
            if len({bool(getattr(block, name)) for block in self.blocks}) > 1:
                return f"{name} of some of the candidates alone"
        if self.format == "anchors" and not self.blocks[0].sizes:
            return "anchors without their sizes"
        return ""


def _lies_in(numbers: Numbers, candidates: int, count: int, sizes: Sequence[int]) -> bool:
    last = numbers.first + (candidates - 1) * numbers.step + (count - 1) * numbers.apart
    is_sane = min(numbers.output, numbers.first) >= 0 and min(numbers.step, numbers.apart, candidates, count) >= 1
    return is_sane and numbers.output < len(sizes) and last < sizes[numbers.output]


def form_of(config: Config, layout: Sequence[Output]) -> Form:
    """As `[[output]]` declares it.

    Args:
        layout: name and shape of what the model gives, in the order of `[[output]]`.

    Raises:
        ConfigError: what is declared does not fit the shapes, or not together.
    """
    sets = declared(config)
    if len(config.output) != len(layout):
        raise ConfigError(f"output: {len(config.output)} are declared, and the model gives {len(layout)}: declare each")
    boxes, scores = config.output[sets[0].boxes], config.output[sets[0].scores]
    background, variances = scores.background or "none", boxes.variances or [1.0, 1.0]
    blocks, columns = blocks_of(config, sets, layout)
    classes = columns - (background != "none")
    if classes < 1:
        raise ConfigError(
            f"output: '{scores.name}' has {columns} numbers for a candidate's classes, which leaves no class"
        )
    if len(blocks) > MOST_BLOCKS:
        raise ConfigError(
            f"output: the candidates are of {len(blocks)} grids and anchors, and at most {MOST_BLOCKS} can be decoded"
        )
    height, width = config.model.size
    return Form(
        height=height,
        width=width,
        classes=classes,
        format="size" if boxes.holds == "sizes" else cast("Format", boxes.format),
        activation=cast("Activation", scores.activation),
        background=background,
        peaks=scores.holds == "heat",
        center=0.5 if boxes.center is None else boxes.center,
        variances=cast("Any", tuple(np.repeat(variances, 4 // len(variances)).tolist())),
        score_threshold=config.detection.score,
        iou_threshold=config.detection.overlap,
        per_class=config.detection.per_class,
        most=config.detection.most,
        blocks=tuple(blocks),
    )
