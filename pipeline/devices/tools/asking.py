"""What a benchmark is asked for, and what is common to what they answer."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ...parity import Unit
from ...reading import shown
from ..found import Unreadable

NUMBER = r"([-+0-9.eE]+|nan|inf)"
"""As C++ writes one, in a pattern."""
_TROUBLE = re.compile(
    r"\berror\b|\bfail|not supported|unsupported|unrecognized|unknown command line flag|unconsumed|cannot|could not|abort|exception|"
    r"can't|not found|no such|denied|segmentation|killed",
    re.IGNORECASE,
)
_MOST = 400


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A round on a unit.

    Attributes:
        libraries: names of those that lie beside the program.
    """

    unit: Unit
    runs: int
    threads: int
    libraries: Collection[str] = ()


def trouble(text: str, most: int = 3) -> str:
    """The lines of an output that speak of what went wrong, or its last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = list(dict.fromkeys(line for line in lines if _TROUBLE.search(line)))[:most] or lines[-1:]
    return shown("; ".join(found) or "it says nothing", _MOST)


def number(text: str) -> float:
    """Of what `NUMBER` found.

    Raises:
        Unreadable: it is none.
    """
    try:
        return float(text)
    except ValueError as error:
        raise Unreadable(f"'{shown(text)}' is no number") from error
