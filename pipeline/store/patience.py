"""A file system that is asked again where it does not answer: an object store that is restarted, a network that is gone for a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_ANSWERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, ValueError)
"""What a file system says of a file; all else is no answer."""
_FIRST, _LONGEST = 0.25, 10.0
"""Seconds before it is asked again, twice as many each time."""


class Patient:
    """The file system of fsspec behind it; each call is repeated until it is answered, or the time for it is over.

    Args:
        seconds: how long a call is repeated.
    """

    def __init__(self, files: Any, seconds: float) -> None:
        self._files, self._seconds = files, seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        return self._repeated(found) if callable(found) else found

    def _repeated(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            end, pause = time.monotonic() + self._seconds, _FIRST
            while True:
                try:
                    return call(*args, **kwargs)
                except _ANSWERS:
                    raise
                except Exception:  # drivers raise anything
                    if time.monotonic() + pause > end:
                        raise
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST)

        return asked
