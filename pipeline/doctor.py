"""What of this machine a build can use: packages beside those that were verified together, compilers, accelerators."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .reading import shown
from .verified import EXTRAS, IMPORTS, PYTHON, REQUIRED

State = Literal["ok", "differs", "broken", "missing", "absent"]

SECONDS = 60.0
"""After which a program is not waited for: kotlinc takes four, and ten times that where all else is at work too."""
IMPORT_SECONDS = 300.0
"""The same of all imports: they take ten, and a minute where nothing of them was read before."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        state: ``ok``, ``differs`` (another version than was verified), ``broken`` (it is there and does not work), ``missing`` (a build
            needs it), ``absent`` (it does without).
        found: what is there, a version or a path; empty for nothing.
        told: what it gives, what was verified, what is wrong with it, or what to do.
        is_needed: by every build.
    """

    title: str
    name: str
    state: State
    found: str = ""
    told: str = ""
    is_needed: bool = False


def look() -> list[Finding]:
    """All findings, in the order in which they are told. Programs are asked for their versions, and packages imported, all in
    processes of their own and side by side: a broken one may end its process, or never answer."""
    with ThreadPoolExecutor() as pool:
        programs = [pool.submit(_found, one) for one in _programs()]
        reasons = failed_imports([name for name in _named() if _version(name)])
        return [
            *_python(),
            *_packages(reasons),
            *_extras(reasons),
            *(_told(one.result()) for one in programs),
            *_runtimes(),
            *_accelerators(),
        ]


def _named() -> list[str]:
    """All distributions that are spoken of."""
    return list(dict.fromkeys((*REQUIRED, *(name for one in EXTRAS.values() for name in one.packages))))


def _python() -> Iterator[Finding]:
    first, last = (".".join(map(str, version)) for version in PYTHON)
    is_known = PYTHON[0] <= sys.version_info[:2] < PYTHON[1]
    yield Finding(
        title="Python",
        name="Python",
        state="ok" if is_known else "differs",
        found=f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        told="" if is_known else f"verified from {first} on, before {last}",
    )


def _packages(reasons: Mapping[str, str]) -> Iterator[Finding]:
    for name, wanted in REQUIRED.items():
        yield _package("Packages", name, wanted, "missing", "pip install twinkeel", reasons.get(name, ""))


def _extras(reasons: Mapping[str, str]) -> Iterator[Finding]:
    for extra, one in EXTRAS.items():
        for name, wanted in one.packages.items():
            told = f"{one.gives}: pip install 'twinkeel[{extra}]'"
            yield _package("Extras", name, wanted, "absent", told, reasons.get(name, ""))


def _package(title: str, name: str, wanted: str, without: State, told: str, reason: str) -> Finding:
    version = _version(name)
    if not version:
        return Finding(title=title, name=name, state=without, told=told)
    fit = fits(version, wanted)
    if not reason:
        told = "" if fit else f"verified with {wanted}: pip install '{name}{wanted}'"
        return Finding(title=title, name=name, state="ok" if fit else "differs", found=version, told=told)
    verified = "" if fit else f"; verified with {wanted}"
    anew = f"pip install --force-reinstall --no-deps '{name}{wanted}'"
    gone = f", or pip uninstall {name} to do without" if without == "absent" else ""
    told = f"does not import: {reason}{verified}. To install it anew: {anew}{gone}"
    return Finding(title=title, name=name, state="broken", found=version, told=told, is_needed=without == "missing")


_IMPORTING = """
import importlib, json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
given = json.loads(sys.stdin.read())
sys.path[:] = given["path"]
for name, modules in given["modules"]:
    print(json.dumps([name, None]), file=answers, flush=True)
    reason = ""
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
    print(json.dumps([name, reason]), file=answers, flush=True)
