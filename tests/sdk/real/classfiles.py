"""Class files: what they declare, what their code refers to, and classes without code, which compilers read as they do a platform's."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .signatures import Class, Classes, Member, erased, generics, skip, variables

FLAGS = {"public": 0x1, "protected": 0x4, "static": 0x8, "final": 0x10, "varargs": 0x80, "abstract": 0x400}
SYNTHETIC, BRIDGE, INTERFACE, ANNOTATION, ENUM = 0x1000, 0x40, 0x200, 0x2000, 0x4000
NULLS = {"NonNull": "N", "NotNull": "N", "Nullable": "?"}
"""By the last part of an annotation's name."""
LENGTHS = {
    **{
        0x10: 2,
        0x11: 3,
        0x12: 2,
        0x13: 3,
        0x14: 3,
        0x84: 3,
        0xA9: 2,
        0xB9: 5,
        0xBA: 5,
        0xBB: 3,
        0xBC: 2,
        0xBD: 3,
        0xC0: 3,
        0xC1: 3,
    },
    **{0xC5: 4, 0xC6: 3, 0xC7: 3, 0xC8: 5, 0xC9: 5},
    **dict.fromkeys(range(0x15, 0x1A), 2),
    **dict.fromkeys(range(0x36, 0x3B), 2),
    **dict.fromkeys(range(0x99, 0xA9), 3),
    **dict.fromkeys(range(0xB2, 0xB9), 3),
}
"""Bytes of the instructions that have more than one, but for the switches and `wide`."""
SDK_INT = ("android/os/Build$VERSION", "SDK_INT")


@dataclass(frozen=True)
class Reference:
    """A member that code asks for: `level` is what the code around it has asked the system's API level to be, at least."""

    owner: str
    name: str
    descriptor: str
    level: int
    where: str


