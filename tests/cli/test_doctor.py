"""`twinkeel doctor`: what it says of this machine, and that its versions are those that the package asks for."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from twinkeel.pipeline import doctor, verified
from twinkeel.pipeline.devices import adb
from twinkeel.pipeline.errors import ConfigError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _asked(requirements):
    found = {}
    for one in requirements:
        name, version = re.fullmatch(r"([A-Za-z0-9_.-]+?)((?:==|>=).+)?", one).groups()
        found[name] = version or ""
    return found


def test_versions_are_those_of_the_package():
    assert dict(verified.REQUIRED) == _asked(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    assert set(verified.EXTRAS) == set(extras) - {"test", "dev", "docs"}
    for name, extra in verified.EXTRAS.items():
        assert dict(extra.packages) == _asked(extras[name]) and extra.gives
    first, last = (".".join(map(str, one)) for one in verified.PYTHON)
    assert PROJECT["requires-python"] == f">={first},<{last}"


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("2.13.0", "==2.13.0", True),
        ("2.13.0+cpu", "==2.13.0", True),
        ("2.13.1", "==2.13.0", False),
        ("1.0.0b3", "==1.0.0b3", True),
        ("1.0.0b4", "==1.0.0b3", False),
        ("8.10", ">=8.9", True),
        ("8.1", ">=8.10", False),
        ("10.0", ">=9", True),
        ("8", ">=8.0", True),
        ("1.10", ">=1.1", True),
        ("0.1", "", True),
    ],
)
def test_versions_are_compared_as_numbers(version, wanted, expected):
    assert doctor.fits(version, wanted) is expected


@pytest.fixture
def installed(monkeypatch):
    """Pretend that these versions are installed in the place of the real ones; None for none."""

    def pretend(**versions):
        known = importlib.metadata.version
        changed = {name.replace("_", "-"): version for name, version in versions.items()}

        def version(name):
            if name not in changed:
                return known(name)
            if changed[name] is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return changed[name]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


def test_another_version_is_said_and_no_error(run_cli, installed):
    installed(torch="2.14.0", coreai_core=None, h5py=None)
    found = run_cli("doctor")
    assert found.exit_code == 0, found.output
    assert re.search(r"DIFFERS +torch +2\.14\.0 +verified with ==2\.13\.0: pip install 'torch==2\.13\.0'", found.output)
    assert re.search(r"– +coreai-core +ios/coreai: .* pip install 'twinkeel\[coreai\]'", found.output)
    assert re.search(r"– +h5py +reads Keras's .* pip install 'twinkeel\[keras\]'", found.output)


def test_what_a_build_needs_is_an_error(run_cli, installed):
    installed(onnxruntime=None, coremltools=None)
    found = run_cli("doctor")
    assert isinstance(found.exception, ConfigError)
    assert str(found.exception) == (
        "coremltools, onnxruntime are not installed, and a build needs them: pip install twinkeel"
    )
    assert re.search(r"MISSING +coremltools +pip install twinkeel", found.output)


def test_compilers_are_found_where_the_variables_say(run_cli, monkeypatch, tmp_path):
    compiler = tmp_path / "kotlinc"
    compiler.touch()
    monkeypatch.setenv("TWINKEEL_KOTLINC", str(compiler))
    monkeypatch.setenv("TWINKEEL_SWIFT", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    output = run_cli("doctor").output
    assert re.search(rf"ok +kotlinc +{re.escape(str(compiler))}", output)
    assert re.search(r"– +swift +TWINKEEL_SWIFT is '.*gone', and that is not there; compiles the kits", output)


def test_adb_is_found_where_the_command_finds_it(run_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    assert re.search(r"– +adb +times artifacts on a phone: .* ANDROID_HOME", run_cli("doctor").output)
    tools = tmp_path / "sdk" / "platform-tools"
    tools.mkdir(parents=True)
    (tools / "adb").write_text("#!/bin/sh\n")
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(tmp_path / "sdk"))
    assert adb.program() == str(tools / "adb")
    assert re.search(rf"ok +adb +{re.escape(str(tools / 'adb'))}", run_cli("doctor").output)


@pytest.mark.parametrize(("system", "state"), [("Darwin", "ok"), ("Linux", "–")])
def test_what_of_the_system_runs_artifacts_is_said(run_cli, monkeypatch, system, state):
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    output = run_cli("doctor").output
    assert re.search(rf"{state} +Core ML ", output)
    assert ("xcrun" in output) == ("MPS" in output) == (system == "Darwin")


def test_it_needs_neither_torch_nor_a_converter():
    """Nothing but what the command line itself imports is there: all else is missing, and said to be."""
    code = (
        "import importlib.metadata as metadata, sys\n"
        "kept = {'click', 'rich', 'markdown-it-py', 'pygments', 'mdurl'}\n"
        "class Nothing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'numpy', 'pydantic', 'jinja2', 'PIL', 'yaml', 'scipy', 'fsspec'}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Nothing())\n"
        "known = metadata.version\n"
        "def version(name):\n"
        "    if name not in kept: raise metadata.PackageNotFoundError(name)\n"
        "    return known(name)\n"
        "metadata.version = version\n"
        "from twinkeel.pipeline.cli import main\n"
        "sys.argv[1:] = ['doctor']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert re.search(r"MISSING +torch +pip install twinkeel", done.stdout) and "numpy, lazy-loader" in done.stderr


def test_it_is_instant():
    """Nothing heavy is imported: versions are read from what was installed."""
    code = (
        "import sys\nfrom twinkeel.pipeline.cli import cli\ntry: cli(['doctor'])\nexcept SystemExit as end: print('CODE', end.code)\n"
        "heavy = {'torch', 'numpy', 'coreai', 'onnx', 'coremltools', 'pydantic', 'PIL', 'sklearn'}\n"
        "print('HEAVY', sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "CODE 0" in done.stdout and "HEAVY []" in done.stdout, done.stdout
