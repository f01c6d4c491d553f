"""Jobs side by side: one process each, as many at a time as cores and memory allow.

torch and what exports with it take two to three seconds of a core to import, and a build has a dozen processes. On Linux they are
forked from one that has imported these, and does nothing else; elsewhere, where a fork is not safe, each imports them itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import forkserver, spawn
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .. import streams
from ..errors import TwinkeelError, WorkerError

MEMORY = 1_500_000_000
"""Bytes that a worker takes at most, its converter included; measured at width 1.0 and 224 pixels."""

_UNSPOKEN = "ignore:resource_tracker:UserWarning"

P = ParamSpec("P")
T = TypeVar("T")


def count() -> int:
    """How many workers this machine carries: at most one a core, and one for each `MEMORY` that is free."""
    return max(1, min(cores(), _free_memory() // MEMORY))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_memory() -> int:
    import psutil

    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # a container's own bound, where there is one
        group = Path("/sys/fs/cgroup")
        bound = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        free = min(free, bound)
    return free


class Workers(Executor):
    """Runs each call in a process of its own, which imports what this call needs and ends with it.

    A process that dies, of a crash in native code or for want of memory, fails its own call and no other.

    Args:
        number: of processes at a time.
        imported: a module that every call needs: imported once, where processes can be forked from one that has it.
    """

    def __init__(self, number: int, imported: str = "") -> None:
        streams.fill()  # a pipe to a worker must not get the number of a stream
        # for multiprocessing's own process, which speaks of semaphores that a worker left when it crashed
        if _UNSPOKEN not in sys.warnoptions:
            sys.warnoptions.append(_UNSPOKEN)
        self.number = number
        self._is_forked = bool(imported) and sys.platform == "linux" and _is_served(imported)
        self._threads = ThreadPoolExecutor(number)
        self._running: set[BaseProcess] = set()
        self._is_stopped = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._threads.submit(self._run, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """With `cancel_futures`, what runs is stopped too."""
        if cancel_futures:
            self._is_stopped = True
            for process in list(self._running):
                process.kill()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _run(self, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        if self._is_stopped:
            raise WorkerError("the build was stopped")
        with tempfile.NamedTemporaryFile(prefix="twinkeel-worker-", suffix=".log") as log:
            process, ours = _begun(log.name, is_forked=self._is_forked)
            self._running.add(process)
            try:
                return _asked(process, ours, log.name, function, args, kwargs)
            finally:
                ours.close()
                process.join()
                self._running.discard(process)


class Staff(Workers):
    """The same with processes that last: what one has imported is there for its next call. Where one dies, another takes its place."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._own = threading.local()
        self._logs = tempfile.TemporaryDirectory(prefix="twinkeel-workers-", ignore_cleanup_errors=True)
        self._connections: list[Connection] = []

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        for connection in self._connections:
            connection.close()  # who waits there for more ends
        for process in list(self._running):
            process.join()
        self._logs.cleanup()

    def _run(self, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        if self._is_stopped:
            raise WorkerError("the build was stopped")
        if getattr(self._own, "process", None) is None:
            descriptor, self._own.log = tempfile.mkstemp(suffix=".log", dir=self._logs.name)
            os.close(descriptor)
            self._own.process, self._own.connection = _begun(self._own.log)
            self._running.add(self._own.process)
            self._connections.append(self._own.connection)
        process: BaseProcess = self._own.process
        try:
            return _asked(process, self._own.connection, self._own.log, function, args, kwargs)
        finally:
            if not process.is_alive():
                self._running.discard(process)
                self._own.process = None


def _is_served(imported: str) -> bool:
    """Have a process that others are forked from: it imports the module while there is other work to do. False where there is no place for
    its socket, whose path has 107 bytes at most."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([imported])
    try:
        forkserver.ensure_running()
    except OSError:
        return False
    return True


def _begun(log: str, *, is_forked: bool = False) -> tuple[BaseProcess, Connection]:
    """A new process, and where it is asked and answers."""
    context: Any = multiprocessing.get_context("forkserver" if is_forked else "spawn")
    ours, theirs = context.Pipe()
    # what a fork has of the environment is as old as the process that it comes from
    environment = dict(os.environ) if is_forked else None
    process = context.Process(target=_work, args=(theirs, log, environment), daemon=True)
    _start(process)
    theirs.close()
    return process, ours


def _asked(
    process: BaseProcess, connection: Connection, log: str, function: Callable[..., T], args: Any, kwargs: Any
) -> T:
    """What a process answers; a WorkerError where it dies of it."""
    try:
        connection.send((function, args, kwargs))
        is_good, value = connection.recv()
    except (EOFError, ConnectionError):
        process.join()
        said = Path(log).read_text(errors="replace").strip()[-300:]
        raise WorkerError(_death(process.exitcode) + (f"; its last words: {said}" if said else "")) from None
    if is_good:
        result: T = value
        return result
    raise value


_STARTING = threading.Lock()


def _start(process: BaseProcess) -> None:
    """Start a worker that does not run the user's script again.

    multiprocessing has a new process import the file that was started, for functions that are defined there. A script
    without ``if __name__ == "__main__"`` would build once more in each worker, and wait for itself.
    """
    prepare = spawn.get_preparation_data

    def without_script(name: str) -> dict[str, Any]:
        return {key: value for key, value in prepare(name).items() if not key.startswith("init_main_from_")}

    with _STARTING:
        spawn.get_preparation_data = without_script
        try:
            process.start()
        finally:
            spawn.get_preparation_data = prepare


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and no result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    cause = "out of memory, most likely" if name == "SIGKILL" else "a crash in a converter's or runtime's native code"
    return f"its process was ended by {name}: {cause}"


def _work(connection: Connection, log: str, environment: dict[str, str] | None) -> None:
    """In the new process: calls one after the other, their results or errors; what native code prints goes into the log."""
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quieten()
    while True:
        try:
            function, args, kwargs = connection.recv()
        except (EOFError, ConnectionError):  # there is no more to do
            return
        except Exception as error:  # a function or an argument that does not travel
            connection.send((False, TwinkeelError(f"{type(error).__name__}: {error}")))
            continue
        os.ftruncate(descriptor, 0)
        _answer(connection, function, args, kwargs)


def _answer(connection: Connection, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        outcome: tuple[bool, Any] = True, function(*args, **kwargs)
    except Exception as error:
        outcome = False, error
    try:
        connection.send(outcome)
    except Exception as error:  # an exception or a value that does not travel
        connection.send((False, TwinkeelError(f"{type(outcome[1]).__name__}: {outcome[1]} ({error})")))


def _end_with_parent() -> None:
    """A worker whose parent was killed has nobody to work for."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def quieten() -> None:
    """Before torch is imported: its threads sleep while they wait, and what converters print that means nothing to a
    user (bars, missing GPU kernels, C++ log set-up) is left out."""
    import logging

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # threads that wait in a loop make a build five times slower where another process wants the cores too
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


@contextlib.contextmanager
def one_thread() -> Any:
    """torch on one thread: its sums, and so the last bits of a result, depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory() -> int:
    """Largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def give_back_memory() -> None:
    """What this process has freed goes back to the system, where the C library can do that: glibc keeps most of what many
    tensors took, over a gigabyte, while the workers of the next step want it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Here(Executor):
    """Runs each call at once, in this process: for tests, and to look at a job with a debugger."""

    number = 1

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
