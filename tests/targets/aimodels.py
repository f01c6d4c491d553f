"""Core AI packages as text that a test can change: constants, operands, operations."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np

_TYPES = {"f32": "<f4", "f16": "<f2", "si8": "i1", "ui8": "u1", "si32": "<i4", "ui32": "<u4", "si16": "<i2"}


class Package:
    """A saved package that can be changed; every operation is a line."""

    def __init__(self, folder: Path) -> None:
        from coreai.authoring.asset import AIModelAsset
        from twinkeel.targets.ios import _aimodel

        self.folder = folder
        self._write = _aimodel.write
        self.lines = str(AIModelAsset.load(str(folder)).program).splitlines()

    def save(self) -> None:
        metadata = (self.folder / "metadata.json").read_bytes()
        self._write("\n".join(self.lines), self.folder, metadata)

    def find(self, *operations: str) -> list[int]:
        """Numbers of the lines of these operations."""
        names = "|".join(map(re.escape, operations))
        return [n for n, line in enumerate(self.lines) if re.search(rf"= coreai\.(decomposable\.)?({names}) %", line)]

    def operands(self, line: int) -> list[str]:
        return re.findall(r"%[\w.]+", self.lines[line].split("=", 1)[1].split(" : ")[0])

    def replace(self, line: int, number: int, name: str) -> None:
        """Let an operation read another value in the place of its operand `number`."""
        head, rest = self.lines[line].split("=", 1)
        body, types = rest.split(" : ", 1)
        count = -1

        def other(match):
            nonlocal count
            count += 1
            return name if count == number else match[0]

        changed = re.sub(r"%[\w.]+", other, body)
        self.lines[line] = f"{head}={changed} : {types}"

    def maker(self, name: str) -> int:
        return next(n for n, line in enumerate(self.lines) if line.strip().startswith(f"{name} = "))

    def stored(self, line: int, number: int) -> str:
        """The constant behind an operand, through a transpose or a dequantize."""
        name = self.operands(line)[number]
        while "coreai.constant" not in self.lines[self.maker(name)]:
            name = self.operands(self.maker(name))[0]
        return name

    def read(self, name: str):
        line = self.lines[self.maker(name)]
        sizes, kind = re.search(r"tensor<((?:\d+x)*)(\w+)>$", line).groups()
        shape = [int(size) for size in sizes.split("x") if size]
        inside = re.search(r"dense(?:_resource)?<(.*)> : tensor", line)[1]
        if "dense_resource" in line:
            raw = bytes.fromhex(self._blob(inside)[1][8:])
            return np.frombuffer(raw, _TYPES[kind]).reshape(shape).copy()
        if inside.startswith('"0x'):
            values = np.frombuffer(bytes.fromhex(inside[3:-1]), _TYPES[kind])
        elif inside.startswith("0x"):  # one value that decimals cannot say
            values = np.frombuffer(bytes.fromhex(inside[2:])[::-1], _TYPES[kind])
        else:
            values = np.array(json.loads(inside.lower()), _TYPES[kind])
        return np.broadcast_to(values.reshape(shape if values.size > 1 else [1] * len(shape)), shape).copy()

    def write(self, line: int, number: int, values) -> None:
        """Let an operation read other values in the place of a constant, which others may read too."""
        name = self.stored(line, number)
        while self.operands(line)[number] != name:  # it is read by another operation in between
            line, number = self.maker(self.operands(line)[number]), 0
        made = self.maker(name)
        kind = self.lines[made].rsplit(" : ", 1)[1]
        dtype = _TYPES[re.search(r"(\w+)>$", kind)[1].split("x")[-1]]
        raw = np.ascontiguousarray(values).astype(dtype).tobytes().hex().upper()
        new = f"%changed{len(self.lines)}"
        self.lines.insert(made + 1, f'    {new} = coreai.constant dense<"0x{raw}"> : {kind}')
        self.replace(line + (line > made), number, new)

    def _blob(self, name: str) -> tuple[int, str]:
        for number, line in enumerate(self.lines):
            if match := re.match(rf'\s*{re.escape(name)}: "0x([0-9A-Fa-f]*)"', line):
                return number, match[1]
        raise AssertionError(f"no resource {name}")


def sealed(folder: Path, program: bytes) -> None:
    """Put another program into a package, with its hash."""
    (folder / "main.mlirb").write_bytes(program)
    (folder / "main.hash").write_bytes(hashlib.sha256(program).digest())
