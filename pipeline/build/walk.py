"""One pass over all jobs of a build: what the store has is taken, the rest is made. The order of the work is `Walk.run`."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..program import references
from . import steps
from ..program import Target
from ..config import Config
from .finish import Finish, folder_job, report_job
from ..store import Job, Make, Workshop, is_no_room
from ..parity import described
from .order import Order
from ..program import is_quantized
from ..report import Built
from ..saying import Say
from .steps import Create, Made, Site
from ..store import Damaged, Entry

_NO_ROOM = 1_000_000
"""Bytes that are left on a disk when it is full."""


@dataclass
class Walk:
    """One pass over all jobs of a build."""

    order: Order
    shop: Workshop
    work: Path
    say: Say
    executor: Executor

    def __post_init__(self) -> None:
        self.ran: list[str] = []
        self.peak = 0

    def run(self) -> Built:
        config, create = self.order.config, self.order.create
        data, labels, weights = until_weights(config, create, self.shop, self.say, self.make)
        self.order.check_certainty(len(self.shop.array(data, "held-out-labels.npy")))
        doubts = look_at_original(config, create, self.shop, self.say, self.make, data, labels, weights)
        program = self.make(
            steps.program_job(config, create, data, weights, is_gated=self.order.has_int8),
            partial(self._make_program, data, weights, labels),
        )
        site = self._site(data, weights, program, labels)
        site = replace(site, references=self._references(site))
        made = self._artifacts(site)
        finish = Finish(
            order=self.order, shop=self.shop, work=self.work, say=self.say, site=site, made=made, doubts=doubts
        )
        finished = {
            platform: self.make(
                folder_job(self.order, site, platform, made, doubts), partial(finish.make_folder, platform)
            )
            for platform in self.order.plans
        }
        latency = self._latency(site, made)
        if program.has("all-int8-quantized.pt2"):
            self._say_cost_of_float(site, made)
        page = self.make(
            report_job(self.order, self.shop, site, finished, latency, made),
            partial(finish.make_report, finished, latency),
        )
        finish.place(finished, page)
        self.shop.remember(self.order.place)
        return Built(
            comparison=finish.comparison() if len(finished) > 1 else None,
            results=[finish.result(finished[p], p, latency, has_answers=False) for p in self.order.plans],
            ran=self.ran,
            peak=self.peak,
            files=sorted(page.files),
        )

    def make(self, job: Job, make: Make) -> Entry:
        """In this process."""
        found = self.shop.find(job)
        if found is None:
            self.ran.append(job.name)
            found = self.shop.make(job, make)
        return found

    def _make_program(self, data: Entry, weights: Entry, labels: tuple[str, ...], folder: Path) -> None:
        config = self.order.config
        model = steps.load_model(self.shop, weights, config, self.order.create, len(labels))
        loaded = steps.load_data(self.shop, data)
        steps.make_program(config, loaded, model, self.say, folder, is_gated=self.order.has_int8)

    # ---- the jobs of workers

    def _site(self, data: Entry, weights: Entry, program: Entry, labels: tuple[str, ...]) -> Site:
        return Site(
            store=None if self.shop.store is None else self.shop.store.url,
            scratch=self.shop.scratch.url,
            damaged=self.shop.damaged,
            config=self.order.config,
            create=self.order.create,
            labels=labels,
            data=data,
            weights=weights,
            program=program,
            references={},
        )

    def _references(self, site: Site) -> dict[str, Entry]:
        keys = references.keys(self.order.wanted)
        jobs = {key: steps.reference_job(site, key) for key in keys}
        found = {key: entry for key, job in jobs.items() if (entry := self.shop.find(job)) is not None}
        missing = sorted((key for key in keys if key not in found), key=_reference_cost)
        if missing:
            self.say(f"references: {', '.join(sorted(missing))}")
            self.ran += [jobs[key].name for key in missing]
            shares = [missing[n :: self._number()] for n in range(min(self._number(), len(missing)))]
            for future in [self.executor.submit(steps.make_references, site, share) for share in shares]:
                found |= future.result()
        return found

    def _artifacts(self, site: Site) -> dict[tuple[str, str], Made]:
        """Each wanted artifact, those that are not in the store made by workers, one process for each converter."""
        made: dict[tuple[str, str], Made] = {}
        jobs: dict[tuple[str, str], Job] = {}
        groups: dict[str, dict[str, list[tuple[str, str]]]] = {}
        for target, precision in self.order.wanted:
            name = target.NAME, precision
            jobs[name] = steps.lower_job(site, target, precision)
            lowered = self.shop.find(jobs[name])
            measured = lowered and self.shop.find(steps.measure_job(site, target, precision, lowered))
            if measured is not None:
                made[name] = Made(lowered=lowered, measured=measured)
                continue
            if lowered is None:
                self.ran.append(jobs[name].name)
            self.ran.append(f"measure {target.NAME} {precision}")
            # targets that share their code share their results: made once, for all of them
            groups.setdefault(target.build.__module__, {}).setdefault(precision, []).append(name)
        tasks = _tasks(groups, self._number(), self.order.targets) if groups else []
        total, done = sum(len(names) for group in groups.values() for names in group.values()), 0
        if tasks:
            self.say(f"artifacts: {total} to make, {len(tasks)} processes, {min(len(tasks), self._number())} at a time")
        waiting = {self.executor.submit(steps.make_artifacts, site, self._modules(task)): task for task in tasks}
        for future in as_completed(waiting):
            task = waiting[future]
            results = self._outcome(future, site, task)
            for names, result in zip(task, results, strict=True):
                self.peak = max(self.peak, result.peak)
                for name in names:
                    made[name], done = result, done + 1
                    self.say(_told(name, result), (done, total))
        for target, precision in self.order.wanted:  # what workers have asked for is known here too
            lowered = made[target.NAME, precision].lowered
            if lowered is not None:
                job = steps.measure_job(site, target, precision, lowered)
                self.shop.asked[job.name] = job.ingredients
        return {(t.NAME, p): made[t.NAME, p] for t, p in self.order.wanted}

    def _outcome(self, future: Future[list[Made]], site: Site, task: list[list[tuple[str, str]]]) -> list[Made]:
        """What a worker made; of one that died, what each artifact gives in a process of its own."""
        try:
            return future.result()
        except Damaged:
            raise
        except Exception as error:
            if is_no_room(error):
                raise
            if shutil.disk_usage(self.work).free < _NO_ROOM:  # native code that ends its process for it
                raise OSError(errno.ENOSPC, described(error)) from error
            if len(task) == 1:
                # what it had finished is in the store
                lowered = self.shop.find(steps.lower_job(site, self.order.targets[task[0][0][0]], task[0][0][1]))
                return [Made(lowered=lowered, measured=None, error=described(error))]
        apart = [self.executor.submit(steps.make_artifacts, site, self._modules([names])) for names in task]
        return [self._outcome(one, site, [names])[0] for one, names in zip(apart, task, strict=True)]

    def _modules(self, task: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, str]]:
        return [(self.order.targets[names[0][0]].__name__, names[0][1]) for names in task]

    def _number(self) -> int:
        return int(getattr(self.executor, "number", 2))

    def _latency(self, site: Site, made: Mapping[tuple[str, str], Made]) -> dict[str, float]:
        """Milliseconds by ``target precision`` of the artifacts that run."""
        job = latency_job(self.order, site, made)
        running = _running(self.order, made)
        if not running:
            return {}
        wanted = {name: (target.__name__, lowered) for name, (target, lowered) in running.items()}

        def make(result: Path) -> None:
            self.say(f"latency: {len(wanted)} artifacts in turn")
            taken = self.executor.submit(steps.make_latencies, site, wanted).result()
            (result / "latency.json").write_text(json.dumps(taken))

        return dict(self.shop.json(self.make(job, make), "latency.json"))

    def _say_cost_of_float(self, site: Site, made: Mapping[tuple[str, str], Made]) -> None:
        """Size and latency of the first int8 artifact that a runtime runs here, beside one with all layers in int8."""
        chosen = next(
            (t for t, p in self.order.wanted
             if p == "int8" and t.EVIDENCE == "runtime" and made[t.NAME, p].measured is not None), None)  # fmt: skip
        lowered = None if chosen is None else made[chosen.NAME, "int8"].lowered
        if chosen is None or lowered is None:
            return

        def make(result: Path) -> None:
            found = self.executor.submit(steps.cost_of_float, site, chosen.__name__, lowered).result()
            (result / "cost.json").write_text(json.dumps(found))

        cost = self.shop.json(self.make(steps.cost_job(site, chosen, lowered), make), "cost.json")
        self.say(
            f"cost of the layers in float, {chosen.NAME}: {cost['bytes']:,} bytes instead of {cost['plain bytes']:,}, "
            f"{cost['ms']:.3f} ms here instead of {cost['plain ms']:.3f}"
        )


def until_weights(
    config: Config, create: Create, shop: Workshop, say: Say, make: Callable[[Job, Make], Entry]
) -> tuple[Entry, tuple[str, ...], Entry]:
    """Data, their labels, and weights, which every command starts from.

    Args:
        make: finds the result of a job, or makes it.
    """

    def make_data(folder: Path) -> None:
        say("data: " + (config.data.path or config.data.source))
        steps.make_data(config, data_job, folder)

    data_job = steps.data_job(config)
    data = make(data_job, make_data)
    steps.warn(shop, data, say)
    labels = tuple(shop.json(data, "labels.json"))
    job = steps.weights_job(config, create, data, len(labels))
    state = training_state(job.key)
    weights = make(
        job, lambda folder: steps.make_weights(config, create, steps.load_data(shop, data), state, say, folder)
    )
    shutil.rmtree(state, ignore_errors=True)  # kept until its result is
    return data, labels, weights


def look_at_original(
    config: Config,
    create: Create,
    shop: Workshop,
    say: Say,
    make: Callable[[Job, Make], Entry],
    data: Entry,
    labels: tuple[str, ...],
    weights: Entry,
) -> tuple[str, ...]:
    """Stop before anything is built on a float model that does not know the images.

    Returns:
        what there is to say against it though it is accepted, in words.

    Raises:
        OriginalError: with what was counted, and the likely cause.
    """

    def make_original(folder: Path) -> None:
        say("original: the float model on held-out images")
        model = steps.load_model(shop, weights, config, create, len(labels))
        steps.make_original(config, steps.load_data(shop, data), model, folder)

    entry = make(steps.original_job(config, create, data, weights, len(labels)), make_original)
    doubts = steps.original_doubts(shop, entry, config, labels)
    for doubt in doubts:
        say(f"WARNING {doubt}")
    return doubts


def latency_job(order: Order, site: Site, made: Mapping[tuple[str, str], Made]) -> Job:
    return steps.latency_job(site, _running(order, made))


def _running(order: Order, made: Mapping[tuple[str, str], Made]) -> dict[tuple[str, str], tuple[Target, Entry]]:
    """The artifacts that run."""
    return {
        name: (order.targets[name[0]], item.lowered)
        for name, item in made.items()
        if item.lowered is not None and item.measured is not None
    }


def training_state(key: str) -> Path:
    """Where a training keeps what it goes on from, by the key of its job; on this machine, for it is written often."""
    import platformdirs

    return Path(platformdirs.user_cache_path("twinkeel")) / "training" / key


def _reference_cost(key: str) -> tuple[bool, str]:
    """Quantized references take longest and are dealt out first."""
    return not is_quantized(key), key


def _tasks(
    groups: Mapping[str, Mapping[str, list[tuple[str, str]]]], number: int, targets: Mapping[str, Target]
) -> list[list[list[tuple[str, str]]]]:
    """Artifacts for each process: all of a converter, for its import takes seconds, but no process stays idle for it.

    Args:
        groups: by the module that builds, by precision, the artifacts that are the same file.

    Returns:
        the longest task first: started last, it would keep one process alone at the end.
    """
    tasks = [list(group.values()) for group in groups.values()]
    while len(tasks) < number and any(len(task) > 1 for task in tasks):
        largest = max(tasks, key=len)
        tasks.remove(largest)
        tasks += [largest[::2], largest[1::2]]
    return sorted(tasks, key=lambda task: sum(_cost(names[0], targets) for names in task), reverse=True)


def _cost(artifact: tuple[str, str], targets: Mapping[str, Target]) -> int:
    """About how long an artifact takes: int8 three times as long as the others, and with a twin twice that."""
    name, precision = artifact
    if precision != "int8":
        return 1
    return 6 if precision in getattr(targets[name], "TWINS", ()) else 3


def _told(name: tuple[str, str], made: Made) -> str:
    if made.error:
        return f"FAILED {' '.join(name)}: {made.error}"
    return f"made: {' '.join(name)}"
