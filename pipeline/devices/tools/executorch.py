"""ExecuTorch's `executor_runner`: a line of each run, or of all together.

Its forms are those of `examples/portable/executor_runner/executor_runner.cpp` and `runtime/platform/default/` in pytorch/executorch. Its
words are ET_LOG's: a release build has them with EXECUTORCH_ENABLE_LOGGING alone, and one for Android may tell them to Android's log.
"""

from __future__ import annotations

import re

from ...parity import Ran, Unit
from ..found import Placement, Round, Unreadable
from .asking import NUMBER, Ask, number, trouble

BINARIES = ("executor_runner", "xnn_executor_runner")
MODEL = "model.pte"
LOG = "ExecuTorch"
RESULT = ""
PROFILE = ""

_WARM = 3
"""Runs of a round that come first and are not counted."""
_EACH = re.compile(rf"Iteration (\d+) of (\d+): {NUMBER} ms")
_ALL = re.compile(rf"Model executed successfully (\d+) time\(s\) in {NUMBER} ms")


def lacks(unit: Unit) -> str:
    return "" if unit == "CPU" else "the program is lowered to XNNPACK, which computes on the CPU"


def arguments(ask: Ask) -> list[str]:
    return [f"--model_path={MODEL}", f"--num_executions={ask.runs + _WARM}", f"--cpu_threads={ask.threads}"]


def look(ask: Ask) -> list[str]:
    return []


def read(text: str, result: str, ask: Ask) -> Round:
    wanted = ask.runs + _WARM
    each = [(int(which), number(ms)) for which, of, ms in _EACH.findall(text) if int(of) == wanted]
    if each and [which for which, _ in each] == list(range(1, wanted + 1)):
        return Round.of([ms for _, ms in each[_WARM:]])
    found = _ALL.search(text)
    if each and found is None:
        raise Unreadable(f"it tells of {len(each)} of {wanted} runs: {trouble(text)}")
    if found is not None and int(found[1]) == wanted:
        return Round(middle=number(found[2]) / wanted, runs=wanted, is_mean=True)
    if "Model executed successfully" in text:
        raise Unreadable("it tells no times: it is older than ExecuTorch 0.5")
    raise Unreadable(
        f"it tells no times: {trouble(text)}. Where it ran all the same, it was built without -DEXECUTORCH_ENABLE_LOGGING=ON"
    )


def placed(text: str, profile: str, ask: Ask) -> Placement:
    return Placement(ran=Ran(asked=ask.unit, ran=("CPU",)))
