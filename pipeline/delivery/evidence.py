"""Rows of evidence: what ran an artifact, where, and what was found there. As JSON holds them, in ``runs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import machine as machines

Run = Mapping[str, Any]
"""A row: ``evidence``, ``where`` (in short), ``machine``, ``versions``, ``units``, ``by`` and ``checks``."""
_SAME = ("evidence", "machine", "units")


def row(
    *,
    evidence: str,
    by: str,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    units: str = "CPU",
    checks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One run.

    Args:
        evidence: what ran it: ``runtime``, ``reference executor`` or ``device``.
        by: ``build``, ``replay`` or ``kit``.
        machine: as `machine.here` gives it, or what a device says of itself.
        versions: of the runtime's packages.
        units: what computed, in the runtime's own words.
        checks: as `manifest.described` gives them. The build's own stand beside its row.
    """
    return {
        "evidence": evidence,
        "by": by,
        "where": machines.short(machine),
        "machine": dict(machine),
        "versions": dict(versions),
        "units": units,
        "checks": [dict(check) for check in checks],
    }


def merged(runs: Iterable[Run], new: Iterable[Run]) -> list[Run]:
    """`runs` and the `new` ones behind them; each takes the place of one of the same machine, by the same means."""
    found = list(runs)
    for one in new:
        same = [n for n, other in enumerate(found) if all(other.get(key) == one[key] for key in _SAME)]
        if same:
            found[same[0]] = one
        else:
            found.append(one)
    return found


def is_met(run: Run) -> bool:
    return all(check.get("is_met") for check in run["checks"])


def short(run: Run) -> str:
    """``runtime x86-64 (AVX-512 VNNI)``; with the unit where that is not the CPU alone."""
    units = "" if run["units"] in ("CPU", "CPU_ONLY") else f" {run['units']}"
    return f"{run['evidence']} {run['where']}{units}"
