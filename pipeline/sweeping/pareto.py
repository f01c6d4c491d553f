"""What is beaten by nothing, in three things at once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

Point = tuple[float, float, float]
"""The lower the better, each of the three."""


def front(points: Sequence[Point]) -> list[bool]:
    """Of each, whether no other is at least as good in all three and better in one.

    Sorted by the first, a point is beaten by one before it that is as good in the other two. Of those before it, the ones that count
    are a staircase: the second rises where the third falls. The time grows with ``n log n``, whatever they are.
    """
    best: set[Point] = set()
    seconds: list[float] = []
    thirds: list[float] = []
    for point in sorted(set(points)):
        _, second, third = point
        at = bisect_right(seconds, second)
        if at and thirds[at - 1] <= third:
            continue
        best.add(point)
        at = bisect_left(seconds, second)
        end = at
        while end < len(thirds) and thirds[end] >= third:  # as far as the new step is below
            end += 1
        seconds[at:end], thirds[at:end] = [second], [third]
    return [point in best for point in points]
