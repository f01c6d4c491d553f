"""The command that makes many variants of one configuration, compares them, and builds the kits of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, ParityError, SweepError
from ..saying import counted
from . import architectures, common, devices

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

    from ..devices import Stopwatch
    from ..report import Built
    from ..saying import Say
    from ..store import Store
    from ..sweeping import crews, lines, picking, planning

_MOST_SHOWN = 100
"""Lines of the table on a terminal; of more, those on the front."""
_KITS = Path("out")
_PATIENCE = 300
"""Seconds for which workers ask a store again that does not answer."""


@click.command()
@common.config_option
@click.option(
    "-o",
    "--out",
    type=common.Place(is_folder=True),
    default=Path("sweep"),
    show_default=True,
    help="Folder for the table, the JSON and the picture.",
)
@common.store_option
@click.option("--pick", metavar="WISH", help="'score >= 0.98, size <= 1MB, min latency': builds the kits of the one.")
@click.option(
    "--kits",
    type=common.Place(is_folder=True),
    help=f"Output folder of the one that is picked; {_KITS} without it.",
)
@click.option("--hours", type=common.FiniteRange(0, min_open=True), help="For all of it, spent on the best first.")
@click.option("--jobs", type=click.IntRange(1), help="Worker processes here; by cores and memory without it.")
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster whose workers make the jobs: tcp://HOST:8786.")
@click.option(
    "--needs",
    multiple=True,
    metavar="JOB=RESOURCE",
    help="Which of Dask's resources a worker must have for a step or a target: weights=GPU; may be given several times.",
)
@click.option(
    "--patience",
    type=common.FiniteRange(0, 86_400),
    default=_PATIENCE,
    show_default=True,
    help="Seconds for which a store that does not answer is asked again.",
)
@click.option(
    "--binaries",
    type=common.Place(),
    help="Time the Android artifacts on a phone too, with the benchmark programs of this folder, as `twinkeel device android` does; "
    "variants are then compared by that.",
)
@click.option(
    "--unit",
    type=click.Choice(devices.UNITS, case_sensitive=False),
    default="cpu",
    show_default=True,
    help="Of the phone.",
)
@devices.phone_options
@click.option("--plan", "is_plan", is_flag=True, help="Say which variants there are, and do nothing.")
@click.option("--json", "is_json", is_flag=True, help="The result as JSON on standard output, progress elsewhere.")
def sweep(
    path: Path | None,
    out: Path,
    store_url: str | None,
    pick: str | None,
    kits: Path | None,
    hours: float | None,
    jobs: int | None,
    scheduler: str | None,
    needs: tuple[str, ...],
    patience: float,
    binaries: Path | None,
    unit: str,
    serial: str | None,
    threads: int,
    timeout: float,
    is_plan: bool,
    is_json: bool,
) -> None:
    """Make every variant that [sweep] spans, and compare score, latency and size.

    Stopped and run again, it goes on where it was; what several variants need is made once.
    """
    from ..delivery import outputs
    from ..report import terminal
    from ..store import workers
    from ..sweeping import lines, picking

    workers.quieten()
    console = terminal.console(is_error=is_json)
    kits = _kits(out, pick, kits)
    _check_helpers(jobs, scheduler, needs, serial, binaries)
    with terminal.progress(console) as say:
        plan = _planned(path, kits, say)
        score = _score(plan)
        wish = None if pick is None else _wish(pick, score, plan)
        if is_plan:
            _tell_plan(plan, is_json=is_json)
            return
        store = _shared(path, store_url, patience)
        watch = None if binaries is None else _stopwatch(plan, binaries, unit, serial, threads, timeout, out, say)
        crew = partial(_crew, plan, scheduler, needs, jobs, say)
        if wish is not None:  # hours before anything is written there
            with outputs.claimed(kits, say, "--kits"):
                pass
        found = _swept(plan, store, crew, out, hours, patience, watch, say)
        picked: dict[str, Any] | None = None
        built: Built | None = None
        unpicked: SweepError | None = None
        _write(out, found, score, plan, picked, say)
        if wish is not None:
            try:
                picked, built = _built(plan, found, wish, str(pick), store, jobs, say)
            except SweepError as error:  # what was found is shown all the same
                unpicked = error
            else:
                _write(out, found, score, plan, picked, lambda *_: None)
    _show(out, found, score, picked, console, is_json=is_json)
    if unpicked is not None:
        raise unpicked
    if built is not None:
        common.tell_built(built, kits, console, is_json=False)
    if not any(line.state in ("verified", "open") for line in found):
        raise ParityError(picking.none_passed(found, out / lines.TABLE))


def _check_helpers(
    jobs: int | None, scheduler: str | None, needs: Sequence[str], serial: str | None, binaries: Path | None
) -> None:
    """Whether what is said of workers and of a phone goes together."""
    if jobs is not None and scheduler is not None:
        raise click.UsageError("--jobs is for this machine and --scheduler for others: give one of the two.")
    if needs and scheduler is None:
        raise click.UsageError("--needs is for the workers of a cluster: give --scheduler, too.")
    if serial is not None and binaries is None:
        raise click.UsageError("--serial is of a phone, and nothing is timed there without --binaries.")


def _kits(out: Path, pick: str | None, kits: Path | None) -> Path:
    """Where those of the variant that is picked go."""
    if kits is not None and pick is None:
        raise click.UsageError(
            "--kits is the folder of the variant that is picked, and none is: give --pick 'min size', for example, or leave --kits out."
        )
    kits = kits or _KITS
    if pick is not None and kits.absolute() == out.absolute():
        raise click.UsageError(
            f"'{kits}' is the folder of the sweep's tables, and --kits is another: give one that differs."
        )
    return kits


def _planned(path: Path | None, kits: Path, say: Say) -> planning.Plan:
    from .. import config
    from ..report import page
    from ..sweeping import planning

    chosen = path or Path("twinkeel.toml")
    if path is None and not chosen.is_file():
        raise ConfigError(
            "a sweep needs a configuration with [sweep]: `twinkeel init` writes one, --config names another"
        )
    raw, text = config.read(chosen)
    networks, targets = architectures.sources(), common.targets()
    known = planning.Known(
        targets=targets,
        kits=common.kits(),
        checked=lambda one: common.checked(one, networks, targets),
        create=lambda one: architectures.architecture(one, networks),
        render=page.render,
    )
    return planning.planned(raw, str(chosen), chosen.parent, text, known, kits, say)


def _score(plan: planning.Plan) -> str:
    """What the task calls its score."""
    from .. import tasks

    return tasks.named(plan.config(next(one for one in plan.trials if not one.trouble)).model.task).SCORE


def _wish(pick: str, score: str, plan: planning.Plan) -> picking.Wish:
    from ..sweeping import picking

    given = {plan.config(one).data.source for one in plan.trials if not one.trouble}
    if given == {"images"}:
        raise ConfigError(
            "--pick asks what variants' answers are worth, and of data.source = 'images' nothing says what is right: give images of which that "
            "is known, or leave --pick out."
        )
    return picking.parsed(pick, score, plan.axes)


def _tell_plan(plan: planning.Plan, *, is_json: bool) -> None:
    from ..sweeping import lines

    if is_json:
        common.echo(lines.plan_as_json(plan).decode().rstrip())
        return
    for trial in plan.trials:
        told = ", ".join(f"{name} = {value}" for name, value in trial.settings.items()) or "as it stands"
        first, last = (plan.number(trial.number, plan.artifacts[place]) for place in (0, -1))
        numbers = f"{first}" if first == last else f"{first}-{last}"
        common.echo(f"{numbers}: {told}{f': cannot be: {trial.trouble}' if trial.trouble else ''}")
    artifacts = ", ".join(f"{target} {precision}" for target, precision in plan.artifacts)
    counts = counted(len(plan.trials), "model"), counted(len(plan.artifacts), "artifact")
    common.echo(f"{counted(len(plan), 'variant')}: {' x '.join(counts)} ({artifacts})")


def _shared(path: Path | None, url: str | None, patience: float) -> Store:
    from ..store import Store

    found = common.store_of(common.read_config(path), url)
    if found is None:
        raise ConfigError(
            "--store none keeps nothing, and variants share what they need by the store. Give a folder or an address, or leave --store out."
        )
    return Store(found.url, patience)


def _crew(
    plan: planning.Plan, scheduler: str | None, needs: Sequence[str], jobs: int | None, say: Say
) -> AbstractContextManager[crews.Crew]:
    from ..sweeping import crews

    if scheduler is None:
        return crews.local(jobs)
    wanted = crews.parsed(needs, list(plan.known.targets))
    device = plan.config(next(one for one in plan.trials if not one.trouble)).train.device
    return crews.of_cluster(scheduler, wanted, [*plan.axes.get("train.device", ()), device], say)


def _stopwatch(
    plan: planning.Plan,
    binaries: Path,
    unit: str,
    serial: str | None,
    threads: int,
    timeout: float,
    out: Path,
    say: Say,
) -> Stopwatch:
    """The phone, looked for before hours of work."""
    from ..delivery import outputs
    from ..devices import Stopwatch, android, stopwatch
    from ..devices import binaries as programs

    given = programs.Binaries(folder=binaries)
    watch = Stopwatch(
        phone=android.opened(serial),
        binaries=given,
        options=android.Options(
            units=tuple(one for one in android.UNITS if one.lower() == unit.lower()), threads=threads, seconds=timeout
        ),
        targets=plan.known.targets,
        kept=out / stopwatch.FILE,
        save=outputs.save,
        say=say,
    )
    watch.check(list(dict.fromkeys(target for target, _ in plan.artifacts)))
    say(f"phone {watch.phone.serial}: {watch.name}")
    return watch


def _swept(
    plan: planning.Plan,
    store: Store,
    crew: Callable[[], AbstractContextManager[crews.Crew]],
    out: Path,
    hours: float | None,
    patience: float,
    watch: Stopwatch | None,
    say: Say,
) -> list[lines.Line]:
    from ..delivery import outputs
    from ..sweeping import Sweep, Yard

    with outputs.claimed(out, say) as scratch, crew() as made_by:
        (scratch / "results").mkdir()
        store.begin()
        yard = Yard(crew=made_by, store=store, scratch=scratch / "results", say=say, patience=patience)
        one = Sweep(plan=plan, yard=yard, say=say, hours=hours, stopwatch=watch)
        try:
            found = one.lines()
        except (KeyboardInterrupt, SystemExit):
            say(f"stopped: {one.so_far()}. What was made is kept: the same command goes on from there.")
            raise
        count, seconds = sum(map(len, yard.made.values())), sum(map(sum, yard.made.values()))
        kinds = ", ".join(f"{len(taken)} {step}" for step, taken in yard.made.items() if taken)
        say(
            f"sweep: {counted(count, 'task')} made, {seconds:.0f} s of work ({kinds})"
            if count
            else "sweep: all results were in the store"
        )
    return found


def _write(
    out: Path,
    found: list[lines.Line],
    score: str,
    plan: planning.Plan,
    picked: dict[str, Any] | None,
    say: Say,
) -> None:
    from ..delivery import outputs
    from ..sweeping import lines

    number = None if picked is None else picked["variant"]
    for name, content in (
        (lines.TABLE, lines.as_csv(found, score)),
        (lines.RESULTS, lines.as_json(found, score, plan.axes, picked)),
        (lines.PICTURE, lines.picture(found, score, number)),
    ):
        say(f"wrote {outputs.save(content, out / name)}")


def _built(
    plan: planning.Plan,
    found: list[lines.Line],
    wish: picking.Wish,
    pick: str,
    store: Store,
    jobs: int | None,
    say: Say,
) -> tuple[dict[str, Any], Built]:
    """The winner's kits, and what is told of it."""
    from ..building import runner
    from ..sweeping import picking

    line = picking.picked(wish, found)
    trial = plan.trial(line.number)
    varied = ", ".join(f"{name} = {value}" for name, value in line.varied.items())
    say(f"picked: variant {line.number} of {len(found)}, {wish.text}: {varied}")
    built = runner.build(plan.winner(trial, (line.target, line.precision), say), store, say, None, jobs)
    return {"wish": pick, "variant": line.number, "kits": str(plan.out)}, built


