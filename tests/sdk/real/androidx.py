"""AndroidX, which is in no package: its stubs against the signatures of its published API texts, `androidx.txt` beside this file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import HERE, metalava
from .signatures import Classes, Member, erased

TEXT = HERE / "androidx.txt"
UNCOMPARED = frozenset(
    (
        *("androidx/annotation/NonNull", "androidx/annotation/Nullable"),
        *("androidx/activity/result/contract/ActivityResultContract", "androidx/activity/result/contract/ActivityResultContracts"),
        "androidx/camera/core/ImageAnalysis",
        *(f"androidx/compose/foundation/layout/{name}" for name in ("Column", "ColumnScope", "fillMaxSize", "fillMaxWidth", "safeDrawingPadding")),
        "androidx/compose/foundation/text/BasicText",
        *(f"androidx/compose/runtime/{name}" for name in ("MutableState", "ProvidableCompositionLocal", "SnapshotMutationPolicy", "State")),
        *(f"androidx/compose/runtime/{name}" for name in ("getValue", "local", "mutableStateOf", "setValue", "structuralEqualityPolicy")),
        *("androidx/compose/ui/Modifier", "androidx/compose/ui/platform/getLocalContext", "androidx/compose/ui/viewinterop/AndroidView"),
        *("androidx/lifecycle/LifecycleCoroutineScope", "androidx/lifecycle/LifecycleOwner", "androidx/lifecycle/getLifecycleScope"),
        *("androidx/test/ext/junit/runners/AndroidJUnit4", "androidx/test/platform/app/InstrumentationRegistry"),
    )
)  # fmt: skip
"""Classes, and functions of files, of which there is no row: these stubs are compared with nothing."""
_MARK = re.compile(r"(?<=[\w>\]])[?!]")
_OWN = re.compile(r"\$(Companion|DefaultImpls|\d+)$")
"""Of classes that Kotlin's compiler makes by itself: bodies of interfaces, and what has no name."""
_WORDS = re.compile(r"(?:(?:public|static|final|abstract|default|optional) )*")


@dataclass(frozen=True)
class Row:
    """A class of the text; members by name and descriptor, with their letters of nullability and whether they are static."""

    kind: str
    above: tuple[str, ...]
    members: dict[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)


def read() -> dict[str, Row]:
    found: dict[str, Row] = {}
    package, current, known = "", Row("class", ()), set()
    for line in map(str.strip, TEXT.read_text("utf-8").splitlines()):
        if line.startswith("package "):
            package = line.split()[1]
        elif head := re.match(r"[a-z ]*?(class|interface|@interface) ([\w.]+)(?:<([\w, ]+)>)?(.*) \{$", line):
            kind, name, parameters, rest = head.groups()
            known = set(re.findall(r"\w+", parameters or ""))
            above = re.findall(
                r"[\w.]+\.\w+", re.sub(r"<.*>", "", rest.replace("extends", " ").replace("implements", " "))
            )
            current = Row(kind, tuple(map(metalava.binary, above)))
            found[metalava.binary(f"{package}.{name}")] = current
        elif member := re.match(r"(ctor|method|field) (.*);$", line):
            _add(current, *member.groups(), known)
    return found


def _add(row: Row, kind: str, text: str, known: set[str]) -> None:
    words = _WORDS.match(text)[0]
    rest, is_static = text[len(words) :], "static" in words
    if kind == "field":
        type_, name = rest.split(" = ")[0].split()
        row.members[name, _type(type_, known)[0]] = "", is_static
        return
    generic, rest = metalava._balanced(rest)
    known = known | set(re.findall(r"\w+", generic))
    before, taken = re.match(r"(.*?)\((.*)\)", rest).groups()
    returned, name = ("void", "<init>") if kind == "ctor" else before.rsplit(" ", 1)
    types = [_type(_bare(one), known) for one in metalava._split(taken)]
    result, null = _type(returned, known)
    row.members[name, f"({''.join(type_ for type_, _ in types)}){result}"] = (
        null + "".join(one for _, one in types),
        is_static,
    )


def _bare(parameter: str) -> str:
    """Its type alone: Kotlin's have names, Java's have none."""
    parameter = parameter.removeprefix("optional ")
    depth, at = 0, len(parameter)
    for place, letter in enumerate(parameter):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == " " and not depth:
            at = place
    return parameter[:at]


def _type(text: str, known: set[str]) -> tuple[str, str]:
    """Descriptor and letter."""
    plain = metalava._signature(_MARK.sub("", text), known)
    descriptor = erased(plain, {})
    if not descriptor.startswith(("L", "[")) or plain.startswith("T"):
        return descriptor, "-"
    return descriptor, {"?": "?", "!": "-"}.get(text[-1], "N")


def differences(stubs: Classes) -> Iterator[str]:
    """Where stubs of AndroidX are not as it is, and what is neither compared nor said not to be."""
    rows = read()
    for name, stub in sorted(stubs.items()):
        package, _, last = name.rpartition("/")
        own = (m for m in stub.members.values() if "$" not in m.name and "public" in m.modifiers)
        if not name.startswith("androidx/") or "public" not in stub.modifiers or _OWN.search(last):
            continue
        if last.endswith("Kt"):
            theirs = {key: one for row, found in rows.items() if row.startswith(f"{package}/") and row.endswith("Kt") for key, one in found.members.items()}  # fmt: skip
            yield from _members(package, (m for m in own if f"{package}/{m.name}" not in UNCOMPARED), theirs)
        elif name in rows:
            row = rows[name]
            kind = {"@interface": "annotation"}.get(row.kind, row.kind)
            if stub.kind != kind:
                yield f"{name}: is a {stub.kind}, in truth a {kind}"
            if strange := {*stub.superclasses} - {*row.above, "java/lang/Object", "java/lang/annotation/Annotation"}:
                yield f"{name}: extends {', '.join(sorted(strange))}, in truth {', '.join(row.above) or 'nothing'}"
            inherited = {key: one for above in row.above if above in rows for key, one in rows[above].members.items()}
            is_made = any(
                key[0] == "<init>" for key in row.members
            )  # where nobody can, the stub's own is Kotlin's internal
            shown = (m for m in own if m.name != "Companion" and (is_made or m.name != "<init>"))
            yield from _members(name, shown, inherited | row.members)
        elif name not in UNCOMPARED:
            yield f"{name}: there is no row of it"


def _members(where: str, ours: Iterator[Member], theirs: dict[tuple[str, str], tuple[str, bool]]) -> Iterator[str]:
    for member in sorted(ours, key=lambda one: one.name):
        descriptor = erased(member.signature, {})
        if (member.name, descriptor) not in theirs:
            others = sorted(other for name, other in theirs if name == member.name)
            yield f"{where}.{member.name}{descriptor}: there is no such member" + (
                f", only {', '.join(others)}" if others else ""
            )
            continue
        nulls, is_static = theirs[member.name, descriptor]
        if ("static" in member.modifiers) != is_static:
            yield f"{where}.{member.name}{descriptor}: is {'' if is_static else 'not '}static in truth"
        if member.is_method and member.nulls.ljust(len(nulls), "-") != nulls:
            yield f"{where}.{member.name}{descriptor}: may be null as {member.nulls or '-'}, in truth {nulls}"
