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


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No packages are imported, which takes ten seconds, and no compilers asked but a test's own."""
    known = doctor.failed_imports
    monkeypatch.setattr(doctor, "failed_imports", lambda names: {})
    for name in ("KOTLINC", "SWIFT", "ARM64_PYTHON", "QEMU_X86_64"):
        monkeypatch.delenv(f"TWINKEEL_{name}", raising=False)
    return known


def _script(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


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
    compiler = _script(tmp_path / "kotlinc", "echo 'info: kotlinc-jvm 2.4.20 (JRE 17.0.15+6)' >&2")
    monkeypatch.setenv("TWINKEEL_KOTLINC", str(compiler))
    monkeypatch.setenv("TWINKEEL_SWIFT", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    output = run_cli("doctor").output
    assert re.search(rf"ok +kotlinc +2\.4\.20, {re.escape(str(compiler))}", output)
    assert re.search(r"– +swift +TWINKEEL_SWIFT is '.*gone', and that is not there; compiles the kits", output)


def test_adb_is_found_where_the_command_finds_it(run_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    assert re.search(r"– +adb +times artifacts on a phone: .* ANDROID_HOME", run_cli("doctor").output)
    tools = tmp_path / "sdk" / "platform-tools"
    _script(tools / "adb", "echo Android Debug Bridge version 1.0.41")
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(tmp_path / "sdk"))
    assert adb.program() == str(tools / "adb")
    assert re.search(rf"ok +adb +1\.0\.41, {re.escape(str(tools / 'adb'))}", run_cli("doctor").output)


@pytest.mark.parametrize(
    ("variable", "lines", "expected"),
    [
        ("KOTLINC", ["echo 'info: kotlinc-jvm 1.9.0 (JRE 17)'"], r"DIFFERS +kotlinc +1\.9\.0, .* verified with 2\.x"),
        ("KOTLINC", None, r"BROKEN +kotlinc +\S+ +it cannot be run: Permission denied; TWINKEEL_KOTLINC names it"),
        (
            "SWIFT",
            ["exit 1"],
            r"BROKEN +swift +\S+ +it answers `--version` with nothing and exit code 1, as no swift does",
        ),
        ("SWIFT", ["echo Swift version 6.0.3; exit 1"], "BROKEN +swift .* with 'Swift version 6.0.3' and exit code 1"),
        ("ARM64_PYTHON", ["echo Python 3.11.2 x86_64"], "BROKEN +arm64 Python .* 'Python 3.11.2 x86_64', as no arm64"),
        ("ARM64_PYTHON", ["echo Python 3.11.2 aarch64"], r"ok +arm64 Python +3\.11\.2, "),
        (
            "QEMU_X86_64",
            ["sleep 60 & wait"],
            "BROKEN +qemu-x86_64 .* it does not answer `--version` within 0.5 seconds",
        ),
    ],
)
def test_programs_are_asked_what_they_are(run_cli, monkeypatch, tmp_path, variable, lines, expected):
    monkeypatch.setattr(doctor, "SECONDS", 0.5 if "QEMU" in variable else 20.0)
    program = _script(tmp_path / "program", *(lines or ()))
    if lines is None:
        program.chmod(0o644)
    monkeypatch.setenv(f"TWINKEEL_{variable}", str(program))
    found = run_cli("doctor")
    assert found.exit_code == 0 and re.search(expected, found.output), found.output


def test_what_does_not_import_is_said_with_its_reason(run_cli, monkeypatch, quick, tmp_path):
    modules = {
        "coreai": "raise ImportError('libCoreAI.so: cannot open shared object file')",
        "h5py": "import os; os.abort()",
        "pyarrow": "import time; time.sleep(60)",
        "dask": "print('words of its own', flush=True)",
    }
    for name, text in modules.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(doctor, "IMPORT_SECONDS", 5.0)
    found = quick(["coreai-core", "h5py", "dask", "pyarrow", "click"])
    assert found == {
        "coreai-core": "ImportError: libCoreAI.so: cannot open shared object file",
        "h5py": "it ends its process, by signal 6",
        "pyarrow": "it takes more than 5 seconds",
    }


def test_what_does_not_import_is_an_error_where_a_build_needs_it(run_cli, monkeypatch, installed):
    installed(coreai_core="1.0.0b3", torch="2.14.0")
    reasons = {"coreai-core": "ImportError: libCoreAI.so: cannot open"}
    monkeypatch.setattr(doctor, "failed_imports", lambda names: {n: reasons[n] for n in names if n in reasons})
    found = run_cli("doctor")
    assert found.exit_code == 0, found.output
    assert re.search(
        r"BROKEN +coreai-core +1\.0\.0b3 +does not import: ImportError: libCoreAI\.so: cannot open\. To install it anew: "
        r"pip install --force-reinstall --no-deps 'coreai-core==1\.0\.0b3', or pip uninstall coreai-core",
        found.output,
    )
    reasons["torch"] = "OSError: libtorch.so"
    found = run_cli("doctor")
    assert isinstance(found.exception, ConfigError)
    assert str(found.exception).startswith("torch is installed and does not import, and a build needs it")
    assert re.search(r"BROKEN +torch +2\.14\.0 +does not import: OSError: libtorch\.so; verified with", found.output)


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
    """Nothing heavy is imported here: versions are read from what was installed, and a process of its own imports."""
    code = (
        "import sys\nfrom twinkeel.pipeline import doctor\ndoctor.failed_imports = lambda names: {}\n"
        "from twinkeel.pipeline.cli import cli\ntry: cli(['doctor'])\nexcept SystemExit as end: print('CODE', end.code)\n"
        "heavy = {'torch', 'numpy', 'coreai', 'onnx', 'coremltools', 'pydantic', 'PIL', 'sklearn'}\n"
        "print('HEAVY', sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "CODE 0" in done.stdout and "HEAVY []" in done.stdout, done.stdout
