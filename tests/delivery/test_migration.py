"""Versions of kits, and what is told where a rebuild changes what apps rely on."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from twinkeel.pipeline.building import walk
from twinkeel.pipeline.delivery import migration, outputs

CONTRACT = {"task": "classification", "labels": '["cat", "dog"]', "input size": "32 x 32"}


def kit(folder, version="1.0.0+aaaaaaaa", **changes):
    folder.mkdir(parents=True)
    content = {"schema_version": 1, "version": version, "contract": {**CONTRACT, **changes}}
    (folder / migration.CONTRACT).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("version", "semantic"),
    [
        ("1", "1.0.0"),
        (" v2.3 ", "2.3.0"),
        ("1.02.3", "1.2.3"),
        ("1.2.3-rc.1+build", "1.2.3-rc.1"),
        ("spring 2026!", "0.0.0-spring-2026"),
        ("1.2.3.4", "0.0.0-1-2-3-4"),
        ("", "0.0.0-unnamed"),
        ("漢字 \n", "0.0.0-unnamed"),
    ],
)
def test_versions_are_semantic_and_name_the_contract(version, semantic):
    found = migration.semantic_version(version, CONTRACT)
    assert found == f"{semantic}+{migration.digest(CONTRACT)[:8]}"
    assert found != migration.semantic_version(version, {**CONTRACT, "labels": '["dog", "cat"]'})


def test_a_changed_contract_is_told_with_what_to_do(tmp_path):
    old, new = kit(tmp_path / "old"), kit(tmp_path / "new", "1.1.0+bbbbbbbb", labels='["dog", "cat | x"]')
    told = migration.section("android", old, new)
    assert "## android: 1.0.0+aaaaaaaa to 1.1.0+bbbbbbbb" in told and "cat \\| x" in told
    assert "- labels: Numbers of classes mean other names." in told and "input size" not in told
    assert "set [project] version to '2.0.0'" in told
    major = kit(tmp_path / "major", "2.0.0+bbbbbbbb", fit="letterbox")
    assert "[project]" not in migration.section("android", old, major)
    # a version that is no number, or one that falls, comes before the old one
    for version in ("0.0.0-spring+cccccccc", "0.9.0+cccccccc"):
        fallen = kit(tmp_path / version, version, fit="letterbox")
        assert "set [project] version to '2.0.0'" in migration.section("android", old, fallen)


def test_runtimes_of_the_system_are_no_library(tmp_path):
    both = "coreai, coreml on older systems"
    for number, (before, after, is_system) in enumerate(
        [
            ("coreml", both, True),
            (both, "coreai", True),
            ("executorch", "coreml", False),
            ("coreai", "executorch", False),
        ]
    ):
        old = kit(tmp_path / f"{number} old", runtime=before)
        told = migration.section("ios", old, kit(tmp_path / f"{number} new", "2.0.0+bbbbbbbb", runtime=after))
        assert ("another library beside the kit" in told) is not is_system
        assert ("these are parts of iOS" in told) is is_system


def test_equal_contracts_and_kits_of_before_are_not_told(tmp_path):
    one = kit(tmp_path / "one")
    assert not migration.section("ios", one, kit(tmp_path / "two", "3.0.0+aaaaaaaa"))
    assert not migration.section("ios", tmp_path / "none", one)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / migration.CONTRACT).write_text('{"contract": []')
    assert not migration.section("ios", tmp_path / "broken", one)


def test_a_note_grows_from_the_top_and_somebody_elses_stays(tmp_path):
    said = []
    walk._note(tmp_path, ["\n## first\n"], said.append)
    walk._note(tmp_path, ["\n## second\n"], said.append)
    text = (tmp_path / migration.NAME).read_text()
    assert text.startswith("# Migration\n") and text.count("# Migration\n") == 1
    assert text.index("## second") < text.index("## first")
    (tmp_path / migration.NAME).write_text("my own")
    walk._note(tmp_path, ["\n## third\n"], said.append)
    assert (tmp_path / migration.NAME).read_text() == "my own" and "move it away" in said[-1]


def test_a_rebuild_that_changes_the_contract_leaves_a_note(tmp_path):
    out, said = tmp_path / "out", []
    (tmp_path / "work" / "now").mkdir(parents=True)
    kit(out / "android" / "sdk")

    def place(version, **changes):
        shop = SimpleNamespace(fetch=lambda _, staging, name: kit(staging / name / "sdk", version, **changes))
        order = SimpleNamespace(out=out, config=SimpleNamespace(project=SimpleNamespace(name="toy")))
        work = SimpleNamespace(order=order, shop=shop, folder=tmp_path / "work" / "now", say=said.append)
        site = SimpleNamespace(results={walk.report.NAME: SimpleNamespace(files=[])})
        walk._place(work, site, {"android": None}, {})
        shutil.rmtree(tmp_path / "work" / "now" / "android")

    place("1.0.1+aaaaaaaa")
    assert not (out / migration.NAME).exists() and not said
    place("2.0.0+bbbbbbbb", fit="letterbox")
    assert "1.0.1+aaaaaaaa to 2.0.0+bbbbbbbb" in (out / migration.NAME).read_text() and len(said) == 1
    assert migration.NAME in outputs.read_index(out)["files"]
    place("2.0.1+bbbbbbbb", fit="letterbox")
    assert migration.NAME in outputs.read_index(out)["files"] and len(said) == 1
