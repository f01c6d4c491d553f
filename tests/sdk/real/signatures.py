"""Public classes as text: their members in the signatures of class files, what may be null, and since which API level they are there.

A class is a line, and each of its members a line below it, sorted:

    class public final android/graphics/Bitmap : Ljava/lang/Object; Landroid/os/Parcelable; since:1
      public static createBitmap (IILandroid/graphics/Bitmap$Config;)Landroid/graphics/Bitmap; null:---N

After the kind (class, interface, enum, annotation), the modifiers and the binary name come the type parameters, where there are some, the
superclass and the interfaces. `null` has a letter for what is returned or held and then one for each parameter: N, never null; ?, may
be null; -, not said. Signatures are those of The Java Virtual Machine Specification, 4.7.9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

KINDS = ("class", "interface", "enum", "annotation")
MODIFIERS = ("public", "protected", "abstract", "static", "final", "varargs", "deprecated", "default")
"""Those that matter to who calls or extends: Kotlin spells calls with varargs otherwise, warns of what is deprecated, and asks for the values of an
annotation that have no default."""


@dataclass(frozen=True)
class Member:
    modifiers: frozenset[str]
    name: str
    signature: str
    """Generic, `(IITT;)V` of a method or `I` of a field."""
    nulls: str = ""
    throws: frozenset[str] = frozenset()
    since: int = 1
    value: str = ""
    """Of a constant, as the API's text or the class file spells it."""

    @property
    def is_method(self) -> bool:
        return self.signature.startswith(("(", "<"))


@dataclass(frozen=True)
class Class:
    kind: str
    modifiers: frozenset[str]
    name: str
    """Binary: `android/graphics/Bitmap$Config`."""
    parameters: str = ""
    """Of types: `<T:Ljava/lang/Object;>`."""
    supers: tuple[str, ...] = ("Ljava/lang/Object;",)
    """Signatures of the superclass and the interfaces."""
    since: int = 1
    members: dict[tuple[str, str], Member] = field(default_factory=dict)
    """By name and descriptor."""

    @property
    def superclasses(self) -> tuple[str, ...]:
        return tuple(erased(one, {})[1:-1] for one in self.supers)


def variables(parameters: str, known: dict[str, str] | None = None) -> dict[str, str]:
    """What each of the type parameters `<T:Lx;U::Ly;>` is erased to, a descriptor, beside those that are `known`."""
    found = dict(known or {})
    at = 1
    while parameters and parameters[at] != ">":
        colon = parameters.index(":", at)
        name, at, bounds = parameters[at:colon], colon, []
        while parameters[at] == ":":
            at += 1
            if parameters[at] in ":>":
                continue
            end = skip(parameters, at)
            bounds.append(parameters[at:end])
            at = end
        found[name] = erased(bounds[0], found) if bounds else "Ljava/lang/Object;"
    return found


def skip(signature: str, at: int) -> int:
    """Where the type that begins at `at` ends."""
    while signature[at] == "[":
        at += 1
    if signature[at] not in "LT":
        return at + 1
    depth = 0
    while True:
        depth += {"<": 1, ">": -1}.get(signature[at], 0)
        at += 1
        if depth == 0 and signature[at - 1] == ";":
            return at


def generics(signature: str) -> tuple[str, str]:
    """A method's type parameters and the rest of its signature."""
    if not signature.startswith("<"):
        return "", signature
    depth = 0
    for at, letter in enumerate(signature):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if depth == 0:
            return signature[: at + 1], signature[at + 1 :]
    raise ValueError(f"no end of the type parameters of {signature}")


def erased(signature: str, bounds: dict[str, str]) -> str:
    """The descriptor of a type or of a method."""
    if signature.startswith(("(", "<")):
        parameters, rest = generics(signature)
        bounds = variables(parameters, bounds)
        types, at = [], 1
        while rest[at] != ")":
            end = skip(rest, at)
            types.append(erased(rest[at:end], bounds))
            at = end
        return f"({''.join(types)}){erased(rest[at + 1 :], bounds)}"
    dimensions = len(signature) - len(signature.lstrip("["))
    plain = signature[dimensions:]
    if plain.startswith("T"):
        return "[" * dimensions + bounds.get(plain[1:-1], "Ljava/lang/Object;")
    while "<" in plain:
        plain = re.sub(r"<[^<>]*>", "", plain)
    return "[" * dimensions + plain.replace(";.", "$").replace(".", "$")


