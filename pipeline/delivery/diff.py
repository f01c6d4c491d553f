"""Two finished builds of one project, an old and a new one: what changed and by how much, from their files alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import VerifyError
from ..files import real
from ..parity import Verdict, percent, unpaired_interval, within
from ..program import Target
from ..reading import shown
from . import manifest, runtimes, sayings
from .timing import Pair, Timing

Folder = tuple[dict[str, Any], manifest.Golden]
"""Manifest and golden vectors of a platform, as `manifest.read_verified` gives them."""


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a new build may lose; None where it may lose anything.

    Attributes:
        size_growth: of an artifact, a share of its old size.
        score_drop: of the task's score, 0..1.
        latency_growth: a share of the old latency.
        contract: whether what apps rely on may change.
        must_show: whether what the images cannot tell is too much.
    """

    size_growth: float | None = None
    score_drop: float | None = None
    latency_growth: float | None = None
    contract: bool = False
    must_show: bool = False


@dataclass(frozen=True, kw_only=True)
class Change:
    """A value in the old and in the new build.

    Attributes:
        what: ``size``, ``latency``, the task's score, or a metric.
        by: growth as a share of the old value for size and latency, what is lost of a score, and else the difference.
        low: lower bound of `by`, where it is an estimate; None where it is not.
        high: upper bound.
        limit: that `by` must not exceed; None where there is none.
        verdict: None where there is no limit.
        must_show: whether an open verdict is too much.
        is_score: it is the task's, a share of what is right.
    """

    what: str
    old: float
    new: float
    by: float
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    verdict: Verdict | None = None
    must_show: bool = False
    is_score: bool = False

    @property
    def is_met(self) -> bool:
        return self.verdict != "missed" and not (self.must_show and self.verdict == "open")

    def __str__(self) -> str:
        if math.isnan(self.by):
            return f"{self.what} is not known of both; allowed {percent(self.limit or 0.0)}"
        ways = _WORDS.get(self.what, ("drops", "rises"))
        is_other, bounds = self.by < 0, (self.low, self.high)  # the way that is no loss
        if is_other and self.low is not None and self.high is not None:
            bounds = -self.high, -self.low
        interval = "" if bounds[0] is None else f", 95 % interval {percent(bounds[0])} to {percent(bounds[1] or 0.0)}"
        allowed = f"allowed {'that it ' + ways[0] + ' by ' if is_other else ''}{percent(self.limit or 0.0)}"
        return f"{self.what} {ways[is_other]} by {percent(abs(self.by))}{interval}; {allowed}"


_WORDS = {"size": ("grows", "shrinks"), "latency": ("grows", "falls")}
"""For what is lost, and for what is won; a score drops or rises."""


@dataclass(frozen=True, kw_only=True)
class ArtifactChange:
    """An artifact that both builds have.

    Attributes:
        is_same: both have the same file.
        state: of its parity, old and new.
        operators: old and new number of those that changed.
    """

    name: str
    is_same: bool
    state: tuple[str, str]
    changes: tuple[Change, ...]
    operators: Mapping[str, tuple[int, int]]

    @property
    def is_broken(self) -> bool:
        """It is marked as failed, and was not."""
        return self.state[1] == "failed" != self.state[0]


@dataclass(frozen=True, kw_only=True)
class PlatformChange:
    """A platform's folders.

    Attributes:
        contract: what apps rely on, old and new in words, by what it is; those that changed.
        versions: of packages, old and new, those that changed; empty where there was none.
        made_from: weights, calibration images and the like, the same way.
        gone: artifacts that the new build lacks.
        added: artifacts that the old one lacked.
    """

    platform: str
    contract: Mapping[str, tuple[str, str]]
    versions: Mapping[str, tuple[str, str]]
    made_from: Mapping[str, tuple[str, str]]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    artifacts: tuple[ArtifactChange, ...]


