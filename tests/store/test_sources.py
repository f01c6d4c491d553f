"""What sources import, remembered: right whatever lies in the cache."""

import json

import platformdirs
import pytest
from twinkeel.pipeline.store import sources

MODULE = "twinkeel.pipeline.store.job"


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """A process that begins: nothing in memory, and a cache of its own."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)

    def begin():
        for remembered in (sources.code_digest, sources._source, sources._remembered):
            remembered.cache_clear()

    begin()
    yield begin
    begin()


def test_a_source_is_parsed_once(anew, monkeypatch, tmp_path):
    first = sources.code_digest((MODULE,)), sources.imported_by(MODULE)
    anew()
    monkeypatch.setattr(sources, "imported", lambda *_: pytest.fail("parsed again"))
    assert (sources.code_digest((MODULE,)), sources.imported_by(MODULE)) == first
    assert [path.name for path in (tmp_path / "twinkeel").iterdir()] == ["sources.json"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", '{"by": 1}', "\0", '{"by": %BY, "sources": []}', '{"by": %BY, "sources": {"a": 3}}',
     '{"by": %BY, "sources": {"a": [["x", "y"]]}}', '{"by": %BY, "sources": {"a": [["x", "y", "z"]]}}',
     '{"by": %BY, "sources": {"a": [["x", 3, []]]}}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_memory_is_none(anew, tmp_path, content):
    wanted = sources.code_digest((MODULE,))
    anew()
    (tmp_path / "twinkeel" / "sources.json").write_text(content.replace("%BY", json.dumps(sources._parser())))
    assert sources.code_digest((MODULE,)) == wanted


def test_what_another_version_remembers_does_not_count(anew, tmp_path):
    wanted = sources.code_digest((MODULE,))
    place = tmp_path / "twinkeel" / "sources.json"
    kept = json.loads(place.read_bytes())
    place.write_text(json.dumps({"by": "0" * 64, "sources": {key: [] for key in kept["sources"]}}))
    anew()
    assert sources.code_digest((MODULE,)) == wanted
    assert json.loads(place.read_bytes()) == kept


def test_a_cache_that_cannot_be_written_is_no_trouble(anew, tmp_path):
    (tmp_path / "twinkeel").write_text("a file where the folder should be")
    assert sources.code_digest((MODULE,))


def test_imports_are_found_wherever_they_stand():
    source = """
from typing import TYPE_CHECKING
from . import errors as faults
if TYPE_CHECKING:
    from .rows import Rows
else:
    from .names import shown
def f(x=faults.One):
    with x:
        try:
            from twinkeel.pipeline import files
        except* ValueError:
            from .exact import g
    match x:
        case 1:
            from .streams import h
    return files.digest, faults.Two.three
"""
    found = {f"{module}.{name}": read for module, name, read in sources.imported(source.encode(), "twinkeel.pipeline")}
    assert found.pop("twinkeel.pipeline.errors") == ["One", "Two"]
    assert found.pop("twinkeel.pipeline.files") == ["digest"]
    assert set(found) == {f"twinkeel.pipeline.{name}" for name in ("names.shown", "exact.g", "streams.h")}
