"""What devices say of the golden inputs: Core ML on a Mac, all but its own predict call, and results of phones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Limit
from twinkeel.pipeline.delivery import device, evidence, manifest
from twinkeel.pipeline.errors import DeviceError, ParityError, VerifyError
from twinkeel.pipeline.files import write_json
from twinkeel.pipeline.parity import accelerators, verdict
from twinkeel.targets.runtimes import coreml

CORPUS = Path(__file__).parents[1] / "corpus"
CORE_ML = ("fp32", "fp16", "int8", "w8", "w4")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 4), np.uint8)
IMAGES[..., 3] = 255
LOGITS = np.random.default_rng(1).normal(size=(3, 10)).astype(np.float32)
INT8 = (np.round(LOGITS / 0.1) * 0.1).astype(np.float32)
NAMES = ("one", "two", "three")

STAND_IN = '''
"""Looks like coremltools on a Mac. A file in the package says what to answer, by an image's first pixel."""
import enum, json, pathlib, sys
import numpy

class ComputeUnit(enum.Enum):
    CPU_ONLY = 1
    CPU_AND_GPU = 2
    CPU_AND_NE = 3
    ALL = 4

class Feature:
    def __init__(self, name, is_image):
        self.name, self.type, self.is_image = name, self, is_image
    def HasField(self, name):
        return name == ("imageType" if self.is_image else "multiArrayType")

class MLModel:
    def __init__(self, path, compute_units):
        self.path, self.told = path, json.loads((pathlib.Path(path) / "told.json").read_text())
        if "refuses" in self.told:
            raise RuntimeError(self.told["refuses"])
        self.factor = self.told["factors"][compute_units.name]
        self.description = self
        self.input = [Feature("x", self.told["is_image"])]
        self.output = [Feature("logits" if self.told["is_image"] else "y", False)]
    def get_spec(self):
        return self
    def get_compiled_model_path(self):
        return self.path
    def predict(self, given):
        pixels = numpy.asarray(given["x"])
        assert pixels.shape == ((4, 4, 3) if self.told["is_image"] else (1, 4, 4, 4)), pixels.shape
        pixel = pixels.reshape(-1, pixels.shape[-1])[0, :3].astype(int).tolist()
        return {self.output[0].name: numpy.array([self.told["logits"][str(pixel)]]) * self.factor}

class models:
    MLModel = MLModel

class MLCPUComputeDevice: pass
class MLGPUComputeDevice: pass
class MLNeuralEngineComputeDevice: pass

class Named:
    def __init__(self, **values):
        self.__dict__.update(values)

class MLComputePlan:
    """A constant, two operations, and one in a block inside another."""
    @classmethod
    def load_from_path(cls, path, compute_units):
        told = json.loads((pathlib.Path(path) / "told.json").read_text())["plans"][compute_units.name]
        if isinstance(told, str):
            raise ValueError(told)
        plan = cls()
        made = [Named(operator_name="ios17.conv", outputs=[Named(name=f"x{n}")], blocks=[], device=device) for n, device in enumerate(told)]
        made[0].blocks = [Named(operations=made[-1:])]
        constant = Named(operator_name="const", outputs=[], blocks=[], device=None)
        main = Named(block=Named(operations=[constant, *made[:-1]]))
        plan.model_structure = Named(program=Named(functions={"main": main}))
        return plan
    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        kinds = {"CPU": MLCPUComputeDevice, "GPU": MLGPUComputeDevice, "NPU": MLNeuralEngineComputeDevice}
        return None if operation.device is None else Named(preferred_compute_device=kinds[operation.device]())

