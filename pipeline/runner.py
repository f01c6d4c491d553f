"""From a configuration to verified folders. The order of the work stands in `_walk`."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import calibration, folder, layers, manifest, outputs, parity, references, sdk, steps
from . import data as data_module
from .artifact import Artifact, Target, digest, seal
from .compare import REFERENCE, REFERENCE_XNNPACK, Comparison, tabulate
from .config import Config
from .errors import ConfigError, ConversionError, TwinkeelError
from .history import Epoch, Rung
from .jobs import Job, Workshop
from .judge import Judge, Measured, Outputs, Row, Say
from .measure import described
from .program import Program, is_quantized
from .ranking import Answers
from .sdk import Kit
from .steps import Create, Made, Site
from .store import Damaged, Entry, Store
from .workers import Workers, count

if TYPE_CHECKING:
    from .drift import RuntimeDrift

_REPAIRS = 100
"""Damaged results that one build makes anew; more of them, and the store itself is broken."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a build gave for a platform.

    Attributes:
        reference_accuracy: top-1 of the references ``float`` and ``int8``, 0..1.
        reference_answers: what they say of the held-out images.
        curve: of the training; empty where weights were given.
    """

    folder: Path
    program_checks: list[parity.Check]
    reference_accuracy: dict[str, float]
    rows: list[Row]
    errors: list[str]
    rungs: tuple[Rung, ...]
    reference_answers: dict[str, Answers]
    curve: tuple[Epoch, ...]

    @property
    def is_verified(self) -> bool:
        return not self.errors and all(c.is_met for c in self.program_checks) and all(r.is_verified for r in self.rows)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is made from.

    Attributes:
        held_out: the images that the answers are about, and their labels.
        drift: of the int8 artifacts whose layers could be looked at.
        drift_errors: of the others, in words.
    """

    results: list[Result]
    manifests: list[dict[str, Any]]
    held_out: data_module.Split
    drift: tuple[RuntimeDrift, ...]
    drift_errors: str


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did.

    Attributes:
        ran: names of the jobs that had to run; empty where there was nothing to do.
        peak: bytes of memory that a worker took at most, 0 where none ran.
        files: names of the files beside the folders.
        comparison: of the int8 artifacts of several platforms, on the golden images.
    """

    results: list[Result]
    ran: list[str]
    peak: int
    files: list[str]
    comparison: Comparison | None


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for, and with what it is made.

    Attributes:
        plans: by platform, the artifacts that the configuration asks for.
        shipped: by platform, target and precision of the artifact in its kit.
        render: makes the page of a `Report`; its module counts as the page's code.
        out: where it is put; the store remembers by it what ran last.
    """

    config: Config
    targets: Mapping[str, Target]
    kits: Mapping[str, Kit]
    create: Create
    plans: Mapping[str, list[tuple[Target, str]]]
    shipped: Mapping[str, tuple[str, str] | None]
    render: Any
    out: Path

    @property
    def wanted(self) -> list[tuple[Target, str]]:
        return [pair for pairs in self.plans.values() for pair in pairs]

    @property
    def has_int8(self) -> bool:
        return any(precision == "int8" for _, precision in self.wanted)

    @property
    def place(self) -> str:
        return str(self.out.resolve())


def plan(config: Config, targets: Mapping[str, Target], platform: str) -> list[tuple[Target, str]]:
    """The artifacts that a configuration asks for on a platform.

    Raises:
        ConfigError: a precision needs a later iOS than the packages must run on, or has no parity limits.
    """
    wanted = [
        (t, p)
        for name, t in targets.items()
        if name.startswith(f"{platform}/")
        for p in config.targets.get(name, () if config.targets else t.PRECISIONS)
    ]
    for target, precision in wanted:
        needed = getattr(target, "NEEDS", {}).get(precision, 0)
        if needed > config.ios.version:
            raise ConfigError(
                f"{target.NAME} {precision} needs iOS {needed}, ios.minimum_deployment_target is "
                f"'{config.ios.minimum_deployment_target}'. Set it to 'iOS{needed}', or list the precisions that "
                f'you want: [targets] "{target.NAME}" = '
                + str([p for p in target.PRECISIONS if getattr(target, "NEEDS", {}).get(p, 0) <= config.ios.version])
            )
        parity.limits_for("lower", precision, config.is_default_model, config.limit, target.EVIDENCE, target.KERNELS)
    return wanted


