"""Rows of evidence: what ran an artifact, where, and what was found there. As JSON holds them, in ``runs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..parity import ASKED, Ran
from . import machine as machines

Run = Mapping[str, Any]
"""A row: ``evidence``, ``where`` (in short), ``machine``, ``versions``, ``units`` (what was asked for), ``by`` and ``checks``; and
``accelerator`` where it is known what ran: ``ran``, ``fell_back``, ``reason``, ``ms`` and ``plan``."""
_SAME = ("evidence", "machine", "units")
_OTHER_KERNELS = "coreai-core"
"""Distribution of a runtime whose kernels, for processors, are not those that phones have of it; see `parity.SYSTEMS`."""
LATENCY = "latency"
"""Evidence of how fast an artifact is, and of nothing that it computes: such a row has no checks, and proves nothing."""


def row(
    *,
    evidence: str,
    by: str,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    units: str = "CPU",
    checks: Sequence[Mapping[str, Any]] = (),
    accelerator: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One run.

    Args:
        evidence: what ran it: ``runtime``, ``reference executor`` or ``device``; or `LATENCY`.
        by: ``build``, ``replay``, ``kit``, or what took times: ``adb`` or ``mac``.
        machine: as `machine.here` gives it, or what a device says of itself.
        versions: of the runtime's packages.
        units: what was asked to compute, in the runtime's own words.
        checks: as `manifest.described` gives them. The build's own stand beside its row.
        accelerator: what ran, where it is known.
    """
    found = {
        "evidence": evidence,
        "by": by,
        "where": machines.short(machine),
        "machine": dict(machine),
        "versions": dict(versions),
        "units": units,
        "checks": [dict(check) for check in checks],
    }
    return found if accelerator is None else found | {"accelerator": dict(accelerator)}


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


def has_run(run: Run) -> bool:
    """Whether anything ran: an accelerator can be refused."""
    told = run.get("accelerator") or {}
    return bool(told.get("ran") != [])


def ran(run: Run) -> Ran | None:
    """What a device said of it; None where nothing is known of that."""
    told = run.get("accelerator")
    if told is None or run["units"] not in ASKED:
        return None
    units = told.get("ran")
    return Ran(
        asked=run["units"],
        ran=None if units is None else tuple(units),
        fell_back=bool(told.get("fell_back")),
        reason=str(told.get("reason", "")),
    )


def kind(run: Run) -> str:
    """What ran it, in words: ``runtime for processors`` where phones have other kernels of that runtime."""
    other = run["evidence"] == "runtime" and _OTHER_KERNELS in run.get("versions", ())
    return f"{run['evidence']} for processors" if other else str(run["evidence"])


def short(run: Run) -> str:
    """``runtime x86-64 (AVX-512 VNNI)``; with the unit where that is not the CPU alone, and with what ran instead. Of a latency the
    milliseconds too."""
    told = ran(run)
    units = run["units"] if told is None else str(told)
    where = f"{kind(run)} {run['where']}" + ("" if units in ("CPU", "CPU_ONLY") else f" {units}")
    return where + (f", {milliseconds(run)}" if proves_nothing(run) and milliseconds(run) else "")


def proves_nothing(run: Run) -> bool:
    """Whether it says how fast, and nothing of what came out."""
    return bool(run["evidence"] == LATENCY)


def milliseconds(run: Run) -> str:
    """``2.5 ms``, the median or what is nearest to it; empty where no time was taken."""
    ms = (run.get("accelerator") or {}).get("ms")
    return "" if ms is None else f"{ms['median']:.3g} ms{' on average' if ms.get('is_mean') else ''}"
