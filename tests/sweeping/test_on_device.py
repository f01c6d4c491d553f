"""A sweep whose artifacts are timed on a phone of files: compared by it, kept, and told where it cannot be."""

from __future__ import annotations

import csv
import json

import pytest
from phones import ONNXRUNTIME, Pretend, elf, installed
from twinkeel.pipeline.devices import android as stage
from twinkeel.pipeline.errors import DeviceError
from twinkeel.pipeline.sweeping import lines, picking
from twinkeel.pipeline.sweeping.lines import Line, with_front


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """Times artifacts by their bytes: the larger is the faster, as it is nowhere else."""
    found: Pretend = installed(tmp_path, monkeypatch)
    monkeypatch.setattr(stage, "ROUNDS", 2)
    (tmp_path / "binaries").mkdir()
    script = ONNXRUNTIME.replace("0.00$((n % 3 + 4))", "$(awk -v s=$(wc -c < model.onnx) 'BEGIN{print 10/s}')").replace(
        "cost total: 4.9 ms", "cost: $(awk -v s=$(wc -c < model.onnx) 'BEGIN{print 10000/s}') ms"
    )
    (tmp_path / "binaries" / "onnxruntime_perf_test").write_bytes(elf() + b"\n--script--\n" + script.encode())
    return found


def test_variants_are_compared_by_the_phone_and_its_times_are_kept(tiny, in_this_process, phone, run_cli, tmp_path):
    path = tiny(('target = ["android/onnx"]', 'target = ["android/onnx", "ios/onnx"]'))
    asked = (
        "sweep",
        "-c",
        path,
        "-o",
        tmp_path / "sweep",
        "--store",
        tmp_path / "store",
        "--binaries",
        tmp_path / "binaries",
    )
    phone.set(lose_at="mkdir")
    lost = run_cli(*asked)
    assert isinstance(lost.exception, DeviceError) and "went away" in str(lost.exception), (
        f"{lost.output}\n{lost.exception!r}"
    )
    (phone.home / "gone").unlink()
    phone.set()
    result = run_cli(*asked)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    name = "Google Pixel 9 (Google Tensor G4), Android 15"
    found = json.loads((tmp_path / "sweep" / lines.RESULTS).read_text())
    first, same, second, other = found["variants"]
    assert [one["varied"]["target"] for one in found["variants"]] == ["android/onnx", "ios/onnx"] * 2
    for one in (first, second):
        assert one["device"] == name and one["device_ms"] == pytest.approx(10_000 / one["bytes"], rel=1e-3)
    assert first["device_ms"] > second["device_ms"] and 3 in found["front"]
    for one in (same, other):  # nobody knows how fast an iPhone is: not compared, and no failure
        assert (
            one["device_ms"] is None
            and one["state"] in ("verified", "open")
            and one["device_told"] == "not timed: it is not for Android"
        )
        assert one["number"] not in found["front"]
    rows = list(csv.DictReader((tmp_path / "sweep" / lines.TABLE).open()))
    assert rows[2]["device"] == name and float(rows[2]["device_ms"]) == pytest.approx(second["device_ms"], rel=1e-4)
    assert (tmp_path / "sweep" / lines.PICTURE).read_bytes().startswith(b"\x89PNG")
    assert phone.left == []
    (phone.home / "calls").unlink()
    again = run_cli(*asked)
    assert again.exit_code == 0 and json.loads((tmp_path / "sweep" / lines.RESULTS).read_text()) == found
    assert not any("push" in call for call in phone.calls)
    unit = run_cli(*asked, "--unit", "gpu")
    assert isinstance(unit.exception, DeviceError) and "nothing of this sweep can be timed on the GPU" in str(
        unit.exception
    )
    assert run_cli(*asked[:-2], "--serial", "8A1X0").exit_code == 2


def test_what_is_picked_is_the_fastest_on_the_device():
    made = [
        Line(number=n, varied={"target": "android/onnx", "precision": "fp32"}, state="verified", score=0.9, float_score=0.9, bytes=1,
             latency_ms=here, device="a phone", device_ms=there)
        for n, (here, there) in enumerate(((1.0, 3.0), (2.0, 2.0), (0.5, float("nan"))), 1)
    ]  # fmt: skip
    found = with_front(made)
    assert [line.number for line in found if line.is_on_front] == [2]
    wish = picking.parsed("latency <= 2.5ms, min latency", "accuracy", {"target": ["android/onnx"]})
    assert picking.picked(wish, found).number == 2
    assert lines.headings(found, "accuracy")[-3] == "ms on a phone"
    assert lines.cells(found, ["target"])[2][-3] == "" and lines.cells(found, ["target"])[1][-3] == "2.000"
    here = [Line(number=1, varied={"target": "android/onnx"}, state="verified", score=0.9, bytes=1, latency_ms=1.0)]
    assert with_front(here)[0].is_on_front and "ms on" not in " ".join(map(str, lines.headings(here, "accuracy")))
