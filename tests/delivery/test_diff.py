"""Two builds compared: what is planted in the new one is told, and what is crossed fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from linear import linear
from twinkeel.pipeline.delivery import diff, manifest, timing
from twinkeel.pipeline.errors import DiffError, SignatureError, VerifyError
from twinkeel.pipeline.parity.verdict import share_interval, unpaired_interval

NAMES = ("one", "two")
LOGITS = np.random.default_rng(1).normal(size=(2, 10)).astype(np.float32)
IMAGES = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 4), np.uint8)
ARTIFACTS = (("android/litert", "xnnpack", "fp32", "fp32"), ("android/onnx", "onnxruntime", "int8", "int8"))


@pytest.fixture
def build(tmp_path, finish):
    """Write a finished folder, with the manifest changed before it is sealed."""

    def write(name, edit=lambda content: None, size=1000, right=950):
        folder = tmp_path / name / "android"
        folder.mkdir(parents=True)
        artifacts = []
        for target, kernels, precision, reference in ARTIFACTS:
            path = folder / f"{target.rpartition('/')[2]}-{precision}.bin"
            path.write_bytes(f"{name} {right}".encode().ljust(size, b"."))
            artifacts.append((target, kernels, precision, path, reference, "runtime"))
        finish(folder, artifacts, {"fp32": LOGITS, "int8": LOGITS}, NAMES, IMAGES)
        content = json.loads((folder / manifest.MANIFEST).read_text())
        content["input"] = {"height": 32, "width": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
        content["versions"] = {"onnx": "1"}
        for entry in content["artifacts"]:
            entry["accuracy"] = right / 1000
            entry["paired"] = {"images": 1000, "kept": right, "lost": 0, "won": 0, "low": 0.0, "high": 0.0}
            entry["operators"] = {"CONV_2D": 3}
        edit(content)
        manifest.write(content, folder / manifest.MANIFEST)
        manifest.verify(folder)
        return folder

    return write


def crossed(result):
    assert isinstance(result.exception, DiffError), result.exception
    return str(result.exception)


def test_the_same_build_is_within_everything(build, run_cli):
    one = build("old")
    result = run_cli("diff", one, one, "--max-size-growth", "0%", "--max-score-drop", "0", "--require", "shown")
    assert result.exit_code == 0, result.exception
    assert result.output.count("same file") == 2 and "missed" not in result.output and "open" not in result.output


def test_growth_of_size_is_told_and_fails_from_its_limit_on(build, run_cli):
    old, new = build("old"), build("new", size=1051)
    assert "+5.10 %" in run_cli("diff", old, new).output
    assert run_cli("diff", old, new, "--max-size-growth", "5.1%").exit_code == 0
    told = crossed(run_cli("diff", old, new, "--max-size-growth", "5%"))
    assert told.count("size grows by 5.10 %") == 2 and "allowed 5.00 %" in told


def test_what_gets_better_is_told_as_such(build, run_cli):
    old, new = build("old", right=900), build("new", right=919)
    told = run_cli("diff", old, new, "--max-score-drop", "0%").output
    assert told.count("accuracy rises by 1.90 %, 95 % interval -") == 2 and "drops by -" not in told, told
    assert "allowed that it drops by 0.00 %: these images cannot tell" in told
    fewer = diff.Change(what="latency", old=2.0, new=1.5, by=-0.25, low=-0.5, high=0.1, limit=0.05, verdict="open")
    assert str(fewer) == "latency falls by 25.00 %, 95 % interval -10.00 % to 50.00 %; allowed that it grows by 5.00 %"
    assert str(diff.Change(what="AP", old=0.5, new=0.4, by=0.1, low=0.05, high=0.2, limit=0.01)) == (
        "AP drops by 10.00 %, 95 % interval 5.00 % to 20.00 %; allowed 1.00 %"
    )


@pytest.mark.parametrize(("right", "state"), [(945, "open"), (950, "open"), (900, "missed"), (990, "holds")], ids=str)
def test_a_drop_is_judged_with_its_interval(right, state, build, run_cli):
    old, new = build("old"), build("new", right=right)
    result = run_cli("diff", old, new, "--max-score-drop", "0.5%", "--json")
    content = json.loads(result.stdout)
    (change,) = {tuple(c.items()) for a in content["platforms"][0]["artifacts"] for c in a["changes"] if c["is_score"]}
    change = dict(change)
    assert change["verdict"] == state and change["by"] == pytest.approx((950 - right) / 1000)
    assert change["low"] < change["by"] < change["high"]
    assert content["is_within"] == (state != "missed") == (result.exit_code == 0)
    assert bool(content["open"]) == (state == "open")
    strict = run_cli("diff", old, new, "--max-score-drop", "0.5%", "--require", "shown")
    assert (strict.exit_code == 0) == (state == "holds")


def test_the_interval_is_as_wide_as_newcombes_with_exact_limits():
    """Of 56 of 70 and 48 of 80: by hand from the limits of Clopper and Pearson."""
    low, high = unpaired_interval((70, 56), (80, 48))
    (a, b), (c, d) = share_interval(70, 56), share_interval(80, 48)
    assert low == pytest.approx(0.2 - np.hypot(0.8 - a, d - 0.6)) and high == pytest.approx(
        0.2 + np.hypot(b - 0.8, 0.6 - c)
    )
    # his own, of Wilson's limits, is 0.0524 to 0.3339: these hold as often at least
    assert low < 0.0524 and high > 0.3339


def test_the_interval_contains_the_truth_in_95_of_100_draws():
    draw, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        one, other = draw.binomial(300, 0.95), draw.binomial(300, 0.93)
        low, high = unpaired_interval((300, int(one)), (300, int(other)))
        inside += low <= 0.02 <= high
    assert inside >= 0.95 * 2000


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("mean", lambda c: c["input"].update(mean=[0.4] * 3)),
        ("labels", lambda c: c["labels"].reverse()),
        ("labels", lambda c: c["labels"].__setitem__(9, "another")),
        ("outputs", lambda c: c.update(outputs=[{"name": "scores", "shape": [10], "scale": 1.0}])),
    ],
    ids=["mean", "order of names", "a name", "output"],
)
def test_a_changed_contract_fails_unless_it_is_allowed(what, edit, build, run_cli):
    old, new = build("old"), build("new", edit)
    told = crossed(run_cli("diff", old, new))
    assert told.count("was") == 1 and f"android: {what} was" in told
    allowed = run_cli("diff", old, new, "--allow-contract")
    assert allowed.exit_code == 0 and f"for apps: {what} " in allowed.output


def test_the_step_of_an_output_is_no_contract(build, run_cli):
    """It is another after each quantization, and stands in the files."""
    old, new = build("old"), build("new", lambda c: c.update(output_scale=0.2))
    assert run_cli("diff", old, new).exit_code == 0


def test_an_artifact_that_is_gone_breaks_apps_and_a_new_one_does_not(build, run_cli):
    old = build("old")
    new = build("new", lambda c: c["artifacts"].pop())
    assert "android/onnx int8 is gone" in crossed(run_cli("diff", old, new))
    result = run_cli("diff", new, old)
    assert result.exit_code == 0 and "android/onnx int8 is new" in result.output


def test_what_was_verified_and_is_failed_crosses(build, run_cli):
    old, new = build("old"), build("new", lambda c: c["artifacts"][0].update(parity="failed"))
    assert "android/litert fp32 is marked as failed" in crossed(run_cli("diff", old, new))
    assert run_cli("diff", new, new).exit_code == 0


def test_operators_and_versions_are_told(build, run_cli):
    def edit(content):
        content["artifacts"][0]["operators"] = {"CONV_2D": 2, "PAD": 1}
        content["versions"] = {"onnx": "2"}

    output = run_cli("diff", build("old"), build("new", edit)).output
    assert "operator CONV_2D" in output and "operator PAD" in output and "onnx 1 → 2" in output


def test_a_score_that_is_lost_is_no_score_that_holds(build, run_cli):
    def edit(content):
        for entry in content["artifacts"]:
            entry["accuracy"] = "nan"

    old, new = build("old"), build("new", edit)
    assert "accuracy is not known of both" in crossed(run_cli("diff", old, new, "--max-score-drop", "1%"))
    unknown = build("other", edit)
    assert run_cli("diff", new, unknown, "--max-score-drop", "1%").exit_code == 0
    assert "not known" in crossed(run_cli("diff", new, unknown, "--max-score-drop", "1%", "--require", "shown"))


def test_markdown_is_a_table_whatever_names_say(build, run_cli):
    new = build("new", lambda c: c["versions"].update({"a|b<img src=x>@someone": "`1`"}))
    result = run_cli("diff", build("old"), new, "--markdown", "--max-size-growth", "5%")
    lines = result.output.splitlines()
    assert lines[0] == "### twinkeel: ✓ within what is allowed"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 and {line.count("|") for line in table} == {9}
    assert "<img" not in result.output and "@someone" not in result.output


def test_damaged_and_unsigned_folders_give_the_errors_of_verify(build, run_cli, tmp_path):
    old, new = build("old"), build("new")
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", tmp_path / "pub.pem"], check=True)
    assert isinstance(run_cli("diff", old, new, "--key", tmp_path / "pub.pem").exception, SignatureError)
    for folder in (old, new):
        assert run_cli("sign", folder, "--key", key).exit_code == 0
    assert run_cli("diff", old, new, "--key", tmp_path / "pub.pem").exit_code == 0
    (new / "onnx-int8.bin").write_bytes(b"changed")
    for pair in ((old, new), (new, old)):
        assert str(run_cli("diff", *pair).exception) == str(run_cli("verify", new).exception)
    assert isinstance(run_cli("diff", old, tmp_path / "nothing").exception, VerifyError)


def test_folders_of_both_platforms_and_one_of_them(build, run_cli, tmp_path):
    old, new = build("old"), build("new")
    assert run_cli("diff", old.parent, new.parent).exit_code == 0
    assert run_cli("diff", old.parent, new).exit_code == 0
    copy = shutil.copytree(new, tmp_path / "called otherwise")
    assert run_cli("diff", old, copy).exit_code == 0
    ios = shutil.copytree(new, tmp_path / "ios" / "ios")
    content = json.loads((ios / manifest.MANIFEST).read_text())
    for entry in content["artifacts"]:
        entry["target"] = entry["target"].replace("android", "ios")
    manifest.write(content, ios / manifest.MANIFEST)
    assert "nothing to compare" in str(run_cli("diff", old, ios).exception)


@pytest.mark.parametrize("given", ["-1%", "nan", "inf", "five", "2000%"])
def test_shares_are_shares(given, build, run_cli):
    one = build("old")
    assert run_cli("diff", one, one, f"--max-size-growth={given}").exit_code == 2


def test_ratios_have_the_interval_of_the_sign_test():
    draw, inside = np.random.default_rng(0), 0
    for _ in range(400):
        taken = np.exp(draw.normal(0, 0.1, (timing.LOADS, 2))) * [1.0, 1.2]
        found = timing.of(taken)
        inside += found.low <= 1.2 <= found.high
        assert found.low <= found.ratio <= found.high
    assert inside >= 0.95 * 400


@pytest.mark.parametrize(
    ("taken", "verdict"),
    [((1.0, 1.5, 1.4, 1.6), "missed"), ((1.0, 1.2, 1.1, 1.3), "open"), ((1.0, 1.0, 0.9, 1.1), "holds")],
)
def test_latency_is_judged_with_its_interval(taken, verdict, build):
    old, new = (diff.read([build(name)]) for name in ("old", "new"))
    old_ms, ratio, low, high = taken
    timed = timing.Timing(old_ms=old_ms, new_ms=ratio * old_ms, ratio=ratio, low=low, high=high)
    found = diff.compare(old, new, diff.Allowed(latency_growth=0.2), {"android/litert fp32": timed})
    first, second = (
        next(c for c in artifact.changes if c.what == "latency") for artifact in found.platforms[0].artifacts
    )
    assert first.verdict == verdict and bool(found.crossed) == (verdict == "missed")
    assert second.verdict == "open"  # no runtime took it


INSTALLED = {"numpy", "click", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "rich", "lazy_loader",
             "packaging", "scipy", "_cyutility", "pygments", "markdown_it", "mdurl", "_distutils_hack", "charset_normalizer", "twinkeel"}  # fmt: skip
"""What `docs/ci.md` installs for it, and what that brings, or takes where it is there."""


def test_no_torch_and_no_runtime_is_imported(build):
    code = (
        "import sys, sysconfig; from twinkeel.pipeline.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end\n"
        "place = sysconfig.get_path('purelib')\n"
        "files = {n.split('.')[0]: getattr(m, '__file__', None) or '' for n, m in list(sys.modules.items())}\n"
        "print(*sorted(name for name, file in files.items() if file.startswith(place)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "diff", str(build("old")), str(build("new", right=940))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = set(done.stderr.split())
    assert {"numpy", "scipy"} <= found <= INSTALLED, found - INSTALLED


@pytest.mark.parametrize(("idle", "verdict"), [(0, "holds"), (60, "missed")], ids=["as fast", "slower"])
def test_artifacts_that_differ_are_timed_here(idle, verdict, tmp_path, finish, run_cli):
    """By onnxruntime: of the old and the new network one output differs, and the new one has sixty steps more."""
    places = []
    for name, steps in (("old", 0), ("new", idle)):
        folder = tmp_path / name / "android"
        folder.mkdir(parents=True)
        weights = np.ones((8 * 8 * 4, 10), np.float32)
        weights[0, 0] = steps + len(name + "x" * (name == "new"))
        (folder / "net.onnx").write_bytes(linear(weights, steps))
        artifacts = [("android/onnx", "onnxruntime", "fp32", folder / "net.onnx", "fp32", "runtime")]
        finish(folder, artifacts, {"fp32": LOGITS, "int8": LOGITS}, NAMES, IMAGES[:, :8, :8])
        places.append(folder)
    result = run_cli("diff", *places, "--max-latency-growth", "300%", "--json")
    (found,) = json.loads(result.stdout)["platforms"][0]["artifacts"]
    (change,) = [one for one in found["changes"] if one["what"] == "latency"]
    assert change["verdict"] == verdict and 0 < change["low"] + 1 <= change["by"] + 1 <= change["high"] + 1
    if verdict == "missed":
        assert "android/onnx fp32: latency grows by" in crossed(result)
    same = json.loads(run_cli("diff", places[0], places[0], "--latency", "--json").stdout)
    assert not [one for one in same["platforms"][0]["artifacts"][0]["changes"] if one["what"] == "latency"]
