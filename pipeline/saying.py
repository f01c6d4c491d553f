"""What long work speaks through."""

from __future__ import annotations

from typing import Protocol


class Say(Protocol):
    """Where progress goes: a line, and for long work how much of it is done."""

    def __call__(self, line: str, progress: tuple[int, int] | None = None, /) -> None: ...
