"""What `fetch.py` got, for tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import FETCHED


def fetched(name: str) -> Path:
    """Path of it; a test is skipped where it is not there, and fails where it has to be."""
    path = FETCHED / name
    if not path.exists():
        missing = f"no {path}: fetch it with python -m nox -s sdk"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return path
