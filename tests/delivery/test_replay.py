"""`twinkeel replay`: other Pythons, whole, strange, dying and lying, and what is recorded of them.

Most of it runs a toy: a runtime of ten lines, sent along as the real ones are.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import device, evidence, machine, manifest, outputs, replay
from twinkeel.pipeline.errors import DeviceError, ParityError, VerifyError
from twinkeel.pipeline.parity import measuring as measure
from twinkeel.pipeline.report import terminal as report
from twinkeel.targets.android import litert

TOY = """
import os, signal, time
NAME, PACKAGES, MODULES, UNITS, EVIDENCE = "Toy", ("numpy",), ("numpy",), ("CPU",), "runtime"

def load(artifact, unit="CPU"):
    import numpy as np
    told = artifact.decode()
    if told == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if told == "dies once" and not os.path.exists(os.environ["TOY_PLACE"]):
        open(os.environ["TOY_PLACE"], "w").close()
        os._exit(9)
    if told == "hangs":
        time.sleep(1000)
    if told == "raises":
        raise ValueError("no model")
    if told == "prints":
        os.write(1, b"native code prints without an end")
    factor = np.float32(os.environ.get("TOY_FACTOR", "1"))
    return lambda pixels: pixels.reshape(1, -1)[:, :5].astype(np.float32) * factor
"""
GREETING = "echo Welcome to host; echo; printf 'no end'; echo a word >&2; "


class Targets(dict):
    """Of toys."""

    def __init__(self, *runtimes):
        super().__init__()
        for number, runtime in enumerate(runtimes):
            name = f"android/toy{number or ''}"
            self[name] = SimpleNamespace(NAME=name, RUNTIME=runtime)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Import a toy runtime with changes."""
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (tmp_path / "modules").mkdir()

    def make(name="toy_runtime", **changes):
        lines = "".join(f"{key} = {value!r}\n" for key, value in changes.items())
        (tmp_path / "modules" / f"{name}.py").write_text(TOY + lines)
        sys.modules.pop(name, None)
        return __import__(name)

    return make


@pytest.fixture
def build(tmp_path, finish):
    """A build's output folder with toys for artifacts, by their contents, which are their precisions too."""

    def make(*contents, targets=("android/toy",), classes=5):
        out, random = tmp_path / "out", np.random.default_rng(0)
        images = random.integers(0, 256, (3, 4, 4, 4), np.uint8)
        logits = images.reshape(3, -1)[:, :classes].astype(np.float32)
        for platform in ("android", "ios"):
            (out / platform / "toy").mkdir(parents=True)
            artifacts = []
            for target in targets:
                for content in contents:
                    path = out / platform / "toy" / f"{target.split('/')[1]} {content}.bin"
                    path.write_text(content)
                    artifacts.append((target.replace("android", platform), "toy", content, path, "fp32", "runtime"))
            expected = {"fp32": logits, "int8": logits}
            finish(out / platform, artifacts, expected, ("one", "two", "three"), images)
        (out / "report.html").write_text("a report")
        outputs.write_index(out, ["report.html"])
        return out

    return make


def run(folder, targets, command=None, silence=30.0, said=None):
    folders = [folder] if (folder / manifest.MANIFEST).is_file() else [folder / "android", folder / "ios"]
    return replay.replay(
        folders, targets, lambda line, *_: said.append(line) if said is not None else None, command, silence
    )


def content(folder, name=manifest.MANIFEST):
    return json.loads((folder / name).read_text())


def both(runtime):
    """Targets of both platforms with one runtime."""
    found = Targets(runtime)
    found["ios/toy"] = SimpleNamespace(NAME="ios/toy", RUNTIME=runtime)
    return found


def shell(text):
    """A command that runs a shell's text; the program comes to its standard input."""
    return shlex.join(["sh", "-c", text])


def python(text):
    """A command that runs this Python with a text, whatever is sent to it."""
    return shlex.join([sys.executable, "-c", text])


# ---- what is recorded


