"""LiteRT's `benchmark_model`: one line of times for each series of runs, and how many nodes each delegate took.

Its forms are those of `tflite/tools/benchmark/benchmark_model.cc`, `benchmark_tflite_model.cc`, `README.md` and of
`tflite/core/subgraph.cc` in google-ai-edge/LiteRT, and of `stats_calculator.h` in tensorflow: a median and 95th percentile of a series,
never the single runs.
"""

from __future__ import annotations

import itertools
import re

from ...parity import Ran, Unit
from ...reading import shown
from ..found import Placement, Round, Unreadable
from .asking import NUMBER, Ask, number, trouble

BINARIES = (
    "benchmark_model",
    "android_aarch64_benchmark_model",
    "android_arm_benchmark_model",
    "benchmark_model_plus_flex",
    "android_aarch64_benchmark_model_plus_flex",
    "android_arm_benchmark_model_plus_flex",
)
MODEL = "model.tflite"
LOG = "tflite"
RESULT = ""
PROFILE = ""

QNN = "libQnnTFLiteDelegate.so"
"""Qualcomm's delegate, which takes the NPU; without it NNAPI is asked."""

_END = re.compile(
    rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}, Warmup \(avg\): {NUMBER}, Inference \(avg\): {NUMBER}"
)
_SERIES = re.compile(r"\bcount=(\d+)(?: (.*))?$", re.MULTILINE)
_REPLACED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)")
_APPLIED = re.compile(
    r"Explicitly applied (\S+) delegate, and the model graph will be (completely|partially) executed by the delegate"
)
_ACCELERATORS = re.compile(r"NNAPI accelerators available: \[([^\]]*)\]")
_REFUSED_OPERATION = re.compile(r"(?!INFO|VERBOSE|WARN|ERROR)[A-Z][A-Z0-9_]+: .+")
_REFERENCE = "nnapi-reference"
"""NNAPI's own kernels for processors."""


def lacks(unit: Unit) -> str:
    return ""


def arguments(ask: Ask) -> list[str]:
    given = [f"--graph={MODEL}", f"--num_runs={ask.runs}", "--min_secs=0", "--warmup_runs=3", "--warmup_min_secs=0.1"]
    given += [f"--num_threads={ask.threads}"]
    if ask.unit == "CPU":
        return [*given, "--use_xnnpack=true"]
    if ask.unit == "GPU":
        return [*given, "--use_gpu=true"]
    if QNN in ask.libraries:
        return [*given, f"--external_delegate_path={QNN}", "--external_delegate_options=backend_type:htp"]
    return [*given, "--use_nnapi=true"]


def look(ask: Ask) -> list[str]:
    return []


def read(text: str, result: str, ask: Ask) -> Round:
    end = _END.search(text)
    series = _SERIES.findall(text[: end.start()] if end else "")
    if end is None or not series:
        raise Unreadable(f"no line 'Inference timings in us': {trouble(text)}")
    count, rest = int(series[-1][0]), str(series[-1][1])  # the one before is of the warm-up
    values = dict(re.findall(rf"(\w+)={NUMBER}", rest))
    # of equal runs there is the last one alone; builds of before 2022 have no median
    middle = values.get("median") or (values.get("curr") if "first" not in values else None)
    return Round(middle=number(middle or end[4]) / 1e3, runs=count, is_mean=middle is None)


def placed(text: str, profile: str, ask: Ask) -> Placement:
    replaced = [(int(taken), int(total), name) for taken, total, name in _REPLACED.findall(text)]
    if ask.unit == "CPU":
        return _on_processor(replaced)
    if ask.unit == "NPU" and QNN not in ask.libraries:
        return _by_nnapi(text, replaced)
    names = ("qnn",) if ask.unit == "NPU" else ("gpu", "litert_cl", "mldrift", "ml_drift")
    own = [one for one in replaced if any(name in one[2].lower() for name in names)]
    taken, total = sum(one[0] for one in own), sum(one[1] for one in own)
    if not own:
        return _unnumbered(text, replaced, ask)
    if taken == 0:
        return _fallen(text, replaced, ask)
    if taken < total:
        why = f"{total - taken} of {total} operations are left to the CPU{_operations(text)}"
        ran = Ran(asked=ask.unit, ran=("CPU", ask.unit), fell_back=True, reason=why)
        return Placement(ran=ran, plan={"CPU": total - taken, ask.unit: taken})
    return Placement(ran=Ran(asked=ask.unit, ran=(ask.unit,)), plan={ask.unit: taken})


