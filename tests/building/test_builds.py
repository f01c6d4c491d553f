"""Builds that are repeated, changed, killed, run side by side, or find no room."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import forked
import numpy as np
import pytest
import torch
from disturbed import TWINKEEL, ended, folders, start
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline.building.explaining import explain
from twinkeel.pipeline.building.jobs import compress as compress_step
from twinkeel.pipeline.building.jobs import data as data_step
from twinkeel.pipeline.building.jobs import lower, reference
from twinkeel.pipeline.building.jobs import program as program_step
from twinkeel.pipeline.building.jobs import weights as weights_step
from twinkeel.pipeline.building.order import checked, plan
from twinkeel.pipeline.building.site import Site
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.data import arrays, rgba
from twinkeel.pipeline.delivery import manifest, outputs
from twinkeel.pipeline.errors import ConfigError, TwinkeelError, VerifyError
from twinkeel.pipeline.report import page as html_report
from twinkeel.pipeline.store.entries import Store
from twinkeel.pipeline.store.job import Workshop

LISTED = [".gitattributes", "android", "build.json", "contact-sheet.png", "ios", "report.html"]
SMALL = """[model]
width = 0.2
[weights]
path = "w.safetensors"
[data]
calibration = 8
held_out = 0.05
[quantize]
minutes = 0
equalize = "never"
[targets]
"android/onnx" = ["fp32"]
"ios/onnx" = ["fp32"]
"""
"""A build of some seconds: given weights, few images, one artifact, shipped on both platforms."""
SMALLER = SMALL.replace("width = 0.2", 'factory = "net.py:create"').replace(
    'path = "w.safetensors"\n[data]', 'from_factory = true\n[data]\naccept_accuracy = "untrained"'
)
"""The same of two layers, for tests that make all of it again."""
NET = """
import torch
from torch import nn


def create(num_classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8192, num_classes)).eval()
"""


@pytest.fixture(scope="module")
def project(fixed_weights, tmp_path_factory):
    """A configuration, and an undisturbed build of it into ``out`` with ``store``, one job at a time, each in its process."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(fixed_weights, root / "w.safetensors")
    (root / "twinkeel.toml").write_text(SMALL)
    ended(start(root, root / "out", root / "store", "--jobs", "1"))
    assert (root / "out" / "build.json").is_file()
    return root


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    """A project of two layers, built as well."""
    root = tmp_path_factory.mktemp("smaller")
    (root / "net.py").write_text(NET)
    (root / "twinkeel.toml").write_text(SMALLER)
    ended(forked.start(root, root / "out", root / "store"))
    return root


def changed(build, **sections):
    """The configuration of a build with other sections."""
    return Config.model_validate(build.config.model_dump() | sections)


def explained(config, build, tmp_path):
    """The jobs that a build with this configuration would or might run, into the default build's folder and store."""
    return {line.name: line for line in explain_all(config, build, tmp_path) if line.why}


def explain_all(config, build, tmp_path):
    out = build.folders["android"].parent
    asked = checked(
        config, common.targets(), common.kits(), mobilenet_v2.create, common.PLATFORMS, out, html_report.render, print
    )
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return list(explain(asked, Workshop(store=build.store, scratch=Store(str(tmp_path / "scratch")))))


def test_nothing_changed_and_nothing_runs(fixed_build, tmp_path):
    assert explained(fixed_build.config, fixed_build, tmp_path) == {}


def test_a_changed_tolerance_runs_no_converter(fixed_build, tmp_path):
    limits = [{"leg": "lower", "precision": "fp32", "metric": "snr_db", "value": 95.0},
              {"leg": "fold", "metric": "snr_db", "value": 91.0}]  # fmt: skip
    found = explained(changed(fixed_build, limit=limits), fixed_build, tmp_path)
    assert set(found) == {"folder android", "folder ios", "report"}
    assert "limits changed" in found["folder android"].why and found["report"].is_open


