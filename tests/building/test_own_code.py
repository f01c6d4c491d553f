"""A user's own network is known by all that its code is made of."""

from __future__ import annotations

import sys
import time

import pytest
from twinkeel.pipeline import noted
from twinkeel.pipeline.building import own_code
from twinkeel.pipeline.building.factories import Factory
from twinkeel.pipeline.errors import ConfigError

FILES = {
    "net.py": "from parts.cfg import K\nimport os; import elsewhere, beside\nPATH = 'tables/steps.json'\ndef create(**_):\n    import late\n",
    "beside.py": "import importlib\nKIND = importlib.import_module('kinds.' + 'small')\nREAD = ['tables/größe 1.txt', 'scale']\n",
    "parts/cfg.py": "from .deep import inner\nK = 8\n",
    "parts/deep/inner.py": "J = 1\n",
    "kinds/small.py": "",
    "tables/steps.json": "[1]",
    "tables/größe 1.txt": "[1]",
    "tables/scale": "[1]",
    "tables/other.json": "[1]",
    "data/cats/readme.py": "",
    "elsewhere.py": "",
}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


@pytest.fixture(params=[False, True], ids=["read", "remembered"], autouse=True)
def remembers(request, monkeypatch):
    """What was at rest for a while is not read again; here, as if all had been."""
    monkeypatch.setattr(own_code, "_known", {})
    monkeypatch.setattr(own_code, "_sources", {})
    if request.param:
        monkeypatch.setattr(noted, "SETTLED", -(10**18))
    return request.param


def digest(project, source="net.py", **arguments):
    found = Factory.of(f"{project / source}:create", arguments).digest()
    time.sleep(0.02)  # a tick of the file system's clock
    return found


def test_what_has_not_changed_is_not_read_again(project, monkeypatch, remembers):
    read, parsed, look, parse = [], [], own_code._Code.take_file, own_code._Source.of
    monkeypatch.setattr(own_code._Code, "take_file", lambda code, *given: read.append(given) or look(code, *given))
    monkeypatch.setattr(own_code._Source, "of", lambda content: parsed.append(content) or parse(content))
    before = digest(project)
    few, sources = len(read), len(parsed)
    assert few >= sources > 3 and digest(project) == before
    assert len(read) == (few if remembers else 2 * few)
    assert len(parsed) == sources == len(set(parsed))  # of what it says, not of where it lies
    # a module that was not there, and one behind a link that led nowhere
    (project / "later.py").symlink_to(project.parent / "later.py")
    dangling = digest(project)
    (project.parent / "later.py").write_text("")
    assert digest(project) != dangling
    (project.parent / "more").mkdir()
    monkeypatch.syspath_prepend(project.parent / "more")
    (project / "beside.py").write_text(FILES["beside.py"] + "import further\n")
    without = digest(project)
    (project.parent / "more" / "further.py").write_text("")
    assert digest(project) != without


@pytest.mark.parametrize("name", [name for name in FILES if "other" not in name and "data" not in name])
def test_a_change_of_what_the_code_imports_or_reads_is_one_of_the_model(name, project):
    before = digest(project)
    assert digest(project) == before
    (project / name).write_text(FILES[name] + " ")
    assert digest(project) != before


@pytest.mark.parametrize("name", ["tables/other.json", "data/cats/readme.py"])
def test_what_the_code_does_not_speak_of_is_none(name, project):
    before = digest(project)
    (project / name).write_text("changed")
    assert digest(project) == before


def test_a_file_that_an_argument_names_is_part_of_the_model(project):
    given = {"more": {"tables": ["tables/other.json"]}}
    before = digest(project, **given)
    (project / "tables" / "other.json").write_text("[2]")
    assert digest(project, **given) != before


def test_links_are_followed_and_may_lead_round(project, tmp_path):
    (project / "itself").symlink_to("itself")
    (project / "parts" / "itself").symlink_to("itself")
    (project / "parts").rename(tmp_path / "away")
    (project / "parts").symlink_to(tmp_path / "away")
    (tmp_path / "away" / "deep" / "parts").symlink_to(tmp_path / "away")
    before = digest(project)
    (tmp_path / "away" / "deep" / "inner.py").write_text("J = 2\n")
    assert digest(project) != before


def test_all_of_a_package_counts_and_what_it_imports_beside_itself(project, monkeypatch):
    (project / "__init__.py").touch()
    (project.parent / "sibling.py").write_text("")
    (project / "beside.py").write_text("import sibling\n")
    before = digest(project)
    (project / "data" / "cats" / "readme.py").write_text("changed")
    changed = digest(project)
    (project.parent / "sibling.py").write_text("changed")
    assert len({before, changed, digest(project)}) == 3


def test_modules_elsewhere_on_the_path_count_by_their_files_and_installed_ones_by_their_versions(
    project, tmp_path, monkeypatch
):
    (tmp_path / "lib" / "ours").mkdir(parents=True)
    (tmp_path / "lib" / "ours" / "__init__.py").write_text("from .core import a\n")
    (tmp_path / "lib" / "ours" / "core.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    (project / "net.py").write_text("import os, torch, PIL\nif True: from ours import a\ndef create(): ...\n")
    found = own_code.digests(project / "net.py", project)
    assert {"ours:__init__.py", "ours:core.py", "net.py"} <= found.keys() and "os" not in found
    assert found["torch"].startswith("2.") and found["PIL"] and "ours" not in sys.modules
    (project / "ours").mkdir()  # data, which Python does not take for the package
    assert own_code.digests(project / "net.py", project) == found
    monkeypatch.setattr(own_code, "_FILES_AT_MOST", 3)  # too many to look at all: those that are spoken of
    (tmp_path / "lib" / "ours" / "deep").mkdir()
    (tmp_path / "lib" / "ours" / "deep" / "more.py").write_text("")
    (project / "net.py").write_text("from ours import a\n")
    few = {name: FILES.get(name) for name in ("beside.py", "elsewhere.py")}
    for name in few:
        (project / name).unlink()
    assert own_code.digests(project / "net.py", project).keys() == {"net.py", "ours:__init__.py", "ours:core.py"}


def test_a_module_among_all_that_is_installed_is_alone(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    (place / "other").mkdir(parents=True)
    (place / "other" / "__init__.py").write_text("")
    (place / "net.py").write_text("import other\ndef create(): ...\n")
    monkeypatch.syspath_prepend(str(place))
    assert list(own_code.digests(Factory.of("net:create", {}).file(), place)) == ["net.py", "other"]


LATE = """
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        from lazily.inner import K
        return x * K
def create():
    from later import scale
    return Net()
"""


def test_functions_of_the_code_may_import_too(tmp_path):
    (tmp_path / "lazily").mkdir()
    (tmp_path / "lazily" / "inner.py").write_text("K = 3\n")
    (tmp_path / "later.py").write_text("scale = 1\n")
    (tmp_path / "late.py").write_text(LATE)
    before = list(sys.path)
    try:
        network = Factory.of(f"{tmp_path / 'late.py'}:create", {})(0, 1.0)
        assert network(2) == 6
    finally:
        sys.path[:] = before


def test_too_many_files_are_an_error(project, monkeypatch):
    monkeypatch.setattr(own_code, "_FILES_AT_MOST", 3)
    with pytest.raises(ConfigError, match=r"more than 3 Python files; put the model into a package"):
        digest(project)
