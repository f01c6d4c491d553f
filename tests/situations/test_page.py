"""The page of the situations is what the tests say."""

from __future__ import annotations

import re

import situations


def test_the_page_is_what_the_tests_say():
    assert situations.PAGE.read_text(encoding="utf-8") == situations.page(), "run tests/situations/situations.py"


def test_every_file_of_tests_is_on_it():
    known = {path.stem.removeprefix("test_") for path in situations.HERE.glob("test_*.py")} - {"page"}
    assert known == set(situations.FILES)


def test_each_situation_is_said_once_and_reports_are_named_by_repository_and_number():
    found = [one for name in situations.FILES for one in situations.situations(name)]
    assert len({one.what for one in found}) == len(found) >= 62
    for one in found:
        assert re.fullmatch(r"([\w.-]+/[\w.-]+#\d+)?", one.reported), one
        assert "|" not in one.what + one.gives and "\n" not in one.what + one.gives, one
    assert sum(bool(one.reported) for one in found) >= 40
