"""The ladder: quantize, measure, and try one method of `rungs/` after the other, the best so far being kept.

What costs nothing where the network runs (even ranges, other ranges, corrected biases, rounding that knows the inputs) is
tried as long as there is time, `quantize.minutes`, whether or not the gate is met already. What costs something, layers in
float, or takes long, training, is tried where the gate is missed.

Each rung starts from the best one before it. Methods see a share of the calibration images, and are judged on the others:
a method that fits its own images and no others is dropped. There each image counts the same, for among few images one
with large errors would decide. Held-out images are measured on, never learnt from, nor chosen by. In the end ranges and
biases are taken from all calibration images.

What a rung is worth is told in one line, before it how long it may take, and after the last which were left out for want
of time: these depend on the machine, and what is built with them.
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from .. import data as data_module
from ..config import Config, Quantize
from ..errors import ParityError
from ..program import InputContract
from ..saying import Say
from ..tasks import Task
from . import missed, quantize, rungs
from .candidates import Ladder, Measured, Method
from .history import Rung

if TYPE_CHECKING:
    from torch import nn

    from .fold import Shipped


class Stopped(KeyboardInterrupt):
    """Somebody wants no more rungs: the first Ctrl-C while they are tried."""


@dataclass(frozen=True, kw_only=True)
class Climbed:
    """Where the ladder ended.

    Attributes:
        tuned: the float module that was quantized.
        quantized: the calibration that all artifacts come from.
        rungs: one for each method that was tried, and the last for what was chosen.
        all_int8: the same without layers in float, to measure what they cost; None where there are none.
    """

    tuned: nn.Module
    quantized: quantize.Quantized
    rungs: tuple[Rung, ...]
    all_int8: quantize.Quantized | None


def climb(
    folded: Shipped,
    data: data_module.Dataset,
    contract: InputContract,
    config: Config,
    task: Task,
    say: Say,
    *,
    is_gated: bool = True,
) -> Climbed:
    """Quantize `folded`, a module on ``(N, H, W, 4)`` uint8, as well as `quantize.minutes` allow.

    The first Ctrl-C ends the search, and the best so far is taken; the next one ends all.

    Args:
        is_gated: False stops at what the configuration asks for in any case, whatever it is worth.

    Raises:
        ParityError: none passes the gate; with every rung, and the layers that lose most.
    """
    ladder = Ladder(folded, data, contract, config, task, say)
    wanted = config.quantize
    best = ladder.measure("equalization" if wanted.equalize == "always" else "plain", [ladder.start()], None)
    known = methods(wanted)
    asked = [name for name, when, _ in known if when == "always"]
    is_stopped = False
    try:
        with _stopping():
            for name, when, method in known:
                if when == "always":
                    ladder.has_time(name, method, best, "asked for by [quantize]")
                    best = ladder.measure(name, method(ladder, best) or [best.state], None)
                    asked.remove(name)
            for is_paid in (False, True) if is_gated else ():
                best = ladder.surely(_before_paid(ladder, known, best)) if is_paid else best
                for name, when, method in known:
                    if when != "auto" or is_paid != is_costly(method) or (is_paid and best.rung.is_met):
                        continue
                    if not applies(method, ladder, best) or ladder.wants(name, method):
                        continue
                    if ladder.has_time(name, method, best) and (states := method(ladder, best)):
                        best = ladder.measure(name, states, best)
                        best = ladder.surely(best) if is_paid else best
    except Stopped:
        is_stopped = True
        best = ladder.passing(best)
        _tell_stopped(say, asked, best, is_gated=is_gated)
    if is_gated and not best.rung.is_met:  # nothing will be built: what came nearest tells which limit there could be
        best = max(ladder.measured, key=lambda one: one.nearness)
    best = ladder.finished(best, is_stopped=is_stopped)
    if not best.rung.is_met and is_gated:
        raise ParityError(missed.told(ladder, best, [name for name, when, _ in known if when == "never"]))
    return Climbed(
        tuned=best.state.tuned,
        quantized=best.quantized,
        rungs=tuple(ladder.rungs),
        all_int8=ladder.all_int8(best.state) if best.state.settings.float_layers else None,
    )


def _tell_stopped(say: Say, asked: Sequence[str], best: Measured, *, is_gated: bool) -> None:
    """What comes of a search that Ctrl-C ended, without the rungs that were asked for and not reached."""
    told = "the best so far is built"
    if is_gated and not best.rung.is_met:
        told = "no rung so far passes the gate, so nothing will be built"
    elif is_gated and best.is_near:
        told += ", which passes the gate so narrowly that the reference, which was not asked, may miss it"
    told += f", without {', '.join(asked)}, which [quantize] asks for" if asked else ""
    say(f"quantize: stopped; {told}. Ctrl-C once more ends the build")


def _before_paid(ladder: Ladder, known: Sequence[tuple[str, str, Method]], best: Measured) -> Measured:
    """What costs nothing where it runs, was left out for want of time, and takes less than what costs something and is tried, or was,
    in any case."""
    needed = [method for _, when, method in known if when in ("auto", "always") and getattr(method, "needed", False)]
    paid = [method for method in needed if applies(method, ladder, best)]
    for name, _, method in [one for one in known if one[0] in ladder.left_out] if paid else ():
        if ladder.passing(best).rung.is_met:
            break
        if is_costly(method) or not applies(method, ladder, best):
            continue
        if ladder.seconds(method, best) < max(ladder.seconds(other, best) for other in paid):
            ladder.has_time(name, method, best, "before what costs something and takes longer")
            ladder.left_out.remove(name)
            if states := method(ladder, best):
                best = ladder.measure(name, states, best)
    return best


@contextmanager
def _stopping() -> Iterator[None]:
    """Ctrl-C raises `Stopped` once. Signals are the main thread's, and one that the caller ignores, as `nohup` and a shell's
    `&` do, stays ignored."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        raise Stopped

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Module(Protocol):
    """What a module below `rungs/` has: a method of quantization, to be tried from the best state so far."""

    COST: float  # its place: the more it gains in a second, the earlier it comes
    IS_COSTLY: bool  # where the network runs, or in hours: tried where the gate is missed; True where it is left out

    def rungs(self, wanted: Quantize) -> list[tuple[str, str, Method]]:
        """(name, when, method) of each rung; `when` is "always", "auto", "never", or "done" before the first. A method may
        have attributes: ``seconds``, which gives about how long it takes from the same two; ``needed``, where it is tried however long
        that is; ``applies``, which says of them
        whether there is anything to do; ``wanting``, which says of the ladder what the method needs and has not,
        in words, empty where it has all."""


def methods(wanted: Quantize) -> list[tuple[str, str, Method]]:
    """Of every module below `rungs/`, in the order of `COST`."""
    found = [cast("_Module", importlib.import_module(name)) for name in rungs.names()]
    return [rung for module in sorted(found, key=lambda module: module.COST) for rung in module.rungs(wanted)]


def is_costly(method: Method) -> bool:
    """Whether a rung costs something where the network runs, or takes hours."""
    return bool(getattr(importlib.import_module(method.__module__), "IS_COSTLY", False))


def applies(method: Method, ladder: Ladder, best: Measured) -> bool:
    """Whether there is anything for a rung to do."""
    return bool(getattr(method, "applies", lambda *_: True)(ladder, best))
