"""What of this machine a build can use: packages beside those that were verified together, compilers, accelerators."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .verified import EXTRAS, PYTHON, REQUIRED

State = Literal["ok", "differs", "missing", "absent"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        state: ``ok``, ``differs`` (another version than was verified), ``missing`` (a build needs it), ``absent`` (it does without).
        found: what is there, a version or a path; empty for nothing.
        told: what it gives, what was verified, or what to do.
    """

    title: str
    name: str
    state: State
    found: str = ""
    told: str = ""


def look() -> list[Finding]:
    """All findings, in the order in which they are told. Nothing is imported or run for it."""
    return [*_python(), *_packages(), *_extras(), *_compilers(), *_runtimes(), *_accelerators()]


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


def _packages() -> Iterator[Finding]:
    for name, wanted in REQUIRED.items():
        yield _package("Packages", name, wanted, "missing", "pip install twinkeel")


def _extras() -> Iterator[Finding]:
    for extra, one in EXTRAS.items():
        for name, wanted in one.packages.items():
            yield _package("Extras", name, wanted, "absent", f"{one.gives}: pip install 'twinkeel[{extra}]'")


def _package(title: str, name: str, wanted: str, without: State, told: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(title=title, name=name, state=without, told=told)
    if fits(version, wanted):
        return Finding(title=title, name=name, state="ok", found=version)
    return Finding(
        title=title,
        name=name,
        state="differs",
        found=version,
        told=f"verified with {wanted}: pip install '{name}{wanted}'",
    )


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


def _compilers() -> Iterator[Finding]:
    kits = "compiles the kits and runs their tests: nox -s sdk"
    yield _program("kotlinc", "TWINKEEL_KOTLINC", f"{kits}; 2.x on a JDK 17")
    yield _program("javac", "", f"{kits}, beside kotlinc")
    yield _program("swift", "TWINKEEL_SWIFT", f"{kits}; 6.x")
    yield _program(
        "arm64 Python", "TWINKEEL_ARM64_PYTHON", "runs artifacts as a phone's processor would: twinkeel replay --python"
    )
    yield _program(
        "qemu-x86_64", "TWINKEEL_QEMU_X86_64", "runs tests as an older processor would, without VNNI or AVX-512"
    )
    # where `twinkeel device android` looks for it
    homes = [os.environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    tools = [str(Path(home) / "platform-tools") for home in homes]
    told = "times artifacts on a phone: twinkeel device android; on the PATH, or in platform-tools of ANDROID_HOME"
    yield _program("adb", "", told, tools)
    if platform.system() == "Darwin":
        yield _program("xcrun", "", "names the iPhones that are connected: twinkeel device ios; comes with Xcode")


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


def _program(name: str, variable: str, told: str, more: Sequence[str] = ()) -> Finding:
    """A program by the path in an environment variable, on the PATH, or in one of the folders `more`."""
    given = os.environ.get(variable, "") if variable else ""
    looked = os.pathsep.join([os.environ.get("PATH", os.defpath), *more])
    found = given if given and Path(given).exists() else "" if " " in name else shutil.which(name, path=looked) or ""
    hint = f"; on the PATH, or {variable} says where" if variable and " " not in name else f"; {variable} says where"
    lost = f"{variable} is '{given}', and that is not there; " if given and not Path(given).exists() else ""
    state: State = "ok" if found else "absent"
    return Finding(
        title="Compilers and emulators",
        name=name,
        state=state,
        found=found,
        told="" if found else f"{lost}{told}{hint if variable else ''}",
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
