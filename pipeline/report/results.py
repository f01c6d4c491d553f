"""What a build gave, for people and machines to be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import parity
from ..parity import Row
from ..saying import counted
from ..stages import Epoch, Rung

if TYPE_CHECKING:
    from ..data import Split
    from ..parity import Comparison, RuntimeDrift
    from ..tasks import Task


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a build gave for a platform.

    Attributes:
        reference_scores: of the references ``float`` and ``int8`` on the held-out images, 0..1.
        answers: what the task keeps of their outputs and of each artifact's that runs, by name; empty where nobody asks.
        curve: of the training; empty where weights were given.
    """

    folder: Path
    task: Task
    program_checks: list[parity.Check]
    reference_scores: dict[str, float]
    rows: list[Row]
    errors: list[str]
    rungs: tuple[Rung, ...]
    answers: dict[str, NDArray[np.float64]]
    curve: tuple[Epoch, ...]

    @property
    def is_verified(self) -> bool:
        return not self.errors and all(c.is_met for c in self.program_checks) and all(r.is_verified for r in self.rows)


def headline(rows: Sequence[Row]) -> str:
    """Of artifacts none of which misses anything."""
    count = sum(row.state == "open" for row in rows)
    return (
        f"nothing missed, {count} of {counted(len(rows), 'artifact')} with an open verdict" if count else "all verified"
    )


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is made from.

    Attributes:
        held_out: the images that the answers are about, and what is right of them.
        taken: what the data were taken from, and what was passed over, in pairs of words.
        drift: of the int8 artifacts whose layers could be looked at.
        drift_errors: of the others, in words.
        sheet: PNG of some images of each set; empty for none.
    """

    results: list[Result]
    manifests: list[dict[str, Any]]
    held_out: Split
    taken: list[tuple[str, str]]
    drift: tuple[RuntimeDrift, ...]
    drift_errors: str
    sheet: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did.

    Attributes:
        ran: names of the jobs that had to run; empty where there was nothing to do.
        peak: bytes of memory that a worker took at most, 0 where none ran.
        files: names of the files beside the folders.
        comparison: of the int8 artifacts of several platforms, on the golden images.
        is_placed: whether folders or files were put where they were not as they are to be.
    """

    results: list[Result]
    ran: list[str]
    peak: int
    files: list[str]
    comparison: Comparison | None
    is_placed: bool = False
