"""`twinkeel device android` on a phone of files: what is recorded, what is said, and that nothing is left there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from phones import PIXEL, elf
from twinkeel.pipeline.delivery import device, evidence, manifest, replay
from twinkeel.pipeline.devices import android as stage
from twinkeel.pipeline.devices import binaries as programs
from twinkeel.pipeline.errors import DeviceError, VerifyError
from twinkeel.pipeline.report import page


def content(folder, name=manifest.MANIFEST):
    return json.loads((folder / name).read_text())


def timed(run_cli, folder, binaries, *more):
    return run_cli("device", "android", folder.parent, "--binaries", binaries, *more)


def litert(run_cli, folder, binaries, *more):
    """The LiteRT artifact alone, on the CPU where nothing else is said."""
    units = () if "--unit" in more else ("--unit", "cpu")
    return timed(run_cli, folder, binaries, "--only", "android/litert", *units, *more)


def rows_of(folder, target, name=manifest.MANIFEST):
    entry = next(one for one in content(folder, name)["artifacts"] if one["target"] == target)
    return {row["units"]: row for row in entry["runs"] if row["evidence"] == evidence.LATENCY}


@pytest.fixture
def quick(monkeypatch):
    """A quarter of the starts."""
    monkeypatch.setattr(stage, "ROUNDS", 2)


def test_each_runtime_is_timed_on_what_it_has_and_recorded(phone, binaries, android, run_cli):
    before = content(android)["artifacts"]
    result = timed(run_cli, android, binaries)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    manifest.verify(android)
    assert phone.left == []
    for name in (manifest.MANIFEST, manifest.PARITY):
        rows = rows_of(android, "android/litert", name)
        assert list(rows) == ["CPU", "GPU", "NPU"]
        assert evidence.short(rows["GPU"]) == "latency Google Pixel 9 (Google Tensor G4), Android 15 GPU, 1.25 ms"
        assert rows["CPU"]["machine"] == {
            "system": "Android 15",
            "processor": "Google Pixel 9",
            "soc": "Google Tensor G4",
            "abi": "arm64-v8a",
        }
        told = rows["CPU"]["accelerator"]
        assert told["ms"] == {"median": 2.5, "p90": None, "runs": 80, "rounds": 8, "is_mean": False, "slowdown": 1.0}
        assert told["plan"] == {"CPU": 64} and told["threads"] == 1 and told["thermal"] == ["none", "none"]
        (row,) = rows_of(android, "android/executorch", name).values()  # from the log, without the three that warm up
        assert row["accelerator"]["ms"]["median"] == pytest.approx(3.45) and row["accelerator"]["ms"]["runs"] == 80
        rows = rows_of(android, "android/onnx", name)
        assert rows["CPU"]["accelerator"]["operations"] == {"CPU": ["Conv conv1", "Gemm gemm"]}
        assert rows["CPU"]["accelerator"]["ms"]["p90"] == pytest.approx(6)
        assert (
            rows["NPU"]["accelerator"]["ran"] == []
            and "not supported in this build" in rows["NPU"]["accelerator"]["reason"]
        )
    # speed proves nothing
    after = content(android)
    assert after["is_verified"] is True
    assert [(one["parity"], one["evidence"]) for one in after["artifacts"]] == [
        (one["parity"], one["evidence"]) for one in before
    ]
    assert (
        "device android/executorch fp32: CPU was asked for, CPU ran; median 3.45 ms, p90 3.81 ms of 80 runs"
        in result.output
    )
    assert "not measured" not in result.output  # of units that a runtime has not, where nobody asked for them
    # a build that keeps the folder keeps its rows, and the report has them without a verdict
    kept = device.added_evidence(android)
    assert [row["by"] for row in kept["android/litert", "int8"]] == ["adb"] * 3
    assert page._mark(kept["android/litert", "int8"][0]) == ""


def test_a_second_measurement_takes_the_place_of_the_first_and_json_says_the_same(
    quick, phone, binaries, android, run_cli
):
    litert(run_cli, android, binaries)
    (phone.home / "litert").write_text("cpu=3000\n")
    result = litert(run_cli, android, binaries, "--json", "--threads", "4")
    (row,) = rows_of(android, "android/litert").values()
    assert row["accelerator"]["ms"]["median"] == 3 and row["accelerator"]["threads"] == 4
    told = json.loads(result.stdout)
    assert told["measured"] == [{"target": "android/litert", "precision": "int8"} | row] and told["left"] == []
    assert any("--num_threads=4" in call[-1] for call in phone.calls)


def test_a_delegate_that_falls_back_is_told_though_the_benchmark_ends_well(quick, phone, binaries, android, run_cli):
    line = "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate."
    (phone.home / "litert").write_text(f"gpu_log='{line}'\n")
    result = litert(run_cli, android, binaries, "--unit", "GPU")
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    (row,) = rows_of(android, "android/litert").values()
    assert row["accelerator"]["ran"] == ["CPU"] and row["accelerator"]["fell_back"]
    assert "Though GPU delegate is explicitly applied" in row["accelerator"]["reason"]
    assert evidence.short(row).endswith("GPU, fell back to CPU, 1.25 ms")
    assert "GPU was asked for, CPU ran: no operation was given to a delegate for the GPU" in result.output


def test_what_a_build_tells_to_androids_log_alone_is_no_fallback(quick, phone, binaries, android, run_cli):
    (phone.home / "litert").write_text("gpu_log='INFO: nothing more'\n")
    line = "Replacing 64 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0.\n"
    (phone.home / "log").write_text(line)
    assert litert(run_cli, android, binaries, "--unit", "gpu").exit_code == 0
    (row,) = rows_of(android, "android/litert").values()
    assert row["accelerator"]["ran"] == ["GPU"] and row["accelerator"]["plan"] == {"GPU": 64}
    (call,) = [call[-1] for call in phone.calls if "logcat" in call[-1]]
    assert "--pid=" in call and "tflite:V" in call


def test_a_part_that_is_left_to_the_processor_is_told_with_its_operations(quick, phone, binaries, android, run_cli):
    log = (
        "ERROR: Following operations are not supported by GPU delegate:\n"
        "CAST: Operation is not supported.\n"
        "62 operations will run on the GPU, and the remaining 2 operations will run on the CPU.\n"
        "VERBOSE: Replacing 62 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2 partitions for subgraph 0.\n"
        "VERBOSE: Replacing 2 out of 3 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for subgraph 0."
    )
    (phone.home / "litert").write_text(f"gpu_log='{log}'\n")
    assert litert(run_cli, android, binaries, "--unit", "gpu").exit_code == 0
    (row,) = rows_of(android, "android/litert").values()
    assert row["accelerator"]["plan"] == {"CPU": 2, "GPU": 62}
    assert row["accelerator"]["reason"] == "2 of 64 operations are left to the CPU: CAST: Operation is not supported."
    assert evidence.short(row).endswith("GPU, in part on CPU, 1.25 ms")


def test_a_phone_that_slows_down_and_one_that_is_hot_are_told(phone, binaries, android, run_cli):
    (phone.home / "litert").write_text("cpu=$((2000 + 200 * round))\n")
    phone.program("dumpsys", "echo 'Thermal Status: 2'")
    result = litert(run_cli, android, binaries)
    (row,) = rows_of(android, "android/litert").values()
    assert row["accelerator"]["ms"]["slowdown"] == pytest.approx(3.5 / 2.3)  # of rounds 7 and 8, over 1 and 2
    assert "took 1.52 times as long as the first one" in result.output and "heat moderate" in result.output
    assert len(row["accelerator"]["notes"]) == 2 and row["accelerator"]["thermal"] == ["moderate", "moderate"]
    manifest.verify(android)


def test_a_phone_that_goes_away_is_an_error_and_what_was_measured_before_is_kept(
    quick, phone, binaries, android, run_cli
):
    phone.set(lose_at="num_executions")
    result = timed(run_cli, android, binaries, "--unit", "cpu")
    assert isinstance(result.exception, DeviceError), repr(result.exception)
    assert "8A1X0 (Google Pixel 9) went away" in str(result.exception)
    assert str(result.exception).endswith("What was measured before is recorded.")
    assert "not measured: android/executorch fp32: the phone went away" in result.output
    assert "not measured: android/onnx fp32: the phone went away" in result.output
    assert f"shell rm -rf /data/local/tmp/{phone.left[0]}`" in result.output  # which nobody could remove
    assert list(rows_of(android, "android/litert")) == ["CPU"] and not rows_of(android, "android/onnx")
    manifest.verify(android)


UNMEASURED = {
    "the output is cut": ({"cut_at": "num_runs"}, "", "its output was cut behind"),
    "a crash": ({}, "echo 'FATAL: Segmentation fault'; kill -SEGV $$\n", "ended with 139: FATAL: Segmentation fault"),
}


@pytest.mark.parametrize("kind", UNMEASURED)
def test_what_cannot_be_measured_is_named_and_nothing_is_recorded(quick, phone, binaries, android, run_cli, kind):
    state, wanted, reason = UNMEASURED[kind]
    phone.set(**state)
    (phone.home / "litert").write_text(wanted)
    before = manifest.hash_files(android)
    result = litert(run_cli, android, binaries)
    assert isinstance(result.exception, DeviceError), f"{result.output}\n{result.exception!r}"
    assert reason in str(result.exception) and "Nothing is recorded" in str(result.exception)
    assert manifest.hash_files(android) == before and phone.left == []


def test_a_benchmark_that_hangs_is_given_up_ended_and_the_others_are_measured(quick, phone, binaries, android, run_cli):
    (phone.home / "litert").write_text("echo $$ > $place/hanging; exec sleep 60\n")
    result = timed(
        run_cli,
        android,
        binaries,
        "--unit",
        "cpu",
        "--timeout",
        "1",
        "--only",
        "android/litert",
        "--only",
        "android/onnx",
    )
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert (
        "not measured: android/litert int8 on the CPU: it did not end within 1 s; --timeout gives it more"
        in result.output
    )
    assert list(rows_of(android, "android/onnx")) == ["CPU"]
    assert not is_alive(int((phone.home / "hanging").read_text())) and phone.left == []


def is_alive(pid):
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except FileNotFoundError:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_the_phone_is_cleaned_when_the_command_is_stopped(phone, binaries, android, number):
    (phone.home / "litert").write_text("echo $$ > $place/hanging; exec sleep 60\n")
    command = "from twinkeel.pipeline.cli import main; main()"
    arguments = ["device", "android", str(android), "--binaries", str(binaries), "--only", "android/litert"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # behind a shell's `&` it is ignored, and a child takes that over
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(1200):
        if (phone.home / "hanging").exists() and (phone.home / "hanging").read_text():
            break
        time.sleep(0.05)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (1 if number == signal.SIGINT else 143), output.decode()
    assert phone.left == [] and not is_alive(int((phone.home / "hanging").read_text()))
    assert not rows_of(android, "android/litert")


PHONES = {
    "none": ("", (), "no phone: `adb devices` lists none"),
    "unauthorized": (
        "8A1X0 unauthorized usb:1-2 transport_id:3\n", (), "the phone 8A1X0 cannot be used (unauthorized): it did not allow this computer"
    ),
    "offline": ("8A1X0 offline usb:1-2\n", (), "cannot be used (offline)"),
    "no permissions": (
        "8A1X0 no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com] usb:1-2\n",
        (),
        "cannot be used (no permissions): this user may not use its USB port",
    ),
    "in recovery": ("8A1X0 recovery usb:1-2\n", (), "adb calls it 'recovery'"),
    "two": (PIXEL + "R5CX1 unauthorized usb:1-3\n", (), "2 phones: 8A1X0 (Pixel 9), R5CX1 (unauthorized). Choose one with --serial"),
    "two, the one that did not allow it": (PIXEL + "R5CX1 unauthorized usb:1-3\n", ("--serial", "R5CX1"), "R5CX1 cannot be used"),
    "another": (PIXEL, ("--serial", "R5CX1"), "no phone 'R5CX1' in `adb devices`. There are: 8A1X0 (Pixel 9)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PHONES)
def test_a_phone_that_cannot_be_used_is_one_error_with_what_to_do(phone, binaries, android, run_cli, kind):
    devices, more, told = PHONES[kind]
    phone.set(devices=devices)
    result = timed(run_cli, android, binaries, *more)
    assert isinstance(result.exception, DeviceError) and told in str(result.exception), repr(result.exception)
    assert phone.left == []


def test_of_two_phones_the_one_that_is_named_is_measured(quick, phone, binaries, android, run_cli):
    wireless = "adb-8A1X0-k3 (2)._adb-tls-connect._tcp"
    phone.set(devices=f"R5CX1 device model:SM_S921B\n{wireless} device product:tokay model:Pixel_9\n")
    assert litert(run_cli, android, binaries, "--serial", wireless).exit_code == 0
    assert {call[1] for call in phone.calls if call[0] == "-s"} == {wireless}


def test_without_adb_it_says_where_to_get_it(binaries, android, run_cli, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    result = timed(run_cli, android, binaries)
    assert isinstance(result.exception, DeviceError) and str(result.exception).startswith("no adb:")


def test_adb_is_found_in_the_sdk_too(quick, phone, binaries, android, run_cli, monkeypatch):
    monkeypatch.setenv("ANDROID_HOME", str(phone.home.parent))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert litert(run_cli, android, binaries).exit_code == 0


BINARIES = {
    "missing": (None, "no benchmark_model in '"),
    "of another instruction set": (elf("x86_64"), "is for x86_64, and the phone runs arm64-v8a, armeabi-v7a, armeabi"),
    "of Linux": (
        elf(interpreter="/lib/ld-linux-aarch64.so.1"),
        "is built for another system than Android (it is loaded by '/lib/ld-linux",
    ),
    "a script": (b"#!/bin/sh\nexit 0\n", "is no program of Android's: it begins with b'#!/b'"),
    "an archive": (b"PK\3\4" + bytes(60), "is no program of Android's: it is an archive: unpack it"),
    "a web page": (b"<!DOCTYPE html><html>" + bytes(60), "it is a web page in HTML"),
    "cut": (elf()[:30], "is no program of Android's"),
}


@pytest.mark.parametrize("kind", BINARIES)
def test_a_program_that_the_phone_does_not_run_is_named_with_the_reason(tmp_path, kind):
    given, told = BINARIES[kind]
    if given is not None:
        (tmp_path / "benchmark_model").write_bytes(given)
    with pytest.raises(programs.Unusable) as error:
        programs.Binaries(folder=tmp_path).program(("benchmark_model",), ("arm64-v8a", "armeabi-v7a", "armeabi"))
    assert told in str(error.value)


def test_a_program_that_is_missing_leaves_its_artifacts_out_and_no_others(quick, phone, binaries, android, run_cli):
    (binaries / "benchmark_model").unlink()
    result = timed(run_cli, android, binaries, "--unit", "cpu", "--only", "android/litert", "--only", "android/onnx")
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert f"not measured: android/litert int8: no benchmark_model in '{binaries}'" in result.output
    assert list(rows_of(android, "android/onnx")) == ["CPU"]


def test_the_best_instruction_set_is_taken_and_its_libraries_alone(quick, phone, binaries, android, run_cli):
    whole = (binaries / "benchmark_model").read_bytes()
    (binaries / "benchmark_model").unlink()
    for abi, linker in (("armeabi-v7a", "/system/bin/linker"), ("arm64-v8a", "/system/bin/linker64")):
        (binaries / abi).mkdir()
        (binaries / abi / "benchmark_model").write_bytes(
            elf(abi, linker) + whole.partition(b"\0\n--script--")[2].join([b"\n--script--", b""])
        )
        (binaries / abi / "libQnnTFLiteDelegate.so").write_bytes(elf(abi, "") + abi.encode())
    assert litert(run_cli, android, binaries, "--unit", "npu").exit_code == 0
    pushed = [call[3] for call in phone.calls if call[2:3] == ["push"]]
    assert str(binaries / "arm64-v8a" / "benchmark_model") in pushed
    assert str(binaries / "arm64-v8a" / "libQnnTFLiteDelegate.so") in pushed
    assert not any("armeabi" in name for name in pushed)
    assert any("--external_delegate_path=libQnnTFLiteDelegate.so" in call[-1] for call in phone.calls)


def test_units_that_a_runtime_does_not_have_are_named_where_they_are_asked_for(
    quick, phone, binaries, android, run_cli
):
    result = timed(
        run_cli, android, binaries, "--unit", "gpu", "--only", "android/executorch", "--only", "android/onnx"
    )
    assert isinstance(result.exception, DeviceError)
    assert "android/executorch fp32 on the GPU: the program is lowered to XNNPACK" in str(result.exception)
    assert "android/onnx fp32 on the GPU: onnxruntime has no provider" in str(result.exception)


def test_a_phone_without_room_is_one_error_and_nothing_is_left(phone, binaries, android, run_cli):
    phone.set(no_space="toy-int8")
    result = litert(run_cli, android, binaries)
    assert isinstance(result.exception, DeviceError) and "No space left on device" in str(result.exception)
    assert phone.left == []


def test_what_another_run_left_is_told_and_an_emulator_is_called_one(quick, phone, binaries, android, run_cli):
    (phone.tmp / "twinkeel-0a1b2c3d").mkdir()
    phone.properties(
        **{"ro.hardware": "ranchu", "ro.soc.manufacturer": "", "ro.soc.model": "", "ro.product.model": "google sdk"}
    )
    result = litert(run_cli, android, binaries)
    assert result.exit_code == 0, repr(result.exception)
    assert "there is /data/local/tmp/twinkeel-0a1b2c3d of another run" in result.output
    assert "it is an emulator" in result.output and phone.left == ["twinkeel-0a1b2c3d"]
    (row,) = rows_of(android, "android/litert").values()
    assert evidence.short(row) == "latency google sdk (ranchu, Android emulator), Android 15, 2.5 ms"


def test_a_folder_that_was_changed_is_not_measured(phone, binaries, android, run_cli):
    (android / "litert" / "toy-int8.tflite").write_bytes(b"another")
    assert isinstance(timed(run_cli, android, binaries).exception, VerifyError)
    assert not (phone.home / "calls").exists()


def test_a_folder_without_anything_for_android_and_unknown_words_are_errors(
    phone, binaries, android, run_cli, tmp_path
):
    assert isinstance(run_cli("device", "android", tmp_path, "--binaries", binaries).exception, VerifyError)
    assert isinstance(timed(run_cli, android, tmp_path / "nowhere").exception, DeviceError)
    wrong = timed(run_cli, android, binaries, "--only", "android/coreml")
    assert wrong.exit_code == 2 and "there are android/" in wrong.output


def test_a_folder_that_cannot_be_written_is_said_before_the_phone_is_asked(
    phone, binaries, android, run_cli, monkeypatch
):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(replay.tempfile, "TemporaryFile", refuse)
    result = timed(run_cli, android, binaries)
    assert isinstance(result.exception, DeviceError) and "Read-only file system" in str(result.exception)
    assert not (phone.home / "calls").exists()
