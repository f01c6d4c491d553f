"""Trials on their way through the steps of a build, many at a time: what the store has is taken, what several need is made once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..building import Failure, Order, Site, Step
from ..errors import StoreError, TwinkeelError, WorkerError
from ..parity import described
from ..saying import Say
from ..store import Damaged, Entry, Job, Store, Workshop, is_no_room
from .crews import Crew
from .tasks import Asked, Done, Task, Unfit, versions

_REPAIRS = 100
"""Damaged results that one sweep makes anew; more of them, and the store itself is broken."""
_LOSSES = 1000
"""Jobs that a scheduler may lose: all that are at work where its connection is gone for a moment."""
_MOST_OPEN = 500
"""Courses that are on their way at a time, at most: each is some ten kilobytes."""
_MOST_KNOWN = 2000
"""Results that the store is not asked for again, at most: each is a kilobyte or two."""
_UNTOLD = ("rounds",)
"""Steps of which the sweep itself tells."""
_QUIET = 30.0
"""Seconds without a result after which it is looked why, and said what is at work."""
_MOST_TOLD = 4
"""Tasks at work that are named."""


class _Known(dict[str, Entry]):
    """Results by their keys, the latest of them: many trials ask for the same data, and each for what was made for it just now."""

    def __setitem__(self, key: str, entry: Entry) -> None:
        super().__setitem__(key, entry)
        if len(self) > _MOST_KNOWN:
            del self[next(iter(self))]


@dataclass(kw_only=True)
class Course:
    """A trial on its way.

    Attributes:
        number: of the trial.
        name: for people.
        steps: that it goes through; `at` is the number of the one that comes next.
        trouble: why it goes no further; empty where it does.
    """

    number: int
    name: str
    order: Order
    steps: Sequence[Step]
    site: Site
    at: int = 0
    trouble: str = ""

    @property
    def is_done(self) -> bool:
        return bool(self.trouble) or self.at == len(self.steps)


@dataclass(kw_only=True)
class _Flight:
    """A task at work, and the courses that wait for it.

    Attributes:
        sent: when, of `time.monotonic`.
        began: when a worker took it; None where that is not known.
    """

    task: Task
    waiting: list[Course]
    sent: float = field(default_factory=time.monotonic)
    began: float | None = None

    @property
    def words(self) -> str:
        first, *others = self.task.keys
        return f"{first}{f' and {len(others)} more' if others else ''} of {self.waiting[0].name}"


@dataclass(kw_only=True)
class Yard:
    """Where trials are made.

    Attributes:
        store: shared by all who work.
        scratch: folder of this machine.
        patience: seconds for which workers ask a store again that does not answer.
        deadline: of `time.monotonic`, from which on nothing more is begun.
        made: seconds that each task took which had to be made, by step, in the order of the steps.
        peak: bytes of memory that a worker took at most.
        through: is told of each step that a course has behind it.
    """

    crew: Crew
    store: Store
    scratch: Path
    say: Say
    patience: float
    deadline: float = float("inf")
    made: dict[str, list[float]] = field(default_factory=dict)
    peak: int = 0
    through: Callable[[Course, Step], None] = lambda course, step: None
    _looked: float = 0.0
    _known: _Known = field(default_factory=_Known)
    _repaired: int = 0
    _lost: int = 0
    _failed: dict[str, Failure] = field(default_factory=dict)
    _flying: dict[str, Future[Done]] = field(default_factory=dict)
    _flights: dict[Future[Done], _Flight] = field(default_factory=dict)

    def course(self, number: int, name: str, order: Order, steps: Sequence[Step]) -> Course:
        for step in steps:  # in this order, whatever comes back first
            self.made.setdefault(_name(step), [])
        site = Site.of(order.config, order.create, self.shop())
        return Course(number=number, name=name, order=order, steps=steps, site=site)

    def shop(self) -> Workshop:
        return Workshop(store=self.store, scratch=Store(str(self.scratch)), is_shared=True, found=self._known)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def run(self, courses: Iterator[Course], take: Callable[[Course], Course | None]) -> None:
        """Bring courses to their ends, as many at a time as keep all workers at work.

        Args:
            courses: in the order of their worth; each is made when its turn comes.
            take: is given each that has ended, done or in trouble, and may give another in its place. One that the deadline
                stops is not given.

        Raises:
            StoreError: the store does not answer, and nothing can go on.
        """
        ready, active = deque[Course](), 0
        try:
            while True:
                while ready:
                    active -= self._brought_on(ready.popleft(), ready, take)
                if self._has_room(active) and not self.is_over and (one := next(courses, None)) is not None:
                    ready.append(one)
                    active += 1
                elif self._flights:
                    landed = wait(self._flights, timeout=_QUIET, return_when=FIRST_COMPLETED).done
                    self._look()
                    if not landed:
                        self._tell_quiet()
                    for future in landed:
                        ready.extend(self._landed(future))
                else:
                    return
        finally:
            for future in self._flights:  # what waits and was not begun is not begun any more
                future.cancel()

    def _look(self) -> None:
        """Note what workers have taken since the last look, which they do when a task ends."""
        for future, flight in self._flights.items():
            if flight.began is None and future.running():
                flight.began = max(flight.sent, self._looked)
        self._looked = time.monotonic()

    def _tell_quiet(self) -> None:
        """What is at work, and for how long, where nothing has ended for a while; and why nothing may come of it."""
        flights, now = list(self._flights.values()), time.monotonic()
        if why := self.crew.trouble([one.task for one in flights]):
            self.say(f"waiting: {why}")
        # a scheduler does not say what its workers have begun
        begun = [one for one in flights if one.began is not None] or flights
        told = [f"{one.words} for {now - (one.began or one.sent):.0f} s" for one in begun[:_MOST_TOLD]]
        more = [f"{len(begun) - _MOST_TOLD:,} more"] if len(begun) > _MOST_TOLD else []
        more += [f"{rest:,} wait for a worker"] if (rest := len(flights) - len(begun)) else []
        self.say(f"at work: {'; '.join([*told, *more])}")

    def _has_room(self, active: int) -> bool:
        number = self.crew.number
        return active < 2 * number + 2 or (len(self._flights) < number and active < _MOST_OPEN)

    def _brought_on(self, course: Course, ready: deque[Course], take: Callable[[Course], Course | None]) -> int:
        """Bring a course as far as there are results; 1 where it has ended, else 0."""
        try:
            self._advance(course)
        except Damaged as error:
            self._repair(error)
            self._from_the_start(course)
            ready.append(course)
            return 0
        except StoreError:
            raise
        except TwinkeelError as error:
            course.trouble = str(error)
        if course.is_done and (other := take(course)) is not None:
            ready.append(other)
            return 0
        return int(course.is_done)

    def _from_the_start(self, course: Course) -> None:
        """Through its steps once more: what is damaged is not found then, and made anew."""
        course.site, course.at = Site.of(course.order.config, course.order.create, self.shop()), 0

    def _repair(self, error: Damaged) -> None:
        self._known.pop(error.key, None)
        self.say(f"store: a damaged result is made anew: {error.what}")
        self._repaired += 1
        if self._repaired > _REPAIRS:
            raise StoreError(
                f"the store gave {self._repaired} damaged results; `twinkeel cache check` names them, `twinkeel cache clear` empties it."
            ) from error

    def _advance(self, course: Course) -> None:
        """Through all steps whose results are there; then what is missing is at work, or the course has ended."""
        shop = self.shop()
        while course.at < len(course.steps):
            step = course.steps[course.at]
            jobs = step.jobs(course.order, shop, course.site)
            found: dict[str, Entry | Failure] = {}
            for name, job in jobs.items():
                if isinstance(job, Job) and (entry := shop.find(job)) is not None:
                    found[name] = entry
                elif isinstance(job, Job) and job.key in self._failed:
                    found[name] = self._failed[job.key]
            if missing := {n: job for n, job in jobs.items() if isinstance(job, Job) and n not in found}:
                self._send(course, step, missing)
                return
            # what was to be measured of an artifact that there is not
            found |= {n: one for n in jobs if n not in found and isinstance(one := found.get(_lowered(n)), Failure)}
            if not _is_of_artifacts(step) and (failed := [one for one in found.values() if isinstance(one, Failure)]):
                raise TwinkeelError(failed[0].error)
            course.site = step.take(course.order, shop, course.site, found)
            course.at += 1
            self.through(course, step)

    def _send(self, course: Course, step: Step, missing: Mapping[str, Job]) -> None:
        """To workers, but what is at work for another course, which this one waits for then."""
        for jobs in _together(course.order, step, missing):
            new = {name: job.key for name, job in jobs.items() if job.key not in self._flying}
            for job in jobs.values():
                if job.key in self._flying:
                    self._wait(course, self._flying[job.key])
            if new and not self.is_over:
                self._begin(course, self._task(course, step, new))

    def _task(self, course: Course, step: Step, keys: Mapping[str, str]) -> Task:
        return Task(
            step=_name(step),
            keys=keys,
            asked=Asked.of(course.order),
            site=course.site,
            store=self.store.url,
            patience=self.patience,
            versions=versions(),
        )

    def _begin(self, course: Course, task: Task) -> None:
        future = self.crew.submit(task)
        self._flights[future] = _Flight(task=task, waiting=[course])
        self._flying |= dict.fromkeys(task.keys.values(), future)

    def _wait(self, course: Course, future: Future[Done]) -> None:
        waiting = self._flights[future].waiting
        if all(one is not course for one in waiting):
            waiting.append(course)

    def _landed(self, future: Future[Done]) -> list[Course]:
        """Note what became of a task; the courses that waited for it."""
        flight = self._flights.pop(future)
        for key in flight.task.keys.values():
            self._flying.pop(key, None)
        name = flight.waiting[0].name
        try:
            done = future.result()
        except Unfit as error:
            if not self.crew.leaves_out(error):
                raise
            self.say(f"worker {error.address} gets no more jobs: {error}")
            self._again(flight)
            return []
        except StoreError:
            raise
        except Damaged as error:
            self._repair(error)
            for course in flight.waiting:
                self._from_the_start(course)
        except CancelledError as error:
            self._lost += 1
            if self._lost > _LOSSES or not self.crew.is_back():
                raise WorkerError(
                    "the scheduler has given a job up, or is gone. What was made is kept: run the same command again when it answers."
                ) from error
            self.say(f"the scheduler has lost {', '.join(flight.task.keys)} of {name}, which is asked for again")
            self._again(flight)
            return []
        except Exception as error:  # of users' models and of all packages, and of processes that died
            if is_no_room(error):
                raise StoreError(f"there is no room for a job of {name}: {described(error)}") from error
            if _is_death(error, flight.task):
                self._apart(flight)
                return []
            told = str(error) if isinstance(error, TwinkeelError) else described(error)
            self._failed |= dict.fromkeys(flight.task.keys.values(), Failure(error=told))
            self.say(f"FAILED {', '.join(flight.task.keys)} of {name}: {told}")
        else:
            for entry in done.found.values():
                if isinstance(entry, Entry):
                    self._known[entry.key] = entry
            self.made.setdefault(flight.task.step, []).append(done.seconds)
            self.peak = max(self.peak, done.peak)
            failures = {
                key: one for n, key in flight.task.keys.items() if isinstance(one := done.found.get(n), Failure)
            }
            self._failed |= failures
            state = f"FAILED ({next(iter(failures.values())).error})" if failures else f"{done.seconds:.1f} s"
            if failures or flight.task.step not in _UNTOLD:
                self.say(f"made: {', '.join(flight.task.keys)} of {name}: {state}")
        return flight.waiting

    def _again(self, flight: _Flight) -> None:
        """Begin a task once more, for all who wait for it."""
        self._begin(flight.waiting[0], flight.task)
        for course in flight.waiting[1:]:
            self._wait(course, self._flying[next(iter(flight.task.keys.values()))])

    def _apart(self, flight: _Flight) -> None:
        """Of a worker that died of one of several artifacts, each once more by itself."""
        for name, key in flight.task.keys.items():
            self._again(replace(flight, task=replace(flight.task, keys={name: key})))


def _is_death(error: Exception, task: Task) -> bool:
    """Whether a worker died of several jobs, of which each is to be tried by itself."""
    return len(task.keys) > 1 and (isinstance(error, WorkerError) or type(error).__name__ == "KilledWorker")


def _name(step: Step) -> str:
    return step.__name__.rpartition(".")[2]  # type: ignore[attr-defined,no-any-return]


def _is_of_artifacts(step: Step) -> bool:
    return _name(step) == "artifact"


def _lowered(name: str) -> str:
    """The job that gives what a job measures; the name itself of another."""
    return f"lower {rest}" if (rest := name.removeprefix("measure ")) != name else name


def _together(order: Order, step: Step, missing: Mapping[str, Job]) -> list[dict[str, Job]]:
    """What goes to one worker: all artifacts of a converter, whose import takes seconds; else all jobs of a step."""
    if not _is_of_artifacts(step):
        return [dict(missing)]
    groups: dict[str, dict[str, Job]] = {}
    for name, job in missing.items():
        groups.setdefault(order.targets[name.split()[1]].build.__module__, {})[name] = job
    return list(groups.values())
