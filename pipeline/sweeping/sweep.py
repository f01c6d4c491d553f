"""A sweep from its plan to lines: all trials, or those that the time is best spent on, then their latencies in turn."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..building import Order, Site, Step, data, latency, row_of, rows, walk
from ..devices import Stopwatch
from ..errors import ConfigError
from ..parity import Row
from ..program import COMPRESSED
from ..saying import EVERY, Say, counted, time_left
from ..store import Entry, Workshop
from .halving import Candidate, best_first, epochs_of
from .lines import Line, with_front
from .planning import Plan, Trial
from .running import Course, Yard

_SHARE = 1 / 3
"""Of the hours, that short trainings may take: what they tell is worth nothing without time to make use of it."""
_CALIBRATED = ("int8", *COMPRESSED)
"""Precisions that calibration images have a part in."""
_OVER = "the time that --hours gives was over"


@dataclass(kw_only=True)
class _Found:
    """What is known of a trial's artifacts, by target and precision."""

    lines: Mapping[tuple[str, str], Line]
    latencies: Mapping[str, float] | None = None


@dataclass(kw_only=True)
class Sweep:
    """One pass over all variants of a plan.

    Attributes:
        hours: for all of it; None for as long as it takes.
        stopwatch: a phone that takes times too, which lines are then compared by.
        _half: trials whose int8 has failed, and whose other artifacts are on their way.
    """

    plan: Plan
    yard: Yard
    say: Say
    hours: float | None = None
    stopwatch: Stopwatch | None = None
    _found: dict[int, _Found] = field(default_factory=dict)
    _quiet: list[Course] = field(default_factory=list)
    _made: dict[tuple[int, tuple[str, str]], Entry] = field(default_factory=dict)
    _half: set[int] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)
    _began: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def lines(self) -> list[Line]:
        """Each variant, and what became of it, in the order of the plan."""
        self.yard.through = self._through
        trials = [trial for trial in self.plan.trials if not trial.trouble]
        self._tell_plan(trials)
        end = math.inf if self.hours is None else self._began + 3600 * self.hours
        if self.hours is not None:
            self.yard.deadline = self._began + _SHARE * 3600 * self.hours
            trials = self._best_first(trials)
        self.yard.deadline = end
        courses = (course for trial in trials if (course := self._course(trial, walk.JUDGED)) is not None)
        self.yard.run(courses, lambda course: self._taken(course, len(trials)))
        self._measure()
        return with_front(self._on_device([line for trial in self.plan.trials for line in self._of(trial)]))

    def so_far(self) -> str:
        """How many of the variants are done, in words."""
        quiet = {course.number for course in self._quiet}
        count = len(self.plan.artifacts)
        done = self._found.keys() - self._half
        judged, timed = count * len(done), count * len(done - quiet)
        rest = "" if timed == judged else f", of which {timed:,} with their latencies"
        return f"{judged:,} of {counted(len(self.plan), 'variant')} are done{rest}"

    def _through(self, course: Course, step: Step) -> None:
        """Say, once for all models, where there are not as many calibration images as were asked for."""
        if step is walk.TRAINED[0] and (told := _calibrated(course.order, self.yard.shop(), course.site)):
            if told not in self._told:
                self.say(f"data: {told}")
            self._told.add(told)

    def _tell_plan(self, trials: Sequence[Trial]) -> None:
        plan = self.plan
        self.say(
            f"sweep: {counted(len(plan), 'variant')}: {counted(len(plan.trials), 'model')} x {counted(len(plan.artifacts), 'artifact')}, "
            f"{counted(self.yard.crew.number, 'worker')}"
        )
        if len(trials) < len(plan.trials):
            bad = [trial for trial in plan.trials if trial.trouble]
            self.say(f"sweep: {len(bad)} of the models cannot be: {self._name(bad[0])}: {bad[0].trouble}")

    def _name(self, trial: Trial) -> str:
        """By what varies."""
        axes = [name for name in trial.settings if len(self.plan.axes[name]) > 1]
        return ", ".join(f"{name.rpartition('.')[2]} {trial.settings[name]}" for name in axes) or "the model"

    def _course(
        self,
        trial: Trial,
        steps: Sequence[Step],
        more: Mapping[str, Any] | None = None,
        artifacts: Sequence[tuple[str, str]] | None = None,
    ) -> Course | None:
        """None where it cannot be: the file or what it names has changed since."""
        try:
            return self.yard.course(trial.number, self._name(trial), self.plan.order(trial, more, artifacts), steps)
        except ConfigError as error:
            self._fail(trial.number, str(error))
            return None

    def _best_first(self, trials: Sequence[Trial]) -> list[Trial]:
        """In the order in which time is to be spent on them, told by ever longer trainings of ever fewer."""
        trained = [trial for trial in trials if trial.trains]
        order: list[Trial] = []
        left = trained
        for epochs in epochs_of(trained, lambda trial: self.plan.config(trial).train.epochs):
            candidates = self._tried(left, epochs)
            ranked = best_first(candidates)
            tried = {candidate.number for candidate in ranked}
            order = [*(one for one in left if one.number not in tried and one.number not in self._found), *order]
            best = math.ceil(len({candidate.weights for candidate in ranked}) / 3)
            chosen = {*list(dict.fromkeys(candidate.weights for candidate in ranked))[:best]}
            by_number = {trial.number: trial for trial in left}
            order = [*(by_number[c.number] for c in ranked if c.weights not in chosen), *order]
            left = [by_number[c.number] for c in ranked if c.weights in chosen]
            self.say(
                f"halving: {len(left)} of {len(ranked)} models go on; the others come after them, if there is time"
            )
            if best <= 1:
                break
        return [*(trial for trial in trials if not trial.trains), *left, *order]

    def _tried(self, trials: Sequence[Trial], epochs: Mapping[int, int]) -> list[Candidate]:
        """What short trainings are worth; those that the time ends are left out."""
        self.say(f"halving: {len(trials)} models, trained for {epochs[trials[0].number]} epochs each")
        found: list[Candidate] = []
        shop = self.yard.shop()

        def take(course: Course) -> None:
            if course.trouble:
                self._fail(course.number, course.trouble)
                return
            entry = course.site.weights
            height, width = course.order.config.model.size
            found.append(
                Candidate(
                    number=course.number,
                    weights=entry.key,
                    score=shop.json(entry, "origin.json")["curve"][-1]["score"],
                    bytes=len(shop.read(entry, "weights.safetensors")),
                    pixels=height * width,
                )
            )

        more = ((trial, {"train.epochs": epochs[trial.number]}) for trial in trials)
        courses = (course for trial, short in more if (course := self._course(trial, walk.TRAINED, short)) is not None)
        self.yard.run(courses, take)
        return found

    def _fail(self, number: int, trouble: str) -> None:
        self._half.discard(number)
        self._found[number] = _Found(lines=self._all_failed(number, self.plan.artifacts, trouble), latencies={})

    def _all_failed(
        self, number: int, artifacts: Sequence[tuple[str, str]], trouble: str
    ) -> dict[tuple[str, str], Line]:
        return {pair: self._line(number, pair, state="failed", reason=trouble) for pair in artifacts}

    def _line(self, number: int, pair: tuple[str, str], **told: Any) -> Line:
        return Line(number=self.plan.number(number, pair), varied=self.plan.varied(number, pair), **told)

    def _taken(self, course: Course, total: int) -> Course | None:
        """Note what a trial gave; of one whose int8 cannot be, a course of the other artifacts."""
        number, asked = course.number, [(target.NAME, precision) for target, precision in course.order.wanted]
        if course.trouble and course.order.has_int8 and course.steps[course.at] is walk.QUANTIZED:
            others = [pair for pair in asked if pair[1] != "int8"]
            self._fail(number, course.trouble)
            if others:
                self._half.add(number)
                return self._course(self.plan.trials[number], course.steps, None, others)
            self._tell(total)
            return None
        self._half.discard(number)
        lines = dict(self._found[number].lines) if number in self._found else {}
        if course.trouble:
            self._found[number] = _Found(lines=lines | self._all_failed(number, asked, course.trouble), latencies={})
            self._tell(total)
            return None
        shop = self.yard.shop()
        if self.stopwatch is not None:
            made = course.site.made.items()
            self._made |= {(number, pair): item.lowered for pair, item in made if item.lowered is not None}
        found = _Found(lines=lines | self._judged(course, shop))
        found.latencies = _known_latencies(course.order, shop, course.site)
        self._found[number] = found
        if found.latencies is None:
            self._quiet.append(course)
        self._tell(total)
        return None

    def _tell(self, total: int) -> None:
        done, now = len(self._found.keys() - self._half), time.monotonic()
        if now - self._last > 1 or done == total:
            self._last = now
            rest = time_left(done, total, now - self._began) if done < total else ""
            self.say(f"sweep: {done:,} of {total:,} models{rest}", (done, total))

    def _judged(self, course: Course, shop: Workshop) -> dict[tuple[str, str], Line]:
        found: dict[tuple[str, str], Line] = {}
        told = _calibrated(course.order, shop, course.site)
        for table in shop.json(course.site.results[rows.NAME], rows.ROWS).values():
            for stored in table["rows"]:
                row = row_of(stored, math.nan)
                pair = row.artifact.target, row.artifact.precision
                found[pair] = self._line(
                    course.number,
                    pair,
                    state=row.state,
                    reason=_missed(row),
                    score=row.worth.score,
                    float_score=table["reference_scores"]["float"],
                    bytes=row.artifact.bytes,
                    notes=(*course.site.doubts, *([told] if told and pair[1] in _CALIBRATED else ())),
                )
            for error in table["errors"]:
                pair = tuple(error.partition(":")[0].split(" ", 1))  # type: ignore[assignment]
                if pair in self.plan.artifacts:
                    found[pair] = self._line(course.number, pair, state="failed", reason=error.partition(": ")[2])
        return found

    def _measure(self) -> None:
        """The latencies that are not known, with nothing else of the sweep at work.

        All models have a turn in each of several rounds: of one after the other, a minute in which the machine is busy would make those
        slow that it meets.
        """
        self.yard.deadline = math.inf
        self._quiet.sort(key=lambda course: course.number)
        count, rounds = len(self._quiet), len(walk.ROUNDS)
        if count:
            self.say(
                f"latency: {counted(count, 'model')}, each timed in {rounds} rounds, with nothing else of the sweep at work"
            )
        for number, step in enumerate(walk.ROUNDS):
            for turn, course in enumerate(self._quiet):
                self._timed(course, step)
                done = number * count + turn + 1
                if done < rounds * count and time.monotonic() - self._last > EVERY:
                    self._last = time.monotonic()
                    told = f"latency: {done:,} of {rounds * count:,} measurements taken, {turn + 1} of {count} in round {number + 1} of {rounds}"
                    self.say(told, (done, rounds * count))
        for course in self._quiet:
            self._timed(course, latency)
            found = self._found[course.number]
            found.latencies = course.site.latency or {}
            if course.trouble:
                told = f"latency: {course.trouble}"
                found.lines = {pair: replace(line, state="failed", reason=told) for pair, line in found.lines.items()}
        if count:
            self.say(f"latency: {_differing([course.site for course in self._quiet])}")
        self._quiet.clear()

    def _timed(self, course: Course, step: Step) -> None:
        if not course.trouble:
            course.steps, course.at = (step,), 0
            self.yard.run(iter([course]), lambda _: None)

    def _on_device(self, lines: Sequence[Line]) -> list[Line]:
        """With what each artifact that passed takes on the phone, one after the other."""
        watch = self.stopwatch
        if watch is None:
            return list(lines)
        good = [line for line in lines if line.is_good and watch.takes(line.target)]
        self.say(f"latency on {watch.name}: {len(good)} of {len(lines)} variants")
        found: dict[int, Line] = {}
        for count, line in enumerate(good):
            pair = line.target, line.precision
            trial = self.plan.trial(line.number).number
            entry = self._made[trial, pair]
            name = f"artifact{self.plan.known.targets[line.target].SUFFIX}"
            with tempfile.TemporaryDirectory(dir=self.yard.scratch) as folder:
                fetch = partial(self._fetched, entry, Path(folder), name)
                timed = watch.time(pair, entry.digest(name), fetch)
            found[line.number] = replace(line, device_ms=timed.ms, device_told=timed.told)
            self.say(f"latency on {watch.name}: {count + 1} of {len(good)}", (count + 1, len(good)))
        return [replace(found.get(line.number, _untimed(line, watch)), device=watch.name) for line in lines]

    def _fetched(self, entry: Entry, folder: Path, name: str) -> Path:
        self.yard.shop().fetch(entry, folder, name)
        return folder / name

    def _of(self, trial: Trial) -> Iterator[Line]:
        """A trial's lines."""
        found = self._found.get(trial.number)
        for pair in self.plan.artifacts:
            if trial.trouble:
                yield self._line(trial.number, pair, state="cannot be", reason=trial.trouble)
            elif found is None:
                yield self._line(trial.number, pair, state="not reached", reason=_OVER)
            elif pair not in found.lines:
                yield self._line(trial.number, pair, state="failed", reason="no such artifact was made")
            else:
                taken = (found.latencies or {}).get(" ".join(pair), math.nan)
                yield replace(found.lines[pair], latency_ms=taken)


