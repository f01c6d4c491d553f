"""A file system that is asked again where it does not answer: an object store that is restarted, a network that is gone for a minute."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from .advice import has_no_keys

_ANSWERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, ValueError)
"""What a file system says of a file; all else is no answer."""
_FIRST, _LONGEST = 0.25, 10.0
"""Seconds before it is asked again, twice as many each time."""


class Patient:
    """The file system of fsspec behind it; each call is repeated until it is answered, or the time for it is over.

    Args:
        seconds: how long a call is repeated.
        home: a folder of this machine without which there is no answer, as of a share that is not mounted: its files are not gone, and
            nothing is to be written in its place.
    """

    def __init__(self, files: Any, seconds: float, home: str = "") -> None:
        self._files, self._seconds, self._home = files, seconds, home

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        return self._repeated(found) if callable(found) else found

    def _repeated(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            end, pause = time.monotonic() + self._seconds, _FIRST
            while True:
                try:
                    self._check_home()
                    return call(*args, **kwargs)
                except _ANSWERS:
                    if self._is_home():
                        raise
                    if time.monotonic() + pause > end:
                        self._check_home()
                except Exception as error:  # drivers raise anything
                    if has_no_keys(error) or time.monotonic() + pause > end:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)

        return asked

    def _is_home(self) -> bool:
        return not self._home or os.path.isdir(self._home)  # noqa: PTH112  before each call

    def _check_home(self) -> None:
        if not self._is_home():
            raise OSError(f"the folder '{self._home}' is gone")
