"""Who makes the jobs of a sweep: processes of this machine, or a Dask cluster through Dask's own executor."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from ..config import Config
from ..errors import ConfigError, WorkerError
from ..store import Staff, count
from .tasks import Done, Task, described, perform, versions

HERE = ("data", "latency")
"""Steps that are made on the machine of the command: the user's images lie there, and its milliseconds can be compared."""
JOBS = ("weights", "original", "quantize", "compress", "reference", "lower", "rows")
"""What is made elsewhere, by the first words of the jobs' names."""
EXTRA = "cluster"
_TIMEOUT = 30
"""Seconds for a scheduler to answer."""


@dataclass(kw_only=True)
class Crew:
    """Takes tasks.

    Attributes:
        number: how many tasks are at work at a time.
        here: processes of this machine.
        cluster: by the resources that a task needs, who takes it elsewhere; empty where all is made here.
        needs: resource by a word of a job's name, one of `JOBS` or a target, or ``all``.
    """

    number: int
    here: Executor
    cluster: Any = None
    needs: Mapping[str, str] = field(default_factory=dict)
    _executors: dict[tuple[str, ...], Executor] = field(default_factory=dict)

    def submit(self, task: Task) -> Future[Done]:
        if self.cluster is None or is_here(task.step, task.asked.config):
            return self.here.submit(perform, task)
        wanted = tuple(sorted(needed(task, self.needs)))
        if wanted not in self._executors:
            # the same task twice is made twice, and gives the same: nothing is remembered by the scheduler
            self._executors[wanted] = self.cluster.get_executor(pure=False, resources=dict.fromkeys(wanted, 1) or None)
        return self._executors[wanted].submit(perform, task)

    @property
    def is_remote(self) -> bool:
        return self.cluster is not None


def is_here(step: str, config: Config) -> bool:
    """Whether a step is made on the machine of the command; weights are, where they are loaded from a file of the user's."""
    return step in HERE or (step == "weights" and not config.trains)


def needed(task: Task, needs: Mapping[str, str]) -> set[str]:
    """The resources that a worker must offer for a task, by Dask's names: ``GPU`` and ``MAC`` for where training is asked to be,
    and what the user says."""
    words = {"all", *(word for name in task.keys for word in name.split())}
    found = {needs[word] for word in words & needs.keys()}
    device = task.asked.config.train.device
    if task.step == "weights" and device in ("cuda", "mps"):
        found.add("GPU" if device == "cuda" else "MAC")
    return found


def parsed(needs: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """``weights=GPU`` and the like; of one of `JOBS`, a target or ``all``."""
    found, known = {}, (*JOBS, *targets)
    for text in needs:
        name, equals, resource = text.partition("=")
        if not equals or not resource.strip() or name.strip() not in (*known, "all"):
            raise ConfigError(
                f"--needs '{text}' is not JOB=RESOURCE, with one of all, {', '.join(known)}: --needs weights=GPU, for example"
            )
        found[name.strip()] = resource.strip()
    return found


@contextlib.contextmanager
def local(jobs: int | None) -> Iterator[Crew]:
    """Processes of this machine that last."""
    staff = Staff(jobs or count())
    try:
        yield Crew(number=staff.number, here=staff)
    finally:
        staff.shutdown(cancel_futures=True)


@contextlib.contextmanager
def of_cluster(address: str, needs: Mapping[str, str], devices: Sequence[str]) -> Iterator[Crew]:
    """The workers behind a Dask scheduler, and a process here for what is made here.

    Args:
        devices: of training, as configurations name them.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
        WorkerError: there are no workers, they have other versions, or none offers a resource that is needed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            f"--scheduler takes packages that are not installed. Install them: pip install 'twinkeel[{EXTRA}]'"
        ) from error
    try:
        client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at '{address}' within {_TIMEOUT} s: {type(error).__name__}: {str(error)[:300]}. `dask scheduler` "
            "prints its address when it starts: tcp://HOST:8786"
        ) from error
    staff = Staff(1)
    try:
        _check(client, needs, devices)
        yield Crew(number=_threads(client), here=staff, cluster=client, needs=needs)
    finally:
        staff.shutdown(cancel_futures=True)
        client.close()


def _threads(client: Any) -> int:
    return max(1, sum(map(int, client.nthreads().values())))


def _check(client: Any, needs: Mapping[str, str], devices: Sequence[str]) -> None:
    """Versions and resources of the workers that are there; each looks once more before it makes anything."""
    try:
        found = client.run(described, on_error="return")
    except Exception as error:  # of distributed and of all that it runs
        raise WorkerError(f"the workers cannot be asked: {type(error).__name__}: {str(error)[:300]}") from error
    if not found:
        raise WorkerError(
            "the scheduler has no workers. Start some where twinkeel is installed: dask worker ADDRESS --nthreads 1"
        )
    for address, told in found.items():
        if isinstance(told, BaseException):
            raise WorkerError(
                f"the worker {address} cannot run twinkeel: {type(told).__name__}: {str(told)[:300]}. Install the version of {platform.node()} "
                "there, in the Python that runs the worker."
            )
        if wrong := [
            f"{name} {told['versions'].get(name, 'none')[:20]} (here {wanted[:20]})"
            for name, wanted in versions().items()
            if told["versions"].get(name) != wanted
        ]:
            raise WorkerError(
                f"the worker {address} on {told['node']} has other versions than this machine: {', '.join(wrong[:5])}"
                f"{' and more' if len(wrong) > 5 else ''}. What it made would be another thing: install the same there, or start no worker there."
            )
    offered = {name for info in client.scheduler_info(n_workers=-1)["workers"].values() for name in info["resources"]}
    wanted = {*needs.values(), *(name for device, name in (("cuda", "GPU"), ("mps", "MAC")) if device in devices)}
    if absent := sorted(wanted - offered):
        raise WorkerError(
            f"no worker offers {' or '.join(absent)}, which jobs need. Start one that has it: dask worker ADDRESS --nthreads 1 --resources "
            f'"{absent[0]}=1"'
        )