sys.modules["coremltools.models"] = Named(MLModel=MLModel)
sys.modules["coremltools.models.compute_plan"] = Named(MLComputePlan=MLComputePlan)
'''
FACTORS = {"CPU_ONLY": 1, "CPU_AND_GPU": 1 + 2**-10, "CPU_AND_NE": 1 - 2**-10, "ALL": 1 - 2**-10}
PLANS = {
    "CPU_ONLY": ["CPU"] * 3,
    "CPU_AND_GPU": ["GPU", "GPU", "CPU"],
    "CPU_AND_NE": ["NPU", "CPU", "NPU"],
    "ALL": ["NPU", "NPU", "CPU"],
}
"""Of each operation what Core ML prefers for it, by the units that it may choose from."""
A_MAC = """
import platform
platform.system = lambda: "Darwin"
platform.machine = lambda: "arm64"
"""


@pytest.fixture
def make_ios(tmp_path, finish):
    """A finished folder of Core ML packages, which tell the stand-in what to answer."""

    def make(apart=(), **told):
        folder = tmp_path / "ios"
        by_pixel = {str(image[0, 0, :3].tolist()): row.tolist() for image, row in zip(IMAGES, LOGITS, strict=True)}
        content = {"logits": by_pixel, "is_image": True, "factors": FACTORS, "plans": PLANS, **told}
        artifacts = []
        for precision in CORE_ML:
            path = folder / "coreml" / f"toy-{precision}.mlpackage"
            path.mkdir(parents=True)
            (path / "told.json").write_text(json.dumps(content | {"of": precision} | dict(apart).get(precision, {})))
            artifacts.append(("ios/coreml", "coreml", precision, path, "fp32", "reference executor"))
        return finish(folder, artifacts, {"fp32": LOGITS, "int8": INT8}, NAMES, IMAGES)

    return make


@pytest.fixture
def on_a_mac(tmp_path, monkeypatch):
    """Pythons that are started find a Mac with coremltools."""
    (tmp_path / "mac").mkdir()
    (tmp_path / "mac" / "coremltools.py").write_text(STAND_IN)
    (tmp_path / "mac" / "sitecustomize.py").write_text(A_MAC)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'mac'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def content(folder, name=manifest.MANIFEST):
    return json.loads((folder / name).read_text())


def test_on_linux_core_ml_is_named_and_left_out(make_ios, run_cli):
    folder = make_ios()
    before = manifest.hash_files(folder)
    result = run_cli("replay", folder)
    assert isinstance(result.exception, DeviceError), repr(result.exception)
    assert "no runtime is installed" in str(result.exception) and "macOS alone has it" in str(result.exception)
    assert manifest.hash_files(folder) == before


@pytest.mark.parametrize("is_image", [True, False], ids=["image", "array"])
def test_every_core_ml_artifact_is_replayed_on_each_unit_and_recorded(make_ios, run_cli, on_a_mac, is_image):
    folder = make_ios(is_image=is_image)
    result = run_cli("replay", folder)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    manifest.verify(folder)
    for name in (manifest.PARITY, manifest.MANIFEST):
        entries = content(folder, name)["artifacts"]
        assert [entry["precision"] for entry in entries] == list(CORE_ML)
        for entry in entries:
            assert entry["evidence"] == "device"
            built, *replayed = entry["runs"]
            assert built["by"] == "build" and built["evidence"] == "reference executor"
            assert [run["units"] for run in replayed] == list(coreml.UNITS)
            assert [run["accelerator"]["plan"] for run in replayed] == [
                {"CPU": 3},
                {"CPU": 1, "GPU": 2},
                {"CPU": 1, "NPU": 2},
                {"CPU": 1, "NPU": 2},
            ]
            assert replayed[2]["accelerator"]["operations"] == {
                "CPU": ["ios17.conv x1"],
                "NPU": ["ios17.conv x0", "ios17.conv x2"],
            }
            assert all(run["machine"]["architecture"] == "arm64" and run["evidence"] == "device" for run in replayed)
            assert all(check["is_met"] for run in replayed for check in run["checks"])
    assert content(folder)["is_verified"] is True
    assert not list(folder.glob(".*"))


def test_a_unit_that_computes_something_else_fails_and_is_recorded_as_failed(make_ios, run_cli, on_a_mac):
    folder = make_ios(factors={**FACTORS, "ALL": 1.1})
    result = run_cli("replay", folder)
    assert isinstance(result.exception, ParityError), repr(result.exception)
    failed = [line for line in result.output.splitlines() if line.startswith("FAILED")]
    assert {line.split(",")[0] for line in failed} == {f"FAILED ios/coreml {precision}" for precision in CORE_ML}
    assert all(" ALL on CPU and NPU: replay: " in line for line in failed), failed
    assert content(folder)["is_verified"] is False
    assert {entry["parity"] for entry in content(folder)["artifacts"]} == {"failed"}
    manifest.verify(folder)


def test_a_predict_call_that_raises_is_a_failed_check_with_its_message(make_ios, run_cli, on_a_mac):
    result = run_cli("replay", make_ios(refuses="Error compiling model: specification version 9 is not supported"))
    assert isinstance(result.exception, ParityError)
    assert result.output.count("specification version 9") == len(coreml.UNITS) * len(CORE_ML), result.output


def test_the_payload_of_a_program_is_replayed_in_its_place(make_ios, run_cli, on_a_mac, monkeypatch):
    """And one that cannot be unpacked here is named, and is no failure."""
    folder = make_ios(is_image=False)

    def payload(path, work):
        if "w4" in path.name:
            raise ImportError("No module named 'executorch'")
        return shutil.copytree(path, work / "model.mlpackage")

    target = SimpleNamespace(NAME="ios/coreml", RUNTIME=coreml, payload=payload)
    monkeypatch.setattr(common, "targets", lambda: {"ios/coreml": target})
    result = run_cli("replay", folder)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "skipped ios/coreml w4: ImportError: No module named 'executorch'" in result.output
    assert [len(entry["runs"]) for entry in content(folder)["artifacts"]] == [5, 5, 5, 5, 1]


def test_every_core_ml_precision_has_a_device_limit():
    for target in common.targets().values():
        if target.KERNELS == "coreml":
            for unit in ("CPU", "GPU", "NPU"):
                assert set(target.PRECISIONS) <= set(accelerators.DEVICE_LIMITS["coreml", unit])


def test_every_target_says_which_runtime_replays_it():
    for target in common.targets().values():
        assert target.RUNTIME.UNITS and target.RUNTIME.EVIDENCE in ("runtime", "device"), target.NAME
        assert set(target.RUNTIME.PACKAGES) - {"torch"} <= {*target.PACKAGES}, target.NAME
    assert set(coreml.UNITS) <= set(parity.ASKED)


# ---- results of phones


@pytest.fixture
def android(tmp_path, finish):
    folder = tmp_path / "android"
    (folder / "litert").mkdir(parents=True)
    (folder / "litert" / "toy-int8.tflite").write_bytes(b"a model")
    artifacts = [("android/litert", "xnnpack", "int8", folder / "litert" / "toy-int8.tflite", "int8", "runtime")]
    return finish(folder, artifacts, {"fp32": LOGITS, "int8": INT8}, NAMES, IMAGES)


def results_of(folder, units=("CPU",)):
    """What a kit's test on a device would write."""
    entry = content(folder)["artifacts"][0]
    logits = {name: row.tolist() for name, row in zip(NAMES, INT8, strict=True)}
    return {
        "schema_version": 1,
        "target": entry["target"],
        "precision": entry["precision"],
        "artifact_sha256": entry["sha256"],
        "device": {"system": "Android 15", "machine": "Google Pixel 9"},
        "runs": [{"units": unit, "logits": dict(logits)} for unit in units],
    }


def as_now(given, **changes):
    """Results of version 1 as kits write them today, with changes to each run."""
    runs = []
    for run in given["runs"]:
        (unit, outputs) = run["units"], run["logits"]
        told = {"asked": unit, "ran": [unit], "fell_back": False, "reason": "", "plan": {}, "outputs": outputs}
        runs.append(told | {"ms": {"median": 2.5, "p90": 3.0, "runs": 50}} | changes)
    return {**given, "schema_version": 2, "runs": runs}


def take_in(run_cli, folder, given):
    file = folder.parent / "results.json"
    file.write_text(given if isinstance(given, str) else json.dumps(given))
    return run_cli("parity", folder, "--device-results", file)


def test_results_of_a_device_become_evidence(android, run_cli):
    result = take_in(run_cli, android, results_of(android))
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "ok     android/litert int8 CPU: device: equal_logits is 1" in result.output
    manifest.verify(android)
    for name in (manifest.PARITY, manifest.MANIFEST):
        (entry,) = content(android, name)["artifacts"]
        built, row = entry["runs"]
        assert entry["evidence"] == "device" and built["by"] == "build" and row["by"] == "kit"
        assert evidence.short(row) == "device Google Pixel 9, Android 15"
        assert [check["metric"] for check in row["checks"]] == ["equal_logits", "max_steps", "snr_loss_db"]
    assert content(android)["is_verified"] is True


@pytest.fixture
def both(tmp_path, finish):
    """A folder of a Core AI and a Core ML package of float16, whose references differ."""
    folder, artifacts = tmp_path / "ios", []
    for name, suffix, reference, kind in (
        ("coreai", "aimodel", "fp16-coreai", "runtime"),
        ("coreml", "mlpackage", "fp16-all", "reference executor"),
    ):
        path = folder / name / f"toy-fp16.{suffix}"
        path.mkdir(parents=True)
        (path / "model").write_text(name)
        artifacts.append((f"ios/{name}", name, "fp16", path, reference, kind))
    expected = {"fp32": LOGITS, "int8": INT8, "fp16-coreai": LOGITS, "fp16-all": 2 * LOGITS}
    return finish(folder, artifacts, expected, NAMES, IMAGES)


def from_apple(folder, target, factor, **changes):
    """Results of one of Apple's runtimes, all units, which computed `factor` times the float logits."""
    entry = device.entry_of(content(folder), (target, "fp16"))
    rows = {name: (factor * row).tolist() for name, row in zip(NAMES, LOGITS, strict=True)}
    ran = {"CPU_ONLY": ["CPU"], "CPU_AND_GPU": None, "CPU_AND_NE": None, "ALL": None}
    runs = [
        {"asked": asked, "ran": units, "reason": "it does not tell", "outputs": rows | changes.get("outputs", {})}
        for asked, units in (changes.get("ran") or ran).items()
    ]
    told = {"schema_version": 2, "target": target, "precision": "fp16", "artifact_sha256": entry["sha256"]}
    for number, run in enumerate(runs):  # no two units round alike
        run["outputs"] = {
            name: [value * (1 + number * 2**-16) for value in row] for name, row in run["outputs"].items()
        }
    return told | {"device": {"system": "iOS 27.0", "machine": "iPhone19,1"}, "runs": runs}


def test_core_ai_and_core_ml_are_judged_apart(both, run_cli):
    """45 dB are enough for float16 of a device, and either is held to its own reference."""
    noisy = 1 + 10 ** (-45 / 20)
    for target, factor in (("ios/coreai", noisy), ("ios/coreml", 2 * noisy)):
        result = take_in(run_cli, both, from_apple(both, target, factor))
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    entries = content(both)["artifacts"]
    assert [len(entry["runs"]) for entry in entries] == [5, 5] and content(both)["is_verified"] is True
    assert {entry["evidence"] for entry in entries} == {"device"}
    # Core ML's answers are none of Core AI's
    result = take_in(run_cli, both, from_apple(both, "ios/coreai", 2 * noisy))
    assert result.exit_code != 0
    assert [entry["parity"] for entry in content(both)["artifacts"]] == ["failed", "verified"]


def test_core_ai_of_the_system_has_limits_of_its_own_and_a_replay_those_of_the_manifest(both):
    entry = device.entry_of(content(both), ("ios/coreai", "fp16"))
    in_kit, replayed = device.limits(entry, in_kit=True), device.limits(entry)
    assert [limit.metric for limit in in_kit] == ["snr_db"] and in_kit != replayed
    assert {limit.metric for limit in replayed} <= {check["metric"] for check in entry["checks"]}
    for target in common.targets().values():
        kernels = parity.SYSTEMS.get(target.KERNELS)
        for unit in ("CPU", "GPU", "NPU") if kernels else ():
            assert set(target.PRECISIONS) <= set(accelerators.DEVICE_LIMITS[kernels, unit])


def test_core_ai_is_asked_for_units_and_not_for_an_accelerator(both, run_cli):
    result = take_in(run_cli, both, from_apple(both, "ios/coreai", 1, ran={"CPU": ["CPU"]}))
    assert isinstance(result.exception, VerifyError)
    assert "no accelerator of ios/coreai is called 'CPU'; CPU_ONLY, CPU_AND_GPU" in str(result.exception)


@pytest.mark.parametrize("is_spoilt", [False, True], ids=["right", "wrong"])
def test_new_evidence_closes_no_open_verdict(android, run_cli, is_spoilt):
    """Nor does an artifact beside it that stays open make the folder a failed one."""
    limit = parity.Limit(metric="accuracy_drop", sense="<=", value=0.005, reason="half a point", needs_all=True)
    counted = verdict.drop_of(359, kept=350, lost=2, won=0)
    (check,) = map(manifest.described, parity.judge("lower", [limit], {"accuracy_drop": counted}))
    listed = content(android)
    (entry,) = listed["artifacts"]
    entry |= {"checks": [*entry["checks"], check], "parity": "open"}
    other = entry | {"target": "android/executorch", "runs": []}
    write_json({"artifacts": [entry, other]}, android / manifest.PARITY)
    manifest.write(
        listed | {"artifacts": [entry, other], "files": manifest.hash_files(android)}, android / manifest.MANIFEST
    )
    given = results_of(android)
    given["runs"][0]["logits"]["one"] = [0.0] * 10 if is_spoilt else given["runs"][0]["logits"]["one"]
    assert (take_in(run_cli, android, given).exit_code == 0) is not is_spoilt
    for name in (manifest.PARITY, manifest.MANIFEST):
        states = [entry["parity"] for entry in content(android, name)["artifacts"]]
        assert states == ["failed" if is_spoilt else "open", "open"], name
    assert content(android)["is_verified"] is not is_spoilt


def counted(lost):
    """A check of the quantize leg as a manifest holds it: 2 lost are open, 60 are missed."""
    limit = parity.Limit(metric="accuracy_drop", sense="<=", value=0.005, reason="half a point", needs_all=True)
    return manifest.described(parity.judge("quantize", [limit], {"accuracy_drop": verdict.drop_of(359, kept=0, lost=lost, won=0)})[0])  # fmt: skip


@pytest.mark.parametrize(("lost", "state"), [(2, "open"), (60, "failed")])
def test_an_int8_artifact_is_no_better_than_what_it_was_lowered_from(android, run_cli, lost, state):
    listed = content(android) | {"program_checks": [counted(lost)]}
    assert manifest.checks_before(listed, "int8") and not manifest.checks_before(listed, "fp32")
    manifest.write(listed, android / manifest.MANIFEST)
    done = take_in(run_cli, android, results_of(android))
    assert (
        content(android)["artifacts"][0]["parity"]
        == content(android, manifest.PARITY)["artifacts"][0]["parity"]
        == state
    )
    assert content(android)["is_verified"] is content(android, manifest.PARITY)["is_verified"] is (lost < 60)
    assert (done.exit_code == 0) is (lost < 60), done.output
    assert f"build  int8 reference: accuracy_drop <= 0.005 {'open' if lost < 60 else 'missed'}" in done.output


def test_a_folder_that_is_marked_as_failed_passes_no_command(android, run_cli):
    given = results_of(android)
    right = given["runs"][0]["logits"]["one"]
    given["runs"][0]["logits"]["one"] = [0.0] * 10
    assert isinstance(take_in(run_cli, android, given).exception, ParityError)
    other = results_of(android)
    other["device"]["machine"] = "another"
    told = str(take_in(run_cli, android, other).exception)
    assert "is marked as failed" in told and "android/litert" in told and "device" in told, told
    given["runs"][0]["logits"]["one"] = right
    assert take_in(run_cli, android, given).exit_code == 0


def test_results_of_the_same_device_take_the_place_of_earlier_ones(android, run_cli):
    for _ in range(2):
        assert take_in(run_cli, android, results_of(android)).exit_code == 0
    given = results_of(android)
    given["device"]["machine"] = "Another phone"
    assert take_in(run_cli, android, given).exit_code == 0
    runs = content(android)["artifacts"][0]["runs"]
    assert [run["machine"].get("processor") for run in runs[1:]] == ["Google Pixel 9", "Another phone"]


def test_core_ml_on_a_device_is_judged_on_each_unit(make_ios, run_cli):
    folder = make_ios()
    given = results_of(folder, ("CPU_ONLY", "ALL"))
    for run in given["runs"]:
        run["logits"] = {name: row.tolist() for name, row in zip(NAMES, LOGITS, strict=True)}
    result = take_in(run_cli, folder, given)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert [line.split(": device")[0] for line in result.output.splitlines()] == [
        "ok     ios/coreml fp32 CPU_ONLY",
        "ok     ios/coreml fp32 ALL",
    ]


@pytest.mark.parametrize("spoil", ["one logit", "not finite"])
def test_a_device_that_computes_something_else_fails_the_folder(android, run_cli, spoil):
    given = results_of(android)
    first = given["runs"][0]["logits"]["one"]
    first[0] = None if spoil == "not finite" else first[0] + 1
    result = take_in(run_cli, android, given)
    assert result.exit_code != 0 and "FAILED android/litert int8 CPU: device: max_steps" in result.output
    assert content(android)["is_verified"] is False
    manifest.verify(android)


# ---- accelerators


@pytest.fixture
def half(tmp_path, finish):
    """A folder with an artifact of float16 weights, and one in int8."""
    folder = tmp_path / "android"
    (folder / "litert").mkdir(parents=True)
    artifacts = []
    for precision, reference in (("fp16", "fp32"), ("int8", "int8")):
        path = folder / "litert" / f"toy-{precision}.tflite"
        path.write_bytes(precision.encode())
        artifacts.append(("android/litert", "xnnpack", precision, path, reference, "runtime"))
    return finish(folder, artifacts, {"fp32": LOGITS, "int8": INT8}, NAMES, IMAGES)


NEAR = LOGITS * (1 + 1e-3 * np.random.default_rng(2).normal(size=LOGITS.shape)).astype(np.float32)
"""As float16 would have them: 60 dB."""
OVERFLOWN = np.where(np.abs(NEAR) > 1.5, np.inf, NEAR)


def on_units(folder, number, *runs):
    """Results of an artifact: of each run what was asked for, what ran, the outputs and more."""
    entry = content(folder)["artifacts"][number]
    given = results_of(folder)
    given |= {"schema_version": 2, "precision": entry["precision"], "artifact_sha256": entry["sha256"], "runs": []}
    for asked, ran, values, more in runs:
        rows = zip(NAMES, () if values is None else values, strict=values is not None)
        outputs = {name: [float(v) if np.isfinite(v) else None for v in row] for name, row in rows}
        ms = None if values is None else {"median": 2.5, "p90": 3.0, "runs": 50}
        given["runs"].append({"asked": asked, "ran": ran, "fell_back": False, "reason": "", "ms": ms, "outputs": outputs, **more})  # fmt: skip
    return given


ON_CPU = ("CPU", ["CPU"], LOGITS, {})
TOLD = {"fell_back": True, "reason": "CAST of bytes"}
JUDGED = {
    "right": (("GPU", ["GPU"], NEAR, {}), "", "GPU"),
    "the CPU ran and nothing says so": (("GPU", ["CPU"], LOGITS, {}), "silent_fallbacks", "GPU, fell back to CPU"),
    "it claims the GPU, the numbers are the CPU's": (("GPU", ["GPU"], LOGITS, {}), "silent_fallbacks", "GPU"),
    "nothing says what ran": (("NPU", None, NEAR, {}), "silent_fallbacks", "NPU, it does not say on what"),
    "a part on the CPU, untold": (("GPU", ["GPU", "CPU"], NEAR, {}), "silent_fallbacks", "GPU, in part on CPU"),
    "fell back, but why": (("GPU", ["CPU"], LOGITS, {"fell_back": True}), "silent_fallbacks", "GPU, fell back to CPU"),
    "refused, but why": (("NPU", [], None, {}), "silent_fallbacks", "NPU, refused"),
    "told": (("GPU", ["CPU"], LOGITS, TOLD), "", "GPU, fell back to CPU"),
    "a part, told": (("GPU", ["CPU", "GPU"], NEAR, TOLD), "", "GPU, in part on CPU"),
    "refused": (("NPU", [], None, {"reason": "this phone has none"}), "", "NPU, refused"),
    "another": (("GPU", ["NPU"], NEAR, {}), "wrong_units", "GPU on NPU"),
    "overflow": (("GPU", ["GPU"], OVERFLOWN, {}), "not_finite", "GPU"),
    "wrong numbers": (("GPU", ["GPU"], LOGITS + 1, {}), "snr_db", "GPU"),
    "the CPU's limits are not the GPU's": (("CPU", ["CPU"], NEAR, {}), "max_error", "CPU"),
}  # fmt: skip


@pytest.mark.parametrize("kind", JUDGED)
def test_each_accelerator_is_judged_apart(half, run_cli, kind):
    run, missed, name = JUDGED[kind]
    runs = [run] if run[0] == "CPU" else [ON_CPU, run]
    result = take_in(run_cli, half, on_units(half, 0, *runs))
    failed = [line for line in result.output.splitlines() if line.startswith("FAILED")]
    assert (result.exit_code == 0) is (missed == "") is (not failed), result.output
    assert all(line.startswith(f"FAILED android/litert fp16 {name}: device: ") for line in failed), failed
    assert not missed or any(f": {missed} is " in line for line in failed), failed
    if missed == "not_finite":
        assert "float16 ends at 65504" in result.output
    row = content(half)["artifacts"][0]["runs"][-1]
    assert row["units"] == run[0] and row["accelerator"]["ran"] == (None if run[1] is None else sorted(run[1]))
    assert evidence.short(row).endswith("15" if name == "CPU" else f" {name}")
    assert (row["accelerator"]["ms"] is None) is (run[2] is None)
    assert content(half)["is_verified"] is (missed == "")
    manifest.verify(half)


def test_an_accelerator_may_round_int8_otherwise_and_the_processor_may_not(half, run_cli):
    other = INT8 + np.where(np.arange(30).reshape(3, 10) % 15 == 0, 0.1, 0).astype(np.float32)
    assert take_in(run_cli, half, on_units(half, 1, ("GPU", ["GPU"], other, {}))).exit_code == 0
    # integers of an NPU may well be the processor's
    assert (
        take_in(run_cli, half, on_units(half, 1, ("CPU", ["CPU"], INT8, {}), ("NPU", ["NPU"], INT8, {}))).exit_code == 0
    )
    result = take_in(run_cli, half, on_units(half, 1, ("CPU", ["CPU"], other, {})))
    assert "FAILED android/litert int8 CPU: device: equal_logits" in result.output


@pytest.mark.parametrize(
    ("unit", "value", "fails"), [("GPU", 70, True), ("NPU", 70, False), ("", 70, True), ("GPU", 20, False)]
)
def test_the_configuration_limits_what_devices_compute(half, run_cli, unit, value, fails):
    listed = content(half)
    changed = Limit(leg="device", precision="fp16", unit=unit, metric="snr_db", value=value, reason="as measured")
    listed["artifacts"][0]["device_limits"] = [changed.model_dump()]
    write_json({"artifacts": listed["artifacts"]}, half / manifest.PARITY)
    manifest.write(listed | {"files": manifest.hash_files(half)}, half / manifest.MANIFEST)
    result = take_in(run_cli, half, on_units(half, 0, ON_CPU, ("GPU", ["GPU"], NEAR, {})))
    assert (
        "fp16 GPU: device: snr_db is " in result.output
        and f"allowed >= {value if unit != 'NPU' else 30}" in result.output
    )
    assert ("FAILED" in result.output) is fails, result.output
    checks = content(half)["artifacts"][0]["runs"][-1]["checks"]
    assert [check["reason"] for check in checks if check["metric"] == "snr_db"] == (
        ["as measured"] if unit != "NPU" else [parity.device_limits("xnnpack", "fp16", ("GPU",))[0].reason]
    )


def test_a_unit_of_the_other_platform_is_none(half, run_cli):
    result = take_in(run_cli, half, on_units(half, 0, ("CPU_AND_GPU", ["GPU"], NEAR, {})))
    assert "no accelerator of android/litert is called 'CPU_AND_GPU'; CPU, GPU, NPU are" in str(result.exception)


def test_what_ran_and_how_fast_is_said_in_a_line(half, run_cli):
    refused = ("NPU", [], None, {"reason": "no NPU"})
    result = take_in(run_cli, half, on_units(half, 0, ON_CPU, ("GPU", ["CPU", "GPU"], NEAR, {**TOLD, "plan": {"CPU": 1, "GPU": 65}}), refused))  # fmt: skip
    assert result.output.splitlines()[:3] == [
        "device android/litert fp16: CPU was asked for, CPU ran; median 2.5 ms, p90 3 ms of 50 runs",
        "device android/litert fp16: GPU was asked for, CPU and GPU ran: CAST of bytes; median 2.5 ms, p90 3 ms of 50 runs; "
        "operations: CPU 1, GPU 65",
        "device android/litert fp16: NPU was asked for and refused: no NPU",
    ]


def test_an_accelerator_that_was_refused_alone_is_no_evidence(half, run_cli):
    refused = on_units(half, 0, ("NPU", [], None, {"reason": "no NPU"}))
    assert take_in(run_cli, half, refused).exit_code == 0
    entry = content(half)["artifacts"][0]
    assert entry["evidence"] == "runtime" and evidence.short(entry["runs"][-1]).endswith("NPU, refused")


def test_results_of_the_first_version_are_read_as_they_were(half, run_cli):
    """A file that a kit of then wrote; its folder is not there any more, so it is put to the one of here."""
    old = json.loads((CORPUS / "device-results-1.json").read_text())
    old |= {"artifact_sha256": content(half)["artifacts"][1]["sha256"]}
    result = take_in(run_cli, half, old)
    assert result.exit_code == 0, result.output
    assert "accelerator" not in content(half)["artifacts"][1]["runs"][-1] and "silent_fallbacks" not in result.output


def test_core_mls_plan_is_held_against_what_it_computed(make_ios, run_cli, on_a_mac):
    """All on the CPU in fp32, which the plan tells; the CPU's numbers in fp16 and int8, which it does not; no plan for w8."""
    same = {**FACTORS, "CPU_AND_GPU": 1}
    apart = {
        "fp32": {"plans": {**PLANS, "CPU_AND_GPU": ["CPU"] * 3}, "factors": same},
        "fp16": {"factors": same},
        "int8": {"factors": same},
        "w8": {"plans": {**PLANS, "CPU_AND_GPU": "needs macOS 14.4"}},
    }
    folder = make_ios(apart=apart)
    result = run_cli("replay", folder)
    found = {entry["precision"]: entry for entry in content(folder)["artifacts"]}
    rows = {precision: entry["runs"][2] for precision, entry in found.items()}
    assert {row["units"] for row in rows.values()} == {"CPU_AND_GPU"}
    told = rows["fp32"]["accelerator"]
    assert (
        told["ran"] == ["CPU"]
        and told["fell_back"]
        and evidence.short(rows["fp32"]).endswith("CPU_AND_GPU, fell back to CPU")
    )
    assert isinstance(result.exception, ParityError)
    assert result.output.count("the outputs are the CPU's to the last bit: GPU computed nothing") == 1, result.output
    assert rows["w8"]["accelerator"]["ran"] is None
    assert rows["w8"]["accelerator"]["reason"] == "no compute plan: ValueError: needs macOS 14.4"
    assert [p for p, entry in found.items() if entry["parity"] == "failed"] == ["fp16"]  # integers may well be equal


def change(**changes):
    return lambda given: {**given, **changes}


def of_device(**changes):
    return lambda given: {**given, "device": {**given["device"], **changes}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: "{", "holds no device results"),
        (lambda _: "[" * 100_000, "holds no device results"),
        (lambda _: "\0", "holds no device results"),
        (change(artifact_sha256="0" * 64), "is of another android/litert int8"),
        (change(target="android/tvm"), "which this folder does not hold"),
        (change(schema_version=3), "schema version 3; 1, 2 can be read"),
        (change(schema_version=2), "a run without 'asked'"),
        (lambda c: as_now(c, asked="TPU"), "no accelerator is called 'TPU'; CPU, GPU, NPU"),
        (lambda c: as_now(c, ran=["CPU", "CPU"]), "a unit ran twice"),
        (lambda c: as_now(c, ran=["TPU"]), "runs.0.ran.0: Input should be 'CPU', 'GPU' or 'NPU'"),
        (lambda c: as_now(c, ran=[]), "nothing ran, and there are outputs or times"),
        (lambda c: as_now(c, ms={"median": -1.0, "p90": 1.0, "runs": 9}), "ms.median: Input should be greater than or equal to 0"),
        (change(verdict="verified"), "verdict: Extra inputs"),
        (of_device(machine="\x1b[2J"), "device.machine: String should match pattern"),
        (change(runs=[]), "runs: "),
        (change(runs=[{"units": "CPU", "logits": {}}]), "are not the golden ones"),
        (lambda c: {**c, "runs": c["runs"] * 2}, "two runs of CPU"),
        (lambda c: {**c, "runs": [{"units": "CPU", "logits": {k: v[:-1] for k, v in c["runs"][0]["logits"].items()}}]},
         "has 9 outputs, the model 10"),
        (lambda c: {**c, "runs": [{"units": "CPU", "logits": {k: ["1"] * 10 for k in c["runs"][0]["logits"]}}]},
         "valid number"),
    ],
)  # fmt: skip
def test_results_that_are_none_change_nothing(android, run_cli, spoil, message):
    before = manifest.hash_files(android)
    result = take_in(run_cli, android, spoil(results_of(android)))
    assert isinstance(result.exception, VerifyError) and message in str(result.exception), repr(result.exception)
    assert len(str(result.exception)) < 1000
    assert manifest.hash_files(android) == before


def test_a_missing_file_of_results_is_named(android, run_cli):
    result = run_cli("parity", android, "--device-results", android / "none.json")
    assert isinstance(result.exception, VerifyError) and "none.json" in str(result.exception)