def order(
    config: Config,
    targets: Mapping[str, Target],
    kits: Mapping[str, Kit],
    create: Create,
    platforms: Sequence[str],
    out: Path,
    render: Any,
    say: Say,
) -> Order:
    """Check what can be checked before any work.

    Raises:
        ConfigError: the configuration asks for what cannot be.
    """
    plans = {platform: plan(config, targets, platform) for platform in platforms}
    shipped = {platform: sdk.chosen(config, platform, pairs, say) for platform, pairs in plans.items() if pairs}
    if not any(plans.values()):
        raise ConfigError(f"[targets] names none of {' or '.join(platforms)}: nothing to build")
    for leg, precision in (("fold", "float"), ("quantize", "int8")):
        parity.limits_for(leg, precision, config.is_default_model, config.limit)
    parity.check_overrides(config.limit)
    plans = {platform: pairs for platform, pairs in plans.items() if pairs}
    return Order(
        config=config, targets=targets, kits=kits, create=create, plans=plans, shipped=shipped, render=render, out=out
    )


def build(wanted: Order, store: Store | None, say: Say, executor: Executor | None = None) -> Built:
    """Build and judge every artifact of the platforms, from one program, into ``out/<platform>``, each of which
    appears whole; what the store knows already is not made again.

    A failing target does not hide the others. Artifacts over a limit stay in the folder, marked as failed.

    Args:
        executor: runs the jobs; processes of this machine by default.

    Raises:
        TwinkeelError: nothing could be built; what was at ``out/<platform>`` is untouched.
    """
    damaged: set[str] = set()
    with ExitStack() as stack:
        work = stack.enter_context(outputs.claimed(wanted.out, say))
        if executor is None:
            executor = _Late(stack)
        while True:
            shop = Workshop(store=store, scratch=Store(str(work / "results")), damaged=frozenset(damaged))
            (work / "results").mkdir(exist_ok=True)
            try:
                return _Build(wanted, shop, work, say, executor).run()
            except Damaged as error:
                say(f"store: a damaged result is made anew: {error.what}")
                damaged.add(error.key)
                if len(damaged) > _REPAIRS:
                    raise TwinkeelError(
                        f"the store gave {len(damaged)} damaged results; `twinkeel cache check` names them, "
                        "`twinkeel cache clear` empties it."
                    ) from error
            finally:
                for line in shop.troubles:
                    say(f"WARNING {line}")


def weights(config: Config, create: Create, store: Store | None, out: Path, say: Say) -> dict[str, bytes]:
    """The weights of a configuration as safetensors, loaded or trained, and the curves of a training; by file name."""
    with outputs.claimed(out, say) as work:
        shop = Workshop(store=store, scratch=Store(str(work)))
        _, entry, _ = _until_weights(config, create, shop, say)
        found = {name: shop.read(entry, name) for name in entry.files if name.startswith("curves.")}
        return found | {f"{config.project.name}.safetensors": shop.read(entry, "weights.safetensors")}


def ungated_program(
    config: Config, create: Create, store: Store | None, out: Path, say: Say
) -> tuple[Program, data_module.Dataset]:
    """The program and its images in memory, whatever int8 is worth, to be looked at."""
    with outputs.claimed(out, say) as work:
        shop = Workshop(store=store, scratch=Store(str(work)))
        _, entry, loaded = _until_weights(config, create, shop, say)
        model = steps.load_model(shop, entry, config, create, len(loaded.labels))
    program, _, _ = steps.quantized_program(config, loaded, model, say, is_gated=False)
    return program, loaded


def _until_weights(
    config: Config, create: Create, shop: Workshop, say: Say
) -> tuple[Entry, Entry, data_module.Dataset]:
    def make_data(folder: Path) -> None:
        say("data: " + (config.data.path or config.data.source))
        steps.make_data(config, data_job, folder)

    data_job = steps.data_job(config)
    data = shop.make(data_job, make_data)
    loaded = steps.load_data(shop, data)
    job = steps.weights_job(config, create, data, len(loaded.labels))
    state = training_state(job.key)
    entry = shop.make(job, lambda folder: steps.make_weights(config, create, loaded, state, say, folder))
    return data, entry, loaded


