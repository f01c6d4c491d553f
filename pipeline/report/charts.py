"""Plots as numbers: where lines, points and ticks lie in an SVG. The template of the report draws them.

Colours and fonts are the page's, so that one plot serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

COLOURS = 6
"""Classes ``c0`` to ``c5`` of the page."""

_SIZE = 5.0
_MARKERS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f"M{x - 5:.1f},{y:.1f}a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    lambda x, y: _polygon(x, y, ((-1, -1), (1, -1), (1, 1), (-1, 1)), 0.88),
    lambda x, y: _polygon(x, y, ((0, -1.2), (1.1, 0.8), (-1.1, 0.8))),
    lambda x, y: _polygon(x, y, ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))),
    lambda x, y: _polygon(x, y, ((0, 1.2), (1.1, -0.8), (-1.1, -0.8))),
)
MARKERS = len(_MARKERS)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From a value between `low` and `high` to a place between `start` and `end`.

    Attributes:
        is_log: `low` must be above 0.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers inside: steps of 1, 2 or 5; on a logarithmic scale these of each decade."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            ratio = self.high / self.low
            parts = (1, 1.5, 2, 3, 5, 7) if ratio < 10 else (1, 2, 5) if ratio < 100 else (1,)
            return [v for d in decades for p in parts if self.low <= (v := p * 10.0**d) <= self.high]
        raw = (self.high - self.low) / count
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * p for p in (1, 2, 5, 10) if unit * p >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A place along an axis and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point: its outline as an SVG path, its colour's number, and what it says of itself."""

    path: str
    colour: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line as an SVG path, and its colour's number; `dashes` as SVG takes them, empty for none."""

    path: str
    colour: int
    dashes: str = ""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An upright bar: left edge, width, top, height, and what it says of itself."""

    x: float
    width: float
    y: float
    height: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot of `width` x `height` units whose data lie between `left`, `top`, `right` and `bottom`.

    Attributes:
        title: above it.
        description: for who cannot see it.
        band: top and height of a shaded range; None for none.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    bars: tuple[Bar, ...] = ()
    band: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The axes of a chart before anything is drawn on them.

    Attributes:
        x_range: lowest and highest value.
        is_log: the x axis.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    is_log: bool = False
    width: float = 440
    height: float = 250

    @property
    def x(self) -> Scale:
        return Scale(low=self.x_range[0], high=self.x_range[1], start=52, end=self.width - 14, is_log=self.is_log)

    @property
    def y(self) -> Scale:
        return Scale(low=self.y_range[0], high=self.y_range[1], start=self.height - 42, end=26)

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """A line through the points."""
        return "M" + "L".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def mark(self, x: float, y: float, *, colour: int, shape: int, text: str) -> Mark:
        """A point of a shape by its number."""
        outline = _MARKERS[shape % MARKERS](self.x(x), self.y(y))
        return Mark(path=outline, colour=colour % COLOURS, text=text)

    def bar(self, x: float, y: float, text: str) -> Bar:
        """A bar of one unit's width around `x`, from the axis up to `y`."""
        left, right, top = self.x(x - 0.4), self.x(x + 0.4), self.y(y)
        return Bar(x=left, width=right - left, y=top, height=self.y(self.y_range[0]) - top, text=text)

    def chart(
        self,
        *,
        lines: Iterable[Line] = (),
        marks: Iterable[Mark] = (),
        bars: Iterable[Bar] = (),
        band: tuple[float, float] | None = None,
    ) -> Chart:
        """The chart with all that is drawn on it.

        Args:
            band: lowest and highest value of y that are shaded.
        """
        x, y = self.x, self.y
        return Chart(
            title=self.title,
            description=self.description,
            x_label=self.x_label,
            y_label=self.y_label,
            width=self.width,
            height=self.height,
            left=x.start,
            top=y.end,
            right=x.end,
            bottom=y.start,
            x_ticks=tuple(Tick(at=x(v), text=f"{v:g}") for v in x.ticks()),
            y_ticks=tuple(Tick(at=y(v), text=f"{v:.6g}") for v in y.ticks(6)),
            lines=tuple(lines),
            marks=tuple(marks),
            bars=tuple(bars),
            band=None if band is None else (y(band[1]), y(band[0]) - y(band[1])),
        )


def marker(shape: int) -> str:
    """The outline of a shape around (7, 7), for a legend."""
    return _MARKERS[shape % MARKERS](7, 7)


def spread(values: Iterable[float], *, least: float, is_log: bool = False) -> tuple[float, float]:
    """A range with a little air around all values, and no narrower than `least`; on a logarithm `least` is a factor."""
    found = list(values)
    low, high = min(found), max(found)
    if is_log:
        air = max(math.sqrt(least / (high / low)), (high / low) ** 0.06)
        return low / air, high * air
    air = max((least - (high - low)) / 2, 0.06 * (high - low))
    return low - air, high + air


def _polygon(x: float, y: float, corners: Iterable[tuple[float, float]], size: float = 1) -> str:
    at = (f"{x + size * _SIZE * dx:.1f},{y + size * _SIZE * dy:.1f}" for dx, dy in corners)
    return "M" + "L".join(at) + "Z"
