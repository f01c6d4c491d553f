"""A phone of files behind a stand-in for adb, and what benchmark programs print, as their sources have it."""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

FAKE = Path(__file__).with_name("fake_adb.py")
PIXEL = "8A1X0 device usb:1-2 product:tokay model:Pixel_9 device:tokay transport_id:3\n"
PROPERTIES = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 9",
    "ro.build.version.release": "15",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.soc.manufacturer": "Google",
    "ro.soc.model": "Tensor G4",
    "ro.hardware": "tokay",
    "persist.sys.note": "two\nlines",
}
MACHINES = {"arm64-v8a": (2, 183), "armeabi-v7a": (1, 40), "x86_64": (2, 62)}


def elf(abi="arm64-v8a", interpreter="/system/bin/linker64"):
    """The head of a program: its header, one program header, and the name of what loads it."""
    bits, machine = MACHINES[abi]
    name = interpreter.encode() + b"\0"
    if bits == 2:
        head = (
            b"\x7fELF"
            + bytes([2, 1, 1])
            + bytes(9)
            + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        )
        return head + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1) + name
    head = (
        b"\x7fELF"
        + bytes([1, 1, 1])
        + bytes(9)
        + struct.pack("<HHIIIIIHHHHHH", 3, machine, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    )
    return head + struct.pack("<IIIIIIII", 3, 84, 0, 0, len(name), len(name), 4, 1) + name


LITERT = r"""#!/bin/sh
# benchmark_model: what its sources print; the rounds are counted, and what a test wants of it stands in a file
place=$FAKE_ADB
round=$(($(cat $place/rounds 2>/dev/null || echo 0) + 1)); echo $round > $place/rounds
test -f $place/litert && . $place/litert
echo "INFO: STARTING!"
echo "INFO: Loaded model model.tflite"
test -s model.tflite || { echo "ERROR: Failed to load model"; exit 1; }
case "$*" in
*--use_gpu=true*) middle=${gpu:-1250}; echo "INFO: Created TensorFlow Lite delegate for GPU."
  eval "echo \"${gpu_log:-VERBOSE: Replacing 64 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0.}\"";;
*--use_nnapi=true*) middle=${npu:-900}; echo "INFO: NNAPI accelerators available: [google-edgetpu,nnapi-reference]"
  echo "VERBOSE: Replacing 60 out of 64 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 3 partitions for subgraph 0.";;
*) middle=${cpu:-2500}; echo "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
  echo "VERBOSE: Replacing 64 out of 64 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for the whole graph.";;
esac
echo "INFO: Running benchmark for at least 3 iterations and at least 0.1 seconds but terminate if exceeding 150 seconds."
echo "INFO: count=40 first=9000 curr=3000 min=2400 max=9000 avg=3100 std=900 p5=2400 median=2999 p95=9000"
echo
echo "INFO: count=10 first=2600 curr=2500 min=2400 max=2900 avg=2555.5 std=90 p5=2400 median=$middle p95=2900"
echo
echo "INFO: Inference timings in us: Init: 5685, First inference: 9000, Warmup (avg): 3100, Inference (avg): 2555.5"
"""
EXECUTORCH = r"""#!/bin/sh
# executor_runner as built for Android: it tells the log, and nothing else
for one; do case $one in --num_executions=*) count=${one#*=};; esac; done
n=0; : > $FAKE_ADB/log
while [ $n -lt $count ]; do n=$((n + 1)); echo "Iteration $n of $count: 3.$n ms" >> $FAKE_ADB/log; done
echo "Model executed successfully $count time(s) in 40.0 ms." >> $FAKE_ADB/log
"""
ONNXRUNTIME = r"""#!/bin/sh
for one; do last=$one; case $before in -r) count=$one;; -e) provider=$one;; esac; before=$one; done
case $last in look.csv) cat > profile_2026-01-01_00-00-00.json <<END
[
{"cat" : "Session","pid" :1,"tid" :1,"dur" :9,"ts" :1,"ph" : "X","name" :"model_run","args" : {}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :5,"ts" :2,"ph" : "X","name" :"conv1_kernel_time","args" : {"op_name" : "Conv","provider" : "CPUExecutionProvider"}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :5,"ts" :3,"ph" : "X","name" :"conv1_fence_before","args" : {"op_name" : "Conv"}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :5,"ts" :4,"ph" : "X","name" :"gemm_kernel_time","args" : {"op_name" : "Gemm","provider" : "CPUExecutionProvider"}}
]
END
exit 0;; esac
if [ $provider = nnapi ]; then echo "NNAPI is not supported in this build"; exit 255; fi
n=0
while [ $n -lt $count ]; do echo "model,0.00$((n % 3 + 4)),51200000,12,$n" >> $last; n=$((n + 1)); done
echo "Session creation time cost: 0.05 s"
echo "First inference time cost: 12 ms"
echo "Total inference requests: $count"
echo "Average inference time cost total: 4.9 ms"
"""


class Pretend:
    """The phone's files, and what it is to do."""

    def __init__(self, home):
        self.home = home
        self.tmp = home / "tmp"
        for name in ("tmp", "bin"):
            (home / name).mkdir()
        lines = "".join(f"[{key}]: [{value}]\n" for key, value in PROPERTIES.items())
        (home / "properties").write_text(lines)
        self.program("getprop", f"cat {home}/properties")
        self.program("dumpsys", "echo 'IsStatusOverride: false'; echo 'Thermal Status: 0'")
        self.program("logcat", f"cat {home}/log")
        self.set()

    def program(self, name, line):
        (self.home / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.home / "bin" / name).chmod(0o755)

    def set(self, **state):
        (self.home / "state.json").write_text(json.dumps({"devices": PIXEL, **state}))

    def properties(self, **changes):
        found = PROPERTIES | changes
        (self.home / "properties").write_text("".join(f"[{key}]: [{value}]\n" for key, value in found.items()))

    @property
    def calls(self):
        return [json.loads(line) for line in (self.home / "calls").read_text().splitlines()]

    @property
    def left(self):
        return sorted(path.name for path in self.tmp.iterdir())


def installed(folder, monkeypatch):
    """A phone, and adb on PATH that reaches it."""
    (folder / "phone").mkdir()
    tools = folder / "platform-tools"
    tools.mkdir()
    (tools / "adb").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} "$@"\n')
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_ADB", str(folder / "phone"))
    return Pretend(folder / "phone")