def keep_within(store: Store, config: Config, say: Say) -> None:
    """Make a store in a folder as small as the configuration allows; others have means of their own."""
    limit = int(config.store.max_gigabytes * 1e9)
    try:
        if store.is_local and store.usage().bytes > limit:
            dropped, freed = store.prune(limit)
            say(f"store: {dropped} results that were not used for longest dropped, {freed:,} bytes")
    except OSError as error:
        say(f"WARNING the store '{store.url}' cannot be made smaller: {error}")


class _Late(Executor):
    """This machine's workers, started when there is work for them, and stopped with the build."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._workers = stack, None  # type: tuple[ExitStack, Workers | None]

    @property
    def number(self) -> int:
        return self._started().number

    def _started(self) -> Workers:
        if self._workers is None:
            self._workers = Workers(count())
            self._stack.callback(self._workers.shutdown, cancel_futures=True)
        return self._workers

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._started().submit(fn, *args, **kwargs)


@dataclass
class _Build:
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
        data = self.make(steps.data_job(config), self._make_data)
        labels = tuple(self.shop.json(data, "labels.json"))
        job = steps.weights_job(config, create, data, len(labels))
        weights = self.make(job, partial(self._make_weights, data, labels))
        shutil.rmtree(training_state(job.key), ignore_errors=True)
        program = self.make(
            steps.program_job(config, create, data, weights, is_gated=self.order.has_int8),
            partial(self._make_program, data, weights, labels),
        )
        site = self._site(data, weights, program, labels)
        site = replace(site, references=self._references(site))
        made = self._artifacts(site)
        finished = {
            platform: self.make(
                folder_job(self.order, site, platform, made), partial(self._make_folder, site, platform, made)
            )
            for platform in self.order.plans
        }
        latency = self._latency(site, made)
        if program.has("all-int8-quantized.pt2"):
            self._say_cost_of_float(site, made)
        page = self.make(
            report_job(self.order, site, finished, latency, made),
            partial(self._make_report, site, finished, latency, made),
        )
        self._place(site, finished, page)
        return Built(
            comparison=self._comparison(site, made) if len(finished) > 1 else None,
            results=[self._result(site, finished[p], p, latency, has_answers=False) for p in self.order.plans],
            ran=self.ran,
            peak=self.peak,
            files=sorted(page.files),
        )

    def make(self, job: Job, make: Any) -> Entry:
        """In this process."""
        found = self.shop.find(job)
        if found is None:
            self.ran.append(job.name)
            found = self.shop.make(job, partial(make, job))
            self.shop.remember(self.order.place, found)
        return found

    # ---- the jobs of this process

    def _make_data(self, job: Job, folder: Path) -> None:
        self.say("data: " + (self.order.config.data.path or self.order.config.data.source))
        steps.make_data(self.order.config, job, folder)

    def _make_weights(self, data: Entry, labels: tuple[str, ...], job: Job, folder: Path) -> None:
        steps.make_weights(
            self.order.config,
            self.order.create,
            steps.load_data(self.shop, data),
            training_state(job.key),
            self.say,
            folder,
        )

    def _make_program(self, data: Entry, weights: Entry, labels: tuple[str, ...], job: Job, folder: Path) -> None:
        config = self.order.config
        model = steps.load_model(self.shop, weights, config, self.order.create, len(labels))
        loaded = steps.load_data(self.shop, data)
        found = tuple(calibration.warnings(loaded))
        for line in found:
            self.say(f"WARNING {line}")
        steps.make_program(config, loaded, model, self.say, folder, is_gated=self.order.has_int8)
        (folder / "warnings.json").write_text(json.dumps(found))

    def _make_folder(
        self, site: Site, platform: str, made: Mapping[tuple[str, str], Made], job: Job, result: Path
    ) -> None:
        """A finished folder, and beside it what tables and reports tell of it."""
        shop, config = self.shop, self.order.config
        logits = {key: shop.array(entry, "logits.npy") for key, entry in site.references.items()}
        scale = float(shop.json(site.program, "program.json")["output_scale"])
        truth = shop.array(site.data, "held-out-labels.npy")
        judge = Judge(
            outputs=Outputs(references=logits, labels=truth, output_scale=scale),
            targets=self.order.targets,
            config=config,
        )
        (result / "folder").mkdir()
        measured, errors = self._collect(made, platform, result / "folder")
        if not measured:
            raise ConversionError("no artifact could be built:\n" + "\n".join(errors))
        rows = judge.rows(measured)
        checks = judge.program_checks(has_int8=self.order.has_int8)
        images, golden = references.images_of(shop.array(site.data, "held-out-images.npy"))
        wanted = {key: entry for key, entry in site.references.items() if is_quantized(key)}
        contents = folder.Contents(
            config=config,
            contract=steps.contract_of(config),
            labels=site.labels,
            images=images,
            golden=golden,
            references=logits,
            recording=steps.load_recording(shop, wanted),
            output_scale=scale,
            weights_source=shop.json(site.weights, "origin.json")["source"],
            weights_sha256=site.weights.files["weights.safetensors"],
            calibration_sha256=shop.json(site.data, "digests.json")["calibration"],
            calibration_images=shop.json(site.data, "digests.json")["calibration images"],
            warnings=shop.json(site.program, "warnings.json"),
            rungs=_rungs(shop, site.program),
            rows=rows,
            program_checks=checks,
            reference_accuracy=judge.accuracies,
            errors=errors,
            shipped=self.order.shipped[platform],
        )
        folder.write(contents, self.order.targets, self.order.kits[platform], result / "folder", self.say)
        table = {
            "program_checks": [asdict(check) for check in checks],
            "reference_accuracy": judge.accuracies,
            "rows": [asdict(replace(row, answers=None)) for row in rows],
            "errors": errors,
        }
        (result / "result.json").write_text(json.dumps(table))
        said = [judge.answers["float"], judge.answers["int8"], *(row.answers for row in rows if row.answers)]
        np.save(result / "answers.npy", np.array([(a.classes, a.probabilities) for a in said]))

    def _collect(
        self, made: Mapping[tuple[str, str], Made], platform: str, into: Path
    ) -> tuple[list[Measured], list[str]]:
        """A platform's artifacts, put where they belong below `into`, and why the others are not there."""
        found, errors = [], []
        for target, precision in self.order.plans[platform]:
            item = made[target.NAME, precision]
            if item.lowered is None:
                errors.append(f"{target.NAME} {precision}: {item.error}")
                continue
            runtime, stem = target.NAME.split("/")[1], f"{self.order.config.project.name}-{precision}"
            path = into / runtime / f"{stem}{target.SUFFIX}"
            twin = into / "evidence" / runtime / f"{stem}-float32{target.SUFFIX}"
            self._fetch(item.lowered, f"artifact{target.SUFFIX}", path)
            has_twin = item.lowered.has(f"twin{target.SUFFIX}")
            if has_twin:
                self._fetch(item.lowered, f"twin{target.SUFFIX}", twin)
            numbers = {} if item.measured is None else self.shop.json(item.measured, "metrics.json")
            found.append(
                Measured(
                    artifact=seal(path, into, target.NAME, precision),
                    twin=twin.relative_to(into).as_posix() if has_twin else None,
                    operators=self.shop.json(item.lowered, "operators.json"),
                    logits=None if item.measured is None else self.shop.array(item.measured, "logits.npy"),
                    metrics=numbers.get("metrics", {}),
                    names_classes=numbers.get("names_classes", False),
                    error=item.error,
                )
            )
        return found, errors

    def _fetch(self, entry: Entry, name: str, path: Path) -> None:
        """One file or folder of a result under another name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.work) as here:
            self.shop.fetch(entry, Path(here), name)
            (Path(here) / name).rename(path)

    def _make_report(
        self,
        site: Site,
        finished: Mapping[str, Entry],
        latency: Mapping[str, float],
        made: Mapping[tuple[str, str], Made],
        job: Job,
        result: Path,
    ) -> None:
        shop = self.shop
        drift, errors = self._drift(site, made)
        said = Report(
            results=[self._result(site, finished[p], p, latency, has_answers=True) for p in self.order.plans],
            manifests=[shop.json(finished[p], f"folder/{manifest.MANIFEST}") for p in self.order.plans],
            held_out=data_module.Split(
                images=shop.array(site.data, "held-out-images.npy"), labels=shop.array(site.data, "held-out-labels.npy")
            ),
            drift=drift,
            drift_errors=errors,
        )
        for name, content in self.order.render(self.order.config.project.name, said, self.order.out).items():
            (result / name).write_bytes(content)
        for name in ("curves.csv", "curves.png"):
            if site.weights.has(name):
                (result / name).write_bytes(shop.read(site.weights, name))

    def _drift(self, site: Site, made: Mapping[tuple[str, str], Made]) -> tuple[tuple[RuntimeDrift, ...], str]:
        """Layer by layer, each artifact that is the same on several platforms once."""
        from .drift import RuntimeDrift, compare

        recording = steps.load_recording(
            self.shop, {key: entry for key, entry in site.references.items() if is_quantized(key)}
        )
        ends = np.cumsum([len(layers.sampled(layer.shape)) for layer in recording.layers])
        found: dict[str, RuntimeDrift] = {}
        errors = []
        for (name, _), item in made.items():
            if item.measured is None or item.lowered is None:
                continue
            target = self.order.targets[name]
            if item.measured.has("layers-error.txt"):
                errors.append(self.shop.read(item.measured, "layers-error.txt").decode())
            if not item.measured.has("layers.npy"):
                continue
            key = item.measured.digest("layers.npy") + target.KERNELS + item.lowered.digest(f"artifact{target.SUFFIX}")
            if key in found:
                found[key] = replace(found[key], targets=(*found[key].targets, name))
                continue
            reference = target.REFERENCES["int8"]
            values = np.split(self.shop.array(item.measured, "layers.npy"), ends[:-1], axis=1)
            compared = compare(recording, reference, values, target.KERNELS)
            found[key] = RuntimeDrift(targets=(name,), reference=reference, layers=compared)
        return tuple(found.values()), "; ".join(sorted(set(errors)))

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
            for key in missing:
                self.shop.remember(self.order.place, found[key])
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
        tasks = _tasks(groups, self._number()) if groups else []
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
                    for entry in (result.lowered, result.measured):
                        if entry is not None:
                            self.shop.remember(self.order.place, replace(entry, name=_renamed(entry.name, name)))
        return {(t.NAME, p): made[t.NAME, p] for t, p in self.order.wanted}

    def _outcome(self, future: Future[list[Made]], site: Site, task: list[list[tuple[str, str]]]) -> list[Made]:
        """What a worker made; of one that died, what each artifact gives in a process of its own."""
        try:
            return future.result()
        except Damaged:
            raise
        except Exception as error:
            if len(task) == 1:
                # what it had finished is in the store
                lowered = self.shop.find(steps.lower_job(site, self.order.targets[task[0][0][0]], task[0][0][1]))
                return [Made(lowered=lowered, measured=None, error=described(error))]
        apart = [self.executor.submit(steps.make_artifacts, site, self._modules([names])) for names in task]
        return [self._outcome(one, site, [names])[0] for one, names in zip(apart, task, strict=True)]

    def _modules(self, task: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, str]]:
        return [(_module_of(self.order.targets[names[0][0]]), names[0][1]) for names in task]

    def _number(self) -> int:
        return int(getattr(self.executor, "number", 2))

    def _latency(self, site: Site, made: Mapping[tuple[str, str], Made]) -> dict[str, float]:
        """Milliseconds by ``target precision`` of the artifacts that run."""
        job = latency_job(self.order, site, made)
        running = _running(self.order, made)
        if not running:
            return {}
        wanted = {name: (_module_of(target), lowered) for name, (target, lowered) in running.items()}

        def make(_: Job, result: Path) -> None:
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
        job = replace(steps.lower_job(site, chosen, "int8"), kind="cost of float", name="cost of float")

        def make(_: Job, result: Path) -> None:
            found = self.executor.submit(steps.cost_of_float, site, _module_of(chosen), lowered).result()
            (result / "cost.json").write_text(json.dumps(found))

        cost = self.shop.json(self.make(job, make), "cost.json")
        self.say(
            f"cost of the layers in float, {chosen.NAME}: {cost['bytes']:,} bytes instead of {cost['plain bytes']:,}, "
            f"{cost['ms']:.3f} ms here instead of {cost['plain ms']:.3f}"
        )

    # ---- what comes of it

    def _result(
        self, site: Site, entry: Entry, platform: str, latency: Mapping[str, float], *, has_answers: bool
    ) -> Result:
        shop = self.shop
        table = shop.json(entry, "result.json")
        said: list[Answers | None] = [None] * (2 + len(table["rows"]))
        if has_answers:
            ran = iter(shop.array(entry, "answers.npy"))
            is_there = [True, True, *(row["evidence"] != "none" for row in table["rows"])]
            said = [_answers(next(ran)) if there else None for there in is_there]
        rows = [
            Row(
                **row
                | {
                    "artifact": Artifact(**row["artifact"]),
                    "checks": [parity.Check(**check) for check in row["checks"]],
                    "latency_ms": latency.get(f"{row['artifact']['target']} {row['artifact']['precision']}", np.nan),
                    "answers": one,
                }
            )
            for row, one in zip(table["rows"], said[2:], strict=True)
        ]
        return Result(
            folder=self.order.out / platform,
            program_checks=[parity.Check(**check) for check in table["program_checks"]],
            reference_accuracy=table["reference_accuracy"],
            rows=rows,
            errors=table["errors"],
            rungs=_rungs(shop, site.program),
            reference_answers={
                name: answer for name, answer in zip(("float", "int8"), said, strict=False) if answer is not None
            },
            curve=_curve(shop, site.weights),
        )

    def _comparison(self, site: Site, made: Mapping[tuple[str, str], Made]) -> Comparison | None:
        shop = self.shop
        _, golden = references.images_of(shop.array(site.data, "held-out-images.npy"))
        named = {REFERENCE: site.references["int8"], REFERENCE_XNNPACK: site.references.get("int8-xnnpack")}
        named |= {name: item.measured for (name, precision), item in made.items() if precision == "int8"}
        logits = {name: shop.array(entry, "logits.npy")[golden] for name, entry in named.items() if entry is not None}
        if len(logits) < 4:
            return None
        return tabulate(logits, float(shop.json(site.program, "program.json")["output_scale"]))

    def _place(self, site: Site, finished: Mapping[str, Entry], page: Entry) -> None:
        """Put what is not there already into `out`: folders first, then the files beside them, the index last."""
        out = self.order.out
        staged = {}
        for platform, entry in finished.items():
            if not _is_there(self.shop, entry, out / platform):
                staging = self.work / platform
                self.shop.fetch(entry, staging, "folder")
                staged[platform] = staging / "folder"
        files = {name: self.shop.read(page, name) for name in page.files}
        for platform, staging in staged.items():
            outputs.replace_folder(staging, out / platform, self.work.parent)
        for name, content in files.items():
            if not (out / name).is_file() or (out / name).read_bytes() != content:
                outputs.save(content, out / name)
        known = outputs.read_index(out)["files"] if (out / outputs.INDEX).is_file() else {}
        outputs.write_index(out, {*known, *files})


def folder_job(order: Order, site: Site, platform: str, made: Mapping[tuple[str, str], Made]) -> Job:
    """A platform's folder: of its artifacts and measurements, the references, and what the manifest and kit tell."""
    config = order.config
    inputs: dict[str, Any] = {
        "platform": platform,
        "project": config.project.model_dump(),
        "settings of the kit": (config.android if platform == "android" else config.ios).model_dump(),
        "kit": list(order.shipped[platform] or ()),
        "limits": [limit.model_dump() for limit in config.limit],
        "default model": config.is_default_model,
        "int8 is shipped": order.has_int8,
        "model": config.model.model_dump(),
        "input contract": asdict(steps.contract_of(config)),
        "labels": list(site.labels),
        "images": site.data.digest("held-out-images.npy"),
        "image labels": site.data.digest("held-out-labels.npy"),
        "calibration": site.data.digest("digests.json"),
        "weights": site.weights.digest(),
        "quantization": [site.program.digest(n) for n in ("program.json", "warnings.json", "ladder.json")],
    }
    for key, entry in site.references.items():
        inputs[f"reference {key}"] = entry.digest()
    packages = {"twinkeel"}
    for target, precision in order.plans[platform]:
        item = made[target.NAME, precision]
        packages |= set(target.PACKAGES)
        inputs[f"{target.NAME} {precision}"] = [
            item.lowered.digest() if item.lowered else "",
            item.measured.digest() if item.measured else "",
            item.error,
        ]
    return Job(
        kind="folder",
        name=f"folder {platform}",
        inputs=inputs,
        code=("twinkeel.pipeline.folder", _module_of(order.kits[platform])),
        glue=_GLUE,
        packages=tuple(sorted(packages)),
    )