def test_a_changed_author_runs_only_what_writes_it(fixed_build, tmp_path):
    found = explained(changed(fixed_build, project={"author": "somebody"}), fixed_build, tmp_path)
    assert {name for name in found if name.startswith("lower")} == {
        f"lower ios/coreml {precision}" for precision in ("fp32", "fp16", "int8", "w8", "w4")
    }
    assert not {name for name in found if name.split()[0] in ("data", "weights", "quantize", "reference")}
    assert "about changed" in found["lower ios/coreml fp32"].why


def test_a_changed_setting_of_the_quantization_runs_it_and_says_so(fixed_build, tmp_path):
    settings = fixed_build.config.quantize.model_dump() | {"weights": "per-tensor"}
    found = explained(changed(fixed_build, quantize=settings), fixed_build, tmp_path)
    quantize = found.pop("quantize")
    assert quantize.why == "quantization settings changed" and not quantize.is_open
    assert {line.why for line in found.values()} == {"as far as 'quantize' comes out different"}
    everything = {line.name for line in explain_all(fixed_build.config, fixed_build, tmp_path)}
    assert set(found) == everything - {"data", "weights", "original", "quantize", "compress w4", "compress w8"}


def test_weights_alone_look_at_calibration_images_where_there_is_time_for_it(fixed_build, tmp_path):
    settings = fixed_build.config.quantize.model_dump()
    some, more = (
        explained(changed(fixed_build, quantize=settings | {"minutes": n}), fixed_build, tmp_path) for n in (1, 2)
    )
    assert {some[f"compress {key}"].why for key in ("w4", "w8")} == {"calibration images changed"}
    assert some.keys() == more.keys()


def test_judging_on_fewer_images_runs_what_is_judged_and_nothing_before(fixed_build, tmp_path):
    found = explained(changed(fixed_build, parity={"images": 50}), fixed_build, tmp_path)
    kept = {"data", "weights", "original", "quantize", "compress w4", "compress w8"}
    assert not kept & set(found) and {"reference int8", "reference original"} <= set(found)
    assert not explained(changed(fixed_build, parity={"images": 5000}), fixed_build, tmp_path)  # as many are not there


def test_fewer_images_are_judged_on_with_their_truth(tmp_path):
    (tmp_path / "scratch").mkdir()
    shop = Workshop(store=None, scratch=Store(str(tmp_path / "scratch")))
    config = Config.model_validate({"parity": {"images": 30}})
    job = data_step.data_job(config)
    entry = shop.make(job, lambda folder: data_step.make_data(config, job, folder))
    held_out = data_step.part_of(shop, entry, "held-out")
    some = data_step.judged(shop, entry, 30)
    assert len(some.images) == len(some.truth) == 30 < len(held_out.images)
    chosen = np.linspace(0, len(held_out.images) - 1, 30).astype(int)
    assert np.array_equal(some.images, held_out.images[chosen]) and np.array_equal(some.truth, held_out.truth[chosen])
    site = Site.of(config, mobilenet_v2.create, shop).knowing({"data": entry}, judged=30)
    images, golden = data_step.all_images(site)
    assert len(images) == 36 and golden[-6:] == list(range(30, 36))
    assert np.array_equal(arrays(images[:30])[0], rgba(np.asarray(some.images)))
    (whole, *more), (cut, *less) = (data_step.judged_in(replace(site, judged=n)) for n in (0, 30))
    assert whole == cut and more == [] and less == ["30 of them"]
    assert sorted(path.name for path in (tmp_path / "scratch").glob("images-*")) == []


