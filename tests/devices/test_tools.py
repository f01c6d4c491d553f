"""What benchmark programs print, in the forms that their sources and documentation have, and what is made of it."""

from __future__ import annotations

import json

import pytest
from twinkeel.pipeline.devices.found import HOT, Measured, Placement, Round, Timing, Unreadable
from twinkeel.pipeline.devices.tools import executorch, litert, onnxruntime
from twinkeel.pipeline.devices.tools.asking import Ask
from twinkeel.pipeline.parity import Ran

CPU, GPU, NPU = (Ask(unit=unit, runs=10, threads=1) for unit in ("CPU", "GPU", "NPU"))
QNN = Ask(unit="NPU", runs=10, threads=1, libraries={litert.QNN, onnxruntime.QNN})


def series(*counts, average="2555.5"):
    lines = [f"INFO: {count}\n" for count in counts]
    return "\n".join(
        [
            *lines,
            f"INFO: Inference timings in us: Init: 5685, First inference: 9000, Warmup (avg): 3.1e+03, Inference (avg): {average}\n",
        ]
    )


WARM = "count=40 first=9000 curr=3000 min=2400 max=9000 avg=3100 std=900 p5=2400 median=2999 p95=9000"
SERIES = {
    "of today": (
        "count=10 first=2600 curr=2500 min=2400 max=2900 avg=2555.5 std=90 p5=2400 median=2500 p95=2900",
        2.5,
        False,
    ),
    "of before medians": ("count=10 first=2600 curr=2500 min=2400 max=2900 avg=2555.5 std=90", 2.5555, True),
    "all the same": ("count=10 curr=2500 (all same)", 2.5, False),
    "seconds": ("count=10 first=2600000 curr=2500000 min=2400000 max=2900000 avg=2.5555e+06 std=90", 2555.5, True),
}


@pytest.mark.parametrize("kind", SERIES)
def test_litert_tells_a_series_of_runs_behind_that_of_the_warm_up(kind):
    line, middle, is_mean = SERIES[kind]
    text = series(WARM, line, average="2.5555e+06" if kind == "seconds" else "2555.5")
    assert litert.read(text, "", CPU) == Round(middle=middle, runs=10, is_mean=is_mean)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it says nothing"),
        ("ERROR: Failed to load model model.tflite\nERROR: Benchmarking failed.", "Failed to load model model.tflite; ERROR: Benchmarking failed."),
        (series(WARM, "count=0"), "its times are none"),
        (series(WARM, "count=10 first=- curr=5 min=5 max=5 avg=5 std=0 median=e"), "'e' is no number"),
        (series(WARM, "count=10 first=1 curr=0 min=0 max=1 avg=0 std=0 median=0"), "its times are none: 0 ms"),
        ("INFO: Inference timings in us: Init: 1, First inference: 1, Warmup (avg): 1, Inference (avg): 1", "no line"),
    ],
)  # fmt: skip
def test_litert_without_times_is_unreadable(text, told):
    with pytest.raises(Unreadable, match=told.replace("(", r"\(")):
        litert.read(text, "", CPU)


def replaced(taken, total, name):
    return f"VERBOSE: Replacing {taken} out of {total} node(s) with delegate ({name}) node, yielding 1 partitions for subgraph 0.\n"