def _known_latencies(order: Order, shop: Workshop, site: Site) -> Mapping[str, float] | None:
    """By target and precision, where the store has them or there are none to take; None where they are to be taken."""
    jobs = latency.jobs(order, shop, site)
    found = {
        name: entry for name, job in jobs.items() if not isinstance(job, str) and (entry := shop.find(job)) is not None
    }
    return latency.take(order, shop, site, found).latency if len(found) == len(jobs) else None


def _calibrated(order: Order, shop: Workshop, site: Site) -> str:
    """How many calibration images there are, where that is not what was asked for; empty where it is, or nothing is calibrated."""
    asked = order.config.data.calibration
    found = shop.json(site.data, data.DIGESTS)["calibration images"]
    if found == asked or not any(precision in _CALIBRATED for _, precision in order.wanted):
        return ""
    why = "there are no more, or " if found < asked else ""
    return f"data.calibration = {asked}: {found} images are taken, for {why}as many are of each class"


def _differing(sites: Sequence[Site]) -> str:
    """By how much an artifact's rounds differ from each other, in words."""
    found = []
    for site in sites:
        for name in site.rounds[0] if site.rounds else ():
            medians = [float(np.median(one[name])) for one in site.rounds]
            found.append(max(medians) / min(medians))
    if not found:
        return "none could be taken"
    return f"the slowest of an artifact's {len(walk.ROUNDS)} rounds took {np.median(found):.2f} times the fastest (median), {max(found):.2f} times at most"


def _untimed(line: Line, watch: Stopwatch) -> Line:
    is_other = line.is_good and not watch.takes(line.target)
    return replace(line, device_told="not timed: it is not for Android" if is_other else "")


def _missed(row: Row) -> str:
    return "; ".join(str(check) for check in (*row.before, *row.checks) if not check.is_met)
