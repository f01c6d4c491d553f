"""The rungs of the ladder, a method of quantization each; a module that is dropped in is tried as well."""

from __future__ import annotations

import pkgutil


def names() -> list[str]:
    """Of the modules, which are imported where the ladder is climbed: they need torch."""
    return sorted(f"{__name__}.{entry.name}" for entry in pkgutil.iter_modules(__path__))
