"""The wheel holds exactly the tree, and is all that `import twinkeel` needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_the_files_of_the_tree(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("twinkeel/")}
        wheel.extractall(tmp_path / "installed")
    places = {"api": "twinkeel"} | {folder: f"twinkeel/{folder}" for folder in ("model", "pipeline", "targets")}
    tree = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in places.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert packed == tree
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    code = "import twinkeel; print(twinkeel.__file__, twinkeel.build.__module__)"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert told.stdout.split() == [str(tmp_path / "installed/twinkeel/__init__.py"), "twinkeel.pipeline.cli.calling"], (
        told
    )