class _Reader:
    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def u1(self) -> int:
        return self.take(1)[0]

    def u2(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u4(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def take(self, count: int) -> bytes:
        self.at += count
        return self.content[self.at - count : self.at]


class ClassFile:
    """One class as it lies in its file."""

    def __init__(self, content: bytes):
        reader = _Reader(content)
        if reader.u4() != 0xCAFEBABE:
            raise ValueError("no class file")
        reader.take(4)
        self._pool(reader)
        self.flags, this, above = reader.u2(), reader.u2(), reader.u2()
        self.name = self.named(this)
        self.supers = ([self.named(above)] if above else []) + [self.named(reader.u2()) for _ in range(reader.u2())]
        self.fields = [self._member(reader) for _ in range(reader.u2())]
        self.methods = [self._member(reader) for _ in range(reader.u2())]
        self.attributes = self._attributes(reader)

    def _pool(self, reader: _Reader) -> None:
        self.pool: list[tuple] = [()]
        count = reader.u2()
        while len(self.pool) < count:
            tag = reader.u1()
            if tag == 1:
                entry = (tag, reader.take(reader.u2()).replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass"))
            elif tag in (3, 4):
                entry = (tag, struct.unpack(">i" if tag == 3 else ">f", reader.take(4))[0])
            elif tag in (5, 6):
                self.pool.append((tag, struct.unpack(">q" if tag == 5 else ">d", reader.take(8))[0]))
                entry = ()
            elif tag in (7, 8, 16, 19, 20):
                entry = (tag, reader.u2())
            elif tag == 15:
                entry = (tag, reader.u1(), reader.u2())
            else:
                entry = (tag, reader.u2(), reader.u2())
            self.pool.append(entry)

    def text(self, index: int) -> str:
        return self.pool[index][1]

    def named(self, index: int) -> str:
        return self.text(self.pool[index][1])

    def _attributes(self, reader: _Reader) -> dict[str, bytes]:
        return {self.text(reader.u2()): reader.take(reader.u4()) for _ in range(reader.u2())}

    def _member(self, reader: _Reader) -> tuple[int, str, str, dict[str, bytes]]:
        return reader.u2(), self.text(reader.u2()), self.text(reader.u2()), self._attributes(reader)

    def declared(self) -> Class:
        """What others see of it: members that are public or protected."""
        flags = self.flags
        for inner, _, name, inner_flags in self._inner():
            flags = inner_flags if inner == self.name and name else flags  # whether it is static stands there alone
        bits = [(ANNOTATION, "annotation"), (INTERFACE, "interface"), (ENUM, "enum")]
        kind = next((name for bit, name in bits if flags & bit), "class")
        parameters, supers = "", tuple(f"L{name};" for name in self.supers)
        if "Signature" in self.attributes:
            parameters, rest = generics(self._signature(self.attributes))
            supers, at = (), 0
            while at < len(rest):
                end = skip(rest, at)
                supers, at = (*supers, rest[at:end]), end
        words = {word for word, bit in FLAGS.items() if flags & bit and word != "varargs"}
        words |= {"deprecated"} if "Deprecated" in self.attributes else set()
        one = Class(kind, frozenset(words), self.name, parameters, supers)
        bounds = variables(parameters)
        for field in (True, False):
            for bits_, name, descriptor, attributes in self.fields if field else self.methods:
                if not bits_ & 0x5 or bits_ & SYNTHETIC or (bits_ & BRIDGE and not field):
                    continue
                member = self._declared(bits_, name, descriptor, attributes, field)
                one.members[name, erased(member.signature, bounds)] = member
        return one

    def _declared(self, bits: int, name: str, descriptor: str, attributes: dict[str, bytes], field: bool) -> Member:
        signature = self._signature(attributes) if "Signature" in attributes else descriptor
        signature, _, _ = signature.partition("^")
        words = {word for word, bit in FLAGS.items() if bits & bit and not (field and bit == 0x80)}
        words |= {"deprecated"} if "Deprecated" in attributes else set()
        words |= {"default"} if "AnnotationDefault" in attributes else set()
        throws: frozenset[str] = frozenset()
        if "Exceptions" in attributes:
            reader = _Reader(attributes["Exceptions"])
            throws = frozenset(self.named(reader.u2()) for _ in range(reader.u2()))
        value = ""
        if "ConstantValue" in attributes:
            entry = self.pool[_Reader(attributes["ConstantValue"]).u2()]
            value = self.text(entry[1]) if entry[0] == 8 else str(entry[1])
        nulls = self._nulls(attributes, 0 if field else count_parameters(descriptor))
        return Member(frozenset(words), name, signature, nulls, throws, 1, value)

    def _signature(self, attributes: dict[str, bytes]) -> str:
        return self.text(_Reader(attributes["Signature"]).u2())

    def _inner(self) -> Iterator[tuple[str, str, str, int]]:
        if "InnerClasses" in self.attributes:
            reader = _Reader(self.attributes["InnerClasses"])
            for _ in range(reader.u2()):
                inner, outer, name, flags = reader.u2(), reader.u2(), reader.u2(), reader.u2()
                yield self.named(inner), self.named(outer) if outer else "", self.text(name) if name else "", flags

    def _nulls(self, attributes: dict[str, bytes], parameters: int) -> str:
        found = ["-"] * (1 + parameters)
        for kind in ("RuntimeInvisible", "RuntimeVisible"):
            if f"{kind}Annotations" in attributes:
                reader = _Reader(attributes[f"{kind}Annotations"])
                found[0] = self._null(reader) or found[0]
            if f"{kind}ParameterAnnotations" in attributes:
                reader = _Reader(attributes[f"{kind}ParameterAnnotations"])
                listed = [self._null(reader) for _ in range(reader.u1())]
                # those that the compiler adds in front, as an enum's, are not listed
                for number, null in enumerate(listed, 1 + parameters - len(listed)):
                    found[number] = null or found[number]
            if f"{kind}TypeAnnotations" in attributes:
                reader = _Reader(attributes[f"{kind}TypeAnnotations"])
                for _ in range(reader.u2()):
                    number, null = self._typed_null(reader)
                    if null and number < len(found):
                        found[number] = null
        return "".join(found) if set(found) != {"-"} else ""

    def _typed_null(self, reader: _Reader) -> tuple[int, str]:
        """(0 of what is returned or held, 1 and more of parameters; the letter), and no letter where it is of a part of the type."""
        target, number = reader.u1(), 0
        if target == 0x16:
            number = 1 + reader.u1()
        elif target in (0x13, 0x14, 0x15):
            number = 0 if target != 0x15 else 256
        else:
            # of type parameters, their bounds, superclasses and throws; those inside of code stand elsewhere
            reader.take({0x00: 1, 0x01: 1, 0x10: 2, 0x11: 2, 0x12: 2, 0x17: 2}[target])
            number = 256
        steps = reader.u1()
        reader.take(2 * steps)
        null = self._annotation(reader)
        return number, "" if steps else null

    def _null(self, reader: _Reader) -> str:
        return "".join([self._annotation(reader) for _ in range(reader.u2())])[-1:]

    def _annotation(self, reader: _Reader) -> str:
        name = self.text(reader.u2())[1:-1].rsplit("/", 1)[-1]
        self._skip_values(reader)
        return NULLS.get(name, "")

    def _skip_values(self, reader: _Reader) -> None:
        for _ in range(reader.u2()):
            reader.u2()
            self._skip_value(reader)

    def _skip_value(self, reader: _Reader) -> None:
        tag = chr(reader.u1())
        if tag == "[":
            for _ in range(reader.u2()):
                self._skip_value(reader)
        elif tag == "@":
            reader.u2()
            self._skip_values(reader)
        else:
            reader.take(4 if tag == "e" else 2)

    def references(self) -> Iterator[Reference]:
        """The members that its code asks for."""
        for _, name, _, attributes in self.methods:
            if "Code" not in attributes:
                continue
            reader = _Reader(attributes["Code"])
            reader.take(4)
            code = reader.take(reader.u4())
            steps = list(instructions(code))
            guards = list(self._guards(steps))
            for at, operation, operand in steps:
                if 0xB2 <= operation <= 0xB9:
                    owner, member, descriptor = self._referred(operand)
                    level = max([level for level, first, end in guards if first <= at < end], default=1)
                    yield Reference(owner, member, descriptor, level, f"{self.name}.{name}")

    def classes(self) -> set[str]:
        """The classes that it names, itself not."""
        found = {self.text(entry[1]).lstrip("[") for entry in self.pool if entry and entry[0] == 7}
        return {name[1:-1] if name.endswith(";") else name for name in found if len(name) > 1} - {self.name}

    def _referred(self, operand: bytes) -> tuple[str, str, str]:
        _, owner, described = self.pool[int.from_bytes(operand[:2], "big")]
        _, name, descriptor = self.pool[described]
        return self.named(owner), self.text(name), self.text(descriptor)

    def _guards(self, steps: list[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, int]]:
        """(API level, first, end): code that runs on systems of that level and later alone.

        `if (SDK_INT >= 26) a` compares and leaps over `a` where it is less; `if (SDK_INT < 26) a else b` leaps to `b`.
        """
        for place, (_, operation, operand) in enumerate(steps[:-2]):
            if operation != 0xB2 or self._referred(operand)[:2] != SDK_INT:
                continue
            (_, push, number), (at, leap, distance) = steps[place + 1], steps[place + 2]
            if push not in (0x10, 0x11) or leap not in (0xA1, 0xA2):
                continue
            level, target = int.from_bytes(number, "big"), at + int.from_bytes(distance, "big", signed=True)
            if leap == 0xA1:
                yield level, at, target
                continue
            before = max((one for one in steps if one[0] < target), key=lambda one: one[0])
            if before[1] == 0xA7:
                yield level, target, before[0] + int.from_bytes(before[2], "big", signed=True)
            elif 0xAC <= before[1] <= 0xB1 or before[1] == 0xBF:
                yield level, target, steps[-1][0] + 1


def instructions(code: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(place, operation, operand) of a method's code."""
    at = 0
    while at < len(code):
        operation = code[at]
        if operation in (0xAA, 0xAB):
            start = (at + 4) & ~3
            low_or_count = struct.unpack_from(">i", code, start + 4)[0]
            if operation == 0xAA:
                length = start - at + 12 + 4 * (struct.unpack_from(">i", code, start + 8)[0] - low_or_count + 1)
            else:
                length = start - at + 8 + 8 * low_or_count
        elif operation == 0xC4:
            length = 6 if code[at + 1] == 0x84 else 4
        else:
            length = LENGTHS.get(operation, 1)
        yield at, operation, code[at + 1 : at + length]
        at += length


def count_parameters(descriptor: str) -> int:
    at, count = 1, 0
    while descriptor[at] != ")":
        at, count = skip(descriptor, at), count + 1
    return count


def files(*paths: Path) -> Iterator[ClassFile]:
    """The class files of folders and jars."""
    for path in paths:
        if path.is_dir():
            yield from (ClassFile(one.read_bytes()) for one in sorted(path.rglob("*.class")))
        else:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if name.endswith(".class"))
                yield from (ClassFile(archive.read(name)) for name in names if not name.startswith("META-INF"))


def declared(*paths: Path) -> Classes:
    """What the classes of folders and jars declare."""
    return Classes({one.name: one.declared() for one in files(*paths)})


# writing


class _Pool:
    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.places: dict[object, int] = {}
        self.count = 1

    def _add(self, key: object, content: bytes, width: int = 1) -> int:
        if key not in self.places:
            self.places[key] = self.count
            self.entries.append(content)
            self.count += width
        return self.places[key]

    def text(self, text: str) -> int:
        content = text.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")
        return self._add(("text", text), struct.pack(">BH", 1, len(content)) + content)

    def named(self, name: str) -> int:
        return self._add(("class", name), struct.pack(">BH", 7, self.text(name)))

    def constant(self, descriptor: str, value: str) -> int:
        if descriptor == "Ljava/lang/String;":
            return self._add(("string", value), struct.pack(">BH", 8, self.text(value)))
        if descriptor in ("F", "D"):
            packed = struct.pack(">Bf" if descriptor == "F" else ">Bd", 4 if descriptor == "F" else 6, float(value))
            return self._add((descriptor, value), packed, 1 if descriptor == "F" else 2)
        if descriptor == "J":
            return self._add((descriptor, value), struct.pack(">Bq", 5, int(value)), 2)
        return self._add(("I", value), struct.pack(">Bi", 3, int(value)))


def content(one: Class, classes: Classes) -> bytes:
    """The class as a file without code. `classes` know those that it lies in, and those that lie in it."""
    pool = _Pool()
    bits = {"interface": INTERFACE | 0x400, "annotation": INTERFACE | ANNOTATION | 0x400, "enum": ENUM}
    flags = (bits.get(one.kind, 0) or 0x20) | _bits(one.modifiers - {"static", "protected"})
    above, *interfaces = one.superclasses or ("",)
    head = struct.pack(
        ">HHH",
        flags | (0x1 if "protected" in one.modifiers else 0),
        pool.named(one.name),
        pool.named(above) if above else 0,
    )
    head += struct.pack(">H", len(interfaces)) + b"".join(struct.pack(">H", pool.named(name)) for name in interfaces)
    fields, methods = [], []
    for (name, descriptor), member in sorted(one.members.items()):
        (methods if member.is_method else fields).append(_member(pool, one, name, descriptor, member))
    attributes = [_signature(pool, one.parameters + "".join(one.supers))] * (
        one.parameters != "" or "<" in "".join(one.supers)
    )
    if "deprecated" in one.modifiers:
        attributes.append(_attribute(pool, "Deprecated", b""))
    if inner := _inner(pool, one, classes):
        attributes.append(inner)
    body = head
    for group in (fields, methods, attributes):
        body += struct.pack(">H", len(group)) + b"".join(group)
    return struct.pack(">IHHH", 0xCAFEBABE, 0, 52, pool.count) + b"".join(pool.entries) + body


def _bits(modifiers: frozenset[str]) -> int:
    return sum(FLAGS[word] for word in modifiers if word in FLAGS)


def _attribute(pool: _Pool, name: str, body: bytes) -> bytes:
    return struct.pack(">HI", pool.text(name), len(body)) + body


def _signature(pool: _Pool, signature: str) -> bytes:
    return _attribute(pool, "Signature", struct.pack(">H", pool.text(signature)))


def _annotation(pool: _Pool, letter: str) -> bytes:
    name = {"N": "NonNull", "?": "Nullable"}.get(letter)
    return struct.pack(">HHH", 1, pool.text(f"Landroidx/annotation/{name};"), 0) if name else struct.pack(">H", 0)


def _default(pool: _Pool, descriptor: str) -> bytes:
    """Any value of a type: what matters is that there is one."""
    if descriptor.startswith("["):
        return b"[\0\0"
    if descriptor == "Ljava/lang/String;":
        return struct.pack(">cH", b"s", pool.text(""))
    if descriptor == "Ljava/lang/Class;":
        return struct.pack(">cH", b"c", pool.text("Ljava/lang/Object;"))
    if descriptor.startswith("L"):
        return struct.pack(">cHH", b"e", pool.text(descriptor), pool.text("NONE"))
    return struct.pack(">cH", descriptor.encode(), pool.constant(descriptor, "0"))


def _member(pool: _Pool, one: Class, name: str, descriptor: str, member: Member) -> bytes:
    attributes = [_signature(pool, member.signature)] * (member.signature != descriptor)
    if member.throws:
        names = sorted(member.throws)
        body = struct.pack(">H", len(names)) + b"".join(struct.pack(">H", pool.named(name)) for name in names)
        attributes.append(_attribute(pool, "Exceptions", body))
    if member.value:
        attributes.append(_attribute(pool, "ConstantValue", struct.pack(">H", pool.constant(descriptor, member.value))))
    if member.nulls[:1] in ("N", "?"):
        attributes.append(_attribute(pool, "RuntimeInvisibleAnnotations", _annotation(pool, member.nulls[0])))
    if member.nulls[1:].strip("-"):
        body = bytes([len(member.nulls) - 1]) + b"".join(_annotation(pool, letter) for letter in member.nulls[1:])
        attributes.append(_attribute(pool, "RuntimeInvisibleParameterAnnotations", body))
    if "deprecated" in member.modifiers:
        attributes.append(_attribute(pool, "Deprecated", b""))
    if "default" in member.modifiers:
        attributes.append(_attribute(pool, "AnnotationDefault", _default(pool, descriptor[2:])))
    flags = _bits(member.modifiers)
    if one.kind == "enum" and not member.is_method and descriptor == f"L{one.name};":
        flags |= ENUM
    return struct.pack(">HHHH", flags, pool.text(name), pool.text(descriptor), len(attributes)) + b"".join(attributes)


def _inner(pool: _Pool, one: Class, classes: Classes) -> bytes:
    names = [name for name in classes if name.startswith(one.name + "$") and "$" not in name[len(one.name) + 1 :]]
    parts = one.name.split("$")
    names += ["$".join(parts[:count]) for count in range(2, len(parts) + 1)]
    rows = []
    for name in sorted(names):
        outer, _, simple = name.rpartition("$")
        known = classes.get(name)
        kind = {"interface": INTERFACE | 0x400, "annotation": INTERFACE | ANNOTATION | 0x400, "enum": ENUM}
        flags = (kind.get(known.kind, 0) | _bits(known.modifiers)) if known else FLAGS["public"]
        rows.append(struct.pack(">HHHH", pool.named(name), pool.named(outer), pool.text(simple), flags))
    return _attribute(pool, "InnerClasses", struct.pack(">H", len(rows)) + b"".join(rows)) if rows else b""


def write(path: Path, classes: Classes) -> None:
    """A jar of the classes, for compilers to read."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(classes):
            archive.writestr(zipfile.ZipInfo(f"{name}.class"), content(classes[name], classes))