def test_a_row_is_added_to_both_files_of_both_folders(build, toy):
    out, said = build("fine"), []
    found = run(out, both(toy()), said=said)
    assert len(found) == 2 and all(check.is_met for _, checks in found for check in checks)
    assert [check.metric for check in found[0][1]] == ["snr_db", "max_error"]
    assert sum("android/toy fine" in line for line in said) == 1 and not any("ios/toy" in line for line in said), said
    here = machine.here()
    for platform in ("android", "ios"):
        for name in (manifest.MANIFEST, manifest.PARITY):
            (entry,) = content(out / platform, name)["artifacts"]
            # of the same machine as the build's own, so in its place
            (row,) = entry["runs"]
            assert (row["by"], row["evidence"], row["units"], row["machine"]) == ("replay", "runtime", "CPU", here)
            assert row["versions"] == {"numpy": np.__version__} and row["where"] == machine.short(here)
            assert [check["is_met"] for check in row["checks"]] == [True, True]
        assert content(out / platform)["is_verified"] is True and not list((out / platform).glob(".*"))
    assert outputs.verify(out) > 4


def test_a_row_of_another_machine_stays_and_one_of_the_same_goes(build, toy):
    out, targets = build("fine"), both(toy())
    other = evidence.row(
        evidence="device", by="kit", machine={"system": "Android 15", "processor": "A phone"}, versions={}
    )
    for _ in range(2):
        run(out, targets)
    folder = out / "android"
    changed = content(folder)
    changed["artifacts"][0]["runs"].append(other)
    manifest.write(changed, folder / manifest.MANIFEST)
    run(folder, targets)
    assert [row["by"] for row in content(folder)["artifacts"][0]["runs"]] == ["replay", "kit"]
    assert [evidence.short(row) for row in content(folder)["artifacts"][0]["runs"]][1] == "device A phone, Android 15"


def test_a_signature_goes_and_nothing_else_changes(build, toy):
    folder = build("fine") / "android"
    (folder / manifest.SIGNATURE).write_bytes(b"signed")
    before = manifest.hash_files(folder)
    run(folder, both(toy()))
    after = manifest.hash_files(folder)
    assert {name for name in before if before[name] != after.get(name)} == {manifest.PARITY}
    assert not (folder / manifest.SIGNATURE).exists()


def test_a_machine_that_computes_something_else_fails_the_folder_until_it_does_not(build, toy, run_cli, monkeypatch):
    out, targets = build("fine"), both(toy())
    monkeypatch.setattr(common, "targets", lambda: targets)
    monkeypatch.setenv("TOY_FACTOR", "1.01")
    result = run_cli("replay", out)
    assert isinstance(result.exception, ParityError) and "4 checks of" in str(result.exception)
    assert "FAILED android/toy fine, runtime" in result.output
    assert "snr_db is 40, allowed >= 90" in result.output, result.output
    made = content(out / "android")
    assert made["is_verified"] is False and made["artifacts"][0]["parity"] == "failed"
    assert not evidence.is_met(made["artifacts"][0]["runs"][0])
    outputs.verify(out)
    monkeypatch.delenv("TOY_FACTOR")
    result = run_cli("replay", out)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert content(out / "android")["is_verified"] is True and content(out / "ios")["is_verified"] is True


def test_a_replay_does_not_whitewash_what_the_build_found(build, toy):
    folder = build("fine") / "android"
    failed = content(folder)
    failed["artifacts"][0]["checks"][0]["is_met"] = False
    failed["artifacts"][0]["parity"], failed["is_verified"] = "failed", False
    manifest.write(failed, folder / manifest.MANIFEST)
    found = run(folder, both(toy()))
    assert all(check.is_met for _, checks in found for check in checks)
    assert content(folder)["is_verified"] is False and content(folder)["artifacts"][0]["parity"] == "failed"


def test_evidence_that_was_added_is_told_from_a_builds_own(build, toy):
    out = build("fine")
    assert device.added_evidence(out / "android") == {} == device.added_evidence(out / "nowhere")
    run(out / "android", both(toy()))
    assert [run["by"] for run in device.added_evidence(out / "android")["android/toy", "fine"]] == ["replay"]


# ---- runtimes and artifacts that do not do


def test_the_command_says_what_did_not_run_and_why(build, toy, run_cli, monkeypatch):
    targets = both(toy())
    monkeypatch.setattr(common, "targets", lambda: targets)
    result = run_cli("replay", build("raises") / "android")
    assert isinstance(result.exception, ParityError)
    assert ": lower: the artifact did not run: ValueError: no model" in result.output and "runs" not in result.output
    assert report._short(measure.broken("no model")) == "did not run"


