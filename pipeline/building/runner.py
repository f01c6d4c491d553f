"""Builds: a pass over the jobs, repeated where the store gave damaged results, and the parts of one that commands ask for."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .. import data as data_module
from ..config import Config
from ..delivery import outputs
from ..errors import ConfigError, TwinkeelError
from ..files import real
from ..program import Program
from ..report import Built
from ..saying import Say
from ..stages import ALONE, Followers, World
from ..store import Damaged, Here, Store, Workers, Workshop, count
from .jobs import data as data_step
from .jobs import original as original_step
from .jobs import program as program_step
from .jobs import report as report_step
from .jobs import weights as weights_step
from .order import Order
from .site import Create, load_model
from .walk import build as build_all
from .walk import walk
from .work import Work

IMPORTED = "twinkeel.pipeline.store.imported"
"""By the process that those of a build are forked from, where that can be."""
_CLOCKS = 2.0
"""Seconds that a file system's clock is behind this machine's at most."""
_REPAIRS = 100
"""Damaged results that one build makes anew; more of them, and the store itself is broken."""


def build(
    wanted: Order, store: Store | None, say: Say, executor: Executor | None = None, jobs: int | None = None
) -> Built:
    """Build and judge every artifact of the platforms, from one program, into ``out/<platform>``, each of which
    appears whole; what the store knows already is not made again.

    A failing target does not hide the others. Artifacts over a limit stay in the folder, marked as failed.

    Args:
        executor: runs the jobs; processes of this machine by default.
        jobs: how many of these at a time; by cores and memory where it is None.

    Raises:
        TwinkeelError: nothing could be built; what was at ``out/<platform>`` is untouched.
    """
    began = time.time()
    try:
        built = _built(wanted, store, say, executor, jobs)
    except (KeyboardInterrupt, SystemExit):
        if store is not None:
            say("build: what is finished by now is kept in the store: the same command goes on from there")
        raise
    if store is not None and built.ran:
        _keep_within(store, wanted.config, say, began)
    return built


def _built(wanted: Order, store: Store | None, say: Say, executor: Executor | None, jobs: int | None) -> Built:
    damaged: set[str] = set()
    _check_data(wanted.out, wanted.config)
    outputs.check_place(wanted.out, wanted.plans, [report_step.PAGE], (*report_step.CURVES, data_step.SHEET))
    with ExitStack() as stack:
        work = stack.enter_context(outputs.claimed(wanted.out, say))
        if executor is None:
            executor = _Late(stack, jobs)
        while True:
            shop = Workshop(store=store, scratch=Store(str(work / "results")), damaged=frozenset(damaged))
            (work / "results").mkdir(exist_ok=True)
            try:
                return build_all(Work(order=wanted, shop=shop, folder=work, say=say, executor=executor))
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


def _check_data(out: Path, config: Config) -> None:
    """Nothing is written among the images, where the next build would look for some."""
    for name, given in (("path", config.data.path), ("calibration_path", config.data.calibration_path)):
        place = real(Path(given)) if given else None
        if place is None or not place.is_dir():
            continue
        # a folder with what is right of its images says where in it they lie
        is_all_read = name == "calibration_path" or config.data.source == "images"
        if real(out) == place or (is_all_read and real(out).is_relative_to(place)):
            raise ConfigError(
                f"--out '{out}' lies in the images, data.{name} = '{given}', which stay as they are. Give another folder."
            )


def look(wanted: Order, store: Store, say: Say) -> Built:
    """What `build` gives where there is nothing to do. It makes nothing, writes nothing into ``out``, and waits for nobody.

    Raises:
        ToDo: there is something.
    """
    with tempfile.TemporaryDirectory(prefix="twinkeel-") as scratch:
        shop = Workshop(store=store, scratch=Store(scratch))
        work = Work(order=wanted, shop=shop, folder=Path(scratch), say=say, executor=Here(), only_looks=True)
        return build_all(work)


def weights(
    config: Config,
    create: Create,
    store: Store | None,
    out: Path,
    say: Say,
    world: World = ALONE,
    checkpoints: Path | None = None,
) -> dict[str, bytes]:
    """The weights of a configuration as safetensors, loaded or trained, the curves of a training, and the contact sheet of the
    images; by file name.

    Args:
        world: the processes that train together; all of them call this, and those that do not lead get nothing.
        checkpoints: folder for what a training that was ended goes on from; of this user's caches where it is None.
    """
    if not world.is_leader:
        _follow(config, create, store, world)
        return {}
    _check_data(out, config)
    with outputs.claimed(out, say) as folder, Followers(world) as followers:
        work = _part(config, create, store, out, folder, say)
        work.followers, work.checkpoints = followers, checkpoints
        site = walk(work, (data_step, weights_step))
        entry = site.weights
        found = {name: work.shop.read(entry, name) for name in entry.files if name.startswith("curves.")}
        found[data_step.SHEET] = work.shop.read(site.data, data_step.SHEET)
        return found | {f"{config.project.name}.safetensors": work.shop.read(entry, "weights.safetensors")}


def _follow(config: Config, create: Create, store: Store | None, world: World) -> None:
    """Wait for what process 0 has to train, and take part in it."""
    begun = world.share(None)
    if not isinstance(begun, weights_step.Begun):
        if begun:
            raise SystemExit(begun)
        return
    with tempfile.TemporaryDirectory(prefix="twinkeel-") as scratch:
        weights_step.follow(begun, config, create, Workshop(store=store, scratch=Store(scratch)), world)


def ungated_program(
    config: Config, create: Create, store: Store | None, out: Path, say: Say
) -> tuple[Program, data_module.Dataset]:
    """The program and its images in memory, whatever int8 is worth, to be looked at."""
    with outputs.claimed(out, say) as folder:
        work = _part(config, create, store, out, folder, say)
        site = walk(work, (data_step, weights_step, original_step))
        loaded = data_step.load_data(work.shop, site.data)
        model = load_model(work.shop, site.weights, config, create, len(loaded.names))
    program, _, _ = program_step.quantized_program(config, loaded, model, say, is_gated=False)
    return program, loaded


def _part(config: Config, create: Create, store: Store | None, out: Path, folder: Path, say: Say) -> Work:
    """The work of commands that need the first steps alone."""
    order = Order(config=config, targets={}, kits={}, create=create, plans={}, shipped={}, render=None, out=out)
    shop = Workshop(store=store, scratch=Store(str(folder)))
    return Work(order=order, shop=shop, folder=folder, say=say, executor=Here())


def _keep_within(store: Store, config: Config, say: Say, since: float) -> None:
    """Make a store in a folder as small as the configuration allows; others have means of their own.

    Args:
        since: when the build began, in seconds since 1970: what it used stays, for the next one to find it.
    """
    limit = int(config.store.max_gigabytes * 1e9)
    try:
        if store.is_local and store.usage().bytes > limit:
            dropped, freed = store.prune(limit, since - _CLOCKS)
            if dropped:
                say(f"store: {dropped} results that were not used for longest dropped, {freed:,} bytes")
            if (held := store.usage().bytes) > limit:
                say(
                    f"store: this build alone uses {held / 1e9:.1f} GB, more than [store] max_gigabytes = "
                    f"{config.store.max_gigabytes:g}; `twinkeel cache prune` drops that too"
                )
    except OSError as error:
        say(f"WARNING the store '{store.url}' cannot be made smaller: {error}")


class _Late(Executor):
    """This machine's workers, started when there is work for them, and stopped with the build."""

    def __init__(self, stack: ExitStack, jobs: int | None) -> None:
        self._stack, self._jobs = stack, jobs
        self._workers: Workers | None = None

    @property
    def number(self) -> int:
        return self._started().number

    def _started(self) -> Workers:
        if self._workers is None:
            self._workers = Workers(self._jobs or count(), IMPORTED)
            self._stack.callback(self._workers.shutdown, cancel_futures=True)
        return self._workers

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._started().submit(fn, *args, **kwargs)
