"""Who makes the jobs of a sweep: processes of this machine, or a Dask cluster through Dask's own executor."""

from __future__ import annotations

import contextlib
import platform
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from ..config import Config
from ..errors import ConfigError, WorkerError
from ..saying import Say
from ..store import Staff, count
from .tasks import Done, Task, Unfit, described, other_versions, perform, versions

HERE = ("data", "rounds", "latency")
"""Steps that are made on the machine of the command: the user's images lie there, and its milliseconds can be compared."""
JOBS = ("weights", "original", "quantize", "compress", "reference", "lower", "rows")
"""What is made elsewhere, by the first words of the jobs' names."""
EXTRA = "cluster"
_ADDRESS = re.compile(r"([a-z]+://)?([^\s/:]+|\[[0-9a-fA-F:.]+\]):\d+")
"""As Dask takes it; without a port it waits, and ends with an error of its own."""
_TIMEOUT = 30
"""Seconds for a scheduler to answer."""
_GONE = "the scheduler is gone. What was made is kept: run the same command again when it answers"
_LOOKS = 10
"""Seconds after which workers are counted again: some come later, some go."""


@dataclass(kw_only=True)
class Crew:
    """Takes tasks.

    Attributes:
        number: how many tasks are at work at a time.
        here: processes of this machine.
        cluster: by the resources that a task needs, who takes it elsewhere; empty where all is made here.
        needs: resource by a word of a job's name, one of `JOBS` or a target, or ``all``.
        unfit: addresses of workers that get no jobs.
    """

    number: int
    here: Executor
    cluster: Any = None
    needs: Mapping[str, str] = field(default_factory=dict)
    unfit: set[str] = field(default_factory=set)
    _workers: Mapping[str, Any] = field(default_factory=dict)
    _looked: float = 0.0
    _executors: dict[tuple[tuple[str, ...], tuple[str, ...]], Executor] = field(default_factory=dict)

    def submit(self, task: Task) -> Future[Done]:
        """Have the jobs of a task made.

        Raises:
            WorkerError: the scheduler is gone, or has no worker that may make them.
        """
        if self.cluster is None or is_here(task.step, task.asked.config):
            return self.here.submit(perform, task)
        try:
            if not self.is_back():  # what is sent while it is looked for may wait for ever
                raise WorkerError(_GONE)
            self._look()
            return self._executor(tuple(sorted(needed(task, self.needs)))).submit(perform, task)
        except WorkerError:
            raise
        except Exception as error:  # of distributed: its own, and those of its connections
            raise WorkerError(f"{_GONE} ({type(error).__name__}: {str(error)[:300]})") from error

    def is_back(self) -> bool:
        """Whether the scheduler is there, or is again within a while; Dask's client looks for one whose connection is lost."""
        if self.cluster is None:
            return False
        end = time.monotonic() + 2 * _TIMEOUT
        while self.cluster.status == "connecting" and time.monotonic() < end:
            time.sleep(0.1)
        return bool(self.cluster.status == "running")

    def leaves_out(self, error: Unfit) -> bool:
        """Give no more jobs to the worker that refused one; False where no other is left."""
        if self.cluster is None or not error.address:
            return False
        self.unfit.add(error.address)
        self._look(is_new=True)
        return bool(self._workers.keys() - self.unfit)

    def trouble(self, tasks: Collection[Task]) -> str:
        """Why nothing may come of these, in words; empty where there is nothing to see.

        Raises:
            WorkerError: nothing can.
        """
        far = [task for task in tasks if self.cluster is not None and not is_here(task.step, task.asked.config)]
        if not far:
            return ""
        if not self.is_back():
            raise WorkerError(_GONE)
        try:
            self._look(is_new=True)
        except Exception as error:  # of distributed: its own, and those of its connections
            return f"the scheduler does not answer: {type(error).__name__}"
        if not self._workers.keys() - self.unfit:
            return "the scheduler has no workers at present; jobs wait for some to come"
        wanted = {name for task in far for name in needed(task, self.needs)}
        absent = sorted(wanted - _offered(self._workers, self.unfit))
        return f"no worker offers {' or '.join(absent)} at present; jobs wait for one that does" if absent else ""

    def _look(self, *, is_new: bool = False) -> None:
        """Count the workers: as many tasks are at work as they have threads."""
        if is_new or time.monotonic() - self._looked > _LOOKS:
            self._workers = self.cluster.scheduler_info(n_workers=-1)["workers"]
            self._looked = time.monotonic()
            self.number = max(1, sum(int(w["nthreads"]) for name, w in self._workers.items() if name not in self.unfit))

    def _executor(self, wanted: tuple[str, ...]) -> Executor:
        """Of workers that offer these resources; by name where some are left out, for Dask takes any that it knows otherwise."""
        fit = tuple(sorted(self._workers.keys() - self.unfit)) if self.unfit & self._workers.keys() else ()
        if (wanted, fit) not in self._executors:
            # the same task twice is made twice, and gives the same: nothing is remembered by the scheduler
            self._executors[wanted, fit] = self.cluster.get_executor(
                pure=False, resources=dict.fromkeys(wanted, 1) or None, workers=list(fit) or None
            )
        return self._executors[wanted, fit]


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
def of_cluster(address: str, needs: Mapping[str, str], devices: Sequence[str], say: Say) -> Iterator[Crew]:
    """The workers behind a Dask scheduler, and a process here for what is made here. Those on another kind of machine are told and left out.

    Args:
        devices: of training, as configurations name them.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
        WorkerError: there are no workers, they have other versions, or none offers a resource that is needed.
    """
    try:
        from distributed import Client
        from distributed.comm.registry import backends
    except ImportError as error:
        raise ConfigError(
            f"--scheduler takes packages that are not installed. Install them: pip install 'twinkeel[{EXTRA}]'"
        ) from error
    found = _ADDRESS.fullmatch(address)
    if found is None or (found[1] and found[1].removesuffix("://") not in backends):
        raise ConfigError(
            f"--scheduler '{address}' is no address of a Dask scheduler: `dask scheduler` prints it when it starts, as tcp://HOST:8786"
        )
    try:
        client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at '{address}' within {_TIMEOUT} s: {type(error).__name__}: {str(error)[:300]}. `dask scheduler` "
            "prints its address when it starts: tcp://HOST:8786"
        ) from error
    staff = Staff(1)
    try:
        crew = Crew(number=1, here=staff, cluster=client, needs=needs, unfit=_checked(client, needs, devices, say))
        crew._look(is_new=True)
        yield crew
    finally:
        staff.shutdown(cancel_futures=True)
        client.close()


