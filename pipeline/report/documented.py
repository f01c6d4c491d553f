"""Which operators of an artifact accelerators are documented to take: looked up, not measured.

A file below ``support/`` is one delegate's list, with its source and the version of that. Shapes, types and versions of operators
decide on the device; only a run there says what ran (`twinkeel parity --device-results`, `twinkeel replay` on a Mac).
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ..parity import Row

_FOLDER = Path(__file__).parent / "support"
_CALLS = "delegate"
"""Calls of delegates, which ExecuTorch's programs count among their instructions."""


class Delegate(BaseModel):
    """A file below ``support/``.

    Attributes:
        unit: what computes what it takes.
        version: of the documentation.
        source: its address.
        note: for people, in a sentence.
        is_listed: whether there is a list of operators at all; where there is none, what is not barred is not known.
        is_in_file: whether operators with the target's prefix are in the delegate already, as the artifact shows.
        targets: and with what the names of operators begin that are meant; with "" all are.
        operators: those that it takes, and on what condition; "" for none.
        barred: precisions of which it takes nothing, and why.
        names: what operators of the artifact are called in the list, where that is something else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    unit: str
    version: str
    source: str = Field(pattern=r"^https://\S+$")
    note: str
    is_listed: bool = True
    is_in_file: bool = False
    targets: dict[str, str]
    operators: dict[str, str] = {}
    barred: dict[str, str] = {}
    names: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Support:
    """What a delegate is documented to take of an artifact; operators by name, and how often each occurs.

    Attributes:
        artifact: target and precision.
        inside: in the delegate already, as the file shows.
        taken: listed.
        conditions: of those that are listed with one.
        left: not listed, or barred.
        unknown: no list says.
        barred: why it takes nothing of this precision; empty where it may.
    """

    artifact: str
    delegate: Delegate
    inside: Mapping[str, int]
    taken: Mapping[str, int]
    conditions: Mapping[str, str]
    left: Mapping[str, int]
    unknown: Mapping[str, int]
    barred: str

    @property
    def total(self) -> int:
        return sum(sum(one.values()) for one in (self.inside, self.taken, self.left, self.unknown))

    @property
    def verdict(self) -> str:
        """In words, for a cell: ``all 66``, ``64 of 66``, ``none``, ``not documented``."""
        if self.barred:
            return "none"
        if self.unknown:
            return "not documented"
        count = sum(self.inside.values()) + sum(self.taken.values())
        return f"all {self.total}" if count == self.total else f"{count} of {self.total}"


_UNTOLD = {
    "ios/coreai": "Core AI: no list of operations by unit is known, and it does not tell what ran. Here Apple's package coreai-core ran the artifacts, "
    "whose kernels for processors are not those of iOS: what an iPhone computes, the kit's test on a device tells, by limits of its own.",
}
"""By target, what there is to say of its accelerators where nothing is documented."""


def untold(rows: Iterable[Row]) -> list[str]:
    """Of targets of which nothing can be looked up, why."""
    return [_UNTOLD[name] for name in dict.fromkeys(row.artifact.target for row in rows) if name in _UNTOLD]


@functools.cache
def delegates() -> tuple[Delegate, ...]:
    """All of them, by the names of their files."""
    return tuple(Delegate(**tomllib.loads(path.read_text("utf-8"))) for path in sorted(_FOLDER.glob("*.toml")))


def supports(rows: Iterable[Row]) -> list[Support]:
    """Of each artifact, what each delegate of its target is documented to take; nothing of those whose operators are not known."""
    return [
        support(delegate, row.artifact.target, row.artifact.precision, row.operators)
        for row in rows
        for delegate in delegates()
        if row.artifact.target in delegate.targets and row.operators
    ]


def support(delegate: Delegate, target: str, precision: str, operators: Mapping[str, int]) -> Support:
    """What a delegate is documented to take of an artifact with these operators."""
    prefix, barred = delegate.targets[target], delegate.barred.get(precision, "")
    found: dict[str, dict[str, int]] = {"inside": {}, "taken": {}, "left": {}, "unknown": {}}
    conditions = {}
    for operator, count in operators.items():
        if operator == _CALLS:
            continue
        meant = operator.removeprefix(prefix)
        is_meant = operator.startswith(prefix)
        name = delegate.names.get(meant, meant) if is_meant else _bare(operator)
        if barred:
            kind = "left"
        elif prefix and is_meant and delegate.is_in_file:
            kind = "inside"
        elif name in delegate.operators:
            kind = "taken"
            if delegate.operators[name]:
                conditions[meant] = delegate.operators[name]
        else:
            kind = "left" if delegate.is_listed or not is_meant else "unknown"
        found[kind][meant] = count
    return Support(artifact=f"{target} {precision}", delegate=delegate, conditions=conditions, barred=barred, **found)


def _bare(kernel: str) -> str:
    """``add`` of ``aten::add.out``."""
    return kernel.split("::")[-1].split(".")[0]