class Classes(dict[str, Class]):
    """By name, with what is inherited."""

    def parents(self, name: str) -> Iterator[Class]:
        """The class and all that it extends and implements, as far as they are known."""
        waiting, seen = [name], set()
        while waiting:
            one = waiting.pop(0)
            if one in seen or one not in self:
                continue
            seen.add(one)
            yield self[one]
            waiting += self[one].superclasses
        if "java/lang/Object" in self and "java/lang/Object" not in seen:
            yield self["java/lang/Object"]

    def find(self, owner: str, name: str, descriptor: str) -> tuple[Class, Member] | None:
        """The member that a reference means, wherever it is inherited from."""
        for one in self.parents(owner):
            if member := one.members.get((name, descriptor)):
                return one, member
        return None


def write(path: Path, classes: Iterable[Class], *header: str) -> None:
    lines = [f"# {line}" for line in header]
    for one in sorted(classes, key=lambda one: one.name):
        parameters = [one.parameters] * bool(one.parameters)
        lines.append(
            " ".join([one.kind, *words(one.modifiers), one.name, *parameters, ":", *one.supers, *since(one.since)])
        )
        lines += sorted("  " + spelled(member) for member in one.members.values())
    path.write_text("\n".join(lines) + "\n", "utf-8")


def spelled(member: Member) -> str:
    """A member's line."""
    parts = [*words(member.modifiers), member.name, member.signature]
    if member.nulls:
        parts.append(f"null:{member.nulls}")
    if member.throws:
        parts.append("throws:" + ",".join(sorted(member.throws)))
    parts += since(member.since)
    if member.value:
        parts.append(f"value:{member.value}")
    return " ".join(parts)


def words(modifiers: frozenset[str]) -> list[str]:
    return [word for word in MODIFIERS if word in modifiers]


def since(level: int) -> list[str]:
    return [f"since:{level}"] if level > 1 else []


def read(*paths: Path) -> Classes:
    classes = Classes()
    current = Class("class", frozenset(), "")
    for path in paths:
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("#"):
                continue
            if not line.startswith("  "):
                current = head(line)
                classes[current.name] = current
                continue
            member = parsed(line)
            bounds = variables(current.parameters)
            current.members[member.name, erased(member.signature, bounds)] = member
    return classes


def head(line: str) -> Class:
    left, _, right = line.partition(" :")
    kind, *rest = left.split(" ")
    modifiers = [word for word in rest if word in MODIFIERS]
    name, *parameters = rest[len(modifiers) :]
    supers = [part for part in right.split(" ") if part and not part.startswith("since:")]
    return Class(kind, frozenset(modifiers), name, "".join(parameters), tuple(supers), level(right))


def parsed(line: str) -> Member:
    line, _, value = line.strip().partition(" value:")
    rest = line.split(" ")
    modifiers = []
    while rest[0] in MODIFIERS and len(rest) > 2:
        modifiers.append(rest.pop(0))
    name, signature, *flags = rest
    said = dict(flag.split(":", 1) for flag in flags)
    throws = frozenset(filter(None, said.get("throws", "").split(",")))
    return Member(frozenset(modifiers), name, signature, said.get("null", ""), throws, int(said.get("since", 1)), value)


def level(text: str) -> int:
    found = re.search(r"since:(\d+)", text)
    return int(found[1]) if found else 1


def dated(one: Class, level: int, members: dict[tuple[str, str], int]) -> Class:
    """The class with the API levels at which it and its members came."""
    levelled = {key: replace(member, since=members.get(key, 1)) for key, member in one.members.items()}
    return replace(one, since=level, members=levelled)
