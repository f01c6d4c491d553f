"""onnxruntime's `onnxruntime_perf_test`: a file with a line of each run, and a profile that names what ran each node.

Its forms are those of `onnxruntime/test/perftest/` (`README.md`, `command_args_parser.cc`, `performance_runner.cc`) and, of the profile, of
`docs/performance/tune-performance/profiling-tools.md` in microsoft/onnxruntime.
"""

from __future__ import annotations

import re
from typing import Any

from ...parity import Ran, Unit
from ...reading import parse_json, shown
from ..found import Placement, Round, Unreadable
from .asking import NUMBER, Ask, number, trouble

BINARIES = ("onnxruntime_perf_test",)
MODEL = "model.onnx"
LOG = "onnxruntime"
RESULT = "result.csv"
PROFILE = "profile_*.json"

QNN = "libQnnHtp.so"
"""Qualcomm's library for its NPU; without it NNAPI is asked."""

_AVERAGE = re.compile(rf"Average inference time cost(?: total)?: {NUMBER} ms")
_MIDDLE = re.compile(rf"P50 Latency(?: is|:) ?{NUMBER} ?s")
_REQUESTS = re.compile(r"Total inference requests: (\d+)")
_UNITS = {"CPUExecutionProvider": "CPU", "XnnpackExecutionProvider": "CPU", "QNNExecutionProvider": "NPU"}
_NNAPI = "NnapiExecutionProvider"


def lacks(unit: Unit) -> str:
    return "onnxruntime has no provider for Android's GPUs that its benchmark can be asked for" if unit == "GPU" else ""


def arguments(ask: Ask) -> list[str]:
    return [*_common(ask), "-r", str(ask.runs), MODEL, RESULT]


def look(ask: Ask) -> list[str]:
    return [*_common(ask), "-r", "1", "-p", "profile", MODEL, "look.csv"]


def _common(ask: Ask) -> list[str]:
    provider = ["-e", "cpu"]
    if ask.unit == "NPU":
        # NNAPI's own kernels for processors would be a fallback that nobody sees
        provider = (
            ["-e", "qnn", "-i", f"backend_path|{QNN}"]
            if QNN in ask.libraries
            else ["-e", "nnapi", "-i", "NNAPI_FLAG_CPU_DISABLED"]
        )
    return ["-I", "-m", "times", *provider, "-x", str(ask.threads), "-s"]


def read(text: str, result: str, ask: Ask) -> Round:
    average = _AVERAGE.search(text)
    if average is None:
        raise Unreadable(f"no line 'Average inference time cost': {trouble(text)}")
    singles = [1e3 * number(seconds) for seconds in re.findall(rf"^[^,\n]*,{NUMBER},", result, re.MULTILINE)]
    mean = number(average[1])
    if singles:
        if len(singles) != ask.runs:
            raise Unreadable(f"its file tells of {len(singles)} of {ask.runs} runs")
        # before 2020 these were nanoseconds
        if not 0.5 < sum(singles) / len(singles) / mean < 2:
            raise Unreadable(
                f"its file and its output tell different times: {sum(singles) / len(singles):g} and {mean:g} ms"
            )
        return Round.of(singles)
    middle, count = _MIDDLE.search(text), _REQUESTS.search(text)
    return Round(
        middle=mean if middle is None else 1e3 * number(middle[1]),
        runs=int(count[1]) if count else ask.runs,
        is_mean=middle is None,
    )


def placed(text: str, profile: str, ask: Ask) -> Placement:
    found = _nodes(profile)
    if isinstance(found, str):
        if ask.unit == "CPU":
            return Placement(ran=Ran(asked="CPU", ran=("CPU",)))
        return Placement(ran=Ran(asked=ask.unit, ran=None, reason=found))
    operations: dict[str, list[str]] = {}
    for name, (provider, operator) in found.items():
        operations.setdefault(provider, []).append(f"{operator} {name}".strip())
    by_unit: dict[str, list[str]] = {}
    for provider, names in operations.items():
        by_unit.setdefault(_UNITS.get(provider, provider), []).extend(names)
    plan = {unit: len(names) for unit, names in by_unit.items() if unit in ("CPU", "GPU", "NPU")}
    unknown = sorted(set(by_unit) - set(plan))
    if ask.unit == "CPU":
        return Placement(ran=Ran(asked="CPU", ran=("CPU",)), plan=plan, operations=by_unit)
    if unknown:
        what = "NNAPI" if unknown == [_NNAPI] else ", ".join(shown(name, 50) for name in unknown)
        left = f", {plan['CPU']} nodes are left to the CPU" if plan.get("CPU") else ""
        why = f"{what} ran {sum(len(by_unit[name]) for name in unknown)} nodes, fused ones as one, and does not say on what{left}"
        return Placement(ran=Ran(asked="NPU", ran=None, fell_back=bool(left), reason=why), operations=by_unit)
    if set(plan) == {"CPU"}:
        why = f"all {plan['CPU']} nodes ran on the CPU"
        return Placement(ran=Ran(asked="NPU", ran=("CPU",), fell_back=True, reason=why), plan=plan, operations=by_unit)
    left = f"{plan['CPU']} nodes are left to the CPU; fused ones count as one" if plan.get("CPU") else ""
    ran = Ran(asked="NPU", ran=tuple(sorted(plan)), fell_back=bool(left), reason=left)
    return Placement(ran=ran, plan=plan, operations=by_unit)


def _nodes(profile: str) -> dict[str, tuple[str, str]] | str:
    """Provider and operator by node; in words why they are not known."""
    if not profile.strip():
        return "it left no profile, so it does not say what ran"
    try:
        events: Any = parse_json(profile.strip().encode())
    except ValueError as error:
        return f"its profile cannot be read, so it does not say what ran: {shown(error)}"
    found: dict[str, tuple[str, str]] = {}
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, dict) or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        told = event.get("args")
        if isinstance(told, dict) and isinstance(provider := told.get("provider"), str) and provider:
            name = str(event["name"]).removesuffix("_kernel_time")
            found[shown(name, 100)] = shown(provider, 50), shown(told.get("op_name", ""), 50)
    return found or "its profile names no node, so it does not say what ran"