def report_job(
    order: Order,
    site: Site,
    finished: Mapping[str, Entry],
    latency: Mapping[str, float],
    made: Mapping[tuple[str, str], Made],
) -> Job:
    inputs: dict[str, Any] = {f"folder {platform}": entry.digest() for platform, entry in finished.items()}
    inputs |= {
        f"layers of {name} {precision}": item.measured.digest()
        for (name, precision), item in made.items()
        if item.measured is not None and precision == "int8"
    }
    inputs["latency"] = dict(latency)
    inputs["images"] = site.data.digest("held-out-images.npy")
    inputs["training"] = site.weights.digest()
    inputs["rungs"] = site.program.digest("rungs.json")
    for path in sorted(order.out.glob("sensitivity.csv")):
        inputs["sensitivity"] = hashlib.sha256(path.read_bytes()).hexdigest()
    code = ("twinkeel.pipeline.drift", order.render.__module__)
    return Job(kind="report", name="report", inputs=inputs, code=code, glue=_GLUE, packages=("jinja2", "numpy"))


def latency_job(order: Order, site: Site, made: Mapping[tuple[str, str], Made]) -> Job:
    return steps.latency_job(site, _running(order, made))


def _running(order: Order, made: Mapping[tuple[str, str], Made]) -> dict[tuple[str, str], tuple[Target, Entry]]:
    """The artifacts that run."""
    return {
        name: (order.targets[name[0]], item.lowered)
        for name, item in made.items()
        if item.lowered is not None and item.measured is not None
    }


