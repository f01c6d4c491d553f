"""What is allowed on a leg: the rows of the tables, the task's, and the configuration's own values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..config import Limit as Override
from ..errors import ConfigError, nearest
from .limits import (
    COREAI_HALF,
    COREAI_HALF_LIMITS,
    COREAI_LIMITS,
    EXECUTOR_LIMITS,
    LIMITS,
    ONNXRUNTIME_LIMITS,
    XNNPACK_LIMITS,
    Limit,
)
from .meaning import Meaning

_SHARES = ("equal_logits", "equal_values")


def limits_for(
    meaning: Meaning,
    leg: str,
    precision: str,
    overrides: Iterable[Override],
    evidence: str = "runtime",
    kernels: str = "",
) -> tuple[Limit, ...]:
    """The limits of a leg, with the configuration's own values.

    Args:
        meaning: of the outputs, with the task's own limits.
        evidence: what ran the artifact.
        kernels: whose arithmetic it has; limits of their own go before those of the evidence.

    Raises:
        ConfigError: there is no row, or a limit is loosened without a reason.
    """
    rows = {row.metric: row for row in _own_limits(meaning, leg, precision, evidence, kernels)}
    for override in overrides:
        if (override.leg, override.precision) != (leg, precision):
            continue
        row = rows.get(override.metric)
        if row is None and leg == "lower" and override.metric in meaning.counted:
            sense, reason = meaning.counted[override.metric], override.reason or "the configuration's own"
            rows[override.metric] = Limit.counted(override.metric, sense, override.value, reason)
        elif row is not None:
            if not row.holds(override.value) and not override.reason:
                raise ConfigError(
                    f"limit: {override.metric} {row.sense} {override.value:g} is looser than {row.value:g}; "
                    "give a reason"
                )
            reason = override.reason or f"tightened by the configuration; {row.value:g} by default: {row.reason}"
            rows[override.metric] = replace(row, value=override.value, reason=reason)
    return tuple(rows.values())


def _own_limits(meaning: Meaning, leg: str, precision: str, evidence: str, kernels: str) -> tuple[Limit, ...]:
    table = _tables(meaning, leg, precision)
    evidence = kernels if kernels in table else evidence
    if evidence not in table:
        raise ConfigError(
            f"there is no parity limit for {leg}, {precision}, {evidence}; add a row with its reason to LIMITS"
        )
    return table[evidence]


def check_overrides(meaning: Meaning, overrides: Iterable[Override], legs: Iterable[tuple[str, str, str, str]]) -> None:
    """Raise a ConfigError for a limit that would change nothing, or that nothing could miss or meet.

    Args:
        legs: (leg, precision, evidence, kernels) of all that the configuration asks for, as `limits_for` takes them.
    """
    overrides = list(overrides)
    reached = {
        (leg, precision, limit.metric)
        for leg, precision, evidence, kernels in legs
        for limit in limits_for(meaning, leg, precision, overrides, evidence, kernels)
    }
    for override in overrides:
        rows = _tables(meaning, override.leg, override.precision)
        if not rows:
            known = {p for leg, p in LIMITS if leg == override.leg}
            known |= set(EXECUTOR_LIMITS) if override.leg == "lower" else set()
            raise ConfigError(
                f"limit.precision: {override.leg} has no '{override.precision}'. {nearest(override.precision, known)}"
            )
        metrics = {row.metric for limits in rows.values() for row in limits}
        metrics |= set(meaning.counted) if override.leg == "lower" else set()
        if override.metric not in metrics:
            raise ConfigError(
                f"limit.metric: {override.leg}, {override.precision} has no '{override.metric}'. "
                + nearest(override.metric, metrics)
            )
        low, high = _range(meaning, override.metric)
        if not low <= override.value <= high:
            raise ConfigError(
                f"limit.value: {override.metric} lies between {low:g} and {high:g}, not at {override.value:g}. "
                "Shares are of 1, not of 100: half a point is 0.005."
            )
        if (override.leg, override.precision, override.metric) not in reached:
            raise ConfigError(
                f"limit: {override.leg} {override.precision} {override.metric} = {override.value:g} would change "
                "nothing: no artifact of this configuration is judged by it. Leave it out, or add the artifact that "
                "is meant to [targets]."
            )


def _range(meaning: Meaning, metric: str) -> tuple[float, float]:
    """The values that a limit of a metric can have and mean something."""
    if metric.endswith("_db"):
        return -1000.0, 1000.0
    return 0.0, 1.0 if metric in (*_SHARES, *meaning.counted) else 1e9


def _tables(meaning: Meaning, leg: str, precision: str) -> dict[str, tuple[Limit, ...]]:
    """The rows by evidence or kernels."""
    found = {"runtime": LIMITS[leg, precision]} if (leg, precision) in LIMITS else {}
    if leg == "lower":
        tables = {
            "reference executor": EXECUTOR_LIMITS,
            "xnnpack": XNNPACK_LIMITS,
            "onnxruntime": ONNXRUNTIME_LIMITS,
            "coreai": COREAI_LIMITS,
            COREAI_HALF: COREAI_HALF_LIMITS,
        }
        found |= {name: table[precision] for name, table in tables.items() if precision in table}
    return {name: (*rows, *meaning.rows(leg, precision, name)) for name, rows in found.items()}
