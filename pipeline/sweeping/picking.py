"""Which variant is wanted: conditions in words, and what is to be least or most among those that meet them."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SweepError, nearest
from .lines import Line

_SIZES = {
    "": "1",
    "B": "1",
    "kB": "1e3",
    "KB": "1e3",
    "MB": "1e6",
    "GB": "1e9",
    "KiB": "1024",
    "MiB": "1048576",
    "GiB": "1073741824",
}
_TIMES = {"": "1", "ms": "1", "us": "1e-3", "µs": "1e-3", "s": "1e3"}
_SHARES = {"": "1", "%": "0.01"}
_LEAST = {"size": 1.0, "latency": 1e-9, "score": 0.0}
"""Nothing takes no bytes, nor no time."""
_MOST = {"size": math.inf, "latency": math.inf, "score": 1.0}
_UNITS = {"size": _SIZES, "latency": _TIMES, "score": _SHARES}
_SENSES: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_EQUAL = ("=", "==", "!=")
_TERM = re.compile(r"(?P<name>[\w.]+)\s*(?P<sense>>=|<=|==|!=|>|<|=)\s*(?P<value>.+)")
_EXAMPLE = "'score >= 0.98, size <= 1MB, min latency', for example"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """``size <= 1MB``.

    Attributes:
        text: it in words.
        of: ``score``, ``size``, ``latency``, or an axis.
        holds: whether it does for a value of these.
        bound: what values are compared with.
    """

    text: str
    of: str
    holds: Callable[[Any], bool]
    bound: Any

    def is_met(self, line: Line) -> bool:
        return self.holds(_value(line, self.of) if self.of in _UNITS else line.varied[self.of])


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is wanted.

    Attributes:
        conditions: that all must be met.
        text: of what is least or most.
        rank: of a line, the lower the better.
    """

    conditions: Sequence[Condition]
    text: str
    rank: Callable[[Line], tuple[float, ...]]


def parsed(text: str, score: str, axes: Mapping[str, Sequence[object]]) -> Wish:
    """What a wish says.

    Args:
        text: conditions and perhaps ``min NAME`` or ``max NAME`` between commas; the best score without one.
        score: what the task calls it.
        axes: that vary, and their values.

    Raises:
        ConfigError: it cannot be read, or nothing can be all that it says.
    """
    conditions, wanted, told = [], None, ""
    for term in filter(None, (part.strip() for part in text.split(","))):
        direction, _, name = term.partition(" ")
        if direction in ("min", "max"):
            if wanted is not None:
                raise ConfigError(
                    f"--pick: '{told}' and '{term}' cannot both be: leave one, and make a condition of the other"
                )
            told, wanted = term, _ranked(_measure(name.strip(), score), is_most=direction == "max")
        else:
            conditions.append(_condition(term, score, axes))
    if not conditions and wanted is None:
        raise ConfigError(f"--pick says nothing; {_EXAMPLE}")
    _check_together(conditions, axes)
    return Wish(conditions=conditions, text=told or f"max {score}", rank=wanted or _ranked("score", is_most=True))


def _check_together(conditions: Sequence[Condition], axes: Mapping[str, Sequence[object]]) -> None:
    """Raise a ConfigError where conditions on one thing leave nothing: two of them, or else all."""
    for of in dict.fromkeys(one.of for one in conditions):
        same = [one for one in conditions if one.of == of]
        values = _tried([one.bound for one in same], _LEAST[of], _MOST[of]) if of in _UNITS else axes[of]
        for some in (*itertools.combinations(same, 2), tuple(same)):
            if not any(all(one.holds(value) for one in some) for value in values):
                told = " and ".join(f"'{one.text}'" for one in some)
                raise ConfigError(f"--pick: {told} cannot be met by one variant: leave one of them, or turn its sign")


def _tried(bounds: Sequence[float], least: float, most: float) -> list[float]:
    """Values between which nothing changes: bounds, what lies between two of them, and the ends."""
    marks = sorted(
        {least, *(bound for bound in bounds if least < bound < most), min(most, 2 * max(*bounds, least, 1.0))}
    )
    return [*marks, *((low + high) / 2 for low, high in itertools.pairwise(marks))]


def picked(wish: Wish, lines: Sequence[Line]) -> Line:
    """The line that is wanted, among those whose checks are met.

    Raises:
        SweepError: there is none, and what keeps them all out.
    """
    left = [line for line in lines if line.is_good]
    if not left and any(line.state in ("verified", "open") for line in lines) and lines[0].device:
        raise SweepError(
            f"none of {len(lines)} variants was timed {lines[0].where}, so none can be picked. The table says why."
        )
    if not left and any(line.state in ("verified", "open") and math.isnan(line.score) for line in lines):
        raise SweepError(
            f"none of {len(lines)} variants has a score, for nothing says what is right of their images, and what is picked has to know what its "
            "answers are worth: give images of which that is known, or build one variant after the other."
        )
    if not left and any(line.state == "not reached" for line in lines):
        count = sum(line.state == "not reached" for line in lines)
        raise SweepError(
            f"{count} of {len(lines)} variants were not reached in their time, and of the others none passed its checks, so none can be picked. Run "
            "the same command again with more --hours: what was made is kept."
        )
    if not left:
        raise SweepError(f"none of {len(lines)} variants passed its checks, so none can be picked. The table says why.")
    for condition in wish.conditions:
        kept = [line for line in left if condition.is_met(line)]
        if not kept:
            raise SweepError(
                f"no variant meets '{condition.text}' of the {len(left)} that meet all before it. The best of these: "
                + "; ".join(_best(left))
                + ". Ask for less, or sweep further values."
            )
        left = kept
    return min(left, key=lambda line: (wish.rank(line), line.number))