ONLY_REFERENCE = "INFO: NNAPI accelerators available: [nnapi-reference]\n"
SEVERAL = "INFO: NNAPI accelerators available: [qti-dsp,qti-gpu,nnapi-reference]\n"
COMPLETELY = "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.\n"
PARTIALLY = "INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 delegate kernels.\n"
PLACED = {
    "XNNPACK takes all": (CPU, replaced(64, 64, "TfLiteXNNPackDelegate"), ("CPU",), {"CPU": 64}, ""),
    "XNNPACK leaves some": (CPU, replaced(60, 64, "TfLiteXNNPackDelegate"), ("CPU",), {"CPU": 64}, ""),
    "XNNPACK takes none": (CPU, "", ("CPU",), {}, ""),
    "two graphs": (GPU, replaced(60, 64, "TfLiteGpuDelegateV2") + replaced(6, 6, "TfLiteGpuDelegateV2"), ("CPU", "GPU"), {"CPU": 4, "GPU": 66}, "4 of 70 operations are left to the CPU"),
    "LiteRT's own accelerator": (GPU, replaced(64, 64, "LITERT_CL"), ("GPU",), {"GPU": 64}, ""),
    "no counts, all": (GPU, COMPLETELY, ("GPU",), {}, ""),
    "no counts, a part": (GPU, PARTIALLY, ("CPU", "GPU"), {}, "and not how much"),
    "none of it": (GPU, replaced(0, 64, "TfLiteGpuDelegateV2"), ("CPU",), {"CPU": 64}, "no operation was given"),
    "XNNPACK in its place": (GPU, replaced(64, 64, "TfLiteXNNPackDelegate"), ("CPU",), {"CPU": 64}, "no operation was given"),
    "XNNPACK applied completely": (GPU, COMPLETELY.replace("GPU", "XNNPACK"), ("CPU",), {}, "no operation was given"),
    "not in this build": (GPU, "WARN: GPU acceleration is unsupported on this platform.\n", ("CPU",), {}, "unsupported on this platform"),
    "the flag is unknown": (GPU, "WARN: Unconsumed cmdline flags: --use_gpu=true\n", ("CPU",), {}, "Unconsumed cmdline flags"),
    "NNAPI, several": (NPU, SEVERAL + replaced(64, 64, "TfLiteNnapiDelegate"), None, {}, "on which of qti-dsp, qti-gpu they ran"),
    "NNAPI, its own kernels": (NPU, ONLY_REFERENCE + replaced(64, 64, "TfLiteNnapiDelegate"), ("CPU",), {"CPU": 64}, "computes on the CPU"),
    "NNAPI, nothing": (NPU, ONLY_REFERENCE, ("CPU",), {}, "no operation was given to NNAPI; NNAPI has nnapi-reference alone"),
    "Qualcomm's": (QNN, replaced(64, 64, "TfLiteQnnDelegate"), ("NPU",), {"NPU": 64}, ""),
    "Qualcomm's, a part": (QNN, replaced(60, 64, "TfLiteQnnDelegate"), ("CPU", "NPU"), {"CPU": 4, "NPU": 60}, "left to the CPU"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLACED)
def test_litert_says_what_each_delegate_took(kind):
    ask, text, ran, plan, reason = PLACED[kind]
    found = litert.placed(text + series(WARM, SERIES["of today"][0]), "", ask)
    assert found.ran.ran == ran and found.plan == plan and reason in found.ran.reason
    assert found.ran.fell_back is bool(ran and "CPU" in ran and ask is not CPU)
    assert bool(found.note) is (ask is CPU and kind != "XNNPACK takes all")
    if found.ran.fell_back:
        assert found.ran.reason


def runs_of(count, tag="I 00:00:00.012 executorch:executor_runner.cpp:630] "):
    return "".join(f"{tag}Iteration {n + 1} of {count}: {5 - n * 0.1:f} ms\n" for n in range(count))


def test_executorch_tells_each_run_and_the_first_ones_warm_up():
    ask = Ask(unit="CPU", runs=4, threads=1)
    found = executorch.read(runs_of(7) + "Model executed successfully 7 time(s) in 30 ms.", "", ask)
    assert found.singles == pytest.approx([4.7, 4.6, 4.5, 4.4]) and found.runs == 4 and not found.is_mean
    older = executorch.read(
        "I 00:00:00.1 executorch:executor_runner.cpp:400] Model executed successfully 7 time(s) in 35.000000 ms.",
        "",
        ask,
    )
    assert older == Round(middle=5.0, runs=7, is_mean=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (runs_of(7)[:200], "it tells of 2 of 7 runs"),
        ("Model executed successfully.", "it is older"),
        ("", "built without -DEXECUTORCH_ENABLE_LOGGING=ON"),
        ("ERROR: unknown command line flag 'cpu_threads'", "unknown command line flag 'cpu_threads'"),
        (runs_of(8), "it tells no times"),
    ],
)
def test_executorch_without_its_runs_is_unreadable(text, told):
    with pytest.raises(Unreadable, match=told):
        executorch.read(text, "", Ask(unit="CPU", runs=4, threads=1))


ORT = "Session creation time cost: 0.05 s\nTotal inference requests: 3\nAverage inference time cost: 5 ms\n"
ORT_FILE = "model,0.004,51200000,12,0\nmodel,0.005,51200000,12,1\nmodel,0.006,51200000,12,2\n"
THREE = Ask(unit="NPU", runs=3, threads=2)


def test_onnxruntime_tells_each_run_in_its_file_and_quantiles_beside_it():
    assert onnxruntime.read(ORT, ORT_FILE, THREE).singles == pytest.approx([4, 5, 6])
    told = onnxruntime.read(f"{ORT}Min Latency: 0.004 s\nP50 Latency: 0.0051 s\nP90 Latency: 0.006 s\n", "", THREE)
    assert told.middle == pytest.approx(5.1) and told.runs == 3 and not told.singles and not told.is_mean
    before = onnxruntime.read(f"{ORT}P50 Latency is 0.0051sec\n".replace("cost:", "cost total:"), "", THREE)
    assert before.middle == pytest.approx(5.1)
    assert onnxruntime.read(ORT, "", THREE) == Round(middle=5, runs=3, is_mean=True)


