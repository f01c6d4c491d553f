"""What is allowed on a leg: the rows of the tables, the task's, and the configuration's own values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..config import Limit as Override
from ..errors import ConfigError, nearest
from .accelerators import OUTPUT_METRICS, Unit, device_limits, device_metrics
from .limits import (
    COREAI_HALF,
    COREAI_HALF_LIMITS,
    COREAI_LIMITS,
    EXECUTOR_LIMITS,
    LIMITS,
    NAMED,
    ONNXRUNTIME_LIMITS,
    XNNPACK_LIMITS,
    Limit,
)
from .meaning import Meaning

_SHARES = ("equal_logits", "equal_values")
_UNITS: tuple[Unit, ...] = ("CPU", "GPU", "NPU")
_CARRY_LABELS = ("reference executor", "coreai", COREAI_HALF)
"""Evidence or kernels of packages that do."""


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
            _check_reason(row, override)
            rows[override.metric] = _changed(row, override)
    return tuple(rows.values())


def _check_reason(row: Limit, override: Override) -> None:
    if not row.holds(override.value) and not override.reason:
        raise ConfigError(
            f"limit: {override.metric} {row.sense} {override.value:g} is looser than {row.value:g}; give a reason"
        )


def _changed(row: Limit, override: Override) -> Limit:
    reason = override.reason or f"tightened by the configuration; {row.value:g} by default: {row.reason}"
    return replace(row, value=override.value, reason=reason)


def device_limits_for(
    rows: Iterable[Limit], precision: str, unit: Unit, overrides: Iterable[Override]
) -> tuple[Limit, ...]:
    """The limits of what a unit computed on a device, with the configuration's own values.

    Args:
        rows: by default, as `device_limits` or an artifact's checks have them.
    """
    found = {row.metric: row for row in rows}
    for override in overrides:
        if (override.leg, override.precision) != ("device", precision) or override.unit not in ("", unit):
            continue
        row = found.get(override.metric)
        found[override.metric] = (
            Limit(
                metric=override.metric,
                sense=OUTPUT_METRICS[override.metric],
                value=override.value,
                reason=override.reason or "the configuration's own",
            )
            if row is None
            else _changed(row, override)
        )
    return tuple(found.values())


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
    overrides, legs = list(overrides), list(legs)
    reached = {
        (leg, precision, limit.metric)
        for leg, precision, evidence, kernels in legs
        for limit in limits_for(meaning, leg, precision, overrides, evidence, kernels)
    }
    for override in overrides:
        if override.leg == "device":
            _check_device(meaning, override, overrides, legs)
            continue
        if override.unit:
            raise ConfigError(
                f"limit.unit: '{override.unit}' of the leg {override.leg}, which was judged where it was built. Units are told apart "
                "on a device: write leg = 'device', or leave the unit out."
            )
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
        _check_value(meaning, override)
        if (override.leg, override.precision, override.metric) not in reached:
            raise ConfigError(
                f"limit: {override.leg} {override.precision} {override.metric} = {override.value:g} would change "
                "nothing: no artifact of this configuration is judged by it. Leave it out, or add the artifact that "
                "is meant to [targets]."
            )


def _check_device(
    meaning: Meaning, override: Override, overrides: list[Override], legs: list[tuple[str, str, str, str]]
) -> None:
    """The same of a limit on what devices compute."""
    judged = [found for found in legs if found[0] == "lower" and found[1] == override.precision]
    if not judged:
        known = sorted({precision for leg, precision, _, _ in legs if leg == "lower"})
        raise ConfigError(
            f"limit.precision: no artifact of this configuration is '{override.precision}', which a limit of the leg device asks for. "
            + nearest(override.precision, known)
        )
    metrics = device_metrics(override.precision)
    if override.metric not in metrics:
        raise ConfigError(
            f"limit.metric: device, {override.precision} has no '{override.metric}'. "
            + nearest(override.metric, metrics)
        )
    _check_value(meaning, override)
    for leg, precision, evidence, kernels in judged:
        built = limits_for(meaning, leg, precision, overrides, evidence, kernels)
        for unit in (override.unit,) if override.unit else _UNITS:
            rows = device_limits(kernels, precision, (unit,)) or of_outputs(built)
            for row in rows:
                if row.metric == override.metric:
                    _check_reason(row, override)


def of_outputs(rows: Iterable[Limit]) -> tuple[Limit, ...]:
    """Of an artifact's limits those that outputs of some images alone can keep or miss."""
    return tuple(row for row in rows if row.metric in OUTPUT_METRICS and not row.needs_all)


def _check_value(meaning: Meaning, override: Override) -> None:
    low, high = _range(meaning, override.metric)
    if not low <= override.value <= high:
        raise ConfigError(
            f"limit.value: {override.metric} lies between {low:g} and {high:g}, not at {override.value:g}. "
            "Shares are of 1, not of 100: half a point is 0.005."
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
    named = {name: (NAMED,) if leg == "lower" and meaning.decoding and name in _CARRY_LABELS else () for name in found}
    return {name: (*rows, *meaning.rows(leg, precision, name), *named[name]) for name, rows in found.items()}
