"""Which processor runs this process, with which instruction set, native or emulated.

Sent along by `replay`, so of this project it imports nothing, and of others numpy alone; Python 3.10.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

ARCHITECTURES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}
EMULATORS = ("qemu", "box64", "FEX")
"""How the names of programs begin that run those of another instruction set."""

_X86 = (
    ("AVX512VNNI", "AVX-512 VNNI"),
    ("AVX512F", "AVX-512"),
    ("AVX2", "AVX2"),
    ("AVX", "AVX"),
    ("SSE42", "SSE4.2"),
    ("SSE2", "SSE2"),
)
"""numpy's names, the highest first: each has all of those below."""
_X86_MORE = (("avx_vnni", "AVX-VNNI"), ("amx_int8", "AMX"))
"""What kernels for int8 use and numpy does not look for, as Linux names it."""
_ARM = (("asimddp", "dot product"), ("i8mm", "i8mm"), ("sve", "SVE"), ("sve2", "SVE2"), ("sme", "SME"))
"""Linux's names; all have NEON."""
_MAC = (
    ("hw.optional.arm.FEAT_DotProd", "dot product"),
    ("hw.optional.arm.FEAT_I8MM", "i8mm"),
    ("hw.optional.arm.FEAT_SME", "SME"),
)
_CORES = {
    "0xd03": "cortex-a53", "0xd04": "cortex-a35", "0xd05": "cortex-a55", "0xd07": "cortex-a57",
    "0xd08": "cortex-a72", "0xd09": "cortex-a73", "0xd0a": "cortex-a75", "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1", "0xd0d": "cortex-a77", "0xd40": "neoverse-v1", "0xd41": "cortex-a78",
    "0xd44": "cortex-x1", "0xd46": "cortex-a510", "0xd47": "cortex-a710", "0xd48": "cortex-x2",
    "0xd49": "neoverse-n2", "0xd4d": "cortex-a715", "0xd4e": "cortex-x3", "0xd4f": "neoverse-v2",
    "0xd80": "cortex-a520", "0xd81": "cortex-a720", "0xd82": "cortex-x4", "0xd84": "neoverse-v3",
    "0xd85": "cortex-x925", "0xd87": "cortex-a725", "0xd8e": "neoverse-n3",
}  # fmt: skip
"""Arm's own cores by part number; `arch/arm64/include/asm/cputype.h` of Linux has the list."""


def here() -> dict[str, str]:
    """What runs this process: ``system``, ``architecture``, ``processor``, ``instruction_set`` and ``emulator``, which
    is empty where it is native. What cannot be known is empty."""
    machine = platform.machine().lower()
    architecture = ARCHITECTURES.get(machine, machine)
    emulator, given = _emulator()
    info = _cpuinfo()
    if architecture == "arm64":
        processor, found = _arm(info)
    else:
        # qemu shows x86 programs the file of the machine that it runs on
        processor, found = _x86({} if emulator else info)
    if "VirtualApple" in processor or _sysctl("sysctl.proc_translated") == "1":
        emulator = "Rosetta 2"
    return {
        "system": f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else platform.system(),
        "architecture": architecture,
        "processor": given or processor,
        "instruction_set": found,
        "emulator": emulator,
    }


def short(machine: Mapping[str, str]) -> str:
    """In a word or two: ``x86-64 (AVX-512 VNNI)``, ``arm64 (cortex-a53, qemu 10)``, ``Google Pixel 9, Android 15``,
    ``Google Pixel 9 (Google Tensor G4), Android 15``."""
    if not machine.get("architecture"):
        inside = ", ".join(filter(None, (machine.get("soc"), machine.get("emulator"))))
        name = " ".join(filter(None, (machine.get("processor"), f"({inside})" if inside else "")))
        return ", ".join(filter(None, (name, machine.get("system"))))
    names = ("processor", "instruction_set") if machine["architecture"] == "arm64" else ("instruction_set", "processor")
    what = next((machine[name] for name in names if machine.get(name)), "")
    emulator = re.sub(r"(\d+)\.[\d.]+", r"\1", machine.get("emulator", ""))
    inside = ", ".join(filter(None, (what, emulator)))
    return f"{machine['architecture']} ({inside})" if inside else machine["architecture"]


def boot() -> str:
    """Names this start of the machine's kernel, for an emulator's programs as well; empty where there is no such name."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def _emulator() -> tuple[str, str]:
    """The emulator and its version, and the processor that it was asked for.

    qemu answers for ``/proc/self``, as Linux would for the emulated program; behind ``/proc/thread-self`` stands the
    kernel's own answer (qemu 10, `linux-user/syscall.c`: ``is_proc_myself``). The link opens where its path does not.
    """
    try:
        real = Path("/proc/thread-self/exe")
        name = real.readlink().name
        if not name.startswith(EMULATORS):
            return "", ""
        kind = next(kind for kind in EMULATORS if name.startswith(kind))
        version = re.search(rb"qemu-\w+ version (\d[\d.]*)", real.read_bytes()) if kind == "qemu" else None
    except OSError:
        return "", ""
    arguments = _text("/proc/thread-self/cmdline").split("\0")
    given = next((after for flag, after in pairwise(arguments) if flag in ("-cpu", "--cpu")), "")
    return f"{kind} {version[1].decode()}" if version else kind, given or os.environ.get("QEMU_CPU", "")


def _x86(info: Mapping[str, set[str]]) -> tuple[str, str]:
    features, flags = _features(), set(" ".join(info.get("flags", ())).split())
    found = next((name for feature, name in _X86 if features.get(feature)), "")
    more = [name for flag, name in _X86_MORE if flag in flags and not (flag == "avx_vnni" and "VNNI" in found)]
    processor = _first(info.get("model name", ())) or _sysctl("machdep.cpu.brand_string")
    return processor, ", ".join(filter(None, [found, *more]))


def _arm(info: Mapping[str, set[str]]) -> tuple[str, str]:
    names = [_CORES.get(part, part) for part in sorted(info.get("CPU part", ()))]
    flags = set(" ".join(info.get("Features", ())).split())
    found = [name for flag, name in _ARM if flag in flags]
    if sys.platform == "darwin":
        found = [name for key, name in _MAC if _sysctl(key) == "1"]
    elif not flags and _features().get("ASIMDDP"):
        found = ["dot product"]
    return " + ".join(names) or _sysctl("machdep.cpu.brand_string"), ", ".join(["NEON", *found])


def _features() -> dict[str, bool]:
    """What numpy has found of the processor's instructions, by its own names; right under an emulator too."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as found  # type: ignore[import-not-found]
    except ImportError:  # numpy 1
        from numpy.core._multiarray_umath import __cpu_features__ as found  # type: ignore[no-redef,import-not-found]
    return dict(found)


def _cpuinfo() -> dict[str, set[str]]:
    """Values by key over all processors; of machines whose processors differ, all."""
    found: dict[str, set[str]] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), set()).add(value.strip())
    return found


def _first(values: object) -> str:
    return min(values, default="") if isinstance(values, set) else ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    """A value of macOS; empty elsewhere."""
    if sys.platform != "darwin":
        return ""
    done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()
