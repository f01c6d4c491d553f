"""Benchmark programs as their users give them: which of them a phone can run, by what the files themselves say."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import DeviceError
from ..reading import instead, shown

_ABIS = {(2, 183): "arm64-v8a", (1, 40): "armeabi-v7a", (2, 62): "x86_64", (1, 3): "x86", (2, 243): "riscv64"}
"""Android's names, by class and machine of an ELF file (`elf.h`: EM_AARCH64, EM_ARM, EM_X86_64, EM_386, EM_RISCV)."""
_INTERPRETER, _BEGIN = 3, 4096
"""PT_INTERP, and bytes that hold a file's program headers."""
_LINKER = "/system/bin/linker"
_MOST_FILES = 2000


class Unusable(Exception):
    """No program that this phone runs, and why."""


@dataclass(frozen=True, kw_only=True)
class Elf:
    """What a program says of itself.

    Attributes:
        abi: Android's name of its instruction set.
        interpreter: what loads it; empty of one that needs none, and of libraries.
    """

    abi: str
    interpreter: str


def read(path: Path) -> Elf:
    """The head of an ELF file.

    Raises:
        Unusable: it is none, or of an instruction set that Android does not have.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_BEGIN)
    except OSError as error:
        raise Unusable(f"'{path}' cannot be read: {error}") from error
    if head[:4] != b"\x7fELF" or len(head) < 64:
        what = instead(head) or ("it is an archive: unpack it" if head[:2] == b"PK" else f"it begins with {head[:4]!r}")
        raise Unusable(f"'{path}' is no program of Android's: {what}")
    bits, order = head[4], "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    abi = _ABIS.get((bits, machine))
    if abi is None:
        raise Unusable(f"'{path}' is for an instruction set that Android does not have (ELF machine {machine})")
    return Elf(abi=abi, interpreter=_interpreter(head, bits, order))


def _interpreter(head: bytes, bits: int, order: str) -> str:
    """Of a program, what its PT_INTERP names."""
    offset, size, count = (
        (*struct.unpack_from(f"{order}Q", head, 32), *struct.unpack_from(f"{order}HH", head, 54))
        if bits == 2
        else (*struct.unpack_from(f"{order}I", head, 28), *struct.unpack_from(f"{order}HH", head, 42))
    )
    for number in range(min(count, 64)):
        at = offset + number * size
        if at + size > len(head) or size < 32:
            return ""
        (kind,) = struct.unpack_from(f"{order}I", head, at)
        if kind == _INTERPRETER:
            begin, length = (
                (struct.unpack_from(f"{order}Q", head, at + 8)[0], struct.unpack_from(f"{order}Q", head, at + 32)[0])
                if bits == 2
                else (
                    struct.unpack_from(f"{order}I", head, at + 4)[0],
                    struct.unpack_from(f"{order}I", head, at + 16)[0],
                )
            )
            return head[begin : begin + min(length, 256)].rstrip(b"\0").decode(errors="replace")
    return ""


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A folder of benchmark programs and of the libraries that they load; those of an instruction set may lie in a folder of its name.

    Raises:
        DeviceError: there is no such folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise DeviceError(
                f"--binaries '{self.folder}' is no folder. It holds the runtimes' own benchmark programs, built for the phone; "
                "docs/devices.md says how to get each."
            )

    def program(self, names: Sequence[str], abis: Sequence[str]) -> tuple[Path, str]:
        """The program of the first of these names that the phone runs, in its best instruction set, and that set.

        Args:
            names: which one file may have.
            abis: of the phone, the best first.

        Raises:
            Unusable: there is none, or it is for something else.
        """
        found = [path for name in names for path in self._files() if path.name == name]
        if not found:
            raise Unusable(f"no {names[0]} in '{self.folder}'")
        kinds: dict[str, Path] = {}
        reasons = []
        for path in found:
            try:
                elf = read(path)
            except Unusable as error:
                reasons.append(str(error))
                continue
            if elf.interpreter and not elf.interpreter.startswith(_LINKER):
                reasons.append(
                    f"'{path}' is built for another system than Android (it is loaded by '{shown(elf.interpreter)}'); build it with "
                    "Android's NDK"
                )
            elif elf.abi not in abis:
                reasons.append(f"'{path}' is for {elf.abi}, and the phone runs {', '.join(abis)}")
            else:
                kinds.setdefault(elf.abi, path)
        for abi in abis:
            if abi in kinds:
                return kinds[abi], abi
        raise Unusable("; ".join(dict.fromkeys(reasons)))

    def libraries(self, abi: str) -> dict[str, Path]:
        """Those of an instruction set, by name, and what a phone's other processors load (they are no programs of Android's)."""
        found: dict[str, Path] = {}
        for path in self._files():
            if not (path.suffix == ".so" or ".so." in path.name) or path.name in found:
                continue
            try:
                fits = read(path).abi == abi
            except Unusable:
                fits = "Skel" in path.name  # of Qualcomm's DSP
            if fits:
                found[path.name] = path
        return found

    def _files(self) -> list[Path]:
        found = list(islice((path for path in self.folder.rglob("*") if path.is_file()), _MOST_FILES + 1))
        if len(found) > _MOST_FILES:
            raise DeviceError(
                f"--binaries '{self.folder}' holds more than {_MOST_FILES:,} files. Give a folder of the programs alone, not that of "
                "their sources."
            )
        return sorted(found)
