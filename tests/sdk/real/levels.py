"""The API level at which each member of Android's public API came, from the types that NativeScript makes of the platform's own jar."""

from __future__ import annotations

import re
from pathlib import Path

from .signatures import Class, skip

NUMBERS = dict.fromkeys("BSIJFD", "number") | {"Z": "boolean", "V": "void", "C": "string"}
PLAIN = {"java/lang/String": "string", "java/lang/CharSequence": "string", "java/lang/Object": "any"}


class Levels:
    """By class: its level, the level of each member by name and the types of its parameters."""

    def __init__(self, path: Path):
        self.classes: dict[str, int] = {}
        self.members: dict[str, list[tuple[str, list[str] | None, int]]] = {}
        stack: list[str] = []
        level = 1
        for line in path.read_text("utf-8").splitlines():
            text = line.strip()
            if text.startswith("/**") or text.startswith("*"):
                found = re.search(r"@since (\d+)", text)
                level = int(found[1]) if found else level
                continue
            if found := re.match(r"(?:declare|export) module ([\w.]+) \{", text):
                stack.append(found[1])
            elif found := re.match(r"export (?:abstract )?(?:class|interface) (\w+).*\{", text):
                stack.append(found[1])
                # a class and an interface may bear one name: the types spell an interface's members so
                self.classes.setdefault(self._name(stack), level)
                self.members.setdefault(self._name(stack), [])
            elif text == "}":
                stack.pop()
            elif stack and (
                found := re.match(r"public (?:static )?(?:abstract )?(?:readonly )?(\w+)(?:<.*?>)?([(:])(.*)$", text)
            ):
                types = _types(found[3]) if found[2] == "(" else None
                self.members.setdefault(self._name(stack), []).append((found[1], types, level))
            level = 1

    @staticmethod
    def _name(stack: list[str]) -> str:
        return ".".join(stack)

    def of(self, one: Class) -> tuple[int, dict[tuple[str, str], int]]:
        """(level of the class, levels of its members by name and descriptor), 1 where nothing is said."""
        name = one.name.replace("/", ".").replace("$", ".")
        if name not in self.classes:
            return 1, {}
        levels = {}
        for key in one.members:
            if found := self.member(name, *key):
                levels[key] = found
        return self.classes[name], levels

    def member(self, owner: str, name: str, descriptor: str) -> int | None:
        """The level of a member, None where the types have no such."""
        wanted = "constructor" if name == "<init>" else name
        taken = _spelled(descriptor) if descriptor.startswith("(") else None
        fits = [
            level
            for other, types, level in self.members.get(owner, [])
            if other == wanted and (types is None) == (taken is None) and _fits(types, taken)
        ]
        return min(fits) if fits else None


def _types(text: str) -> list[str]:
    """The parameters' types of `a: number, b: X | null): Y;`."""
    depth, parts = 0, [""]
    for letter in text:
        if letter == ")" and not depth:
            break
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.partition(":")[2].replace("| null", "").strip() for part in parts if part.strip()]


def _spelled(descriptor: str) -> list[str]:
    """The parameters of a descriptor as those types spell them."""
    found, at = [], 1
    while descriptor[at] != ")":
        end = skip(descriptor, at)
        found.append(_type(descriptor[at:end]))
        at = end
    return found


def _type(one: str) -> str:
    if one.startswith("["):
        return f"androidNative.Array<{_type(one[1:])}>"
    if one.startswith("L"):
        return PLAIN.get(one[1:-1], one[1:-1].replace("/", ".").replace("$", "."))
    return NUMBERS[one]


def _fits(types: list[str] | None, taken: list[str] | None) -> bool:
    if types is None or taken is None:
        return True
    if len(types) != len(taken):
        return False
    # type variables and `any` are whatever they are
    return all(
        a.split("<")[0] == b.split("<")[0] or ("." not in a and a not in ("number", "string", "boolean"))
        for a, b in zip(types, taken, strict=True)
    )
