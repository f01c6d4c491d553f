"""What holds for every target alike."""

from __future__ import annotations

import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.files import digest
from twinkeel.pipeline.program import missing

# targets that share their code are asked once
MODULES = {target.build.__module__: name for name, target in reversed(common.targets().items())}
ARTIFACTS = [(name, precision) for name in MODULES.values() for precision in common.targets()[name].PRECISIONS]


@pytest.mark.parametrize(("name", "precision"), ARTIFACTS)
def test_two_builds_give_equal_bytes(name, precision, shallow_program, tmp_path):
    """Files whose modes a build does not choose are as anyone may read them."""
    target = common.targets()[name]
    if extra := missing(target):
        pytest.skip(f"its packages are not installed: the extra '{extra}'")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second = (target.build(shallow_program, precision, tmp_path / f / f"x{target.SUFFIX}") for f in ("a", "b"))
    assert digest(first) == digest(second)
    files = [path for path in first.rglob("*") if path.is_file()] if first.is_dir() else []
    assert {oct(path.stat().st_mode & 0o777) for path in files} <= {"0o644"}
