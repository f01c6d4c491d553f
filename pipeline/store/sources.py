"""The sources that a result is computed by: their hash, with all of this project that they import, at any depth.

What a source imports is found by parsing it, and remembered in this user's cache by the hash of the source: a build that has nothing to
do would spend most of its time with that.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..files import keep

_PACKAGE = __name__.split(".", 1)[0]
_MOST_ROWS = 3000
"""Remembered sources, of this version and of those before, above which those that are not asked for are forgotten."""

Imported = tuple[str, str, list[str]]
"""A module, the name that is taken from it, and what is read of that name: ``a`` where a source says ``name.a``."""


def imported_by(module: str) -> tuple[str, ...]:
    """The modules of this project that a module imports, without importing it; and names that are something in one."""
    source = _source(module)
    return () if source is None else source[1]


@functools.cache
def code_digest(modules: tuple[str, ...], glue: tuple[str, ...] = ()) -> str:
    """SHA-256 of the sources of modules and of everything of this project that they import, at any depth.

    Args:
        glue: modules that count without what they import.
    """  # sources are read once, so an answer stays the same in a process
    seen = {name: source[0] for name in glue if (source := _source(name)) is not None}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            source = _source(name)
            if source is None:
                continue
            seen[name], imported = source
            waiting += imported
    _remembered().keep()
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


@functools.cache
def _source(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Hash of a module's source, and the modules of its package that it imports; None where there is no such module."""
    path = _file(name)
    if path is None:
        return None
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    if b"templates" in content:  # a module that speaks of templates has them beside it
        for template in sorted(p for p in (path.parent / "templates").rglob("*") if p.is_file()):
            digest.update(template.read_bytes())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return digest.hexdigest(), tuple(sorted(set(_imports(_remembered().imported(content, package)))))


@functools.cache
def _file(name: str) -> Path | None:
    """Where a module's source lies, found without importing it; None for a name that is something in a module."""
    top, *rest = name.split(".", 2) if name.split(".")[0] == _PACKAGE else [name]
    origin = _origin(".".join([top, *rest[:1]]))
    if origin is None:
        return None
    path = origin
    if len(rest) > 1:
        path = path.parent.joinpath(*rest[1].split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path if path.suffix == ".py" and path.is_file() else None


@functools.cache
def _origin(name: str) -> Path | None:
    """Of a module of the top, or of one just below it."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _imports(imported: list[Imported]) -> Iterator[str]:
    """The modules behind what a source imports: of a room with a door, those of the names that are taken from it."""
    for found, name, read in imported:
        if names := _door(found):
            yield names.get(name, f"{found}.{name}")  # in the room itself, a module that the door does not name
        elif names := _door(f"{found}.{name}"):
            yield from filter(None, map(names.get, read))
        else:
            yield from (found, f"{found}.{name}")


class _Memory:
    """What sources import, by the hash of their content. It speeds up, and is never needed.

    Attributes:
        rows: all that is known.
        asked: what this process asked for.
        is_new: there is something to keep.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.asked, self.is_new = place, set[str](), False
        self.rows: dict[str, list[Imported]] = {}
        try:
            found = json.loads(place.read_bytes())
            if found["by"] == _parser():
                self.rows = {str(key): [_row(row) for row in rows] for key, rows in found["sources"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.rows = {}  # none, or of something else

    def imported(self, content: bytes, package: str) -> list[Imported]:
        key = f"{package} {hashlib.sha256(content).hexdigest()}"
        self.asked.add(key)
        if key not in self.rows:
            self.rows[key] = imported(content, package)
            self.is_new = True
        return self.rows[key]

    def keep(self) -> None:
        if not self.is_new:
            return
        if len(self.rows) > _MOST_ROWS:
            self.rows = {key: rows for key, rows in self.rows.items() if key in self.asked}
        keep(json.dumps({"by": _parser(), "sources": self.rows}, separators=(",", ":")).encode(), self.place)
        self.is_new = False


@functools.cache
def _remembered() -> _Memory:
    import platformdirs

    return _Memory(Path(platformdirs.user_cache_path("twinkeel")) / "sources.json")


@functools.cache
def _parser() -> str:
    """This file's own hash: another version may find other imports."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _row(row: Any) -> Imported:
    module, name, read = row
    if not isinstance(read, list) or not all(isinstance(text, str) for text in (module, name, *read)):
        raise TypeError(row)
    return module, name, read


def imported(content: bytes, package: str) -> list[Imported]:
    """What a source imports from this project, in functions too; not what it imports for types alone.

    Args:
        package: that relative imports begin from.
    """
    tree = ast.parse(content)
    read = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            read[node.value.id].add(node.attr)
    return [(found, name, sorted(read[alias])) for found, name, alias in _statements(tree, package)]


def _statements(tree: ast.AST, package: str) -> Iterator[tuple[str, str, str]]:
    """(module, name, what it is called) of each import from this project."""
    children: Iterable[ast.AST] = ast.iter_child_nodes(tree)
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children = tree.orelse
    for node in children:
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found = importlib.util.resolve_name(base, package) if node.level else base
            if found.split(".")[0] == _PACKAGE:
                yield from ((found, alias.name, alias.asname or alias.name) for alias in node.names)
        elif not isinstance(node, ast.expr):  # none has a statement inside
            yield from _statements(node, package)


@functools.cache
def _door(package: str) -> dict[str, str]:
    """Name -> module of all that a room names in its ``__init__.pyi``; nothing where it has none."""
    path = _file(f"{package}.__init__")
    stub = None if path is None else path.with_suffix(".pyi")
    if stub is None or not stub.is_file():
        return {}
    imports = [node for node in ast.parse(stub.read_bytes()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{package}.{node.module or alias.name}" for node in imports for alias in node.names}