def _offered(workers: Mapping[str, Any], unfit: Collection[str]) -> set[str]:
    """Resources of the workers that may work."""
    return {name for address, info in workers.items() if address not in unfit for name in info["resources"]}


def _checked(client: Any, needs: Mapping[str, str], devices: Sequence[str], say: Say) -> set[str]:
    """Addresses of the workers that are to be left out: on another kind of machine, whose results are other jobs, or lost.

    Versions and resources are those of the workers that are there; each looks once more before it makes anything.
    """
    try:
        found = client.run(described, on_error="return")
    except Exception as error:  # of distributed and of all that it runs
        raise WorkerError(f"the workers cannot be asked: {type(error).__name__}: {str(error)[:300]}") from error
    if not found:
        raise WorkerError(
            "the scheduler has no workers. Start some where twinkeel is installed: dask worker ADDRESS --nthreads 1"
        )
    unfit: dict[str, str] = {}
    for address, told in found.items():
        if isinstance(told, OSError):  # it went between the question and the answer
            unfit[address] = f"does not answer ({type(told).__name__})"
            continue
        if isinstance(told, BaseException):
            raise WorkerError(
                f"the worker {address} cannot run twinkeel: {type(told).__name__}: {str(told)[:300]}. Install the version of {platform.node()} "
                "there, in the Python that runs the worker."
            )
        if told["versions"]["machine"] != versions()["machine"]:
            unfit[address] = f"runs {told['versions']['machine']}, where other jobs would be made"
            continue
        if wrong := other_versions(told["versions"], versions()):
            raise WorkerError(
                f"the worker {address} on {told['node']} has other versions than this machine: {', '.join(wrong[:5])}"
                f"{' and more' if len(wrong) > 5 else ''}. What it made would be another thing: install the same there, or start no worker there."
            )
    for address, why in unfit.items():
        say(f"worker {address} is left out: it {why}")
    if len(unfit) == len(found):
        address, why = next(iter(unfit.items()))
        raise WorkerError(
            f"none of {len(found)} workers can be used: {address} {why}. Start some on {versions()['machine']}, which this machine is."
        )
    offered = _offered(client.scheduler_info(n_workers=-1)["workers"], unfit)
    wanted = {*needs.values(), *(name for device, name in (("cuda", "GPU"), ("mps", "MAC")) if device in devices)}
    if absent := sorted(wanted - offered):
        raise WorkerError(
            f"no worker offers {' or '.join(absent)}, which jobs need. Start one that has it: dask worker ADDRESS --nthreads 1 --resources "
            f'"{absent[0]}=1"'
        )
    return set(unfit)