os._exit(0)
"""


def failed_imports(names: Sequence[str]) -> dict[str, str]:
    """Of these distributions those that do not import, and why. One that ends its process is named, and the others are tried anew."""
    found: dict[str, str] = {}
    while left := [name for name in names if name not in found]:
        modules = [(name, IMPORTS.get(name, (name.replace("-", "_"),))) for name in left]
        given = json.dumps({"path": sys.path, "modules": modules})
        code, said = _run([sys.executable, "-P", "-c", _IMPORTING], IMPORT_SECONDS, given, has_words=False)
        at = ""
        for line in said.splitlines():
            at, reason = json.loads(line)
            found[at] = reason if reason is not None else _ending(code, IMPORT_SECONDS)
        if not at:  # it did not begin: nothing can be told of the others either
            return {}
    return {name: shown(" ".join(reason.split()), 300) for name, reason in found.items() if reason}


def _ending(code: int | None, seconds: float) -> str:
    """How an import ended that did not return."""
    if code is None:
        return f"it takes more than {seconds:g} seconds"
    return f"it ends its process, by signal {-code}" if code < 0 else f"it ends its process, with exit code {code}"


def _run(command: Sequence[str], seconds: float, given: str = "", *, has_words: bool = True) -> tuple[int | None, str]:
    """A program's exit code, None where its time was over, and what it said.

    Args:
        given: to its standard input.
        has_words: what it says to its standard error is an answer too, as kotlinc's version is.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as questions:
        questions.write(given.encode())
        questions.seek(0)
        # a group of its own, for compilers are scripts that start others
        process = subprocess.Popen(
            command,
            stdin=questions,
            stdout=answers,
            stderr=subprocess.STDOUT if has_words else subprocess.DEVNULL,
            start_new_session=True,
        )
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        answers.seek(0)
        return code, answers.read(1_000_000).decode(errors="replace")


def fits(version: str, wanted: str) -> bool:
    """Whether a version is one that ``==VERSION`` or ``>=VERSION`` asks for; any is where nothing is asked. What stands behind a
    ``+`` names a build of the same version."""
    public = version.split("+")[0]
    if wanted.startswith("=="):
        return public == wanted[2:]
    return not wanted or _numbers(public) >= _numbers(wanted.removeprefix(">="))


def _numbers(version: str) -> list[int]:
    """Without zeros at the end: 8 is 8.0."""
    return [int(part) for part in re.findall(r"\d+", re.sub(r"(\.0)+$", "", version))]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that is looked for.

    Attributes:
        told: what there is with it.
        asked: what it is called with to tell its version.
        answers: what it then says, the version as the only group.
        verified: how versions begin that it was verified with; empty for any.
        variable: that says where it is; empty where the PATH alone does.
        more: folders beside those on the PATH.
    """

    name: str
    told: str
    asked: tuple[str, ...]
    answers: str
    verified: str = ""
    variable: str = ""
    more: tuple[str, ...] = ()

    @property
    def is_on_path(self) -> bool:
        return " " not in self.name


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Where a program is, empty for nowhere; its version, or what is wrong with it."""

    program: Program
    path: str
    version: str = ""
    fault: str = ""


_MACHINE = "import platform; print('Python', platform.python_version(), platform.machine())"


