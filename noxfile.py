"""Sessions. All heavy ones share one environment below .nox/shared, so that a fresh machine installs it once."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

SHARED = Path(".nox") / "shared"
# torch's threads spin while they wait, which starves the worker processes; and for maps of 32 pixels two of them take 1.5 times
# the time of the processor that one takes, where two processes have two cores
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
# two: the builds among the tests take all cores by themselves; files in the order of tests/conftest.py, longest first
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations", "40")
# what is left out of the check of benchmarks: they are read to see names and arguments that are gone
LOOSE = ("arg-type", "dict-item", "misc", "no-any-return", "no-untyped-call", "operator", "union-attr")
CORE_AI = ("tests/program/test_coreai.py", "tests/targets/test_coreai.py", "tests/targets/test_coreai_faults.py")
# what Apple's packages take that the environment has not
ITS_OWN = ("yuvio", "strenum")
SOURCES = ("api", "model", "pipeline", "targets", "tests", "benchmarks", "docs", "noxfile.py")


def shared(session: nox.Session, *extras: str) -> str:
    """The shared environment's bin folder, with the project and the named extras installed."""
    folder = SHARED / ("Scripts" if sys.platform == "win32" else "bin")
    if not (folder / "python").exists() and not (folder / "python.exe").exists():
        shutil.rmtree(SHARED, ignore_errors=True)
        session.run(sys.executable, "-m", "virtualenv", "--quiet", str(SHARED), external=True)
    python = str(folder / "python")
    # torch first: a wheel that pip already knows (a CPU build, say) is kept
    session.run(python, "-m", "pip", "install", "--quiet", "torch==2.13.0", external=True)
    wanted = f".[{','.join(extras)}]" if extras else "."
    session.run(python, "-m", "pip", "install", "--quiet", wanted, external=True)
    # a version that did not change is not reinstalled, its sources may have been
    session.run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", ".", external=True)
    return python


@nox.session(venv_backend="none")
def build_android(session: nox.Session) -> None:
    """Build and verify every Android artifact; arguments after -- go to `twinkeel build android`."""
    python = Path(shared(session))
    session.run(str(python.with_name("twinkeel")), "build", "android", *session.posargs, external=True)


@nox.session(venv_backend="none")
def build_ios(session: nox.Session) -> None:
    """Build and verify every iOS artifact; arguments after -- go to `twinkeel build ios`."""
    python = Path(shared(session))
    session.run(str(python.with_name("twinkeel")), "build", "ios", *session.posargs, external=True)


def fetch_real(session: nox.Session, python: str) -> None:
    """What packages carry of Android and of Apple's SDK, into .nox/real; what cannot be had is said, and its tests are skipped."""
    session.run(python, "-m", "real.fetch", str(Path(".nox") / "real"), env={"PYTHONPATH": "tests/sdk"}, external=True)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests, two files at a time; `-- -n 0` runs one after the other."""
    python = shared(session, "test")
    if os.environ.get("CI"):
        fetch_real(session, python)
    session.run(python, "-m", "pytest", *SIDE_BY_SIDE, *session.posargs, env=PATIENT, external=True)
    if not session.posargs:
        with_core_ai(session, python)


def with_core_ai(session: nox.Session, python: str) -> None:
    """The tests that ask Apple's runtime. Its packages lie beside the environment, not in it: where they are installed every build
    of all has a target more, which takes a second an image."""
    wanted = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["coreai"]
    folder = Path(".nox") / "coreai"
    session.run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--target",
        str(folder),
        "--no-deps",
        *wanted,
        *ITS_OWN,
        external=True,
    )
    paths = PATIENT | {"PYTHONPATH": str(folder.resolve())}
    session.run(python, "-m", "pytest", "-n", "2", *CORE_AI, env=paths, external=True)


@nox.session(venv_backend="none", default=False)
def coreai(session: nox.Session) -> None:
    """The tests of Core AI alone, with Apple's packages."""
    with_core_ai(session, shared(session, "test"))


@nox.session(venv_backend="none", default=False)
def sdk(session: nox.Session) -> None:
    """Compile the kits and run their tests with kotlinc and swift, from the PATH or TWINKEEL_KOTLINC and TWINKEEL_SWIFT.

    The first lines say what is real of the platforms, and what are stubs.
    """
    python = shared(session, "test")
    fetch_real(session, python)
    session.run(python, "-m", "pytest", "-rs", "tests/sdk", *session.posargs, env=PATIENT, external=True)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types of the installed package, strictly, and that benchmarks ask for what there is."""
    python = shared(session, "dev")
    session.run(python, "-m", "mypy", "-p", "twinkeel", external=True)
    loose = [f"--disable-error-code={code}" for code in LOOSE]
    paths = {"MYPYPATH": "benchmarks:tests/networks"}
    session.run(
        python, "-m", "mypy", *loose, *map(str, sorted(Path("benchmarks").glob("*.py"))), env=paths, external=True
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Run a benchmark by its name below benchmarks/, input_contract by default; what follows goes to it."""
    name, *arguments = session.posargs or ["input_contract"]
    session.run(shared(session), f"benchmarks/{name}.py", *arguments, external=True)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Make the pages of docs/ in .nox/docs-site; a broken link fails. `-- serve` shows them as they are edited."""
    session.install(*nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["docs"])
    # without --quiet: with it mkdocs counts no warnings, and --strict lets all of them pass
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))
