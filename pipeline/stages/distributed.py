"""Several processes that train one network together, as `torchrun` starts them, on one machine or on several.

Each goes through its own images of every batch. Gradients, the statistics of BatchNorm and the counts that losses are divided by are those
of the whole batch: what comes out is what one process gives, but for the order of sums. Process 0 leads: it reads, decides, writes and speaks.

Numbers go through torch.distributed: gloo between CPUs, NCCL between GPUs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigError, DeviceError, TwinkeelError, WorkerError

if TYPE_CHECKING:
    import torch

_STEP = timedelta(minutes=30)
"""For which a process waits for the others within a step; one that died is known at once."""
_LEADER = timedelta(days=7)
"""For which the others wait while process 0 reads the data."""
_BUCKET = 2**23
"""Numbers that are summed in one message."""
_FIND = timedelta(minutes=10)
"""For which they wait for each other in the beginning."""
_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes, seen from one of them; with the defaults it is alone.

    Attributes:
        rank: its number, from 0 on.
        size: how many there are.
        control: the group for what is no tensor of the training.
    """

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def own(self, count: int) -> slice:
        """Which of so many images are this process's; all of them where there are fewer than processes."""
        if count < self.size:
            return slice(0, count)
        whole, more = divmod(count, self.size)
        start = self.rank * whole + min(self.rank, more)
        return slice(start, start + whole + (self.rank < more))

    def divides(self, count: int) -> bool:
        """Whether so many images are divided; if not, each process computes the same."""
        return 1 < self.size <= count

    def add_up(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, of the same shape and type; no gradient passes through."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        found = value.detach().clone()
        dist.all_reduce(found)
        return found

    def all_of(self, value: torch.Tensor) -> torch.Tensor:
        """The values of all processes, ``(size, ...)``."""
        if self.size == 1:
            return value[None]
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(found, value.detach().contiguous())
        return torch.stack(found)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Those of all processes in each of them; of a parameter that none of them has one of, none."""
        if self.size == 1:
            return
        import torch

        trained = [p for p in parameters if p.requires_grad]
        has = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
        known = self.add_up(has).tolist()
        trained = [p for p, count in zip(trained, known, strict=True) if count]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(trained):
            gradients = [p.grad for p in bucket if p.grad is not None]
            flat = self.add_up(torch.cat([one.flatten() for one in gradients]))
            for one, summed in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
                one.copy_(summed.view_as(one))

    def share(self, value: _Value) -> _Value:
        """The value of process 0."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, 0, group=self.control)
        return box[0]

    def gathered(self, value: _Value) -> list[_Value]:
        """The values of all processes, by their numbers."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def collected(self, value: _Value) -> list[_Value]:
        """The same in process 0; nothing in the others."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.size if self.is_leader else None
        dist.gather_object(value, found, 0, group=self.control)
        return found or []

    def agree(self, error: TwinkeelError | None = None) -> None:
        """Raise where one of the processes has an error: process 0 the first of them, which says whose it is; the others end with its exit
        code, and say nothing."""
        if self.size == 1:
            if error is not None:
                raise error
            return
        told = None if error is None else (type(error), str(error), socket.gethostname())
        found = [(rank, one) for rank, one in enumerate(self.gathered(told)) if one is not None]
        if not found:
            return
        rank, (kind, text, host) = found[0]
        if not self.is_leader:
            raise SystemExit(kind.exit_code)
        raise error if error is not None else kind(f"process {rank} of {self.size} (on '{host}'): {text}")

    @contextlib.contextmanager
    def alike(self) -> Iterator[None]:
        """What is done in here ends for all processes where it fails in one; see `agree`. They must not need each other in it."""
        caught = None
        try:
            yield
        except TwinkeelError as error:
            caught = error
        self.agree(caught)

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Raise a ConfigError in process 0, and end the others, where they were not given the same settings."""
        first, *rest = self.gathered(dict(settings))
        for rank, other in enumerate(rest, 1):
            for name in sorted(first.keys() | other.keys()):
                if first.get(name) != other.get(name):
                    self.agree(
                        ConfigError(
                            f"{name} is {first.get(name)!r} for process 0 and {other.get(name)!r} for process {rank}: the processes of one "
                            "training were given different configurations. Give the same twinkeel.toml on every machine."
                        )
                    )


ALONE = World()


class Followers:
    """The other processes, as process 0 sees them: they wait until they are told what there is to do, or that there is nothing."""

    def __init__(self, world: World = ALONE) -> None:
        self.world = world
        self._are_told = world.size == 1

    def begin(self, message: Any) -> None:
        """Tell them what to do; raises what one of them has against it, see `World.agree`."""
        if not self._are_told:
            self._are_told = True
            self.world.share(message)
            self.world.agree()

    def __enter__(self) -> Followers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """They end as this process does, where there was nothing for them to do."""
        if self._are_told:
            return
        self._are_told = True
        code = 0 if error is None else error.exit_code if isinstance(error, TwinkeelError) else 1
        with contextlib.nullcontext() if error is None else contextlib.suppress(RuntimeError):
            self.world.share(code)


def _buckets(parameters: list[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """In their order, of one type each, not much above `_BUCKET` numbers."""
    bucket: list[torch.nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size >= _BUCKET or parameter.dtype != bucket[0].dtype or parameter.device != bucket[0].device):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def is_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one of several."""
    return environment.get("WORLD_SIZE", "1").strip() not in ("", "1")


@contextlib.contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """With the others, as the environment says; errors are said by one process of each machine until they have found each other.

    Raises:
        ConfigError: the environment is not what `torchrun` sets.
        DeviceError: this torch cannot do it.
        WorkerError: the others are not found, or one was lost.
    """
    try:
        world = _found(environment)
    except TwinkeelError as error:
        if environment.get("LOCAL_RANK", "0") != "0":
            raise SystemExit(error.exit_code) from error
        raise
    try:
        yield world
    except RuntimeError as error:
        if not _is_of_others(error):
            raise
        if not world.is_leader:
            raise SystemExit(WorkerError.exit_code) from error
        raise WorkerError(
            f"one of the {world.size} processes of this training was lost. Finished epochs are kept: the same command goes on behind them, with "
            "any number of processes; `torchrun --max-restarts 3` does so by itself."
        ) from error
    finally:
        _leave()


def _leave() -> None:
    """End the groups, whatever this process ends with.

    torch does not do so as the interpreter ends, and the threads of gloo are then destroyed while they run: "terminate called without an active
    exception", SIGABRT in the place of the exit code in a quarter of all ends. It takes nothing of this project: `init_process_group("gloo")`,
    an `all_gather_object` and `sys.exit(2)` in two processes do it (torch 2.13), and not with `destroy_process_group` before the end.
    """
    import torch.distributed as dist

    with contextlib.suppress(RuntimeError):  # the others may be gone
        if dist.is_initialized():
            dist.destroy_process_group()


def _found(environment: Mapping[str, str]) -> World:
    if missing := [name for name in _NAMES if not environment.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: several processes are "
            "started with torchrun. `torchrun --nproc-per-node 2 --no-python twinkeel train`; or unset WORLD_SIZE."
        )
    try:
        rank, size, local = (int(environment.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError as error:
        raise ConfigError(f"RANK, WORLD_SIZE or LOCAL_RANK is no number: {error}. torchrun sets all three.") from error
    import torch
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        raise DeviceError(
            f"this torch ({torch.__version__}) was built without {'gloo' if dist.is_available() else 'torch.distributed'}, which several processes need. "
            "Install another build of torch, or train in one process: twinkeel train"
        )
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and local < gpus:
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if gpus and dist.is_nccl_available() else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=_FIND))
        store = PrefixStore(_met(PrefixStore("twinkeel", store), rank, size), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_STEP)
        control = dist.new_group(backend="gloo", timeout=_LEADER)
    except (RuntimeError, ValueError, OSError) as error:
        raise WorkerError(
            f"process {rank} of {size} did not find the others at {environment['MASTER_ADDR']}:{environment['MASTER_PORT']}: "
            f"{str(error).splitlines()[0][:300] if str(error) else type(error).__name__}. Is --rdzv-endpoint an address of the first machine that all others reach, "
            "and was the command started on each of them?"
        ) from error
    return World(rank=rank, size=size, control=control)


def _met(store: Any, rank: int, size: int) -> str:
    """A name of this meeting, the same for all that take part in it.

    torchrun keeps its store when it starts processes again, with the addresses of those before: who reads them waits for the dead. So the leader
    gives a new name each time, and the others take it when it has answered to theirs.
    """
    own, until = uuid.uuid4().hex, time.monotonic() + _FIND.total_seconds()
    if rank == 0:
        store.set("leader", own)
        store.wait([f"{own}/{other}" for other in range(1, size)], _FIND)
        for other in range(1, size):
            store.set(f"{own}/{store.get(f'{own}/{other}').decode()}", "met")
        return own
    while time.monotonic() < until:
        store.wait(["leader"], _FIND)
        name: str = store.get("leader").decode()
        store.set(f"{name}/{rank}", own)
        for _ in range(20):  # after that, it is the name of one that is gone
            if store.check([f"{name}/{own}"]):
                return name
            time.sleep(0.05)
    raise RuntimeError("process 0 did not answer")


def _is_of_others(error: RuntimeError) -> bool:
    """Whether an error says that a process at the other end is gone."""
    import torch.distributed as dist

    text = str(error).lower()
    kinds = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    return isinstance(error, kinds) or any(word in text for word in ("gloo", "nccl", "connection"))


def check_device(world: World, device: torch.device, environment: Mapping[str, str] = os.environ) -> None:
    """Raise a DeviceError where several processes cannot train on it."""
    if world.size == 1 or device.type == "cpu":
        return
    import torch
    import torch.distributed as dist

    if device.type != "cuda" or not dist.is_nccl_available():
        need = (
            "this torch was built without NCCL" if device.type == "cuda" else "nothing carries gradients between them"
        )
        raise DeviceError(
            f"several processes do not train on '{device.type}' here: {need}. Set train.device = 'cpu', or train in one process."
        )
    local, gpus = int(environment.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= gpus:
        raise DeviceError(
            f"{local + 1} processes or more were started on a machine that has {gpus} GPU{'s' if gpus != 1 else ''}: "
            f"torchrun --nproc-per-node {gpus}, or train.device = 'cpu'."
        )


def check_batch(world: World, size: int, parts: int) -> None:
    """Raise a ConfigError where batches of so many images, in so many parts, are not divided among the processes."""
    if size % (world.size * parts):
        in_parts = f" in train.accumulate = {parts} parts" if parts > 1 else ""
        near = [n for n in range(world.size, 0, -1) if size % (n * parts) == 0]
        raise ConfigError(
            f"train.batch_size = {size}{in_parts} is the batch of all processes together, and {world.size} of them do not divide it. Start {near[0]}, or set it "
            f"to {-(-size // (world.size * parts)) * world.size * parts}."
        )