def _show(
    out: Path, found: list[lines.Line], score: str, picked: dict[str, Any] | None, console: Console, *, is_json: bool
) -> None:
    from rich.markup import escape
    from rich.table import Table

    from ..sweeping import lines

    if is_json:
        common.echo((out / lines.RESULTS).read_text(encoding="utf-8").rstrip())
    shown = found if len(found) <= _MOST_SHOWN else [line for line in found if line.is_on_front]
    title = counted(len(found), "variant") + (f", the {len(shown):,} on the front" if len(shown) < len(found) else "")
    table, heads = Table(title=title), lines.headings(found, score)
    for name in heads:
        table.add_column(name, justify="right" if name in ("", score, "bytes") or name.startswith("ms ") else "left")
    for row in lines.cells(shown, lines.axes_of(found)):
        table.add_row(*map(escape, row))
    console.print(table)
    counts = Counter(line.state for line in found)
    console.print(", ".join(f"{count:,} {state}" for state, count in counts.items()), markup=False)
    if picked is not None:
        line = found[picked["variant"] - 1]
        told = f"{score} {line.score:.4f}, {line.bytes:,} bytes, {line.compared_ms:.3f} ms {line.where}"
        console.print(
            f"picked: {line.number}, {line.target} {line.precision}: {told}; kits in {picked['kits']}", markup=False
        )


COMMANDS = (sweep,)
