"""What travels to a worker: which jobs of which step, and what is known so far. Models and images lie in the store."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..building import Create, Failure, Order, Site, Step, Work
from ..config import Config
from ..errors import ConversionError, WorkerError
from ..program import Target
from ..store import Entry, Here, Job, Store, Workshop, code_digest, one_thread, peak_memory, workers
from ..verified import REQUIRED

_STEPS = "twinkeel.pipeline.building.jobs"
_ALONE = threading.Lock()
"""One task at a time in a process, however many threads call: the seed of torch and the number of its threads are a process's."""
_ALL = ("twinkeel.pipeline.building.walk", "twinkeel.pipeline.sweeping.tasks")


class Unfit(WorkerError):
    """A worker has other versions than whoever asks, and would make something else.

    Args:
        address: of the worker, by which a scheduler knows it; empty of a process here.
    """

    def __init__(self, told: str, address: str = "") -> None:
        super().__init__(told, address)
        self.told, self.address = told, address

    def __str__(self) -> str:
        return self.told


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An order as it travels: modules by their names.

    Attributes:
        targets: module of each target by its name.
        plans: by platform, target and precision of each artifact.
    """

    config: Config
    create: Create
    targets: Mapping[str, str]
    plans: Mapping[str, Sequence[tuple[str, str]]]

    @classmethod
    def of(cls, order: Order) -> Asked:
        return cls(
            config=order.config,
            create=order.create,
            targets={target.NAME: target.__name__ for target, _ in order.wanted},
            plans={
                platform: [(t.NAME, precision) for t, precision in pairs] for platform, pairs in order.plans.items()
            },
        )

    def order(self, out: Path) -> Order:
        known = {name: cast("Target", importlib.import_module(module)) for name, module in self.targets.items()}
        plans = {platform: [(known[name], p) for name, p in pairs] for platform, pairs in self.plans.items()}
        return Order(
            config=self.config,
            targets=known,
            kits={},
            create=self.create,
            plans=plans,
            shipped=dict.fromkeys(plans),
            render=None,
            out=out,
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """Some jobs of one step of one trial.

    Attributes:
        step: name of the step's module.
        keys: of the jobs by their names, as whoever asks for them computed them.
        patience: seconds for which a store that does not answer is asked again.
        versions: of whoever asks; a worker that has others does nothing.
    """

    step: str
    keys: Mapping[str, str]
    asked: Asked
    site: Site
    store: str
    patience: float
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a worker made of a task.

    Attributes:
        found: results by the names of the jobs.
        seconds: that it took.
        peak: bytes of memory that its process took at most so far.
    """

    found: Mapping[str, Entry | Failure]
    seconds: float
    peak: int


def perform(task: Task) -> Done:
    """In a worker: make the jobs of a task, or find that somebody has.

    Raises:
        Unfit: this worker has other versions than whoever asks.
    """
    with _ALONE:
        return _performed(task)


def _performed(task: Task) -> Done:
    began = time.monotonic()
    workers.quieten()
    if wrong := other_versions(versions(), task.versions):
        raise Unfit(
            f"the worker {platform.node()} has other versions than the machine that asks: {', '.join(wrong[:5])}; install the same there",
            _address(),
        )
    step = cast("Step", importlib.import_module(f"{_STEPS}.{task.step}"))
    with tempfile.TemporaryDirectory(prefix="twinkeel-") as name:
        scratch = Path(name)
        store = Store(task.store, task.patience)
        shop = Workshop(store=store, scratch=Store(str(scratch)), is_shared=True)
        order, site = task.asked.order(scratch), task.site.seen_from(shop)
        work = Work(order=order, shop=shop, folder=scratch, say=lambda *_: None, executor=Here())
        jobs = step.jobs(order, shop, site)
        missing = {name: job for name in task.keys if isinstance(job := jobs.get(name), Job)}
        _check_keys(task, missing)
        if task.step == "data":  # its bytes do not hang on threads, and torch takes seconds to be imported
            found = step.make(work, site, missing)
        else:
            with one_thread():
                found = step.make(work, site, missing)
    return Done(found=dict(found), seconds=time.monotonic() - began, peak=peak_memory())


def _address() -> str:
    """Of the Dask worker that this is; empty elsewhere."""
    if (distributed := sys.modules.get("distributed")) is None:
        return ""
    try:
        return str(distributed.get_worker().address)
    except ValueError:  # none is at work here
        return ""


def _check_keys(task: Task, jobs: Mapping[str, Job]) -> None:
    """Raise a ConversionError where a job is another one here: files of the user's that differ, for example."""
    for name, key in task.keys.items():
        if name not in jobs or jobs[name].key != key:
            raise ConversionError(
                f"'{name}' is another job on {platform.node()} than where it was asked for: files that the configuration names are not "
                "the same there. Give them in a folder that both see, by the same path."
            )


@functools.cache
def versions() -> Mapping[str, str]:
    """What must be the same wherever jobs of one sweep are made."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in (*REQUIRED, *_OTHERS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    found["code of twinkeel"] = code_digest(_ALL)
    return found


_OTHERS = ("coreai-core", "coreai-torch", "timm", "torchvision", "h5py", "pillow-heif")
"""Of extras that change what a job gives, or whether it can be made."""


def other_versions(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """What a worker has otherwise than this machine, in words."""
    return [
        f"{name} {found.get(name, 'none')[:20]} (here {version[:20]})"
        for name, version in wanted.items()
        if found.get(name) != version
    ]


def described() -> dict[str, Any]:
    """Of a worker, for who asks before there is work."""
    return {"versions": dict(versions()), "node": platform.node(), "process": os.getpid()}