def test_changed_labels_run_no_quantization(fixed_build, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(f"digit {n}" for n in range(10)))
    config = changed(fixed_build, data={"labels": str(tmp_path / "labels.txt"), "held_out": 0.2})
    (tmp_path / "scratch").mkdir()
    shop = Workshop(store=fixed_build.store, scratch=Store(str(tmp_path / "scratch")))
    create = mobilenet_v2.create
    job = data_step.data_job(config)
    assert shop.find(job) is None
    shop.store = None  # the fixed build's stays as it is
    data = shop.make(job, lambda folder: data_step.make_data(config, job, folder))
    assert shop.json(data, "names.json")[0] == "digit 0"
    shop.store = fixed_build.store
    weights = shop.find(weights_step.weights_job(config, create, data, 10))
    program = shop.find(program_step.program_job(config, create, data, weights, is_gated=True))
    site = Site.of(config, create, shop).knowing(
        {"data": data, "weights": weights, "quantize": program}, names=tuple(shop.json(data, "names.json"))
    )
    site = site.knowing({f"compress {key}": shop.find(compress_step.compress_job(site, key)) for key in ("w4", "w8")})
    assert None not in site.results.values()
    assert shop.find(reference.reference_job(site, "int8")) is not None
    missing = {
        f"{target.NAME} {precision}"
        for platform in ("android", "ios")
        for target, precision in plan(config, common.targets(), platform)
        if shop.find(lower.lower_job(site, target, precision)) is None
    }
    assert missing == {f"ios/coreml {precision}" for precision in ("fp32", "fp16", "int8", "w8", "w4")}