def test_the_help_says_what_a_command_is_given(run_cli):
    assert "with `-` as its last argument" in " ".join(run_cli("replay", "--help").output.split())


@pytest.mark.parametrize(
    ("told", "reason"),
    [("dies", "it ends its process, twice: it was ended by SIGSEGV"), ("raises", "ValueError: no model")],
)
def test_an_artifact_that_dies_or_raises_fails_alone(build, toy, told, reason):
    out = build("fine", told, "prints")
    found = dict(run(out / "android", both(toy())))
    verdicts = {
        name.split(",")[0]: [str(check) for check in checks if not check.is_met] for name, checks in found.items()
    }
    assert verdicts.pop("android/toy fine") == [] == verdicts.pop("android/toy prints"), verdicts
    ((failed,),) = verdicts.values()
    assert failed.startswith("lower: the artifact did not run: ") and reason in failed
    assert [e["parity"] for e in content(out / "android")["artifacts"]] == ["verified", "failed", "verified"]


def test_what_dies_once_is_given_another_try(build, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_PLACE", str(tmp_path / "died"))
    said = []
    found = run(build("dies once") / "android", both(toy()), said=said)
    assert all(check.is_met for _, checks in found for check in checks) and (tmp_path / "died").exists()
    assert any("it ended with exit code 9 at android/toy dies once; started again" in line for line in said), said


def test_what_gives_no_sign_of_life_is_ended_and_nothing_recorded(build, toy):
    out = build("hangs")
    before = manifest.hash_files(out)
    with pytest.raises(DeviceError, match=r"gave no sign of life for 2 s.*--timeout"):
        run(out, both(toy()), silence=2)
    assert manifest.hash_files(out) == before


def test_a_runtime_that_is_missing_is_named_and_skipped(build, toy, run_cli, monkeypatch):
    targets = Targets(toy(), toy("toy_absent", NAME="Absent", MODULES=("no_such_module.deep",)))
    out = build("fine", targets=("android/toy", "android/toy1"))
    monkeypatch.setattr(common, "targets", lambda: targets)
    result = run_cli("replay", out / "android")
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "skipped Absent: not installed: no module 'no_such_module'" in result.output
    rows = [[row["by"] for row in entry["runs"]] for entry in content(out / "android")["artifacts"]]
    assert rows == [["replay"], ["build"]]


def test_a_runtime_that_cannot_be_imported_is_no_evidence_against_an_artifact(build, toy, tmp_path):
    (tmp_path / "modules" / "half_installed.py").write_text("raise OSError('libcuda.so: cannot open shared object')")
    broken = toy("toy_broken", NAME="Broken", MODULES=("half_installed",))
    said = []
    os_path = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}{os.pathsep}{os_path}")
        with pytest.raises(
            DeviceError, match=r"no runtime is installed.*cannot be imported: OSError: libcuda.*pip install"
        ):
            run(build("fine") / "android", both(broken), said=said)
    assert any("skipped Broken" in line for line in said)


def test_no_runtime_at_all_is_an_error_that_says_what_to_install(build, toy):
    out = build("fine")
    absent = toy("toy_absent", NAME="Absent", PACKAGES=("absent-runtime",), MODULES=("no_such_module",))
    before = manifest.hash_files(out)
    with pytest.raises(DeviceError, match=r"no runtime is installed where .* runs.*There: pip install absent-runtime"):
        run(out, both(absent))
    assert manifest.hash_files(out) == before


@pytest.fixture
def recorded(monkeypatch):
    """Let manifests say that these versions built their artifacts."""
    known = manifest.read_verified

    def pretend(**versions):
        changed = {name.replace("_", "-"): version for name, version in versions.items()}

        def read(folder):
            content, golden = known(folder)
            row = content["artifacts"][0]["runs"][0]
            if row["by"] == "build":  # a replay on the same machine takes its place
                row["versions"] = changed
            return content | {"versions": changed}, golden

        monkeypatch.setattr(manifest, "read_verified", read)

    return pretend


def test_the_version_that_built_is_what_is_to_be_installed(build, toy, recorded):
    out, said = build("fine"), []
    absent = toy("toy_absent", NAME="Absent", PACKAGES=("absent-runtime",), MODULES=("no_such_module",))
    recorded(absent_runtime="3.2.0b1+cpu")
    with pytest.raises(DeviceError, match=r"There: pip install absent-runtime==3\.2\.0b1$"):
        run(out, both(absent), said=said)
    assert any(
        line.startswith("skipped Absent: ") and line.endswith("There: pip install absent-runtime==3.2.0b1")
        for line in said
    )


