"""Which runtimes can run artifacts in this Python."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from ..program import Runtime


def missing(runtime: Runtime) -> str:
    """Why it cannot run here, without importing it; empty where it can."""
    if reason := runtime.missing() if hasattr(runtime, "missing") else "":
        return str(reason)
    lacking = [name for name in runtime.MODULES if importlib.util.find_spec(name.partition(".")[0]) is None]
    return f"there is no {lacking[0]} here: pip install {' '.join(runtime.PACKAGES)}" if lacking else ""


def versions(runtime: Runtime) -> dict[str, str]:
    """Of its packages, as far as they are installed."""
    found = {}
    for name in runtime.PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found
