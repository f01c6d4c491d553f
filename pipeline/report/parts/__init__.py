"""What the report shows of a task beyond its table, a module each; a task without one is shown by its table."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ...parity import Row
    from ...tasks import Task
    from ..results import Report


class Part(Protocol):
    """What a module of this folder has."""

    TEMPLATE: str  # below `templates/`
    SECTIONS: Mapping[str, str]  # titles by the id of their heading
    NOTE: str  # what the columns of the task mean, in a sentence

    def context(self, said: Report, worst: Row | None) -> dict[str, Any]:
        """What its template reads.

        Args:
            worst: the artifact that is furthest from the float model.
        """


def modules(task: str) -> tuple[str, ...]:
    """Name of the module of a task of this name; nothing where there is none."""
    known = {entry.name for entry in pkgutil.iter_modules(__path__)}
    return (f"{__name__}.{task}",) if task in known else ()


def of(task: Task) -> Part | None:
    """The part of a task."""
    found = modules(task.__name__.rpartition(".")[2])
    return cast("Part", importlib.import_module(found[0])) if found else None