def test_a_target_that_reads_what_it_does_not_name_is_refused(fixed_build, tmp_path):
    from twinkeel.pipeline.errors import ConversionError
    from twinkeel.pipeline.program.program import InputContract
    from twinkeel.pipeline.stages.saved import SavedProgram

    contract = InputContract.of(32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    program = SavedProgram(torch.nn.Identity(), contract, (), lambda name: b"", {"minimum_ios": 18})
    assert program.minimum_ios == 18
    with pytest.raises(ConversionError, match="reads the program's 'labels'"):
        assert program.labels


def test_a_second_build_writes_nothing_and_imports_no_torch(project):
    before = {path: path.stat().st_mtime_ns for path in (project / "out").rglob("*")}
    code = (
        "import sys; from twinkeel.pipeline.cli import cli\n"
        "try: cli(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('HEAVY', [m for m in ('torch', 'onnx', 'sklearn', 'scipy', 'matplotlib', 'PIL', 'psutil') if m in sys.modules])"
    )
    arguments = ["build", "all", "-c", project / "twinkeel.toml", "-o", project / "out", "--store", project / "store"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert "HEAVY []" in done.stdout and "nothing to do" in done.stdout
    after = {path: path.stat().st_mtime_ns for path in (project / "out").rglob("*")}
    assert after == before


def test_evidence_that_was_added_stays_and_is_shown(project, tmp_path):
    out = shutil.copytree(project / "out", tmp_path / "out")
    subprocess.run([*TWINKEEL, "replay", str(out)], check=True, capture_output=True)
    added = (out / "android" / manifest.MANIFEST).read_bytes()
    build = forked.start(project, out, project / "store")
    said, _ = build.communicate()
    assert build.returncode == 0 and "runtime" in said, said
    assert (out / "android" / manifest.MANIFEST).read_bytes() == added
    assert "✓ runtime" in (out / "report.html").read_text()
    assert outputs.verify(out)


def test_the_result_is_there_for_machines_and_silence_for_scripts(project):
    arguments = ["build", "all", "-c", project / "twinkeel.toml", "-o", project / "out", "--store", project / "store"]
    run = lambda *more: subprocess.run(  # noqa: E731
        [*TWINKEEL, *map(str, arguments), *more], capture_output=True, text=True, check=True
    )
    told = run("--json")
    content = json.loads(told.stdout)
    assert content["is_verified"] and content["ran"] == [] and "all verified" in told.stderr
    assert [len(platform["artifacts"]) for platform in content["platforms"]] == [1, 1]
    assert all(check["is_met"] for p in content["platforms"] for a in p["artifacts"] for check in a["checks"])
    quiet = run("--quiet")
    assert quiet.stdout == quiet.stderr == ""
    lines = json.loads(run("--explain", "--json").stdout)
    assert {line["why"] for line in lines} == {""} and "folder android" in {line["name"] for line in lines}


def test_a_build_into_another_folder_takes_all_from_the_store(project, tmp_path):
    text = forked.start(project, tmp_path / "out", project / "store").communicate(timeout=120)[0]
    assert "references:" not in text and "artifacts:" not in text
    assert folders(tmp_path / "out") == folders(project / "out")
    assert outputs.verify(tmp_path / "out") == outputs.verify(project / "out")


@pytest.mark.parametrize("year", [1971, 2040])
def test_a_clock_that_jumps_changes_nothing(year, smaller, tmp_path):
    """What was written before seems to be of the future, or of a time long ago."""
    out, store = (shutil.copytree(smaller / name, tmp_path / name) for name in ("out", "store"))
    seconds = (year - 1970) * 365.25 * 86400
    for path in tmp_path.rglob("*"):
        os.utime(path, (seconds, seconds))
    text = forked.start(smaller, out, store).communicate(timeout=120)[0]
    assert "nothing to do" in text, text
    (out / "android" / "labels.txt").write_text("other")
    text = forked.start(smaller, out, store).communicate(timeout=120)[0]
    assert "references:" not in text and "artifacts:" not in text
    assert folders(out) == folders(smaller / "out") and outputs.verify(out)
    kept = Store(str(store))
    kept.prune(kept.usage().bytes // 2)
    assert kept.usage(is_checked=True).damaged == ()
    text = forked.start(smaller, tmp_path / "again", store).communicate(timeout=300)[0]
    assert folders(tmp_path / "again") == folders(smaller / "out"), text


def test_what_was_changed_in_a_folder_is_put_right(project, tmp_path):
    out = shutil.copytree(project / "out", tmp_path / "out")
    (out / "android" / "labels.txt").write_text("other")
    (out / "ios" / "more").write_text("unknown")
    (out / "report.html").unlink()
    assert forked.start(project, out, project / "store").wait(120) == 0
    assert folders(out) == folders(project / "out") and (out / "report.html").is_file()


def test_killed_at_any_moment_and_run_again_it_is_the_same(smaller, tmp_path):
    """Three kills here; `benchmarks/disturbed.py` does a hundred. After a build that was done before its time a new one."""
    chance, kills, done = random.Random(0), 0, 0
    while kills < 3:
        place = tmp_path / f"{done}"
        build = start(smaller, place / "out", place / "store", start_new_session=True)
        try:
            build.wait(chance.uniform(1, 6))
            done += 1
        except subprocess.TimeoutExpired:
            build.send_signal(signal.SIGKILL)
            kills += 1
        build.communicate()
        for platform in common.PLATFORMS:  # whole, or not there
            if (place / "out" / platform).exists():
                manifest.verify(place / "out" / platform)
    assert forked.start(smaller, place / "out", place / "store").wait(300) == 0
    assert folders(place / "out") == folders(smaller / "out")
    assert sorted(p.name for p in (place / "out").iterdir()) == LISTED
    assert Store(str(place / "store")).usage(is_checked=True).damaged == ()


@pytest.mark.parametrize("is_same_folder", [True, False], ids=["one-folder", "two-folders"])
def test_two_builds_at_once_are_both_right(is_same_folder, smaller, tmp_path):
    outs = [tmp_path / "out", tmp_path / ("out" if is_same_folder else "out-2")]
    builds = [forked.start(smaller, out, tmp_path / "store") for out in outs]
    texts = [build.communicate(timeout=300)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], texts
    for out in outs:
        assert folders(out) == folders(smaller / "out")
    waits = [text for text in texts if "waiting: another build is at work" in text]
    assert len(waits) == is_same_folder, texts


@pytest.mark.parametrize("is_filled", [False, True], ids=["empty-store", "filled-store"])
def test_without_room_the_earlier_output_stays(is_filled, smaller, tmp_path):
    """A disk that takes no file of more than 100 kB."""
    out = shutil.copytree(smaller / "out", tmp_path / "out")
    (out / "android" / "labels.txt").write_text("so that there is something to do")
    before = folders(out)
    build = forked.start(smaller, out, (smaller if is_filled else tmp_path) / "store", largest=100_000)
    text = build.communicate(timeout=300)[0]
    assert build.returncode not in (0, None) and "Traceback" not in text, text
    assert "cannot write to" in text and "Make room" in text, text
    assert "damaged" not in text and "FAILED" not in text, text
    assert folders(out) == before
    assert sorted(p.name for p in out.iterdir()) == LISTED


def test_a_damaged_store_costs_time_and_no_byte(project, tmp_path):
    store = shutil.copytree(project / "store", tmp_path / "store")
    chance = random.Random(2)
    for path in chance.sample([p for p in sorted(store.rglob("*")) if p.is_file() and p.stat().st_size], 12):
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    build = forked.start(project, tmp_path / "out", store)
    text = build.communicate(timeout=300)[0]
    assert build.returncode == 0, text
    assert folders(tmp_path / "out") == folders(project / "out")


def test_a_store_of_no_use_is_done_without(smaller, tmp_path):
    (tmp_path / "file").write_text("a file where a folder is asked for")
    build = forked.start(smaller, tmp_path / "out", tmp_path / "file")
    text = build.communicate(timeout=300)[0]
    assert build.returncode == 0 and "cannot be written" in text, text
    assert folders(tmp_path / "out") == folders(smaller / "out")


def test_every_changed_byte_below_the_output_is_found(fixed_build, tmp_path):
    out = shutil.copytree(fixed_build.folders["android"].parent, tmp_path / "out")
    files = [p for p in sorted(out.rglob("*")) if p.is_file()]
    holders = [out / platform / manifest.MANIFEST for platform in common.PLATFORMS] + [out / outputs.INDEX]
    assert outputs.verify(out) == len(files) - len(holders)  # which hold the hashes of the others, and seal themselves
    files = [p for p in files if p.stat().st_size]
    chance = np.random.default_rng(3)
    for _ in range(40):
        path = files[chance.integers(len(files))]
        content = bytearray(path.read_bytes())
        position = int(chance.integers(len(content)))
        content[position] ^= int(chance.integers(1, 256))
        path.write_bytes(content)
        with pytest.raises(VerifyError):
            outputs.verify(out)
        path.write_bytes((fixed_build.folders["android"].parent / path.relative_to(out)).read_bytes())
    outputs.verify(out)
    (out / "unknown").write_text("x")
    with pytest.raises(VerifyError, match="unknown: unknown"):
        outputs.verify(out)
    (out / "unknown").unlink()
    (out / "report.html").unlink()
    (out / "report.html").symlink_to("/etc/hostname")
    with pytest.raises(VerifyError, match=r"missing: report\.html"):
        outputs.verify(out)


def test_an_output_folder_that_cannot_be_written_is_one_clear_error(run_cli, tmp_path):
    (tmp_path / "file").write_text("")
    result = run_cli("build", "android", "-o", tmp_path / "file" / "out")
    assert isinstance(result.exception, TwinkeelError) and "cannot write to" in str(result.exception)
    for leads in ("gone", "link"):  # nowhere, and round in a circle
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(leads)
        result = run_cli("build", "android", "-o", tmp_path / "link")
        assert isinstance(result.exception, TwinkeelError), result.exception
        assert f"is a link to '{leads}', and nothing is there" in str(result.exception)


def test_paths_that_are_links_in_a_circle_are_one_clear_error(run_cli, tmp_path):
    (tmp_path / "link").symlink_to("link")
    for table, key in (("data", "path"), ("weights", "path"), ("model", "factory")):
        value = f"{tmp_path / 'link'}{'.py:make' if key == 'factory' else ''}"
        (tmp_path / "link.py").unlink(missing_ok=True)
        (tmp_path / "link.py").symlink_to("link.py")
        (tmp_path / "t.toml").write_text(f'[{table}]\n{key} = "{value}"\n')
        result = run_cli("build", "android", "-c", tmp_path / "t.toml", "-o", tmp_path / "out")
        assert isinstance(result.exception, TwinkeelError), (table, result.exception)
        assert not (tmp_path / "out").exists()


def test_a_folder_that_was_moved_aside_by_a_killed_build_comes_back(tmp_path):
    work = tmp_path / "out" / outputs.WORK
    (work / "old-android").mkdir(parents=True)
    (work / "old-android" / "file").write_text("the earlier good output")
    with outputs.claimed(tmp_path / "out", print):
        assert (tmp_path / "out" / "android" / "file").read_text() == "the earlier good output"
    assert not work.exists()


def test_the_lock_goes_with_the_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from twinkeel.pipeline.delivery import outputs\n"
        "with outputs.claimed(Path(sys.argv[1]), print): print('claimed', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "claimed\n"
    said = []
    other.kill()
    started = time.monotonic()
    with outputs.claimed(tmp_path / "out", said.append):
        assert time.monotonic() - started < 60
    other.wait()


OWN = """
import torch
from torch import nn

from wide import WIDTH


class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, WIDTH, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.fc = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.stem(x))).mean((2, 3)))


def create(num_classes):
    return Own(num_classes).eval()


number = 3


def fails():
    raise RuntimeError("no weights here")


def other():
    return 7
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "wide.py").write_text("WIDTH = 8\n")

    def write(factory, more=""):
        path = tmp_path / "twinkeel.toml"
        path.write_text(
            f'[model]\nfactory = "{factory}"\n[quantize]\nminutes = 0\n[targets]\n"android/onnx" = ["fp32"]\n{more}'
        )
        return path

    return write


def test_a_model_of_the_users_own_is_built_and_known_by_its_sources(run_cli, own, tmp_path):
    path = own("own.py:create", '[weights]\nfrom_factory = true\n[data]\naccept_accuracy = "untrained"\n')
    arguments = ("build", "android", "-c", path, "-o", tmp_path / "out", "--store", tmp_path / "store")
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "out" / "android" / "manifest.json").read_text())
    assert manifest["model"]["name"] == "create" and manifest["model"]["weights"] == "of the factory"
    assert "nothing to do" in run_cli(*arguments, "--explain").output
    (tmp_path / "wide.py").write_text("WIDTH = 12\n")  # what the model's file imports from beside it
    assert "nothing to do" not in run_cli(*arguments, "--explain").output


@pytest.mark.parametrize(
    ("factory", "more", "words"),
    [
        ("none.py:create", "", "is no file"),
        ("not.there:create", "", "no module 'not.there'"),
        ("own.py:creat", "", "no function 'creat'"),
        ("own.py:fails", "", "failed: RuntimeError: no weights here"),
        ("own.py:other", "", "gave a int"),
        ("own.py", "", "is not 'file.py:function'"),
        ("own.py:create", "[model.arguments]\nnum_classes = 3\n", "the data has 10 classes"),
        ("own.py:create", "[model.arguments]\nwidth = 3\n", "unexpected keyword argument 'width'"),
    ],
    ids=["file", "module", "function", "fails", "no module", "form", "outputs", "argument"],
)
def test_a_factory_that_gives_no_model_is_one_clear_error(run_cli, own, tmp_path, factory, more, words):
    path = own(factory, more + "[weights]\nfrom_factory = true\n")
    result = run_cli("build", "android", "-c", path, "-o", tmp_path / "out", "--store", "none")
    assert isinstance(result.exception, ConfigError) and words in str(result.exception), result.exception
    assert not (tmp_path / "out").exists()
