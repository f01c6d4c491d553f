"""Judge a program and its artifacts: what was measured of them against what is allowed, leg by leg."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..config import Config
from ..program import ORIGINAL, Artifact, Output, Target
from . import limits, metrics, verdict
from .allowed import limits_for
from .meaning import Meaning, Truth, Worth
from .measuring import broken
from .metrics import Values
from .verdict import State, Verdict


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of an artifact before it is judged.

    Attributes:
        twin: path of its float32 copy, relative to the platform's folder, if it has one.
        outputs: ``(N, ...)`` on all images; None where it does not run.
        metrics: every metric that could be taken.
        decodes: whether it decodes its outputs itself, or names them.
        images: indices of those that it ran on, where it is slow; None for all.
        runs: what ran it where; see `evidence`.
        error: why it does not run.
    """

    artifact: Artifact
    twin: str | None
    operators: Mapping[str, int]
    outputs: Values | None
    metrics: Mapping[str, float]
    decodes: bool
    images: Sequence[int] | None = None
    runs: Sequence[Mapping[str, Any]] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: an artifact and everything measured of it.

    Attributes:
        worth: what its outputs are worth on the held-out images.
        latency_ms: median on this machine; NaN where it does not run.
        outputs: on the held-out images, ``(N, ...)``; None where it does not run, or where they are not kept.
        images: on how many of the images it ran; None for all.
        runs: what ran it where, the build itself first; see `evidence`.
        before: checks of what it was lowered from; an artifact is no better than that.
        weights_db: SNR of its reference against the float model, where its weights alone are in fewer bits: what they lose; NaN elsewhere.
    """

    artifact: Artifact
    checks: list[limits.Check]
    worth: Worth
    latency_ms: float
    operators: Mapping[str, int]
    evidence: str
    reference: str
    twin: str | None
    outputs: Values | None = None
    images: int | None = None
    runs: Sequence[Mapping[str, Any]] = ()
    before: Sequence[limits.Check] = ()
    weights_db: float = math.nan

    @property
    def verdict(self) -> Verdict:
        return limits.worst(self.checks)

    @property
    def is_verified(self) -> bool:
        """Nothing is missed, here or anywhere that it ran, and what has to be shown is shown."""
        is_met = bool(self.checks) and all(check.is_met for check in (*self.before, *self.checks))
        return is_met and all(check["is_met"] for run in self.runs for check in run["checks"])

    @property
    def state(self) -> State:
        return verdict.state((check.verdict for check in (*self.before, *self.checks)), is_met=self.is_verified)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the references say of all images, held-out ones first.

    Attributes:
        references: ``(N, ...)`` by key.
        truth: of the held-out images, ``(held_out, ...)``.
        outputs: what stands where in them.
        in_float: what int8 artifacts compute in float, in an order that is each runtime's own; see `integer.in_float`.
    """

    references: Mapping[str, Values]
    truth: Truth
    outputs: Sequence[Output]
    in_float: Sequence[str] = ()

    @property
    def held_out(self) -> int:
        return len(self.truth)

    def of(self, key: str) -> Values:
        """A reference's on the held-out images."""
        return self.references[key][: self.held_out]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What the artifacts of one program are measured against."""

    outputs: Outputs
    targets: Mapping[str, Target]
    config: Config
    meaning: Meaning

    @property
    def scores(self) -> dict[str, float]:
        """Of the float and of the int8 reference on the held-out images."""
        pairs = {"float": ORIGINAL, "int8": "int8"}
        truth, outputs = self.outputs.truth, self.outputs.outputs
        return {name: self.meaning.score(self.outputs.of(key), truth, outputs) for name, key in pairs.items()}

    def program_checks(self, *, has_int8: bool) -> list[limits.Check]:
        """The fold leg on all images, the quantize leg on the held-out ones: the others were not calibrated for.

        Args:
            has_int8: False leaves the quantize leg out: nothing is shipped that it speaks of.
        """
        references = self.outputs.references
        folded = {"snr_db": metrics.snr_db(references[ORIGINAL], references["fp32"], self.outputs.outputs)}
        found = self._judged("fold", self._limits("fold", "float"), folded)
        if has_int8:
            floating, int8 = self.outputs.of("fp32"), self.outputs.of("int8")
            worth = self.meaning.worth(floating, floating, int8, self.outputs.truth, self.outputs.outputs)
            quantized = quantize_metrics(floating, int8, worth, self.outputs.outputs)
            found += self._judged("quantize", self._limits("quantize", "int8"), quantized)
        return found

    def rows(self, measured: Sequence[Measured], before: Sequence[limits.Check]) -> list[Row]:
        """The lower leg of the artifacts of a platform, without latency; one that does not run is a failed row.

        Args:
            before: the program's checks.
        """
        rows = []
        for item in measured:
            row = self._broken_row(item) if item.outputs is None else self._row(item, item.outputs)
            concerning = [check for check in before if limits.concerns(check.leg, item.artifact.precision)]
            rows.append(replace(row, before=concerning))
        return rows

    def _row(self, item: Measured, found: Values) -> Row:
        artifact, target, outputs = item.artifact, self.targets[item.artifact.target], self.outputs
        ran = range(len(found)) if item.images is None else item.images
        some = [number for number in ran if number < outputs.held_out]
        worth = self.meaning.worth(
            outputs.of(ORIGINAL)[some], outputs.of("fp32")[some], found[some], outputs.truth[some], outputs.outputs
        )
        absent = set() if item.decodes else {self.meaning.decoding}  # it gives outputs and nothing else
        kernels, in_float = self._arithmetic(item, target)
        allowed = self._limits("lower", artifact.precision, target.EVIDENCE, kernels)
        if kernels != target.KERNELS:  # whatever it sums, it is named as by its own kernels
            known = {row.metric for row in allowed}
            own = self._limits("lower", artifact.precision, target.EVIDENCE, target.KERNELS)
            allowed += tuple(row for row in own if row.metric == self.meaning.decoding and row.metric not in known)
        if in_float and artifact.precision == "int8":
            allowed = limits.beside_noise(allowed, self._own_db(target.REFERENCES[artifact.precision], some))
        if in_float:
            what = "in float inside" if artifact.precision == "int8" else "rounded otherwise"
            allowed = tuple(replace(row, reason=f"{row.reason}; {what}: {', '.join(in_float)}") for row in allowed)
        if item.images is not None:
            told = f"; on {len(ran):,} of {len(found):,} images, for it is slow here"
            allowed = tuple(replace(row, reason=row.reason + told) for row in allowed)
        return Row(
            artifact=artifact,
            checks=self._judged(
                "lower", [row for row in allowed if row.metric not in absent], {**item.metrics, **worth.counted}
            ),
            worth=worth,
            latency_ms=float("nan"),
            operators=item.operators,
            evidence=target.EVIDENCE,
            reference=target.REFERENCES[artifact.precision],
            twin=item.twin,
            outputs=found[: outputs.held_out],
            images=None if item.images is None else len(ran),
            runs=item.runs,
            weights_db=self._weights_db(artifact.precision, target.REFERENCES[artifact.precision], some),
        )

    def _weights_db(self, precision: str, reference: str, some: Sequence[int]) -> float:
        return self._own_db(reference, some) if precision in limits.WEIGHTS_ALONE else math.nan

    def _own_db(self, reference: str, some: Sequence[int]) -> float:
        """A reference's own SNR against float, on held-out images; NaN where there is none."""
        if reference not in self.outputs.references or not some:
            return math.nan
        floating, found = self.outputs.of("fp32")[some], self.outputs.of(reference)[some]
        return metrics.snr_db(floating, found, self.outputs.outputs)

    def _arithmetic(self, item: Measured, target: Target) -> tuple[str, Sequence[str]]:
        """Whose arithmetic an artifact has, and what of it is not known to the last bit."""
        if item.artifact.precision in limits.COREAI_HALF_LIMITS and target.KERNELS == "coreai":
            unknown = sorted(item.operators.keys() - limits.COREAI_KNOWN)
            return (limits.COREAI_HALF if unknown else "coreai"), unknown
        in_float = self.outputs.in_float if item.artifact.precision == "int8" else ()
        named = limits.floats_in(target.KERNELS, in_float)
        return limits.arithmetic(target.KERNELS, named), named

    def _broken_row(self, item: Measured) -> Row:
        return Row(
            artifact=item.artifact,
            checks=[broken(item.error)],
            worth=Worth(),
            latency_ms=float("nan"),
            operators={},
            evidence="none",
            reference=self.targets[item.artifact.target].REFERENCES[item.artifact.precision],
            twin=item.twin,
        )

    def _limits(
        self, leg: str, precision: str, evidence: str = "runtime", kernels: str = ""
    ) -> tuple[limits.Limit, ...]:
        return limits_for(self.meaning, leg, precision, self.config.limit, evidence, kernels)

    def _judged(
        self, leg: str, allowed: Sequence[limits.Limit], measured: Mapping[str, limits.Measured]
    ) -> list[limits.Check]:
        return limits.judge(leg, allowed, measured, must_show=self.config.parity.require == "shown")


def quantize_metrics(
    floating: Values, quantized: Values, worth: Worth, outputs: Sequence[Output]
) -> dict[str, limits.Measured]:
    """What the quantize leg is judged by.

    Args:
        worth: of the quantized outputs.
        outputs: what stands where in them.
    """
    return {"snr_db": metrics.snr_db(floating, quantized, outputs), **worth.counted}