_GLUE = ("twinkeel.pipeline.runner", "twinkeel.pipeline.steps")


def training_state(key: str) -> Path:
    """Where a training keeps what it goes on from, by the key of its job; on this machine, for it is written often."""
    import platformdirs

    return Path(platformdirs.user_cache_path("twinkeel")) / "training" / key


def _module_of(module: Any) -> str:
    """The name of a module that stands for a target or a kit."""
    name: str = module.__name__
    return name


def _rungs(shop: Workshop, program: Entry) -> tuple[Rung, ...]:
    return tuple(Rung(**rung) for rung in shop.json(program, "rungs.json"))


def _curve(shop: Workshop, weights: Entry) -> tuple[Epoch, ...]:
    return tuple(Epoch(**epoch) for epoch in shop.json(weights, "origin.json")["curve"])


def _answers(stored: Any) -> Answers:
    """Of classes and probabilities in one array of float64."""
    return Answers(classes=stored[0].astype(np.int64), probabilities=stored[1])


def _reference_cost(key: str) -> tuple[bool, str]:
    """Quantized references take longest and are dealt out first."""
    return not is_quantized(key), key


def _tasks(groups: Mapping[str, Mapping[str, list[tuple[str, str]]]], number: int) -> list[list[list[tuple[str, str]]]]:
    """Artifacts for each process: all of a converter, for its import takes seconds, but no process stays idle for it.

    Args:
        groups: by the module that builds, by precision, the artifacts that are the same file.
    """
    tasks = [list(group.values()) for group in groups.values()]
    while len(tasks) < number and any(len(task) > 1 for task in tasks):
        largest = max(tasks, key=len)
        tasks.remove(largest)
        tasks += [largest[::2], largest[1::2]]
    return sorted(tasks, key=_weight, reverse=True)