def _on_processor(replaced: list[tuple[int, int, str]]) -> Placement:
    own = [one for one in replaced if "xnnpack" in one[2].lower()]
    taken, total = sum(one[0] for one in own), sum(one[1] for one in own)
    ran = Ran(asked="CPU", ran=("CPU",))
    if not own or taken == 0:
        return Placement(
            ran=ran,
            note="XNNPACK took none of the graph, as far as it says: LiteRT's own kernels ran, which are slower",
        )
    note = (
        f"XNNPACK took {taken} of {total} operations, the others ran in LiteRT's own kernels" if taken < total else ""
    )
    return Placement(ran=ran, plan={"CPU": total}, note=note)


def _unnumbered(text: str, replaced: list[tuple[int, int, str]], ask: Ask) -> Placement:
    """Of a build whose log has no node counts: the benchmark's own line on the delegate."""
    found = {name.lower(): how for name, how in _APPLIED.findall(text)}
    how = next((how for name, how in found.items() if name not in ("xnnpack", "nnapi")), "")
    if how == "completely":
        return Placement(ran=Ran(asked=ask.unit, ran=(ask.unit,)))
    if how == "partially":
        why = f"it says 'partially executed by the delegate', and not how much{_operations(text)}"
        return Placement(ran=Ran(asked=ask.unit, ran=("CPU", ask.unit), fell_back=True, reason=why))
    return _fallen(text, replaced, ask)


def _fallen(text: str, replaced: list[tuple[int, int, str]], ask: Ask) -> Placement:
    """The delegate took nothing, whatever the exit code says."""
    lines = [line for line in text.splitlines() if re.search(r"WARN|ERROR|[Uu]nsupported|Unconsumed|Though ", line)]
    why = f"no operation was given to a delegate for the {ask.unit}"
    if lines:
        why += f": {trouble(chr(10).join(lines))}"
    total = max((one[1] for one in replaced), default=0)
    ran = Ran(asked=ask.unit, ran=("CPU",), fell_back=True, reason=why)
    return Placement(ran=ran, plan={"CPU": total} if total else {})


def _by_nnapi(text: str, replaced: list[tuple[int, int, str]]) -> Placement:
    own = [one for one in replaced if "nnapi" in one[2].lower()]
    taken, total = sum(one[0] for one in own), sum(one[1] for one in own)
    listed = _ACCELERATORS.search(text)
    names = [name.strip() for name in listed[1].split(",") if name.strip()] if listed else []
    others = [shown(name, 50) for name in names if name != _REFERENCE]
    if taken == 0:
        none = _fallen(text, replaced, Ask(unit="NPU", runs=1, threads=1))
        why = "" if others or not names else f"; NNAPI has {_REFERENCE} alone here, which computes on the CPU"
        ran = Ran(
            asked="NPU",
            ran=("CPU",),
            fell_back=True,
            reason=none.ran.reason.replace("a delegate for the NPU", "NNAPI") + why,
        )
        return Placement(ran=ran, plan=none.plan)
    if names and not others:
        why = f"NNAPI has {_REFERENCE} alone here, which computes on the CPU"
        return Placement(ran=Ran(asked="NPU", ran=("CPU",), fell_back=True, reason=why), plan={"CPU": total})
    among = f" of {', '.join(others)}" if others else ""
    why = f"NNAPI took {taken} of {total} operations and does not say on which{among} they ran"
    return Placement(ran=Ran(asked="NPU", ran=None, fell_back=taken < total, reason=why))


def _operations(text: str) -> str:
    """What a GPU delegate says of the operators that it does not take."""
    _, mark, rest = text.partition("operations are not supported by GPU delegate")
    lines = [line.strip() for line in rest.splitlines()[1:]] if mark else []
    told = "; ".join(dict.fromkeys(itertools.takewhile(_REFUSED_OPERATION.fullmatch, lines[:5])))
    return f": {shown(told, 300)}" if told else ""