def test_another_version_than_the_one_that_built_is_said(build, toy, recorded):
    out = build("fine")
    for version, expected in ((f"{np.__version__}+local", []), ("1.0.0b3", ["1.0.0b3"])):
        recorded(numpy=version)
        said = []
        run(out, both(toy()), said=said)
        found = [line for line in said if line.startswith("WARNING Toy: numpy ")]
        assert len(found) == len(expected), said
        for line in found:
            assert f"numpy {np.__version__} ran what 1.0.0b3 ran when it was built" in line
            assert line.endswith("There: pip install numpy==1.0.0b3")


def test_a_folder_with_nothing_to_replay_says_so(build):
    with pytest.raises(VerifyError, match="nothing that a runtime could replay"):
        run(build("fine"), {})


# ---- commands


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-command python3", "'no-such-command python3' cannot be started: No such file.*`-` as its last argument"),
        ("", "--python is empty"),
        ("sh 'unclosed", "is no command line"),
        (shell("echo ssh: connect to host lab port 22: Connection refused >&2; exit 255"), "exit code 255.*Connection refused.*`-` as its last"),
        (shell("exec sh -c 'kill -SEGV $$'"), "was ended by SIGSEGV"),
        (shell("cat >/dev/null"), "ended without an answer.*`-` as its last argument, and has to be a Python"),
        ("true", "ended without an answer"),
        ("ls", "exit code .*last words: .*`-` as its last argument, and has to be a Python"),
        (shell("yes"), "it prints and prints.*`-` as its last argument"),
        (shell("cat /dev/zero"), "it prints and prints"),
        (f"{sys.executable} -I -S", "cannot import numpy.*pip install numpy"),
        (python("import sys; sys.version_info = (3, 9, 2); exec(sys.stdin.read())"), "its Python is 3.9.2, and 3.10"),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_command_that_does_not_do_is_one_clear_error(build, toy, command, message):
    out = build("fine")
    before = manifest.hash_files(out)
    with pytest.raises(DeviceError, match=message) as caught:
        run(out, both(toy()), command)
    assert len(str(caught.value)) < 1500 and "\n" not in str(caught.value)
    assert manifest.hash_files(out) == before


@pytest.mark.parametrize(
    "around", ["{}", GREETING + "{}; echo bye", "{} | sed 's/$/\\r/'"], ids=["plain", "login", "tty"]
)
def test_a_shell_in_between_may_say_what_it_likes(build, toy, around):
    found = run(build("fine", "prints") / "ios", both(toy()), shell(around.format(f"{sys.executable} -")))
    assert found and all(check.is_met for _, checks in found for check in checks)