def _weight(task: list[list[tuple[str, str]]]) -> int:
    """int8 takes about three times as long as the others."""
    return sum(3 if names[0][1] == "int8" else 1 for names in task)


def _told(name: tuple[str, str], made: Made) -> str:
    if made.error:
        return f"FAILED {' '.join(name)}: {made.error}"
    return f"made: {' '.join(name)}"


def _renamed(job: str, name: tuple[str, str]) -> str:
    """The name of a shared job as it is for one of the artifacts that share it."""
    return f"{job.split()[0]} {' '.join(name)}"


def _is_there(shop: Workshop, entry: Entry, final: Path) -> bool:
    """Whether a folder is what its job gave, but for what devices have added since."""
    if not (final / manifest.MANIFEST).is_file():
        return False
    try:
        manifest.verify(final)
    except TwinkeelError:
        return False
    wanted = {name.removeprefix("folder/"): sha for name, sha in entry.files.items() if name.startswith("folder/")}
    found = manifest.read_manifest(final)
    has_devices = any("device" in item for item in found["artifacts"])
    own = {manifest.MANIFEST} | ({manifest.PARITY} if has_devices else set())
    files = {name: sha for name, sha in wanted.items() if name not in own}
    if {name: sha for name, sha in found["files"].items() if name not in own} != files:
        return False
    return has_devices or digest(final / manifest.MANIFEST) == wanted[manifest.MANIFEST]
