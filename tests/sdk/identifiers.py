"""Names that the code of a kit uses itself: a model may call its inputs so."""

from __future__ import annotations

import re
from pathlib import Path


def used(*templates: Path) -> tuple[str, ...]:
    """What is called something in lower case in these templates' code, without comments and what Jinja reads."""
    found: set[str] = set()
    for path in templates:
        text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", path.read_text("utf-8"), flags=re.DOTALL)
        code = re.sub(r"^\s*(?://|/?\*).*$|\s//.*$|\"[^\"\n]*\"", " ", text, flags=re.MULTILINE)
        found |= set(re.findall(r"\b[a-z][A-Za-z0-9]*\b", code))
    return tuple(sorted(found))
