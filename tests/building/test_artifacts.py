"""The making of artifacts: what is said meanwhile, and what converters leave behind."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from twinkeel.pipeline.building.jobs import artifact, lower


def test_what_a_process_has_converted_is_told_while_it_makes_more(monkeypatch):
    known, lines = set(), []
    target = SimpleNamespace(NAME="android/litert")
    work = SimpleNamespace(
        order=SimpleNamespace(targets={"android/litert": target}),
        shop=SimpleNamespace(lookup=lambda key: True if key in known else None),
        say=lambda line, step: lines.append((line.split(" after")[0], step)),
    )
    monkeypatch.setattr(artifact, "EVERY", 0.01)
    monkeypatch.setattr(artifact, "SILENT", 0.1)
    monkeypatch.setattr(artifact.lower, "lower_job", lambda site, target, precision: SimpleNamespace(key=precision))
    one, other = Future(), Future()
    tasks = {one: [[("android/litert", "fp32")], [("android/litert", "int8")]], other: [[("android/litert", "fp16")]]}
    found = artifact._completed(work, None, tasks)
    threading.Timer(0.2, known.add, ["fp32"]).start()
    threading.Timer(0.5, other.set_result, [None]).start()
    assert next(found) is other
    assert ("artifacts: 1 of 3 converted", (1, 3)) in lines and lines[0] == ("artifacts: 0 of 3 converted", (0, 3)), (
        lines
    )
    assert 3 <= len(lines) < 10, lines
    one.set_result(None)
    assert list(found) == [one]


def test_what_a_converter_forgets_is_gone_with_its_job(tmp_path):
    before = tempfile.gettempdir()
    with lower._temporary_files_in(tmp_path):
        left = Path(tempfile.mkdtemp(suffix=".mlpackage"))
        assert tmp_path in left.parents
    with pytest.raises(ZeroDivisionError), lower._temporary_files_in(tmp_path):
        tempfile.mkstemp()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [] and tempfile.gettempdir() == before
