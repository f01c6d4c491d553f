"""Judge a program and its artifacts: what was measured of them against what is allowed, leg by leg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..program import ORIGINAL, Artifact, Target
from ..tasks import Answers, answers
from . import limits, verdict
from .measuring import broken
from .verdict import Counts, State, Verdict


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of an artifact before it is judged.

    Attributes:
        twin: path of its float32 copy, relative to the platform's folder, if it has one.
        logits: ``(N, classes)`` on all images; None where it does not run.
        metrics: every metric that could be taken.
        names_classes: whether it holds the labels.
        runs: what ran it where; see `evidence`.
        error: why it does not run.
    """

    artifact: Artifact
    twin: str | None
    operators: Mapping[str, int]
    logits: NDArray[np.float32] | None
    metrics: Mapping[str, float]
    names_classes: bool
    runs: Sequence[Mapping[str, Any]] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: an artifact and everything measured of it.

    Attributes:
        agreement: share of the held-out images that it answers as the float model, 0..1; NaN where it does not run.
        accuracy: share of them that it answers right; the same.
        agreed: counts behind the agreement; None where it does not run.
        paired: counts of the images that the original and it get right; None where it does not run.
        latency_ms: median on this machine; NaN where it does not run.
        answers: on the held-out images; None where it does not run.
        runs: what ran it where, the build itself first; see `evidence`.
        before: checks of what it was lowered from; an artifact is no better than that.
    """

    artifact: Artifact
    checks: list[limits.Check]
    agreement: float
    accuracy: float
    agreed: Counts | None
    paired: Counts | None
    latency_ms: float
    operators: Mapping[str, int]
    evidence: str
    reference: str
    twin: str | None
    answers: Answers | None
    runs: Sequence[Mapping[str, Any]] = ()
    before: Sequence[limits.Check] = ()

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
        references: ``(N, classes)`` by key.
        labels: ``(held_out,)`` int64.
        output_scale: step of the int8 logits.
    """

    references: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.int64]
    output_scale: float

    @property
    def held_out(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What the artifacts of one program are measured against."""

    outputs: Outputs
    targets: Mapping[str, Target]
    config: Config

    @property
    def accuracies(self) -> dict[str, float]:
        """Top-1 of the float and of the int8 reference on the held-out images."""
        count, references = self.outputs.held_out, self.outputs.references
        return {
            "float": limits.accuracy(references[ORIGINAL][:count], self.outputs.labels),
            "int8": limits.accuracy(references["int8"][:count], self.outputs.labels),
        }

    @property
    def answers(self) -> dict[str, Answers]:
        """What the float and the int8 reference say of the held-out images."""
        count, references = self.outputs.held_out, self.outputs.references
        return {"float": answers(references[ORIGINAL][:count]), "int8": answers(references["int8"][:count])}

    def program_checks(self, *, has_int8: bool) -> list[limits.Check]:
        """The fold leg on all images, the quantize leg on the held-out ones: the others were not calibrated for.

        Args:
            has_int8: False leaves the quantize leg out: nothing is shipped that it speaks of.
        """
        count, references = self.outputs.held_out, self.outputs.references
        folded = {"snr_db": limits.snr_db(references[ORIGINAL], references["fp32"])}
        quantized = limits.quantize_metrics(references["fp32"][:count], references["int8"][:count], self.outputs.labels)
        return [
            *self._judged("fold", self._limits("fold", "float"), folded),
            *(self._judged("quantize", self._limits("quantize", "int8"), quantized) if has_int8 else ()),
        ]

    def rows(self, measured: Sequence[Measured], before: Sequence[limits.Check]) -> list[Row]:
        """The lower leg of the artifacts of a platform, without latency; one that does not run is a failed row.

        Args:
            before: the program's checks.
        """
        rows = []
        for item in measured:
            row = self._broken_row(item) if item.logits is None else self._row(item, item.logits)
            concerning = [check for check in before if limits.concerns(check.leg, item.artifact.precision)]
            rows.append(replace(row, before=concerning))
        return rows

    def _row(self, item: Measured, logits: NDArray[np.float32]) -> Row:
        artifact, target, outputs = item.artifact, self.targets[item.artifact.target], self.outputs
        held_out, references = logits[: outputs.held_out], outputs.references
        drop = verdict.accuracy_drop(references[ORIGINAL][: outputs.held_out], held_out, outputs.labels)
        agreement, agreed = verdict.agreement(references["fp32"][: outputs.held_out], held_out)
        metrics: dict[str, limits.Measured] = {**item.metrics, "accuracy_drop": drop, "agreement": (agreement, agreed)}
        absent = set() if item.names_classes else {"label_errors"}  # there is no label inside
        allowed = self._limits("lower", artifact.precision, target.EVIDENCE, target.KERNELS)
        return Row(
            artifact=artifact,
            checks=self._judged("lower", [row for row in allowed if row.metric not in absent], metrics),
            agreement=agreement,
            accuracy=limits.accuracy(held_out, outputs.labels),
            agreed=agreed,
            paired=drop[1],
            latency_ms=float("nan"),
            operators=item.operators,
            evidence=target.EVIDENCE,
            reference=target.REFERENCES[artifact.precision],
            twin=item.twin,
            answers=answers(held_out),
            runs=item.runs,
        )

    def _broken_row(self, item: Measured) -> Row:
        nan = float("nan")
        return Row(
            artifact=item.artifact,
            checks=[broken(item.error)],
            agreement=nan,
            accuracy=nan,
            agreed=None,
            paired=None,
            latency_ms=nan,
            operators={},
            evidence="none",
            reference=self.targets[item.artifact.target].REFERENCES[item.artifact.precision],
            twin=item.twin,
            answers=None,
        )

    def _limits(
        self, leg: str, precision: str, evidence: str = "runtime", kernels: str = ""
    ) -> tuple[limits.Limit, ...]:
        return limits.limits_for(leg, precision, self.config.limit, evidence, kernels)

    def _judged(
        self, leg: str, allowed: Sequence[limits.Limit], metrics: Mapping[str, limits.Measured]
    ) -> list[limits.Check]:
        return limits.judge(leg, allowed, metrics, must_show=self.config.parity.require == "shown")
