"""The text in which Android's public API is published, `core/api/current.txt` of its platform's sources, as classes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from .signatures import MODIFIERS, Class, Classes, Member, erased, variables

ANNOTATION = re.compile(r"@(?!interface\b)[\w.]+(?:\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\))?\s*")
PRIMITIVES = dict(
    zip(["void", "boolean", "byte", "short", "char", "int", "long", "float", "double"], "VZBSCIJFD", strict=True)
)
OTHER_WORDS = ("sealed", "native", "synchronized", "volatile", "transient", "strictfp")
HEAD = re.compile(r"(?P<words>(?:[a-z]+ )*?)(?P<kind>class|interface|enum|@interface) (?P<name>[\w.]+)(?P<rest>.*) \{$")


def read(path: Path) -> Classes:
    """All classes of the text."""
    classes, package, current = Classes(), "", None
    for line in path.read_text("utf-8").splitlines():
        stripped = line.strip()
        if stripped.startswith("package "):
            package = re.findall(r"([\w.]+) \{$", stripped)[0].replace(".", "/")
        elif line.startswith("    ") and current:
            if member := _member(stripped, current):
                current.members[member.name, erased(member.signature, variables(current.parameters))] = member
        elif line.startswith("  ") and stripped.endswith("{"):
            current = _head(stripped, package)
            classes[current.name] = current
            if current.kind == "enum":  # the text leaves out what every enum has
                for name, signature in (
                    ("values", f"()[L{current.name};"),
                    ("valueOf", f"(Ljava/lang/String;)L{current.name};"),
                ):
                    current.members[name, signature] = Member(frozenset({"public", "static"}), name, signature)
    return classes


def _bare(text: str) -> str:
    return ANNOTATION.sub("", text).strip()


def _null(text: str) -> str:
    """The letter of a type or a parameter by the annotations in front of it; those of type arguments are not of it."""
    front = text.split("<")[0]
    return "N" if "@NonNull" in front else "?" if "@Nullable" in front else "-"


def _split(text: str, separator: str = ",") -> list[str]:
    depth, parts = 0, [""]
    for letter in text:
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(letter, 0)
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _balanced(text: str) -> tuple[str, str]:
    """`<...>` at the beginning, without the brackets, and the rest."""
    if not text.startswith("<"):
        return "", text
    depth = 0
    for at, letter in enumerate(text):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if not depth:
            return text[1:at], text[at + 1 :].strip()
    raise ValueError(f"no end of {text}")


def _signature(text: str, known: set[str]) -> str:
    """`java.util.List<T>[]` as a signature; `known` are the names of type variables."""
    text = _bare(text)
    if text.endswith("..."):
        text = text[:-3] + "[]"
    if text.endswith("[]"):
        return "[" + _signature(text[:-2], known)
    if text in PRIMITIVES:
        return PRIMITIVES[text]
    if text.startswith("?"):
        bound = text[1:].strip()
        if not bound:
            return "*"
        word, _, bound = bound.partition(" ")
        return ("+" if word == "extends" else "-") + _signature(bound, known)
    name, opened, _ = text.partition("<")
    if not opened and name in known:
        return f"T{name};"
    arguments, rest = _balanced(text[len(name) :]) if opened else ("", "")
    inside = "".join(_signature(one, known) for one in _split(arguments))
    return f"L{binary(name)}{f'<{inside}>' if inside else ''}{_tail(rest, known)};"


def _tail(rest: str, known: set[str]) -> str:
    if not rest.startswith("."):
        return ""
    name, opened, _ = rest[1:].partition("<")
    arguments, more = _balanced(rest[1 + len(name) :]) if opened else ("", "")
    inside = "".join(_signature(one, known) for one in _split(arguments))
    return f".{name}{f'<{inside}>' if inside else ''}{_tail(more, known)}"


def binary(name: str) -> str:
    """`android.graphics.Bitmap.Config` as a class file spells it; names of packages are lower case, those of java.lang are left out."""
    parts = name.split(".")
    if len(parts) == 1 or parts[0][:1].isupper():
        parts = ["java", "lang", *parts]
    first = next(number for number, part in enumerate(parts) if part[:1].isupper())
    return "/".join([*parts[:first], "$".join(parts[first:])])


def _parameters(text: str, known: set[str]) -> tuple[str, set[str]]:
    """Type parameters `T extends A & B, U` as a signature, and all names that are known then."""
    declared = [_bare(one).partition(" extends ") for one in _split(text)]
    known = known | {name for name, _, _ in declared}
    parts = []
    for name, _, bounds in declared:
        each = [_signature(one, known) for one in _split(bounds, "&")] or ["Ljava/lang/Object;"]
        parts.append(name + "".join(":" + one for one in each))
    return f"<{''.join(parts)}>" if parts else "", known


def _head(line: str, package: str) -> Class:
    found = HEAD.match(_bare(line))
    if not found:
        raise ValueError(f"no class: {line}")
    words = frozenset(found["words"].split()) & set(MODIFIERS) | ({"deprecated"} if "@Deprecated " in line else set())
    kind = "annotation" if found["kind"] == "@interface" else found["kind"]
    generic, rest = _balanced(found["rest"].strip())
    parameters, known = _parameters(generic, set())
    above, _, interfaces = f" {rest}".partition(" implements ")
    above = above.replace(" extends ", "", 1).strip()
    supers = [*([above] if above else []), *_split(interfaces.strip(), " ")]
    if kind in ("interface", "annotation"):
        supers = _split(" ".join(supers), " ")
        words |= {"abstract"}
    name = f"{package}/{found['name'].replace('.', '$')}"
    first = {"enum": [f"Ljava/lang/Enum<L{name};>;"]}.get(kind, ["Ljava/lang/Object;"] * (kind != "class" or not above))
    interfaces = ["Ljava/lang/annotation/Annotation;"] * (kind == "annotation")
    listed = [*first, *(_signature(one, known) for one in supers), *interfaces]
    return Class(kind, words, name, parameters, tuple(listed))


def _member(line: str, owner: Class) -> Member | None:
    kind, _, rest = line.partition(" ")
    known = set(variables(owner.parameters))
    if kind == "enum_constant":
        kind = "field"
    front, words, rest = _words(rest)
    if kind == "field":
        declared, _, value = rest.partition(" = ")
        declared = declared.rstrip(";").split("; //")[0]
        type_, _, name = declared.rpartition(" ")
        signature = _signature(type_, known)
        # `(0.0f/0.0f)` and its like are left out: nothing is compiled by them
        plain = _constant(value, signature) if "final" in words and "static" in words else ""
        return Member(words, name, signature, _null(front + type_).strip("-"), value=plain)
    if kind not in ("method", "ctor"):
        return None
    generic, rest = _balanced(rest)
    parameters, known = _parameters(generic, known)
    more, words_, rest = _words(rest)
    words |= words_
    found = re.match(
        r"(?P<type>.*?)(?P<name>[\w.]+)\((?P<parameters>.*)\)(?: throws (?P<throws>[\w., ]+))?(?: default .*)?;$", rest
    )
    if not found:
        raise ValueError(f"no method: {line}")
    taken = _split(found["parameters"])
    types = [_signature(one, known) for one in taken]
    nulls = "".join(map(_null, taken))
    if kind == "ctor":
        if "$" in owner.name and "static" not in owner.modifiers:
            types, nulls = [f"L{owner.name.rpartition('$')[0]};", *types], "-" + nulls
        name, returned, nulls = "<init>", "V", "-" + nulls
    else:
        name, returned = found["name"], _signature(found["type"], known)
        nulls = _null(front + more + found["type"]) + nulls
    words |= {"default"} if owner.kind == "annotation" and " default " in line else set()
    words |= {"varargs"} if taken and taken[-1].endswith("...") else set()
    if (
        owner.kind in ("interface", "annotation")
        and "static" not in words
        and not re.search(r"\bdefault\b", line.split("(")[0])
    ):
        words |= {"abstract"}
    throws = frozenset(binary(one) for one in _split(found["throws"] or ""))
    return Member(
        frozenset(words), name, f"{parameters}({''.join(types)}){returned}", nulls if nulls.strip("-") else "", throws
    )


def _words(rest: str) -> tuple[str, frozenset[str], str]:
    """(annotations, modifiers, what follows)."""
    annotations, words = "", set()
    while True:
        if found := ANNOTATION.match(rest):
            words |= {"deprecated"} if found[0].startswith("@Deprecated") else set()
            annotations, rest = annotations + found[0], rest[found.end() :]
            continue
        word, _, after = rest.partition(" ")
        if word not in MODIFIERS and word not in OTHER_WORDS:
            return annotations, frozenset(words & set(MODIFIERS) - {"default"}), rest
        words.add(word)
        rest = after


def _constant(value: str, signature: str) -> str:
    value = re.split(r"; // |;$", value)[0]
    if signature == "Ljava/lang/String;":
        return json.loads(value) if value.startswith('"') else ""
    if signature == "Z":
        return str(int(value == "true")) if value else ""
    if signature == "C":
        return str(int(re.match(r"\d+", value)[0])) if re.match(r"\d+", value) else ""
    value = value.rstrip("fFL") if signature in "FJ" else value
    return value if re.fullmatch(r"-?[\d.]+(?:[eE]-?\d+)?", value) else ""


def wanted(classes: Classes, seeds: Iterator[str]) -> Classes:
    """The seeds, the classes in them, and all that they extend and implement."""
    found, waiting = (
        Classes(),
        [name for seed in seeds for name in classes if name == seed or name.startswith(seed + "$")],
    )
    while waiting:
        name = waiting.pop()
        if name not in found and name in classes:
            found[name] = classes[name]
            waiting += classes[name].superclasses
            waiting += [name.rpartition("$")[0]] * ("$" in name)
    return found
