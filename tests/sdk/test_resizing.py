"""The images that all platforms are compared on, and the definition beside a resizing that everybody knows."""

from __future__ import annotations

import pytest


def test_cases_are_all_there(resizing):
    cases = resizing.cases()
    assert len(cases) == len(set(cases)) == resizing.COUNT
    assert {(case.input_height, case.input_width) for case in cases} == set(resizing.INPUTS)
    assert {case.orientation for case in cases} == set(range(1, 9))
    assert max(case.width * case.height for case in cases) == 12_000_000
    assert min(case.width * case.height for case in cases) == 1


def test_one_wrong_byte_is_found(resizing, tmp_path):
    right = b"".join(resizing.expected())
    (tmp_path / "right").write_bytes(right)
    assert resizing.differences(tmp_path / "right") == []
    wrong = bytearray(right)
    wrong[-2] ^= 1
    (tmp_path / "wrong").write_bytes(wrong)
    (difference,) = resizing.differences(tmp_path / "wrong")
    assert "1 of" in difference
    assert "by up to 1" in difference
    (tmp_path / "short").write_bytes(right[:-1])
    assert len(resizing.differences(tmp_path / "short")) == 1


@pytest.mark.parametrize(("width", "height"), [(1200, 900), (641, 480), (100, 100), (50, 80)])
@pytest.mark.parametrize("wanted", [(32, 32), (96, 96), (224, 224), (48, 101), (160, 17)], ids=str)
def test_definition_is_close_to_pillow(resizing, width, height, wanted):
    snr = resizing.snr_to_pillow(width, height, wanted, seed=width)
    print(f"{width} x {height} to {wanted[1]} x {wanted[0]}: {snr:.1f} dB")
    assert snr > 45
