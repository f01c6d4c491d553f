"""The platform that kits are compiled against, of the texts beside this file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from . import HERE, classfiles, compare, signatures

LOWEST = 24
"""API level that every kit runs on."""
CLASSES = ("android", "java", "json", "junit")
"""Texts of classes that are compiled against as they are."""
RUNTIMES = ("litert", "executorch")
"""Texts that the stubs of the runtimes are compared with."""


def described() -> list[str]:
    """A line for each text: whether its classes are compiled against, or stubs are compared with them, and where they are from."""
    lines = []
    for name in (*CLASSES, *RUNTIMES, "apple"):
        header = [
            line[2:] for line in (HERE / f"{name}.txt").read_text("utf-8").splitlines()[:4] if line.startswith("# ")
        ]
        lines.append(f"{'real' if name in CLASSES else 'stubs, compared'}: {' '.join(header)}")
    return lines


class Platform:
    """Android's classes and its Java's as `jar`, and all that is known of these and of the runtimes."""

    def __init__(self, jar: Path):
        self.jar = jar
        self.classes = signatures.read(*(HERE / f"{name}.txt" for name in CLASSES))
        self.known = signatures.Classes(
            {**self.classes, **signatures.read(*(HERE / f"{name}.txt" for name in RUNTIMES))}
        )
        classfiles.write(jar, self.classes)

    def differences(self, stubs: Path) -> list[str]:
        """Where stubs are not as what they stand for."""
        return [*compare.differences(classfiles.declared(stubs), self.known)]

    def absent(self, compiled: Path, others: Iterable[Path], level: int = LOWEST) -> Iterator[str]:
        """What compiled classes ask for that systems of an API level do not have; `others` are folders of libraries."""
        return compare.absent(classfiles.files(compiled), classfiles.declared(*others), self.classes, level)