def _programs() -> Iterator[Program]:
    kits = "compiles the kits and runs their tests: nox -s sdk"
    yield Program(
        name="kotlinc",
        told=f"{kits}; 2.x on a JDK 17",
        asked=("-version",),
        answers=r"kotlinc\S* (\d\S*)",
        verified="2.",
        variable="TWINKEEL_KOTLINC",
    )
    yield Program(name="javac", told=f"{kits}, beside kotlinc", asked=("-version",), answers=r"^javac (\d\S*)")
    yield Program(
        name="swift",
        told=f"{kits}; 6.x",
        asked=("--version",),
        answers=r"Swift version (\d\S*)",
        verified="6.",
        variable="TWINKEEL_SWIFT",
    )
    yield Program(
        name="arm64 Python",
        told="runs artifacts as a phone's processor would: twinkeel replay --python",
        asked=("-c", _MACHINE),
        answers=r"^Python (\d\S*) (?:aarch64|arm64)$",
        variable="TWINKEEL_ARM64_PYTHON",
    )
    yield Program(
        name="qemu-x86_64",
        told="runs tests as an older processor would, without VNNI or AVX-512",
        asked=("--version",),
        answers=r"^qemu-x86_64 version (\d\S*)",
        variable="TWINKEEL_QEMU_X86_64",
    )
    # where `twinkeel device android` looks for it
    homes = [os.environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    yield Program(
        name="adb",
        told="times artifacts on a phone: twinkeel device android; on the PATH, or in platform-tools of ANDROID_HOME",
        asked=("version",),
        answers=r"Android Debug Bridge version (\d\S*)",
        more=tuple(str(Path(home) / "platform-tools") for home in homes),
    )
    if platform.system() == "Darwin":
        yield Program(
            name="xcrun",
            told="names the iPhones that are connected: twinkeel device ios; comes with Xcode",
            asked=("--version",),
            answers=r"xcrun version (\d[\d.]*)",
        )


def _runtimes() -> Iterator[Finding]:
    """Of the packages' runtimes each is a package; Core ML is a part of the system."""
    is_there = platform.system() == "Darwin"
    told = (
        "twinkeel replay runs packages by it"
        if is_there
        else "Apple's systems alone have it; here twinkeel's own executor runs packages"
    )
    state: State = "ok" if is_there else "absent"
    yield Finding(title="Runtimes of the system", name="Core ML", state=state, told=told)


def _found(program: Program) -> _Found:
    """A program by the path in its variable, on the PATH, or in one of its folders, asked for its version."""
    given = os.environ.get(program.variable, "") if program.variable else ""
    looked = os.pathsep.join([os.environ.get("PATH", os.defpath), *program.more])
    if given and Path(given).exists():
        path = given
    else:
        path = (shutil.which(program.name, path=looked) or "") if program.is_on_path else ""
    if not path:
        return _Found(program=program, path="")
    call = "`-c ...`" if "-c" in program.asked else f"`{' '.join(program.asked)}`"
    try:
        code, said = _run([str(Path(path).absolute()), *program.asked], SECONDS)
    except OSError as error:
        return _Found(program=program, path=path, fault=f"it cannot be run: {error.strerror}")
    if code is None:
        return _Found(program=program, path=path, fault=f"it does not answer {call} within {SECONDS:g} seconds")
    answer = re.search(program.answers, said, re.MULTILINE)
    if code == 0 and answer is not None:
        return _Found(program=program, path=path, version=shown(answer[1], 40))
    first = next((line.strip() for line in said.splitlines() if line.strip()), "")
    how = f"'{shown(first, 120)}'" if first else "nothing"
    ended = f" and exit code {code}" if code else ""
    return _Found(program=program, path=path, fault=f"it answers {call} with {how}{ended}, as no {program.name} does")


def _told(one: _Found) -> Finding:
    program = one.program
    title, name, variable = "Compilers and emulators", program.name, program.variable
    if not one.path:
        given = os.environ.get(variable, "") if variable else ""
        lost = f"{variable} is '{given}', and that is not there; " if given else ""
        hint = f"; on the PATH, or {variable} says where" if program.is_on_path else f"; {variable} says where"
        return Finding(title=title, name=name, state="absent", told=f"{lost}{program.told}{hint if variable else ''}")
    if one.fault:
        which = (
            f"{variable} names it: give it another"
            if variable and os.environ.get(variable) == one.path
            else "it is the first on the PATH"
        )
        return Finding(
            title=title, name=name, state="broken", found=one.path, told=f"{one.fault}; {which}. {program.told}"
        )
    fit = one.version.startswith(program.verified)
    return Finding(
        title=title,
        name=name,
        state="ok" if fit else "differs",
        found=f"{one.version}, {one.path}",
        told="" if fit else f"verified with {program.verified}x",
    )


def _accelerators() -> Iterator[Finding]:
    title, told = "Accelerators", "trains faster: [train] device = 'auto' takes it; all else runs on the processor"
    if platform.system() == "Darwin":
        is_there = platform.machine() == "arm64"
        yield Finding(title=title, name="MPS", state="ok" if is_there else "absent", told=told)
        return
    is_there = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    cpu_build = "+cpu" in _version("torch")
    if is_there and cpu_build:
        told = "torch here is the build for processors, and does not see it"
    state: State = "ok" if is_there else "absent"
    yield Finding(title=title, name="CUDA", state=state, found="a driver" if is_there else "", told=told)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
