"""`twinkeel device android` on a phone of files: what is recorded, what is said, and that nothing is left there."""

from __future__ import annotations

import json

from twinkeel.pipeline.delivery import evidence, manifest


def content(folder, name=manifest.MANIFEST):
    return json.loads((folder / name).read_text())


def timed(run_cli, folder, binaries, *more):
    return run_cli("device", "android", folder.parent, "--binaries", binaries, *more)


def rows_of(folder, target):
    entry = next(one for one in content(folder)["artifacts"] if one["target"] == target)
    return {row["units"]: row for row in entry["runs"] if row["evidence"] == evidence.LATENCY}


def test_each_runtime_is_timed_on_what_it_has_and_recorded(phone, binaries, android, run_cli):
    before = [one["parity"] for one in content(android)["artifacts"]]
    result = timed(run_cli, android, binaries)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    print(result.output)
    manifest.verify(android)
    assert phone.left == []
