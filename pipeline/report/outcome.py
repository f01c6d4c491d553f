"""What a build gave, as an object that shows itself in a notebook and on a terminal."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from ..files import real
from ..parity import Row
from . import terminal
from .page import REPORT
from .results import Built, Result, headline

_WIDTH = 150
_STATES = {"verified": "#1a7f37", "open": "#9a6700", "FAILED": "#cf222e"}
"""Colours of verdicts."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What `twinkeel.build` gave.

    Attributes:
        built: all of it.
        folder: with the platforms' folders and the report.
    """

    built: Built
    folder: Path

    @property
    def verified(self) -> bool:
        """Whether every check of every artifact is met."""
        return all(result.is_verified for result in self.built.results)

    @property
    def rows(self) -> list[Row]:
        """The artifacts of all platforms, with all that was measured of each."""
        return [row for result in self.built.results for row in result.rows]

    @property
    def folders(self) -> Mapping[str, Path]:
        """By platform, with kit, artifacts, manifest and evidence."""
        return {result.folder.name: result.folder for result in self.built.results}

    @property
    def report(self) -> Path:
        """The page that shows all of it."""
        return self.folder / REPORT

    @property
    def ran(self) -> list[str]:
        """Names of the jobs that had to run; empty where there was nothing to do."""
        return self.built.ran

    def __str__(self) -> str:
        stream = io.StringIO()
        console = Console(file=stream, width=_WIDTH, highlight=False, color_system=None)
        for result in self.built.results:
            terminal.print_result(result, console)
        console.print(f"{self._verdict()}; {self.report}", markup=False)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        tables = "".join(_table(result) for result in self.built.results)
        place, here = real(self.report), Path.cwd()
        # a notebook serves what lies below it, and browsers follow no other address from there
        address = quote(place.relative_to(here).as_posix()) if place.is_relative_to(here) else place.as_uri()
        link = f'<a href="{html.escape(address)}" target="_blank">{html.escape(str(self.report))}</a>'
        return f"<div><p><b>{html.escape(self._verdict())}</b>; {link}</p>{tables}</div>"

    def _verdict(self) -> str:
        if not self.verified:
            return f"checks failed: {sum(len(terminal.failures(result)) for result in self.built.results)}"
        return headline(self.rows)


def _table(result: Result) -> str:
    headings, lines = terminal.cells(result)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in headings)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in terminal.failures(result))
    return (
        f"<table><caption>{html.escape(str(result.folder))}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<ul>{notes}</ul>" if notes else "")
    )


def _cell(text: str) -> str:
    colour = f' style="color:{_STATES[text]}"' if text in _STATES else ""
    return f"<td{colour}>{html.escape(text).replace(chr(10), '<br>')}</td>"
