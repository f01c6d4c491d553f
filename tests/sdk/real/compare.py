"""Stubs against real signatures, and what compiled kits ask of a platform against what it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from . import classfiles
from .signatures import Class, Classes, Member, words

PLATFORM = ("android/", "java/", "javax/", "org/json/", "dalvik/", "org/xml/", "org/w3c/")
"""Where packages begin whose classes are all Android's."""
COMPILERS = {"java/lang/invoke/LambdaMetafactory", "java/lang/invoke/StringConcatFactory"}
"""What D8 replaces by code of its own."""


def differences(stubs: Classes, real: Classes) -> Iterator[str]:
    """Where stubs of classes that `real` knows, or should know, are not as they are; `Fake...` is the stubs' own."""
    packages = {name.rpartition("/")[0] for name in real}
    for name, stub in sorted(stubs.items()):
        is_hidden = not stub.modifiers & {"public", "protected"} or re.search(r"/Fake\w+$|\$\d+$", name)
        if name.rpartition("/")[0] not in packages or is_hidden:
            continue
        if name not in real and name.endswith("Kt") and not stub.members:
            continue  # of what a Kotlin file holds beside its classes, nothing that others see
        if name not in real:
            yield f"{name}: there is no such class"
            continue
        yield from _head(stub, real[name], real)
        for key, member in sorted(stub.members.items()):
            if "$" in key[0]:  # Kotlin's internal
                continue
            found = real.find(name, *key) if key[0] != "<init>" else _declared(real[name], key)
            if found is None:
                yield f"{name}.{key[0]}{key[1]}: there is no such member{_others(name, key[0], real)}"
            else:
                yield from _member(f"{name}.{key[0]}{key[1]}", member, found[1], found[0].name == name)


def _declared(one: Class, key: tuple[str, str]) -> tuple[Class, Member] | None:
    return (one, one.members[key]) if key in one.members else None


def _others(name: str, member: str, real: Classes) -> str:
    owners = [real[name]] if member == "<init>" else real.parents(name)
    others = {descriptor for one in owners for other, descriptor in one.members if other == member}
    return f", only {', '.join(sorted(others))}" if others else ""


def _head(stub: Class, real: Class, known: Classes) -> Iterator[str]:
    if stub.kind != real.kind:
        yield f"{stub.name}: is a {stub.kind}, in truth a {real.kind}"
    # of enums and interfaces these go without saying
    implied = {"deprecated"} | ({"static", "final", "abstract"} if real.kind != "class" else set())
    ours, theirs = words(stub.modifiers - implied), words(real.modifiers - implied)
    if ours != theirs:
        yield f"{stub.name}: is {' '.join(ours)}, in truth {' '.join(theirs)}"
    above = {one.name for one in known.parents(real.name)} | set(real.superclasses) | {"java/lang/Object"}
    if strange := set(stub.superclasses) - above:
        yield f"{stub.name}: extends {', '.join(sorted(strange))}, in truth {', '.join(real.superclasses)}"
    if stub.parameters != real.parameters:
        yield f"{stub.name}: has the type parameters {stub.parameters}, in truth {real.parameters}"


def _member(where: str, stub: Member, real: Member, is_own: bool) -> Iterator[str]:
    # an override may be less abstract than what it inherits, and need not throw what that does
    unlike = {"abstract", "final", "default"} if not is_own else {"default"}
    ours, theirs = (words(one.modifiers - {"deprecated"} - unlike) for one in (stub, real))
    if ours != theirs:
        yield f"{where}: is {' '.join(ours)}, in truth {' '.join(theirs)}"
    if stub.throws != real.throws and not (stub.throws <= real.throws and not is_own):
        yield f"{where}: throws {', '.join(sorted(stub.throws)) or 'nothing'}, in truth {', '.join(sorted(real.throws)) or 'nothing'}"
    if stub.signature != real.signature:
        yield f"{where}: has the signature {stub.signature}, in truth {real.signature}"
    size = max(len(stub.nulls), len(real.nulls))
    if stub.nulls.ljust(size, "-") != real.nulls.ljust(size, "-"):
        yield f"{where}: may be null as {stub.nulls or '-'}, in truth {real.nulls or '-'}"


def absent(compiled: Iterable[classfiles.ClassFile], others: Classes, real: Classes, level: int) -> Iterator[str]:
    """What the code asks of the platform and systems of an API level do not have. `others` are the libraries' classes."""
    files = list(compiled)
    known = Classes({**others, **{one.name: one.declared() for one in files}, **real})
    seen = set()
    for file in files:
        for name in sorted(file.classes() - COMPILERS):
            if name.startswith(PLATFORM) and name not in real and (name, file.name) not in seen:
                seen.add((name, file.name))
                yield f"{file.name}: {name} is no class of Android's that is known"
        for one in file.references():
            if one.owner.startswith(("[", "kotlin", "fakes/")) or one in seen:
                continue
            seen.add(one)
            found = known.find(one.owner, one.name, one.descriptor)
            if found is None:
                if one.owner.startswith(PLATFORM) and one.owner in real:
                    yield f"{one.where}: {one.owner}.{one.name}{one.descriptor} is not in Android, or only after API level 37"
                continue
            needed = max(found[1].since, real[one.owner].since if one.owner in real else 1)
            if found[0].name in real and needed > max(level, one.level):
                asked = f" behind a question for {one.level}" if one.level > 1 else ""
                yield f"{one.where}: {one.owner}.{one.name} is there from API level {needed} on, used from {level} on{asked}"