@dataclass(frozen=True, kw_only=True)
class Diff:
    """All of it.

    Attributes:
        gone: platforms that the new build lacks.
        added: platforms that the old one lacked.
    """

    platforms: tuple[PlatformChange, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    allowed: Allowed

    @property
    def crossed(self) -> list[str]:
        """What is more than was allowed, a line each; empty where nothing is."""
        found = []
        if not self.allowed.contract:
            found += [f"{name} is gone" for name in self.gone]
            for one in self.platforms:
                found += [
                    f"{one.platform}: {what} was {old or 'nothing'}, and is {new or 'nothing'}"
                    for what, (old, new) in one.contract.items()
                ]
                found += [f"{name} is gone" for name in one.gone]
        for artifact in self._artifacts():
            found += [f"{artifact.name} is marked as failed"] if artifact.is_broken else []
            found += [
                f"{artifact.name}: {c}{', open' * (c.verdict == 'open')}" for c in artifact.changes if not c.is_met
            ]
        return found

    @property
    def open(self) -> list[str]:
        """What the images cannot tell, and is let pass, a line each."""
        return [
            f"{artifact.name}: {change}"
            for artifact in self._artifacts()
            for change in artifact.changes
            if change.verdict == "open" and change.is_met
        ]

    def _artifacts(self) -> list[ArtifactChange]:
        return [artifact for one in self.platforms for artifact in one.artifacts]


def read(places: Sequence[Path]) -> dict[str, tuple[Path, Folder]]:
    """Folder and content of each platform, by its name.

    Raises:
        VerifyError: a folder is not what its manifest says, or two are of one platform.
    """
    found: dict[str, tuple[Path, Folder]] = {}
    for place in places:
        content, golden = manifest.read_verified(place)
        # a copy may be called anything
        names = {entry["target"].partition("/")[0] for entry in content["artifacts"]} or {real(place).name}
        name = shown("+".join(sorted(names)), 60)
        if name in found:
            raise VerifyError(f"'{found[name][0]}' and '{place}' are both of {name}. Give one of them.")
        found[name] = place, (content, golden)
    return found


def compare(
    old: Mapping[str, tuple[Path, Folder]],
    new: Mapping[str, tuple[Path, Folder]],
    allowed: Allowed,
    timings: Mapping[str, Timing] | None = None,
) -> Diff:
    """The platforms that both builds have, one with the other.

    Args:
        timings: of artifacts, by name, where they were taken.

    Raises:
        VerifyError: there is no platform that both have, or nothing says what the outputs of one mean.
    """
    both = [name for name in old if name in new]
    if not both:
        raise VerifyError(
            f"there is nothing to compare: the old build has {', '.join(old)}, the new one {', '.join(new)}"
        )
    return Diff(
        platforms=tuple(_platform(name, old[name][1], new[name][1], allowed, timings or {}) for name in both),
        gone=tuple(name for name in old if name not in new),
        added=tuple(name for name in new if name not in old),
        allowed=allowed,
    )


def pairs(
    old: Mapping[str, tuple[Path, Folder]], new: Mapping[str, tuple[Path, Folder]], targets: Mapping[str, Target]
) -> list[Pair]:
    """What there is to time: artifacts that both have, that differ, and that a runtime runs here."""
    found = []
    for platform in (name for name in old if name in new):
        (before, (content, golden)), (after, (content_after, golden_after)) = old[platform], new[platform]
        others = entries(content_after)
        for name, entry in entries(content).items():
            runtime = getattr(targets.get(entry["target"]), "RUNTIME", None)
            if (
                name not in others
                or others[name]["sha256"] == entry["sha256"]
                or runtime is None
                or runtimes.missing(runtime)
            ):
                continue
            found.append(
                Pair(
                    name=name,
                    runtime=runtime.__name__,
                    old=before / entry["path"],
                    new=after / others[name]["path"],
                    old_image=golden.images[:1],
                    new_image=golden_after.images[:1],
                )
            )
    return found


def entries(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The artifacts by target and precision."""
    return {shown(f"{entry['target']} {entry['precision']}"): entry for entry in content["artifacts"]}


def _platform(name: str, old: Folder, new: Folder, allowed: Allowed, timings: Mapping[str, Timing]) -> PlatformChange:
    before, after = entries(old[0]), entries(new[0])
    score = manifest.task_of(new[0]).SCORE
    return PlatformChange(
        platform=name,
        contract=sayings.changed(sayings.contract(*old), sayings.contract(*new)),
        versions=sayings.changed(sayings.words(old[0].get("versions")), sayings.words(new[0].get("versions"))),
        made_from=sayings.changed(sayings.sources(old[0]), sayings.sources(new[0])),
        gone=tuple(one for one in before if one not in after),
        added=tuple(one for one in after if one not in before),
        artifacts=tuple(
            _artifact(one, before[one], after[one], score, allowed, timings.get(one)) for one in before if one in after
        ),
    )


def _artifact(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], score: str, allowed: Allowed, timing: Timing | None
) -> ArtifactChange:
    is_same = old["sha256"] == new["sha256"]
    changes = [_size(old, new, allowed.size_growth)]
    changes += [one for one in [_score(score, old, new, allowed, is_same=is_same)] if one is not None]
    if not is_same and (timing is not None or allowed.latency_growth is not None):
        changes.append(_latency(timing, allowed))
    measured, before = _measured(new), _measured(old)
    changes += [
        Change(what=what, old=before[what], new=value, by=value - before[what])
        for what, value in measured.items()
        if what in before
    ]
    counts = [_operators(old), _operators(new)]
    return ArtifactChange(
        name=name,
        is_same=is_same,
        state=(shown(old.get("parity", "")), shown(new.get("parity", ""))),
        changes=tuple(changes),
        operators={
            key: (counts[0].get(key, 0), counts[1].get(key, 0))
            for key in sorted(counts[0].keys() | counts[1].keys())
            if counts[0].get(key, 0) != counts[1].get(key, 0)
        },
    )


def _size(old: Mapping[str, Any], new: Mapping[str, Any], limit: float | None) -> Change:
    before, after = sayings.number(old.get("bytes")), sayings.number(new.get("bytes"))
    by = (after - before) / before if before > 0 else math.nan
    return _judged(Change(what="size", old=before, new=after, by=by), limit)


def _score(
    score: str, old: Mapping[str, Any], new: Mapping[str, Any], allowed: Allowed, *, is_same: bool
) -> Change | None:
    """None where neither has one, and none is asked for. What the same file answers to other images is no loss."""
    before, after = sayings.number(old.get(score)), sayings.number(new.get(score))
    if math.isnan(before) and math.isnan(after) and allowed.score_drop is None:
        return None
    found = Change(what=score, old=before, new=after, by=before - after, is_score=True)
    if is_same:
        verdict: Verdict | None = None if allowed.score_drop is None else "holds"
        return replace(found, limit=allowed.score_drop, verdict=verdict)
    if math.isnan(found.by):
        lost: Verdict = "missed" if before >= 0 else "open"  # it had one, or nothing is known of either
        unknown = replace(found, limit=allowed.score_drop, verdict=None if allowed.score_drop is None else lost)
        return replace(unknown, must_show=allowed.must_show)
    counts = [(images, round(share * images)) for images, share in ((_images(old), before), (_images(new), after))]
    if all(images for images, _ in counts):
        low, high = unpaired_interval(*counts)
        found = replace(found, low=low, high=high)
    return replace(_judged(found, allowed.score_drop), must_show=allowed.must_show)


def _latency(timing: Timing | None, allowed: Allowed) -> Change:
    if timing is None:  # no runtime of it is here
        nothing = math.nan
        return Change(
            what="latency",
            old=nothing,
            new=nothing,
            by=nothing,
            limit=allowed.latency_growth,
            verdict="open",
            must_show=allowed.must_show,
        )
    found = Change(
        what="latency",
        old=timing.old_ms,
        new=timing.new_ms,
        by=timing.ratio - 1,
        low=timing.low - 1,
        high=timing.high - 1,
    )
    return replace(_judged(found, allowed.latency_growth), must_show=allowed.must_show)


def _judged(found: Change, limit: float | None) -> Change:
    if limit is None:
        return found
    low, high = (found.by, found.by) if found.low is None or found.high is None else (found.low, found.high)
    return replace(found, limit=limit, verdict=within(low, high, limit))


def _measured(entry: Mapping[str, Any]) -> dict[str, float]:
    """What its checks measured, by metric."""
    found = {shown(check["metric"], 60): sayings.number(check.get("measured")) for check in entry["checks"]}
    return {what: value for what, value in found.items() if not math.isnan(value)}


def _images(entry: Mapping[str, Any]) -> int:
    """How many its score was counted on; 0 where the manifest does not say."""
    counted = [*entry.values(), *(check.get("counts") for check in entry["checks"])]
    found = [one["images"] for one in counted if isinstance(one, dict) and isinstance(one.get("images"), int)]
    return max((one for one in found if one > 0), default=0)


def _operators(entry: Mapping[str, Any]) -> dict[str, int]:
    found = entry.get("operators")
    return {shown(k, 60): int(sayings.number(v)) for k, v in found.items()} if isinstance(found, dict) else {}
