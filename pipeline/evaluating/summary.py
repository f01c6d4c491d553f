"""What an evaluation found: shares with their intervals, where runtimes differ, and verdicts told anew."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..delivery import diff, manifest
from ..parity import Counted, Counts, Verdict, within
from ..reading import shown
from . import answers, parts
from .parts import Kept, Shards
from .planning import Artifact, Plan

PICTURES = 24


@dataclass(frozen=True, kw_only=True)
class Told:
    """An artifact.

    Attributes:
        shares: by what is counted, such as what is right.
        counted: by metric, against `reference`.
        reference: name of the artifact that it is compared with; empty where it is itself, or there is none.
        snr_db: mean over the images against it; NaN where there is none.
        not_finite: images whose outputs are not finite.
    """

    artifact: Artifact
    shares: Mapping[str, Counted]
    counted: Mapping[str, Counted]
    reference: str
    snr_db: float
    not_finite: int


@dataclass(frozen=True, kw_only=True)
class Anew:
    """A verdict that a build formed on its images, and what these say.

    Attributes:
        before: of the build, with its counts.
        now: of these images; None where the artifact does not run here, or has nothing to be compared with.
    """

    name: str
    metric: str
    sense: str
    limit: float
    before: Verdict
    images_before: int
    now: Verdict | None
    counts: Counts | None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that is answered in several ways: number among all, and each artifact's answer, whether it is right."""

    number: int
    rivals: int
    said: tuple[tuple[str, bool | None], ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All of it.

    Attributes:
        images: that could be read.
        damaged: names of the others.
        groups: what is right, class by class.
        same: images that each pair of `Plan.pairs` answers alike.
        rivals: images that runtimes of one precision answer otherwise.
        pictures: those that are answered most differently, the first of them.
    """

    plan: Plan
    images: int
    damaged: tuple[str, ...]
    told: tuple[Told, ...]
    groups: tuple[parts.Group, ...]
    same: tuple[int, ...]
    rivals: int
    anew: tuple[Anew, ...]
    pictures: tuple[Picture, ...]

    @property
    def missed(self) -> list[str]:
        """Limits that these images show to be missed, a line each."""
        return [f"{one.name}: {told(one)}" for one in self.anew if one.now == "missed"]


def told(one: Anew) -> str:
    """A verdict, before and now, in words."""
    begin = f"{one.metric} {one.sense} {one.limit:g}: {one.before} on the build's {one.images_before:,} images"
    return f"{begin}, {one.now} here: {one.counts}" if one.now else f"{begin}, and not counted here"


def summarized(
    plan: Plan, shards: Shards, damaged: list[str], read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]]
) -> Evaluation:
    """What the shards say; in memory is one of them at a time."""
    counting = parts.named(plan.task).counting(plan, shards)
    sums = _Sums(plan)
    for kept in shards():
        sums.add(kept)
    shares, counted = counting.shares, counting.counted
    found = tuple(
        Told(
            artifact=one,
            shares=shares[n],
            counted=counted[n],
            reference="" if one.reference in (None, n) else plan.artifacts[one.reference or 0].name,
            snr_db=float("nan") if one.reference in (None, n) else float(sums.snr_db[n] / max(1, sums.images)),
            not_finite=int(sums.not_finite[n]),
        )
        for n, one in enumerate(plan.artifacts)
    )
    return Evaluation(
        plan=plan,
        images=sums.images,
        damaged=tuple(damaged),
        told=found,
        groups=tuple(counting.groups),
        same=tuple(int(n) for n in sums.same),
        rivals=sums.rivals,
        anew=tuple(_anew(read, found)),
        pictures=sums.pictures,
    )


class _Sums:
    """What is counted whatever the task is."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.images, self.rivals = plan, 0, 0
        self.same = np.zeros(len(plan.pairs), np.int64)
        self.snr_db, self.not_finite = np.zeros(len(plan.artifacts)), np.zeros(len(plan.artifacts), np.int64)
        self._worst: list[tuple[int, int, int, Picture]] = []

    def add(self, kept: Kept) -> None:
        self.images += len(kept["index"])
        self.same += kept["same"].sum(1)
        self.snr_db += np.nan_to_num(kept["snr_db"]).sum(1, dtype=np.float64)
        self.not_finite += (~kept["is_finite"]).sum(1)
        rivals = answers.differ(self.plan, kept)
        self.rivals += int(rivals.sum())
        apart = (~kept["same"]).sum(0)
        part = parts.named(self.plan.task)
        for place in np.lexsort((-apart, ~rivals))[:PICTURES].tolist():
            if not apart[place]:
                break
            number, weight = int(kept["index"][place]), (int(rivals[place]), int(apart[place]))
            if len(self._worst) == PICTURES and (*weight, -number) <= self._worst[0][:3]:
                continue
            said = tuple(part.said(kept, place, n, self.plan) for n in range(len(self.plan.artifacts)))
            rivals_here = int((~kept["same"][list(self.plan.rivals), place]).sum()) if self.plan.rivals else 0
            picture = Picture(number=number, rivals=rivals_here, said=said)
            heapq.heappush(self._worst, (*weight, -number, picture))
            if len(self._worst) > PICTURES:
                heapq.heappop(self._worst)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(picture for *_, picture in sorted(self._worst, key=lambda one: one[:3], reverse=True))


def _anew(read: Mapping[Path, tuple[dict[str, Any], manifest.Golden]], found: tuple[Told, ...]) -> list[Anew]:
    """Every verdict that a build counted on images."""
    by_name = {name: one for one in found for name in one.artifact.names}
    result = []
    for content, _ in read.values():
        for name, entry in diff.entries(content).items():
            for check in (*manifest.checks_before(content, entry["precision"]), *entry["checks"]):
                counts = check.get("counts")
                if not counts:
                    continue
                value = by_name[name].counted.get(check["metric"]) if name in by_name else None
                result.append(
                    Anew(
                        name=name,
                        metric=shown(check["metric"], 60),
                        sense=check["sense"],
                        limit=check["limit"],
                        before=check.get("verdict") or "open",
                        images_before=counts.get("draws") or counts["images"],
                        now=None if value is None else _verdict(value[1], check["sense"], check["limit"]),
                        counts=None if value is None else value[1],
                    )
                )
    return result


def _verdict(counts: Counts, sense: str, limit: float) -> Verdict:
    if not counts.images:
        return "open"
    if sense == "<=":
        return within(counts.low, counts.high, limit)
    return within(-counts.high, -counts.low, -limit)