def test_a_folder_that_cannot_be_written_is_said_before_any_work(build, toy, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    out = build("fine")
    monkeypatch.setattr(replay.tempfile, "TemporaryFile", refuse)
    with pytest.raises(DeviceError, match=r"cannot be written.*Read-only file system.*twinkeel parity"):
        run(out, both(toy()), "no-such-command")


def test_a_changed_artifact_is_named_before_any_work(build, toy):
    out = build("fine")
    (out / "ios" / "toy" / "toy fine.bin").write_text("Fine")
    with pytest.raises(VerifyError, match=r"changed: toy/toy fine\.bin"):
        run(out, both(toy()), "no-such-command")


def test_a_folder_that_was_built_anew_meanwhile_is_left_alone(build, toy):
    out = build("fine")
    read = manifest.read_verified(out / "android")
    (task,) = replay._tasks({out / "android": read}, both(toy()), print)
    found = replay.Found(machine=machine.here(), outputs={(0, "CPU"): "refused"}, versions={"Toy": {}})
    read[0]["artifacts"][0]["sha256"] = "0" * 64
    with pytest.raises(VerifyError, match="was built anew meanwhile"):
        replay._judged({out / "android": read}, [task], found)


# ---- answers of a stranger

LIAR = """
import base64, io, json, re, sys, zipfile
given = sys.stdin.read()
mark = re.search(r'MARK = "(.*)"', given)[1]
archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(re.search('b64decode.("+)(.*?)"+.', given, re.S)[2])))
machine = {"system": "Linux", "architecture": "arm64", "processor": "x", "instruction_set": "NEON", "emulator": ""}
def send(kind, **rest):
    print(mark, json.dumps({"kind": kind, **rest}), flush=True)
def raw(text):
    print(mark, text, flush=True)
def hello(**rest):
    send("machine", **({"machine": machine, "boot": "", "python": "3.11"} | rest))
def imports():
    send("runtime", name="Toy")
    send("imported", name="Toy", versions={"numpy": "1"})
def begin():
    send("begin", number=0, unit="CPU")
def logits(**rest):
    send("outputs", **({"number": 0, "unit": "CPU", "shape": [3, 5], "content": "AAAA" * 20} | rest))
if not json.loads(archive.read("request.json"))["tasks"]:  # what it has, told as it is
    hello(); imports(); send("end"); sys.exit()
"""
LIES = {
    "no machine": "imports()",
    "no JSON": "raw('{')",
    "deep JSON": "raw('[' * 2000 + ']' * 2000)",
    "a key twice": 'raw(\'{"kind": "end", "kind": "end"}\')',
    "an unknown kind": "send('verdict', is_met=True)",
    "one thing more": "hello(verdict='verified')",
    "a name with an escape": "hello(machine=machine | {'processor': '\\x1b[2J'})",
    "a name without end": "hello(machine=machine | {'processor': 'x' * 5000})",
    "a machine with more": "hello(machine=machine | {'more': 'x'})",
    "a number for a name": "hello(machine=machine | {'processor': 1})",
    "another runtime": "hello(); send('runtime', name='Other')",
    "versions of others": "hello(); send('runtime', name='Toy'); send('imported', name='Toy', versions={'os': '1'})",
    "an unknown task": "hello(); imports(); send('begin', number=7, unit='CPU')",
    "an unknown unit": "hello(); imports(); send('begin', number=0, unit='GPU')",
    "a negative task": "hello(); imports(); logits(number=-1)",
    "logits of more images": "hello(); imports(); begin(); logits(shape=[4, 5])",
    "logits of too few bytes": "hello(); imports(); begin(); logits(content='AAAA')",
    "logits of too many bytes": "hello(); imports(); begin(); logits(content='AAAA' * 40)",
    "logits that are no base64": "hello(); imports(); begin(); logits(content='!' * 80)",
    "logits twice": "hello(); imports(); begin(); logits(); logits()",
    "a line without end": "hello(); print(mark, 'x' * 10_000_000)",
    "a thousand lines beside": "hello(); print('x' * 2000 + '\\n' * 2, 'y\\n' * 2_000_000)",
    "an end too early": "hello(); send('end')",
    "an end behind nothing": "hello(); imports(); begin(); send('end')",
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_none_is_one_error_and_nothing_recorded(build, toy, lie):
    out = build("fine")
    before = manifest.hash_files(out)
    with pytest.raises(DeviceError, match=r"answered what no replay answers|ended without an answer") as caught:
        run(out, both(toy()), python(LIAR + LIES[lie]), silence=10)
    print(caught.value)
    assert len(str(caught.value)) < 1500 and str(caught.value).isprintable()
    assert manifest.hash_files(out) == before


@pytest.mark.parametrize("logits", [np.nan, np.inf, 1e38])
def test_logits_that_are_no_numbers_fail(build, toy, logits):
    encoded = base64.b64encode(np.full((3, 5), logits, "<f4").tobytes()).decode()
    text = f"hello(); imports(); begin(); logits(content={encoded!r}); send('end')"
    found = run(build("fine") / "android", both(toy()), python(LIAR + text))
    assert found and not any(check.is_met for _, checks in found for check in checks), found


# ---- the runtimes themselves


@pytest.fixture(scope="session")
def small_build(make_program, shallow_model, finish, tmp_path_factory):
    """A finished folder of LiteRT's and onnxruntime's artifacts and one of ExecuTorch, of a model with random weights.

    Its BatchNorm has seen enough for logits that differ from image to image, in int8 too.
    """
    from twinkeel.pipeline.program import references
    from twinkeel.targets.android import executorch, onnx

    program = make_program(shallow_model(), 32, passes=40)
    folder, random = tmp_path_factory.mktemp("small") / "android", np.random.default_rng(1)
    images = random.integers(0, 256, (6, 32, 32, 4), np.uint8)
    images[3:] = random.integers(0, 256, (3, 1, 1, 4))  # of one colour
    images[..., 3] = 255
    wanted = [(t, p) for t in (litert, onnx) for p in ("fp32", "int8")] + [(executorch, "fp32")]
    keys = sorted({target.REFERENCES[precision] for target, precision in wanted} | {"fp32", "int8"})
    expected = {key: references.run(program, key, images, range(len(images)))[0] for key in keys}
    artifacts = []
    for target, precision in wanted:
        path = folder / target.NAME.split("/")[1] / f"small-{precision}{target.SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        target.build(program, precision, path)
        artifacts.append((target.NAME, target.KERNELS, precision, path, target.REFERENCES[precision], target.EVIDENCE))
    assert len(np.unique(expected["int8-xnnpack"], axis=0)) == len(images)
    names = tuple(f"image-{n}" for n in range(len(images)))
    return finish(folder, artifacts, expected, names, images, program.outputs[0].scale)


@pytest.fixture
def folder(small_build, tmp_path):
    return shutil.copytree(small_build, tmp_path / "android")


@pytest.fixture
def arm64():
    """Command of an arm64 Python with the runtimes; without one the test is skipped, and fails where it must be there."""
    return needed(
        "TWINKEEL_ARM64_PYTHON", "an arm64 Python with numpy, ai-edge-litert and onnxruntime, qemu's for example"
    )


def needed(variable, what):
    if found := os.environ.get(variable):
        return shlex.quote(found)
    return (pytest.fail if os.environ.get("CI") else pytest.skip)(f"set {variable} to {what}")


def values(found):
    """Metrics by artifact."""
    return {name.split(",")[0]: {c.metric: c.measured for c in checks} for name, checks in found}


def test_all_runtimes_that_are_installed_here(folder):
    found = values(run(folder, common.targets()))
    assert len(found) == 5
    assert found["android/litert int8"]["equal_logits"] >= 0.999, found
    assert all(found[f"android/{name} fp32"]["snr_db"] >= 90 for name in ("litert", "onnx", "executorch")), found
    versions = [entry["runs"][0]["versions"] for entry in content(folder)["artifacts"]]
    assert [sorted(v) for v in versions] == [["ai-edge-litert"]] * 2 + [["onnxruntime"]] * 2 + [["executorch", "torch"]]


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchao", "executorch", "coremltools", "litert_torch", "ai_edge_quantizer",
                                  "onnx", "onnxscript", "sklearn", "scipy", "PIL", "matplotlib", "fsspec", "psutil",
                                  "jinja2", "cryptography", "cyclonedx", "platformdirs", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_numpy_pydantic_click_and_rich_are_all_that_is_needed_beside_a_runtime(folder, tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKED)
    path = f"{tmp_path / 'blocked'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()", "replay", str(folder)],
        env={**os.environ, "PYTHONPATH": path, "TWINKEEL_STORE": str(tmp_path / "no store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped ExecuTorch: not installed" in done.stderr, done.stderr
    by = [entry["runs"][0]["by"] for entry in content(folder)["artifacts"]]
    assert by == ["replay"] * 4 + ["build"] and not (tmp_path / "no store").exists()


@pytest.mark.parametrize("processor", ["cortex-a53", "max"])
def test_arm64_under_qemu(folder, arm64, monkeypatch, processor):
    """LiteRT's int8 is XNNPACK's to the bit on every instruction set; onnxruntime's is held to its limits alone."""
    monkeypatch.setenv("CPU", processor)
    targets, said = common.targets(), []
    if processor == "max":  # for time; what is known of another processor holds for this one as well
        targets = {"android/litert": targets["android/litert"]}
    found = values(run(folder, targets, arm64, said=said))
    print(processor, json.dumps(found, indent=1), *said, sep="\n")
    assert found["android/litert int8"]["equal_logits"] == 1
    assert all(metrics["snr_db"] >= 90 for name, metrics in found.items() if name.endswith("fp32")), found
    if processor != "max":
        assert {"android/onnx fp32", "android/onnx int8"} <= found.keys()
        assert any(
            line.startswith("skipped ExecuTorch: not installed: no module 'torch'. There: pip install executorch")
            for line in said
        )
    entry = content(folder)["artifacts"][1]
    assert entry["precision"] == "int8" and [row["by"] for row in entry["runs"]] == ["build", "replay"]
    row = entry["runs"][1]
    assert row["machine"]["architecture"] == "arm64" and row["machine"]["processor"] == processor
    assert row["machine"]["emulator"].startswith("qemu ")
    assert ("SVE" in row["machine"]["instruction_set"]) == (processor == "max")
    assert row["where"].startswith(f"arm64 ({processor}, qemu ") and row["versions"].keys() == {"ai-edge-litert"}


def test_a_weight_that_was_changed(folder, arm64, monkeypatch, run_cli):
    """As it is, its file is named; sealed again, as someone does who cheats, the replay names artifact and metric."""
    monkeypatch.setenv("CPU", "cortex-a53")
    monkeypatch.setattr(common, "targets", lambda: {"android/litert": litert})
    path = folder / "litert" / "small-int8.tflite"
    whole = path.read_bytes()
    place = first_weights(whole)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
    result = run_cli("replay", folder, "--python", arm64)
    assert isinstance(result.exception, VerifyError) and "changed: litert/small-int8.tflite" in str(result.exception)
    changed = content(folder)
    changed["artifacts"][1]["sha256"] = manifest.digest(path)
    manifest.write(changed | {"files": manifest.hash_files(folder)}, folder / manifest.MANIFEST)
    manifest.verify(folder)
    result = run_cli("replay", folder, "--python", arm64)
    assert isinstance(result.exception, ParityError), f"{result.output}\n{result.exception!r}"
    failed = [line for line in result.output.splitlines() if line.startswith("FAILED")]
    print(*failed, sep="\n")
    assert failed and all("android/litert int8, runtime arm64 (cortex-a53, qemu" in line for line in failed), failed
    assert any("equal_logits is 0." in line and "allowed >= 0.999" in line for line in failed), failed
    assert content(folder)["is_verified"] is False


def first_weights(content):
    """A place in the first layer's weights of a .tflite file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    kinds = [model.OperatorCodes(n).BuiltinCode() for n in range(model.OperatorCodesLength())]
    first = next(
        op
        for op in map(graph.Operators, range(graph.OperatorsLength()))
        if kinds[op.OpcodeIndex()] == schema.BuiltinOperator.CONV_2D
    )
    buffer = model.Buffers(graph.Tensors(first.Inputs(1)).Buffer())
    return buffer._tab.Vector(buffer._tab.Offset(4)) + 5


# ---- which machine


def test_an_emulated_processor_of_the_same_architecture_is_told_from_the_own_one():
    qemu = needed("TWINKEEL_QEMU_X86_64", "qemu's qemu-x86_64")
    if machine.here()["architecture"] != "x86-64":
        pytest.skip("x86-64 only: this Python is what is emulated")
    text = f"exec(open({machine.__file__!r}).read()); import json; print(json.dumps(here()))"
    command = [*shlex.split(qemu), "-cpu", "Haswell", sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["instruction_set"] == "AVX2" and found["processor"] == "Haswell", found
    assert machine.short(found).startswith("x86-64 (AVX2, qemu ") and machine.here()["emulator"] == ""


@pytest.mark.parametrize(
    ("file", "architecture", "expected"),
    [
        ("Features : fp asimd asimddp\nCPU part : 0xd05\nCPU part : 0xd0b\n", "aarch64", "arm64 (cortex-a55 + cortex-a76)"),
        ("Features : fp asimd\nCPU part : 0xfff\n", "aarch64", "arm64 (0xfff)"),
        ("", "aarch64", "arm64 (NEON)"),
        ("model name : VirtualApple @ 2.50GHz\nflags : sse2\n", "x86_64", "x86-64 (AVX2, Rosetta 2)"),
        ("model name : A processor\nflags : avx2 avx_vnni amx_int8\n", "x86_64", "x86-64 (AVX2, AVX-VNNI, AMX)"),
        ("", "riscv64", "riscv64"),
    ],
)  # fmt: skip
def test_what_a_machine_is_called(monkeypatch, file, architecture, expected):
    monkeypatch.setattr(machine, "_text", lambda path: file if path == "/proc/cpuinfo" else "")
    monkeypatch.setattr(machine, "_features", lambda: {"AVX2": "86" in architecture, "SSE2": "86" in architecture})
    monkeypatch.setattr(machine, "_emulator", lambda: ("", ""))
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    assert machine.short(machine.here()) == expected
