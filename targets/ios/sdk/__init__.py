"""The kit for iOS: a Swift package and a sample app."""

from __future__ import annotations

from pathlib import Path

from twinkeel.pipeline.sdk import Contents


def write(contents: Contents, out: Path) -> None:
    """Write the kit, its tests and its sample app into the folder `out`, which does not exist yet."""
    out.mkdir()
