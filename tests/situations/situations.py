"""Situations of users' files: each is a test that says what is fed in, what happens, and where it was reported.

`python tests/situations/situations.py` writes the page `docs/situations.md` from what the tests say.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "situations.md"
FILES = ("checkpoints", "no_checkpoints", "pictures", "sets", "lists", "folders", "machines")
"""Of the tests, in the order of the page: `test_checkpoints.py` and so on."""

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Situation:
    """One test.

    Attributes:
        test: its function's name.
        what: is fed in.
        gives: what happens then.
        reported: a public report of it, ``owner/repository#number``; empty where there is none.
    """

    test: str
    what: str
    gives: str
    reported: str = ""


def situation(what: str, gives: str, *, reported: str = "") -> Callable[[F], F]:
    """Say what a test is about; the page is made from the sources, so that the words stand there as literals."""
    return lambda test: test


def page() -> str:
    """Markdown: a table for each file of tests."""
    known = {name: list(situations(name)) for name in FILES}
    count = sum(map(len, known.values()))
    lines = [
        "# Users' files",
        "",
        f"What people have on their disks is seldom what a guide assumes. {count} situations, most of them from public reports of "
        "other projects; each is a test in `tests/situations/`, which makes such a file, feeds it in and checks what comes out.",
        "",
        "<!-- made by tests/situations/situations.py from the tests; edit those -->",
    ]
    for name, found in known.items():
        lines += ["", f"## {title(name)}", "", "| what is fed in | what happens | reported |", "|---|---|---|"]
        lines += [f"| {one.what} | {one.gives} | {_link(one.reported)} |" for one in found]
    return "\n".join(lines) + "\n"


def title(name: str) -> str:
    """The first sentence of a file of tests."""
    return (ast.get_docstring(_tree(name)) or "").split(".")[0]


def situations(name: str) -> Iterator[Situation]:
    """What each test of a file says.

    Raises:
        ValueError: one says nothing.
    """
    for function in _tree(name).body:
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
            continue
        said = [node for node in function.decorator_list if isinstance(node, ast.Call) and _is_ours(node)]
        if len(said) != 1:
            raise ValueError(f"{name}: {function.name} does not say its situation, by `@situation(...)`")
        more = {one.arg: ast.literal_eval(one.value) for one in said[0].keywords}
        yield Situation(function.name, *map(ast.literal_eval, said[0].args), **more)


def _is_ours(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == situation.__name__


def _tree(name: str) -> ast.Module:
    return ast.parse((HERE / f"test_{name}.py").read_text(encoding="utf-8"))


def _link(reported: str) -> str:
    repository, _, number = reported.partition("#")
    return f"[{reported}](https://github.com/{repository}/issues/{number})" if reported else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