def _best(lines: Sequence[Line]) -> list[str]:
    """Where the bounds lie, in words."""
    score, size = max(line.score for line in lines), min(line.bytes for line in lines)
    return [f"score {score:.4f}", f"size {size:,} bytes", f"latency {min(line.compared_ms for line in lines):.3f} ms"]


def _measure(name: str, score: str) -> str:
    known = {score: "score", "score": "score", "size": "size", "bytes": "size", "latency": "latency"}
    if name not in known:
        told = f"there is no '{name}' to be least or most" if name else "nothing is named that is to be least or most"
        raise ConfigError(f"--pick: {told}. {nearest(name, known)}")
    return known[name]


def _ranked(measure: str, *, is_most: bool) -> Callable[[Line], tuple[float, ...]]:
    """By one measure; ties go to the better score, then to the smaller and the faster."""

    def rank(line: Line) -> tuple[float, ...]:
        value = _value(line, measure)
        return (-value if is_most else value, -line.score, line.bytes, line.compared_ms)

    return rank


def none_passed(lines: Sequence[Line], table: Path) -> str:
    """Why there is nothing to choose from."""
    late = sum(line.state == "not reached" for line in lines)
    if not late:
        return f"none of {len(lines)} variants passed its checks; the table says why: {table}"
    others = "" if late == len(lines) else f", and none of the others passed its checks; the table says why: {table}"
    return (
        f"{late} of {len(lines)} variants were not reached in their time{others}. Run the same command again with more --hours: "
        "what was made is kept."
    )


def _value(line: Line, measure: str) -> float:
    return {"score": line.score, "size": float(line.bytes), "latency": line.compared_ms}[measure]


def _condition(term: str, score: str, axes: Mapping[str, Sequence[object]]) -> Condition:
    found = _TERM.fullmatch(term)
    if found is None:
        raise ConfigError(f"--pick: '{term}' is no condition, and no min or max; {_EXAMPLE}")
    name, sense, value = found["name"], found["sense"], found["value"].strip().strip("\"'")
    if name in axes:
        return Condition(text=term, of=name, holds=_of_axis(name, sense, value, axes, term), bound=value)
    if name not in (score, "score", "size", "bytes", "latency"):
        raise ConfigError(f"--pick: there is no '{name}'. {nearest(name, [score, 'size', 'latency', *axes])}")
    if sense in _EQUAL:
        raise ConfigError(
            f"--pick: '{term}': {name} is measured, and no number is met exactly: compare it by >=, <=, > or <"
        )
    measure, bound = _measure(name, score), _number(value, _UNITS[_measure(name, score)], term)
    least, most = _LEAST[measure], _MOST[measure]
    if not any(_SENSES[sense](one, bound) for one in (least, most, min(max(bound, least), most))):
        raise ConfigError(
            f"--pick: '{term}' is never met: {name} is {'0 to 1, or 0 to 100 %' if most == 1 else 'more than 0'}"
        )
    return Condition(text=term, of=measure, holds=lambda value: _SENSES[sense](value, bound), bound=bound)


def _of_axis(
    name: str, sense: str, value: str, axes: Mapping[str, Sequence[object]], term: str
) -> Callable[[Any], bool]:
    """A condition on what varies: a word is one of its values, and a number is compared."""
    if sense in _EQUAL:
        same = [one for one in axes[name] if str(one) == value or _is_same_number(one, value)]
        if not same:
            raise ConfigError(f"--pick: {name} is never '{value}'. {nearest(value, [str(one) for one in axes[name]])}")
        return lambda one: (one in same) == (sense != "!=")
    bound = _number(value, {"": "1"}, term)
    if not all(isinstance(one, int | float) for one in axes[name]):
        raise ConfigError(f"--pick: '{term}' compares what are no numbers; {name} = {axes[name][0]}, for example")
    return lambda one: _SENSES[sense](float(one), bound)


def _is_same_number(one: object, text: str) -> bool:
    """``0.1`` is ``0.10``."""
    try:
        return isinstance(one, int | float) and not isinstance(one, bool) and float(one) == float(text)
    except ValueError:
        return False


def _number(text: str, units: Mapping[str, str], term: str) -> float:
    found = re.fullmatch(r"([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ%]*)", text)
    if found is None:
        raise ConfigError(f"--pick: '{term}' has no number; {_EXAMPLE}")
    if found[2] not in units:
        known = [unit for unit in units if unit]
        raise ConfigError(
            f"--pick: '{term}': '{found[2]}' is no unit of it. "
            + (nearest(found[2], known) if known else "It has none.")
        )
    return float(Decimal(found[1]) * Decimal(units[found[2]]))  # 95 % are 0.95, and as floats a little more
