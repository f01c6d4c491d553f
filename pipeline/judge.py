"""Judge a program and its artifacts: each leg, on the held-out images and on those at the edges."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import data as data_module
from . import parity
from .artifact import Artifact, Run, Target
from .config import Config
from .layers import Recording, record
from .measure import Expected, Measurement, broken, measure
from .program import UNROUNDED, Program, evaluate, is_quantized
from .ranking import Answers, answers

LATENCY_RUNS = 30
GOLDEN_IMAGES = 8


class Say(Protocol):
    """Where progress goes: a line, and for long work how much of it is done."""

    def __call__(self, line: str, progress: tuple[int, int] | None = None, /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """An artifact, and the path of its float32 twin, relative to the platform's folder, if it has one."""

    artifact: Artifact
    twin: str | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: an artifact and everything measured of it.

    Attributes:
        answers: on the held-out images; None where it does not run.
    """

    artifact: Artifact
    checks: list[parity.Check]
    agreement: float
    accuracy: float
    latency_ms: float
    operators: dict[str, int]
    evidence: str
    reference: str
    twin: str | None
    answers: Answers | None

    @property
    def is_verified(self) -> bool:
        return bool(self.checks) and all(check.is_met for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Images that the legs are judged on, and what the references say of them."""

    images: NDArray[np.uint8]  # (N, H, W, 4), held-out ones first
    held_out: int
    golden: list[int]  # indices of the golden images
    labels: NDArray[np.int64]
    references: dict[str, NDArray[np.float32]]
    layers: Recording  # of the quantized references, on the golden images


def reference_outputs(program: Program, data: data_module.Dataset, wanted: Sequence[tuple[Target, str]]) -> Outputs:
    """What each reference that the wanted artifacts need says of all images."""
    edges, _ = data_module.edge_images(data.held_out)
    images = data_module.rgba(np.concatenate([data.held_out.images, edges]))
    count = len(data.held_out.images)
    spread = np.linspace(0, count - 1, min(GOLDEN_IMAGES, count)).astype(int)
    golden = [*spread.tolist(), *range(count, len(images))]
    keys = _reference_keys(wanted)
    return Outputs(
        images=images,
        held_out=count,
        golden=golden,
        labels=data.held_out.labels,
        references={
            "original": evaluate(program.original, images),
            **{key: program.logits(key, images) for key in keys},
        },
        layers=record(program, [key for key in keys if is_quantized(key)], images[golden]),
    )