@pytest.mark.parametrize(
    ("text", "file", "told"),
    [
        ("failed to initialize", "", "no line 'Average inference time cost': failed to initialize"),
        (ORT, ORT_FILE[:60], "its file tells of 2 of 3 runs"),
        (ORT, ORT_FILE.replace("0.00", "4000"), "tell different times"),
    ],
)
def test_onnxruntime_without_its_runs_is_unreadable(text, file, told):
    with pytest.raises(Unreadable, match=told):
        onnxruntime.read(text, file, THREE)


def profile(*providers):
    events = [{"cat": "Session", "name": "model_run", "args": {}}]
    for n, provider in enumerate(providers):
        for what, told in (("fence_before", {}), ("kernel_time", {"provider": provider, "op_name": "Conv"})):
            events.append({"cat": "Node", "name": f"n{n}_{what}", "dur": 5, "args": told})
    return json.dumps(events)


PROFILES = {
    "all on the CPU": (["CPUExecutionProvider"] * 3, ("CPU",), {"CPU": 3}, "all 3 nodes ran on the CPU"),
    "XNNPACK is the CPU": (["XnnpackExecutionProvider"], ("CPU",), {"CPU": 1}, "ran on the CPU"),
    "the NPU": (["QNNExecutionProvider"], ("NPU",), {"NPU": 1}, ""),
    "a part": (
        ["QNNExecutionProvider", "CPUExecutionProvider"],
        ("CPU", "NPU"),
        {"CPU": 1, "NPU": 1},
        "left to the CPU",
    ),
    "NNAPI": (["NnapiExecutionProvider"], None, {}, "NNAPI ran 1 nodes"),
    "NNAPI, a part": (["NnapiExecutionProvider", "CPUExecutionProvider"], None, {}, "1 nodes are left to the CPU"),
    "an unknown one": (["NewExecutionProvider"], None, {}, "NewExecutionProvider ran 1 nodes"),
}


@pytest.mark.parametrize("kind", PROFILES)
def test_onnxruntimes_profile_says_what_ran_each_node(kind):
    providers, ran, plan, reason = PROFILES[kind]
    found = onnxruntime.placed("", profile(*providers), NPU)
    assert found.ran.ran == ran and reason in found.ran.reason
    assert found.plan == plan or ran is None
    assert found.ran.fell_back is ("CPUExecutionProvider" in providers or ran == ("CPU",))


@pytest.mark.parametrize("text", ["", profile("QNNExecutionProvider")[:-20], "[]", "{}", "[1, null]"])
def test_without_a_profile_onnxruntime_does_not_say_what_ran(text):
    found = onnxruntime.placed("", text, NPU)
    assert found.ran.ran is None and "does not say what ran" in found.ran.reason
    assert str(found.ran) == "NPU, it does not say on what"


def test_each_unit_is_asked_for_in_the_tools_own_words():
    assert "--use_xnnpack=true" in litert.arguments(CPU) and "--use_gpu=true" in litert.arguments(GPU)
    assert "--use_nnapi=true" in litert.arguments(NPU)
    assert f"--external_delegate_path={litert.QNN}" in litert.arguments(QNN)
    assert onnxruntime.arguments(THREE)[-2:] == ["model.onnx", "result.csv"]
    assert "NNAPI_FLAG_CPU_DISABLED" in onnxruntime.arguments(
        NPU
    ) and f"backend_path|{onnxruntime.QNN}" in onnxruntime.arguments(QNN)
    assert (
        "-p" in onnxruntime.look(NPU)
        and onnxruntime.arguments(THREE)[onnxruntime.arguments(THREE).index("-x") + 1] == "2"
    )
    assert executorch.arguments(CPU)[1] == "--num_executions=13" and executorch.lacks("GPU")


def test_times_are_taken_together_and_their_ends_compared():
    whole = Timing.of([Round.of([2, 2, 2, 4]), Round.of([2, 3, 3, 3])])
    assert (whole.median, whole.runs, whole.rounds, whole.slowdown) == (2.5, 8, 2, 1.5) and whole.p90 == pytest.approx(
        3.3
    )
    assert whole.has_slowed and HOT < 1.5
    parts = Timing.of([Round(middle=float(n), runs=5) for n in (2, 2, 3, 3, 3, 3, 2, 2)])
    assert (parts.median, parts.p90, parts.runs, parts.slowdown) == (2.5, None, 40, 1.0) and not parts.has_slowed
    assert Timing.of([Round(middle=2.0, runs=5, is_mean=True)]).is_mean
    row = Measured(
        key=("a", "b"), sha256="", placement=Placement(ran=Ran(asked="NPU", ran=None)), timing=None, tools={}
    ).accelerator()
    assert row["ran"] is None and row["ms"] is None
    for bad in ((), (0.0,), (float("inf"),), (-1.0, 2.0)):
        with pytest.raises(Unreadable):
            Round.of(bad)
