"""What is said of a name that is not known."""

from __future__ import annotations

import pytest
from twinkeel.pipeline.errors import nearest

SDKS = ("coreai", "coreml", "executorch", "none")
SYSTEMS = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26", "iOS27")


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("CoreAI", SDKS, "coreai"),
        ("CoreML", SDKS, "coreml"),
        ("ios/CoreAI", [f"ios/{name}" for name in SDKS], "ios/coreai"),
        ("ios18", SYSTEMS, "iOS18"),
        ("iOS14", SYSTEMS, "iOS15"),
        ("iOS28", SYSTEMS, "iOS27"),
        ("ios14", SYSTEMS, "iOS15"),
        ("iOS19", SYSTEMS, "iOS18"),
        ("int4", ("fp32", "int8"), "int8"),
        ("corml", SDKS, "coreml"),
        ("mobilenetv2", ["mobilenet_v1", "mobilenet_v2"], "mobilenet_v2"),
        ("w", SYSTEMS, ""),
    ],
)
def test_case_is_looked_at_first_and_then_the_number(name, known, hint):
    expected = f" Did you mean '{hint}'?" if hint else ""
    assert nearest(name, known) == f"Known: {', '.join(sorted(known))}.{expected}"
