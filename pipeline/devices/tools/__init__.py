"""The runtimes' own benchmark programs: one module each, a `Tool`: how it is called, and what its output says.

No phone was at hand when these were written: what they read is what the tools' sources and documentation say, named in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from ...parity import Unit
from ..found import Placement, Round
from . import executorch, litert, onnxruntime
from .asking import Ask


class Tool(Protocol):
    """What a module here has."""

    BINARIES: tuple[str, ...]  # names that its program has, the most usual one first
    MODEL: str  # what the artifact is called beside it
    LOG: str  # the tag of its words in Android's log, where a build may tell them there alone; empty where it does not
    RESULT: str  # file that a round leaves, and that holds its times; empty where its output does
    PROFILE: str  # pattern of files that a look leaves; empty where a round's output says what ran

    def lacks(self, unit: Unit) -> str:
        """Why the runtime does not know this unit of a phone, whatever its build; empty where it does."""

    def arguments(self, ask: Ask) -> list[str]:
        """Of a round."""

    def look(self, ask: Ask) -> list[str]:
        """Of a short run that says what runs where."""

    def read(self, text: str, result: str, ask: Ask) -> Round:
        """A round's times, of its output and its `RESULT`.

        Raises:
            Unreadable: they are not there.
        """

    def placed(self, text: str, profile: str, ask: Ask) -> Placement:
        """What ran what, of a round's output, and of the content of `PROFILE`."""


TOOLS: Mapping[str, Tool] = {
    "LiteRT": cast("Tool", litert),
    "ExecuTorch": cast("Tool", executorch),
    "onnxruntime": cast("Tool", onnxruntime),
}
"""By the name of the runtime."""
