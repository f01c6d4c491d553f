"""The making of artifacts: what converters leave behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from twinkeel.pipeline.building.jobs import lower


def test_what_a_converter_forgets_is_gone_with_its_job(tmp_path):
    before = tempfile.gettempdir()
    with lower._temporary_files_in(tmp_path):
        left = Path(tempfile.mkdtemp(suffix=".mlpackage"))
        assert tmp_path in left.parents
    with pytest.raises(ZeroDivisionError), lower._temporary_files_in(tmp_path):
        tempfile.mkstemp()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [] and tempfile.gettempdir() == before