def _reference_keys(wanted: Sequence[tuple[Target, str]]) -> list[str]:
    """What the artifacts are compared with; the float and the int8 reference always."""
    keys = {target.REFERENCES[precision] for target, precision in wanted} | {"fp32", "int8"}
    keys |= {
        target.REFERENCES[precision] + UNROUNDED
        for target, precision in wanted
        if precision == "int8" and target.EVIDENCE == "reference executor"
    }
    return sorted(keys)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What the artifacts of one program are measured against."""

    program: Program
    outputs: Outputs
    targets: Mapping[str, Target]
    config: Config

    @property
    def accuracies(self) -> dict[str, float]:
        """Top-1 of the float and of the int8 reference on the held-out images."""
        count, references = self.outputs.held_out, self.outputs.references
        return {
            "float": parity.accuracy(references["original"][:count], self.outputs.labels),
            "int8": parity.accuracy(references["int8"][:count], self.outputs.labels),
        }

    @property
    def answers(self) -> dict[str, Answers]:
        """What the float and the int8 reference say of the held-out images."""
        count, references = self.outputs.held_out, self.outputs.references
        return {"float": answers(references["original"][:count]), "int8": answers(references["int8"][:count])}

    def program_checks(self, *, has_int8: bool) -> list[parity.Check]:
        """The fold leg on all images, the quantize leg on the held-out ones: the others were not calibrated for.

        Args:
            has_int8: False leaves the quantize leg out: nothing is shipped that it speaks of.
        """
        count, references = self.outputs.held_out, self.outputs.references
        folded = {"snr_db": parity.snr_db(references["original"], references["fp32"])}
        quantized = parity.quantize_metrics(references["fp32"][:count], references["int8"][:count], self.outputs.labels)
        return [
            *parity.judge("fold", self._limits("fold", "float"), folded),
            *(parity.judge("quantize", self._limits("quantize", "int8"), quantized) if has_int8 else ()),
        ]

    def rows(self, lowered: Sequence[Lowered], folder: Path, say: Say) -> list[Row]:
        """The lower leg of artifacts below `folder`; one that does not run is a failed row."""
        found: dict[str, Measurement | Exception] = {}
        for item in lowered:
            say(f"parity: {item.artifact.target} {item.artifact.precision} on {len(self.outputs.images)} images")
            try:
                found[item.artifact.path] = self._measure(item, folder)
            except Exception as error:  # each runtime has errors of its own; the row says which
                found[item.artifact.path] = error
        latency = self._latencies(lowered, found)
        rows = []
        for item in lowered:
            measurement = found[item.artifact.path]
            if isinstance(measurement, Exception):
                rows.append(self._broken_row(item, measurement))
                continue
            peers = [
                other.logits
                for other in (found[b.artifact.path] for b in lowered if self._are_peers(b.artifact, item.artifact))
                if isinstance(other, Measurement)
            ]
            rows.append(self._row(item, measurement, peers, latency[item.artifact.path], folder))
        return rows

    def _latencies(self, lowered: Sequence[Lowered], found: Mapping[str, Measurement | Exception]) -> dict[str, float]:
        """Milliseconds of those that run, what a runtime runs apart from what an executor does.

        An executor's milliseconds of numpy between two runs of a runtime make that up to 30 times slower.
        """
        runs: dict[str, dict[str, Run]] = {}
        for item in lowered:
            measured = found[item.artifact.path]
            if isinstance(measured, Measurement):
                evidence = self.targets[item.artifact.target].EVIDENCE
                runs.setdefault(evidence, {})[item.artifact.path] = measured.run
        return {p: t for group in runs.values() for p, t in latencies(group, self.outputs.images[:1]).items()}

    def _measure(self, item: Lowered, folder: Path) -> Measurement:
        artifact, references = item.artifact, self.outputs.references
        target = self.targets[artifact.target]
        key = target.REFERENCES[artifact.precision]
        expected = Expected(
            reference=references[key],
            floating=references["fp32"],
            quantized=references["int8"],
            unrounded=references.get(key + UNROUNDED),
            output_scale=self.program.output_scale,
            labels=self.program.labels,
        )
        return measure(
            target,
            folder / artifact.path,
            artifact.precision,
            self.outputs.images,
            expected,
            closely=self.outputs.golden,
            twin=None if item.twin is None else folder / item.twin,
        )

    def _row(
        self, item: Lowered, found: Measurement, peers: Sequence[parity.Logits], latency_ms: float, folder: Path
    ) -> Row:
        artifact, target, count = item.artifact, self.targets[item.artifact.target], self.outputs.held_out
        accuracy = parity.accuracy(found.logits[:count], self.outputs.labels)
        metrics = {**found.metrics, "accuracy_drop": self.accuracies["float"] - accuracy}
        if peers:
            apart = [parity.steps(peer, found.logits, self.program.output_scale) for peer in peers]
            metrics["equal_to_same_kernels"] = min(float((steps == 0).mean()) for steps in apart)
        # the two that not every artifact can have: there is no other one to compare, or no label inside
        absent = {"equal_to_same_kernels"} if not peers else set()
        absent |= {"label_errors"} if not found.names_classes else set()
        limits = self._limits("lower", artifact.precision, target.EVIDENCE, target.KERNELS)
        return Row(
            artifact=artifact,
            checks=parity.judge("lower", [row for row in limits if row.metric not in absent], metrics),
            agreement=parity.agreement(self.outputs.references["fp32"][:count], found.logits[:count]),
            accuracy=accuracy,
            latency_ms=latency_ms,
            operators=target.operators(folder / artifact.path),
            evidence=target.EVIDENCE,
            reference=target.REFERENCES[artifact.precision],
            twin=item.twin,
            answers=answers(found.logits[:count]),
        )

    def _broken_row(self, item: Lowered, error: Exception) -> Row:
        nan = float("nan")
        return Row(
            artifact=item.artifact,
            checks=[broken(error)],
            agreement=nan,
            accuracy=nan,
            latency_ms=nan,
            operators={},
            evidence="none",
            reference=self.targets[item.artifact.target].REFERENCES[item.artifact.precision],
            twin=item.twin,
            answers=None,
        )

    def _limits(
        self, leg: str, precision: str, evidence: str = "runtime", kernels: str = ""
    ) -> tuple[parity.Limit, ...]:
        return parity.limits_for(leg, precision, self.config.is_default_model, self.config.limit, evidence, kernels)

    def _are_peers(self, one: Artifact, other: Artifact) -> bool:
        """Two artifacts of the same precision on the same kernels."""
        same_kernels = self.targets[one.target].KERNELS == self.targets[other.target].KERNELS
        return one.path != other.path and one.precision == other.precision and same_kernels


def latencies(runs: Mapping[str, Run], image: NDArray[np.uint8]) -> dict[str, float]:
    """Median milliseconds on this machine, all artifacts in turn so that its noise meets them alike."""
    taken: dict[str, list[float]] = {path: [] for path in runs}
    for _ in range(LATENCY_RUNS):
        for path, run in runs.items():
            start = time.perf_counter()
            run(image)
            taken[path].append(time.perf_counter() - start)
    return {path: 1e3 * float(np.median(times)) for path, times in taken.items()}
